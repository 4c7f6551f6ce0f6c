"""A tensor pipeline in pods of whole nodes, on a real control loop: planned, placed, served, and mended."""

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from tests.unit.worker_support.tiny_models import greedy, save_llama

from .conftest import PRODUCT, Bench, Json, benched

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.slow,
    pytest.mark.timeout(240),
    pytest.mark.xdist_group("operator-mixed"),
]

PROMPT = [5, 17, 60]
# Fewer than until the model ends its sentence.
NUM_TOKENS = 16
WORKER = {
    "device": "CPU",
    "podGranularity": "Node",
    "resources": {"requests": {"cpu": "100m"}},
    "terminationGracePeriodSeconds": 2,
}
STRATEGY = {"type": "TensorPipeline", "tensorParallelSize": 2, "pipelineParallelSize": 2}


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """Two nodes of two mocked H100s, and the operator."""
    with benched(tmp_path_factory, f"nodes-{os.getpid()}", f"2x{PRODUCT}") as bench:
        bench.start()
        yield bench
        bench.assert_nothing_went_wrong()


def complete(bench: Bench) -> str:
    """A greedy completion through the Service."""
    body = {"model": "demo", "prompt": PROMPT, "max_tokens": NUM_TOKENS, "temperature": 0}
    path = "/api/v1/namespaces/default/services/demo:8000/proxy/v1/completions"
    answer: Json = json.loads(bench.kubectl("create", "--raw", path, "-f", "-", stdin=json.dumps(body)))
    return str(answer["choices"][0]["text"])


def engine(bench: Bench, pod: str, local_rank: int) -> psutil.Process:
    """One engine process of a pod; its supervisor has no number."""
    [found] = [
        process
        for process in bench.processes(pod)
        if process.environ().get("LAYERWISE_LOCAL_RANK") == str(local_rank)
    ]
    return found


def test_a_tensor_pipeline_of_node_pods_answers_as_transformers_does_and_mends_itself(
    bench: Bench, tmp_path: Path
) -> None:
    bench.apply("demo", strategy=STRATEGY, worker=WORKER)
    bench.until(lambda: bench.is_ready("demo"), "ready", 120)
    pods = {pod["metadata"]["name"]: pod for pod in bench.pods("demo")}
    assert set(pods) == {"demo-0-0", "demo-0-1"}
    assert len({pod["spec"]["nodeName"] for pod in pods.values()}) == 2
    for pod in pods.values():
        assert pod["spec"]["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == "2"
    status = bench.status("demo")
    plan = status["plan"]
    assert (status["stages"], plan["strategy"]) == ("2/2", "TensorPipeline")
    assert (plan["tensorParallelSize"], plan["ranksPerPod"]) == (2, 2)
    assert status["transport"] == {"kind": "Gloo", "detail": "4 ranks"}
    # Seeded: the model that the claim holds.
    expected = greedy(save_llama(tmp_path, eos_token_id=None), PROMPT, NUM_TOKENS)
    assert complete(bench).split() == [f"w{token}" for token in expected]

    restarts = status["groupRestarts"]
    engine(bench, "demo-0-1", 1).send_signal(signal.SIGKILL)
    # The pod makes the engine anew, often sooner than two readiness probes fail: Ready need not blink.
    bench.until(lambda: bench.status("demo")["groupRestarts"] == restarts + 1, "the restart is counted", 30)
    bench.until(lambda: bench.is_ready("demo"), "ready again", 90)
    after = {pod["metadata"]["name"]: pod for pod in bench.pods("demo")}
    assert {pod["metadata"]["uid"] for pod in after.values()} == {p["metadata"]["uid"] for p in pods.values()}
    assert all(pod["status"]["containerStatuses"][0]["restartCount"] == 0 for pod in after.values())
    assert complete(bench).split() == [f"w{token}" for token in expected]
