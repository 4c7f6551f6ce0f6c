"""Delays that double from one failure to the next, up to a bound. Pure."""

# Enough to reach any bound here; a count of failures has none.
_MOST_DOUBLINGS = 10


def doubled(first_seconds: float, times: int, longest_seconds: float) -> float:
    """Seconds after so many doublings of the first delay."""
    return min(longest_seconds, first_seconds * 2.0 ** min(times, _MOST_DOUBLINGS))
