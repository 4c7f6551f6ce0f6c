"""The embedded API server behind a seam where watches and answers go wrong, and an operator beyond it."""

import asyncio
import contextlib
import functools
import itertools
import json
import os
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import kopf
import pytest
import yaml
from aiohttp import web
from tests.unit.operator_world.world import FACTS, H100, deployment

from layerwise_operator import streams, watches
from layerwise_operator.cache import Cache
from layerwise_operator.cluster import Cluster
from layerwise_operator.converge import Converger
from layerwise_operator.handlers import Operator, Pulse
from layerwise_operator.metrics import Metrics
from layerwise_operator.reconcile import Policy
from layerwise_operator.settings import Settings
from layerwise_operator.work import Queue
from layerwise_sandbox.api.server import ApiServer

Json = dict[str, Any]
QUICK_SECONDS = 1.0
QUICK_PACING = streams.Pacing(first=0.1, longest=0.4)
ROOT = Path(__file__).parents[3]
DEPLOYMENTS = "/apis/layerwise.dev/v1alpha1/namespaces/default/layerwisedeployments"
PODS = "/api/v1/namespaces/default/pods"


@dataclass
class Stream:
    """One watch that passes the seam."""

    resource: str
    response: web.StreamResponse
    transport: asyncio.Transport
    mute: bool = False
    held: list[bytes] = field(default_factory=list)


@dataclass
class Seam:
    """A proxy. `answer` may answer a request in the server's place, `line` changes what watches say."""

    api: ApiServer
    session: aiohttp.ClientSession
    port: int = 0
    answer: Callable[[web.Request], web.Response | None] = field(default=lambda _: None)
    line: Callable[[Stream, bytes], list[bytes]] = field(default=lambda _, line: [line])
    greeting: Callable[[Stream], bytes | None] = field(default=lambda _: None)
    calls: Counter[str] = field(default_factory=Counter)
    streams: list[Stream] = field(default_factory=list)
    _runner: web.AppRunner | None = None

    async def open(self) -> None:
        """Listen, on the port of before."""
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1, handler_cancellation=True)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port).start()
        self.port = self._runner.addresses[0][1]

    async def close(self) -> None:
        """Refuse connections, and break those that are."""
        self.drop()
        if self._runner is not None:
            await self._runner.cleanup()

    def mend(self) -> None:
        """Pass everything on as it is, from the next watch on."""
        self.answer, self.line, self.greeting = lambda _: None, lambda _, line: [line], lambda _: None

    def drop(self) -> None:
        """Break every watch, without a word."""
        for stream in self.streams:
            stream.transport.abort()

    def silence(self) -> None:
        """Let no watch that is open now say anything any more, while its connection stays."""
        for stream in self.streams:
            stream.mute = True

    async def say(self, event: Json) -> None:
        """Say something in every watch, and end it."""
        await self.end_with(json.dumps(event).encode() + b"\n")

    async def end_with(self, data: bytes, resource: str = "") -> None:
        """Say these bytes in every watch, or in those of one resource, and end it as a server does."""
        for stream in [one for one in self.streams if resource in ("", one.resource)]:
            await self._end(stream, data)

    async def _end(self, stream: Stream, data: bytes) -> None:
        stream.mute = True
        with contextlib.suppress(ConnectionError):
            await stream.response.write(data)
            await stream.response.write_eof()
        stream.transport.close()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        verb = "watch" if "watch" in request.query else request.method
        self.calls[f"{verb} {request.path.rpartition('/')[2]}"] += 1
        broken = self.answer(request)
        if broken is not None:
            return broken
        headers = {
            name: request.headers[name] for name in ("Accept", "Content-Type") if name in request.headers
        }
        headers["Authorization"] = f"Bearer {self.api.admin_token}"
        url = self.api.url + request.raw_path
        body = await request.read()
        async with self.session.request(request.method, url, headers=headers, data=body) as answer:
            if "watch" in request.query:
                return await self._watch(request, answer)
            kept = {"Content-Type": answer.headers["Content-Type"]}
            return web.Response(status=answer.status, body=await answer.read(), headers=kept)

    async def _watch(self, request: web.Request, answer: aiohttp.ClientResponse) -> web.StreamResponse:
        response = web.StreamResponse(status=answer.status, headers={"Content-Type": "application/json"})
        await response.prepare(request)
        assert isinstance(request.transport, asyncio.Transport)
        stream = Stream(request.path.rpartition("/")[2], response, request.transport)
        self.streams.append(stream)
        greeting = self.greeting(stream)
        if greeting is not None:
            await self._end(stream, greeting)
        try:
            async for line in answer.content:
                for said in self.line(stream, line):
                    if not stream.mute:
                        await response.write(said)
        except (ConnectionError, aiohttp.ClientError):
            pass
        finally:
            self.streams.remove(stream)
        return response


@dataclass
class User:
    """The hand of a user, who does not go through the seam."""

    seam: Seam
    numbers: Any = field(default_factory=lambda: itertools.count(1), kw_only=True)

    async def call(
        self, method: str, path: str, body: Json | None = None, kind: str = "application/json"
    ) -> Json:
        """Ask the API server itself."""
        url, headers = self.seam.api.url + path, {"Content-Type": kind}
        headers["Authorization"] = f"Bearer {self.seam.api.admin_token}"
        data = None if body is None else json.dumps(body)
        async with self.seam.session.request(method, url, headers=headers, data=data) as response:
            found: Json = await response.json()
            assert response.status < 400, found
            return found

    async def create(self) -> str:
        """A deployment that wants no more than a plan."""
        name = f"d{next(self.numbers)}"
        await self.call("POST", DEPLOYMENTS, deployment(name, planOnly=True))
        return name

    async def until_planned(self, name: str, seconds: float) -> float:
        """Wait for the plan, playing the node that runs the inspect pod; how long it took."""
        began = time.monotonic()
        while time.monotonic() < began + seconds:
            await self._end_inspections()
            raw = await self.call("GET", f"{DEPLOYMENTS}/{name}")
            if (raw.get("status") or {}).get("plan"):
                return time.monotonic() - began
            await asyncio.sleep(0.05)
        raise AssertionError(f"no plan for {name} after {seconds} s")

    async def _end_inspections(self) -> None:
        state = {"terminated": {"exitCode": 0, "message": json.dumps(FACTS), "reason": "Completed"}}
        container = {"name": "inspect", "image": "w", "imageID": "", "ready": False, "restartCount": 0}
        status = {"phase": "Succeeded", "containerStatuses": [container | {"state": state}]}
        for pod in (await self.call("GET", PODS))["items"]:
            if pod.get("status", {}).get("phase", "Pending") == "Pending":
                path = f"{PODS}/{pod['metadata']['name']}/status"
                await self.call("PATCH", path, {"status": status}, "application/merge-patch+json")

    async def children(self, kind: str = "configmaps") -> list[str]:
        """Names of the objects that the operator made."""
        selector = "app.kubernetes.io/managed-by=layerwise-operator"
        path = f"/api/v1/namespaces/default/{kind}?labelSelector={selector}"
        return sorted(item["metadata"]["name"] for item in (await self.call("GET", path))["items"])


@dataclass
class Scene(User):
    """An operator that runs in this process, too."""

    operator: Operator
    stop: asyncio.Event
    tasks: list[asyncio.Task[None]]
    watching: asyncio.Task[None]


@contextlib.asynccontextmanager
async def outside(directory: Path) -> AsyncIterator[User]:
    """API server and seam, with what an operator needs, and a kubeconfig that leads through the seam."""
    api = ApiServer()
    await api.start()
    connector, timeout = aiohttp.TCPConnector(ssl=False, limit=0), aiohttp.ClientTimeout(total=None)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
        seam = Seam(api, session)
        await seam.open()
        found = User(seam)
        try:
            await _furnish(found)
            _kubeconfig(seam, directory)
            yield found
        finally:
            await seam.close()
            await api.stop()


@contextlib.asynccontextmanager
async def scene(
    directory: Path, *, resync_seconds: float = 1e9, only_watches: bool = False
) -> AsyncIterator[Scene]:
    """Everything in one loop: API server, seam, the real operator with kopf.

    Without lists by default: what is seen was told by a watch. With `only_watches`, the operator's own calls
    do not pass the seam.
    """
    async with outside(directory) as user:
        found = await _assemble(user.seam, directory, resync_seconds, only_watches=only_watches)
        try:
            await found.operator.resync()
            await found.until_planned(await found.create(), 20)
            yield found
            assert not found.watching.done(), "the watches have ended"
        finally:
            found.stop.set()
            for task in found.tasks:
                task.cancel()
            await asyncio.gather(found.watching, *found.tasks, return_exceptions=True)
            await found.operator.cluster.close()


async def _assemble(seam: Seam, directory: Path, resync_seconds: float, *, only_watches: bool) -> Scene:
    kubeconfig = direct = directory / "kubeconfig"
    if only_watches:
        direct = directory / "direct"
        direct.write_text(yaml.safe_dump(seam.api.kubeconfig()), encoding="utf-8")
    metrics, cache, stop = Metrics(), Cache(), asyncio.Event()
    clock = asyncio.get_running_loop().time
    settings = Settings("worker:test", kubeconfig=str(kubeconfig), resync_seconds=resync_seconds)
    cluster = await Cluster.connect(str(direct), metrics)
    converger = Converger(cache, cluster, Policy(settings.worker_image), metrics, lambda: datetime.now(UTC))
    operator = Operator(settings, cache, cluster, converger, metrics, Queue(clock), Pulse(clock))
    # Where kopf looks, too.
    os.environ["KUBECONFIG"] = str(kubeconfig)
    tasks = [asyncio.create_task(coroutine) for coroutine in operator.loops()]
    return Scene(seam, operator, stop, tasks, asyncio.create_task(watches.run_kopf(operator, stop)))


async def until_true(fulfilled: Callable[[], object], seconds: float) -> float:
    """Wait until it holds; how long that took."""
    began = time.monotonic()
    while True:
        if fulfilled():
            return time.monotonic() - began
        assert time.monotonic() < began + seconds, f"still not after {seconds} s"
        await asyncio.sleep(0.02)


def hurry(patch: pytest.MonkeyPatch) -> None:
    """Timeouts and pauses of the watches as many times shorter as a quick test needs."""
    real = watches.kopf_settings

    def settings() -> kopf.OperatorSettings:
        found = real()
        found.watching.inactivity_timeout = QUICK_SECONDS
        found.networking.error_backoffs = watches.Backoffs((0.1,), 0.2)
        return found

    patch.setattr(watches, "kopf_settings", settings)
    patch.setattr(watches, "Mending", functools.partial(streams.Mending, pacing=QUICK_PACING))


async def _furnish(found: User) -> None:
    for path in sorted((ROOT / "crds").glob("*.yaml")):
        definition = yaml.safe_load(path.read_text(encoding="utf-8"))
        await found.call("POST", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", definition)
    claim = {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "1Gi"}}}
    await found.call(
        "POST",
        "/api/v1/namespaces/default/persistentvolumeclaims",
        {"metadata": {"name": "models"}, "spec": claim},
    )
    await found.call(
        "POST", "/api/v1/nodes", {"metadata": {"name": "a", "labels": {"nvidia.com/gpu.product": H100}}}
    )
    merge = "application/merge-patch+json"
    room = {"cpu": "64", "nvidia.com/gpu": "8"}
    status = {"capacity": room, "allocatable": room, "conditions": [{"type": "Ready", "status": "True"}]}
    await found.call("PATCH", "/api/v1/nodes/a/status", {"status": status}, merge)
    await found.call("PATCH", "/api/v1/nodes/a", {"spec": {"taints": None}}, merge)


def _kubeconfig(seam: Seam, directory: Path) -> None:
    path = directory / "kubeconfig"
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "seam", "cluster": {"server": f"http://127.0.0.1:{seam.port}"}}],
        "users": [{"name": "seam", "user": {"token": "seam"}}],
        "contexts": [{"name": "seam", "context": {"cluster": "seam", "user": "seam"}}],
        "current-context": "seam",
    }
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
