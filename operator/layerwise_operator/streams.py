"""The connection that kopf watches through: what kopf would die of becomes what it lives with.

For kopf a stream or an answer that breaks is a reason to go on from the last version that it saw, and 410 in
a stream one to list anew. Other errors, and what is no event or no list, would end kopf and all its watches.
Here each becomes one of the two, for the one watch that it concerns. Kopf then tries again at once; the
growing pause before that is made here.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import kopf
from aiohttp.client_middlewares import ClientHandlerType

from layerwise_operator import watch_faults
from layerwise_operator.backoff import doubled
from layerwise_operator.manifests import names
from layerwise_operator.watch_faults import Fault

logger = logging.getLogger(__name__)

LIST_ANEW = b'{"type":"ERROR","object":{"kind":"Status","code":410,"reason":"Expired"}}\n'
OK = 200
UNAUTHORIZED = 401
# Going on from the same version is tried so often; then it may be the version that the server cannot serve.
ATTEMPTS_FROM_THE_SAME_VERSION = 2

Tell = Callable[[str, str], None]


@dataclass(frozen=True, slots=True)
class Pacing:
    """Seconds between attempts at what ends early: doubled each time, up to a bound.

    `longest` is less than the 30 s that kopf gives a list.
    """

    first: float = 0.5
    longest: float = 20.0
    healthy_after: float = 60.0

    def pause(self, num_in_a_row: int) -> float:
        """Before the next attempt, after so many in a row that ended early."""
        return doubled(self.first, num_in_a_row - 1, self.longest) if num_in_a_row > 0 else 0.0


@dataclass(slots=True)
class Watch:
    """All streams of one watch, and the lists before them, the one after the other."""

    resource: str
    pacing: Pacing
    tell: Tell
    num_in_a_row: int = 0

    async def events(self, content: aiohttp.StreamReader, size: int) -> AsyncIterator[bytes]:
        """The events of a stream as whole lines, until it ends or says what is no event; then a pause."""
        clock = asyncio.get_running_loop().time
        began, rest = clock(), b""
        fault: Fault | None = None
        try:
            async for chunk in content.iter_chunked(size):
                *lines, rest = (rest + chunk).split(b"\n")
                for line in filter(bytes.strip, lines):
                    fault = watch_faults.in_line(line)
                    if fault is not None:
                        break
                    yield line + b"\n"
                if fault is not None:
                    break
        except aiohttp.ClientError:
            await self._ended(clock() - began)
            raise
        fault = fault or watch_faults.cut_off(rest)
        if fault is None:
            await self._ended(clock() - began)
            return
        if clock() - began >= self.pacing.healthy_after:
            self.num_in_a_row = 0
        await self.pause(fault)
        if self.lists_anew(fault):
            yield LIST_ANEW

    def lists_anew(self, fault: Fault) -> bool:
        """Whether to list anew after a fault, instead of going on from the same version."""
        return fault.lists_anew or self.num_in_a_row > ATTEMPTS_FROM_THE_SAME_VERSION

    async def pause(self, fault: Fault) -> None:
        """Tell of a fault, and wait the longer, the more there were in a row."""
        self.num_in_a_row += 1
        asked = min(fault.retry_after_seconds, self.pacing.longest)
        seconds = max(self.pacing.pause(self.num_in_a_row), asked)
        self.tell(self.resource, fault.name)
        level = logging.INFO if fault.name == "Expired" else logging.WARNING
        logger.log(level, "watch of %s ended, again in %.1f s: %s", self.resource, seconds, fault.words)
        await asyncio.sleep(seconds)

    async def _ended(self, lived_seconds: float) -> None:
        """Servers end streams as they please: only the second early end in a row is worth a pause."""
        if lived_seconds >= self.pacing.healthy_after:
            self.num_in_a_row = 0
        await asyncio.sleep(self.pacing.pause(self.num_in_a_row))
        self.num_in_a_row += 1


@dataclass(slots=True)
class Events:
    """Stands in for the content of an answer: kopf reads a watch in chunks, and by nothing else."""

    content: aiohttp.StreamReader
    chunks: Callable[[int], AsyncIterator[bytes]]

    def iter_chunked(self, size: int) -> AsyncIterator[bytes]:
        """The events of the stream."""
        return self.chunks(size)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.content, name)


@dataclass(slots=True)
class Mending:
    """A middleware of a client session: mends lists and watches, and passes on everything else as it is."""

    tell: Tell
    pacing: Pacing = field(default_factory=Pacing)
    watches: dict[str, Watch] = field(default_factory=dict)

    async def __call__(
        self, request: aiohttp.ClientRequest, handler: ClientHandlerType
    ) -> aiohttp.ClientResponse:
        """Answer a request; raises aiohttp.ClientPayloadError, after a pause, where it is to be made anew."""
        response = await handler(request)
        watched, listed = "watch" in request.url.query, "limit" in request.url.query
        if response.status == UNAUTHORIZED or not (watched or listed):
            return response
        path = request.url.path
        if path not in self.watches:
            self.watches[path] = Watch(path.rpartition("/")[2], self.pacing, self.tell)
        return await (_streamed if watched else _listed)(response, self.watches[path])


async def _streamed(response: aiohttp.ClientResponse, watch: Watch) -> aiohttp.ClientResponse:
    content = response.content
    fault = await _refusal(response)
    if fault is None:
        return _reading(response, lambda size: watch.events(content, size))
    await watch.pause(fault)
    if not watch.lists_anew(fault):
        response.close()
        raise aiohttp.ClientPayloadError(fault.words)
    response.status = OK
    return _reading(response, lambda _: _once(LIST_ANEW))


async def _listed(response: aiohttp.ClientResponse, watch: Watch) -> aiohttp.ClientResponse:
    fault = await _refusal(response)
    if fault is None:
        try:
            fault = watch_faults.in_list(await response.read())
        except aiohttp.ClientPayloadError as error:
            fault = Fault("CutOff", f"the list broke: {error}")
    if fault is None and response.content_type != "application/json":
        fault = Fault("NotJson", f"a list of type {response.content_type}")
    if fault is not None:
        response.close()
        await watch.pause(fault)
        raise aiohttp.ClientPayloadError(fault.words)
    return response


async def _refusal(response: aiohttp.ClientResponse) -> Fault | None:
    if response.status == OK:
        return None
    try:
        words = watch_faults.shown(await response.content.read(watch_faults.NUM_BYTES_SHOWN))
    except aiohttp.ClientError as error:
        words = f"{type(error).__name__}"
    return watch_faults.in_status(response.status, words, response.headers)


def _reading(
    response: aiohttp.ClientResponse, chunks: Callable[[int], AsyncIterator[bytes]]
) -> aiohttp.ClientResponse:
    stand_in: Any = Events(response.content, chunks)
    response.content = stand_in
    return response


async def _once(data: bytes) -> AsyncIterator[bytes]:
    yield data


def session(connection: kopf.ConnectionInfo, mending: Mending) -> kopf.AiohttpSession:
    """A session with these credentials, as kopf would make it, through which watches are mended."""
    made = aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, ssl=connection.as_ssl_context()),
        headers={"User-Agent": names.MANAGER, **connection.as_http_headers()},
        proxy=connection.proxy_url,
        trust_env=connection.trust_env,
        middlewares=(mending,),
    )
    return kopf.AiohttpSession(
        server=connection.server,
        priority=connection.priority,
        default_namespace=connection.default_namespace,
        expiration=connection.expiration,
        aiohttp_session=made,
    )
