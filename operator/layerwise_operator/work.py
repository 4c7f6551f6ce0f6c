"""Which deployments want a pass: each at most once at a time, with back-off after a failure."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from layerwise_operator.backoff import doubled
from layerwise_operator.observed import Key

FIRST_BACKOFF_SECONDS = 0.5
LONGEST_BACKOFF_SECONDS = 60.0


@dataclass(slots=True)
class Queue:
    """Keys in the order of their wishes; a key that is added while it runs runs once more afterwards."""

    clock: Callable[[], float]
    ready: asyncio.Queue[Key] = field(default_factory=asyncio.Queue)
    waiting: set[Key] = field(default_factory=set)
    running: set[Key] = field(default_factory=set)
    again: set[Key] = field(default_factory=set)
    due: dict[Key, float] = field(default_factory=dict)
    failures: dict[Key, int] = field(default_factory=dict)

    def add(self, key: Key) -> None:
        """Ask for a pass now."""
        self.due.pop(key, None)
        if key in self.running:
            self.again.add(key)
        elif key not in self.waiting:
            self.waiting.add(key)
            self.ready.put_nowait(key)

    def add_later(self, key: Key, seconds: float) -> None:
        """Ask for a pass in a while; the earliest such wish counts."""
        moment = self.clock() + seconds
        self.due[key] = min(moment, self.due.get(key, moment))

    async def take(self) -> Key:
        """The next key; `done` or `failed` must follow."""
        key = await self.ready.get()
        self.waiting.discard(key)
        self.running.add(key)
        return key

    def done(self, key: Key, requeue_seconds: float | None = None) -> None:
        """A pass succeeded."""
        self.failures.pop(key, None)
        self._release(key, requeue_seconds)

    def failed(self, key: Key, retry_after_seconds: float | None = None) -> float:
        """A pass failed: try again after a growing delay, or after what the server asked for; returns it."""
        count = self.failures[key] = self.failures.get(key, 0) + 1
        backoff = doubled(FIRST_BACKOFF_SECONDS, count - 1, LONGEST_BACKOFF_SECONDS)
        delay = max(backoff, retry_after_seconds or 0.0)
        # Events during the back-off are no reason to hurry: the next pass sees all of them.
        self.again.discard(key)
        self._release(key, delay)
        return delay

    def release_due(self) -> None:
        """Move what has become due to the ready ones."""
        now = self.clock()
        for key in [key for key, moment in self.due.items() if moment <= now]:
            self.add(key)

    def forget(self, key: Key) -> None:
        """A deployment is gone: nothing about it is due any more."""
        self.due.pop(key, None)
        self.failures.pop(key, None)

    def __len__(self) -> int:
        return len(self.waiting)

    def _release(self, key: Key, later: float | None) -> None:
        self.running.discard(key)
        if key in self.again:
            self.again.discard(key)
            self.add(key)
        elif later is not None:
            self.add_later(key, later)
