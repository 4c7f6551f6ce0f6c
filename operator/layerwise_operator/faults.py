"""What can go wrong between the operator and the API server.

ClusterFault
├── Unreachable   no answer: a refused connection, a timeout, a broken stream
├── WatchesEnded  what no retry of a watch mends, such as a resource that is not served any more
└── ApiFault      an answer with an error status
"""

from collections.abc import Mapping

ERRORS_FROM = 400
# Answers that trying again as it is cannot change: what was asked for is wrong, or forbidden.
_FINAL = (400, 403, 405, 406, 413, 415, 422)
CONFLICT = 409
GONE = 410
NOT_FOUND = 404


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that a server asks for. The header's other form is a date, which needs clocks that agree."""
    text = headers.get("Retry-After", "")
    return float(text) if text.isdecimal() else None


class ClusterFault(Exception):  # noqa: N818 - a fault of the cluster, not an error of ours
    """A call that did not succeed; trying again later is right unless `is_final`."""

    is_final = False
    retry_after_seconds: float | None = None
    reason = "ClusterFault"


class Unreachable(ClusterFault):
    """The server did not answer."""

    reason = "Unreachable"


class WatchesEnded(ClusterFault):
    """The source of events has given up; it is begun anew, and what is missing is waited for."""

    reason = "WatchesEnded"


class ApiFault(ClusterFault):
    """The server answered with an error status, and with what it said about it."""

    def __init__(
        self, status: int, reason: str, message: str, what: str, retry_after_seconds: float | None = None
    ) -> None:
        super().__init__(f"{what}: {status} {reason}: {message}")
        self.status = status
        self.reason = reason
        self.message = message
        self.what = what
        self.retry_after_seconds = retry_after_seconds

    @property
    def is_final(self) -> bool:  # type: ignore[override]  # a constant there, computed here
        """Whether the same call will fail in the same way."""
        return self.status in _FINAL
