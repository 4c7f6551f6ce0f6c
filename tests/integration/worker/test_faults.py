"""What happens to a pipeline in a cluster, done to one of local processes: kill, freeze, stop."""

import signal
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest
from tests.unit.worker_support.pipelines import (
    all_ready,
    complete,
    engine_of,
    is_ready,
    kill_pod,
    local_pipeline,
    stats,
    wait_until,
)
from tests.unit.worker_support.streams import start_stream
from tests.unit.worker_support.tiny_models import save_endless_llama

from layerwise_worker.local import LocalPipeline

pytestmark = [pytest.mark.chaos, pytest.mark.slow, pytest.mark.timeout(180)]

NUM_TOKENS = 1500
PROMPT = "w5 w17 w60"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("model")
    save_endless_llama(directory)
    return directory


@pytest.fixture(scope="module")
def shared(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalPipeline]:
    with local_pipeline(
        model, tmp_path_factory.mktemp("shared"), 3, lane_tokens=4096, max_output_tokens=NUM_TOKENS
    ) as started:
        yield started


@pytest.fixture
def pipeline(shared: LocalPipeline) -> LocalPipeline:
    """One pipeline for all tests that leave it whole."""
    wait_until(lambda: all_ready(shared), 120, shared)
    return shared


@pytest.fixture
def own_pipeline(model: Path, tmp_path: Path) -> Iterator[LocalPipeline]:
    """For tests that end it."""
    with local_pipeline(model, tmp_path, 3, lane_tokens=4096, grace_seconds=15) as started:
        wait_until(lambda: all_ready(started), 120, started)
        yield started


@pytest.fixture(scope="module")
def undisturbed(model: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    with local_pipeline(
        model, tmp_path_factory.mktemp("calm"), 1, lane_tokens=4096, max_output_tokens=NUM_TOKENS
    ) as calm:
        wait_until(lambda: all_ready(calm), 120, calm)
        return str(complete(calm, PROMPT, max_tokens=NUM_TOKENS)["choices"][0]["text"])


@pytest.mark.parametrize("rank", [1, 2])
def test_a_stream_goes_on_with_the_same_tokens_after_a_stage_was_killed(
    pipeline: LocalPipeline, rank: int, undisturbed: str
) -> None:
    before = stats(pipeline)
    stream = start_stream(pipeline, PROMPT, NUM_TOKENS)
    kill_pod(pipeline, rank)
    wait_until(lambda: not is_ready(pipeline), 15, pipeline)
    pipeline.start_rank(rank)
    wait_until(lambda: all_ready(pipeline), 120, pipeline)
    stream.join(120)
    assert stream.errors == []
    assert stream.finish_reason == "length"
    assert stream.text == undisturbed
    after = stats(pipeline)
    assert after["incarnation"] == before["incarnation"]
    assert after["epoch"] > before["epoch"]


@pytest.mark.parametrize("rank", [0, 1])
def test_an_engine_that_dies_is_started_again_and_the_stream_goes_on(
    pipeline: LocalPipeline, rank: int, undisturbed: str
) -> None:
    stream = start_stream(pipeline, PROMPT, NUM_TOKENS)
    engine_of(pipeline, rank).kill()
    wait_until(lambda: not is_ready(pipeline), 15, pipeline)
    wait_until(lambda: all_ready(pipeline), 120, pipeline)
    stream.join(120)
    assert (stream.errors, stream.finish_reason) == ([], "length")
    assert stream.text == undisturbed


def test_rank_0_killed_comes_back_as_a_new_incarnation(pipeline: LocalPipeline) -> None:
    before = stats(pipeline)
    kill_pod(pipeline, 0)
    wait_until(lambda: not is_ready(pipeline, 2), 15, pipeline)
    pipeline.start_rank(0)
    wait_until(lambda: all_ready(pipeline), 120, pipeline)
    after = stats(pipeline)
    assert after["incarnation"] != before["incarnation"]
    assert complete(pipeline, PROMPT, max_tokens=5)["usage"]["completion_tokens"] == 5


@pytest.mark.parametrize("target", ["pod", "engine"])
def test_a_frozen_rank_is_noticed_within_15_seconds_and_comes_back(
    pipeline: LocalPipeline, target: str, undisturbed: str
) -> None:
    stream = start_stream(pipeline, PROMPT, NUM_TOKENS)
    engine = engine_of(pipeline, 1)
    frozen = [engine] if target == "engine" else [engine, psutil.Process(pipeline.processes[1].pid)]
    for process in frozen:
        process.send_signal(signal.SIGSTOP)
    wait_until(lambda: not is_ready(pipeline), 15, pipeline)
    if target == "pod":
        for process in frozen:
            process.send_signal(signal.SIGCONT)
    wait_until(lambda: all_ready(pipeline), 120, pipeline)
    stream.join(120)
    assert (stream.errors, stream.text) == ([], undisturbed)


def test_a_stop_of_all_ranks_lets_the_running_request_finish(own_pipeline: LocalPipeline) -> None:
    stream = start_stream(own_pipeline, PROMPT, 400)
    statuses = own_pipeline.terminate(25)
    stream.join(10)
    assert statuses == {0: 0, 1: 0, 2: 0}
    assert (stream.errors, stream.finish_reason) == ([], "length")


def test_a_rank_that_is_stopped_alone_leaves_soon_and_the_others_wait_for_it(pipeline: LocalPipeline) -> None:
    started = time.monotonic()
    pipeline.processes[2].terminate()
    assert pipeline.processes[2].wait(20) == 0
    assert time.monotonic() - started < 10
    assert not is_ready(pipeline)
    assert "2" in stats(pipeline)["message"]
    pipeline.start_rank(2)
    wait_until(lambda: all_ready(pipeline), 120, pipeline)


def test_nothing_is_left_of_a_killed_pipeline(own_pipeline: LocalPipeline) -> None:
    engines = [engine_of(own_pipeline, rank) for rank in range(3)]
    own_pipeline.kill()
    _, alive = psutil.wait_procs(engines, timeout=5)
    assert alive == []


def test_a_client_that_goes_away_frees_its_lane(pipeline: LocalPipeline) -> None:
    with httpx.stream(
        "POST",
        f"{pipeline.url()}/v1/completions",
        json={"model": "local", "prompt": PROMPT, "max_tokens": NUM_TOKENS, "stream": True},
        timeout=30,
    ) as response:
        lines = response.iter_lines()
        assert next(lines).startswith("data: {")
        assert stats(pipeline)["requests"]["running"] == 1
    wait_until(lambda: stats(pipeline)["requests"]["running"] == 0, 5, pipeline)
