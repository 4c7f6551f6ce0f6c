import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.unit.worker_support.plans import write_plan

from layerwise.errors import InvalidInput
from layerwise.resources.worker import Device
from layerwise_worker.config import read_serve_config
from layerwise_worker.place import Shard
from layerwise_worker.sources import Seed


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    return {
        "LAYERWISE_PLAN_FILE": str(write_plan(tmp_path / "plan.json")),
        "LAYERWISE_MODEL_DIRECTORY": str(tmp_path),
        "LAYERWISE_MODEL_NAME": "tiny",
        "LAYERWISE_RANK": "1",
        "LAYERWISE_POD_NAME": "tiny-0-1",
        "LAYERWISE_BIND_ADDRESS": "127.0.0.1",
        "LAYERWISE_COORDINATOR_HOST": "tiny-0-0.tiny-0-ranks",
        "LAYERWISE_CONTROL_PORT": "29400",
        "LAYERWISE_RENDEZVOUS_PORT": "29500",
        "LAYERWISE_HTTP_PORT": "8000",
        "LAYERWISE_DEVICE": "CPU",
        "LAYERWISE_MAX_QUEUED_REQUESTS": "8",
        "LAYERWISE_MAX_PROMPT_TOKENS": "16",
        "LAYERWISE_MAX_OUTPUT_TOKENS": "16",
        "LAYERWISE_GRACE_SECONDS": "5",
        "LAYERWISE_THREADS": "2",
    }


def test_everything_comes_from_the_environment(environment: dict[str, str]) -> None:
    config = read_serve_config(environment)
    assert (config.rank, config.num_ranks, config.threads, config.device) == (1, 2, 2, Device.CPU)
    assert config.stage.layers == range(2, 4)


def test_cores_are_named_and_must_be_usable(environment: dict[str, str]) -> None:
    usable = sorted(os.sched_getaffinity(0))
    assert read_serve_config(environment).cores == ()
    named = {**environment, "LAYERWISE_CORES": ",".join(map(str, usable))}
    assert read_serve_config(named).cores == tuple(usable)


@pytest.mark.parametrize("given", ["x", "99999", "0,0", "-1", "0;1", "0,", " ", "\u0661"])
def test_cores_that_are_none_are_refused(environment: dict[str, str], given: str) -> None:
    with pytest.raises(
        InvalidInput, match=r"LAYERWISE_CORES is .* must be cores that this process may run on"
    ):
        read_serve_config({**environment, "LAYERWISE_CORES": given})


def in_pods(environment: dict[str, str], **fields: int) -> dict[str, str]:
    """The same with other fields of the plan."""
    path = Path(environment["LAYERWISE_PLAN_FILE"])
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))
    return environment


def test_a_pod_of_several_ranks_counts_them_from_its_number(environment: dict[str, str]) -> None:
    environment = in_pods(environment, tensorParallelSize=2, ranksPerPod=2)
    first = read_serve_config(environment)
    assert [(one.rank, one.local_rank) for one in first.of_pod] == [(2, 0), (3, 1)]
    second = read_serve_config({**environment, "LAYERWISE_LOCAL_RANK": "1"})
    assert (second.rank, second.local_rank, second.num_ranks) == (3, 1, 4)
    assert first.of_pod == second.of_pod
    with pytest.raises(InvalidInput, match="LAYERWISE_RANK is '2', and must be from 0 to 1"):
        read_serve_config({**environment, "LAYERWISE_RANK": "2"})


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"ranksPerPod": 3}, "ranksPerPod is 3, and must divide the 2 ranks"),
        ({"ranksPerPod": 0}, "ranksPerPod is 0"),
        ({"ranksPerPod": True}, "ranksPerPod is True"),
        ({"tensorParallelSize": 2, "ranksPerPod": 1}, None),
    ],
)
def test_ranks_that_do_not_fill_equal_pods_are_refused(
    environment: dict[str, str], fields: dict[str, int], said: str | None
) -> None:
    environment = in_pods(environment, **fields)
    if said is None:
        assert read_serve_config(environment).num_ranks == 4
        return
    with pytest.raises(InvalidInput, match=said):
        read_serve_config(environment)


def test_a_synthetic_model_takes_a_seed_and_no_directory(environment: dict[str, str]) -> None:
    path = Path(environment["LAYERWISE_PLAN_FILE"])
    plan = json.loads(path.read_text())
    plan["architecture"] |= {"family": "synthetic", "gatedMlp": False}
    path.write_text(json.dumps(plan))
    del environment["LAYERWISE_MODEL_DIRECTORY"]
    with pytest.raises(InvalidInput, match="LAYERWISE_SYNTHETIC_SEED is not set"):
        read_serve_config(environment)
    assert read_serve_config({**environment, "LAYERWISE_SYNTHETIC_SEED": "7"}).model == Seed(7)


BENCHMARK = {
    "RUN": "0123456789",
    "PROMPT_TOKENS": "16",
    "OUTPUT_TOKENS": "16",
    "REPETITIONS": "3",
    "REQUESTS": "8",
    "WARMUP_REQUESTS": "0",
    "TIME_LIMIT_SECONDS": "60",
    "SEED": "0",
}


def benchmarking(**changes: str) -> dict[str, str]:
    return {f"LAYERWISE_BENCHMARK_{name}": value for name, value in {**BENCHMARK, **changes}.items()}


def test_a_benchmark_keeps_every_lane_of_the_plan_in_flight(environment: dict[str, str]) -> None:
    assert read_serve_config(environment).benchmark is None
    found = read_serve_config({**environment, **benchmarking()}).benchmark
    assert found is not None
    assert (found.run, found.workload.concurrency, found.workload.token_ids_below) == ("0123456789", 2, 11)
    assert (found.micro_batch_size, found.micro_batches_in_flight) == (2, 2)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"REPETITIONS": "0"}, "LAYERWISE_BENCHMARK_REPETITIONS is '0', and must be from 1 to 100"),
        ({"REQUESTS": "-1"}, "LAYERWISE_BENCHMARK_REQUESTS is"),
        ({"SEED": ""}, "LAYERWISE_BENCHMARK_SEED is not set"),
        ({"PROMPT_TOKENS": "17"}, "together they must be at most 32"),
    ],
)
def test_a_benchmark_that_cannot_be_run_is_refused(
    environment: dict[str, str], changes: dict[str, str], said: str
) -> None:
    with pytest.raises(InvalidInput) as caught:
        read_serve_config({**environment, **benchmarking(**changes)})
    assert said in str(caught.value)


def test_without_a_number_of_threads_all_cores_are_used(environment: dict[str, str]) -> None:
    del environment["LAYERWISE_THREADS"]
    assert read_serve_config(environment).threads == len(os.sched_getaffinity(0))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("LAYERWISE_RANK", "2"),
        ("LAYERWISE_RANK", "-1"),
        ("LAYERWISE_RANK", "one"),
        ("LAYERWISE_RANK", "٣"),
        ("LAYERWISE_BIND_ADDRESS", "localhost"),
        ("LAYERWISE_CONTROL_PORT", "0"),
        ("LAYERWISE_HTTP_PORT", "65536"),
        ("LAYERWISE_HTTP_PORT", "9" * 5000),
        ("LAYERWISE_DEVICE", "TPU"),
        ("LAYERWISE_GRACE_SECONDS", "0"),
        ("LAYERWISE_THREADS", "many"),
        ("LAYERWISE_MAX_PROMPT_TOKENS", "1e3"),
    ],
)
def test_a_wrong_value_is_named_with_what_is_allowed(
    environment: dict[str, str], name: str, value: str
) -> None:
    with pytest.raises(InvalidInput, match=f"{name} is .* must be"):
        read_serve_config({**environment, name: value})


def test_every_variable_but_the_threads_is_needed(environment: dict[str, str]) -> None:
    for name in set(environment) - {"LAYERWISE_THREADS"}:
        with pytest.raises(InvalidInput, match=f"{name} is not set"):
            read_serve_config({key: value for key, value in environment.items() if key != name})


def change(key: str, value: Any) -> Callable[[dict[str, Any]], None]:
    return lambda plan: plan.update({key: value})


def change_plan(environment: dict[str, str], spoil: Callable[[dict[str, Any]], None]) -> None:
    path = Path(environment["LAYERWISE_PLAN_FILE"])
    plan = json.loads(path.read_text())
    spoil(plan)
    path.write_text(json.dumps(plan))


def forget_a_layer(plan: dict[str, Any]) -> None:
    plan["stages"][1]["firstLayer"] = 3


def forget_the_head(plan: dict[str, Any]) -> None:
    plan["stages"][1]["hasHead"] = False


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (forget_a_layer, "every block of the model once"),
        (forget_the_head, "every block of the model once"),
        (change("dtype", "Float8"), "is no plan"),
        (change("stages", []), "every block"),
        (change("stages", None), "is no plan"),
        (change("numLanes", 0), "at least 1"),
        (change("tensorParallelSize", 0), "tensorParallelSize is 0, and must be from 1 to 2"),
        (change("tensorParallelSize", 4), "tensorParallelSize is 4, and must be from 1 to 2"),
        (change("tensorParallelSize", 10**12), "must be from 1 to 2"),
        (change("tensorParallelSize", "2"), "tensorParallelSize is '2'"),
    ],
)
def test_a_plan_that_cannot_be_followed_is_refused(
    environment: dict[str, str], spoil: Callable[[dict[str, Any]], None], says: str
) -> None:
    change_plan(environment, spoil)
    with pytest.raises(InvalidInput, match=says):
        read_serve_config(environment)


def test_with_tensor_parallelism_a_stage_has_as_many_ranks(environment: dict[str, str]) -> None:
    change_plan(environment, change("tensorParallelSize", 2))
    config = read_serve_config({**environment, "LAYERWISE_RANK": "3"})
    assert (config.num_ranks, config.place.stage, config.place.shard) == (4, 1, Shard(1, 2))
    assert config.stage.layers == range(2, 4)
    with pytest.raises(InvalidInput, match="LAYERWISE_RANK is '4', and must be from 0 to 3"):
        read_serve_config({**environment, "LAYERWISE_RANK": "4"})


@pytest.mark.parametrize(
    ("architecture", "says"),
    [
        ({"numHeads": 9, "numKeyValueHeads": 9}, "3 does not divide the 16 columns of the MLP: use one of 1"),
        ({"numHeads": 4, "mlpHiddenSize": 12}, "3 does not divide the 4 heads"),
        (
            {"numHeads": 12, "numKeyValueHeads": 2, "mlpHiddenSize": 12},
            "3 does not divide the 2 key/value heads",
        ),
        ({"numHeads": 3, "numExperts": 4, "expertsPerToken": 2}, "3 does not divide the 4 experts"),
        ({"numHeads": 3, "vocabularySize": 2}, "must be from 1 to 2"),
    ],
)
def test_a_tensor_parallel_size_that_cuts_no_equal_parts_is_refused(
    environment: dict[str, str], architecture: dict[str, int], says: str
) -> None:
    def spoil(plan: dict[str, Any]) -> None:
        plan["tensorParallelSize"] = 3
        plan["architecture"].update(architecture)

    change_plan(environment, spoil)
    with pytest.raises(InvalidInput, match=says):
        read_serve_config(environment)


@pytest.mark.parametrize("text", ["", "[]", "{}", "[" * 9999, "\0"])
def test_a_file_that_is_no_plan_is_refused(environment: dict[str, str], text: str) -> None:
    Path(environment["LAYERWISE_PLAN_FILE"]).write_text(text)
    with pytest.raises(InvalidInput, match="is no plan"):
        read_serve_config(environment)


@pytest.mark.parametrize(
    ("command", "changes", "reason"),
    [
        ("serve", {"LAYERWISE_RANK": "7"}, "InvalidInput"),
        ("serve", {"LAYERWISE_PLAN_FILE": "/gone/plan.json"}, "InvalidInput"),
        ("inspect", {"LAYERWISE_MODEL_DIRECTORY": "/gone"}, "ModelNotFound"),
    ],
)
def test_what_a_user_got_wrong_is_one_line_status_64_and_a_termination_message(
    environment: dict[str, str], tmp_path: Path, command: str, changes: dict[str, str], reason: str
) -> None:
    log = tmp_path / "termination"
    done = subprocess.run(
        [sys.executable, "-m", "layerwise_worker", command],
        env={**os.environ, **environment, **changes, "LAYERWISE_TERMINATION_LOG": str(log)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 64
    assert done.stderr.startswith(f"layerwise-worker: {reason}: ")
    assert done.stderr.count("\n") == 1
    assert json.loads(log.read_text())["reason"] == reason
