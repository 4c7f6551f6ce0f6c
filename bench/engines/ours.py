"""What the ranks of Layerwise run, without HTTP: scheduler, stages, links, sampling; a stage is a process."""

import argparse
import os
import queue
import subprocess
import sys
import time
from pathlib import Path

from child import prompts, serve

from layerwise_worker.process import tell_openmp

HOST = "127.0.0.1"


def arguments() -> argparse.Namespace:
    """Of every rank."""
    parser = argparse.ArgumentParser()
    parser.add_argument("model", type=Path)
    parser.add_argument("--dtype", required=True)
    parser.add_argument("--stages", type=int, required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--lanes", type=int, required=True)
    parser.add_argument("--lane-tokens", type=int, required=True)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--rank", type=int, default=0)
    return parser.parse_args()


given = arguments()
tell_openmp(given.threads)  # before torch is imported, as the worker does

import torch  # noqa: E402 - see above

from layerwise.models.huggingface import read_architecture  # noqa: E402
from layerwise.resources.deployment import Dtype  # noqa: E402
from layerwise_worker.cores import ComputeCores, Crowd, share_of  # noqa: E402
from layerwise_worker.engine import Engine, Inbox, Lost, Pipeline, Result, TokenArray  # noqa: E402
from layerwise_worker.group import Group, Meeting, Rendezvous  # noqa: E402
from layerwise_worker.linear import compute_dtype  # noqa: E402
from layerwise_worker.links import ActivationShape  # noqa: E402
from layerwise_worker.numerics import read_numerics  # noqa: E402
from layerwise_worker.pipeline import RingPipeline, SoloPipeline, follow  # noqa: E402
from layerwise_worker.requests import GenerationRequest  # noqa: E402
from layerwise_worker.scheduler import Limits, Output, Scheduler  # noqa: E402
from layerwise_worker.stage import Stage, load_stage  # noqa: E402
from layerwise_worker.stage_clock import StageClock  # noqa: E402
from layerwise_worker.tensors import Slice  # noqa: E402
from layerwise_worker.weights import TORCH_DTYPES  # noqa: E402

CPU = torch.device("cpu")
CORES = sorted(os.sched_getaffinity(0))
PREFILL_TOKENS = 256


def stage_of(rank: int) -> Stage:
    """Equal numbers of layers, the head counted as the layers that it weighs as much as."""
    architecture = read_architecture(given.model)
    return load_stage(
        given.model,
        architecture,
        read_numerics(given.model),
        cut(architecture.num_layers, head_layers(architecture.vocabulary_size), rank),
        num_lanes=given.lanes,
        lane_tokens=given.lane_tokens,
        dtype=compute_dtype(TORCH_DTYPES[Dtype(given.dtype)], CPU),
        device=CPU,
        progress=lambda _done, _total: None,
    )


def head_layers(vocabulary: int) -> int:
    """How many layers the head's products weigh."""
    architecture = read_architecture(given.model)
    inner = architecture.mlp_hidden_size
    heads = 2 * (architecture.num_heads + architecture.num_key_value_heads) * architecture.head_size
    return round(vocabulary / (heads + 3 * inner))


def cut(layers: int, head: int, rank: int) -> Slice:
    """The slice of one rank."""
    bounds = [min(layers, round((layers + head) * index / given.stages)) for index in range(given.stages)]
    bounds.append(layers)
    return Slice(range(bounds[rank], bounds[rank + 1]), rank == 0, rank == given.stages - 1)


def limits() -> Limits:
    """As a plan for these stages on this machine has them: as many micro-batches as can compute at once."""
    in_flight = max(1, min(given.stages, len(CORES) // given.threads))
    return Limits(
        num_lanes=given.lanes,
        lane_tokens=given.lane_tokens,
        micro_batch_size=-(-given.lanes // in_flight),
        prefill_tokens=min(PREFILL_TOKENS, given.lane_tokens),
        micro_batches_in_flight=in_flight,
    )


class Ours:
    """Rank 0."""

    def __init__(self) -> None:
        self._inbox: Inbox = queue.SimpleQueue()
        self._pipeline = self._connect()

    def _connect(self) -> Pipeline:
        cores = own_cores()
        stage, clock = stage_of(0), StageClock()
        if given.stages == 1:
            return SoloPipeline(stage, clock, self._take)
        group = meet(Rendezvous(0, HOST, given.port))
        cores.let_listeners_yield()
        return RingPipeline(
            stage,
            group,
            shape(),
            clock,
            on_result=self._take,
            on_lost=lambda why: self._inbox.put(Lost(why)),
            cores=cores,
        )

    def _take(self, batch_id: int, tokens: TokenArray) -> None:
        self._inbox.put(Result(batch_id, tokens))

    def close(self) -> None:
        """Stop the other ranks."""
        self._pipeline.close()

    def __call__(self, batch: int, prompt: int, output: int) -> float:
        """See `child.serve`."""
        scheduler = Scheduler(limits(), frozenset())
        seen: dict[str, int] = {}
        begun = [0.0, 0.0]

        def count(outputs: list[Output]) -> None:
            for one in outputs:
                seen[one.request_id] = seen.get(one.request_id, 0) + 1
            if not begun[0] and len(seen) == batch:
                begun[:] = time.perf_counter(), float(sum(seen.values()))

        for index, tokens in enumerate(prompts(batch, prompt)):
            scheduler.submit(GenerationRequest(str(index), tuple(tokens), output, temperature=0.0))
        ended = Engine(scheduler, self._inbox, count).run(self._pipeline, until_done=True)
        if ended is not None:
            raise RuntimeError(ended)
        return (sum(seen.values()) - begun[1]) / (time.perf_counter() - begun[0])


def shape() -> ActivationShape:
    """What travels between two stages."""
    bounds = limits()
    dtype = compute_dtype(TORCH_DTYPES[Dtype(given.dtype)], CPU)
    hidden = read_architecture(given.model).hidden_size
    return ActivationShape(bounds.micro_batch_size, bounds.max_tokens, hidden, dtype, CPU)


def own_cores() -> ComputeCores:
    """As `layerwise run --local` binds the ranks of a pipeline that has this machine to itself."""
    crowd = Crowd(given.stages, limits().micro_batches_in_flight, given.threads)
    return ComputeCores(share_of(given.rank, crowd, CORES))


def meet(rendezvous: Rendezvous) -> Group:
    """Connect all ranks."""
    return rendezvous.meet(Meeting(given.rank, given.stages, HOST, HOST, given.port, "bench", CPU))


def main() -> None:
    """Rank 0 starts the others and serves."""
    torch.set_num_threads(given.threads)
    if given.rank:
        cores = own_cores()
        stage = stage_of(given.rank)
        group = meet(Rendezvous(given.rank, HOST, given.port))
        cores.let_listeners_yield()
        follow(stage, group, shape(), StageClock(), cores)
        return
    others = [
        subprocess.Popen(
            [sys.executable, __file__, *sys.argv[1:], "--rank", str(rank)],
            stdin=subprocess.DEVNULL,
            stdout=sys.stderr,
            env=dict(os.environ),
        )
        for rank in range(1, given.stages)
    ]
    ours = Ours()
    serve(ours, torch=torch.__version__)
    ours.close()
    for other in others:
        other.wait(20)


if __name__ == "__main__":
    main()
