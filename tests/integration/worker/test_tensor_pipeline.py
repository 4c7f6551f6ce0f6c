"""Stages of two ranks each as real processes: the tokens of `transformers`, whatever dies meanwhile."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.unit.worker_support.pipelines import (
    all_ready,
    complete,
    is_ready,
    kill_pod,
    local_pipeline,
    stats,
    wait_until,
)
from tests.unit.worker_support.streams import start_stream
from tests.unit.worker_support.tiny_models import greedy, save_endless_llama

from layerwise_worker.local import LocalPipeline

pytestmark = [pytest.mark.chaos, pytest.mark.slow, pytest.mark.timeout(180)]

NUM_TOKENS = 600
PROMPT = [5, 17, 60]


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    directory = tmp_path_factory.mktemp("model")
    return directory, save_endless_llama(directory, num_hidden_layers=4)


@pytest.fixture(scope="module")
def expected(saved: tuple[Path, Any]) -> list[str]:
    return [f"w{token}" for token in greedy(saved[1], PROMPT, NUM_TOKENS)]


@pytest.fixture(scope="module")
def shared(
    request: pytest.FixtureRequest, saved: tuple[Path, Any], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LocalPipeline]:
    with local_pipeline(
        saved[0],
        tmp_path_factory.mktemp("shared"),
        request.param,
        lane_tokens=1024,
        max_output_tokens=NUM_TOKENS,
        tensor_parallel_size=2,
    ) as started:
        yield started


@pytest.fixture
def pipeline(shared: LocalPipeline) -> LocalPipeline:
    wait_until(lambda: all_ready(shared), 120, shared)
    return shared


@pytest.mark.parametrize("shared", [1, 2], indirect=True)
def test_ranks_that_share_stages_answer_as_transformers_does(
    pipeline: LocalPipeline, expected: list[str]
) -> None:
    answer = complete(pipeline, PROMPT, max_tokens=200)
    assert answer["choices"][0]["text"].split() == expected[:200]
    num_stages = len(pipeline.addresses) // 2
    wait_until(lambda: len(stats(pipeline)["stageTimes"]) == num_stages, 5, pipeline)
    assert [times["index"] for times in stats(pipeline)["stageTimes"]] == list(range(num_stages))
    report = stats(pipeline, rank=1)
    assert (report["rank"], report["numStages"], report["state"]) == (1, num_stages, "Ready")
    assert report["load"]["bytesLoaded"] < 0.6 * sum_of_bytes(pipeline) / num_stages


def sum_of_bytes(pipeline: LocalPipeline) -> int:
    return sum(stats(pipeline, rank)["load"]["bytesTotal"] for rank in range(len(pipeline.addresses)))


@pytest.mark.parametrize(("shared", "rank"), [(1, 1), (2, 1), (2, 3)], indirect=["shared"])
def test_a_stream_goes_on_after_a_rank_within_a_stage_was_killed(
    pipeline: LocalPipeline, expected: list[str], rank: int
) -> None:
    stream = start_stream(pipeline, PROMPT, NUM_TOKENS)
    kill_pod(pipeline, rank)
    wait_until(lambda: not is_ready(pipeline), 15, pipeline)
    pipeline.start_rank(rank)
    wait_until(lambda: all_ready(pipeline), 120, pipeline)
    stream.join(120)
    assert (stream.errors, stream.finish_reason) == ([], "length")
    assert stream.text.split() == expected
