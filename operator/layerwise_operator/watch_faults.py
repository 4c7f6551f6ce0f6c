"""What can be wrong with an answer to a watch or to the list before it; and how to go on. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic_core import from_json

from layerwise_operator.faults import ERRORS_FROM, GONE, retry_after

TOO_MANY_REQUESTS = 429
SERVER_ERRORS_FROM = 500
NUM_BYTES_SHOWN = 80


@dataclass(frozen=True, slots=True)
class Fault:
    """Why a stream or a list is of no use; `name` is a label of a metric."""

    name: str
    words: str
    lists_anew: bool = False
    retry_after_seconds: float = 0.0


def in_line(line: bytes) -> Fault | None:
    """What is wrong with a line of a watch; None for an event."""
    try:
        event = from_json(line)
    except ValueError:
        return Fault("NotJson", f"a line that is no JSON: {shown(line)}")
    match event:
        case {"type": "ERROR", "object": dict(status)}:
            return _said(status)
        case {"type": "BOOKMARK", "object": dict()}:
            return None
        case {"type": str(type_), "object": {"metadata": {"name": str()}}} if type_ != "ERROR":
            return None
    return Fault("NotAnEvent", f"a line that is no event: {shown(line)}")


def in_list(data: bytes) -> Fault | None:
    """What is wrong with the body of a list; None for a list."""
    try:
        answer = from_json(data)
    except ValueError:
        return Fault("NotJson", f"a list that is no JSON: {shown(data)}")
    match answer:
        case {"items": list(items), "metadata": {"resourceVersion": str()}} if all(map(_is_object, items)):
            return None
    return Fault("NotAList", f"a list that is none: {shown(data)}")


def _is_object(item: object) -> bool:
    match item:
        case {"metadata": {"name": str()}}:
            return True
    return False


def in_status(code: int, words: str, headers: Mapping[str, str]) -> Fault | None:
    """What is wrong with an answer by its status; None where it may hold what was asked for."""
    if code < ERRORS_FROM:
        return None
    details = {"retryAfterSeconds": retry_after(headers)}
    return _said({"code": code, "reason": "as an answer", "message": words, "details": details})


def cut_off(rest: bytes) -> Fault | None:
    """What is wrong with the bytes after the last whole line of a stream that ended."""
    return Fault("CutOff", f"the stream ended within a line: {shown(rest)}") if rest.strip() else None


def _said(status: dict[str, Any]) -> Fault:
    """An error in the server's words: overload and inner errors may pass, others ask for a new list."""
    code = status.get("code")
    words = f"{code} {status.get('reason')}: {status.get('message')}"
    if code == GONE:
        return Fault("Expired", words, lists_anew=True)
    if isinstance(code, int) and (code == TOO_MANY_REQUESTS or code >= SERVER_ERRORS_FROM):
        name = "TooManyRequests" if code == TOO_MANY_REQUESTS else "ServerError"
        return Fault(name, words, retry_after_seconds=_retry_after(status))
    return Fault("Error", words, lists_anew=True)


def _retry_after(status: dict[str, Any]) -> float:
    details = status.get("details")
    seconds = details.get("retryAfterSeconds") if isinstance(details, dict) else None
    return float(seconds) if isinstance(seconds, int | float) else 0.0


def shown(data: bytes) -> str:
    """The beginning of something that others wrote."""
    return repr(data[:NUM_BYTES_SHOWN].decode(errors="replace"))
