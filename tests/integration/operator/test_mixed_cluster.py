"""One pipeline over nodes of two kinds, on a real control loop: planned, placed, served, and mended."""

import itertools
import json
import os
import signal
from collections.abc import Iterator

import pytest

from .conftest import PRODUCT, Bench, Json, benched

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.slow,
    pytest.mark.timeout(240),
    pytest.mark.xdist_group("operator-mixed"),
]

A100 = "NVIDIA-A100-SXM4-80GB"
OF_DEMO = "layerwise.dev/deployment=demo"


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """A node of two mocked H100s, one of four A100s, and the operator."""
    with benched(tmp_path_factory, f"mix-{os.getpid()}", f"2x{PRODUCT},4x{A100}") as bench:
        bench.start()
        yield bench
        bench.assert_nothing_went_wrong()


def test_a_pipeline_over_two_kinds_of_nodes_serves_and_mends_itself(mixed: Bench) -> None:
    # One A100 is somebody else's, so that neither kind has enough for five stages.
    container: Json = {"name": "c", "image": "busybox", "command": ["sleep", "600"]}
    container["resources"] = {"limits": {"nvidia.com/gpu": "1"}}
    spec: Json = {"nodeSelector": {"nvidia.com/gpu.product": A100}, "containers": [container]}
    spec["terminationGracePeriodSeconds"] = 0
    theirs = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "theirs"}, "spec": spec}
    mixed.kubectl("apply", "-f", "-", stdin=json.dumps(theirs))
    mixed.kubectl("wait", "--for=condition=Ready", "pod/theirs", "--timeout=60s")

    mixed.apply("demo", strategy={"stages": 5})
    mixed.until(lambda: mixed.is_ready("demo"), "ready", 120)
    status = mixed.status("demo")
    assert status["stages"] == "5/5"
    planned = {stage["index"]: stage["accelerator"] for stage in status["plan"]["stages"]}
    assert sorted(planned.values()) == ["a100-sxm4-80gb"] * 3 + ["h100-sxm5-80gb"] * 2
    assert "no single kind has enough accelerators" in status["plan"]["verdict"]

    node_of = {
        int(pod["metadata"]["labels"]["apps.kubernetes.io/pod-index"]): pod["spec"]["nodeName"]
        for pod in mixed.pods("demo")
    }
    kinds = {"h100-sxm5-80gb": "node-0", "a100-sxm4-80gb": "node-1"}
    assert node_of == {index: kinds[accelerator] for index, accelerator in planned.items()}
    assert sum(here != there for here, there in itertools.pairwise(node_of[i] for i in range(5))) == 1
    sets = json.loads(mixed.kubectl("get", "sts", "-l", OF_DEMO, "-o", "json"))["items"]
    starts = {raw["metadata"]["name"]: raw["spec"].get("ordinals", {}).get("start", 0) for raw in sets}
    first_of_second = starts[max(starts, key=len)]
    assert starts == {"demo-0": 0, f"demo-0-s{first_of_second}": first_of_second}
    assert complete(mixed)["usage"]["completion_tokens"] == 8

    before = status["groupRestarts"]
    mixed.signal(f"demo-0-s{first_of_second}-4", signal.SIGKILL)
    mixed.until(lambda: not mixed.is_ready("demo"), "Ready went False", 10)
    mixed.until(lambda: mixed.is_ready("demo"), "ready again", 60)
    assert mixed.status("demo")["groupRestarts"] == before + 1
    assert complete(mixed)["usage"]["completion_tokens"] == 8
    mixed.delete("demo")


def complete(bench: Bench) -> Json:
    """A completion through the client Service."""
    body = {"model": "demo", "prompt": [3, 4, 5], "max_tokens": 8, "temperature": 0}
    path = "/api/v1/namespaces/default/services/demo:8000/proxy/v1/completions"
    return dict(json.loads(bench.kubectl("create", "--raw", path, "-f", "-", stdin=json.dumps(body))))
