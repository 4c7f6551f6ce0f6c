"""A world with two accelerators of each of two kinds, and an operator that watches it."""

import pytest
from tests.unit.operator_world.mixed import cluster
from tests.unit.operator_world.world import Watched, World


@pytest.fixture
def world() -> World:
    return cluster(ha=2, ab=2)


@pytest.fixture
def operator(world: World) -> Watched:
    return Watched(world)
