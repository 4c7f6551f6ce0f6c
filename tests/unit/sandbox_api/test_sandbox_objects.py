"""Objects over HTTP: writes, subresources, deletion, definitions."""

import io
from pathlib import Path
from typing import Any

import pytest
from tests.unit.sandbox_api.conftest import Api

from layerwise_sandbox.schema import protobuf

CORE = "/api/v1/namespaces/default"
APPS = "/apis/apps/v1/namespaces/default"
MERGE, APPLY = "application/merge-patch+json", "application/apply-patch+yaml"


def pod(name: str, **spec: Any) -> dict[str, Any]:
    container = {"name": "c", "image": "i:1"}
    return {"metadata": {"name": name, "labels": {"app": name}}, "spec": {"containers": [container], **spec}}


def definition(scope: str = "Cluster", **version: Any) -> dict[str, Any]:
    schema = {
        "type": "object",
        "properties": {"spec": {"type": "object", "properties": {"size": {"type": "integer", "default": 3}}}},
    }
    first = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}, **version}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "things.example.test"},
        "spec": {
            "group": "example.test",
            "scope": scope,
            "names": {"plural": "things", "kind": "Thing"},
            "versions": [first],
        },
    }


CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"


async def test_cluster_scoped_custom_resources_have_no_namespace(api: Api) -> None:
    await api.made(CRDS, definition())
    thing = {
        "apiVersion": "example.test/v1",
        "kind": "Thing",
        "metadata": {"name": "a", "namespace": "x"},
        "spec": {},
    }
    made = await api.made("/apis/example.test/v1/things", thing)

    assert "namespace" not in made["metadata"]
    assert made["spec"] == {"size": 3}
    assert (await api("GET", "/apis/example.test/v1/namespaces/default/things"))[0] == 404


async def test_a_definition_takes_its_objects_along(api: Api) -> None:
    await api.made(CRDS, definition())
    held = {
        "apiVersion": "example.test/v1",
        "kind": "Thing",
        "metadata": {"name": "a", "finalizers": ["e.x/hold"]},
    }
    await api.made("/apis/example.test/v1/things", held)
    status, deleted = await api("DELETE", f"{CRDS}/things.example.test")

    assert (status, deleted["status"]["conditions"][-1]["type"]) == (200, "Terminating")
    assert (await api("GET", "/apis/example.test/v1/things/a"))[1]["metadata"]["deletionTimestamp"]
    await api("PATCH", "/apis/example.test/v1/things/a", {"metadata": {"finalizers": None}}, MERGE)
    assert (await api("GET", f"{CRDS}/things.example.test"))[0] == 404
    assert (await api("GET", "/apis/example.test/v1/things"))[0] == 404


async def test_every_served_version_shows_the_same_objects(api: Api) -> None:
    crd = definition()
    crd["spec"]["versions"].append({**crd["spec"]["versions"][0], "name": "v2", "storage": False})
    await api.made(CRDS, crd)
    thing = {"apiVersion": "example.test/v1", "kind": "Thing", "metadata": {"name": "a"}, "spec": {"size": 5}}
    await api.made("/apis/example.test/v1/things", thing)

    _, read = await api("GET", "/apis/example.test/v2/things/a")
    _, groups = await api("GET", "/apis")

    assert (read["apiVersion"], read["spec"]["size"]) == ("example.test/v2", 5)
    versions = next(group for group in groups["groups"] if group["name"] == "example.test")["versions"]
    assert [version["version"] for version in versions] == ["v2", "v1"]


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"metadata": {"name": "wrong"}}, "metadata.name"),
        ({"spec": {"scope": "Galaxy"}}, "spec.scope"),
        ({"spec": {"versions": []}}, "spec.versions"),
    ],
)
async def test_a_definition_that_cannot_work_is_refused(api: Api, change: Any, field: str) -> None:
    crd = definition()
    for name, part in change.items():
        crd[name] = {**crd[name], **part}

    status, answer = await api("POST", CRDS, crd)

    assert (status, field in [cause["field"] for cause in answer["details"]["causes"]]) == (422, True)


async def test_a_dry_run_changes_nothing(api: Api) -> None:
    await api.made(f"{CORE}/configmaps", {"metadata": {"name": "a"}})
    before = api.server.store.version
    await api("PATCH", f"{CORE}/configmaps/a?dryRun=All", {"data": {"x": "1"}}, MERGE)
    await api("DELETE", f"{CORE}/configmaps/a?dryRun=All")
    config = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "b"}}
    status, _ = await api("PATCH", f"{CORE}/configmaps/b?dryRun=All&fieldManager=m", config, APPLY)

    assert status == 201
    assert api.server.store.version == before


async def test_a_pod_is_bound_once(api: Api) -> None:
    await api.made(f"{CORE}/pods", pod("p"))
    target = {"target": {"kind": "Node", "name": "n"}}

    assert (await api("POST", f"{CORE}/pods/p/binding", target))[0] == 201
    status, answer = await api("POST", f"{CORE}/pods/p/binding", target)
    assert (status, answer["reason"]) == (409, "Conflict")
    assert 'pod p is already assigned to node "n"' in answer["message"]


async def test_a_bound_pod_waits_for_its_node_and_a_free_one_does_not(api: Api) -> None:
    for name in ("bound", "free"):
        await api.made(f"{CORE}/pods", pod(name))
    await api("POST", f"{CORE}/pods/bound/binding", {"target": {"name": "n"}})
    await api("DELETE", f"{CORE}/pods/bound")
    await api("DELETE", f"{CORE}/pods/free")

    _, held = await api("GET", f"{CORE}/pods/bound")
    assert held["metadata"]["deletionGracePeriodSeconds"] == 30
    assert (await api("GET", f"{CORE}/pods/free"))[0] == 404
    _, shorter = await api("DELETE", f"{CORE}/pods/bound?gracePeriodSeconds=5")
    assert shorter["metadata"]["deletionGracePeriodSeconds"] == 5


async def evictable(api: Api, allowed: int) -> None:
    await api.made(f"{CORE}/pods", pod("p"))
    await api("POST", f"{CORE}/pods/p/binding", {"target": {"name": "n"}})
    ready = [{"type": "Ready", "status": "True"}]
    await api("PATCH", f"{CORE}/pods/p/status", {"status": {"phase": "Running", "conditions": ready}}, MERGE)
    path = "/apis/policy/v1/namespaces/default/poddisruptionbudgets"
    budget = {
        "metadata": {"name": "b"},
        "spec": {"maxUnavailable": 0, "selector": {"matchLabels": {"app": "p"}}},
    }
    await api.made(path, budget)
    status = {
        "observedGeneration": 1,
        "disruptionsAllowed": allowed,
        "currentHealthy": 1,
        "desiredHealthy": 1,
        "expectedPods": 1,
    }
    await api("PATCH", f"{path}/b/status", {"status": status}, MERGE)


async def test_an_eviction_respects_the_budget(api: Api) -> None:
    await evictable(api, 0)
    status, answer = await api("POST", f"{CORE}/pods/p/eviction", {"metadata": {"name": "p"}})

    assert (status, answer["reason"]) == (429, "TooManyRequests")
    assert answer["message"] == "Cannot evict pod as it would violate the pod's disruption budget."
    assert answer["details"]["causes"] == [
        {
            "reason": "DisruptionBudget",
            "message": "The disruption budget b needs 1 healthy pods and has 1 currently",
        }
    ]


async def test_an_eviction_spends_the_budget(api: Api) -> None:
    await evictable(api, 1)
    status, _ = await api("POST", f"{CORE}/pods/p/eviction", {"metadata": {"name": "p"}})
    _, budget = await api("GET", "/apis/policy/v1/namespaces/default/poddisruptionbudgets/b")
    _, evicted = await api("GET", f"{CORE}/pods/p")

    assert status == 201
    assert budget["status"]["disruptionsAllowed"] == 0
    assert evicted["metadata"]["deletionTimestamp"]
    assert evicted["status"]["conditions"][-1]["reason"] == "EvictionByEvictionAPI"


async def test_events_of_both_groups_are_the_same_events(api: Api) -> None:
    event = {
        "metadata": {"name": "e"},
        "regarding": {"kind": "Pod", "name": "p", "namespace": "default"},
        "note": "hello",
        "reason": "R",
        "type": "Normal",
        "reportingController": "c",
    }
    await api.made("/apis/events.k8s.io/v1/namespaces/default/events", event)

    _, core = await api("GET", f"{CORE}/events?fieldSelector=involvedObject.name%3Dp")
    _, new = await api("GET", "/apis/events.k8s.io/v1/namespaces/default/events/e")

    assert core["items"][0]["message"] == new["note"] == "hello"
    assert core["items"][0]["reportingComponent"] == "c"


LOG = [f"2026-01-01T00:00:0{number}.123456789Z stdout F line {number}\n" for number in range(4)]


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ("", "line 0\nline 1\nline 2\nline 3\n"),
        ("?tailLines=1", "line 3\n"),
        ("?tailLines=0", ""),
        ("?limitBytes=8", "line 0\nl"),
        ("?sinceTime=2026-01-01T00:00:02Z", "line 2\nline 3\n"),
        ("?timestamps=true&tailLines=1", "2026-01-01T00:00:03.123456789Z line 3\n"),
        ("?previous=true", "before\n"),
        ("?follow=true&tailLines=1", "line 3\n"),
    ],
)
async def test_logs_are_read_from_the_nodes_files(api: Api, tmp_path: Path, query: str, text: str) -> None:
    made = await api.made(f"{CORE}/pods", pod("p", nodeName="n"))
    folder = tmp_path / f"default_p_{made['metadata']['uid']}" / "c"
    folder.mkdir(parents=True)
    (folder / "0.log").write_text("2026-01-01T00:00:00Z stdout F before\n")
    (folder / "1.log").write_text("".join(LOG))
    ended = {"terminated": {"exitCode": 0}}
    status = {
        "name": "c",
        "restartCount": 1,
        "state": ended,
        "lastState": ended,
        "ready": False,
        "image": "i:1",
        "imageID": "",
    }
    await api("PATCH", f"{CORE}/pods/p/status", {"status": {"containerStatuses": [status]}}, MERGE)

    assert (await api("GET", f"{CORE}/pods/p/log{query}"))[1] == text


async def test_logs_that_cannot_be_say_why(api: Api) -> None:
    two = [{"name": "a", "image": "i"}, {"name": "b", "image": "i"}]
    await api.made(f"{CORE}/pods", pod("p", containers=two, nodeName="n"))

    for query, why in (
        ("", "a container name must be specified for pod p, choose one of: [a b]"),
        ("?container=x", "container x is not valid for pod p"),
        ("?container=a", 'container "a" in pod "p" is waiting to start: ContainerCreating'),
        ("?container=a&previous=1", 'previous terminated container "a" in pod "p" not found'),
    ):
        status, answer = await api("GET", f"{CORE}/pods/p/log{query}")
        assert (status, answer["message"]) == (400, why)


@pytest.mark.parametrize(
    ("body", "field", "words"),
    [
        ({"selector": None}, "spec.selector", "Required value"),
        ({"replicas": -1}, "spec.replicas", "must be greater than or equal to 0"),
        (
            {"strategy": {"type": "Magic"}},
            "spec.strategy.type",
            'supported values: "Recreate", "RollingUpdate"',
        ),
    ],
)
async def test_a_wrong_deployment_is_refused(api: Api, body: Any, field: str, words: str) -> None:
    labels = {"app": "d"}
    spec = {
        "selector": {"matchLabels": labels},
        "template": {"metadata": {"labels": labels}, "spec": pod("d")["spec"]},
        **body,
    }

    status, answer = await api("POST", f"{APPS}/deployments", {"metadata": {"name": "d"}, "spec": spec})

    assert status == 422
    assert any(cause["field"] == field and words in cause["message"] for cause in answer["details"]["causes"])


@pytest.mark.parametrize(
    ("container", "field"),
    [
        ({"name": "Bad"}, "name"),
        ({"image": None}, "image"),
        ({"ports": [{"containerPort": 70000}]}, "ports[0].containerPort"),
        ({"env": [{"name": "1 x"}]}, "env[0].name"),
        ({"volumeMounts": [{"name": "none", "mountPath": "/x"}]}, "volumeMounts[0].name"),
        ({"resources": {"requests": {"cpu": "2"}, "limits": {"cpu": "1"}}}, "resources.requests"),
        ({"resources": {"limits": {"nvidia.com/gpu": "500m"}}}, "resources.limits[nvidia.com/gpu]"),
        ({"livenessProbe": {"periodSeconds": 1}}, "livenessProbe"),
    ],
)
async def test_a_wrong_container_is_refused(api: Api, container: Any, field: str) -> None:
    body = pod("p")
    body["spec"]["containers"][0] |= container

    status, answer = await api("POST", f"{CORE}/pods", body)

    assert status == 422
    assert f"spec.containers[0].{field}" in [cause["field"] for cause in answer["details"]["causes"]]


async def test_immutable_objects_stay(api: Api) -> None:
    await api.made(f"{CORE}/configmaps", {"metadata": {"name": "a"}, "data": {"x": "1"}, "immutable": True})
    status, answer = await api("PATCH", f"{CORE}/configmaps/a", {"data": {"x": "2"}}, MERGE)

    assert status == 422
    assert answer["message"] == (
        'ConfigMap "a" is invalid: data: Forbidden: field is immutable when `immutable` is set'
    )


async def test_protobuf_bodies_are_understood(api: Api) -> None:
    def field(number: int, data: bytes) -> bytes:
        return bytes([number << 3 | 2, len(data)]) + data

    entry = field(1, b"k") + field(2, b"v")
    raw = field(1, field(1, b"made")) + field(2, entry)
    body = protobuf.MAGIC + field(1, field(1, b"v1") + field(2, b"ConfigMap")) + field(2, raw)

    status, answer = await api("POST", f"{CORE}/configmaps", body, protobuf.MEDIA_TYPE)

    assert (status, answer["metadata"]["name"], answer["data"]) == (201, "made", {"k": "v"})
    for broken in (b"k8s\x00\xff", b"nonsense", body[:-3]):
        assert (await api("POST", f"{CORE}/configmaps", broken, protobuf.MEDIA_TYPE))[0] == 400


async def test_services_get_addresses_and_keep_them(api: Api) -> None:
    body = {"metadata": {"name": "s"}, "spec": {"ports": [{"port": 80}], "selector": {"a": "b"}}}
    made = await api.made(f"{CORE}/services", body)
    address = made["spec"]["clusterIP"]
    _, replaced = await api("PUT", f"{CORE}/services/s", body)
    status, answer = await api("PATCH", f"{CORE}/services/s", {"spec": {"clusterIP": "10.96.9.9"}}, MERGE)

    assert replaced["spec"]["clusterIP"] == address
    assert (status, answer["details"]["causes"][0]["field"]) == (422, "spec.clusterIPs[0]")


async def test_an_unsupported_stream_names_the_alternative(api: Api) -> None:
    await api.made(f"{CORE}/pods", pod("p"))
    status, answer = await api("POST", f"{CORE}/pods/p/portforward")

    assert (status, answer["reason"]) == (501, "NotImplemented")
    assert "service proxy" in answer["message"]


async def test_a_body_beyond_the_limit_is_refused(api: Api) -> None:
    async with api.session.post(
        f"{api.server.url}{CORE}/configmaps", data=io.BytesIO(b" " * 4_000_000)
    ) as response:
        answer = await response.json()

    assert (response.status, answer["reason"]) == (413, "RequestEntityTooLarge")


async def test_a_status_is_applied_apart(api: Api) -> None:
    status = {"type": "object", "properties": {"phase": {"type": "string"}}}
    crd = definition(subresources={"status": {}})
    schema = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    schema["properties"] = {**schema["properties"], "status": status}
    await api.made(CRDS, crd)
    path = "/apis/example.test/v1/things/a"
    thing = {"apiVersion": "example.test/v1", "kind": "Thing", "metadata": {"name": "a"}}
    whole = thing | {"spec": {"size": 1}, "status": {"phase": "Smuggled"}}
    await api("PATCH", f"{path}?fieldManager=one", whole, APPLY)
    _, applied = await api("PATCH", f"{path}/status?fieldManager=two", whole | {"spec": {"size": 9}}, APPLY)

    assert (applied["spec"], applied["status"]) == ({"size": 1}, {"phase": "Smuggled"})
    entries = {entry["manager"]: entry for entry in applied["metadata"]["managedFields"]}
    assert entries["one"]["fieldsV1"] == {"f:spec": {"f:size": {}}}
    assert entries["two"]["fieldsV1"] == {"f:status": {"f:phase": {}}}
    assert entries["two"]["subresource"] == "status"


async def test_a_version_cannot_be_chosen_for_a_new_object(api: Api) -> None:
    body = {"metadata": {"name": "a", "resourceVersion": "5"}}

    status, answer = await api("POST", f"{CORE}/configmaps", body)

    assert (status, answer["message"]) == (
        500,
        "resourceVersion should not be set on objects to be created",
    )


async def test_an_apply_under_a_version_makes_what_is_new_and_changes_nothing_else(api: Api) -> None:
    path = f"{CORE}/configmaps/a?fieldManager=one&force=true"
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "resourceVersion": "1"}}

    first, made = await api("PATCH", path, body | {"data": {"key": "mine"}}, APPLY)
    second, answer = await api("PATCH", path, body | {"data": {"key": "taken"}}, APPLY)
    _, kept = await api("GET", f"{CORE}/configmaps/a")

    assert (first, second, answer["reason"]) == (201, 409, "Conflict")
    assert made["metadata"]["resourceVersion"] == kept["metadata"]["resourceVersion"] != "1"
    assert kept["data"] == {"key": "mine"}


async def test_a_custom_resource_must_name_its_kind(api: Api) -> None:
    await api.made(CRDS, definition())
    status, answer = await api("POST", "/apis/example.test/v1/things", {"metadata": {"name": "a"}})

    assert (status, answer["message"].startswith("Object 'Kind' is missing in ")) == (400, True)
