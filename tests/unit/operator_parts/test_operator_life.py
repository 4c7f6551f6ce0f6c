"""Watches that end as a whole are begun anew with the loops, in the same process."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import kopf
import pytest

from layerwise_operator import life
from layerwise_operator.cache import Cache
from layerwise_operator.converge import Converger
from layerwise_operator.handlers import Operator, Pulse
from layerwise_operator.metrics import Metrics
from layerwise_operator.observed import Key
from layerwise_operator.reconcile import Policy
from layerwise_operator.settings import Settings
from layerwise_operator.streams import Pacing
from layerwise_operator.work import Queue


class Served:
    """A cluster that serves everything, and holds nothing."""

    lists = 0

    async def serves(self, _: object) -> bool:
        return True

    async def pages(self, *_: object, **__: object) -> AsyncIterator[tuple[list[Any], int]]:
        self.lists += 1
        yield [], 1


@pytest.fixture
async def operator() -> Operator:
    settings, cache, metrics = Settings(worker_image="w"), Cache(), Metrics()
    cluster: Any = Served()
    clock = asyncio.get_running_loop().time
    converger = Converger(cache, cluster, Policy("w"), metrics, lambda: datetime.now(UTC))
    return Operator(settings, cache, cluster, converger, metrics, Queue(clock), Pulse(clock))


def kopf_that_ends(monkeypatch: pytest.MonkeyPatch, *ends: Exception | None) -> list[float]:
    """Kopf ends at once in each of these ways, one after the other; the moments at which it was begun."""
    left, began = iter(ends), []

    async def run(**_: object) -> None:
        began.append(asyncio.get_running_loop().time())
        how = next(left)
        if how is not None:
            raise how

    monkeypatch.setattr(kopf, "operator", run)
    return began


async def test_what_kopf_gives_up_at_is_tried_again_after_a_growing_pause(
    operator: Operator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(life, "Pacing", lambda: Pacing(first=0.02))
    began = kopf_that_ends(monkeypatch, ZeroDivisionError(), KeyError("code"), None)
    stop = asyncio.Event()
    await life.live(operator, stop)
    # The third time it ended as it does after a signal.
    assert stop.is_set()
    assert began[1] - began[0] >= 0.02
    assert began[2] - began[1] >= 0.04
    metrics = operator.metrics.registry
    labels = {"resource": "*", "fault": "Ended"}
    assert metrics.get_sample_value("layerwise_operator_watch_faults_total", labels) == 2
    assert operator.cluster.lists == 3 * 9  # type: ignore[attr-defined]  # the one above


async def test_a_stop_during_the_pause_ends_it(operator: Operator, monkeypatch: pytest.MonkeyPatch) -> None:
    began = kopf_that_ends(monkeypatch, *[ZeroDivisionError()] * 20)
    stop = asyncio.Event()
    asyncio.get_running_loop().call_later(0.1, stop.set)
    await asyncio.wait_for(life.live(operator, stop), 2)
    assert len(began) <= 2


async def test_an_error_of_a_loop_ends_the_operator(
    operator: Operator, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(_: Operator) -> None:
        raise ZeroDivisionError("in a loop")

    async def watching(*, stop_flag: asyncio.Event, **_: object) -> None:
        await stop_flag.wait()

    monkeypatch.setattr(Operator, "tick", broken)
    monkeypatch.setattr(kopf, "operator", watching)
    with pytest.raises(ZeroDivisionError, match="in a loop"):
        await life.live(operator, asyncio.Event())


async def test_a_pass_that_is_broken_off_is_due_again(
    operator: Operator, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = Key("default", "demo")

    async def hang(*_: object) -> None:
        await asyncio.sleep(60)

    monkeypatch.setattr(Converger, "converge", hang)
    operator.queue.add(key)
    working = asyncio.create_task(operator.work())
    await asyncio.sleep(0.01)
    assert operator.queue.running == {key}
    working.cancel()
    await asyncio.gather(working, return_exceptions=True)
    operator.queue.release_due()
    assert operator.queue.waiting == {key}
