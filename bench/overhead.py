"""What the pipeline itself costs for each micro-batch: scheduling, envelopes, hops. Its stages are empty.

A stage hands on what it got, and the last one samples from logits that are always the same. Decoding rows
travel as in a real pipeline: 8 rows of 576 BFloat16 numbers are 9 KB, and a bare Gloo hop of as many bytes is
measured in the same run, in turn with the rings.

    python bench/overhead.py [--stages 1 2 3 5] [--batches 1000] [--rounds 3] [--output FILE.json]

`latency` has one micro-batch in flight: the time of a round trip, and per stage that divided by the stages.
`busy` has as many in flight as stages: the time between two results. Beside each median stands the lowest
decile, which is what a machine shows that has nothing else to do.
"""

import argparse
import json
import os
import queue
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from layerwise_worker.attention import LayoutMaker
from layerwise_worker.cores import ComputeCores, Crowd, share_of
from layerwise_worker.engine import Engine, Inbox, Lost, Pipeline, Result
from layerwise_worker.group import Group, Meeting, Rendezvous
from layerwise_worker.links import ActivationShape
from layerwise_worker.microbatch import MicroBatch, read_envelope, read_result, write_envelope, write_result
from layerwise_worker.pipeline import RingPipeline, SoloPipeline, follow
from layerwise_worker.requests import GenerationRequest
from layerwise_worker.sampling import sample
from layerwise_worker.scheduler import Limits, Scheduler
from layerwise_worker.stage import Stage
from layerwise_worker.stage_clock import StageClock

VOCABULARY, TARGET_MICROSECONDS = 32, 150
HOST, HOP_TAG = "127.0.0.1", 3
CPU = torch.device("cpu")
CORES = sorted(os.sched_getaffinity(0))


@dataclass(frozen=True, slots=True)
class Trial:
    """One measurement in which the first `num_ranks` ranks take part."""

    name: str
    num_ranks: int
    is_hop: bool = False
    in_flight: int = 1


@dataclass(frozen=True, slots=True)
class Times:
    """Microseconds over all repetitions of a trial."""

    median: float
    lowest_decile: float

    @classmethod
    def of(cls, seconds: Sequence[float]) -> "Times":
        """From single times."""
        return cls(1e6 * statistics.median(seconds), 1e6 * statistics.quantiles(seconds, n=10)[0])

    def shared(self, by: int) -> dict[str, float]:
        """One of `by` equal parts, for the output."""
        return {"median": round(self.median / by, 1), "lowestDecile": round(self.lowest_decile / by, 1)}


@dataclass(frozen=True, slots=True)
class Setting:
    """What all ranks of a run know."""

    stages: tuple[int, ...]
    batches: int
    rounds: int
    rows: int
    hidden: int
    port: int

    def trials(self) -> list[Trial]:
        """Everything in turn, so that a busy minute of the machine touches all alike."""
        return [trial for number in range(self.rounds) for trial in self._round(number)]

    def _round(self, number: int) -> list[Trial]:
        trials = [Trial(f"{number}/hop", 2, is_hop=True)]
        for count in self.stages:
            trials.append(Trial(f"{number}/latency/{count}", count))
            trials.append(Trial(f"{number}/busy/{count}", count, in_flight=count))
        return trials

    def shape(self) -> ActivationShape:
        """Of what travels between two stages."""
        return ActivationShape(self.rows, 2 * self.rows, self.hidden, torch.bfloat16, CPU)

    def message_bytes(self) -> int:
        """Of a decoding micro-batch's hidden states."""
        return self.rows * self.hidden * 2


class EmptyStage(Stage):
    """Computes nothing: hidden states come out as they are, and the same tokens are the likeliest."""

    def __init__(self, setting: Setting) -> None:
        super().__init__(
            embedding=None,
            layers=(),
            head=None,
            rotary=torch.empty(0),
            make_layout=LayoutMaker(1, 0, torch.bfloat16, CPU),
            vocabulary_size=VOCABULARY,
        )
        self._hidden = torch.zeros(2 * setting.rows, setting.hidden, dtype=torch.bfloat16)
        self._logits = torch.rand(2 * setting.rows, VOCABULARY)

    def run(self, batch: MicroBatch, x: Tensor) -> Tensor:
        """See `Stage.run`."""
        return x if x.is_floating_point() else self._hidden[: batch.num_tokens]

    def logits(self, batch: MicroBatch, x: Tensor) -> Tensor:  # noqa: ARG002 - the interface's
        """See `Stage.logits`."""
        return self._logits[: batch.num_outputs]


def scheduler(setting: Setting, in_flight: int) -> Scheduler:
    """With as many requests as keep `in_flight` micro-batches full until all end."""
    num_lanes = setting.rows * in_flight
    num_tokens = setting.batches + 1
    made = Scheduler(
        Limits(
            num_lanes=num_lanes,
            lane_tokens=1 + num_tokens,
            micro_batch_size=setting.rows,
            prefill_tokens=setting.rows,
            micro_batches_in_flight=in_flight,
        ),
        frozenset(),
    )
    for lane in range(num_lanes):
        made.submit(GenerationRequest(str(lane), (1,), num_tokens, temperature=0.0))
    return made


def meet(rendezvous: Rendezvous, setting: Setting, rank: int, trial: Trial) -> Group:
    """Connect the ranks of a trial, wherever the one before has bound this one."""
    os.sched_setaffinity(0, CORES)
    return rendezvous.meet(Meeting(rank, trial.num_ranks, HOST, HOST, setting.port, trial.name, CPU))


def own_cores(rank: int, trial: Trial) -> ComputeCores:
    """As `layerwise run --local` binds the ranks of a pipeline that has this machine to itself."""
    crowd = Crowd(trial.num_ranks, trial.in_flight, threads=1)
    cores = ComputeCores(share_of(rank, crowd, CORES))
    cores.let_listeners_yield()
    return cores


def hop_times(group: Group, setting: Setting) -> Times:
    """A ping-pong between two ranks, halved: one way."""
    message = torch.zeros(setting.message_bytes(), dtype=torch.uint8)
    peer, times = 1 - group.rank, []
    for _ in range(setting.batches):
        begun = time.perf_counter()
        if group.rank == 0:
            group.send(message, peer, HOP_TAG).wait()
            group.receive(message, peer, HOP_TAG).wait()
        else:
            group.receive(message, peer, HOP_TAG).wait()
            group.send(message, peer, HOP_TAG).wait()
        times.append((time.perf_counter() - begun) / 2)
    return Times.of(times)


def ring_times(rendezvous: Rendezvous, setting: Setting, trial: Trial) -> Times:
    """Rank 0 of an empty pipeline: the time between two results."""
    inbox: Inbox = queue.SimpleQueue()
    stage, clock = EmptyStage(setting), StageClock()
    times: list[float] = []

    def on_result(batch_id: int, tokens: Any) -> None:
        inbox.put(Result(batch_id, tokens))

    pipeline: Pipeline
    group = None
    if trial.num_ranks == 1:
        pipeline = SoloPipeline(stage, clock, on_result)
    else:
        group = meet(rendezvous, setting, 0, trial)
        cores = own_cores(0, trial)
        pipeline = RingPipeline(
            stage,
            group,
            setting.shape(),
            clock,
            on_result=on_result,
            on_lost=lambda why: inbox.put(Lost(why)),
            cores=cores,
        )
    engine = Engine(scheduler(setting, trial.in_flight), inbox, lambda _: times.append(time.perf_counter()))
    ended = engine.run(pipeline, until_done=True)
    pipeline.close()
    if ended is not None:
        raise RuntimeError(ended)
    settled = times[len(times) // 10 :]
    return Times.of([after - before for before, after in pairwise(settled)])


def follower(setting: Setting, rank: int) -> None:
    """A rank above 0: takes part in every trial that reaches it."""
    rendezvous = Rendezvous(rank, HOST, setting.port)
    for trial in setting.trials():
        if rank >= trial.num_ranks:
            continue
        group = meet(rendezvous, setting, rank, trial)
        if trial.is_hop:
            hop_times(group, setting)
        else:
            follow(EmptyStage(setting), group, setting.shape(), StageClock(), own_cores(rank, trial))
        group.close()


def parts_microseconds(setting: Setting) -> dict[str, float]:
    """What each step costs alone, in one process and without links: where the time of a stage goes."""
    planner = scheduler(setting, 1)
    scheduled = planner.next_batch()
    if scheduled is None:
        raise RuntimeError("a scheduler with requests has something to send")
    batch, zeros = scheduled.batch, [0] * setting.rows
    planner.complete(batch.id, zeros)
    stage = EmptyStage(setting)
    tokens = torch.from_numpy(scheduled.tokens)
    hidden = stage.run(batch, tokens)
    buffer = setting.shape().buffer()
    view = buffer.memory
    shape = setting.shape()
    place = shape.hidden(buffer.whole, len(batch.rows), batch.num_tokens)
    output = np.zeros(setting.rows, np.int32)

    def schedule() -> None:
        planned = planner.next_batch()
        if planned is not None:
            planner.complete(planned.batch.id, zeros)

    def send() -> None:
        write_envelope(batch, hidden.element_size(), view)
        place.copy_(hidden)

    return {
        "schedule a micro-batch and take its tokens": per_call(schedule, setting.batches // 2),
        "write envelope and hidden states": per_call(send, setting.batches),
        "read envelope": per_call(
            lambda: read_envelope(view, hidden.element_size(), shape.max_rows, shape.max_tokens),
            setting.batches,
        ),
        "sample": per_call(lambda: sample(batch, stage.logits(batch, hidden)), setting.batches),
        "write and read the result": per_call(
            lambda: (write_result(batch.id, output, view), read_result(view, shape.max_rows)),
            setting.batches,
        ),
    }


def per_call(act: Callable[[], object], times: int) -> float:
    """Microseconds: the median over calls."""
    taken = []
    for _ in range(times):
        begun = time.perf_counter()
        act()
        taken.append(time.perf_counter() - begun)
    return 1e6 * statistics.median(taken)


def measure(setting: Setting) -> dict[str, Any]:
    """Rank 0 of all trials; the other ranks are started here and end with it."""
    others = [
        subprocess.Popen(
            [sys.executable, __file__, *sys.argv[1:], "--rank", str(rank), "--port", str(setting.port)]
        )
        for rank in range(1, max(2, *setting.stages))
    ]
    try:
        rendezvous = Rendezvous(0, HOST, setting.port)
        values: dict[str, list[Times]] = {}
        for trial in setting.trials():
            if trial.is_hop:
                group = meet(rendezvous, setting, 0, trial)
                value = hop_times(group, setting)
                group.close()
            else:
                value = ring_times(rendezvous, setting, trial)
            values.setdefault(trial.name.partition("/")[2], []).append(value)
        for other in others:
            other.wait(30)
    finally:
        for other in others:
            other.kill()
            other.wait()
    return figures(setting, values)


def figures(setting: Setting, values: dict[str, list[Times]]) -> dict[str, Any]:
    """The round with the lowest median of each trial: what lies above it is the machine's, not ours."""
    best = {name: min(rounds, key=lambda times: times.median) for name, rounds in values.items()}
    return {
        "bytes": setting.message_bytes(),
        "hopMicroseconds": best["hop"].shared(1),
        "rings": [
            {
                "stages": count,
                "latencyMicroseconds": best[f"latency/{count}"].shared(1),
                "latencyMicrosecondsPerStage": best[f"latency/{count}"].shared(count),
                "busyMicroseconds": best[f"busy/{count}"].shared(1),
                "busyMicrosecondsPerStage": best[f"busy/{count}"].shared(count),
            }
            for count in setting.stages
        ],
        "partsMicroseconds": {name: round(value, 1) for name, value in parts_microseconds(setting).items()},
        "targetMicrosecondsPerStage": TARGET_MICROSECONDS,
        "machine": {"cores": os.cpu_count(), "load": os.getloadavg()[0], "torch": torch.__version__},
    }


def table(measured: dict[str, Any]) -> str:
    """The figures for people."""

    def pair(times: dict[str, float]) -> str:
        return f"{times['median']:7.0f} {times['lowestDecile']:7.0f}"

    lines = [
        "microseconds: median and lowest decile",
        f"bare Gloo hop of {measured['bytes']} bytes, one way: {pair(measured['hopMicroseconds'])}",
        "",
        "stages   one micro-batch        per stage   all busy: each micro-batch    per stage",
    ]
    for ring in measured["rings"]:
        latency, busy = (
            f"{pair(ring[f'{kind}Microseconds'])}  {pair(ring[f'{kind}MicrosecondsPerStage'])}"
            for kind in ("latency", "busy")
        )
        lines.append(f"{ring['stages']:6}   {latency}              {busy}")
    lines += ["", "each step alone, in one process (median)"]
    lines += [f"{value:8} us  {name}" for name, value in measured["partsMicroseconds"].items()]
    machine = measured["machine"]
    lines += ["", f"target: under {measured['targetMicrosecondsPerStage']} us per stage"]
    lines.append(f"{machine['cores']} cores, load {machine['load']:.1f}, torch {machine['torch']}")
    return "\n".join(lines)


def free_port() -> int:
    """A port for the ranks to meet at."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


def main() -> None:
    """Measure and print, or be one of the ranks that are measured."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--stages", type=int, nargs="+", default=[1, 2, 3, 5])
    parser.add_argument("--batches", type=int, default=1000, help="micro-batches of each trial")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rows", type=int, default=8)
    parser.add_argument("--hidden", type=int, default=576)
    parser.add_argument("--output", type=Path, help="where to write the figures as JSON")
    parser.add_argument("--rank", type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, default=0, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if (
        min(given.stages, default=0) < 1
        or given.batches < 20
        or min(given.rounds, given.rows, given.hidden) < 1
    ):
        parser.error("stages, rounds, rows and hidden must be at least 1, and batches at least 20")
    setting = Setting(
        tuple(given.stages), given.batches, given.rounds, given.rows, given.hidden, given.port or free_port()
    )
    torch.set_num_threads(1)
    if given.rank:
        follower(setting, given.rank)
        return
    measured = measure(setting)
    print(table(measured))
    if given.output:
        given.output.parent.mkdir(parents=True, exist_ok=True)
        given.output.write_text(json.dumps(measured, indent=2) + "\n")


if __name__ == "__main__":
    main()
