"""Local ranks under watch: start them, start again those that end, stop them all.

Only this process's main thread may start ranks: they die with the thread that started them.
"""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from layerwise.errors import LayerwiseError
from layerwise.telemetry import RankReport, RankState
from layerwise_cli.local.errors import LocalFailure
from layerwise_cli.local.inputs import LocalInputs
from layerwise_cli.local.machine import LOOPBACK
from layerwise_cli.local.reports import ask
from layerwise_worker.local import LocalPipeline, LocalSettings
from layerwise_worker.termination import EXIT_UNSERVABLE, MESSAGE_BYTES

MOST_RESTARTS = 5
SETTLED_SECONDS = 60.0
_LOG_TAIL_BYTES = 4096
_LOG_LINES = 3
# Beyond the grace period: for the ranks to let each other go.
_LEAVE_SECONDS = 15.0
_BACK_OFF_SECONDS = (0.0, 0.5, 1.0, 2.0, 5.0)
_OWN_MISTAKES = {"EngineFailed"}


class RankRefused(LayerwiseError):  # noqa: N818 - reads as what happened, like the reasons of conditions
    """A rank said that what it was given cannot be served, and that no restart would help."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(slots=True)
class _Life:
    """How often a rank has ended of late, and when it may be started again."""

    ends: list[float] = field(default_factory=list)
    start_at: float | None = None


class Ranks:
    """The ranks of one pipeline; enter it to start them, leave it and nothing of them is left."""

    def __init__(
        self,
        inputs: LocalInputs,
        work_directory: Path,
        say: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._say, self._clock = say, clock
        self._grace_seconds = inputs.grace_seconds
        self._pipeline = LocalPipeline(_settings(inputs, work_directory))
        self._lives = [_Life() for _ in self._pipeline.addresses]
        self.url = self._pipeline.url()
        self.cores = self._pipeline.cores

    def __enter__(self) -> Self:
        self._pipeline.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._pipeline.kill()

    def __len__(self) -> int:
        return len(self._lives)

    def report(self, rank: int) -> RankReport | None:
        """What a rank says of itself, if it answers."""
        return ask(self._pipeline.addresses[rank], self._pipeline.http_port)

    def are_ready(self) -> bool:
        """Whether every rank is in the pipeline's current epoch."""
        reports = [self.report(rank) for rank in range(len(self))]
        return all(report is not None and report.state is RankState.READY for report in reports)

    def check(self) -> None:
        """Raises LocalFailure when a rank is not running: for a pipeline that must not change."""
        for rank, process in self._pipeline.processes.items():
            status = process.poll()
            if status is not None:
                raise LocalFailure(
                    "RankFailed", f"rank {rank} ended {_how(status)} during the run: {self.log_tail(rank)}"
                )

    def revive(self) -> None:
        """Start ranks again that have ended; raises when that does not help."""
        now = self._clock()
        for rank, life in enumerate(self._lives):
            status = self._pipeline.processes[rank].poll()
            if status is None:
                continue
            if life.start_at is None:
                self._bury(rank, life, status, now)
            elif now >= life.start_at:
                life.start_at = None
                self._pipeline.start_rank(rank)

    def log_tail(self, rank: int) -> str:
        """The last lines that the rank wrote, on one line."""
        try:
            with self._pipeline.log_file(rank).open("rb") as file:
                size = file.seek(0, 2)
                file.seek(max(0, size - _LOG_TAIL_BYTES))
                text = file.read(_LOG_TAIL_BYTES).decode(errors="replace")
        except OSError:
            return ""
        return " | ".join(line.strip() for line in text.splitlines()[-_LOG_LINES:])

    def stop(self, insists: Callable[[], bool]) -> bool:
        """Drain and end all ranks; False when some had to be killed. `insists`: do not wait any longer."""
        processes = self._pipeline.processes.values()
        for process in processes:
            process.terminate()
        deadline = self._clock() + self._grace_seconds + _LEAVE_SECONDS
        while any(process.poll() is None for process in processes):
            if insists() or self._clock() > deadline:
                self._pipeline.kill()
                return False
            time.sleep(0.05)
        return True

    def _bury(self, rank: int, life: _Life, status: int, now: float) -> None:
        if status == EXIT_UNSERVABLE:
            raise self._last_words(rank)
        life.ends = [end for end in life.ends if now - end < SETTLED_SECONDS] + [now]
        how = _how(status)
        if len(life.ends) > MOST_RESTARTS:
            raise LocalFailure(
                "RankFailed",
                f"rank {rank} ended {len(life.ends)} times within {SETTLED_SECONDS:g} s, at last {how}: "
                f"{self.log_tail(rank)}",
            )
        life.start_at = now + _BACK_OFF_SECONDS[min(len(life.ends), len(_BACK_OFF_SECONDS)) - 1]
        self._say(f"rank {rank} ended {how}: starting it again")

    def _last_words(self, rank: int) -> LayerwiseError:
        """What the rank left as its termination message."""
        try:
            with self._pipeline.termination_file(rank).open("rb") as file:
                said = json.loads(file.read(MESSAGE_BYTES))
            reason, message = str(said["reason"]), str(said["message"])
        except (OSError, ValueError, LookupError, TypeError):
            return LocalFailure("RankFailed", f"rank {rank} gave up: {self.log_tail(rank)}")
        kind = LocalFailure if reason in _OWN_MISTAKES else RankRefused
        return kind(reason, f"rank {rank}: {message}")


def _how(status: int) -> str:
    return f"by signal {-status}" if status < 0 else f"with status {status}"


def _settings(inputs: LocalInputs, work_directory: Path) -> LocalSettings:
    serving = inputs.serving
    return LocalSettings(
        plan=inputs.plan,
        model=inputs.model,
        work_directory=work_directory,
        model_name=inputs.model_name,
        device=inputs.device.value,
        threads=inputs.threads,
        max_queued_requests=serving.max_queued_requests,
        max_prompt_tokens=serving.max_prompt_tokens,
        max_output_tokens=serving.max_output_tokens,
        grace_seconds=inputs.grace_seconds,
        environment=inputs.environment,
        front=(LOOPBACK, inputs.port),
        visible_devices=inputs.visible_devices,
    )
