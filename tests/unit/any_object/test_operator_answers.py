"""Whatever the API accepts, the operator answers with a plan or a condition, and stays within its bounds."""

import asyncio
import os
from collections import Counter
from typing import Any

import pytest
from hypothesis import given, note, settings
from tests.unit.any_object import api
from tests.unit.any_object.confinement import breaches
from tests.unit.any_object.generation import DRAWN, objects
from tests.unit.operator_world.world import NAMESPACE, Watched, World, deployment, node

from layerwise.resources.definitions import definitions

Raw = dict[str, Any]
QUICK, LONG = 60, int(os.environ.get("ANY_OBJECT_EXAMPLES", "3000"))


class Observing(World):
    """A world that looks at every object that the operator writes."""

    async def claim_exists(self, namespace: str, name: str) -> bool:
        return True

    async def apply(self, manifest: Raw, *, only_new: bool = False) -> Raw:
        assert breaches(manifest, NAMESPACE) == [], manifest
        return await super().apply(manifest, only_new=only_new)


async def answer(*made: Raw, name: str) -> World:
    """The world after several passes; an exception of a pass ends the test, as it would be in the log."""
    world = Observing()
    world.put(node("node-a"))
    for raw in made:
        world.put(raw)
    operator = Watched(world)
    for _ in range(3):
        await operator.converge(name)
        world.finish_inspection_if_running()
        world.run_stateful_sets()
        world.all_ready()
        await operator.poll(name)
    return world


def stored(kind: str, raw: Raw) -> Raw | None:
    """What a cluster with the definition makes of the object, unless it refuses it."""
    found, refused = api.answer(kind, raw)
    note(refused or "accepted")
    if found is not None and kind == api.DEPLOYMENTS:
        found["metadata"]["namespace"] = NAMESPACE
    return found


def judge(world: World, name: str) -> str:
    """The reason of Planned, after a look at whether the conditions say what they should."""
    planned, ready = world.condition("Planned", name), world.condition("Ready", name)
    status = world.status(name)
    raw = {"apiVersion": "layerwise.dev/v1alpha1", "kind": "LayerwiseDeployment", "metadata": {"name": name}}
    spec = world.objects["LayerwiseDeployment", NAMESPACE, name]["spec"]
    _, refused = api.answer(api.DEPLOYMENTS, {**raw, "spec": spec, "status": status})
    assert refused == ""
    for condition in status["conditions"]:
        assert condition["reason"]
        assert condition["message"].isprintable()
    if planned["status"] == "True":
        assert status["plan"]["stages"]
    else:
        assert ready["status"] == "False"
        assert world.all("StatefulSet") == []
    return str(planned["reason"])


def check(kind: str, examples: int) -> Counter[str]:
    seen: Counter[str] = Counter()

    @settings(DRAWN, max_examples=examples)
    @given(raw=objects(definitions()[kind]))
    def run(raw: Raw) -> None:
        accepted = stored(kind, raw)
        if accepted is None:
            seen["refused by the API"] += 1
            return
        name = raw["metadata"]["name"] if kind == api.DEPLOYMENTS else "demo"
        made = [accepted] if kind == api.DEPLOYMENTS else [accepted, planned_with(raw["metadata"]["name"])]
        seen[judge(asyncio.run(answer(*made, name=name)), name)] += 1

    run()
    return seen


def planned_with(profile: str) -> Raw:
    return deployment(accelerators={"profile": profile}, workload={"concurrency": 8})


@pytest.mark.parametrize("kind", [api.DEPLOYMENTS, api.PROFILES])
def test_what_the_api_accepts_is_answered_with_a_plan_or_a_reason(kind: str) -> None:
    seen = check(kind, QUICK)
    assert seen["PlanMade"] >= 3, seen
    assert seen.total() - seen["refused by the API"] >= QUICK // 5, seen


@pytest.mark.chaos
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("kind", [api.DEPLOYMENTS, api.PROFILES])
def test_thousands_that_the_api_accepts_are_answered(kind: str, record_property: Any) -> None:
    seen = check(kind, LONG)
    record_property("answers", dict(seen))
    assert seen["PlanMade"] >= LONG // 50, seen
