"""Which core of a shared machine computes what, where the ranks of a pipeline have too few cores for all.

Left to itself, Linux often puts a rank that is woken by a message on the core where it ran last, though
another rank computes there and a second core is idle: where cores were mostly busy it does not search for an
idle one (SIS_UTIL), and the next chance to move comes with a tick of some milliseconds. So a pipeline that
knows its cores says where. Every rank has its own where there are enough; with fewer cores than ranks, but
one for every micro-batch in flight, the micro-batch has a core and each rank computes there what it received.
"""

import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

# The thread of torch's Gloo that reads and writes its sockets.
_LISTENER = "gloo_tcp_loop"


@dataclass(frozen=True, slots=True)
class Crowd:
    """Who computes on a machine at once: `tensor_parallel_size` ranks at every micro-batch in flight."""

    num_ranks: int
    micro_batches: int
    threads: int
    tensor_parallel_size: int = 1

    @property
    def num_cores(self) -> int:
        """How many cores it can use."""
        ranks_at_once = min(self.num_ranks, self.micro_batches * self.tensor_parallel_size)
        return ranks_at_once * self.threads


@dataclass(frozen=True, slots=True)
class CoreShare:
    """Where one rank computes: a micro-batch with number `n` on the set `n % len(turns)`.

    `all_cores` are the pipeline's. Micro-batches in flight are numbered in a row and return in order, so as
    many of them as there are turns have a set each.
    """

    turns: tuple[frozenset[int], ...]
    all_cores: frozenset[int]

    def of(self, batch_id: int) -> frozenset[int]:
        """Where a micro-batch is computed."""
        return self.turns[batch_id % len(self.turns)]


def share_of(rank: int, crowd: Crowd, cores: Sequence[int]) -> CoreShare | None:
    """The share of a rank in `cores`; None where the kernel had better decide.

    That is with one rank, with fewer cores than compute at once, and where several threads would have to move
    from one set of cores to another.
    """
    threads, everything = crowd.threads, frozenset(cores)
    if crowd.num_ranks == 1:
        return None
    if crowd.num_ranks * threads <= len(cores):
        own = frozenset(cores[rank * threads : (rank + 1) * threads])
        return CoreShare((own,), everything)
    if threads == crowd.tensor_parallel_size == 1 and crowd.micro_batches <= len(cores):
        return CoreShare(tuple(frozenset({core}) for core in cores[: crowd.micro_batches]), everything)
    return None


class ComputeCores:
    """Binds the calling thread, which computes, as a share says; does nothing without one."""

    def __init__(self, share: CoreShare | None = None) -> None:
        self._share = share
        self._now: frozenset[int] | None = None
        self.rest()

    def rest(self) -> None:
        """Between epochs: threads that are started now may run on all cores of the rank."""
        if self._share is not None:
            self._go(frozenset().union(*self._share.turns))

    def compute(self, batch_id: int) -> None:
        """Be where this micro-batch is computed."""
        if self._share is not None:
            self._go(self._share.of(batch_id))

    def expect_after(self, batch_id: int) -> None:
        """Wait where the next one will be computed: whoever wakes this thread cannot choose wrong."""
        self.compute(batch_id + 1)

    def _go(self, cores: frozenset[int]) -> None:
        if cores != self._now:
            os.sched_setaffinity(0, cores)
            self._now = cores

    def let_listeners_yield(self) -> None:
        """Call after each meeting: Gloo's threads run beside the computation instead of interrupting it.

        A thread of Gloo that finds a link locked tries again at once, without sleeping. Where it has
        interrupted the very thread that holds the lock, it goes on so until the kernel lets the other run:
        4 ms for a round trip of 0.4 (bench/overhead.py on one core). As a batch job it interrupts nobody.
        """
        share = self._share
        if share is None and len(os.sched_getaffinity(0)) > 1:
            return
        for task in Path("/proc/self/task").iterdir():
            with suppress(FileNotFoundError, ProcessLookupError):
                if (task / "comm").read_text().strip() == _LISTENER:
                    os.sched_setscheduler(int(task.name), os.SCHED_BATCH, os.sched_param(0))
                    if share is not None:
                        os.sched_setaffinity(int(task.name), share.all_cores)
