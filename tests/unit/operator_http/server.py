"""The world of dicts behind real HTTP, with faults on demand: what `Cluster` talks to in tests."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from aiohttp import web
from tests.unit.operator_world.world import Raw, World

from layerwise_operator.kinds import BY_NAME, DEPLOYMENT, Kind
from layerwise_operator.observed import Key

BY_PLURAL = {kind.plural: kind for kind in BY_NAME.values()}
# What a fault does with a request: an answer in place of the real one, or None to let it pass.
Fault = Callable[[str, str], web.Response | None]


@dataclass
class Server:
    """Requests as (verb, group, resource), in the order in which they came."""

    world: World
    requests: list[tuple[str, str, str]] = field(default_factory=list)
    fault: Fault = field(default=lambda *_: None)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """One request."""
        kind, key, subresource = locate(request.path)
        verb = verb_of(request.method, key)
        if kind is not None:
            resource = f"{kind.plural}/{subresource}" if subresource else kind.plural
            self.requests.append((verb, kind.group, resource))
        broken = self.fault(verb, request.path)
        if broken is not None:
            return broken
        if kind is None:
            found = [{"name": found.plural} for found in BY_PLURAL.values()]
            return web.json_response({"resources": found})
        body = json.loads(await request.text() or "null")
        return self.answer(verb, kind, key, body)

    def answer(self, verb: str, kind: Kind, key: Key, body: Any) -> web.Response:
        """What the API server would say, without watches."""
        identity = (kind.kind, key.namespace if kind.namespaced else "", key.name)
        if verb == "list":
            items = [
                {name: part for name, part in raw.items() if name not in ("kind", "apiVersion")}
                for raw in self.world.all(kind.kind)
            ]
            version = str(next(self.world.counter))
            return web.json_response({"items": items, "metadata": {"resourceVersion": version}})
        if verb == "create":
            return web.json_response(body, status=201)
        found = self.world.objects.get(identity)
        if kind.plural == "persistentvolumeclaims":
            found = {} if key.name in self.world.claims else None
        if verb == "patch":
            return self._patch(kind, key, found, body)
        if found is None:
            return status(404, "NotFound")
        return self._delete(kind, found, body) if verb == "delete" else web.json_response(found)

    def _delete(self, kind: Kind, found: Raw, options: Raw) -> web.Response:
        if found["metadata"]["uid"] != options["preconditions"]["uid"]:
            return status(409, "Conflict")
        self.world.remove(kind.kind, found["metadata"]["name"])
        return web.json_response(found)

    def _patch(self, kind: Kind, key: Key, found: Raw | None, body: Raw) -> web.Response:
        if found is not None and body["metadata"].get("resourceVersion"):
            return status(409, "Conflict")
        if kind is not DEPLOYMENT:
            self.world.writes.append(f"apply {kind.kind} {key.name}")
            return web.json_response(self.world.put(body))
        if found is None or found["metadata"]["uid"] != body["metadata"]["uid"]:
            return status(404 if found is None else 409, "Conflict")
        self.world.writes.append(f"status {key.name}")
        found["status"] = body["status"]
        self.world.touch(found)
        return web.json_response(found)


def locate(path: str) -> tuple[Kind | None, Key, str]:
    """Which resource, which object and which subresource a path means."""
    parts = path.strip("/").split("/")
    parts = parts[2:] if parts[0] == "api" else parts[3:]
    namespace = ""
    if len(parts) > 1 and parts[0] == "namespaces":
        namespace, parts = parts[1], parts[2:]
    if not parts:
        return None, Key("", ""), ""
    name, subresource = [*parts[1:], "", ""][:2]
    return BY_PLURAL.get(parts[0]), Key(namespace, name), subresource


def verb_of(method: str, key: Key) -> str:
    """The verb of RBAC."""
    if method == "GET":
        return "get" if key.name else "list"
    return {"POST": "create", "PATCH": "patch", "DELETE": "delete"}[method]


def status(code: int, reason: str, message: str = "a fault", **headers: str) -> web.Response:
    """An error as the API server words it."""
    return web.json_response({"reason": reason, "message": message}, status=code, headers=headers)


@contextlib.asynccontextmanager
async def serving(server: Server, directory: Path) -> AsyncIterator[str]:
    """The server on a free port; yields the path of a kubeconfig for it."""
    app = web.Application()

    async def handle(request: web.Request) -> web.StreamResponse:
        """Tests may put another one in its place meanwhile."""
        return await server.handle(request)

    app.router.add_route("*", "/{tail:.*}", handle)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "test", "cluster": {"server": f"http://127.0.0.1:{port}"}}],
        "users": [{"name": "test", "user": {"token": "test"}}],
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
        "current-context": "test",
    }
    path = directory / "kubeconfig"
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    try:
        yield str(path)
    finally:
        await runner.cleanup()
        await asyncio.sleep(0)
