"""One rank: its stage, loaded once, and the epochs that it lives through."""

import gc
import threading
from collections.abc import Callable
from dataclasses import dataclass

import torch

from layerwise.errors import InvalidInput
from layerwise.planning.chunks import CHUNK_TOKENS
from layerwise.resources.worker import Device
from layerwise_worker.config import ServeConfig
from layerwise_worker.cores import ComputeCores, share_of
from layerwise_worker.engine import Engine, Inbox, Lost, Pipeline, Result, TokenArray
from layerwise_worker.engine_messages import Connected, Event, Meet, Tokens
from layerwise_worker.group import Group, Meeting, PeerLost, Rendezvous
from layerwise_worker.linear import compute_dtype
from layerwise_worker.links import ActivationShape, TokenSinks
from layerwise_worker.microbatch import BadMessage
from layerwise_worker.peers import GroupPeers
from layerwise_worker.pipeline import RingPipeline, SoloPipeline, follow
from layerwise_worker.requests import GenerationRequest
from layerwise_worker.scheduler import Limits, Output, Scheduler
from layerwise_worker.sources import numerics_of
from layerwise_worker.stage import Compute, Stage, load_stage
from layerwise_worker.stage_clock import StageClock
from layerwise_worker.tensors import Slice
from layerwise_worker.weights import TORCH_DTYPES, Progress

_CLOSE_SECONDS = 1.5


@dataclass(frozen=True, slots=True)
class End:
    """How an epoch ended; not `clean`: links could not be closed, and only a new process can meet again."""

    message: str
    clean: bool


def choose_device(device: Device, local_rank: int = 0) -> torch.device:
    """The torch device of a rank of a pod; CUDA without a GPU for it is an error, never a silent fallback."""
    if device is Device.CPU:
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise InvalidInput(
            "LAYERWISE_DEVICE is CUDA and this container sees no GPU; check spec.worker.runtimeClassName and "
            "the node's driver, or set spec.worker.device to CPU"
        )
    if local_rank >= torch.cuda.device_count():
        raise InvalidInput(
            f"process {local_rank} of this pod has no GPU: the container sees {torch.cuda.device_count()}, "
            "and the plan wants one for each process"
        )
    chosen = torch.device("cuda", local_rank)
    # What names no device, in torch and in NCCL, means this one.
    torch.cuda.set_device(chosen)
    return chosen


class Rank:
    """Call `load` once, then `live_through` for each epoch."""

    def __init__(
        self, config: ServeConfig, clock: StageClock, inbox: Inbox, send: Callable[[Event], None]
    ) -> None:
        self._config, self._clock, self._inbox, self._send = config, clock, inbox, send
        self._device = choose_device(config.device, config.local_rank)
        # Before anything starts threads, which then run where this one may.
        self._cores = ComputeCores(share_of(config.rank, config.crowd, config.cores))
        torch.set_num_threads(config.threads)
        plan = config.plan
        self._dtype = compute_dtype(TORCH_DTYPES[config.dtype], self._device)
        self._numerics = numerics_of(config.model)
        self._limits = Limits(
            num_lanes=plan.num_lanes,
            lane_tokens=plan.lane_tokens,
            micro_batch_size=config.micro_batch_size,
            prefill_tokens=min(CHUNK_TOKENS[config.device], plan.lane_tokens),
            micro_batches_in_flight=config.micro_batches_in_flight,
        )
        self._shape = ActivationShape(
            max_rows=self._limits.micro_batch_size,
            max_tokens=self._limits.max_tokens,
            hidden_size=plan.architecture.hidden_size,
            dtype=self._dtype,
            device=self._device,
        )
        shard = config.place.shard
        self._peers = GroupPeers(shard) if shard.size > 1 else None
        self._rendezvous: Rendezvous | None = None
        self._epoch = 0

    def load(self, progress: Progress) -> None:
        """Read this stage's weights; raises InvalidModel."""
        stage = load_stage(
            self._config.model,
            self._config.plan.architecture,
            self._numerics,
            Slice.of(self._config.stage),
            num_lanes=self._limits.num_lanes,
            lane_tokens=self._limits.lane_tokens,
            dtype=self._dtype,
            device=self._device,
            progress=progress,
            peers=self._peers,
            seeded_dtype=TORCH_DTYPES[self._config.dtype],
        )
        self._stage = self._graphed(stage)

    def _graphed(self, stage: Stage) -> Compute:
        """With captured graphs on a GPU; not where ranks share a stage: their sums need an epoch's links."""
        if self._device.type == "cpu" or self._peers is not None:
            return stage
        from layerwise_worker.cuda.making import graphed  # noqa: PLC0415 - a CPU has no use for it

        plan = self._config.plan
        return graphed(
            stage,
            plan.architecture,
            most_rows=self._limits.micro_batch_size,
            lane_tokens=self._limits.lane_tokens,
            dtype=self._dtype,
            device=self._device,
        )

    def live_through(self, meet: Meet) -> End:
        """Meet, serve, and leave again."""
        self._epoch = meet.epoch
        if self._config.num_ranks == 1:
            return self._drive(SoloPipeline(self._stage, self._clock, self._take_result), "None", "")
        self._cores.rest()
        try:
            group = self._meet(meet)
        except PeerLost as error:
            return End(str(error), clean=True)
        self._cores.let_listeners_yield()
        if self._peers is not None:
            self._peers.connect(group)
        end = self._lead(group) if self._config.rank == 0 else self._follow(group)
        return End(end.message, clean=end.clean and _close(group))

    def _meet(self, meet: Meet) -> Group:
        config = self._config
        if self._rendezvous is None:
            self._rendezvous = Rendezvous(config.rank, config.bind_address, config.rendezvous_port)
        return self._rendezvous.meet(
            Meeting(
                rank=config.rank,
                num_ranks=config.num_ranks,
                bind_address=config.bind_address,
                coordinator_host=config.coordinator_host,
                rendezvous_port=config.rendezvous_port,
                name=meet.name,
                device=self._device,
                stage_size=config.place.stage_size,
            )
        )

    def _lead(self, group: Group) -> End:
        return self._drive(self._pipeline(group), group.transport, f"{group.num_ranks} ranks")

    def _pipeline(self, group: Group) -> Pipeline:
        if group.place.is_last:
            mates = TokenSinks(group, self._shape)
            return SoloPipeline(self._stage, self._clock, self._take_result, mates)
        return RingPipeline(
            self._stage,
            group,
            self._shape,
            self._clock,
            on_result=self._take_result,
            on_lost=self._take_loss,
            cores=self._cores,
        )

    def _follow(self, group: Group) -> End:
        self._send(Connected(self._epoch, group.transport, f"{group.num_ranks} ranks"))
        try:
            follow(self._stage, group, self._shape, self._clock, self._cores)
        except (PeerLost, BadMessage) as error:
            return End(str(error), clean=True)
        return End("the rank before stopped", clean=True)

    def _drive(self, pipeline: Pipeline, transport: str, detail: str) -> End:
        """Rank 0: send a token round, say so, and serve."""
        try:
            message = self._warm_up(pipeline)
            if message is None:
                self._send(Connected(self._epoch, transport, detail))
                scheduler = Scheduler(self._limits, self._numerics.end_tokens)
                message = Engine(scheduler, self._inbox, self._emit).run(pipeline)
        except PeerLost as error:
            message = str(error)
        return End(message or "ended", clean=pipeline.close())

    def _warm_up(self, pipeline: Pipeline) -> str | None:
        """Two tokens through every stage; returns why the epoch ended, if it did."""
        scheduler = Scheduler(self._limits, frozenset())
        scheduler.submit(GenerationRequest("warm-up", (0,), max_tokens=2, temperature=0.0))
        return Engine(scheduler, self._inbox, lambda _: None).run(pipeline, until_done=True)

    def _take_result(self, batch_id: int, tokens: TokenArray) -> None:
        self._inbox.put(Result(batch_id, tokens))

    def _take_loss(self, message: str) -> None:
        self._inbox.put(Lost(message))

    def _emit(self, outputs: list[Output]) -> None:
        self._send(
            Tokens(
                self._epoch,
                tuple((o.request_id, o.token, o.finish_reason and o.finish_reason.value) for o in outputs),
            )
        )


def _close(group: Group) -> bool:
    """Close the links; False when the library does not come back from that."""
    closer = threading.Thread(target=group.close, name="close", daemon=True)
    closer.start()
    closer.join(_CLOSE_SECONDS)
    gc.collect()
    return not closer.is_alive()
