"""`layerwise run --local` before a rank starts: what it plans, and what it refuses."""

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.unit.cli_run.fakes import CONFIG, write_model
from typer.testing import CliRunner

from layerwise.errors import InvalidInput, LayerwiseError, NoPlan
from layerwise.resources.worker import Device
from layerwise_cli.local import machine
from layerwise_cli.local.inputs import LocalInputs, LocalOptions, local_inputs, tensor_pipeline
from layerwise_cli.local.serve import descriptions, invitation
from layerwise_cli.main import app
from layerwise_worker.sources import Seed

DEPLOYMENT = """
apiVersion: layerwise.dev/v1alpha1
kind: LayerwiseDeployment
metadata: {name: tiny}
spec:
  replicas: 2
  model: {volume: {claimName: models}, dtype: Float32}
  strategy: {layerRanges: ["0", "1-3"]}
  workload: {concurrency: 6, promptTokens: 8, outputTokens: 8}
  worker:
    device: CPU
    resources: {limits: {cpu: "3"}}
    env: [{name: GREETING, value: hello}]
    terminationGracePeriodSeconds: 9
  serving: {port: 0, maxPromptTokens: 32, maxOutputTokens: 16, maxQueuedRequests: 7}
"""


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_model(tmp_path / "tiny-model")


@pytest.fixture
def deployment(tmp_path: Path) -> Path:
    path = tmp_path / "deployment.yaml"
    path.write_text(DEPLOYMENT.replace("port: 0, ", ""))
    return path


@pytest.fixture
def busy_port() -> Iterator[int]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


def unharmed(_model: Path) -> None:
    """Nothing is wrong with the model."""


def run(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["run", *arguments])
    assert isinstance(result.exception, SystemExit), result.exception
    assert result.stdout == ""
    return result.exit_code, result.stderr


def inputs(model: Path, **options: Any) -> LocalInputs:
    return local_inputs(LocalOptions(model, port=0, **options))


def test_a_directory_and_a_number_of_stages_are_enough(model: Path) -> None:
    made = inputs(model, wishes={"stages": 3})
    assert len(made.plan.stages) == 3
    assert {stage.accelerator for stage in made.plan.stages} == {"generic-cpu"}
    assert (made.model_name, made.device) == ("tiny-model", Device.CPU)
    assert made.threads == max(1, machine.num_cores() // 3)
    assert made.port > 0


@pytest.mark.parametrize(
    ("cores", "threads", "in_flight"), [(8, None, 3), (2, None, 2), (4, 2, 2), (1, 1, 1)]
)
def test_micro_batches_are_as_many_as_the_cores_can_compute_at_once(
    monkeypatch: pytest.MonkeyPatch, cores: int, threads: int | None, in_flight: int
) -> None:
    monkeypatch.setattr(machine, "num_cores", lambda: cores)
    layers = "layers=30,heads=8,headSize=64,mlpHiddenSize=8192"
    wishes = {"stages": 3, "concurrency": 6}
    made = local_inputs(LocalOptions(None, synthetic=layers, threads=threads, port=0, wishes=wishes))
    assert made.plan.predicted.micro_batches_in_flight == in_flight


def test_one_stage_is_the_default(model: Path) -> None:
    assert len(inputs(model).plan.stages) == 1


def test_a_deployment_is_planned_and_served_as_it_says(model: Path, deployment: Path) -> None:
    made = inputs(model, file=deployment)
    assert [list(stage.layers) for stage in made.plan.stages] == [[0], [1, 2, 3]]
    assert (made.plan.dtype, made.plan.num_lanes, made.plan.lane_tokens) == ("Float32", 3, 48)
    assert (made.model_name, made.threads, made.grace_seconds) == ("tiny", 3, 4)
    assert made.environment == {"GREETING": "hello"}
    assert made.serving.max_queued_requests == 7
    assert any("replicas is 2" in note for note in made.notes)


def test_a_synthetic_model_of_a_file_needs_no_directory() -> None:
    file = Path(__file__).parents[3] / "examples" / "benchmark-dense.yaml"
    made = local_inputs(LocalOptions(model_directory=None, file=file, port=0))
    assert (made.model, made.model_name, len(made.plan.stages)) == (Seed(0), "benchmark-dense", 2)
    assert any("spec.mode is Benchmark" in note for note in made.notes)


def test_a_synthetic_model_of_the_command_line_wins_over_the_files() -> None:
    file = Path(__file__).parents[3] / "examples" / "benchmark-dense.yaml"
    text = "layers=3,heads=2,headSize=8,mlpHiddenSize=16"
    made = local_inputs(LocalOptions(model_directory=None, synthetic=text, file=file, port=0))
    assert made.plan.architecture.num_layers == 3
    with pytest.raises(InvalidInput, match="headSize is 7: it must be even"):
        local_inputs(LocalOptions(model_directory=None, synthetic=text.replace("=8", "=7"), port=0))


TENSOR_PIPELINE = """
apiVersion: layerwise.dev/v1alpha1
kind: LayerwiseDeployment
metadata: {name: split}
spec:
  model: {volume: {claimName: models}, dtype: Float32}
  strategy: {type: TensorPipeline, tensorParallelSize: 2, pipelineParallelSize: 2}
  worker: {podGranularity: Node}
"""


def test_a_tensor_pipeline_of_the_file_is_run_with_a_process_for_each_rank(
    model: Path, tmp_path: Path
) -> None:
    path = tmp_path / "split.yaml"
    path.write_text(TENSOR_PIPELINE)
    made = inputs(model, file=path, device="CPU")
    assert (made.plan.strategy, made.plan.num_ranks, made.plan.num_pods) == ("TensorPipeline", 4, 4)
    assert descriptions(made.plan) == [
        "rank 0  layers 0-1, part 1 of 2",
        "rank 1  layers 0-1, part 2 of 2",
        "rank 2  layers 2-3, part 1 of 2",
        "rank 3  layers 2-3, part 2 of 2",
    ]


def test_auto_of_the_file_is_decided_for_the_accelerators_that_are_named(model: Path, tmp_path: Path) -> None:
    path = tmp_path / "auto.yaml"
    wanted = "{type: Auto}"
    path.write_text(
        TENSOR_PIPELINE.replace(
            "{type: TensorPipeline, tensorParallelSize: 2, pipelineParallelSize: 2}", wanted
        )
    )
    made = inputs(model, file=path, device="CPU", accelerators="4xgeneric-cpu")
    assert made.plan.strategy in ("LayerWise", "TensorPipeline")


def test_stages_can_be_split_without_a_file(model: Path) -> None:
    made = inputs(model, wishes=tensor_pipeline(2))
    assert (made.plan.strategy, made.plan.num_ranks) == ("TensorPipeline", 2)
    assert tensor_pipeline(None) == {}


def test_options_win_over_the_file(model: Path, deployment: Path) -> None:
    made = inputs(model, file=deployment, threads=1, wishes={"concurrency": 20})
    assert (made.threads, made.plan.num_lanes) == (1, 10)


def test_accelerators_that_are_named_are_planned_for(model: Path) -> None:
    made = inputs(model, accelerators="2xh100-sxm5-80gb", wishes={"stages": 2})
    assert {stage.accelerator for stage in made.plan.stages} == {"h100-sxm5-80gb"}


def test_without_local_the_way_to_a_cluster_is_named(model: Path) -> None:
    status, err = run("--model-dir", str(model))
    assert status == 2
    assert "--local" in err
    assert "kubectl apply" in err


@pytest.mark.parametrize(
    ("break_it", "arguments", "reason"),
    [
        (unharmed, ("--stages", "20"), "TooManyStages"),
        (unharmed, ("--accelerators", "3xabacus"), "UnknownAccelerator"),
        (unharmed, ("--tensor-parallel-size", "3"), "3 does not divide the 4 heads"),
        (unharmed, ("-f", "/nowhere.yaml"), "cannot be read"),
        (lambda model: (model / "config.json").unlink(), (), "ModelNotFound"),
        (
            lambda model: (model / "config.json").write_text(json.dumps({**CONFIG, "model_type": "gpt9"})),
            (),
            "UnknownFamily",
        ),
        (
            lambda model: (model / "model.safetensors").rename(model / "pytorch_model.bin"),
            (),
            "UnsafeWeights",
        ),
        (lambda model: (model / "model.safetensors").write_bytes(b"\xff" * 64), (), "InvalidModel"),
    ],
)
def test_mistakes_are_one_line_and_exit_status_2(
    model: Path, break_it: Any, arguments: tuple[str, ...], reason: str
) -> None:
    break_it(model)
    status, err = run("--local", "--model-dir", str(model), "--port", "0", *arguments)
    assert status == 2
    assert reason in err
    assert err.count("\n") == 1


def test_a_directory_that_is_not_there_is_said_with_how_to_get_one() -> None:
    status, err = run("--local", "--model-dir", "/nowhere")
    assert status == 2
    assert "ModelNotFound" in err
    assert "layerwise model fetch" in err


def test_a_port_that_is_taken_is_said(model: Path, busy_port: int) -> None:
    status, err = run("--local", "--model-dir", str(model), "--port", str(busy_port))
    assert status == 2
    assert f"port {busy_port}" in err
    assert "--port" in err


def test_too_little_memory_is_said_with_the_sum(model: Path) -> None:
    plan = inputs(model, wishes={"stages": 2}).plan
    machine.check_memory(plan, available_bytes=1 << 40)
    with pytest.raises(NoPlan, match="and 2 ranks need 537 MB") as caught:
        machine.check_memory(plan, available_bytes=1 << 20)
    assert caught.value.reason == "InsufficientMemory"


def test_a_model_larger_than_memory_is_refused_by_its_plan(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "total_memory", lambda: 4096)
    with pytest.raises(LayerwiseError) as caught:
        inputs(model, wishes={"stages": 2})
    assert caught.value.reason == "InsufficientMemory"


@pytest.mark.parametrize(
    ("visible", "files", "found"),
    [
        (None, ("0", "10", "2", "ctl", "-uvm"), ("0", "2", "10")),
        ("", ("0", "1"), ()),
        ("3, GPU-abc", ("0",), ("3", "GPU-abc")),
    ],
)
def test_gpus_are_those_of_the_driver_or_of_the_environment(
    visible: str | None, files: tuple[str, ...], found: tuple[str, ...]
) -> None:
    assert machine.gpus(visible, files) == found


def test_each_stage_on_cuda_takes_a_gpu() -> None:
    assert machine.assign_gpus(2, ("0", "1", "2")) == ("0", "1")
    with pytest.raises(InvalidInput, match="2 ranks on CUDA take a GPU each, and this machine shows 1 GPU"):
        machine.assign_gpus(2, ("0",))


def test_missing_packages_are_named_with_how_to_install_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "_WORKER_PACKAGES", ("torch", "no_such_package"))
    with pytest.raises(InvalidInput, match=r"no_such_package cannot be imported.*layerwise\[worker\]"):
        machine.check_worker_packages()


def test_the_invitation_survives_a_shell() -> None:
    assert invitation("http://h:1", "it's").count("'\"'\"'") == 1
    assert invitation("http://h:1", "m").endswith('"max_tokens": 16}\'')


def test_more_processes_than_a_machine_should_run_are_refused(tmp_path: Path) -> None:
    large = write_model(tmp_path / "large", num_hidden_layers=80)
    with pytest.raises(InvalidInput, match="at most 64"):
        inputs(large, wishes={"stages": 70})
