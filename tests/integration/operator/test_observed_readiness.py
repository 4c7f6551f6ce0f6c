"""What another client sees of Ready while stages are lost: soon False, and never True over a lost stage."""

import functools
import signal
import time
from collections.abc import Callable

import pytest

from layerwise_sandbox import cluster

from .conftest import SHARED, Bench
from .observer import Observer

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.slow,
    pytest.mark.timeout(240),
    pytest.mark.xdist_group("operator-sandbox"),
]

NOTICE = 10.0
# What the operator cannot have seen: an event on its way to it, the pass, the write, and the way back here.
# On two busy cores each of these waits for the workers' processes.
PROPAGATION = 3.0
# The cluster itself waits for a node's silence before it says that the node and its pods are not ready.
NODE_NOTICE = 30.0
START = 60.0

Fault = Callable[[Bench, str], None]


def kill_the_processes(bench: Bench, pod: str) -> None:
    bench.signal(pod, signal.SIGKILL)


def freeze_the_processes(bench: Bench, pod: str) -> None:
    bench.signal(pod, signal.SIGSTOP)


def delete_the_pod(bench: Bench, pod: str) -> None:
    bench.kubectl("delete", "pod", pod, "--wait=false")


def delete_the_pod_by_force(bench: Bench, pod: str) -> None:
    bench.kubectl("delete", "pod", pod, "--force", "--grace-period=0", "--wait=false")


FAULTS: dict[str, tuple[Fault, int]] = {
    "killed": (kill_the_processes, 1),
    "rank 0 killed": (kill_the_processes, 0),
    "frozen": (freeze_the_processes, 1),
    "rank 0 frozen": (freeze_the_processes, 0),
    "deleted": (delete_the_pod, 1),
    "rank 0 deleted": (delete_the_pod, 0),
    "deleted by force": (delete_the_pod_by_force, 1),
}
IN_CI = ("killed", "deleted by force")


def looking(bench: Bench) -> Observer:
    return Observer(bench.kubeconfig, SHARED, num_stages=2)


@pytest.mark.parametrize(
    "faults",
    [pytest.param(IN_CI, id="a few"), pytest.param(tuple(FAULTS), id="all", marks=pytest.mark.chaos)],
)
def test_ready_is_false_soon_after_a_loss_and_never_true_over_one(
    shared: Bench, faults: tuple[str, ...], record_property: Callable[[str, object], None]
) -> None:
    for name in faults:
        fault, rank = FAULTS[name]
        with looking(shared).watching() as seen:
            time.sleep(0.5)
            moment = time.monotonic()
            fault(shared, f"{SHARED}-0-{rank}")
            shared.until(functools.partial(seen.has_noticed, moment), name, NOTICE)
            shared.until(lambda: shared.is_ready(SHARED), "ready again", START)
            time.sleep(1)
        noticed = seen.seconds_until_not_ready(moment)
        assert noticed is not None
        assert noticed <= NOTICE, name
        assert seen.longest_gap() < NOTICE, "the observer itself was kept from looking"
        assert seen.longest_lie() <= PROPAGATION, name
        record_property(f"{name}: Ready False after seconds", round(noticed, 2))
        record_property(f"{name}: longest True over a lost stage", round(seen.longest_lie(), 2))


@pytest.mark.chaos
def test_a_node_that_loses_power_is_never_served_from_on_paper(
    shared: Bench, record_property: Callable[[str, object], None]
) -> None:
    node = shared.pods(SHARED)[0]["spec"]["nodeName"]
    with looking(shared).watching() as seen:
        moment = time.monotonic()
        cluster.set_power(shared.sandbox, node, on=False)
        try:
            shared.until(functools.partial(seen.has_noticed, moment), "Ready went False", NODE_NOTICE)
            shared.until(lambda: shared.is_ready(SHARED), "the stages moved", 150)
            time.sleep(1)
        finally:
            cluster.set_power(shared.sandbox, node, on=True)
    told, noticed = seen.seconds_until_lost(moment), seen.seconds_until_not_ready(moment)
    assert told is not None
    assert noticed is not None
    assert noticed <= told + NOTICE
    assert seen.longest_lie() <= PROPAGATION
    record_property("the cluster told after seconds", round(told, 2))
    record_property("Ready False after seconds", round(noticed, 2))


@pytest.mark.chaos
def test_ready_is_true_again_only_when_every_stage_is(shared: Bench) -> None:
    with looking(shared).watching() as seen:
        before = {pod["metadata"]["uid"] for pod in shared.pods(SHARED)}
        shared.kubectl("annotate", "lwd", SHARED, f"layerwise.dev/restart={time.time()}", "--overwrite")
        shared.until(
            lambda: before.isdisjoint(pod["metadata"]["uid"] for pod in shared.pods(SHARED)),
            "new pods",
            START,
        )
        shared.until(lambda: shared.is_ready(SHARED), "ready again", START)
        time.sleep(1)
    assert any(not sample.ready for sample in seen.samples)
    assert seen.longest_lie() <= PROPAGATION
