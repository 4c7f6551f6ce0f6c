"""What is an event, what is a list, and how the pauses between attempts grow."""

import asyncio
import json
from collections.abc import AsyncIterator

import aiohttp
import pytest

from layerwise_operator import streams, watch_faults
from layerwise_operator.streams import LIST_ANEW, Pacing, Watch

EVENT = b'{"type":"ADDED","object":{"metadata":{"name":"a"}}}'
BOOKMARK = b'{"type":"BOOKMARK","object":{"metadata":{"resourceVersion":"5"}}}'


def error(**status: object) -> bytes:
    return json.dumps({"type": "ERROR", "object": status}).encode()


@pytest.mark.parametrize(
    ("line", "name", "lists_anew"),
    [
        (error(code=410), "Expired", True),
        (error(code=500), "ServerError", False),
        (error(code=504), "ServerError", False),
        (error(code=429), "TooManyRequests", False),
        (error(code=403), "Error", True),
        (error(code="500"), "Error", True),
        (error(), "Error", True),
        (b'{"type":"ERROR","object":null}', "NotAnEvent", False),
        (b'{"type":"ADDED","object":{"metadata":{"name":5}}}', "NotAnEvent", False),
        (b"[1]", "NotAnEvent", False),
        (b"\xff", "NotJson", False),
        (EVENT[:-1], "NotJson", False),
    ],
)
def test_what_is_no_event_has_a_name_and_a_way_to_go_on(line: bytes, name: str, *, lists_anew: bool) -> None:
    fault = watch_faults.in_line(line)
    assert fault is not None
    assert (fault.name, fault.lists_anew) == (name, lists_anew)


@pytest.mark.parametrize(
    "line", [EVENT, BOOKMARK, b'{"type":"OF TOMORROW","object":{"metadata":{"name":"a"}}}']
)
def test_an_event_is_none_of_a_type_of_tomorrow_either(line: bytes) -> None:
    assert watch_faults.in_line(line) is None


@pytest.mark.parametrize(
    ("body", "name"),
    [
        (b'{"items":[],"metadata":{"resourceVersion":"5"}}', None),
        (b'{"items":[{"metadata":{"name":"a"}}],"metadata":{"resourceVersion":"5"}}', None),
        (b'{"items":[{}],"metadata":{"resourceVersion":"5"}}', "NotAList"),
        (b'{"items":[],"metadata":{}}', "NotAList"),
        (b'{"items":null,"metadata":{"resourceVersion":"5"}}', "NotAList"),
        (b"[]", "NotAList"),
        (b"<html>", "NotJson"),
    ],
)
def test_a_list_has_items_and_a_version(body: bytes, name: str | None) -> None:
    fault = watch_faults.in_list(body)
    assert (fault.name if fault else None) == name


@pytest.mark.parametrize(
    ("header", "seconds"), [("7", 7.0), ("Wed, 21 Oct 2026 07:28:00 GMT", 0.0), ("", 0.0)]
)
def test_retry_after_counts_where_it_is_a_number(header: str, seconds: float) -> None:
    fault = watch_faults.in_status(429, "", {"Retry-After": header})
    assert fault is not None
    assert fault.retry_after_seconds == seconds
    assert watch_faults.in_status(200, "", {}) is None


def test_pauses_double_up_to_their_bound() -> None:
    pacing = Pacing()
    assert [pacing.pause(number) for number in range(8)] == [0, 0.5, 1, 2, 4, 8, 16, 20]
    assert pacing.pause(10_000) == 20


class Content:
    """Chunks, and perhaps an error in the end."""

    def __init__(self, *chunks: bytes, error: Exception | None = None) -> None:
        self.chunks, self.error = chunks, error

    async def iter_chunked(self, _: int) -> AsyncIterator[bytes]:
        for chunk in self.chunks:
            yield chunk
        if self.error is not None:
            raise self.error


@pytest.fixture
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses that are made, without waiting."""
    found: list[float] = []

    async def sleep(seconds: float) -> None:
        found.append(seconds)

    monkeypatch.setattr(streams.asyncio, "sleep", sleep)
    return found


def watch(told: list[str] | None = None) -> Watch:
    return Watch("pods", Pacing(), lambda _, fault: (told if told is not None else []).append(fault))


async def said(found: Watch, content: Content) -> list[bytes]:
    return [line async for line in found.events(content, 1024)]  # type: ignore[arg-type]  # read in chunks only


@pytest.mark.parametrize("size", [1, 7, 1000])
async def test_lines_stay_whole_however_they_are_cut(size: int, slept: list[float]) -> None:
    data = b"\n" + EVENT + b"\n\n \r\n" + BOOKMARK + b"\n"
    chunks = [data[i : i + size] for i in range(0, len(data), size)]
    assert await said(watch(), Content(*chunks)) == [EVENT + b"\n", BOOKMARK + b"\n"]
    assert slept == [0]


async def test_half_a_line_is_told_and_not_passed_on(slept: list[float]) -> None:
    told: list[str] = []
    assert await said(watch(told), Content(EVENT + b"\n" + EVENT[:20])) == [EVENT + b"\n"]
    assert told == ["CutOff"]
    assert slept == [0.5]


async def test_inner_errors_go_on_twice_from_the_same_version_and_then_list_anew(slept: list[float]) -> None:
    found = watch()
    lines = [await said(found, Content(EVENT + b"\n" + error(code=500) + b"\n" + EVENT)) for _ in range(3)]
    assert lines == [[EVENT + b"\n"], [EVENT + b"\n"], [EVENT + b"\n", LIST_ANEW]]
    assert slept == [0.5, 1, 2]


async def test_the_server_may_ask_for_a_longer_pause_within_bounds(slept: list[float]) -> None:
    for seconds in (7, 10_000):
        status = error(code=429, details={"retryAfterSeconds": seconds})
        await said(watch(), Content(status + b"\n"))
    assert slept == [7, 20]


async def test_streams_that_break_one_after_the_other_are_opened_ever_more_slowly(slept: list[float]) -> None:
    found = watch()
    for _ in range(3):
        with pytest.raises(aiohttp.ClientPayloadError):
            await said(found, Content(EVENT + b"\n", error=aiohttp.ClientPayloadError()))
    assert slept == [0, 0.5, 1]


async def test_a_stream_that_lived_begins_the_count_anew(
    slept: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = watch()
    for _ in range(4):
        await said(found, Content())
    moments = iter((0.0, 61.0, 61.0))
    monkeypatch.setattr(asyncio.get_running_loop(), "time", lambda: next(moments, 100.0))
    await said(found, Content(error(code=410) + b"\n"))
    assert slept == [0, 0.5, 1, 2, 0.5]
