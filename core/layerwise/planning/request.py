"""What the planner is asked: a workload, wishes and the accelerators that may be used."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from pydantic.alias_generators import to_camel

from layerwise.errors import InvalidInput, NoPlan
from layerwise.hardware.accelerator import Accelerator
from layerwise.models.architecture import Architecture
from layerwise.planning.chunks import CHUNK_TOKENS
from layerwise.resources.benchmark import Mode
from layerwise.resources.deployment import CacheFit, DeploymentSpec, Dtype, StrategyType
from layerwise.resources.worker import Device, PodGranularity


@dataclass(frozen=True, slots=True)
class AcceleratorGroup:
    """Equal accelerators, `per_node` of them in each node."""

    accelerator: Accelerator
    count: int
    per_node: int = 8

    def __post_init__(self) -> None:
        if self.count < 1 or self.per_node < 1:
            raise InvalidInput(
                f"{self.count} x {self.accelerator.name}, {self.per_node} a node: both must be at least 1"
            )


@dataclass(frozen=True, slots=True)
class PlanRequest:
    """The wishes of a LayerwiseDeployment that bear on its plan.

    `concurrency` counts sequences in flight over all `replicas`; each pipeline plans for its share.
    `prompt_tokens` and `output_tokens` are typical lengths; a lane holds `max_lane_tokens` positions, or as
    many as the model has. `layer_ranges` are inclusive text such as "0-3". `isolated_pods`: stages of one
    accelerator cannot use the links within a node; `node_pods`: pods hold a node's share of the pipeline, and
    their stages can. `tensor_parallel_size` is for TensorPipeline, whose `stages` are its pipeline-parallel
    size. `chunk_tokens` of a prompt are read in one pass. `stages_at_once` can compute at the same
    time, where they share the processors of one machine; None: all of them.
    """

    dtype: Dtype = Dtype.BFLOAT16
    concurrency: int = 8
    replicas: int = 1
    micro_batch_size: int | None = None
    prompt_tokens: int = 128
    output_tokens: int = 128
    max_lane_tokens: int = 1536
    cache_fit: CacheFit = CacheFit.PREFERRED
    stages: int | None = None
    layer_ranges: tuple[str, ...] | None = None
    isolated_pods: bool = True
    strategy: StrategyType = StrategyType.LAYER_WISE
    tensor_parallel_size: int = 1
    chunk_tokens: int = CHUNK_TOKENS[Device.CUDA]
    node_pods: bool = False
    stages_at_once: int | None = None

    def __post_init__(self) -> None:
        for name in (
            "concurrency",
            "prompt_tokens",
            "output_tokens",
            "max_lane_tokens",
            "tensor_parallel_size",
            "chunk_tokens",
        ):
            if getattr(self, name) < 1:
                raise InvalidInput(f"{to_camel(name)} is {getattr(self, name)}: it must be at least 1")
        for name in ("micro_batch_size", "stages", "stages_at_once"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InvalidInput(f"{to_camel(name)} is {value}: it must be at least 1, or be left out")

    @property
    def num_lanes(self) -> int:
        """Sequences that one pipeline holds at once: its share of the concurrency, rounded up."""
        return -(-self.concurrency // max(1, self.replicas))

    @property
    def mean_context(self) -> float:
        """Positions that a token attends to on average: the prompt and half of the output."""
        return self.prompt_tokens + self.output_tokens / 2

    def lane_tokens(self, architecture: Architecture) -> int:
        """Positions of a lane: what may be asked for, within what the model can do."""
        return min(self.max_lane_tokens, architecture.max_positions or self.max_lane_tokens)


def request_from_spec(spec: DeploymentSpec) -> PlanRequest:
    """The planner's part of a deployment's spec; raises NoPlan(InvalidPodGranularity)."""
    _require_links(spec)
    return PlanRequest(
        dtype=spec.model.dtype,
        concurrency=spec.workload.concurrency,
        replicas=spec.replicas,
        micro_batch_size=spec.workload.micro_batch_size,
        prompt_tokens=spec.workload.prompt_tokens,
        output_tokens=spec.workload.output_tokens,
        max_lane_tokens=_lane_tokens(spec),
        cache_fit=spec.strategy.cache_fit,
        stages=spec.strategy.stages or spec.strategy.pipeline_parallel_size,
        layer_ranges=spec.strategy.layer_ranges,
        chunk_tokens=CHUNK_TOKENS[spec.worker.device],
        strategy=spec.strategy.type,
        tensor_parallel_size=spec.strategy.tensor_parallel_size or 1,
        node_pods=spec.worker.pod_granularity is PodGranularity.NODE,
    )


def _require_links(spec: DeploymentSpec) -> None:
    """Accelerators that share a stage add up twice a layer: pods of CUDA have only the network for that."""
    alone = spec.strategy.type is StrategyType.LAYER_WISE or spec.worker.device is Device.CPU
    if not alone and spec.worker.pod_granularity is not PodGranularity.NODE:
        raise NoPlan(
            "InvalidPodGranularity",
            f"strategy.type is {spec.strategy.type.value} and worker.podGranularity Accelerator: on CUDA the "
            "accelerators that share a stage must be in one pod to use the links between them: set "
            "worker.podGranularity Node, or strategy.type LayerWise",
        )


def _lane_tokens(spec: DeploymentSpec) -> int:
    """As long as a request may be; a benchmark's are all alike."""
    if spec.mode is Mode.BENCHMARK:
        return spec.workload.prompt_tokens + spec.workload.output_tokens
    return spec.serving.max_prompt_tokens + spec.serving.max_output_tokens


def _figures(accelerator: Accelerator) -> dict[str, Any]:
    """All of them; what most have none of is left out, so that plans made before it stay in force."""
    figures = asdict(accelerator)
    for name in ("held_as", "weights_held_as"):
        if not figures[name]:
            del figures[name]
    return figures


def input_hash(
    architecture: Architecture, request: PlanRequest, accelerators: Sequence[AcceleratorGroup]
) -> str:
    """`sha256:` over everything that a plan is made from, but for how many accelerators there are.

    Numbers of nodes come and go; a plan stays until the spec, a profile or the model changes. The scale
    (`replicas`) counts only through the share of the concurrency that one pipeline gets. How prompts are cut
    bears on what is predicted, and on no cut.
    """
    wishes = asdict(request)
    del wishes["concurrency"], wishes["replicas"], wishes["chunk_tokens"]
    for name in ("node_pods", "stages_at_once"):
        if not wishes[name]:
            # What was there before this wish was hashed without it: such plans stay in force.
            del wishes[name]
    inputs: Mapping[str, Any] = {
        "architecture": architecture.to_json(),
        "request": {**wishes, "num_lanes": request.num_lanes},
        "accelerators": sorted(
            (_figures(group.accelerator) for group in accelerators), key=lambda a: str(a["name"])
        ),
    }
    text = json.dumps(inputs, sort_keys=True, separators=(",", ":"))
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()
