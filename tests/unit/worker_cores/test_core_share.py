import os
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from layerwise_worker.cores import ComputeCores, CoreShare, Crowd, share_of

few = st.integers(1, 6)
crowds = st.builds(Crowd, num_ranks=few, micro_batches=few, threads=few, tensor_parallel_size=st.just(1))
machines = st.sets(st.integers(0, 63), min_size=1, max_size=16).map(sorted)


@pytest.fixture
def usable() -> Iterator[list[int]]:
    cores = os.sched_getaffinity(0)
    yield sorted(cores)
    os.sched_setaffinity(0, cores)


def test_each_rank_has_its_own_cores_where_there_are_enough() -> None:
    crowd = Crowd(num_ranks=3, micro_batches=4, threads=2)
    shares = [share_of(rank, crowd, range(10, 17)) for rank in range(3)]
    assert [share.turns for share in shares if share] == [({10, 11},), ({12, 13},), ({14, 15},)]


def test_each_micro_batch_has_its_core_where_there_are_fewer_cores_than_ranks() -> None:
    share = share_of(2, Crowd(num_ranks=3, micro_batches=2, threads=1), [4, 7])
    assert share is not None
    assert [share.of(number) for number in (6, 7, 8)] == [{4}, {7}, {4}]


@pytest.mark.parametrize(
    ("crowd", "why"),
    [
        (Crowd(1, 1, 1), "one rank alone"),
        (Crowd(3, 3, 1), "more micro-batches than cores"),
        (Crowd(3, 1, 2), "two threads that would have to move"),
        (Crowd(4, 1, 1, tensor_parallel_size=2), "two ranks at one micro-batch"),
    ],
)
def test_the_kernel_decides_otherwise(crowd: Crowd, why: str) -> None:
    assert share_of(0, crowd, [0, 1]) is None, why


@given(crowd=crowds, cores=machines, first=st.integers(0, 1000))
def test_what_computes_at_once_never_shares_a_core(crowd: Crowd, cores: list[int], first: int) -> None:
    """Micro-batches in flight are numbered in a row, and each is at one rank."""
    shares = [share for rank in range(crowd.num_ranks) if (share := share_of(rank, crowd, cores))]
    for share in shares:
        assert share.all_cores == set(cores)
        assert all(turn <= share.all_cores and len(turn) == crowd.threads for turn in share.turns)
    for behind, share in enumerate(shares):
        for other in shares[behind + 1 :]:
            for distance in range(1, crowd.micro_batches):
                assert not share.of(first) & other.of(first + distance)


def test_the_thread_that_computes_goes_where_its_share_says(usable: list[int]) -> None:
    if len(usable) < 2:
        pytest.skip("this process may run on one core only: there is nowhere to go")
    low, high = (frozenset({core}) for core in usable[:2])
    cores = ComputeCores(CoreShare((low, high), low | high))
    assert os.sched_getaffinity(0) == low | high
    cores.compute(7)
    assert os.sched_getaffinity(0) == high
    cores.expect_after(7)
    assert os.sched_getaffinity(0) == low
    cores.rest()
    assert os.sched_getaffinity(0) == low | high


def test_without_a_share_nothing_is_bound(usable: list[int]) -> None:
    cores = ComputeCores()
    cores.compute(0)
    cores.expect_after(0)
    cores.let_listeners_yield()
    assert os.sched_getaffinity(0) == set(usable)
