"""Answers that kopf gives up at: the operator's process begins its watches anew and goes on."""

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from aiohttp import web

from layerwise_operator.handlers import WATCHED

from .watch_seam import ROOT, User, outside, until_true

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

LIMIT = 75
EVERYTHING = {kind.plural for kind in WATCHED}
Answer = Callable[[web.Request], web.Response | None]


def status(code: int, reason: str) -> Callable[[], web.Response]:
    """An answer as the API server says no."""
    body = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason}
    return lambda: web.json_response(body, status=code)


def page() -> web.Response:
    """What a proxy says with a good conscience."""
    return web.Response(body=b"<html>welcome</html>", content_type="text/html")


def half() -> web.Response:
    return web.Response(body=b'{"items": [{"meta', content_type="application/json")


def to_watches(answer: Callable[[], web.Response]) -> Answer:
    """For the requests of kopf's watches, not for the operator's own lists."""
    return lambda request: answer() if "watch" in request.query else None


def to_all(answer: Callable[[], web.Response]) -> Answer:
    return lambda _: answer()


FORMS: dict[str, Answer] = {
    "watch 404": to_watches(status(404, "NotFound")),
    "watch 410": to_watches(status(410, "Expired")),
    "watch 400": to_watches(status(400, "BadRequest")),
    "watch 422": to_watches(status(422, "Invalid")),
    "watch 429 until a date": to_watches(
        lambda: web.Response(status=429, headers={"Retry-After": "Wed, 21 Oct 2026 07:28:00 GMT"})
    ),
    "all 401": to_all(status(401, "Unauthorized")),
    "all a page": to_all(page),
    "all half an answer": to_all(half),
}
IN_CI = ("watch 404", "all 401", "all a page")


@contextlib.asynccontextmanager
async def running(log: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    """The operator as a process whose every request goes through the seam."""
    environment = {
        **os.environ,
        "KUBECONFIG": str(log.parent / "kubeconfig"),
        "LAYERWISE_WORKER_IMAGE": "worker:test",
        "LAYERWISE_PROBE_HOST": "127.0.0.1",
        "LAYERWISE_PROBE_PORT": "0",
    }
    with log.open("ab") as stream:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "layerwise_operator", env=environment, stderr=stream, cwd=ROOT
        )
    try:
        yield process
        assert process.returncode is None, said(log)
        process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(process.wait(), 20) == 0, said(log)
        assert "Traceback" not in said(log)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def said(log: Path) -> str:
    """What the operator has logged."""
    return log.read_text(encoding="utf-8")


async def until_watched(found: User, limit: float) -> float:
    """Wait until every watch is open; how long that took."""
    return await until_true(lambda: {one.resource for one in found.seam.streams} >= EVERYTHING, limit)


@pytest.mark.parametrize(
    "forms",
    [pytest.param(IN_CI, id="a few"), pytest.param(tuple(FORMS), id="all", marks=pytest.mark.chaos)],
)
async def test_the_process_outlives_answers_that_end_the_watches(
    forms: tuple[str, ...], tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    longest = 0.0
    async with outside(tmp_path) as found, running(tmp_path / "log"):
        await found.until_planned(await found.create(), 30)
        for form in forms:
            await until_watched(found, LIMIT)
            found.seam.answer = FORMS[form]
            found.seam.drop()
            found.seam.calls.clear()
            await asyncio.sleep(3)
            calls = found.seam.calls.copy()
            found.seam.mend()
            began = time.monotonic()
            await found.until_planned(await found.create(), LIMIT)
            await until_watched(found, LIMIT)
            longest = max(longest, time.monotonic() - began)
            assert calls["watch pods"] <= 6, f"{form}: {calls}"
    record_property("cases", len(forms))
    record_property("longest_seconds", round(longest, 1))


async def test_where_no_watch_ever_holds_lists_do(tmp_path: Path) -> None:
    async with outside(tmp_path) as found:
        found.seam.answer = FORMS["watch 400"]
        async with running(tmp_path / "log"):
            await found.until_planned(await found.create(), LIMIT)
            await found.until_planned(await found.create(), LIMIT)
