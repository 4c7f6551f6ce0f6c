"""How fast a pipeline of stages is: the period of a cut, and the best number of micro-batches in flight.

C sequences are in flight as m micro-batches of B = ceil(C / m). A micro-batch needs its own tokens back
before it can go again, so that the period P between two micro-batches is bounded by the slowest stage, by
the busiest link, and by a whole round shared by the m in flight:

    P = max( max_s t(s), max_hop bytes / bandwidth, (sum_s t(s) + sum of hops) / m )

Where stages share processors and only k of them can compute at once, P is at least sum_s t(s) / k, too.
Tokens per second are C / (m P), and a user waits m P between two tokens. Hops overlap with computing as far
as this says. Only the output phase is counted here; layerwise.planning.prompts adds the prompts.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from layerwise.models.architecture import Architecture
from layerwise.models.blocks import Block
from layerwise.planning.arrangement import Arrangement
from layerwise.planning.cost import PICOSECONDS, Load, SliceCosts, slice_costs
from layerwise.planning.partition import Partition
from layerwise.planning.plan import Hop
from layerwise.planning.pods import ranks_of_a_pod
from layerwise.planning.request import AcceleratorGroup, PlanRequest
from layerwise.planning.search import Cut


@dataclass(frozen=True, slots=True)
class Pipeline:
    """A cut with its predicted speed. Times in seconds."""

    partition: Partition
    cut: Cut
    stage_seconds: tuple[float, ...]
    round_seconds: float
    period_seconds: float
    num_sequences: int
    micro_batch_size: int
    micro_batches_in_flight: int
    hops: tuple[Hop, ...] = ()

    @property
    def tokens_per_second(self) -> float:
        """Output tokens of one pipeline."""
        return self.num_sequences / self.seconds_per_output_token

    @property
    def seconds_per_output_token(self) -> float:
        """What a user waits between two tokens."""
        return self.micro_batches_in_flight * self.period_seconds


def _fastest(pipelines: Iterable[Pipeline | None]) -> Pipeline | None:
    """The fastest; ties go to fewer micro-batches in flight."""
    return max(
        (pipeline for pipeline in pipelines if pipeline is not None),
        key=lambda pipeline: (pipeline.tokens_per_second, -pipeline.micro_batches_in_flight),
        default=None,
    )


Cutter = Callable[[Partition], Cut | None]
"""Chooses the cut of a partition, or says that there is none."""


@dataclass(frozen=True, slots=True)
class Workshop:
    """What stays the same while numbers of stages and micro-batches are tried."""

    architecture: Architecture
    blocks: tuple[Block, ...]
    request: PlanRequest
    groups: Sequence[AcceleratorGroup]
    tensor_parallel_size: int = 1

    @property
    def counts(self) -> tuple[int, ...]:
        """Stages that one pipeline may have of each kind: all pipelines share one plan."""
        share = max(1, self.request.replicas)
        return tuple(group.count // share // self.tensor_parallel_size for group in self.groups)

    def ranks_per_pod(self, num_stages: int) -> int | None:
        """Ranks that share a pod; None when so many stages cannot be shared out over pods of whole nodes."""
        if not self.request.node_pods:
            return 1
        return ranks_of_a_pod(num_stages, self.tensor_parallel_size, self.groups[0].per_node)

    @property
    def lane_tokens(self) -> int:
        """Positions of a lane."""
        return self.request.lane_tokens(self.architecture)

    @property
    def context(self) -> float:
        """Positions that a token attends to on average, within the model's window if it has one."""
        mean = self.request.mean_context
        return min(mean, self.architecture.sliding_window or mean)

    def partition(self, arrangement: Arrangement, batch: int) -> Partition:
        """The search for a cut at this micro-batch size."""
        request = self.request
        load = Load(
            dtype=request.dtype,
            batch=batch,
            context=self.context,
            lane_positions=request.num_lanes * self.lane_tokens,
            prefill_tokens=self.lane_tokens,
        )
        costs: tuple[SliceCosts, ...] = tuple(
            slice_costs(
                self.blocks,
                group.accelerator,
                load,
                request.cache_fit,
                num_accelerators=arrangement.num_stages * self.tensor_parallel_size,
            )
            for group in self.groups
        )
        return Partition(costs, arrangement, request.cache_fit)

    def best_pipeline(self, arrangement: Arrangement, cutter: Cutter) -> Pipeline | None:
        """The fastest pipeline over numbers of micro-batches in flight; ties go to fewer."""
        sequences = self.request.num_lanes
        if self.request.micro_batch_size is not None:
            wanted = -(-sequences // min(sequences, self.request.micro_batch_size))
            return self.pipeline(arrangement, cutter, wanted)
        tried: dict[int, Pipeline | None] = {}

        def attempt(wanted: int) -> Pipeline | None:
            wanted = min(max(1, wanted), sequences)
            if wanted not in tried:
                tried[wanted] = self.pipeline(arrangement, cutter, wanted)
            return tried[wanted]

        stages = arrangement.num_stages
        first = attempt(stages)
        balanced = int(first.round_seconds / max(first.stage_seconds)) if first is not None else stages
        for wanted in (1, stages + 1, balanced, balanced + 1, self.request.stages_at_once or stages):
            attempt(wanted)
        best = _fastest(tried.values())
        while best is not None:
            # Whole micro-batches of whole sequences: a neighbour may divide them better.
            for wanted in (best.micro_batches_in_flight - 1, best.micro_batches_in_flight + 1):
                attempt(wanted)
            better = _fastest(tried.values())
            if better is best:
                break
            best = better
        return best

    def pipeline(self, arrangement: Arrangement, cutter: Cutter, wanted: int) -> Pipeline | None:
        """The pipeline with about `wanted` equal micro-batches in flight; None without a cut."""
        sequences = self.request.num_lanes
        batch = -(-sequences // wanted)
        in_flight = -(-sequences // batch)
        partition = self.partition(arrangement, batch)
        cut = cutter(partition)
        if cut is None:
            return None
        seconds = tuple(
            partition.costs[kind].picoseconds(first, end) / PICOSECONDS for kind, first, end in cut.slices
        )
        links, hops, busiest = self.hops(cut, batch)
        one_round = sum(seconds) + hops
        return Pipeline(
            partition=partition,
            cut=cut,
            stage_seconds=seconds,
            round_seconds=one_round,
            period_seconds=max(*seconds, busiest, one_round / in_flight, self.turn_seconds(seconds)),
            num_sequences=sequences,
            micro_batch_size=batch,
            micro_batches_in_flight=in_flight,
            hops=links,
        )

    def turn_seconds(self, seconds: Sequence[float]) -> float:
        """How long processors that stages share are busy with one micro-batch; 0 where none are shared."""
        at_once = self.request.stages_at_once
        return sum(seconds) / at_once if at_once else 0.0

    def hops(self, cut: Cut, tokens: float) -> tuple[tuple[Hop, ...], float, float]:
        """The links of one round, tokens going back included, seconds of all, and of the busiest one."""
        links: list[Hop] = []
        elements = tokens * self.architecture.hidden_size
        total, busiest = 0.0, 0.0
        used, size = [0] * len(self.groups), self.tensor_parallel_size
        node_pods = self.request.node_pods
        together = size > 1 or node_pods or not self.request.isolated_pods
        for here, there in zip(cut.kinds, cut.kinds[1:], strict=False):
            used[here] += 1
            group = self.groups[here]
            # A rival in a comparison may not be one that pods of whole nodes can hold.
            in_a_row = (self.ranks_per_pod(len(cut.kinds)) if node_pods else None) or group.per_node
            same_node = together and here == there and bool(used[here] * size % in_a_row)
            links.append(Hop.PEER if same_node else Hop.NETWORK)
            link = group.accelerator.peer if same_node else group.accelerator.network
            num_bytes = elements * group.accelerator.width(self.request.dtype)
            total += link.seconds(num_bytes)
            busiest = max(busiest, num_bytes / link.bandwidth)
        if len(cut.kinds) > 1:
            links.append(Hop.NETWORK)
            total += self.groups[cut.kinds[-1]].accelerator.network.latency_seconds
        return tuple(links), total, busiest
