"""A world with two kinds of accelerators, and pipelines that span both."""

from typing import Any

from tests.unit.operator_world.world import H100, Raw, Watched, World, node

from layerwise_operator.manifests import names

A100 = "NVIDIA-A100-SXM4-80GB"
LABEL = "nvidia.com/gpu.product"


def cluster(**counts: int) -> World:
    """Nodes with so many accelerators, by name; those that begin with h are H100s."""
    world = World()
    for name, count in counts.items():
        world.put(node(name, product=H100 if name.startswith("h") else A100, count=count))
    return world


FOUR: dict[str, Any] = {"strategy": {"stages": 4}}


def sets(world: World) -> dict[str, Raw]:
    return {raw["metadata"]["name"]: raw for raw in world.all("StatefulSet")}


def products(world: World) -> list[str]:
    """Where each stage's pod was sent, by rank."""
    pods = sorted(world.all("Pod"), key=lambda raw: int(raw["metadata"]["labels"][names.POD_INDEX]))
    return [raw["spec"]["nodeSelector"][LABEL] for raw in pods]


def planned(world: World, name: str = "demo") -> list[str]:
    short = {"h100-sxm5-80gb": H100, "a100-sxm4-80gb": A100}
    return [short[stage["accelerator"]] for stage in world.status(name)["plan"]["stages"]]


def touched(world: World, kind: str, name: str) -> Raw:
    """An object that is about to be changed in place."""
    raw = world.objects[kind, "" if kind == "Node" else "default", name]
    world.touch(raw)
    return raw


def take_one(world: World, where: str) -> None:
    """Somebody else's pod takes an accelerator of a node."""
    container = {"resources": {"limits": {"nvidia.com/gpu": "1"}}}
    world.put({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "theirs", "namespace": "default", "labels": {}},
        "spec": {"nodeName": where, "containers": [container]},
        "status": {"phase": "Running"},
    })  # fmt: skip


async def come_up(operator: Watched, **how: Any) -> None:
    for _ in range(3):
        await operator.settle(passes=12)
        operator.world.all_ready(**how)
        await operator.poll()
    await operator.settle()
