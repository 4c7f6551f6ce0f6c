"""Who owns which field: the managedFields of objects, kept on every write, and server-side apply."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from layerwise_sandbox.schema import field_sets

if TYPE_CHECKING:
    from layerwise_sandbox.schema.field_sets import FieldSet, Path
    from layerwise_sandbox.schema.shape import Shape

JsonObject = dict[str, Any]
APPLY, UPDATE = "Apply", "Update"
UNOWNED_META = {
    "f:name", "f:namespace", "f:creationTimestamp", "f:selfLink", "f:uid", "f:generation", "f:managedFields",
    "f:resourceVersion", "f:deletionTimestamp", "f:deletionGracePeriodSeconds",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Owner:
    """Who writes now, to which part, and when."""

    manager: str
    api_version: str
    subresource: str
    time: str
    operation: str = UPDATE

    @property
    def key(self) -> tuple[str, str, str, str]:
        """What tells one entry of managedFields from another."""
        return self.manager, self.operation, self.api_version, self.subresource


@dataclass(frozen=True, slots=True)
class Claim:
    """The fields of one owner; `encoded` is what managedFields says of them, where it says so already."""

    owner: Owner
    fields: FieldSet
    encoded: JsonObject | None = None


@dataclass(frozen=True, slots=True)
class Conflict:
    """A field that an apply would change and that somebody else owns."""

    owner: Owner
    path: Path

    def whom(self) -> str:
        """The other owner, as messages name it."""
        shown = f'"{self.owner.manager}"'
        if self.owner.subresource:
            shown += f' with subresource "{self.owner.subresource}"'
        if self.owner.operation == UPDATE:
            shown += f" using {self.owner.api_version}" + (
                f" at {self.owner.time}" if self.owner.time else ""
            )
        return shown


class ConflictError(Exception):
    """An apply that was not forced met other owners."""

    def __init__(self, conflicts: list[Conflict]) -> None:
        self.conflicts = conflicts
        count = f"{len(conflicts)} conflict{'' if len(conflicts) == 1 else 's'}"
        by_owner: dict[str, list[str]] = {}
        for conflict in conflicts:
            by_owner.setdefault(conflict.whom(), []).append(field_sets.readable(conflict.path))
        if len(conflicts) == 1:
            whom, paths = next(iter(by_owner.items()))
            text = f"conflict with {whom}: {paths[0]}"
        else:
            text = "\n".join(
                f"conflicts with {whom}:\n" + "\n".join(f"- {path}" for path in paths)
                for whom, paths in by_owner.items()
            )
        super().__init__(f"Apply failed with {count}: {text}")


def claims_of(value: JsonObject) -> dict[tuple[str, str, str, str], Claim]:
    """The owners of an object's fields."""
    found = {}
    for entry in value.get("metadata", {}).get("managedFields") or []:
        owner = Owner(
            entry.get("manager", ""),
            entry.get("apiVersion", ""),
            entry.get("subresource", ""),
            entry.get("time", ""),
            entry.get("operation", UPDATE),
        )
        found[owner.key] = Claim(owner, field_sets.decode(entry.get("fieldsV1")), entry.get("fieldsV1"))
    return found


def entries_of(claims: dict[tuple[str, str, str, str], Claim]) -> list[JsonObject]:
    """The managedFields of an object: applies first, then by time."""
    ordered = sorted(
        (claim for claim in claims.values() if claim.fields),
        key=lambda claim: (claim.owner.operation, claim.owner.time, claim.owner.key),
    )
    found = []
    for claim in ordered:
        owner = claim.owner
        entry = {
            "manager": owner.manager,
            "operation": owner.operation,
            "apiVersion": owner.api_version,
            "time": owner.time,
            "fieldsType": "FieldsV1",
            "fieldsV1": claim.encoded or field_sets.encode(claim.fields),
        }
        found.append(entry | ({"subresource": owner.subresource} if owner.subresource else {}))
    return found


def _owned(paths: FieldSet) -> FieldSet:
    """The paths that can have an owner."""
    return {
        path
        for path in paths
        if path[0] not in {"f:apiVersion", "f:kind"}
        and not (path[0] == "f:metadata" and (len(path) == 1 or path[1] in UNOWNED_META))
    }


def after_update(old: JsonObject, new: JsonObject, shape: Shape, owner: Owner) -> list[JsonObject]:
    """The managedFields after a write that is not an apply: what changed now belongs to the writer."""
    given = new["metadata"].get("managedFields")
    if given in ([], [{}]):
        return []
    claims = claims_of(new if given else old)
    if given:
        # What a client wrote there need not be in the form in which the server writes it.
        claims = {key: Claim(claim.owner, claim.fields) for key, claim in claims.items()}
    difference = field_sets.compare(old, new, shape)
    _disown(claims, owner, difference)
    held = claims.get(owner.key, Claim(owner, set())).fields
    fields = _owned((held - difference.removed) | difference.modified | difference.added)
    if fields != held:
        claims[owner.key] = Claim(owner, fields)
    return entries_of(claims)


def _disown(
    claims: dict[tuple[str, str, str, str], Claim], owner: Owner, difference: field_sets.Difference
) -> None:
    gone = difference.removed | difference.modified | difference.added
    for key, claim in list(claims.items()):
        if key != owner.key and claim.fields & gone:
            claims[key] = Claim(claim.owner, claim.fields - gone)


@dataclass(frozen=True, slots=True)
class Applied:
    """What an apply makes of an object, before defaults; `claims` are to be stored with it."""

    value: JsonObject
    claims: dict[tuple[str, str, str, str], Claim]


def apply(live: JsonObject, config: JsonObject, shape: Shape, owner: Owner, *, force: bool) -> Applied:
    """Server-side apply: the configuration merged in, what its manager no longer mentions taken out.

    Raises ConflictError, unless forced, where a field changes that somebody else owns.
    """
    claims = claims_of(live)
    previous = claims[owner.key].fields if owner.key in claims else set()
    mentioned = _owned(field_sets.mentioned(config, shape))
    merged = merge(live, config, shape)
    others: FieldSet = set().union(*(claim.fields for key, claim in claims.items() if key != owner.key))
    forgotten = _removable(previous - mentioned, mentioned | others)
    merged = without(merged, forgotten, shape) if forgotten else merged
    difference = field_sets.compare(live, merged, shape)
    conflicts = [
        Conflict(claim.owner, path)
        for key, claim in claims.items()
        if key != owner.key
        for path in sorted(claim.fields & (difference.modified | difference.added))
    ]
    if conflicts and not force:
        raise ConflictError(conflicts)
    _disown(claims, owner, difference)
    if mentioned != previous:
        claims[owner.key] = Claim(owner, mentioned)
    return Applied(merged, claims)


def _removable(forgotten: FieldSet, kept: FieldSet) -> FieldSet:
    """The forgotten paths at or below which nobody owns anything."""
    if not forgotten:
        return forgotten
    still_needed = {path[:depth] for path in kept for depth in range(1, len(path) + 1)}
    return forgotten - still_needed


def merge(live: Any, config: Any, shape: Shape | None) -> Any:
    """A configuration merged into an object as the shape says. Inputs stay unchanged."""
    if field_sets.is_granular(live, shape) and field_sets.is_granular(config, shape):
        result = dict(live)
        for name, value in config.items():
            child = field_sets.child_of(shape, name)
            result[name] = merge(live[name], value, child) if name in live else value
        return result
    if shape is not None and field_sets.is_keyed(live, shape) and field_sets.is_keyed(config, shape):
        return _merge_lists(live, config, shape)
    return config


def _merge_lists(live: list[Any], config: list[Any], shape: Shape) -> list[Any]:
    """Shared items in the configuration's order; those of others stay where they are among them.

    The order is that of structured-merge-diff, which the API server uses.
    """
    before = {field_sets.step_of(item, shape): item for item in live}
    wanted = field_sets.indexed(config, shape)
    left, right = list(before), list(wanted)
    shared = [step for step in right if step in before]
    result: list[Any] = []
    while left or right:
        if left and left[0] not in wanted:
            result.append(before[left.pop(0)])
        elif left and right and left[0] != right[0] and shared and shared[0] != left[0]:
            left.pop(0)
        elif right:
            step = right.pop(0)
            item = wanted[step]
            result.append(merge(before[step], item, shape.items) if step in before else item)
            if step in shared:
                shared.remove(step)
            if left and left[0] == step:
                left.pop(0)
        else:
            left.pop(0)
    return result


def without(value: Any, paths: FieldSet, shape: Shape | None) -> Any:
    """A value without some of its fields; maps and lists that this empties go too."""
    heads: dict[str, FieldSet] = {}
    for path in paths:
        heads.setdefault(path[0], set()).add(path[1:])
    if isinstance(value, dict):
        result = {}
        for name, inner in value.items():
            deeper = heads.get(f"f:{name}")
            if deeper is None:
                result[name] = inner
            elif () not in deeper:
                kept = without(inner, deeper, field_sets.child_of(shape, name))
                if kept or not inner:
                    result[name] = kept
        return result
    if isinstance(value, list) and shape is not None:
        items = []
        for item in value:
            deeper = heads.get(field_sets.step_of(item, shape))
            if deeper is None:
                items.append(item)
            elif () not in deeper:
                items.append(without(item, deeper, shape.items))
        return items
    return value


def same_content(new: JsonObject, old: JsonObject) -> bool:
    """Whether a write changed nothing but times of ownership."""
    return _bare(new) == _bare(old)


def _bare(value: JsonObject) -> JsonObject:
    metadata = {name: part for name, part in value["metadata"].items() if name != "managedFields"}
    owners = [
        {name: part for name, part in entry.items() if name != "time"}
        for entry in value["metadata"].get("managedFields") or []
    ]
    return {**value, "metadata": {**metadata, "managedFields": owners}}
