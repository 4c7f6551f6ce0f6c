"""Everything a worker is told from outside, read once: the only module that looks at the environment."""

import ipaddress
import json
import os
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from pathlib import Path

from layerwise.benchmark.workload import PromptKind, Workload
from layerwise.errors import InvalidInput, NoPlan
from layerwise.models.synthetic import FAMILY as SYNTHETIC
from layerwise.planning.plan import Plan, StagePlan
from layerwise.planning.tensor_parallel import require_valid
from layerwise.resources.deployment import Dtype
from layerwise.resources.worker import Device
from layerwise_worker.benchmark import BenchmarkSettings
from layerwise_worker.cores import Crowd
from layerwise_worker.place import Place
from layerwise_worker.sources import ModelSource, Seed

PLAN_BYTES = 16 << 20
# Set by the supervisor of a pod on the engine processes, which each are one of its ranks.
LOCAL_RANK = "LAYERWISE_LOCAL_RANK"
_PORTS = range(1, 65536)
_MAX_DIGITS = 10
_MAX_SEED = (1 << 31) - 1
_MAX_REQUESTS = 1 << 22


@dataclass(frozen=True, slots=True)
class ServeConfig:
    """What one rank of one pipeline needs to know; addresses are literal IP addresses or DNS names.

    `local_rank` counts the ranks of a pod: on CUDA it is the number of the rank's device. `cores` are those
    that all ranks of the pipeline share with nobody else, where they run on one machine and it is known.
    """

    plan: Plan
    rank: int
    model: ModelSource
    model_name: str
    pod_name: str
    bind_address: str
    coordinator_host: str
    control_port: int
    rendezvous_port: int
    http_port: int
    device: Device
    max_queued_requests: int
    max_prompt_tokens: int
    max_output_tokens: int
    grace_seconds: int
    threads: int
    benchmark: BenchmarkSettings | None = None
    local_rank: int = 0
    cores: tuple[int, ...] = ()

    @property
    def crowd(self) -> Crowd:
        """What computes at once, if all ranks run on one machine."""
        return crowd_of(self.plan, self.threads)

    @property
    def stage(self) -> StagePlan:
        """This rank's row of the plan."""
        return self.plan.stages[self.place.stage]

    @property
    def place(self) -> Place:
        """Where this rank stands in the pipeline."""
        return Place(self.rank, len(self.plan.stages), self.plan.tensor_parallel_size)

    @property
    def num_ranks(self) -> int:
        """Ranks of the pipeline: one for each stage, times those that share one."""
        return self.place.num_ranks

    @property
    def of_pod(self) -> tuple["ServeConfig", ...]:
        """What every rank of this rank's pod needs to know."""
        first = self.rank - self.local_rank
        locals_ = range(self.plan.ranks_per_pod)
        return tuple(replace(self, rank=first + local, local_rank=local) for local in locals_)

    @property
    def micro_batch_size(self) -> int:
        """Most sequences of one micro-batch."""
        return _micro_batch_size(self.plan)

    @property
    def micro_batches_in_flight(self) -> int:
        """How many micro-batches the pipeline holds at most."""
        return _micro_batches_in_flight(self.plan)

    @property
    def dtype(self) -> Dtype:
        """Number format of weights, activations, keys and values."""
        return Dtype(self.plan.dtype)


def read_serve_config(environment: Mapping[str, str]) -> ServeConfig:
    """The configuration of `layerwise-worker serve`; raises InvalidInput that names the variable."""
    read = _Reader(environment)
    plan = read_plan(Path(read.text("LAYERWISE_PLAN_FILE")))
    pod = read.number("LAYERWISE_RANK", range(plan.num_pods))
    local_rank = read.number(LOCAL_RANK, range(plan.ranks_per_pod), default=0)
    address = read.text("LAYERWISE_BIND_ADDRESS")
    try:
        ipaddress.ip_address(address)
    except ValueError as error:
        raise InvalidInput(
            f"LAYERWISE_BIND_ADDRESS is {address!r}, and must be the pod's IP address"
        ) from error
    cores = len(os.sched_getaffinity(0))
    return ServeConfig(
        plan=plan,
        rank=pod * plan.ranks_per_pod + local_rank,
        model=read.model(plan),
        model_name=read.text("LAYERWISE_MODEL_NAME"),
        pod_name=read.text("LAYERWISE_POD_NAME"),
        bind_address=address,
        coordinator_host=read.text("LAYERWISE_COORDINATOR_HOST"),
        control_port=read.number("LAYERWISE_CONTROL_PORT", _PORTS),
        rendezvous_port=read.number("LAYERWISE_RENDEZVOUS_PORT", _PORTS),
        http_port=read.number("LAYERWISE_HTTP_PORT", _PORTS),
        device=read.device("LAYERWISE_DEVICE"),
        max_queued_requests=read.number("LAYERWISE_MAX_QUEUED_REQUESTS", range(1, 65_537)),
        max_prompt_tokens=read.number("LAYERWISE_MAX_PROMPT_TOKENS", range(1, 1_048_577)),
        max_output_tokens=read.number("LAYERWISE_MAX_OUTPUT_TOKENS", range(1, 1_048_577)),
        grace_seconds=read.number("LAYERWISE_GRACE_SECONDS", range(1, 3601)),
        threads=read.number("LAYERWISE_THREADS", range(1, 1025), default=max(1, cores // plan.ranks_per_pod)),
        local_rank=local_rank,
        benchmark=_read_benchmark(read, plan),
        cores=read.cores("LAYERWISE_CORES", os.sched_getaffinity(0)),
    )


def crowd_of(plan: Plan, threads: int) -> Crowd:
    """What computes at once, if all ranks of a plan run on one machine."""
    return Crowd(plan.num_ranks, _micro_batches_in_flight(plan), threads, plan.tensor_parallel_size)


def _micro_batch_size(plan: Plan) -> int:
    return min(plan.predicted.micro_batch_size, plan.num_lanes)


def _micro_batches_in_flight(plan: Plan) -> int:
    """As planned; with fewer sequences than stages, chunks of a prompt can still keep all of them busy."""
    planned, stages = plan.predicted.micro_batches_in_flight, len(plan.stages)
    return planned if plan.num_lanes >= stages else max(planned, stages)


def _read_benchmark(read: "_Reader", plan: Plan) -> BenchmarkSettings | None:
    """What is to be measured, where the pipeline is there to be measured."""
    if not read.has("LAYERWISE_BENCHMARK_RUN"):
        return None
    tokens = range(1, plan.lane_tokens)
    requests = range(1, _MAX_REQUESTS + 1)
    workload = Workload(
        concurrency=plan.num_lanes,
        num_requests=read.number("LAYERWISE_BENCHMARK_REQUESTS", requests),
        prompt_tokens=read.number("LAYERWISE_BENCHMARK_PROMPT_TOKENS", tokens),
        output_tokens=read.number("LAYERWISE_BENCHMARK_OUTPUT_TOKENS", tokens),
        repetitions=read.number("LAYERWISE_BENCHMARK_REPETITIONS", range(1, 101)),
        num_warmup=read.number("LAYERWISE_BENCHMARK_WARMUP_REQUESTS", range(_MAX_REQUESTS + 1)),
        seed=read.number("LAYERWISE_BENCHMARK_SEED", range(_MAX_SEED + 1)),
        prompt_kind=PromptKind.TOKENS,
        token_ids_below=plan.architecture.vocabulary_size,
    )
    if workload.prompt_tokens + workload.output_tokens > plan.lane_tokens:
        raise InvalidInput(
            f"LAYERWISE_BENCHMARK_PROMPT_TOKENS is {workload.prompt_tokens} and "
            f"LAYERWISE_BENCHMARK_OUTPUT_TOKENS {workload.output_tokens}: together they must be at most "
            f"{plan.lane_tokens}, the positions of a lane (the model has no more, or the plan)"
        )
    return BenchmarkSettings(
        run=read.text("LAYERWISE_BENCHMARK_RUN"),
        workload=workload,
        time_limit_seconds=read.number("LAYERWISE_BENCHMARK_TIME_LIMIT_SECONDS", range(1, 604_801)),
        micro_batch_size=_micro_batch_size(plan),
        micro_batches_in_flight=_micro_batches_in_flight(plan),
    )


def read_plan(path: Path) -> Plan:
    """The plan in `path`; raises InvalidInput when it is no plan that a worker can follow."""
    try:
        if path.stat().st_size > PLAN_BYTES:
            raise InvalidInput(f"plan file {path} is over {PLAN_BYTES} bytes")
        plan = Plan.from_json(json.loads(path.read_bytes()))
        Dtype(plan.dtype)
    except OSError as error:
        raise InvalidInput(f"plan file {path} cannot be read: {error.strerror}") from error
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise InvalidInput(f"plan file {path} is no plan: {error!r}") from error
    _check_plan(plan, path)
    return plan


def _check_plan(plan: Plan, path: Path) -> None:
    """The stages are the model, each layer once and in order, with the embedding first and the head last."""
    layers = [layer for stage in plan.stages for layer in stage.layers]
    complete = (
        layers == list(range(plan.architecture.num_layers))
        and [stage.index for stage in plan.stages if stage.has_embedding] == [0]
        and [stage.index for stage in plan.stages if stage.has_head] == [len(plan.stages) - 1]
    )
    if not complete:
        raise InvalidInput(
            f"plan file {path}: its stages do not hold every block of the model once, in order"
        )
    if min(plan.num_lanes, plan.lane_tokens, plan.predicted.micro_batch_size) < 1:
        raise InvalidInput(
            f"plan file {path}: lanes, tokens of a lane and micro-batch size must be at least 1"
        )
    _check_tensor_parallel_size(plan, path)
    _check_ranks_per_pod(plan, path)


def _check_tensor_parallel_size(plan: Plan, path: Path) -> None:
    """Heads and the like divide by it, so that every rank of a stage has its share."""
    size, architecture = plan.tensor_parallel_size, plan.architecture
    most = min(
        architecture.num_heads,
        architecture.vocabulary_size,
        architecture.shared_expert_hidden_size or architecture.num_heads,
    )
    if type(size) is not int or not 1 <= size <= most:
        raise InvalidInput(f"plan file {path}: tensorParallelSize is {size!r}, and must be from 1 to {most}")
    try:
        require_valid(architecture, size, per_node=size)
    except NoPlan as error:
        raise InvalidInput(f"plan file {path}: {error}") from error


def _check_ranks_per_pod(plan: Plan, path: Path) -> None:
    """Pods are equal, and where they hold several ranks they hold whole stages."""
    share = plan.ranks_per_pod
    if type(share) is not int or share < 1 or plan.num_ranks % share:
        raise InvalidInput(
            f"plan file {path}: ranksPerPod is {share!r}, and must divide the {plan.num_ranks} ranks"
        )
    if share > 1 and share % plan.tensor_parallel_size:
        raise InvalidInput(
            f"plan file {path}: ranksPerPod is {share}, which splits stages of {plan.tensor_parallel_size} "
            "ranks over pods"
        )


class _Reader:
    """Typed access to the variables, with errors that name them."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment

    def has(self, name: str) -> bool:
        return bool(self._environment.get(name))

    def text(self, name: str) -> str:
        value = self._environment.get(name, "")
        if not value:
            raise InvalidInput(f"{name} is not set; the operator sets it on every worker container")
        return value

    def number(self, name: str, allowed: range, default: int | None = None) -> int:
        if default is not None and not self._environment.get(name):
            return default
        value = self.text(name)
        is_number = value.isascii() and value.isdigit() and len(value) <= _MAX_DIGITS
        if not is_number or int(value) not in allowed:
            raise InvalidInput(f"{name} is {value!r}, and must be from {allowed.start} to {allowed.stop - 1}")
        return int(value)

    def cores(self, name: str, usable: AbstractSet[int]) -> tuple[int, ...]:
        """Numbers of cores, with commas between them; none by default."""
        value = self._environment.get(name, "")
        numbers = value.split(",") if value else []
        known = {str(core) for core in usable}
        if len(set(numbers)) != len(numbers) or not known.issuperset(numbers):
            raise InvalidInput(
                f"{name} is {value!r}, and must be cores that this process may run on, each once and "
                f"with commas between them: {','.join(str(core) for core in sorted(usable))}"
            )
        return tuple(int(number) for number in numbers)

    def model(self, plan: Plan) -> ModelSource:
        """A directory for a model that has files, a seed for one that has none."""
        if plan.architecture.family == SYNTHETIC:
            return Seed(self.number("LAYERWISE_SYNTHETIC_SEED", range(_MAX_SEED + 1)))
        return Path(self.text("LAYERWISE_MODEL_DIRECTORY"))

    def device(self, name: str) -> Device:
        value = self.text(name)
        try:
            return Device(value)
        except ValueError as error:
            raise InvalidInput(f"{name} is {value!r}, and must be one of {', '.join(Device)}") from error
