"""From `kubectl apply` to measured tokens, through a killed stage, to nothing left."""

import contextlib
import copy
import json
import os
import re
import subprocess
import threading
from collections.abc import Callable, Iterator

import httpx
import pytest
from tests.e2e.clusters.cluster import Cluster, Json

from layerwise_cli.tools import kubectl

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(300), pytest.mark.xdist_group("e2e")]

Apply = Callable[[Json], Cluster]
Until = Callable[..., float]
OF_SMOLLM2 = "layerwise.dev/deployment=smollm2"
KINDS = "statefulset,service,configmap,pod,networkpolicy,poddisruptionbudget,endpointslice"


def is_ready(cluster: Cluster, name: str = "smollm2") -> bool:
    return cluster.condition(name, "Ready").get("status") == "True"


def complete(cluster: Cluster, **parameters: object) -> Json:
    body = {"model": "smollm2", "prompt": "The capital of France is", "max_tokens": 16, "temperature": 0}
    path = cluster.service("smollm2:8000", "/v1/completions")
    answer = cluster.run("kubectl", "create", "--raw", path, "-f", "-", stdin=json.dumps(body | parameters))
    return dict(json.loads(answer))


@contextlib.contextmanager
def proxied(cluster: Cluster) -> Iterator[str]:
    """`kubectl proxy` and its address."""
    process = subprocess.Popen(
        [str(kubectl()), "proxy", "--port=0"],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | cluster.environment,
    )
    try:
        assert process.stdout is not None
        address = re.search(r"127\.0\.0\.1:\d+", process.stdout.readline())
        assert address is not None
        yield f"http://{address.group()}"
    finally:
        process.terminate()
        process.wait()
        if process.stdout:
            process.stdout.close()


def test_apply_serves_and_measures(deployed: Apply, example: Json, until: Until) -> None:
    cluster = deployed(example)
    cluster.run("kubectl", "wait", "--for=condition=Ready", "lwd/smollm2", "--timeout=120s")
    answer = complete(cluster)
    assert "Paris" in answer["choices"][0]["text"]
    assert answer["usage"]["completion_tokens"] == 16

    def stages_are_measured() -> bool:
        """Ranks tell once a second how long they computed, so that this may come after the first figures."""
        performance = cluster.get("lwd", "smollm2")["status"].get("performance") or {}
        return bool(performance.get("perStageMilliseconds"))

    until(stages_are_measured, seconds=30, what="measured")
    status = cluster.get("lwd", "smollm2")["status"]
    performance = status["performance"]
    assert performance["samples"] == 1
    tokens_per_second = float(performance["tokensPerSecond"])
    assert tokens_per_second * float(performance["windowSeconds"]) == pytest.approx(16, rel=0.05)
    assert float(performance["systemTimePerTokenMilliseconds"]) == pytest.approx(
        1000 / tokens_per_second, rel=0.01
    )
    assert [stage["index"] for stage in performance["perStageMilliseconds"]] == [0, 1, 2]
    assert status["transport"]["kind"] == "Gloo"
    assert status["stages"] == "3/3"
    assert len(status["plan"]["stages"]) == 3
    assert status["plan"]["stages"][0]["hasEmbedding"]
    assert status["plan"]["stages"][-1]["hasHead"]

    header, row = cluster.run("kubectl", "get", "lwd", "smollm2").splitlines()
    assert header.split() == [
        "NAME", "READY", "MODE", "STRATEGY", "MODEL", "TPS", "TPOT", "PHASE", "AGE",
    ]  # fmt: skip
    assert "3/3" in row
    assert "LayerWise" in row
    assert "Running" in row
    described = cluster.run("kubectl", "describe", "lwd", "smollm2")
    assert "Verdict" in described


def test_a_killed_stage_is_replaced_while_a_completion_streams(
    deployed: Apply, example: Json, until: Until, record_property: Callable[[str, object], None]
) -> None:
    cluster = deployed(example)
    until(lambda: is_ready(cluster), seconds=120, what="ready")
    restarts = cluster.get("lwd", "smollm2")["status"].get("groupRestarts", 0)
    streamed, lines = threading.Event(), list[str]()

    def stream(address: str) -> None:
        url = f"{address}{cluster.service('smollm2:8000', '/v1/completions')}"
        body = {"model": "smollm2", "prompt": "Once upon a time", "max_tokens": 120, "temperature": 0}
        with httpx.stream("POST", url, json=body | {"stream": True}, timeout=60) as response:
            for line in response.iter_lines():
                lines.append(line)
                if line.startswith("data:"):
                    streamed.set()

    with proxied(cluster) as address:
        reader = threading.Thread(target=stream, args=(address,))
        reader.start()
        assert streamed.wait(timeout=30)
        cluster.kill_stage("smollm2-0-1")
        noticed = until(lambda: not is_ready(cluster), seconds=10, what="Ready went False")
        recovered = until(lambda: is_ready(cluster), seconds=60, what="Ready came back")
        reader.join(timeout=90)
    assert not reader.is_alive()
    assert lines[-2:] == ["data: [DONE]", ""] or lines[-1] == "data: [DONE]", (
        "the stream saw a pause, not an error"
    )
    told = "".join(json.loads(line[5:])["choices"][0]["text"] for line in lines if line.startswith("data: {"))
    assert told == complete(cluster, prompt="Once upon a time", max_tokens=120)["choices"][0]["text"]
    assert "Paris" in complete(cluster)["choices"][0]["text"]
    until(
        lambda: cluster.get("lwd", "smollm2")["status"].get("groupRestarts", 0) > restarts,
        seconds=15,
        what="the restart is counted",
    )
    record_property("noticed_seconds", round(noticed, 1))
    record_property("serving_again_seconds", round(noticed + recovered, 1))


def test_deleting_leaves_nothing_behind(deployed: Apply, example: Json, until: Until) -> None:
    cluster = deployed(example)
    until(lambda: len(cluster.names("pod", OF_SMOLLM2)) >= 3, seconds=60, what="pods exist")
    cluster.run("kubectl", "delete", "lwd", "smollm2", "--timeout=60s")
    until(lambda: not cluster.names(KINDS, OF_SMOLLM2), seconds=60, what="all children are gone")
    until(lambda: not cluster.processes_of("smollm2-0-1"), seconds=15, what="no process is left")


def test_deleting_works_while_the_operator_is_stopped(deployed: Apply, example: Json, until: Until) -> None:
    cluster = deployed(example)
    until(lambda: len(cluster.names("pod", OF_SMOLLM2)) >= 3, seconds=60, what="pods exist")
    cluster.keep_operator_log()
    cluster.run("kubectl", "scale", "-n", cluster.system, cluster.operator, "--replicas=0")
    try:
        of_operator = ("pod", "-n", cluster.system, "-l", "app.kubernetes.io/name=layerwise", "-o", "name")
        until(lambda: not cluster.run("kubectl", "get", *of_operator).split(), seconds=40, what="no operator")
        cluster.run("kubectl", "delete", "lwd", "smollm2", "--timeout=60s")
        until(lambda: not cluster.names(KINDS, OF_SMOLLM2), seconds=60, what="all children are gone")
    finally:
        cluster.run("kubectl", "scale", "-n", cluster.system, cluster.operator, "--replicas=1")
        cluster.run("kubectl", "rollout", "status", "-n", cluster.system, cluster.operator, "--timeout=60s")


def test_suspending_removes_the_pods_and_resuming_brings_them_back(
    deployed: Apply, example: Json, until: Until
) -> None:
    cluster = deployed(example)
    until(lambda: is_ready(cluster), seconds=120, what="ready")
    suspended = copy.deepcopy(example)
    suspended["spec"]["suspend"] = True
    cluster.apply(suspended)
    until(lambda: not cluster.names("pod", OF_SMOLLM2), seconds=60, what="no pod is left")
    assert cluster.get("lwd", "smollm2")["status"]["phase"] == "Suspended"
    cluster.apply(example)
    until(lambda: is_ready(cluster), seconds=120, what="ready again")
