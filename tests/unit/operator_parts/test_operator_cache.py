"""Events may come late, twice, out of order or never: the cache ends up true."""

import copy
from typing import Any

from tests.unit.operator_world.world import deployment, node

from layerwise_operator import parsing
from layerwise_operator.cache import Cache
from layerwise_operator.kinds import DEPLOYMENT, NODE, POD, SERVICE, Kind
from layerwise_operator.listing import Listing
from layerwise_operator.manifests import names
from layerwise_operator.observed import Key, Object

KEY = Key("default", "demo")


def stored(version: int, *, uid: str = "one", stages: int = 3) -> dict[str, Any]:
    raw = deployment(strategy={"stages": stages})
    raw["metadata"].update(uid=uid, resourceVersion=str(version))
    return raw


def gpu_pod(name: str, *, phase: str = "Running", owner: str = "", version: int = 1) -> dict[str, Any]:
    labels = {names.APP_MANAGED_BY: names.MANAGER, names.DEPLOYMENT: owner} if owner else {}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": "default",
            "uid": name,
            "resourceVersion": str(version),
            "labels": labels,
        },
        "spec": {
            "nodeName": "node-a",
            "nodeSelector": {"nvidia.com/gpu.product": "X"},
            "containers": [{"resources": {"limits": {"nvidia.com/gpu": "2"}}}],
        },
        "status": {"phase": phase},
    }


def test_an_older_event_changes_nothing() -> None:
    cache = Cache()
    assert cache.put(DEPLOYMENT, stored(5, stages=5))
    assert not cache.put(DEPLOYMENT, stored(4, stages=4))
    assert not cache.put(DEPLOYMENT, stored(5, stages=5))
    found = cache.raw_deployment(KEY)
    assert found is not None
    assert found["spec"]["strategy"] == {"stages": 5}


def test_versions_are_numbers_and_no_text() -> None:
    cache = Cache()
    cache.put(DEPLOYMENT, stored(9, stages=9))
    assert cache.put(DEPLOYMENT, stored(10, stages=10))


def listed(cache: Cache, kind: Kind, items: list[Object], version: int, namespace: str = "") -> set[Key]:
    listing = Listing(cache, kind, namespace)
    listing.take(items, version)
    return listing.end()


def test_a_late_deletion_spares_the_namesake_made_since() -> None:
    cache = Cache()
    cache.put(DEPLOYMENT, stored(1, uid="old"))
    cache.put(DEPLOYMENT, stored(2, uid="new"))
    assert not cache.drop(DEPLOYMENT, stored(1, uid="old"))
    assert cache.raw_deployment(KEY) is not None
    assert cache.drop(DEPLOYMENT, stored(2, uid="new"))
    assert cache.raw_deployment(KEY) is None


def test_a_list_finds_what_no_event_told() -> None:
    cache = Cache()
    for name in ("gone", "stays"):
        raw = node(name)
        raw["metadata"].update(uid=name, resourceVersion="3")
        cache.put(NODE, raw)
    fresh, stays = node("fresh"), node("stays")
    fresh["metadata"].update(uid="fresh", resourceVersion="4")
    stays["metadata"].update(uid="stays", resourceVersion="3")
    assert listed(cache, NODE, [fresh, stays], 10) == {Key("", "gone"), Key("", "fresh")}
    assert {found.name for found in cache.nodes()} == {"fresh", "stays"}


def test_a_list_does_not_undo_what_came_after_it() -> None:
    cache = Cache()
    newer = node("newer")
    newer["metadata"].update(uid="newer", resourceVersion="11")
    cache.put(NODE, newer)
    assert listed(cache, NODE, [], 10) == set()
    assert [found.name for found in cache.nodes()] == ["newer"]


def test_a_list_of_one_namespace_leaves_the_others_alone() -> None:
    cache = Cache()
    cache.put(DEPLOYMENT, stored(1))
    assert listed(cache, DEPLOYMENT, [], 10, "elsewhere") == set()
    assert listed(cache, DEPLOYMENT, [], 10, "default") == {KEY}


def test_nodes_are_the_same_until_one_changes() -> None:
    cache = Cache()
    raw = node("one")
    raw["metadata"].update(uid="one", resourceVersion="3")
    cache.put(NODE, raw)
    before = cache.nodes()
    raw = {**raw, "metadata": {**raw["metadata"], "resourceVersion": "4"}}
    cache.put(NODE, raw)
    assert cache.nodes() is before
    raw = {**raw, "metadata": {**raw["metadata"], "resourceVersion": "5"}, "spec": {"unschedulable": True}}
    cache.put(NODE, raw)
    assert [found.schedulable for found in cache.nodes()] == [False]
    cache.drop(NODE, raw)
    assert cache.nodes() == ()


def test_a_heartbeat_of_a_node_is_no_change() -> None:
    cache = Cache()
    raw = node("node-a")
    raw["metadata"].update(uid="a", resourceVersion="1")
    assert cache.put(NODE, raw)
    beat = copy.deepcopy(raw)
    beat["metadata"]["resourceVersion"] = "2"
    beat["status"]["conditions"][0]["lastHeartbeatTime"] = "2026-01-01T00:00:00Z"
    assert not cache.put(NODE, beat)


def test_only_pods_that_matter_are_kept() -> None:
    cache = Cache()
    plain = gpu_pod("plain")
    plain["spec"]["containers"] = [{"resources": {"limits": {"cpu": "1"}}}]
    assert not cache.put(POD, plain)
    assert cache.put(POD, gpu_pod("holder"))
    assert cache.put(POD, gpu_pod("holder", phase="Succeeded", version=2))
    assert cache.objects["Pod"] == {}


def test_objects_without_our_labels_are_not_kept() -> None:
    cache = Cache()
    theirs = {
        "kind": "Service",
        "metadata": {"name": "demo", "namespace": "default", "uid": "u", "resourceVersion": "1"},
        "spec": {},
    }
    assert not cache.put(SERVICE, theirs)


def test_a_promise_counts_until_pods_hold_it() -> None:
    cache = Cache()
    mine, other = stored(1), stored(2, uid="two")
    other["metadata"]["name"] = "other"
    cache.put(DEPLOYMENT, mine)
    cache.put(DEPLOYMENT, other)
    cache.promise(Key("default", "other"), {"nvidia.com/gpu.product=X": 4})
    observed = cache.observe(parsing.deployment(mine))
    assert [row.count for row in observed.reservations] == [4]
    cache.put(POD, gpu_pod("other-0-0", owner="other"))
    observed = cache.observe(parsing.deployment(mine))
    assert [row.count for row in observed.reservations] == [2]
    assert [row.count for row in observed.holdings] == [2]
    cache.promise(Key("default", "other"), {})
    assert cache.observe(parsing.deployment(mine)).reservations == ()
