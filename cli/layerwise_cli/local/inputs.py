"""From the command's options, and a deployment's file if there is one, to a plan and the ranks' settings."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from layerwise.errors import InvalidInput, ModelNotFound
from layerwise.hardware.accelerator import accelerator_from_profile
from layerwise.hardware.catalogue import Profiles, profile_named, shipped_profiles
from layerwise.models.architecture import Architecture
from layerwise.models.huggingface import read_architecture
from layerwise.planning.plan import Plan
from layerwise.planning.planner import plan
from layerwise.planning.request import AcceleratorGroup, PlanRequest, request_from_spec
from layerwise.resources.benchmark import Mode
from layerwise.resources.deployment import DeploymentSpec, Serving, StrategyType
from layerwise.resources.quantity import parse_quantity
from layerwise.resources.worker import Device, Worker
from layerwise_cli.local import machine
from layerwise_cli.plan.accelerators import groups_from_text
from layerwise_cli.plan.documents import deployment_in, profiles_in, read_resources
from layerwise_cli.plan.model import architecture_of
from layerwise_worker.sources import ModelSource, Seed

CPU_PROFILE = "generic-cpu"
MOST_RANKS = 64


@dataclass(frozen=True, slots=True)
class LocalOptions:
    """What was asked on the command line; None: as the file says, or the default.

    `wishes` are fields of PlanRequest that override the file's.
    """

    model_directory: Path | None
    synthetic: str | None = None
    file: Path | None = None
    accelerators: str | None = None
    device: str | None = None
    threads: int | None = None
    port: int | None = None
    wishes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class LocalInputs:
    """A plan and how its ranks are to be run; `notes` say what of the file has no meaning here."""

    plan: Plan
    model: ModelSource
    model_name: str
    device: Device
    threads: int
    port: int
    serving: Serving
    grace_seconds: int
    environment: Mapping[str, str]
    visible_devices: tuple[str, ...]
    notes: tuple[str, ...]


def tensor_pipeline(size: int | None) -> dict[str, Any]:
    """The wishes of someone who asks for so many ranks a stage; none for who does not."""
    if size is None:
        return {}
    return {"strategy": StrategyType.TENSOR_PIPELINE, "tensor_parallel_size": size}


def local_inputs(options: LocalOptions) -> LocalInputs:
    """Everything that can be known before a process starts; raises LayerwiseError for the first mistake."""
    resources = read_resources(options.file) if options.file is not None else []
    spec = deployment_in(resources, options.file) if options.file is not None else None
    machine.check_worker_packages()
    model, architecture = _model(options, spec)
    made = _plan(options, architecture, spec, {**shipped_profiles(), **profiles_in(resources)})
    # Here every rank is a process by itself, which shows its own progress and may be lost alone.
    made = replace(made, ranks_per_pod=1)
    device = _device(options, spec)
    visible: tuple[str, ...] = ()
    if device is Device.CUDA:
        visible = machine.assign_gpus(made.num_ranks, machine.visible_gpus())
    else:
        machine.check_memory(made, machine.available_memory())
    worker = spec.worker if spec is not None else Worker()
    serving = spec.serving if spec is not None else Serving()
    return LocalInputs(
        plan=made,
        model=model,
        model_name=_model_name(options, resources),
        device=device,
        threads=_threads(options, spec, made.num_ranks),
        port=machine.choose_port(serving.port if options.port is None else options.port),
        serving=serving,
        grace_seconds=max(1, worker.termination_grace_period_seconds - 5),
        environment={variable.name: variable.value for variable in worker.env},
        visible_devices=visible,
        notes=_notes(spec, made.num_ranks),
    )


def _model(options: LocalOptions, spec: DeploymentSpec | None) -> tuple[ModelSource, Architecture]:
    """What ranks make or read their weights from; options win over the file."""
    if options.model_directory is not None and options.synthetic is None:
        return options.model_directory, _checked(options.model_directory)
    architecture = architecture_of(options.model_directory, options.synthetic, spec)
    if architecture.head_size % 2:
        raise InvalidInput(f"headSize is {architecture.head_size}: it must be even to be computed")
    described = spec.model.synthetic if spec is not None and options.synthetic is None else None
    return Seed(described.seed if described is not None else 0), architecture


def _checked(directory: Path) -> Architecture:
    """The architecture, with the headers of the model's files checked against it before any rank starts."""
    if not directory.is_dir():
        raise ModelNotFound(
            f"--model-dir {directory} is no directory: give one with config.json, *.safetensors and "
            "tokenizer.json, such as `layerwise model fetch smollm2 DIR` makes"
        )
    architecture = read_architecture(directory)
    from layerwise_worker.inspection import model_facts

    model_facts(directory)
    return architecture


def _plan(
    options: LocalOptions, architecture: Architecture, spec: DeploymentSpec | None, profiles: Profiles
) -> Plan:
    request = request_from_spec(spec) if spec is not None else PlanRequest()
    given = {name: value for name, value in options.wishes.items() if value is not None}
    request = replace(request, **given)
    longest = max(request.max_lane_tokens, request.prompt_tokens + request.output_tokens)
    request = replace(request, max_lane_tokens=given.get("max_lane_tokens", longest))
    _check_number(_num_ranks(request))
    request = replace(request, stages_at_once=_stages_at_once(options, spec, request))
    made = plan(architecture, request, _groups(options, spec, request, profiles))
    _check_number(made.num_ranks)
    return made


def _check_number(num_ranks: int) -> None:
    if num_ranks > MOST_RANKS:
        raise InvalidInput(
            f"{num_ranks} ranks are as many processes: on one machine at most {MOST_RANKS} are allowed"
        )


def _threads(options: LocalOptions, spec: DeploymentSpec | None, num_ranks: int) -> int:
    """Of each rank: as asked for, or an equal share of the cores."""
    asked = options.threads or (_cpus(spec.worker) if spec is not None else 0)
    return asked or max(1, machine.num_cores() // num_ranks)


def _stages_at_once(options: LocalOptions, spec: DeploymentSpec | None, request: PlanRequest) -> int | None:
    """How many stages the cores can compute at the same time; None: all, or they do not compute here."""
    if options.accelerators is not None or _device(options, spec) is not Device.CPU:
        return None
    num_ranks = _num_ranks(request)
    at_once = machine.num_cores() // (_threads(options, spec, num_ranks) * request.tensor_parallel_size)
    return max(1, at_once) if at_once * request.tensor_parallel_size < num_ranks else None


def _num_ranks(request: PlanRequest) -> int:
    """As many as asked for, or one to a stage: what is planned for is this machine."""
    return (request.stages or len(request.layer_ranges or ()) or 1) * request.tensor_parallel_size


def _groups(
    options: LocalOptions, spec: DeploymentSpec | None, request: PlanRequest, profiles: Profiles
) -> tuple[AcceleratorGroup, ...]:
    """The accelerators to plan for: those named, or as many CPUs as stages, which share this machine."""
    if options.accelerators is not None:
        return groups_from_text(options.accelerators, profiles)
    num_ranks = _num_ranks(request)
    name = CPU_PROFILE if spec is None else spec.accelerators.profile or CPU_PROFILE
    accelerator = accelerator_from_profile(name, profile_named(name, profiles))
    if name == CPU_PROFILE:
        accelerator = replace(accelerator, memory_bytes=machine.total_memory() // num_ranks)
    return (AcceleratorGroup(accelerator, num_ranks * max(1, request.replicas), per_node=num_ranks),)


def _device(options: LocalOptions, spec: DeploymentSpec | None) -> Device:
    if options.device is not None:
        return Device(options.device)
    return spec.worker.device if spec is not None else Device.CPU


def _model_name(options: LocalOptions, resources: list[Mapping[str, Any]]) -> str:
    """The name under which the front serves the model: the deployment's, or the directory's."""
    for resource in resources:
        if resource.get("kind") == "LayerwiseDeployment":
            name = (resource.get("metadata") or {}).get("name")
            if isinstance(name, str) and name:
                return name
    if options.model_directory is None:
        return "synthetic"
    return options.model_directory.resolve().name or "local"


def _cpus(worker: Worker) -> int:
    """Whole CPUs of the worker's resources; 0 where they name none, or less than one."""
    text = worker.resources.limits.get("cpu") or worker.resources.requests.get("cpu")
    return int(parse_quantity(text)) if text is not None else 0


def _notes(spec: DeploymentSpec | None, num_ranks: int) -> tuple[str, ...]:
    notes = []
    if num_ranks > 1:
        notes.append(
            "the prediction is for accelerators that ranks have to themselves: here they share this machine"
        )
    if spec is None:
        return tuple(notes)
    if spec.replicas != 1:
        notes.append(f"spec.replicas is {spec.replicas}: one pipeline is run here")
    if spec.mode is Mode.BENCHMARK:
        notes.append(
            "spec.mode is Benchmark, and speaks to a cluster: the model is served here; to measure on this "
            "machine use layerwise bench --local"
        )
    if spec.suspend or spec.plan_only:
        what = "suspend" if spec.suspend else "planOnly"
        notes.append(f"spec.{what} is true, and speaks to a cluster: the pipeline is run here all the same")
    return tuple(notes)
