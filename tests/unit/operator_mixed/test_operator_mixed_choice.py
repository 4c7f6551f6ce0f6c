"""Which kinds of accelerators a pipeline spans, and for how many pipelines there is room."""

from typing import Any

import pytest
from tests.unit.operator_world.mixed import (
    A100,
    FOUR,
    cluster,
    come_up,
    planned,
    products,
    sets,
    take_one,
    touched,
)
from tests.unit.operator_world.world import H100, Watched, World, deployment, node

from layerwise_operator.manifests import names


async def test_a_pipeline_that_no_single_kind_can_take_spans_two(operator: Watched, world: World) -> None:
    await operator.run(**FOUR)
    assert sorted(planned(world)) == [A100, A100, H100, H100]
    assert products(world) == planned(world)
    first, second = sets(world)["demo-0"], sets(world)["demo-0-s2"]
    assert "ordinals" not in first["spec"]
    assert second["spec"]["ordinals"] == {"start": 2}
    assert [raw["metadata"]["name"] for raw in world.all("Pod")] == [
        "demo-0-0", "demo-0-1", "demo-0-s2-2", "demo-0-s2-3",
    ]  # fmt: skip
    assert first["spec"]["serviceName"] == second["spec"]["serviceName"] == "demo-0-ranks"
    assert [raw["metadata"]["name"] for raw in world.all("Service")] == ["demo", "demo-0-ranks"]
    assert (world.status()["stages"], world.status()["phase"]) == ("4/4", "Running")
    assert "no single kind" in world.status()["plan"]["verdict"]
    assert {stage["nextHop"] for stage in world.status()["plan"]["stages"]} == {"Network"}
    message = world.condition("Planned")["message"]
    assert "2 stage(s) on h100-sxm5-80gb" in message
    assert "2 stage(s) on a100-sxm4-80gb" in message


async def test_pods_of_a_mixed_pipeline_are_of_one_revision_and_find_the_same_rank_0(
    operator: Watched, world: World
) -> None:
    await operator.run(**FOUR)
    pods = world.all("Pod")
    assert len({raw["metadata"]["labels"][names.REVISION] for raw in pods}) == 1
    rows = [{row["name"]: row.get("value") for row in raw["spec"]["containers"][0]["env"]} for raw in pods]
    assert {row["LAYERWISE_COORDINATOR_HOST"] for row in rows} == {"demo-0-0.demo-0-ranks"}
    for raw in sets(world).values():
        labels = raw["spec"]["template"]["metadata"]["labels"]
        assert raw["spec"]["selector"]["matchLabels"].items() <= labels.items()


async def test_a_mixed_pipeline_at_rest_writes_nothing(operator: Watched, world: World) -> None:
    await operator.run(**FOUR)
    written = len(world.writes)
    operator.restart()
    for _ in range(3):
        world.pass_time(60)
        await operator.poll()
        await operator.converge()
    assert world.writes[written:] == []


async def test_one_kind_is_enough_where_a_mix_is_not_faster() -> None:
    world = cluster(ha=8, ab=8)
    await Watched(world).run(**FOUR)
    assert planned(world) == [H100] * 4
    assert list(sets(world)) == ["demo-0"]


async def test_a_faster_mix_is_taken_and_says_how_much_faster() -> None:
    world = cluster(ha=4, ab=8)
    operator = Watched(world)
    busy = {"strategy": {"stages": 6}, "workload": {"concurrency": 256}}
    await operator.run(**busy)
    assert sorted(planned(world)) == [A100, A100, H100, H100, H100, H100]
    assert "x what 6 x a100-sxm4-80gb alone would do" in world.status()["plan"]["verdict"]


@pytest.mark.parametrize(
    "hold",
    [{"nodeSelector": {"nvidia.com/gpu.product": A100}}, {"profile": "a100-sxm4-80gb"}],
)
async def test_the_spec_can_hold_the_choice_to_one_kind(hold: dict[str, Any]) -> None:
    world = cluster(ha=4, ab=8)
    await Watched(world).run(strategy={"stages": 6}, workload={"concurrency": 256}, accelerators=hold)
    assert planned(world) == [A100] * 6


async def test_a_kind_that_is_held_to_is_waited_for_whatever_else_is_free() -> None:
    world = cluster(ha=8, ab=2)
    operator = Watched(world)
    world.put(deployment(**FOUR, accelerators={"profile": "a100-sxm4-80gb"}))
    await operator.settle()
    assert sets(world) == {}
    assert f"have 2 free of 2 {A100} on 1 node(s), need 4" in world.condition("Scheduled")["message"]


async def test_ranges_made_by_hand_may_span_kinds(operator: Watched, world: World) -> None:
    await operator.run(strategy={"layerRanges": ["0-7", "8-15", "16-23", "24-29"]})
    assert products(world) == planned(world)
    assert sorted(planned(world)) == [A100, A100, H100, H100]


async def test_a_divided_node_of_one_kind_is_left_out_of_the_mix(operator: Watched, world: World) -> None:
    world.put(node("hmig", product=f"{H100}-MIG-1g.10gb", count=7, **{"nvidia.com/mig.strategy": "single"}))
    world.put(node("ashared", product=f"{A100}-SHARED", count=16))
    world.put(deployment(strategy={"stages": 5}))
    await operator.settle()
    assert sets(world) == {}
    message = world.condition("Scheduled")["message"]
    assert "left out: node ashared: its accelerators are shared" in message
    assert "and 1 more" in message


async def test_what_others_hold_of_each_kind_is_counted(operator: Watched, world: World) -> None:
    take_one(world, "ab")
    world.put(deployment(**FOUR))
    await operator.settle()
    assert sets(world) == {}
    assert f"have 1 free of 2 {A100} on 1 node(s), need 2" in world.condition("Scheduled")["message"]
    world.remove("Pod", "theirs")
    await come_up(operator)
    assert world.status()["phase"] == "Running"


async def test_when_all_nodes_of_one_kind_are_gone_there_is_another_plan() -> None:
    world = cluster(ha=2, ab=2)
    operator = Watched(world)
    await operator.run(**FOUR)
    world.put(node("hb", count=4))
    await operator.settle()
    assert sorted(planned(world)) == [A100, A100, H100, H100]
    world.remove("Node", "ab", "")
    for raw in list(world.all("Pod")):
        if raw["spec"]["nodeName"] == "ab":
            world.remove("Pod", raw["metadata"]["name"])
    await operator.converge()
    await come_up(operator)
    assert planned(world) == [H100] * 4
    assert list(sets(world)) == ["demo-0"]


async def test_a_cordoned_kind_moves_nothing_that_runs(operator: Watched, world: World) -> None:
    await operator.run(**FOUR)
    written = len(world.writes)
    for name in ("ha", "ab"):
        touched(world, "Node", name).setdefault("spec", {})["unschedulable"] = True
    world.put(node("hz", count=8))
    await operator.converge()
    assert world.writes[written:] == []


async def test_where_not_all_pipelines_fit_as_many_as_do_run() -> None:
    # H100s are faster, but there is no room for a single pipeline on them.
    world = cluster(ha=2, ab=6)
    operator = Watched(world)
    await operator.run(strategy={"stages": 3}, replicas=3)
    assert world.status()["readyReplicas"] == 2
    assert world.condition("Scheduled")["reason"] == "InsufficientAccelerators"


async def test_a_mix_is_made_for_as_many_pipelines_as_find_room(operator: Watched, world: World) -> None:
    await operator.run(**FOUR, replicas=2)
    assert set(sets(world)) == {"demo-0", "demo-0-s2"}
    assert world.status()["readyReplicas"] == 1
    assert world.condition("Scheduled")["reason"] == "InsufficientAccelerators"


async def test_a_pipeline_that_is_not_admitted_makes_way_for_one_that_is() -> None:
    world = cluster(ha=7)
    operator = Watched(world)
    await operator.run(strategy={"stages": 3}, replicas=2)
    assert set(sets(world)) == {"demo-0", "demo-1"}
    world.put(deployment(strategy={"stages": 7}, replicas=2))
    await come_up(operator)
    assert {name: raw["spec"]["replicas"] for name, raw in sets(world).items()} == {"demo-0": 7}
    assert world.status()["readyReplicas"] == 1
