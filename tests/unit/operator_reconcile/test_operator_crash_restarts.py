"""The operator dies between any two writes around restarts, and neither loses nor doubles one."""

from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

import pytest
from tests.unit.operator_world.world import Watched, World, deployment, node, until_death

from layerwise_operator.manifests import names

LONGEST_STEP = 40
ALLOWED: dict[str, Any] = {"failurePolicy": {"maxGroupRestarts": 2}}


class Step(NamedTuple):
    """What was before, what happens, which life the ranks have afterwards, and what that must come to."""

    before: Callable[[Watched], Awaitable[None]]
    happens: Callable[[World], object]
    life: dict[str, Any]
    restarts: int
    phase: str
    least_deaths: int = 1


async def look(operator: Watched, life: dict[str, Any]) -> None:
    for _ in range(3):
        await operator.settle(passes=12)
        operator.world.all_ready(**life)
        await operator.poll()
    await operator.settle()


async def serving(operator: Watched) -> None:
    operator.world.put(deployment(**ALLOWED))
    for _ in range(3):
        await look(operator, {})


async def at_its_limit(operator: Watched) -> None:
    await serving(operator)
    await look(operator, {"epoch": 3})


async def failed(operator: Watched) -> None:
    await at_its_limit(operator)
    await look(operator, {"epoch": 4})
    assert operator.world.status()["phase"] == "Failed"


async def deleted_once(operator: Watched) -> None:
    await serving(operator)
    operator.world.remove("StatefulSet", "demo-0")
    await look(operator, {"incarnation": "second"})


def nothing(world: World) -> None:
    """Only the life of the ranks is another."""


def annotate(world: World) -> None:
    raw = deployment(**ALLOWED)
    raw["metadata"]["annotations"] = {names.RESTART: "now"}
    world.put(raw)


def crash(world: World) -> None:
    for rank in range(3):
        raw = world.pod(f"demo-0-{rank}")
        raw["status"]["containerStatuses"][0]["restartCount"] += 1
        world.touch(raw)


STEPS = {
    "a restart": Step(serving, nothing, {"epoch": 2}, 1, "Running"),
    "two restarts at once": Step(serving, nothing, {"epoch": 3}, 2, "Running"),
    "a crash and the meeting after it": Step(serving, crash, {"incarnation": "second"}, 1, "Running"),
    "one restart too many": Step(at_its_limit, nothing, {"epoch": 4}, 3, "Failed"),
    "restart by annotation": Step(serving, annotate, {"incarnation": "second"}, 0, "Running", 4),
    "resume by annotation": Step(failed, annotate, {"incarnation": "second"}, 3, "Running", 4),
    "resume by another spec": Step(
        failed,
        lambda world: world.put(deployment(failurePolicy={"maxGroupRestarts": 3})),
        {"epoch": 4},
        3,
        "Running",
    ),
    "forgiven": Step(failed, lambda world: world.pass_time(600), {"epoch": 4}, 3, "Running"),
    "a deleted StatefulSet": Step(
        serving,
        lambda world: world.remove("StatefulSet", "demo-0"),
        {"incarnation": "second"},
        1,
        "Running",
        2,
    ),
    "a StatefulSet deleted twice": Step(
        deleted_once,
        lambda world: world.remove("StatefulSet", "demo-0"),
        {"incarnation": "third"},
        2,
        "Running",
        2,
    ),
}


def outcome(world: World) -> tuple[Any, ...]:
    """What must not depend on when the operator died."""
    status = world.status()
    kinds = sorted((kind, name) for kind, _, name in world.objects)
    return status["phase"], status["groupRestarts"], status["pipelines"][0]["restarts"], kinds


async def start(step: Step) -> tuple[World, Watched]:
    world = World()
    for name in ("node-a", "node-b"):
        world.put(node(name))
    operator = Watched(world)
    await step.before(operator)
    step.happens(world)
    return world, operator


async def finish(operator: Watched, step: Step) -> None:
    await look(operator, step.life)
    operator.world.pass_time(60)
    await look(operator, step.life)


@pytest.mark.parametrize("name", STEPS)
async def test_a_death_between_any_two_writes_neither_loses_nor_doubles_a_restart(
    name: str, record_property: Callable[[str, object], None]
) -> None:
    step = STEPS[name]
    world, operator = await start(step)
    await finish(operator, step)
    wanted = outcome(world)
    assert wanted[:2] == (step.phase, step.restarts)
    deaths = 0
    for writes in range(LONGEST_STEP):
        world, operator = await start(step)
        if not await until_death(operator, lambda: finish(operator, step), writes):  # noqa: B023 - called at once
            break
        deaths += 1
        operator.restart()
        await finish(operator, step)
        assert outcome(world) == wanted, f"after a death behind write {writes}"
    else:
        raise AssertionError("the step never ended")
    assert deaths >= step.least_deaths
    record_property("deaths", deaths)
