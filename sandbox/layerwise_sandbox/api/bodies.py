"""What a client sent, as an object of its kind: unknown fields dropped, told of or refused."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from layerwise_sandbox.api import errors
from layerwise_sandbox.schema.decode import DecodeError
from layerwise_sandbox.schema.field_errors import quoted

if TYPE_CHECKING:
    from layerwise_sandbox.api.resource import Resource

JsonObject = dict[str, Any]
PRECONDITIONS = ("name", "namespace", "uid", "resourceVersion")


@dataclass(slots=True)
class WriteOptions:
    """How a client wants its write done, and the warnings that the answer carries."""

    user: str
    manager: str
    validation: str = "Warn"
    dry_run: bool = False
    force: bool = False
    subresource: str = ""
    warnings: list[str] = field(default_factory=list)


def decode(resource: Resource, body: Any, options: WriteOptions) -> JsonObject:
    """An object of the resource's kind out of a body, unknown fields dropped, told of or refused."""
    value, unknown = _decoded(resource, body)
    problems = [f"unknown field {quoted(path)}" for path in unknown]
    if problems and options.validation == "Strict":
        raise errors.bad_request(_unhandled(resource, f"strict decoding error: {', '.join(problems)}"))
    if options.validation == "Warn":
        options.warnings.extend(problems)
    return value


def _decoded(resource: Resource, body: Any) -> tuple[JsonObject, list[str]]:
    """An object of the resource's kind out of a body, and the paths of the fields that it does not have."""
    if not isinstance(body, dict):
        raise errors.bad_request("the body of the request must be an object")
    if not isinstance(body.get("metadata", {}), dict | None):
        raise errors.bad_request("metadata must be an object")
    try:
        value, unknown = resource.behaviour.decode(resource, body)
    except DecodeError as error:
        raise errors.bad_request(_unhandled(resource, str(error))) from error
    value.pop("kind", None)
    value.pop("apiVersion", None)
    return value, unknown


def _unhandled(resource: Resource, why: str) -> str:
    return f'{resource.kind} in version "{resource.version}" cannot be handled as a {resource.kind}: {why}'


def decode_config(
    resource: Resource, namespace: str, config: JsonObject, options: WriteOptions
) -> JsonObject:
    """A configuration in canonical form; a field that the kind does not have is an error here."""
    value, unknown = _decoded(resource, config)
    if unknown:
        meta = config.get("metadata") or {}
        where = f"{namespace}/{meta.get('name', '')}; {resource.api_version}, Kind={resource.kind}"
        listed = "\n".join(f".{path}: field not declared in schema" for path in unknown)
        shown = listed if len(unknown) == 1 else f"errors:\n{listed}"
        raise errors.ApiError(500, "", f"failed to create typed patch object ({where}): {shown}")
    return _own_part(resource, value, options.subresource)


def _own_part(resource: Resource, config: JsonObject, subresource: str) -> JsonObject:
    """The part of an applied configuration that this endpoint writes: the status, or all but the status."""
    if subresource == "status":
        name = {key: text for key, text in (config.get("metadata") or {}).items() if key in PRECONDITIONS}
        return {"metadata": name} | ({"status": config["status"]} if "status" in config else {})
    if resource.has_status and resource.behaviour.resets_status:
        config.pop("status", None)
    return config
