"""SmolLM2 behind the real front, over two stage processes, asked by the `openai` client."""

import concurrent.futures
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from tests.unit.worker_support.pipelines import all_ready, local_pipeline, wait_until

from layerwise.telemetry import RankReport
from layerwise_worker.local import LocalPipeline

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

MODEL = "smollm2"
PROMPT = "The capital of France is"
QUESTION: Any = [{"role": "user", "content": "What is the capital of France?"}]


@pytest.fixture(scope="module")
def pipeline(smollm2_directory: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalPipeline]:
    work = tmp_path_factory.mktemp("pipeline")
    with local_pipeline(
        smollm2_directory,
        work,
        2,
        model_name=MODEL,
        num_lanes=4,
        lane_tokens=640,
        max_prompt_tokens=512,
        max_output_tokens=128,
        max_queued_requests=4,
    ) as started:
        wait_until(lambda: all_ready(started), 120, started)
        yield started


@pytest.fixture
def client(pipeline: LocalPipeline) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{pipeline.url()}/v1", api_key="none", max_retries=0, timeout=60) as client:
        yield client


def report(pipeline: LocalPipeline) -> RankReport:
    return RankReport.model_validate(httpx.get(f"{pipeline.url()}/stats").json())


def idle(pipeline: LocalPipeline) -> bool:
    counts = report(pipeline).requests
    return counts is not None and counts.running == counts.waiting == 0


def test_the_capital_of_france_is_paris(client: openai.OpenAI) -> None:
    answer = client.completions.create(model=MODEL, prompt=PROMPT, max_tokens=8, temperature=0)
    assert answer.choices[0].text.startswith(" Paris")
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (5, 8)


def test_a_conversation_is_answered_and_ends_by_itself(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(model=MODEL, messages=QUESTION, temperature=0, max_tokens=64)
    assert "Paris" in (answer.choices[0].message.content or "")
    assert answer.choices[0].finish_reason == "stop"
    assert "<|im_end|>" not in (answer.choices[0].message.content or "")


def test_a_stream_says_what_the_whole_answer_says(client: openai.OpenAI) -> None:
    settings: Any = {
        "model": MODEL,
        "prompt": "Once upon a time",
        "max_tokens": 20,
        "temperature": 0.8,
        "seed": 11,
    }
    whole = client.completions.create(**settings).choices[0]
    parts = list(client.completions.create(**settings, stream=True))
    assert "".join(part.choices[0].text for part in parts) == whole.text
    assert parts[-1].choices[0].finish_reason == whole.finish_reason


def test_a_seed_gives_the_same_text_beside_others_as_alone(client: openai.OpenAI) -> None:
    def ask(seed: int) -> str:
        answer = client.completions.create(model=MODEL, prompt="A list of fruit:", max_tokens=12, seed=seed)
        return answer.choices[0].text

    alone = [ask(seed) for seed in range(3)]
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        together = list(pool.map(ask, range(3)))
    assert together == alone
    assert len(set(alone)) > 1


def test_a_stop_string_ends_the_text_and_frees_the_lane(
    client: openai.OpenAI, pipeline: LocalPipeline
) -> None:
    free = client.completions.create(model=MODEL, prompt="1, 2, 3, 4,", max_tokens=16, temperature=0)
    stop = free.choices[0].text[8:14]
    cut = client.completions.create(
        model=MODEL, prompt="1, 2, 3, 4,", max_tokens=16, temperature=0, stop=stop
    )
    assert cut.choices[0].text == free.choices[0].text.split(stop)[0]
    assert cut.choices[0].finish_reason == "stop"
    wait_until(lambda: idle(pipeline), 5, pipeline)


def test_clients_that_leave_free_their_lanes(client: openai.OpenAI, pipeline: LocalPipeline) -> None:
    for _ in range(12):  # three times as many as there are lanes
        stream = client.completions.create(
            model=MODEL, prompt=PROMPT, max_tokens=128, stream=True, extra_body={"ignore_eos": True}
        )
        next(iter(stream))
        stream.close()
    wait_until(lambda: idle(pipeline), 5, pipeline)
    assert client.completions.create(model=MODEL, prompt=PROMPT, max_tokens=2).usage is not None


def test_more_clients_than_fit_are_told_to_come_back(pipeline: LocalPipeline) -> None:
    body = {"model": MODEL, "prompt": PROMPT, "max_tokens": 16, "ignore_eos": True}

    def ask(_: int) -> httpx.Response:
        return httpx.post(f"{pipeline.url()}/v1/completions", json=body, timeout=120)

    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(ask, range(16)))
    refused = [answer for answer in answers if answer.status_code == 429]
    assert {answer.status_code for answer in answers} == {200, 429}
    assert all(int(answer.headers["retry-after"]) >= 1 for answer in refused)
    assert len(answers) - len(refused) >= 8
    wait_until(lambda: idle(pipeline), 5, pipeline)


def test_a_prompt_beyond_the_lane_is_refused_before_it_costs_anything(client: openai.OpenAI) -> None:
    started = time.monotonic()
    with pytest.raises(openai.BadRequestError) as refused:
        client.completions.create(model=MODEL, prompt="word " * 100_000)
    assert refused.value.code == "context_length_exceeded"
    assert time.monotonic() - started < 2


def test_what_was_served_is_measured(client: openai.OpenAI, pipeline: LocalPipeline) -> None:
    client.completions.create(model=MODEL, prompt=PROMPT, max_tokens=16, extra_body={"ignore_eos": True})
    measured = report(pipeline).performance
    assert measured is not None
    assert measured.tokens_per_second > 1
    assert measured.time_per_output_token_milliseconds is not None
    # Ranks tell rank 0 their times every second.
    wait_until(lambda: len(report(pipeline).stage_times) == 2, 5, pipeline)
    metrics = httpx.get(f"{pipeline.url()}/metrics").text
    assert "layerwise_generation_tokens_total" in metrics
    assert 'layerwise_stage_compute_seconds{stage="1"}' in metrics


def test_a_rank_above_zero_serves_probes_alone(pipeline: LocalPipeline) -> None:
    assert httpx.get(f"{pipeline.url(1)}/readyz").json()["state"] == "Ready"
    assert httpx.get(f"{pipeline.url(1)}/v1/models").status_code == 404
