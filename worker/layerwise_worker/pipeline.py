"""The stages of an epoch: as rank 0 drives them, and as each other lives: receive, compute, pass on."""

import threading
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from layerwise_worker.cores import ComputeCores
from layerwise_worker.engine import TokenArray
from layerwise_worker.group import Group, PeerLost
from layerwise_worker.links import (
    ActivationShape,
    ActivationSink,
    ActivationSource,
    ResultSink,
    ResultSource,
    TokenSinks,
)
from layerwise_worker.microbatch import BadMessage, MicroBatch
from layerwise_worker.sampling import sample
from layerwise_worker.scheduler import ScheduledBatch
from layerwise_worker.stage import Compute
from layerwise_worker.stage_clock import StageClock

ResultHandler = Callable[[int, TokenArray], None]

_LEAVE_SECONDS = 1.5


class SoloPipeline:
    """One stage that is the whole model: no links, but to those that share the stage (`mates`)."""

    def __init__(
        self,
        stage: Compute,
        clock: StageClock,
        on_result: ResultHandler,
        mates: TokenSinks | None = None,
    ) -> None:
        self._stage, self._clock, self._on_result = stage, clock, on_result
        self._mates = mates

    def submit(self, scheduled: ScheduledBatch) -> None:
        """Compute and sample at once; raises PeerLost."""
        self._clock.arrived(after_idle=scheduled.batch.after_idle)
        batch, tokens = scheduled.batch, torch.from_numpy(scheduled.tokens)
        if self._mates is not None:
            self._mates.send(batch, tokens)
        hidden = self._stage.run(batch, tokens)
        output = _output(self._stage, batch, hidden)
        self._clock.computed()
        self._on_result(batch.id, output)

    def close(self) -> bool:
        """Stop those that share the stage."""
        return self._mates is None or _in_time(self._mates.stop)


def _output(stage: Compute, batch: MicroBatch, hidden: Tensor) -> TokenArray:
    """Output tokens of the last stage; a micro-batch of prompt chunks may have none."""
    if not batch.num_outputs:
        return np.zeros(0, np.int32)
    return sample(batch, stage.logits(batch, hidden))


def _give_logits(stage: Compute, batch: MicroBatch, hidden: Tensor) -> None:
    """What the other ranks of the last stage do while the first one asks for logits."""
    if batch.num_outputs:
        stage.give_logits(batch, hidden)


def _in_time(leave: Callable[[], None]) -> bool:
    """Whether `leave` came to an end within the time for leaving."""
    leaver = threading.Thread(target=leave, name="leave", daemon=True)
    leaver.start()
    leaver.join(_LEAVE_SECONDS)
    return not leaver.is_alive()


class RingPipeline:
    """Rank 0's end of the ring: hidden states leave to rank 1, tokens come back from the last rank.

    `on_lost` is called from another thread, once, with the reason why no more results will come.
    """

    def __init__(
        self,
        stage: Compute,
        group: Group,
        shape: ActivationShape,
        clock: StageClock,
        *,
        on_result: ResultHandler,
        on_lost: Callable[[str], None],
        cores: ComputeCores | None = None,
    ) -> None:
        self._stage, self._clock = stage, clock
        self._cores = cores or ComputeCores()
        self._mates = TokenSinks(group, shape)
        self._sink = ActivationSink(group, shape, group.place.next)
        self._results = ResultSource(group, shape.max_rows)
        self._on_result, self._on_lost = on_result, on_lost
        self._listener = threading.Thread(target=self._listen, name="results", daemon=True)
        self._listener.start()

    def submit(self, scheduled: ScheduledBatch) -> None:
        """Compute stage 0 and start sending; raises PeerLost."""
        self._cores.compute(scheduled.batch.id)
        self._clock.arrived(after_idle=scheduled.batch.after_idle)
        tokens = torch.from_numpy(scheduled.tokens)
        self._mates.send(scheduled.batch, tokens)
        hidden = self._stage.run(scheduled.batch, tokens)
        self._clock.computed()
        self._sink.send(scheduled.batch, hidden)
        self._cores.expect_after(scheduled.batch.id)

    def close(self) -> bool:
        """Stop the ring and wait until its other end has closed."""
        has_stopped = _in_time(self._stop)
        self._listener.join(_LEAVE_SECONDS)
        return has_stopped and not self._listener.is_alive()

    def _stop(self) -> None:
        self._mates.stop()
        _stop_quietly(self._sink)

    def _listen(self) -> None:
        try:
            while True:
                self._on_result(*self._results())
        except (PeerLost, BadMessage) as error:
            self._on_lost(str(error))


def follow(
    stage: Compute,
    group: Group,
    shape: ActivationShape,
    clock: StageClock,
    cores: ComputeCores | None = None,
) -> None:
    """The whole life of a rank above 0: receive, compute, pass on, until the rank before stops.

    Raises PeerLost when a neighbour is gone and BadMessage when it talks nonsense.
    """
    place, cores = group.place, cores or ComputeCores()
    source = ActivationSource(group, shape if place.stage else shape.of_tokens(), place.source)
    sink = None if place.is_last else ActivationSink(group, shape, place.next)
    results = ResultSink(group, shape.max_rows) if place.rank == place.sampler else None
    try:
        while (message := source()) is not None:
            batch, x = message
            cores.compute(batch.id)
            clock.arrived(after_idle=batch.after_idle)
            hidden = stage.run(batch, x if place.stage else x.squeeze(1))
            if sink is not None:
                clock.computed()
                sink.send(batch, hidden)
            elif results is not None:
                tokens = _output(stage, batch, hidden)
                clock.computed()
                results.send(batch, tokens)
            else:
                _give_logits(stage, batch, hidden)
                clock.computed()
            cores.expect_after(batch.id)
    finally:
        if sink is not None:
            _stop_quietly(sink)


def _stop_quietly(sink: ActivationSink) -> None:
    """Stages further on learn of the end by the message or by the closing of the link."""
    try:
        sink.stop()
    except PeerLost:
        return
