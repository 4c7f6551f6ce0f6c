"""What all resource types share: camelCase in YAML, snake_case in Python, nothing unknown accepted."""

from collections import Counter
from collections.abc import Mapping
from functools import cache
from typing import Annotated, Any, Self, cast, get_origin

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic.alias_generators import to_camel

from layerwise.resources.quantity import LARGEST, parse_quantity

GROUP = "layerwise.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"


# No float is a field, yet JSON knows one kind of number: the API server stores 3.0 as 3.
_LARGEST_WHOLE_FLOAT = float(2**53)
QUANTITY_PATTERN = r"^[0-9]{1,19}(\.[0-9]{1,6})?([eE][0-9]{1,2}|m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei)?$"


def _number_as_text(value: object) -> object:
    """YAML's `cpu: 2` means the quantity "2"."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _within_bounds(text: str) -> str:
    if parse_quantity(text) > parse_quantity(LARGEST):
        raise ValueError(f"{text} exceeds the largest quantity, {LARGEST}")
    return text


def _above_zero(text: str) -> str:
    if parse_quantity(text) <= 0:
        raise ValueError(f"must be above 0, not {text}")
    return text


def as_stored(value: object) -> object:
    """A value as the API server keeps it: a float without a fraction is a whole number."""
    if isinstance(value, list):
        return [as_stored(inner) for inner in value]
    if isinstance(value, float) and value.is_integer() and abs(value) <= _LARGEST_WHOLE_FLOAT:
        return int(value)
    return value


def _map_as_stored(value: object) -> object:
    """A map whose nulls count as absent, too."""
    if not isinstance(value, Mapping):
        return value
    return {key: as_stored(inner) for key, inner in value.items() if inner is not None}


def rule(expression: str, message: str) -> dict[str, Any]:
    """One CEL rule of the CRD, checked by the API server.

    Of Kubernetes' own libraries only `quantity` may be used: every version that the chart supports has it.
    """
    return {"rule": expression, "message": message}


def rules(*several: dict[str, Any]) -> dict[str, Any]:
    """`json_schema_extra` that carries CEL rules into the CRD."""
    return {"x-kubernetes-validations": list(several)}


QUANTITY = {
    "x-kubernetes-int-or-string": True,
    # It may be written as a number: what bounds strings alone, and numbers alone, is said here for both.
    "minimum": 0,
    "pattern": QUANTITY_PATTERN,
}
_BOUNDED = rule(
    f"quantity(string(self)).compareTo(quantity('{LARGEST}')) <= 0", f"the largest quantity is {LARGEST}"
)


def list_map(key: str) -> dict[str, Any]:
    """`json_schema_extra` of a list whose items are told apart by `key`, which may occur once."""
    return {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": [key]}


DECIMAL_PATTERN = r"^[0-9]+(\.[0-9]+)?$"
SHARE_PATTERN = r"^(0(\.[0-9]+)?|1(\.0+)?)$"

Name = Annotated[str, Field(min_length=1, max_length=253, pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$")]
Port = Annotated[int, Field(strict=True, ge=1, le=65535)]
ShortText = Annotated[str, Field(max_length=256)]
LongText = Annotated[str, Field(max_length=4096)]
LabelValue = Annotated[str, Field(max_length=63)]
Labels = Annotated[dict[str, LabelValue], Field(max_length=64)]
Quantity = Annotated[
    str,
    BeforeValidator(_number_as_text),
    Field(max_length=32, pattern=QUANTITY_PATTERN, json_schema_extra=QUANTITY | rules(_BOUNDED)),
    AfterValidator(_within_bounds),
]
PositiveQuantity = Annotated[
    str,
    BeforeValidator(_number_as_text),
    Field(
        max_length=32,
        pattern=QUANTITY_PATTERN,
        json_schema_extra=QUANTITY
        | rules(_BOUNDED, rule("quantity(string(self)).sign() > 0", "must be above 0")),
    ),
    AfterValidator(_within_bounds),
    AfterValidator(_above_zero),
]
Decimal = Annotated[str, Field(max_length=32, pattern=DECIMAL_PATTERN)]
Share = Annotated[str, Field(max_length=32, pattern=SHARE_PATTERN)]


class Resource(BaseModel):
    """A part of a custom resource: frozen, strict about unknown fields, camelCase in YAML."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        populate_by_name=True,
        extra="forbid",
        frozen=True,
        use_enum_values=False,
    )

    @model_validator(mode="before")
    @classmethod
    def _as_the_api_reads_it(cls, data: object) -> object:
        """A known field that is null is one that is absent, and 3.0 is 3: as the API server has it."""
        if not isinstance(data, Mapping):
            return data
        known, maps = _names(cls)
        return {
            key: _map_as_stored(value) if key in maps else as_stored(value)
            for key, value in data.items()
            if value is not None or key not in known
        }

    @model_validator(mode="after")
    def _items_told_apart(self) -> Self:
        """The API server refuses a list of type map in which a key occurs twice; so do the types."""
        for name, shown, key in _list_maps(type(self)):
            values = [getattr(item, key) for item in getattr(self, name)]
            twice = [value for value, count in Counter(values).items() if count > 1]
            if twice:
                raise ValueError(f"{shown} names the {key} {twice[0]} twice: keep one of them")
        return self


@cache
def _names(model: type[Resource]) -> tuple[frozenset[str | None], frozenset[str | None]]:
    """All names of a model's fields, in Python and YAML, and those of its maps."""
    known = {name: field for key, field in model.model_fields.items() for name in (key, field.alias)}
    maps = {name for name, field in known.items() if get_origin(field.annotation) is dict}
    return frozenset(known), frozenset(maps)


@cache
def _list_maps(model: type[Resource]) -> tuple[tuple[str, str | None, str], ...]:
    """The lists of a model that are told apart by a key: the list's name in Python and YAML, and the key."""
    return tuple(
        (name, field.alias, key)
        for name, field in model.model_fields.items()
        if isinstance(field.json_schema_extra, dict)
        for key in cast("list[str]", field.json_schema_extra.get("x-kubernetes-list-map-keys", []))
    )
