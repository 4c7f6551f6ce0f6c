"""How kopf is told to watch: it never gives up, and never writes."""

import asyncio
import itertools
from datetime import UTC, datetime
from typing import Any

import kopf
import pytest
from tests.unit.operator_world.world import World, deployment, node

from layerwise_operator import handlers, probes
from layerwise_operator.cache import Cache
from layerwise_operator.converge import Converger
from layerwise_operator.faults import WatchesEnded
from layerwise_operator.handlers import Operator, Pulse
from layerwise_operator.kinds import DEPLOYMENT, NODE, POD
from layerwise_operator.manifests import names
from layerwise_operator.metrics import Metrics
from layerwise_operator.observed import Key
from layerwise_operator.reconcile import Policy
from layerwise_operator.settings import Settings
from layerwise_operator.watches import Backoffs, kopf_settings, registry, run_kopf
from layerwise_operator.work import Queue


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def operator(clock: Clock) -> Operator:
    settings, cache, metrics = Settings(worker_image="w"), Cache(), Metrics()
    cluster: Any = None  # no call is made
    converger = Converger(cache, cluster, Policy("w"), metrics, lambda: datetime.now(UTC))
    return Operator(settings, cache, cluster, converger, metrics, Queue(clock), Pulse(clock))


def test_attempts_never_end_and_can_be_begun_anew() -> None:
    backoffs = Backoffs()
    assert not hasattr(backoffs, "__len__")
    for _ in range(2):
        assert list(itertools.islice(backoffs, 8)) == [1, 1, 2, 3, 5, 5, 5, 5]


async def test_kopf_posts_nothing_adds_no_finalizer_and_scans_nothing(operator: Operator) -> None:
    found = kopf_settings()
    assert not found.posting.enabled
    assert found.scanning.disabled
    assert found.peering.standalone
    made = registry(operator, asyncio.Event())
    assert not made._changing.get_all_handlers()
    assert not made._spawning.get_all_handlers()
    assert not made._webhooks.get_all_handlers()
    assert len(list(made._watching.get_all_handlers())) == len(handlers.WATCHED)


async def test_watches_that_end_are_a_fault_and_no_traceback(
    operator: Operator, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(**_: object) -> None:
        raise ZeroDivisionError("inside kopf")

    monkeypatch.setattr(kopf, "operator", broken)
    with pytest.raises(WatchesEnded, match="ZeroDivisionError: inside kopf"):
        await run_kopf(operator, asyncio.Event())


def waiting(operator: Operator) -> set[str]:
    return {key.name for key in operator.queue.waiting}


def tell(operator: Operator, world: World, kind: object, type_: str, raw: dict[str, object]) -> None:
    operator.queue = Queue(operator.queue.clock)
    operator.take_event(kind, type_, raw)  # type: ignore[arg-type]  # kinds of the table


def test_events_wake_whom_they_concern(operator: Operator) -> None:
    world = World()
    running = world.put(deployment("running"))
    running["status"] = {"phase": "Running"}
    pending = world.put(deployment("pending"))
    pending["status"] = {"conditions": [{"reason": "InsufficientAccelerators"}]}
    for raw in (running, pending):
        tell(operator, world, DEPLOYMENT, "ADDED", raw)
        assert waiting(operator) == {raw["metadata"]["name"]}
    tell(operator, world, NODE, "ADDED", world.put(node("node-a")))
    assert waiting(operator) == {"pending"}
    foreign = world.put({
        "kind": "Pod",
        "metadata": {"name": "theirs", "namespace": "default"},
        "spec": {"nodeName": "node-a", "containers": [{"resources": {"limits": {"nvidia.com/gpu": "1"}}}]},
    })  # fmt: skip
    tell(operator, world, POD, "ADDED", foreign)
    assert waiting(operator) == set()
    tell(operator, world, POD, "DELETED", foreign)
    assert waiting(operator) == {"pending"}
    tell(operator, world, DEPLOYMENT, "DELETED", running)
    assert "pending" in waiting(operator)
    assert operator.cache.deployments() == (Key("default", "pending"),)


@pytest.mark.parametrize(
    ("component", "phase", "woken"),
    [
        (names.INSPECT, "Succeeded", set()),
        (names.INSPECT, "Running", {"demo"}),
        (names.WORKER, "Failed", {"demo"}),
    ],
)
def test_the_end_of_a_pod_that_has_told_what_it_read_wakes_nobody(
    operator: Operator, component: str, phase: str, woken: set[str]
) -> None:
    world = World()
    labels = {**names.deployment_labels("demo"), names.APP_COMPONENT: component}
    pod = world.put({
        "kind": "Pod",
        "metadata": {"name": "demo-x", "namespace": "default", "labels": labels},
        "status": {"phase": phase},
    })  # fmt: skip
    tell(operator, world, POD, "ADDED", pod)
    assert waiting(operator) == {"demo"}
    tell(operator, world, POD, "DELETED", pod)
    assert waiting(operator) == woken


def test_kopf_is_heard_without_running_a_handler(operator: Operator) -> None:
    raw = World().put(deployment())
    made = registry(operator, asyncio.Event())
    taking = next(one for one in made._watching.get_all_handlers() if one.id.startswith(DEPLOYMENT.plural))
    take: Any = taking.when
    assert not take(event={"type": "ADDED", "object": raw}, resource=None)
    assert waiting(operator) == {"demo"}


def test_an_event_told_twice_wakes_nobody(operator: Operator) -> None:
    world = World()
    raw = world.put(deployment())
    tell(operator, world, DEPLOYMENT, "ADDED", raw)
    tell(operator, world, DEPLOYMENT, "MODIFIED", raw)
    assert waiting(operator) == set()


@pytest.mark.parametrize(
    ("seconds", "listed", "repairs", "dead"),
    [
        (599, None, 0, False),
        (601, None, 0, True),
        (10_000, 9_990, 0, False),
        (10_000, 9_990, 1, False),
        (10_000, 9_990, 2, True),
    ],
)
def test_liveness_fails_only_when_a_restart_may_help(
    clock: Clock, seconds: float, listed: float | None, repairs: int, dead: bool
) -> None:
    pulse = Pulse(clock)
    clock.now = seconds
    pulse.listed, pulse.repairs_in_a_row = listed, repairs
    assert bool(probes.why_dead(pulse)) is dead
