"""Objects of a custom resource, valid and broken, drawn from the schema of its definition alone.

A new field is covered as soon as the definition has it: a value is drawn from its schema, then up to two
places of the whole are broken in the ways that their schemas suggest.
"""

import copy
import re
from dataclasses import dataclass
from typing import Any

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st

from layerwise_sandbox.schema import custom
from layerwise_sandbox.schema.cel_rules import RuleSet

Raw = dict[str, Any]
Schema = dict[str, Any]

# What JSON can hold that no field, or hardly one, is meant to.
ODD: tuple[Any, ...] = (
    None, True, False, 0, -1, 1.0, 1.5, 3.0, 2**31, 2**63, 10**30, -(10**30), 1e300, "", " ", "a", "1", "0",
    "Ä", "x" * 5000, "a\nb", "\x1b[2J", "${HOME}", "$(id)", "../..", "{{ x }}", [], [None], ["a"], [1, 2],
    {}, {"": ""}, {"a": None}, {"name": "a"},
)  # fmt: skip
# Only drawn, never shrunk or remembered: what is found here is worth a case of its own.
DRAWN = settings(
    deadline=None,
    database=None,
    phases=(Phase.generate,),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
QUANTITIES = (
    "0", "1", "2", "0.5", "250m", "1e3", "64Mi", "1Gi", "2Gi", "37.5Mi", "80Gi", "3.0T", "5.5T", "794T",
    "1E6", "0.0", "1Ki", "9E", "8Ei", "1e99", "1.0000001", "0.1m", 0, 1, 2, 16, 10**12,
)  # fmt: skip
KEYS = ("team", "example.com/pool", "nvidia.com/gpu.product", "cpu", "note", "layerwise.dev/deployment", "")
NAMES = ("demo", "a", "a" * 40, "a" * 41, "with.dots", "0-first", "Upper", "demo\n", "a-", "x--y", "")
TRIES = 5
_QUOTED = re.compile(r"'([^']*)'")


@dataclass(frozen=True, slots=True)
class Place:
    """One value inside an object, with its schema: `parent[key]`."""

    parent: Any
    key: Any
    schema: Schema

    @property
    def value(self) -> Any:
        return self.parent[self.key]


def objects(definition: Raw) -> st.SearchStrategy[Raw]:
    """Objects of the definition's kind."""
    names = definition["spec"]["names"]
    schema = spec_schema(definition)
    specs = values(schema)

    @st.composite
    def draw_object(draw: st.DrawFn) -> Raw:
        holder = {"spec": draw(specs)}
        for _ in range(draw(st.sampled_from((0, 0, 1, 1, 2)))):
            places = [Place(holder, "spec", schema), *places_of(holder["spec"], schema)]
            _break(draw, draw(st.sampled_from(places)))
        name = draw(st.one_of(st.just("demo"), st.just("demo"), st.just("demo"), st.sampled_from(NAMES)))
        return {
            "apiVersion": "layerwise.dev/v1alpha1",
            "kind": names["kind"],
            "metadata": {"name": name},
            **holder,
        }

    return draw_object()


def spec_schema(definition: Raw) -> Schema:
    """The schema of `spec` in the one version that there is."""
    version = definition["spec"]["versions"][0]
    schema: Schema = version["schema"]["openAPIV3Schema"]["properties"]["spec"]
    return schema


def values(schema: Schema) -> st.SearchStrategy[Any]:
    """Values that the schema's structure allows; its rules may still refuse them."""
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    drawn = _BY_TYPE[schema.get("type", "quantity")](schema)
    return _mostly_by_the_rules(drawn, schema) if _has_rules(schema) else drawn


def _has_rules(schema: Schema) -> bool:
    return schema.get("type") == "object" and "x-kubernetes-validations" in schema


def _mostly_by_the_rules(drawn: st.SearchStrategy[Any], schema: Schema) -> st.SearchStrategy[Any]:
    """Several tries at a value that its rules accept: few objects are valid by chance."""
    holding = {"type": "object", "properties": {"value": schema}}
    rules = RuleSet(holding)

    @st.composite
    def draw_value(draw: st.DrawFn) -> Any:
        for _ in range(TRIES):
            value = draw(drawn)
            filled = copy.deepcopy({"value": value})
            custom.default(filled, holding)
            if not rules.check(filled):
                break
        return value

    return draw_value()


def _quantities(_: Schema) -> st.SearchStrategy[Any]:
    # Mostly the same one: rules compare quantities, and all of them have to hold for a valid object.
    return st.sampled_from(("1Gi",) * len(QUANTITIES) * 2 + QUANTITIES)


def _integers(schema: Schema) -> st.SearchStrategy[Any]:
    least, most = schema.get("minimum", 0), schema.get("maximum", 2**40)
    # Small ones mostly: most rules compare two fields, and all of them have to hold for a valid object.
    usual = [number for number in (1, 2, 3, 8, 64, 8000) if least <= number <= most]
    return st.one_of(st.sampled_from([*usual, least]), st.sampled_from([*usual, least, most]),
                     st.integers(least, most))  # fmt: skip


def _strings(schema: Schema) -> st.SearchStrategy[Any]:
    least, most = schema.get("minLength", 0), schema.get("maxLength", 64)
    pattern = schema.get("pattern")
    if pattern:
        fitting = st.from_regex(pattern, fullmatch=True, alphabet=st.characters(codec="ascii"))
        return fitting.filter(lambda text: least <= len(text) <= most)
    text = st.text(st.characters(codec="utf-8"), min_size=least, max_size=min(most, 12))
    return st.one_of(st.sampled_from(("models", "h100-sxm5-80gb", "a-b")), text)


def _arrays(schema: Schema) -> st.SearchStrategy[Any]:
    least, most = schema.get("minItems", 0), min(schema.get("maxItems", 3), 3)
    keys = schema.get("x-kubernetes-list-map-keys")
    unique = (lambda item: tuple(str(item.get(key)) for key in keys)) if keys else None
    return st.lists(values(schema["items"]), min_size=least, max_size=most, unique_by=unique)


def _maps(schema: Schema) -> st.SearchStrategy[Any]:
    if "additionalProperties" in schema:
        named = [word for rule in schema.get("x-kubernetes-validations", ()) for word in
                 _QUOTED.findall(rule["rule"])]  # fmt: skip
        inner = values(schema["additionalProperties"])
        return st.dictionaries(st.sampled_from(named or KEYS), inner, max_size=2)
    required = schema.get("required", ())
    properties = schema.get("properties", {})
    return st.fixed_dictionaries(
        {name: values(inner) for name, inner in properties.items() if name in required},
        optional={name: values(inner) for name, inner in properties.items() if name not in required},
    )


_BY_TYPE = {
    "quantity": _quantities,
    "boolean": lambda _: st.booleans(),
    "integer": _integers,
    "string": _strings,
    "array": _arrays,
    "object": _maps,
}


def places_of(value: Any, schema: Schema) -> list[Place]:
    """Every place below a value that its schema describes."""
    found = []
    if isinstance(value, dict):
        for key in value:
            inner = schema.get("properties", {}).get(key, schema.get("additionalProperties"))
            if isinstance(inner, dict):
                found += [Place(value, key, inner), *places_of(value[key], inner)]
    elif isinstance(value, list) and "items" in schema:
        for index, item in enumerate(value):
            found += [Place(value, index, schema["items"]), *places_of(item, schema["items"])]
    return found


def _break(draw: st.DrawFn, place: Place) -> None:
    """Change one place in a way that its schema may or may not allow."""
    value = place.value
    changes = [*ODD, *_near(value, place.schema)]
    if isinstance(value, dict):
        without = [{key: value[key] for key in value if key != gone} for gone in value]
        changes += [*without, value | {"surplus": 1}, value | {"layerwise.dev/replica": "1"}] * 3
    if isinstance(place.parent, dict) and draw(st.booleans()):
        changes = _near(value, place.schema) or changes
    place.parent[place.key] = copy.deepcopy(draw(st.sampled_from(changes)))


def _near(value: Any, schema: Schema) -> list[Any]:
    """Values at and just beyond the bounds of a schema."""
    near: list[Any] = []
    for bound, step in (("minimum", -1), ("maximum", 1)):
        if bound in schema:
            near += [schema[bound], schema[bound] + step, float(schema[bound])]
    if isinstance(value, str):
        near += [f"{value}\n", f" {value}", f"{value}!", value.upper(), value.lower(), value * 2, value[:-1]]
        if "maxLength" in schema:
            near += [(value or "a") * schema["maxLength"], "ä" * schema["maxLength"],
                     "a" * schema["maxLength"], "a" * (schema["maxLength"] + 1)]  # fmt: skip
    if isinstance(value, list):
        near += [[], value * 2, value + value[:1]]
        if value and schema.get("maxItems", 10**6) <= 64:
            near += [value[:1] * schema["maxItems"], value[:1] * (schema["maxItems"] + 1)]
    if schema.get("x-kubernetes-int-or-string"):
        near += ["-1", "+1", ".5", "1.", "1e100", "1e19", "1E+3", "1n", "1u", "NaN", "Inf", "1 ", "1_000", -1]
    return near
