"""Watch streams that say what is no event: one watch is mended, the others and the process go on."""

import asyncio
import functools
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from layerwise_operator import streams, watches
from layerwise_operator.handlers import WATCHED
from layerwise_operator.kinds import PROFILE, Kind
from layerwise_operator.manifests import names

from .watch_seam import QUICK_PACING, ROOT, Scene, hurry, scene, until_true

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

# The promise is 75 s with the pauses as shipped; these are 50 times shorter, the rest is for busy cores.
LIMIT = 20
REAL_LIMIT = 75
Json = dict[str, Any]


def said(**status: object) -> bytes:
    """An error as the API server says it within a watch."""
    object_ = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", **status}
    return json.dumps({"type": "ERROR", "object": object_}).encode() + b"\n"


EVENT = b'{"type":"ADDED","object":{"kind":"Pod","metadata":{"name":"half","uid":"1"}}}\n'
FORMS: dict[str, bytes] = {
    "500": said(code=500, reason="InternalError", message="etcd: no leader"),
    "503": said(code=503, reason="ServiceUnavailable", message="later"),
    "429": said(code=429, reason="TooManyRequests", message="later", details={"retryAfterSeconds": 1}),
    "410": said(code=410, reason="Expired", message="too old"),
    "403": said(code=403, reason="Forbidden", message="no more"),
    "unknown status": said(code=799, reason="Strange"),
    "status without a code": said(reason="Strange"),
    "error without a status": b'{"type":"ERROR"}\n',
    "error with a text": b'{"type":"ERROR","object":"broken"}\n',
    "half a line": EVENT[:40],
    "a line without its end": EVENT[:-1],
    "empty lines": b"\n\n \r\n\n",
    "garbage": b"<html>502 Bad Gateway</html>\n",
    "no text": b"\xff\xfe\x00\x80\n",
    "a list": b"[]\n",
    "a number": b"5\n",
    "an object that is no event": b"{}\n",
    "an event without an object": b'{"type":"ADDED"}\n',
    "an event without a name": b'{"type":"ADDED","object":{"metadata":{}}}\n',
    "nothing": b"",
}
IN_CI = ("500", "429", "unknown status", "half a line", "empty lines", "garbage")


@pytest.fixture(autouse=True)
def _kopf(monkeypatch: pytest.MonkeyPatch) -> None:
    """kopf looks for the kubeconfig in the environment."""
    monkeypatch.setenv("KUBECONFIG", "")
    logging.getLogger("kopf").setLevel(logging.CRITICAL)


async def served(found: Scene, limit: float) -> float:
    """A new deployment gets its plan, which takes events of three kinds."""
    took = await found.until_planned(await found.create(), limit)
    assert not found.watching.done(), "the watches have ended"
    return took


@pytest.mark.parametrize(
    "forms",
    [pytest.param(IN_CI, id="a few"), pytest.param(tuple(FORMS), id="all", marks=pytest.mark.chaos)],
)
async def test_a_stream_that_says_what_is_no_event_is_begun_anew(
    forms: tuple[str, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    record_property: Callable[[str, object], None],
) -> None:
    hurry(monkeypatch)
    async with scene(tmp_path, only_watches=True) as found:
        for form in forms:
            await found.seam.end_with(FORMS[form])
            await served(found, LIMIT)
    record_property("cases", len(forms))


@pytest.mark.parametrize(
    "forms",
    [
        pytest.param(("500",), id="one"),
        pytest.param(tuple(FORMS), id="all", marks=pytest.mark.chaos),
    ],
)
async def test_a_watch_that_breaks_again_and_again_is_not_asked_without_pause(
    forms: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hurry(monkeypatch)
    seconds = 1.5
    # From one pause to the next, the first ones being shorter; kopf tells of a silent stream as often.
    bound = 4 + seconds / QUICK_PACING.longest
    async with scene(tmp_path, only_watches=True) as found:
        for form in forms:
            found.seam.greeting = lambda _, form=form: FORMS[form]  # type: ignore[misc]  # bound at once
            found.seam.drop()
            found.seam.calls.clear()
            await asyncio.sleep(seconds)
            calls = dict(found.seam.calls)
            found.seam.mend()
            assert set(calls) >= {f"watch {kind.plural}" for kind in WATCHED}
            assert {call: count for call, count in calls.items() if count > bound} == {}, form
            await served(found, LIMIT)


@pytest.mark.chaos
@pytest.mark.parametrize("form", ["500", "429", "410", "garbage", "half a line"])
async def test_with_the_pauses_as_shipped_it_recovers_within_75_seconds(
    form: str, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """After half a minute in which no watch says anything else."""
    async with scene(tmp_path, only_watches=True) as found:
        found.seam.greeting = lambda _: FORMS[form]
        found.seam.drop()
        found.seam.calls.clear()
        await asyncio.sleep(30)
        calls = {call: count for call, count in found.seam.calls.items() if call.startswith("watch")}
        found.seam.mend()
        took = await served(found, REAL_LIMIT)
    # 0.5 + 1 + 2 + 4 + 8 + 16 s lie between them, and the first may come at once.
    assert max(calls.values()) <= 8, calls
    record_property("seconds", round(took, 1))
    record_property("watch_calls", max(calls.values()))


def touched(kind: Kind) -> Json:
    """Some object of a kind that the operator watches."""
    if kind is PROFILE:
        return dict(yaml.safe_load((ROOT / "examples" / "accelerator-profile.yaml").read_text("utf-8")))
    labels = {"app.kubernetes.io/managed-by": names.MANAGER}
    container = {"name": "c", "image": "i"}
    selector = {"selector": {"matchLabels": labels}}
    specs: dict[str, Json] = {
        "LayerwiseDeployment": {"planOnly": True, "model": {"volume": {"claimName": "none"}}},
        "Service": {"ports": [{"port": 80}]},
        "NetworkPolicy": {"podSelector": {}},
        "PodDisruptionBudget": {"minAvailable": 1, **selector},
        "StatefulSet": {
            **selector,
            "serviceName": "touch",
            "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}},
        },
        "Pod": {"containers": [container]},
    }
    return {
        "apiVersion": kind.api_version,
        "kind": kind.kind,
        "metadata": {"name": "touch", "labels": labels},
        **({"spec": specs[kind.kind]} if kind.kind in specs else {}),
    }


def heard(found: Scene, kind: Kind, more_than: float = 0.0) -> float:
    """How many more events of a kind the operator has taken in."""
    metric, labels = "layerwise_operator_watch_events_total", {"resource": kind.plural}
    return max(0.0, (found.operator.metrics.registry.get_sample_value(metric, labels) or 0.0) - more_than)


async def test_of_each_kind_alone_the_watch_is_mended_and_the_others_are_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watches, "Mending", functools.partial(streams.Mending, pacing=QUICK_PACING))
    async with scene(tmp_path, only_watches=True) as found:
        for kind in WATCHED:
            found.seam.calls.clear()
            await found.seam.end_with(FORMS["500"], kind.plural)
            before = heard(found, kind)
            await found.call("POST", kind.path("default"), touched(kind))
            await until_true(functools.partial(heard, found, kind, before), LIMIT)
            assert dict(found.seam.calls) == {f"watch {kind.plural}": 1}
