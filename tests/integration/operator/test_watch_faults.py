"""Watches that fall silent, break, err or lie, and an API server that is away: all is seen in the end."""

import asyncio
import itertools
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from aiohttp import web

from .watch_seam import Scene, Seam, Stream, hurry, scene

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

LIMIT = 40
REAL_LIMIT = 75
OUTAGE_SECONDS = 60

Fault = Callable[[Seam], Awaitable[None]]


def error(code: int, reason: str) -> dict[str, object]:
    """An error as the API server says it within a watch."""
    status = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure"}
    return {"type": "ERROR", "object": {**status, "code": code, "reason": reason, "message": reason}}


def answering(times: int, code: int, *, watch: bool, **headers: str) -> Fault:
    """All watches break, and the next requests of this kind have an error for an answer."""

    async def fault(seam: Seam) -> None:
        left = itertools.repeat(None, times)

        def answer(request: web.Request) -> web.Response | None:
            if request.method != "GET" or ("watch" in request.query) is not watch or next(left, 0) == 0:
                return None
            return web.json_response({"code": code, "reason": "a fault"}, status=code, headers=headers)

        seam.answer = answer
        if not watch:
            await seam.say(error(410, "Expired"))
        seam.drop()

    return fault


async def silent(seam: Seam) -> None:
    seam.silence()


async def dropped(seam: Seam) -> None:
    seam.drop()


async def doubled(seam: Seam) -> None:
    seam.line = lambda _, line: [line, line]


async def reordered(seam: Seam) -> None:
    """Every second event comes before the one before it."""

    def swap(stream: Stream, line: bytes) -> list[bytes]:
        stream.held.append(line)
        if len(stream.held) < 2:
            return []
        said, stream.held = stream.held[::-1], []
        return said

    seam.line = swap


async def stale(seam: Seam) -> None:
    """Every event comes again after the next one."""

    def repeat(stream: Stream, line: bytes) -> list[bytes]:
        said = [line, *stream.held]
        stream.held = [line]
        return said

    seam.line = repeat


async def away(seam: Seam) -> None:
    await seam.close()
    await asyncio.sleep(2)
    await seam.open()


FAULTS: dict[str, Fault] = {
    "silent": silent,
    "dropped": dropped,
    "doubled": doubled,
    "reordered": reordered,
    "stale": stale,
    "away": away,
    "error 410": lambda seam: seam.say(error(410, "Expired")),
    "list 429": answering(3, 429, watch=False, **{"Retry-After": "1"}),
    "list 500": answering(3, 500, watch=False),
    "watch 429": answering(3, 429, watch=True, **{"Retry-After": "1"}),
    "watch 500": answering(3, 500, watch=True),
    "watch 503": answering(3, 503, watch=True),
}


IN_CI = ("silent", "dropped", "doubled", "reordered", "error 410")


@pytest.fixture
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    hurry(monkeypatch)


@pytest.fixture(autouse=True)
def _kopf(monkeypatch: pytest.MonkeyPatch) -> None:
    """kopf looks for the kubeconfig in the environment, and reports each failed attempt as an error."""
    monkeypatch.setenv("KUBECONFIG", "")
    logging.getLogger("kopf").setLevel(logging.CRITICAL)


async def sees_all(found: Scene, names: list[str], limit: float) -> float:
    """Every new deployment has its plan in time; how long that took."""
    return sum([await found.until_planned(name, limit) for name in names])


async def assert_nothing_twice(found: Scene, names: list[str]) -> None:
    """One description of its model for each deployment, and no pod is left."""
    models = [name.split("-model-")[0] for name in await found.children() if "-model-" in name]
    assert sorted(models) == sorted(names)


@pytest.mark.usefixtures("_quick")
@pytest.mark.parametrize(
    "faults",
    [pytest.param(IN_CI, id="a few"), pytest.param(tuple(FAULTS), id="all", marks=pytest.mark.chaos)],
)
async def test_one_operator_lives_through_the_faults_of_its_watches(
    faults: tuple[str, ...], tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    made = ["d1"]
    async with scene(tmp_path, only_watches=True) as found:
        for name in faults:
            await FAULTS[name](found.seam)
            new = [await found.create() for _ in range(3)]
            await sees_all(found, new, LIMIT)
            found.seam.mend()
            made += new
        await assert_nothing_twice(found, made)
    record_property("cases", len(faults))


@pytest.mark.chaos
@pytest.mark.timeout(240)
@pytest.mark.parametrize("resync_seconds", [60.0, 1e9], ids=["as shipped", "by the watches alone"])
async def test_a_silent_watch_is_found_out_within_75_seconds(
    resync_seconds: float, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    async with scene(tmp_path, resync_seconds=resync_seconds) as found:
        found.seam.silence()
        took = await sees_all(found, [await found.create()], REAL_LIMIT)
    record_property("seconds", round(took, 1))


@pytest.mark.chaos
@pytest.mark.timeout(240)
async def test_an_outage_of_a_minute_is_survived(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    async with scene(tmp_path, resync_seconds=60.0) as found:
        await found.seam.close()
        names = ["d1", *[await found.create() for _ in range(3)]]
        await asyncio.sleep(OUTAGE_SECONDS)
        assert not found.watching.done()
        await found.seam.open()
        took = await sees_all(found, names, REAL_LIMIT)
        await assert_nothing_twice(found, names)
    record_property("seconds", round(took, 1))
