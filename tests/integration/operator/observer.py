"""A client of the API that knows nothing of the operator: what Ready said, beside what the pods were."""

import base64
import contextlib
import itertools
import ssl
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import yaml

PERIOD_SECONDS = 0.1
LWD = "/apis/layerwise.dev/v1alpha1/namespaces/default/layerwisedeployments"
PODS = "/api/v1/namespaces/default/pods"


@dataclass(frozen=True, slots=True)
class Sample:
    """One look: the condition first, then the pods, so that these are never older."""

    moment: float
    ready: bool
    all_stages_ready: bool


@dataclass
class Observer:
    """Looks about ten times a second, from a thread and over connections of its own."""

    kubeconfig: Path
    name: str
    num_stages: int
    samples: list[Sample] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    @contextlib.contextmanager
    def watching(self) -> Iterator["Observer"]:
        """Look as long as the block lasts."""
        over = threading.Event()
        thread = threading.Thread(target=self._look_until, args=(over,))
        thread.start()
        try:
            yield self
        finally:
            over.set()
            thread.join(timeout=30)
        assert self.errors == []

    def _look_until(self, over: threading.Event) -> None:
        try:
            with self._client() as client:
                while not over.wait(PERIOD_SECONDS):
                    self.samples.append(self._look(client))
        except Exception as error:
            self.errors.append(repr(error))
            raise

    def _client(self) -> httpx.Client:
        config = yaml.safe_load(self.kubeconfig.read_text(encoding="utf-8"))
        cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
        authority = base64.b64decode(cluster["certificate-authority-data"]).decode()
        return httpx.Client(
            base_url=cluster["server"],
            headers={"Authorization": f"Bearer {user['token']}"},
            verify=ssl.create_default_context(cadata=authority),
        )

    def _look(self, client: httpx.Client) -> Sample:
        moment = time.monotonic()
        deployment = client.get(f"{LWD}/{self.name}").raise_for_status().json()
        selector = f"layerwise.dev/deployment={self.name},app.kubernetes.io/component=worker"
        pods = client.get(PODS, params={"labelSelector": selector}).raise_for_status().json()["items"]
        ready = sum(_is_ready(pod) for pod in pods)
        return Sample(moment, _condition(deployment, "Ready"), ready == self.num_stages)

    def longest_lie(self) -> float:
        """For how many seconds on end Ready was True while a stage's pod was not ready, or not there."""
        longest, since = 0.0, None
        for sample in self.samples:
            if not (sample.ready and not sample.all_stages_ready):
                since = None
                continue
            since = sample.moment if since is None else since
            longest = max(longest, sample.moment - since)
        return longest

    def seconds_until_not_ready(self, fault: float) -> float | None:
        """From a moment until Ready was first seen not to be True; None: never."""
        return next(
            (one.moment - fault for one in self.samples if one.moment >= fault and not one.ready), None
        )

    def has_noticed(self, fault: float) -> bool:
        """Whether Ready has ceased to be True since a moment."""
        return self.seconds_until_not_ready(fault) is not None

    def seconds_until_lost(self, fault: float) -> float | None:
        """From a moment until a stage's pod was first seen not to be ready; None: never."""
        return next(
            (one.moment - fault for one in self.samples if one.moment >= fault and not one.all_stages_ready),
            None,
        )

    def longest_gap(self) -> float:
        """Between two looks: what was not seen at all."""
        moments = [sample.moment for sample in self.samples]
        return max((later - earlier for earlier, later in itertools.pairwise(moments)), default=0.0)


def _condition(raw: dict[str, Any], type_: str) -> bool:
    conditions = (raw.get("status") or {}).get("conditions") or ()
    return any(one["type"] == type_ and one["status"] == "True" for one in conditions)


def _is_ready(pod: dict[str, Any]) -> bool:
    return "deletionTimestamp" not in pod["metadata"] and _condition(pod, "Ready")
