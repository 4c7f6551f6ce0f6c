"""Pods of several ranks each as real processes: one supervisor, an engine for each rank, one pipeline."""

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.unit.worker_support.pipelines import (
    all_ready,
    complete,
    engines_of,
    is_ready,
    local_pipeline,
    stats,
    wait_until,
)
from tests.unit.worker_support.streams import start_stream
from tests.unit.worker_support.tiny_models import greedy, save_endless_llama

from layerwise_worker.local import LocalPipeline

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

NUM_TOKENS = 400
PROMPT = [5, 17, 60]


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    directory = tmp_path_factory.mktemp("model")
    return directory, save_endless_llama(directory, num_hidden_layers=4)


@pytest.fixture(scope="module")
def expected(saved: tuple[Path, Any]) -> list[str]:
    return [f"w{token}" for token in greedy(saved[1], PROMPT, NUM_TOKENS)]


@pytest.fixture(scope="module")
def shared(saved: tuple[Path, Any], tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalPipeline]:
    """Two stages of two ranks, a stage a pod."""
    with local_pipeline(
        saved[0],
        tmp_path_factory.mktemp("pods"),
        2,
        lane_tokens=1024,
        max_output_tokens=NUM_TOKENS,
        tensor_parallel_size=2,
        ranks_per_pod=2,
    ) as started:
        yield started


@pytest.fixture
def pipeline(shared: LocalPipeline) -> LocalPipeline:
    wait_until(lambda: all_ready(shared), 120, shared)
    return shared


def test_two_pods_of_two_ranks_answer_as_transformers_does(
    pipeline: LocalPipeline, expected: list[str]
) -> None:
    assert len(pipeline.processes) == 2
    assert [len(engines_of(pipeline, pod)) for pod in (0, 1)] == [2, 2]
    answer = complete(pipeline, PROMPT, max_tokens=100)
    assert answer["choices"][0]["text"].split() == expected[:100]
    assert [stats(pipeline, pod)["rank"] for pod in (0, 1)] == [0, 2]
    assert stats(pipeline)["transport"] == {"kind": "Gloo", "detail": "4 ranks"}


@pytest.mark.parametrize(("pod", "local_rank"), [(1, 1), pytest.param(0, 0, marks=pytest.mark.chaos)])
def test_the_loss_of_one_process_of_a_pod_is_a_pause_of_the_whole_group(
    pipeline: LocalPipeline, expected: list[str], pod: int, local_rank: int
) -> None:
    epoch = stats(pipeline)["epoch"]
    others = {engine.pid for p in (0, 1) for engine in engines_of(pipeline, p)}
    stream = start_stream(pipeline, PROMPT, NUM_TOKENS)
    victim = engines_of(pipeline, pod)[local_rank]
    victim.send_signal(signal.SIGKILL)
    wait_until(lambda: not (is_ready(pipeline, 0) or is_ready(pipeline, 1)), 15, pipeline)
    wait_until(lambda: all_ready(pipeline), 120, pipeline)
    stream.join(120)
    assert (stream.errors, stream.finish_reason) == ([], "length")
    assert stream.text.split() == expected
    assert stats(pipeline)["epoch"] > epoch
    after = {engine.pid for p in (0, 1) for engine in engines_of(pipeline, p)}
    assert len(after - others) == 1
    assert victim.pid not in after


@pytest.mark.chaos
def test_a_pod_that_is_told_to_stop_leaves_with_all_its_ranks(
    saved: tuple[Path, Any], tmp_path: Path
) -> None:
    with local_pipeline(saved[0], tmp_path, 2, ranks_per_pod=2, grace_seconds=5) as started:
        wait_until(lambda: all_ready(started), 120, started)
        engines = engines_of(started, 0)
        assert started.terminate(20) == {0: 0}
        assert not any(engine.is_running() for engine in engines)
