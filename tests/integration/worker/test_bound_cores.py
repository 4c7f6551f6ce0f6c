"""Ranks of a local pipeline compute on cores of its own, and Gloo's threads do not interrupt them."""

import os
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
from tests.unit.worker_support.pipelines import all_ready, complete, engine_of, make_plan, wait_until
from tests.unit.worker_support.tiny_models import greedy, save_endless_llama

from layerwise_worker.core_claims import CoreClaim
from layerwise_worker.local import LocalPipeline, LocalSettings

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(120),
    pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two cores to tell them apart"),
]
CORES = sorted(os.sched_getaffinity(0))
PROMPT = [5, 17, 60]


@pytest.fixture(autouse=True)
def own_claims(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Other pipelines of the machine claim cores, too."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


def listeners(engine: psutil.Process) -> list[int]:
    """Gloo's threads."""
    tasks = Path(f"/proc/{engine.pid}/task").iterdir()
    return [int(task.name) for task in tasks if (task / "comm").read_text().strip() == "gloo_tcp_loop"]


def run(work: Path, num_stages: int, micro_batches: int) -> list[set[int]]:
    """Where each rank's computing thread was found after completions that came out right."""
    model = save_endless_llama(work / "model", num_hidden_layers=3)
    plan = make_plan(work / "model", num_stages)
    plan = replace(plan, predicted=replace(plan.predicted, micro_batches_in_flight=micro_batches))
    with LocalPipeline(LocalSettings(plan, work / "model", work)) as pipeline:
        wait_until(lambda: all_ready(pipeline), 90, pipeline)
        answer = complete(pipeline, PROMPT, max_tokens=8)["choices"][0]["text"]
        assert answer.split() == [f"w{token}" for token in greedy(model, PROMPT, 8)]
        engines = [engine_of(pipeline, rank) for rank in range(num_stages)]
        for engine in engines:
            assert [os.sched_getscheduler(thread) for thread in listeners(engine)] == [os.SCHED_BATCH]
        return [os.sched_getaffinity(engine.pid) for engine in engines]


def test_two_ranks_keep_to_a_core_each(tmp_path: Path) -> None:
    assert run(tmp_path, 2, micro_batches=2) == [{CORES[0]}, {CORES[1]}]


@pytest.mark.skipif(len(CORES) > 2, reason="three ranks have a core each here")
def test_three_ranks_on_two_cores_go_where_the_micro_batch_is(tmp_path: Path) -> None:
    found = run(tmp_path, 3, micro_batches=2)
    assert all(len(cores) == 1 and cores < set(CORES) for cores in found)


def test_nothing_is_bound_where_another_pipeline_has_the_cores(tmp_path: Path) -> None:
    holder = CoreClaim(len(CORES), CORES)
    model = save_endless_llama(tmp_path / "model", num_hidden_layers=3)
    settings = LocalSettings(make_plan(tmp_path / "model", 2), tmp_path / "model", tmp_path)
    with LocalPipeline(settings) as pipeline:
        wait_until(lambda: all_ready(pipeline), 90, pipeline)
        answer = complete(pipeline, PROMPT, max_tokens=8)["choices"][0]["text"]
        assert answer.split() == [f"w{token}" for token in greedy(model, PROMPT, 8)]
        assert [os.sched_getaffinity(engine_of(pipeline, rank).pid) for rank in (0, 1)] == [set(CORES)] * 2
    holder.release()


@pytest.mark.parametrize(("num_stages", "settings"), [(1, {}), (2, {"device": "CUDA"}), (3, {"threads": 64})])
def test_no_cores_are_claimed_where_none_would_be_bound(
    tmp_path: Path, num_stages: int, settings: dict[str, Any]
) -> None:
    save_endless_llama(tmp_path / "model", num_hidden_layers=3)
    plan = make_plan(tmp_path / "model", num_stages)
    pipeline = LocalPipeline(LocalSettings(plan, tmp_path / "model", tmp_path, **settings))
    assert pipeline.cores == ()
    claim = CoreClaim(len(CORES), CORES)
    assert claim.cores == tuple(CORES)
    claim.release()
