"""The types and the definitions with their rules accept the same objects, and read the same from them."""

import os
from collections import Counter
from typing import Any

import pytest
from hypothesis import given, note, settings
from pydantic import BaseModel, ValidationError
from tests.unit.any_object import api
from tests.unit.any_object.generation import DRAWN, objects

from layerwise.resources.definitions import definitions
from layerwise.resources.deployment import DeploymentSpec
from layerwise.resources.profile import ProfileSpec

Raw = dict[str, Any]
QUICK, LONG = 120, int(os.environ.get("ANY_OBJECT_EXAMPLES", "4000"))
KINDS: list[tuple[str, type[BaseModel]]] = [(api.DEPLOYMENTS, DeploymentSpec), (api.PROFILES, ProfileSpec)]


def read(model: type[BaseModel], raw: Raw) -> tuple[BaseModel | None, str]:
    """What the types make of an object, or why they refuse it."""
    try:
        return model.model_validate(raw.get("spec")), ""
    except ValidationError as error:
        return None, str(error)


def compare(name: str, model: type[BaseModel], raw: Raw) -> bool:
    """Whether both accept the object; they must agree on that, and on every value."""
    # The name is the operator's to judge, not that of the types: tests/unit/any_object/test_operator_answers.
    raw = {**raw, "metadata": {"name": "demo"}}
    stored, refused = api.answer(name, raw)
    found, fault = read(model, raw)
    note(f"API: {refused or 'accepted'}\ntypes: {fault or 'accepted'}")
    assert (stored is None) == (found is None), (raw, refused, fault)
    pruned, _, wrong = api.lenient(name, raw)
    kept, fault = read(model, pruned)
    assert bool(wrong) == (kept is None), (pruned, wrong, fault)
    if stored is not None:
        assert kept == found, (raw, stored)
    return stored is not None


def check(name: str, model: type[BaseModel], examples: int) -> Counter[bool]:
    seen: Counter[bool] = Counter()

    @settings(DRAWN, max_examples=examples)
    @given(raw=objects(definitions()[name]))
    def run(raw: Raw) -> None:
        seen[compare(name, model, raw)] += 1

    run()
    return seen


@pytest.mark.parametrize(("name", "model"), KINDS)
def test_types_and_schema_agree_on_hundreds_of_objects(name: str, model: type[BaseModel]) -> None:
    seen = check(name, model, QUICK)
    assert min(seen[True], seen[False]) >= QUICK // 10, seen


@pytest.mark.chaos
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(("name", "model"), KINDS)
def test_types_and_schema_agree_on_thousands_of_objects(
    name: str, model: type[BaseModel], record_property: Any
) -> None:
    seen = check(name, model, LONG)
    record_property("accepted", seen[True])
    record_property("refused", seen[False])
    assert min(seen[True], seen[False]) >= LONG // 10, seen
