"""What happens to groups in clusters, done to a real one: seen within 10 s, and mended by itself."""

import json
import signal
from collections.abc import Callable

import pytest

from layerwise_sandbox import cluster

from .conftest import SHARED, Bench

pytestmark = [
    pytest.mark.chaos,
    pytest.mark.e2e,
    pytest.mark.slow,
    pytest.mark.timeout(240),
    pytest.mark.xdist_group("operator-sandbox"),
]

START = 60
NOTICE = 10


def kill_the_container(bench: Bench, pod: str) -> None:
    bench.signal(pod, signal.SIGKILL)


def freeze_the_container(bench: Bench, pod: str) -> None:
    bench.signal(pod, signal.SIGSTOP)


def delete_the_pod(bench: Bench, pod: str) -> None:
    bench.kubectl("delete", "pod", pod, "--wait=false")


def evict_the_pod(bench: Bench, pod: str) -> None:
    metadata = {"name": pod, "namespace": "default"}
    body = json.dumps({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": metadata})
    path = f"/api/v1/namespaces/default/pods/{pod}/eviction"
    bench.kubectl("create", "--raw", path, "-f", "-", stdin=body)


@pytest.mark.parametrize(
    ("fault", "rank"),
    [
        (kill_the_container, 1),
        (kill_the_container, 0),
        (freeze_the_container, 1),
        (freeze_the_container, 0),
        (delete_the_pod, 1),
        (delete_the_pod, 0),
        (evict_the_pod, 1),
    ],
)
def test_a_lost_stage_is_seen_and_comes_back(
    shared: Bench,
    record_property: Callable[[str, object], None],
    fault: Callable[[Bench, str], None],
    rank: int,
) -> None:
    before = shared.status(SHARED)["groupRestarts"]
    fault(shared, f"{SHARED}-0-{rank}")
    noticed = shared.until(lambda: not shared.is_ready(SHARED), "Ready went False", NOTICE)
    recovered = shared.until(lambda: shared.is_ready(SHARED), "Ready came back", START)
    assert shared.status(SHARED)["groupRestarts"] == before + 1
    record_property("noticed_seconds", round(noticed, 1))
    record_property("serving_again_seconds", round(noticed + recovered, 1))


def test_a_worker_that_ends_again_and_again_is_given_up_and_resumed(bench: Bench) -> None:
    def fail_again() -> bool:
        bench.signal("demo-0-1", signal.SIGKILL)
        return bench.status("demo").get("phase") == "Failed"

    bench.apply("demo", failurePolicy={"maxGroupRestarts": 2})
    bench.until(lambda: bench.pods("demo"), "pods", 30)
    bench.until(fail_again, "it is given up", 90)
    for type_ in ("Ready", "Progressing"):
        condition = bench.condition("demo", type_)
        assert (condition["status"], condition["reason"]) == ("False", "TooManyRestarts")
    assert "stage 1 (demo-0-1) ended with exit status 137" in bench.condition("demo", "Ready")["message"]
    pods = {pod["metadata"]["uid"] for pod in bench.pods("demo")}
    assert len(pods) == 2
    bench.kubectl("annotate", "lwd", "demo", "layerwise.dev/restart=once-more")
    bench.until(lambda: bench.is_ready("demo"), "ready again", START)
    assert pods.isdisjoint(pod["metadata"]["uid"] for pod in bench.pods("demo"))
    assert bench.status("demo")["pipelines"][0]["restarts"] == 0


@pytest.mark.parametrize("name", ["a" * 41, "0-begins-with-a-digit", "has.a.dot"])
def test_a_name_that_services_cannot_carry_is_refused_by_the_api(bench: Bench, name: str) -> None:
    raw = {"apiVersion": "layerwise.dev/v1alpha1", "kind": "LayerwiseDeployment", "metadata": {"name": name}}
    raw["spec"] = {"model": {"volume": {"claimName": "models"}}}
    done = bench.attempt("create", "-f", "-", stdin=json.dumps(raw))
    assert done.returncode != 0
    assert "metadata.name" in done.stderr


def test_a_broken_image_is_named_and_can_be_rolled_back(shared: Bench) -> None:
    worker = {"device": "CPU", "terminationGracePeriodSeconds": 2}
    shared.apply(SHARED, worker={**worker, "image": "nowhere.example/broken:1"})
    shared.until(
        lambda: "ImagePull" in shared.condition(SHARED, "Ready").get("reason", ""), "the reason is named", 30
    )
    assert "nowhere.example/broken:1" in shared.condition(SHARED, "Ready")["message"]
    shared.apply(SHARED, worker=worker)
    shared.until(lambda: shared.is_ready(SHARED), "ready again", START)


def test_a_change_during_a_change_ends_with_the_newest(shared: Bench) -> None:
    for stages in (3, 4, 3):
        shared.apply(SHARED, strategy={"stages": stages})
    shared.until(lambda: shared.status(SHARED).get("stages") == "3/3", "3/3", START)
    shared.until(lambda: shared.is_ready(SHARED), "ready", START)
    assert len(shared.pods(SHARED)) == 3


def test_a_node_that_loses_power_takes_ready_away_and_its_stages_move(shared: Bench) -> None:
    node = shared.pods(SHARED)[0]["spec"]["nodeName"]
    cluster.set_power(shared.sandbox, node, on=False)
    try:
        shared.until(lambda: not shared.is_ready(SHARED), "Ready went False", 30)
        shared.until(lambda: shared.is_ready(SHARED), "the stages moved", 150)
        assert node not in {pod["spec"]["nodeName"] for pod in shared.pods(SHARED)}
    finally:
        cluster.set_power(shared.sandbox, node, on=True)


def test_scaling_goes_through_the_scale_subresource(bench: Bench) -> None:
    bench.apply("demo", replicas=0)
    bench.until(lambda: bench.status("demo").get("phase") == "Suspended", "nothing runs", 30)
    for replicas in (2, 1):
        bench.kubectl("scale", "lwd", "demo", f"--replicas={replicas}")
        bench.until(
            lambda replicas=replicas: (
                bench.is_ready("demo")  # type: ignore[misc]  # bound at once
                and bench.status("demo")["readyReplicas"] == replicas
            ),
            f"{replicas} pipelines",
            START,
        )
        # Those of the pipeline that goes may take a moment to end.
        bench.until(
            lambda replicas=replicas: len(bench.pods("demo")) == 2 * replicas,  # type: ignore[misc]  # bound at once
            f"the pods of {replicas} pipelines",
            30,
        )


def test_of_two_that_compete_one_runs_whole_and_the_other_follows(bench: Bench) -> None:
    bench.delete(SHARED)
    bench.apply("first", strategy={"stages": 5})
    bench.until(lambda: bench.status("first").get("plan"), "the first has a plan", 30)
    bench.apply("second", strategy={"stages": 4})
    bench.until(
        lambda: bench.condition("second", "Scheduled").get("reason") == "InsufficientAccelerators",
        "it waits",
        30,
    )
    message = bench.condition("second", "Scheduled")["message"]
    assert "have 3" in message
    assert "need 4" in message
    assert bench.names("pod,statefulset", "second") == []
    bench.until(lambda: len(bench.pods("first")) == 5, "the first starts", START)
    bench.kubectl("delete", "lwd", "first", "--wait=false")
    bench.until(lambda: len(bench.pods("second")) == 4, "the second starts", START)
