"""Several StatefulSets of one pipeline over several kinds of accelerators live and die as one group."""

from typing import Any

import pytest
from tests.unit.operator_world.mixed import (
    A100,
    FOUR,
    LABEL,
    cluster,
    come_up,
    planned,
    products,
    sets,
    take_one,
    touched,
)
from tests.unit.operator_world.world import H100, Watched, World, deployment, until_death

from layerwise_operator.manifests import names


async def test_a_stage_lost_on_the_second_kind_takes_ready_away_and_counts_once(
    operator: Watched, world: World
) -> None:
    await operator.run(**FOUR)
    world.set_ready("demo-0-s2-3", ready=False)
    await operator.converge()
    assert world.condition("Ready")["status"] == "False"
    assert "stage 3 (demo-0-s2-3)" in world.condition("Ready")["message"]
    await come_up(operator, epoch=2)
    assert world.condition("Ready")["status"] == "True"
    assert world.status()["groupRestarts"] == 1


@pytest.mark.parametrize(
    ("name", "life"), [("demo-0", {"incarnation": "second"}), ("demo-0-s2", {"epoch": 2})]
)
async def test_a_deleted_half_comes_back_as_one_restart(
    operator: Watched, world: World, name: str, life: dict[str, Any]
) -> None:
    await operator.run(**FOUR)
    kept = {raw["metadata"]["uid"] for raw in world.all("StatefulSet") if raw["metadata"]["name"] != name}
    world.remove("StatefulSet", name)
    await operator.settle()
    await come_up(operator, **life)
    assert set(sets(world)) == {"demo-0", "demo-0-s2"}
    assert kept <= {raw["metadata"]["uid"] for raw in world.all("StatefulSet")}
    assert world.status()["groupRestarts"] == 1
    assert world.condition("Ready")["status"] == "True"


async def test_a_half_that_is_deleted_again_and_again_is_made_anew_after_growing_delays(
    operator: Watched, world: World
) -> None:
    await operator.run(**FOUR)
    for again in (False, True):
        world.remove("StatefulSet", "demo-0-s2")
        await operator.settle()
        assert ("demo-0-s2" in sets(world)) is not again
    assert world.condition("Scheduled")["reason"] == "BackingOff"
    assert len(sets(world)) == 1
    world.pass_time(5)
    await come_up(operator, epoch=2)
    assert world.status()["groupRestarts"] == 2
    assert world.condition("Ready")["status"] == "True"


async def test_a_death_while_a_half_is_made_anew_neither_loses_nor_doubles_the_restart() -> None:
    for writes in range(9):
        world = cluster(ha=2, ab=2)
        operator = Watched(world)
        await operator.run(**FOUR)
        world.remove("StatefulSet", "demo-0-s2")
        await until_death(operator, lambda: come_up(operator, epoch=2), writes)  # noqa: B023 - called at once
        operator.restart()
        await come_up(operator, epoch=2)
        assert world.status()["groupRestarts"] == 1, f"after a death behind write {writes}"
        assert world.condition("Ready")["status"] == "True"
        assert set(sets(world)) == {"demo-0", "demo-0-s2"}


async def test_half_a_pipeline_is_never_available(operator: Watched, world: World) -> None:
    await operator.run(**FOUR)
    world.remove("StatefulSet", "demo-0-s2")
    world.claims.clear()
    raw = deployment(**FOUR)
    raw["spec"]["model"]["volume"]["claimName"] = "elsewhere"
    world.put(raw)
    await operator.converge()
    assert world.condition("Planned")["reason"] == "ClaimNotFound"
    assert world.condition("Available")["status"] == "False"


async def test_drift_of_the_second_half_is_corrected(operator: Watched, world: World) -> None:
    await operator.run(**FOUR)
    changed = touched(world, "StatefulSet", "demo-0-s2")
    changed["spec"]["replicas"] = 1
    changed["metadata"]["generation"] += 1
    await operator.settle()
    assert sets(world)["demo-0-s2"]["spec"]["replicas"] == 2


async def test_suspend_resume_and_restart_take_both_halves(operator: Watched, world: World) -> None:
    await operator.run(**FOUR)
    world.put(deployment(**FOUR, suspend=True))
    await operator.settle()
    assert world.all("StatefulSet") == world.all("Pod") == []
    world.put(deployment(**FOUR))
    await come_up(operator)
    before = {raw["metadata"]["uid"] for raw in world.all("Pod")}
    assert len(before) == 4
    raw = touched(world, "LayerwiseDeployment", "demo")
    raw["metadata"]["annotations"] = {names.RESTART: "monday"}
    await come_up(operator)
    after = {raw["metadata"]["uid"] for raw in world.all("Pod")}
    assert len(after) == 4
    assert before.isdisjoint(after)
    assert world.status()["phase"] == "Running"


async def test_from_one_kind_to_two_and_back_nothing_is_left_over() -> None:
    world = cluster(ha=2, ab=4)
    operator = Watched(world)
    for stages, hold in ((6, None), (4, A100), (5, None), (2, H100), (6, None)):
        selector = {"nodeSelector": {LABEL: hold}} if hold else {}
        world.put(deployment(strategy={"stages": stages}, accelerators=selector))
        await come_up(operator)
        assert len(sets(world)) == (1 if hold else 2)
        assert products(world) == planned(world)
        assert len(world.all("Pod")) == stages
        assert world.status()["phase"] == "Running"


async def test_of_two_that_compete_for_a_mix_one_runs_whole_and_the_other_holds_nothing(
    operator: Watched, world: World
) -> None:
    world.put(deployment("first", **FOUR))
    world.put(deployment("second", strategy={"stages": 3}))
    for _ in range(4):
        for name in ("first", "second"):
            await operator.converge(name)
            world.finish_inspection_if_running()
    world.run_stateful_sets()
    assert {raw["metadata"]["labels"][names.DEPLOYMENT] for raw in world.all("StatefulSet")} == {"first"}
    waiting = world.condition("Scheduled", "second")
    assert (waiting["status"], waiting["reason"]) == ("False", "InsufficientAccelerators")
    assert "have 0 free of 2" in waiting["message"]
    world.remove("LayerwiseDeployment", "first")
    await operator.converge("first")
    await operator.settle("second")
    assert {raw["metadata"]["labels"][names.DEPLOYMENT] for raw in world.all("StatefulSet")} == {"second"}


async def test_half_a_pipeline_whose_other_half_was_taken_lets_go(operator: Watched, world: World) -> None:
    await operator.run(**FOUR)
    world.remove("StatefulSet", "demo-0-s2")
    taken = planned(world)[-1]
    where = next(raw for raw in world.all("Node") if raw["metadata"]["labels"][LABEL] == taken)
    take_one(world, where["metadata"]["name"])
    operator.restart()
    await operator.settle()
    assert sets(world) == {}
    assert world.condition("Scheduled")["reason"] == "InsufficientAccelerators"
    world.remove("Pod", "theirs")
    world.pass_time(60)
    await come_up(operator, incarnation="second")
    assert set(sets(world)) == {"demo-0", "demo-0-s2"}


async def test_two_mixed_pipelines_are_replaced_one_at_a_time() -> None:
    world = cluster(ha=4, ab=4)
    operator = Watched(world)
    spec: dict[str, Any] = {"strategy": {"stages": 4}, "replicas": 2}
    await operator.run(**spec)
    assert set(sets(world)) == {"demo-0", "demo-0-s2", "demo-1", "demo-1-s2"}
    before = {raw["metadata"]["uid"] for raw in world.all("Pod")}
    world.put(deployment(**spec, worker={"device": "CPU", "image": "layerwise-worker:next"}))
    seen: list[int] = []
    for _ in range(6):
        await operator.settle(passes=12)
        seen.append(sum(raw["metadata"]["uid"] in before for raw in world.all("Pod")))
        assert world.condition("Available")["status"] == "True"
        world.all_ready()
        await operator.poll()
    assert seen[:2] == [4, 0]
