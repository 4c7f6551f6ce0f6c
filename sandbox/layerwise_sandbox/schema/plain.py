"""Copies of plain JSON values."""

from __future__ import annotations

from typing import Any


def copied(value: Any) -> Any:
    """A copy that shares no dict and no list with the original.

    Several times faster than `copy.deepcopy`, which keeps account of what it has met: JSON has no cycles.
    """
    if isinstance(value, dict):
        return {name: copied(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [copied(inner) for inner in value]
    return value
