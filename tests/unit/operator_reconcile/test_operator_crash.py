"""The operator dies between any two writes of any step of a deployment's life, and converges afterwards."""

from collections.abc import Callable
from typing import Any

import pytest
from tests.unit.operator_world.world import H100, Watched, World, deployment, node, until_death

Change = Callable[[World], object]
LONGEST_STEP = 40

STEPS: dict[str, tuple[dict[str, Any] | None, dict[str, Any]]] = {
    "create": (None, {}),
    "replan": ({}, {"strategy": {"stages": 5}}),
    "new image": ({}, {"worker": {"device": "CPU", "image": "layerwise-worker:next"}}),
    "scale up": ({}, {"replicas": 3}),
    "scale down": ({"replicas": 3}, {"replicas": 1}),
    "suspend": ({}, {"suspend": True}),
    "resume": ({"suspend": True}, {}),
    "plan only": ({}, {"planOnly": True}),
}
# Six accelerators of each of two kinds: eight stages need both.
WIDE: dict[str, Any] = {"strategy": {"stages": 8}}
NARROW: dict[str, Any] = {"strategy": {"stages": 4}}
MIXED_STEPS: dict[str, tuple[dict[str, Any] | None, dict[str, Any]]] = {
    "create": (None, WIDE),
    "from one kind to two": (NARROW, WIDE),
    "from two kinds to one": (WIDE, NARROW),
    "another mix": (WIDE, {"strategy": {"stages": 10}}),
    "new image": (WIDE, {**WIDE, "worker": {"device": "CPU", "image": "layerwise-worker:next"}}),
    "scale up": ({"strategy": {"stages": 6}}, {"strategy": {"stages": 6}, "replicas": 2}),
    "suspend": (WIDE, {**WIDE, "suspend": True}),
    "resume": ({**WIDE, "suspend": True}, WIDE),
}
ONE_KIND = {"node-a": (H100, 8), "node-b": (H100, 8)}
TWO_KINDS = {"node-a": (H100, 6), "node-b": ("NVIDIA-A100-SXM4-80GB", 6)}
Nodes = dict[str, tuple[str, int]]


def picture(world: World) -> dict[tuple[str, str, str], Any]:
    """What exists, without what differs from run to run: uids, versions, times."""
    return {
        key: (raw.get("spec"), raw.get("data"), sorted(raw["metadata"].get("labels", {}).items()))
        for key, raw in world.objects.items()
        if key[0] != "LayerwiseDeployment"
    }


async def bring_up(operator: Watched) -> None:
    for _ in range(6):
        await operator.settle(passes=12)
        operator.world.all_ready()
        await operator.poll()
    await operator.settle()


async def start(before: dict[str, Any] | None, nodes: Nodes = ONE_KIND) -> tuple[World, Watched]:
    world = World()
    for name, (product, count) in nodes.items():
        world.put(node(name, product=product, count=count))
    operator = Watched(world)
    if before is not None:
        world.put(deployment(**before))
        await bring_up(operator)
    return world, operator


@pytest.mark.parametrize("name", STEPS)
async def test_a_death_between_any_two_writes_changes_nothing_in_the_end(
    name: str, record_property: Callable[[str, object], None]
) -> None:
    record_property("deaths", await die_everywhere(*STEPS[name], ONE_KIND))


@pytest.mark.parametrize("name", MIXED_STEPS)
async def test_nor_does_one_between_the_halves_of_a_mixed_pipeline(
    name: str, record_property: Callable[[str, object], None]
) -> None:
    record_property("deaths", await die_everywhere(*MIXED_STEPS[name], TWO_KINDS))


async def die_everywhere(before: dict[str, Any] | None, after: dict[str, Any], nodes: Nodes) -> int:
    """Die behind every write of a step, once each; how often that was."""
    world, operator = await start(before, nodes)
    world.put(deployment(**after))
    await bring_up(operator)
    wanted, restarts = picture(world), world.status().get("groupRestarts")
    deaths = 0
    for writes in range(LONGEST_STEP):
        world, operator = await start(before, nodes)
        world.put(deployment(**after))
        died = await until_death(operator, lambda: bring_up(operator), writes)  # noqa: B023 - called at once
        operator.restart()
        await bring_up(operator)
        assert picture(world) == wanted, f"after a death behind write {writes}"
        assert world.status().get("groupRestarts") == restarts
        assert world.condition("Ready")["status"] == ("True" if world.all("Pod") else "False")
        if not died:
            break
        deaths += 1
    else:
        raise AssertionError("the step never ended")
    assert deaths >= 2
    return deaths


async def test_a_death_around_a_group_restart_neither_loses_nor_doubles_it() -> None:
    for writes in range(3):
        world, operator = await start({})
        world.set_ready("demo-0-1", ready=False)

        async def notice(operator: Watched = operator, world: World = world) -> None:
            await operator.converge()
            world.all_ready(epoch=2)
            await operator.poll()
            await operator.converge()

        await until_death(operator, notice, writes)
        operator.restart()
        world.all_ready(epoch=2)
        await operator.poll()
        await operator.settle()
        assert world.status()["groupRestarts"] == 1
        assert world.condition("Ready")["status"] == "True"


async def test_deleting_needs_no_operator_and_leaves_nothing() -> None:
    world, operator = await start({})
    world.remove("LayerwiseDeployment", "demo")
    assert {key[0] for key in world.objects} == {"Node"}
    assert await operator.converge() is None
    assert {key[0] for key in world.objects} == {"Node"}


async def test_a_deployment_that_is_being_deleted_is_left_alone() -> None:
    world, operator = await start({})
    raw = world.objects["LayerwiseDeployment", "default", "demo"]
    raw["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    world.remove("StatefulSet", "demo-0")
    world.touch(raw)
    written = len(world.writes)
    await operator.converge()
    assert world.writes[written:] == []
