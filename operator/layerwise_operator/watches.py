"""Kopf as the source of events, and of nothing else: what it watches, and that it never writes."""

import asyncio
import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import kopf

from layerwise_operator.cluster import PAGE_SIZE
from layerwise_operator.faults import WatchesEnded
from layerwise_operator.handlers import WATCHED, Operator
from layerwise_operator.kinds import CHILDREN, POD, Kind
from layerwise_operator.manifests import names
from layerwise_operator.settings import Settings
from layerwise_operator.streams import Mending, session

# Instead of a resource, where a fault ended all watches.
ALL_RESOURCES = "*"


def registry(operator: Operator, stop: asyncio.Event) -> kopf.OperatorRegistry:
    """Kopf's handlers: one for the raw events of each resource, the login, and the end.

    Kopf catches signals itself and then still waits for whoever waits for `stop`, so it is set at the end.
    """
    mending = Mending(lambda resource, fault: operator.metrics.watch_faults.labels(resource, fault).inc())
    found = kopf.OperatorRegistry()
    for kind in WATCHED:
        group, _, version = kind.api_version.rpartition("/")
        kopf.on.event(
            group=group,
            version=version,
            plural=kind.plural,
            id=f"{kind.plural}-event",
            registry=found,
            when=_taking(operator, kind),
        )(_never)
    kopf.on.login(id="login", registry=found)(_login(operator.settings, mending))
    kopf.on.cleanup(id="stop", registry=found)(_ending(stop))
    return found


def _taking(operator: Operator, kind: Kind) -> Callable[..., bool]:
    """The filter in front of a handler: it takes the event, and leaves nothing for the handler to do.

    Kopf asks it once about every event. To call a handler costs it as much again as all that it does before,
    for retries and results that there are none of here.
    """

    def take(event: kopf.RawEvent, **_: Any) -> bool:
        operator.take_event(kind, event["type"], event["object"])
        return False

    return take


async def _never(**_: Any) -> None:
    raise AssertionError("the filter in front lets nothing through")


def _ending(stop: asyncio.Event) -> Callable[..., Any]:
    async def end(**_: Any) -> None:
        stop.set()

    return end


def _login(settings: Settings, mending: Mending) -> Callable[..., Any]:
    """Credentials, read anew whenever they were refused: without any, kopf would end.

    The longer, the more often the same ones are refused, every request waits for them here.
    """
    login = kopf.login_with_kubeconfig if settings.kubeconfig else kopf.login_with_service_account
    refusals: list[float] = []

    async def logged_in(**kwargs: Any) -> kopf.AiohttpSession | None:
        clock = asyncio.get_running_loop().time
        if refusals and clock() - refusals[-1] > mending.pacing.healthy_after:
            refusals.clear()
        if refusals:
            await asyncio.sleep(mending.pacing.pause(len(refusals)))
        connection = login(**kwargs)
        refusals.append(clock())
        return session(connection, mending) if connection is not None else None

    return logged_in


@dataclass(frozen=True, slots=True)
class Backoffs:
    """Seconds between attempts at a request, without end: an API server that is away will come back."""

    first: tuple[float, ...] = (1, 1, 2, 3, 5)
    then: float = 5

    def __iter__(self) -> Iterator[float]:
        yield from self.first
        yield from itertools.repeat(self.then)


class NoDifferences(kopf.DiffBaseStorage):
    """No handler asks what changed, so nothing is compared: kopf would copy every object of every event."""

    def build(
        self, *, body: kopf.Body, extra_fields: Iterable[kopf.FieldSpec] | None = None
    ) -> kopf.BodyEssence:
        """Nothing of an object."""
        del body, extra_fields
        return kopf.BodyEssence()

    def fetch(self, *, body: kopf.Body) -> kopf.BodyEssence | None:
        """Nothing was kept."""
        del body
        return None

    def store(self, *, body: kopf.Body, patch: kopf.Patch, essence: kopf.BodyEssence) -> None:
        """Nothing is kept."""


def kopf_settings() -> kopf.OperatorSettings:
    """How kopf watches; none of its own features that write to the cluster is used."""
    found = kopf.OperatorSettings()
    found.posting.enabled = False
    found.scanning.disabled = True
    found.peering.standalone = True
    found.peering.name = names.MANAGER
    found.persistence.finalizer = "layerwise.dev/finalizer"
    found.persistence.progress_storage = kopf.AnnotationsProgressStorage(prefix="layerwise.dev")
    found.persistence.diffbase_storage = NoDifferences()
    found.watching.inactivity_timeout = 70
    found.watching.server_timeout = 300
    found.watching.connect_timeout = 30
    found.networking.request_timeout = 30
    found.networking.error_backoffs = Backoffs()
    found.queueing.worker_limit = 100
    # Every object has a worker that hands its events on, and keeps one of the places until it has waited for
    # more for so long: with a second, thousands of pods would take half a minute to be heard of.
    found.queueing.idle_timeout = 0.05
    found.queueing.exit_timeout = 0.5
    # Kopf would kill the process some time after its own end, and the process goes on.
    found.process.ultimate_exiting_timeout = None
    found.watching.chunk_size = PAGE_SIZE
    for kind in CHILDREN:
        if kind is not POD:
            group, _, version = kind.api_version.rpartition("/")
            found.watching.label_selectors[group, version, kind.plural] = names.SELECTOR
    return found


async def run_kopf(operator: Operator, stop: asyncio.Event) -> None:
    """Watch until told to stop, or by a signal, which sets `stop`; raises WatchesEnded when kopf gives up."""
    namespaces = operator.settings.namespaces
    over = asyncio.Event()
    relay = asyncio.create_task(_relay(stop, over))
    try:
        await kopf.operator(
            registry=registry(operator, over),
            settings=kopf_settings(),
            namespaces=namespaces,
            clusterwide=not namespaces,
            stop_flag=over,
        )
    except asyncio.CancelledError:
        if not stop.is_set():
            raise
    except Exception as error:
        raise WatchesEnded(f"the watches ended: {type(error).__name__}: {error}") from error
    else:
        stop.set()
    finally:
        relay.cancel()


async def _relay(stop: asyncio.Event, over: asyncio.Event) -> None:
    await stop.wait()
    over.set()
