"""From events to passes: every watch event ends as a key in one queue, loops do what no event asks for.

Watches may fall silent, so everything is also listed now and then.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

from layerwise_operator import parsing
from layerwise_operator.cache import Cache, owner_of
from layerwise_operator.cluster import Cluster
from layerwise_operator.converge import Converger, pollable
from layerwise_operator.faults import ClusterFault
from layerwise_operator.kinds import CHILDREN, DEPLOYMENT, NODE, POD, PROFILE, Kind
from layerwise_operator.listing import list_into
from layerwise_operator.manifests import names
from layerwise_operator.metrics import Metrics
from layerwise_operator.observed import Key, Object, Pod
from layerwise_operator.settings import Settings
from layerwise_operator.views import rank_of
from layerwise_operator.work import Queue

logger = logging.getLogger(__name__)

WATCHED = (DEPLOYMENT, PROFILE, NODE, *CHILDREN)
TICK_SECONDS = 0.25
POLLS_AT_ONCE = 64
# Reasons that a change of what nodes offer may end.
_WAITING = (
    "CacheFitRequired",
    "InsufficientAccelerators",
    "InsufficientMemory",
    "NoAccelerators",
    "UnknownAccelerator",
)


@dataclass(slots=True)
class Pulse:
    """When the operator last heard of the cluster, by the loop's clock; what liveness is judged by."""

    clock: Callable[[], float]
    listed: float | None = None
    heard: float | None = None
    repairs_in_a_row: int = 0
    started: float = field(init=False)

    def __post_init__(self) -> None:
        self.started = self.clock()

    def seconds_since_list(self) -> float:
        """Since everything was last listed, or since the start."""
        return self.clock() - (self.listed if self.listed is not None else self.started)

    def seconds_since_event(self) -> float:
        """Since the last watch event, or since the start."""
        return self.clock() - (self.heard if self.heard is not None else self.started)


@dataclass(slots=True)
class Operator:
    """The queue, its workers and the loop."""

    settings: Settings
    cache: Cache
    cluster: Cluster
    converger: Converger
    metrics: Metrics
    queue: Queue
    pulse: Pulse
    polls: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(POLLS_AT_ONCE))

    def take_event(self, kind: Kind, type_: str | None, raw: Object) -> None:
        """Take one watch event into the cache, and ask for the passes that it concerns."""
        self.pulse.heard = self.pulse.clock()
        self.metrics.watch_events.labels(kind.plural).inc()
        gone = type_ == "DELETED"
        changed = self.cache.drop(kind, raw) if gone else self.cache.put(kind, raw)
        if changed:
            self._ask(kind, raw, gone=gone)

    def _ask(self, kind: Kind, raw: Object, *, gone: bool) -> None:
        owner = parsing.key_of(raw) if kind is DEPLOYMENT else owner_of(raw)
        if owner and not (kind is POD and gone and _has_told_all(raw)):
            self.queue.add(owner)
        if (
            kind in (NODE, PROFILE)
            or (kind is DEPLOYMENT and gone)
            or (kind is POD and _has_freed(raw, gone=gone))
        ):
            self._ask_those_that_wait()

    def _ask_those_that_wait(self) -> None:
        """There may be more accelerators than before, or other ones."""
        for key in self.cache.deployments():
            status = (self.cache.raw_deployment(key) or {}).get("status") or {}
            if any(condition["reason"] in _WAITING for condition in status.get("conditions") or ()):
                self.queue.add(key)

    async def work(self) -> None:
        """Passes, one after the other; several workers run beside each other, never two on one deployment."""
        while True:
            key = await self.queue.take()
            self.metrics.queue_depth.set(len(self.queue))
            with self.metrics.reconcile_seconds.time():
                await self._pass(key)

    async def _pass(self, key: Key) -> None:
        try:
            requeue_seconds = await self.converger.converge(key)
        except ClusterFault as fault:
            self.metrics.errors.labels(fault.reason).inc()
            delay = self.queue.failed(key, fault.retry_after_seconds)
            logger.warning("pass failed, again in %.1f s: %s", delay, fault, extra={"key": key})
        except Exception as error:
            self.metrics.errors.labels(type(error).__name__).inc()
            delay = self.queue.failed(key)
            logger.error(  # noqa: TRY400 - the formatter puts the error on the same line
                "pass failed, again in %.1f s", delay, extra={"key": key}, exc_info=error
            )
        except asyncio.CancelledError:
            # The loops may be begun anew in this process: what was broken off is to be done then.
            self.queue.done(key, requeue_seconds=0.0)
            raise
        else:
            self.queue.done(key, requeue_seconds)
            if self.cache.raw_deployment(key) is None:
                self.queue.forget(key)

    async def tick(self) -> None:
        """Delayed passes, when they become due."""
        while True:
            self.queue.release_due()
            self._measure()
            await asyncio.sleep(TICK_SECONDS)

    async def poll_forever(self) -> None:
        """What no event tells: how the ranks are."""
        while True:
            await asyncio.sleep(self.settings.poll_seconds)
            await self.poll_all()

    async def list_forever(self) -> None:
        """What an event should have told, and perhaps did not."""
        while True:
            await asyncio.sleep(self.settings.resync_seconds)
            await self._resync_or_say_why()

    def loops(self) -> tuple[Coroutine[Any, Any, None], ...]:
        """Everything that runs beside the watches, until it is cancelled."""
        workers = (self.work() for _ in range(self.settings.num_workers))
        return (*workers, self.tick(), self.poll_forever(), self.list_forever())

    async def poll_all(self) -> None:
        """Ask rank 0 of every pipeline, and the ranks that are not ready, how they are."""
        await asyncio.gather(*(self._poll(key) for key in self.cache.deployments()))

    async def _poll(self, key: Key) -> None:
        raw = self.cache.raw_deployment(key)
        pods = tuple(pod for pod in pollable(self.cache.pods_of(key)) if _is_asked(pod))
        if raw is None or not pods:
            return
        port = int(((raw.get("spec") or {}).get("serving") or {}).get("port", 8000))
        async with self.polls:
            if await self.converger.poll(port, pods):
                self.queue.add(key)

    async def _resync_or_say_why(self) -> None:
        try:
            await self.resync()
        except ClusterFault as fault:
            self.metrics.errors.labels(fault.reason).inc()
            logger.warning("listing failed: %s", fault)

    async def resync(self) -> None:
        """List everything, correct the cache, and ask for a pass over every deployment."""
        repaired = 0
        for kind in WATCHED:
            for namespace in (self.settings.namespaces if kind.namespaced else ()) or ("",):
                changed = await list_into(self.cache, self.cluster, kind, namespace)
                repaired += len(changed)
                self.metrics.missed_events.labels(kind.plural).inc(len(changed) if self.pulse.listed else 0)
        self.pulse.repairs_in_a_row = self.pulse.repairs_in_a_row + 1 if repaired else 0
        self.pulse.listed = self.pulse.clock()
        for key in self.cache.deployments():
            self.queue.add(key)

    def _measure(self) -> None:
        self.metrics.watch_age.set(self.pulse.seconds_since_event())
        self.metrics.resync_age.set(self.pulse.seconds_since_list())
        phases: dict[str, int] = {}
        for key in self.cache.deployments():
            raw = self.cache.raw_deployment(key) or {}
            phase = (raw.get("status") or {}).get("phase", "Pending")
            phases[phase] = phases.get(phase, 0) + 1
        self.metrics.deployments.clear()
        for phase, count in phases.items():
            self.metrics.deployments.labels(phase).set(count)


def _has_freed(raw: Object, *, gone: bool) -> bool:
    """Whether a pod that held accelerators has ended or is gone."""
    return (gone or parsing.has_ended(raw)) and bool(parsing.accelerators_asked(raw))


def _has_told_all(raw: Object) -> bool:
    """Whether a pod that is gone read a model and ended: that it ended has asked for a pass already."""
    is_reader = raw["metadata"].get("labels", {}).get(names.APP_COMPONENT) == names.INSPECT
    return is_reader and parsing.has_ended(raw)


def _is_asked(pod: Pod) -> bool:
    return not pod.ready or rank_of(pod) == 0
