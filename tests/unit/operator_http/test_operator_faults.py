"""Faults of the API at the HTTP seam delay the operator, and never corrupt what it makes."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from tests.unit.chart.conftest import Template
from tests.unit.chart.test_chart_rbac import granted, of_operator
from tests.unit.operator_http.server import Fault, Server, serving, status
from tests.unit.operator_world.world import World, deployment, node

from layerwise_operator import cluster as calls
from layerwise_operator import handlers, work
from layerwise_operator.cache import Cache
from layerwise_operator.cluster import Cluster
from layerwise_operator.converge import Converger
from layerwise_operator.faults import ApiFault, Unreachable
from layerwise_operator.handlers import Operator, Pulse
from layerwise_operator.kinds import DEPLOYMENT, NODE
from layerwise_operator.listing import list_into
from layerwise_operator.metrics import Metrics
from layerwise_operator.observed import Key
from layerwise_operator.reconcile import Policy
from layerwise_operator.settings import Settings

KEY = Key("default", "demo")


@pytest.fixture
def world() -> World:
    world = World()
    world.put(node("node-a"))
    return world


@pytest.fixture
def server(world: World) -> Server:
    return Server(world)


@pytest.fixture
async def operator(_quick: None, server: Server, tmp_path: Path) -> AsyncIterator[Operator]:
    """The real queue, workers, loop and client; no watches: lists every 0.05 s are their stand-in."""
    metrics, cache = Metrics(), Cache()
    clock = asyncio.get_running_loop().time
    async with serving(server, tmp_path) as kubeconfig:
        cluster = await Cluster.connect(kubeconfig, metrics)
        settings = Settings(worker_image="worker:test", poll_seconds=0.05, resync_seconds=0.05, num_workers=2)
        converger = Converger(
            cache, cluster, Policy(settings.worker_image), metrics, lambda: datetime.now(UTC)
        )
        operator = Operator(settings, cache, cluster, converger, metrics, work.Queue(clock), Pulse(clock))
        tasks = [asyncio.create_task(coroutine) for coroutine in operator.loops()]
        yield operator
        for task in tasks:
            task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.gather(*tasks)
        await cluster.close()


@pytest.fixture
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(work, "FIRST_BACKOFF_SECONDS", 0.02)
    monkeypatch.setattr(work, "LONGEST_BACKOFF_SECONDS", 0.1)
    monkeypatch.setattr(handlers, "TICK_SECONDS", 0.02)


async def until(fulfilled: Callable[[], object], seconds: float = 10) -> None:
    """Ask until it holds."""
    for _ in range(int(seconds / 0.02)):
        if fulfilled():
            return
        await asyncio.sleep(0.02)
    raise AssertionError("it never came to hold")


async def until_running(world: World, seconds: float = 20) -> None:
    """Play the controllers until the deployment runs."""
    async with asyncio.timeout(seconds):
        while world.objects[DEPLOYMENT.kind, "default", "demo"].get("status", {}).get("stages") != "0/3":
            world.finish_inspection_if_running()
            await asyncio.sleep(0.02)
        while len(world.all("Pod")) < 3 or not world.all("StatefulSet"):
            world.run_stateful_sets()
            await asyncio.sleep(0.02)


def first(times: int, answer: Fault) -> Fault:
    """A fault that ends after some requests."""
    left = {"times": times}

    def fault(verb: str, path: str) -> web.Response | None:
        if left["times"] <= 0:
            return None
        found = answer(verb, path)
        left["times"] -= found is not None
        return found

    return fault


CODES = {
    "409": (409, "Conflict"),
    "410": (410, "Expired"),
    "429": (429, "TooManyRequests"),
    "500": (500, "InternalError"),
    "502": (502, "BadGateway"),
    "503": (503, "ServiceUnavailable"),
    "504": (504, "Timeout"),
    "401": (401, "Unauthorized"),
}


@pytest.mark.parametrize("verb", ["list", "get", "patch", "delete"])
@pytest.mark.parametrize("code", CODES)
async def test_an_error_status_only_delays(
    operator: Operator, server: Server, world: World, verb: str, code: str
) -> None:
    number, reason = CODES[code]
    server.fault = first(4, lambda asked, _: status(number, reason) if asked == verb else None)
    world.put(deployment())
    await until_running(world)
    assert len(world.all("StatefulSet")) == 1
    assert len([raw for raw in world.all("ConfigMap") if "-plan-" in raw["metadata"]["name"]]) == 1


async def test_answers_that_are_no_answers_only_delay(
    operator: Operator, server: Server, world: World
) -> None:
    answers = iter([
        web.Response(text="<html>a proxy</html>", status=502),
        web.Response(text="{half a json", status=200),
        web.Response(text="", status=503),
    ])  # fmt: skip
    server.fault = lambda verb, _: next(answers, None) if verb == "patch" else None
    world.put(deployment())
    await until_running(world)


async def test_an_outage_is_survived(operator: Operator, server: Server, world: World) -> None:
    world.put(deployment())
    await until_running(world)
    before = {key: raw["metadata"]["uid"] for key, raw in world.objects.items()}
    server.fault = lambda *_: status(503, "ServiceUnavailable")
    await asyncio.sleep(1.0)
    server.fault = lambda *_: None
    world.remove("Service", "demo")
    await until(lambda: ("Service", "default", "demo") in world.objects)
    after = {key: raw["metadata"]["uid"] for key, raw in world.objects.items()}
    assert {key for key in before if before[key] != after.get(key)} == {("Service", "default", "demo")}


@pytest.mark.parametrize(("code", "reason"), [(422, "Invalid"), (403, "Forbidden"), (400, "BadRequest")])
async def test_a_refusal_that_retrying_cannot_change_is_said_in_the_status(
    operator: Operator, server: Server, world: World, code: int, reason: str
) -> None:
    server.fault = lambda verb, path: (
        status(code, reason, "exceeded quota: compute")
        if verb == "patch" and "statefulsets" in path
        else None
    )
    world.put(deployment())
    async with asyncio.timeout(10):
        while world.status().get("phase") != "Failed":
            world.finish_inspection_if_running()
            await asyncio.sleep(0.02)
    for type_ in ("Progressing", "Ready"):
        condition = world.condition(type_)
        assert (condition["status"], condition["reason"]) == ("False", reason)
        assert "exceeded quota: compute" in condition["message"]


async def test_retry_after_is_obeyed(server: Server, tmp_path: Path) -> None:
    server.fault = lambda *_: status(429, "TooManyRequests", "slow down", **{"Retry-After": "7"})
    async with serving(server, tmp_path) as kubeconfig:
        cluster = await Cluster.connect(kubeconfig, Metrics())
        with pytest.raises(ApiFault, match="slow down") as caught:
            await anext(cluster.pages(NODE))
        await cluster.close()
    assert caught.value.retry_after_seconds == 7
    assert not caught.value.is_final


async def test_a_read_that_gets_no_answer_is_given_up_and_made_anew(
    operator: Operator, server: Server, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calls, "READ_TIMEOUT", aiohttp.ClientTimeout(total=0.2))
    real, asked = server.handle, list[str]()

    async def handle(request: web.Request) -> web.StreamResponse:
        if "persistentvolumeclaims" in request.path:
            asked.append(request.path)
            if len(asked) == 1:
                await asyncio.sleep(1)
        return await real(request)

    server.handle = handle  # type: ignore[method-assign]  # slow for once
    world.put(deployment())
    await until_running(world, seconds=5)
    assert len(asked) >= 2
    labels = {"verb": "get", "resource": "persistentvolumeclaims", "code": "none"}
    assert operator.metrics.registry.get_sample_value("layerwise_operator_api_calls_total", labels) == 1


async def test_a_refused_connection_is_a_fault_and_no_crash(server: Server, tmp_path: Path) -> None:
    async with serving(server, tmp_path) as kubeconfig:
        pass
    cluster = await Cluster.connect(kubeconfig, Metrics())
    with pytest.raises(Unreachable, match="list nodes"):
        await anext(cluster.pages(NODE))
    await cluster.close()


async def test_a_list_is_begun_again_when_its_pages_expire(server: Server, tmp_path: Path) -> None:
    asked: list[str] = []

    async def pages(request: web.Request) -> web.StreamResponse:
        token = request.query.get("continue", "")
        asked.append(token)
        if token == "b" and asked.count("b") == 1:
            return status(410, "Expired")
        only_at_first = ["gone"] if len(asked) == 1 else []
        found, following = {"": (["x", *only_at_first], "b"), "b": (["y"], "")}[token]
        items = [{"metadata": {"name": name, "uid": name, "resourceVersion": "6"}} for name in found]
        return web.json_response(
            {"items": items, "metadata": {"continue": following, "resourceVersion": "7"}}
        )

    server.handle = pages  # type: ignore[method-assign]  # another server for this test
    async with serving(server, tmp_path) as kubeconfig:
        cluster = await Cluster.connect(kubeconfig, Metrics())
        cache = Cache()
        await list_into(cache, cluster, NODE, "")
        await cluster.close()
    assert asked == ["", "b", "", "b"]
    assert {found.name for found in cache.nodes()} == {"x", "y"}


async def test_items_of_a_list_say_what_they_are(server: Server, world: World, tmp_path: Path) -> None:
    async with serving(server, tmp_path) as kubeconfig:
        cluster = await Cluster.connect(kubeconfig, Metrics())
        items, _ = await anext(cluster.pages(NODE))
        await cluster.close()
    assert [(item["apiVersion"], item["kind"]) for item in items] == [("v1", "Node")]


async def test_a_life_needs_no_right_that_the_chart_does_not_grant(
    operator: Operator, server: Server, world: World, template: Template
) -> None:
    world.put(deployment())
    await until_running(world)
    world.put(deployment(suspend=True))
    await until(lambda: not world.all("StatefulSet"))
    world.put(deployment())
    await until_running(world)
    made = {(group, resource, verb) for verb, group, resource in server.requests}
    assert made <= granted(of_operator(template()))
    assert {verb for _, _, verb in made} == {"list", "get", "patch", "delete", "create"}


async def test_children_are_made_without_looking_first(
    operator: Operator, server: Server, world: World
) -> None:
    world.put(deployment())
    await until_running(world)
    assert {resource for verb, _, resource in server.requests if verb == "get"} == {"persistentvolumeclaims"}


async def test_a_bug_in_one_pass_stops_neither_the_worker_nor_the_others(
    operator: Operator, world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(self: Converger, key: Key) -> float | None:
        if key.name == "broken":
            raise ZeroDivisionError("a bug")
        return await real(self, key)

    real = Converger.converge
    monkeypatch.setattr(Converger, "converge", broken)
    world.put(deployment("broken"))
    world.put(deployment())
    await until_running(world)
    assert any("pass failed" in record.message for record in caplog.records)
    text = operator.metrics.render().decode()
    assert 'layerwise_operator_reconcile_errors_total{reason="ZeroDivisionError"}' in text
