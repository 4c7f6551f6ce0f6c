"""The objects of a deployment: drift, deletion, and names that somebody else uses."""

import pytest
from tests.unit.operator_world.world import Raw, Watched, World, deployment

from layerwise_operator.faults import ApiFault
from layerwise_operator.kinds import SERVICE
from layerwise_operator.observed import Key


async def test_drift_of_a_child_is_corrected(operator: Watched, world: World) -> None:
    await operator.run()
    service = world.objects["Service", "default", "demo"]
    service["spec"]["selector"] = {"somebody": "else"}
    service["metadata"]["generation"] += 1
    world.touch(service)
    await operator.converge()
    assert (
        world.objects["Service", "default", "demo"]["spec"]["selector"]["layerwise.dev/deployment"] == "demo"
    )


async def test_what_an_admission_webhook_changed_is_left_as_it_is(operator: Watched, world: World) -> None:
    await operator.run()
    world.mutate = lambda raw: raw["spec"].update(type="LoadBalancer") if raw["kind"] == "Service" else None
    del world.objects["Service", "default", "demo"]
    await operator.settle()
    assert world.objects["Service", "default", "demo"]["spec"]["type"] == "LoadBalancer"


async def test_a_deleted_child_comes_back(operator: Watched, world: World) -> None:
    await operator.run()
    for kind, name in (("Service", "demo"), ("PodDisruptionBudget", "demo"), ("StatefulSet", "demo-0")):
        world.remove(kind, name)
        await operator.settle()
        assert (kind, "default", name) in world.objects


async def test_a_name_that_someone_else_uses_is_not_taken_over(operator: Watched, world: World) -> None:
    theirs = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "demo", "namespace": "default"},
        "spec": {"selector": {"app": "theirs"}},
    }
    world.put(theirs)
    world.put(deployment())
    await operator.settle()
    assert world.objects["Service", "default", "demo"]["spec"] == theirs["spec"]
    ready = world.condition("Ready")
    assert ready["reason"] == "NameTaken"
    assert "Service 'demo' exists" in ready["message"]
    assert world.status()["phase"] == "Failed"


async def test_children_of_a_deleted_namesake_are_not_mistaken_for_ours(
    operator: Watched, world: World
) -> None:
    await operator.run()
    children = {key: raw for key, raw in world.objects.items() if key[0] != "Node"}
    world.remove("LayerwiseDeployment", "demo")
    world.objects.update({key: raw for key, raw in children.items() if key[0] != "LayerwiseDeployment"})
    world.put(deployment())
    await operator.converge()
    assert world.condition("Ready")["status"] == "False"
    assert world.status()["stages"] if "plan" in world.status() else True


async def test_a_child_of_ours_that_no_event_told_of_is_no_name_that_is_taken(
    operator: Watched, world: World
) -> None:
    await operator.run()
    service = world.objects["Service", "default", "demo"]
    operator.cache.drop(SERVICE, service)
    await operator.converger().converge(Key("default", "demo"))
    assert world.objects["Service", "default", "demo"] is service
    assert world.condition("Ready")["status"] == "True"
    assert world.writes[-1] == "apply Service demo"


async def test_a_pass_tells_at_once_of_the_pipelines_that_it_made(operator: Watched, world: World) -> None:
    world.put(deployment())
    await operator.converge()
    world.finish_inspection_if_running()
    await operator.converge()
    assert world.all("StatefulSet")
    assert world.status()["pipelines"][0]["created"] is True
    written = list(world.writes)
    await operator.converge()
    assert world.writes == written


async def test_a_lost_pipeline_is_counted_by_the_very_pass_that_makes_it_anew(
    operator: Watched, world: World
) -> None:
    await operator.run()
    world.remove("StatefulSet", "demo-0")
    await operator.converge()
    assert world.all("StatefulSet")
    row = world.status()["pipelines"][0]
    assert (row["created"], row["restarts"]) == (True, 1)


@pytest.mark.parametrize("status", [400, 422, 500])
@pytest.mark.parametrize("is_taken", [False, True])
async def test_where_the_api_creates_nothing_under_a_version_a_look_comes_first(
    operator: Watched, world: World, monkeypatch: pytest.MonkeyPatch, status: int, is_taken: bool
) -> None:
    apply = world.apply

    async def picky(manifest: Raw, *, only_new: bool = False) -> Raw:
        if only_new:
            raise ApiFault(status, "Refused", "resourceVersion should not be set on new objects", "patch")
        return await apply(manifest)

    monkeypatch.setattr(world, "apply", picky)
    theirs = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "demo", "namespace": "default"}}
    if is_taken:
        world.put(theirs)
        world.put(deployment())
        await operator.settle()
        assert world.condition("Ready")["reason"] == "NameTaken"
        assert "spec" not in world.objects["Service", "default", "demo"]
    else:
        await operator.run()
        assert world.condition("Ready")["status"] == "True"
