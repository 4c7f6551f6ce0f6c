"""A cluster of a few dicts: the calls of `Cluster`, and just enough controllers for its children."""

import copy
import itertools
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from layerwise.models.architecture import Architecture
from layerwise.resources.status import DeploymentStatus
from layerwise.telemetry import RankReport, RankState, Transport
from layerwise_operator.cache import Cache
from layerwise_operator.cluster import dump_status
from layerwise_operator.converge import Converger
from layerwise_operator.decision import Deletion, EventNote
from layerwise_operator.faults import ApiFault
from layerwise_operator.kinds import BY_NAME, CHILDREN, DEPLOYMENT, NODE, Kind
from layerwise_operator.listing import Listing
from layerwise_operator.manifests import names
from layerwise_operator.metrics import Metrics
from layerwise_operator.observed import Key
from layerwise_operator.reconcile import Policy

Raw = dict[str, Any]
H100 = "NVIDIA-H100-80GB-HBM3"
NAMESPACE = "default"

SMALL = Architecture(
    family="llama",
    num_layers=30,
    hidden_size=576,
    num_heads=9,
    num_key_value_heads=3,
    head_size=64,
    mlp_hidden_size=1536,
    vocabulary_size=49152,
    tied_embeddings=True,
    max_positions=8192,
)
FACTS = {"architecture": SMALL.to_json(), "weightBytes": 269_000_000, "dtype": "BFloat16"}


def deployment(name: str = "demo", **spec: Any) -> Raw:
    """A LayerwiseDeployment of three stages on CPU; `spec` replaces its parts."""
    parts: Raw = {
        "model": {"volume": {"claimName": "models", "directory": "smollm2"}},
        "strategy": {"stages": 3},
        "worker": {"device": "CPU"},
    }
    return {
        "apiVersion": DEPLOYMENT.api_version,
        "kind": DEPLOYMENT.kind,
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {**parts, **spec},
    }


def node(name: str, *, product: str = H100, count: int = 8, **labels: str) -> Raw:
    """A node as GPU feature discovery describes it."""
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": {"nvidia.com/gpu.product": product, **labels}},
        "status": {
            "allocatable": {"cpu": "16", "nvidia.com/gpu": str(count)},
            "conditions": [{"type": "Ready", "status": "True"}],
        },
    }


@dataclass
class World:
    """Objects, and the calls of the operator on them. `writes` counts what changed something."""

    objects: dict[tuple[str, str, str], Raw] = field(default_factory=dict)
    claims: set[str] = field(default_factory=lambda: {"models"})
    events: list[EventNote] = field(default_factory=list)
    reports: dict[str, RankReport] = field(default_factory=dict)
    writes: list[str] = field(default_factory=list)
    now: datetime = datetime(2026, 1, 1, tzinfo=UTC)
    counter: Any = field(default_factory=lambda: itertools.count(1))
    fail_at: int | None = None
    mutate: Callable[[Raw], object] = id

    # --- the seam of Cluster ---

    async def claim_exists(self, namespace: str, name: str) -> bool:
        return name in self.claims

    async def get(self, kind: Kind, key: Key) -> Raw | None:
        return copy.deepcopy(self.objects.get((kind.kind, key.namespace, key.name)))

    async def apply(self, manifest: Raw, *, only_new: bool = False) -> Raw:
        meta = manifest["metadata"]
        if only_new and (manifest["kind"], meta["namespace"], meta["name"]) in self.objects:
            raise ApiFault(409, "Conflict", "the object has been modified", "patch")
        self._write(f"apply {manifest['kind']} {manifest['metadata']['name']}")
        return self.put(manifest)

    async def write_status(self, raw: Raw, status: DeploymentStatus) -> Raw:
        meta = raw["metadata"]
        found = self.objects.get((DEPLOYMENT.kind, meta["namespace"], meta["name"]))
        if found is None or found["metadata"]["uid"] != meta["uid"]:
            raise ApiFault(404, "NotFound", "gone", "patch status")
        self._write(f"status {meta['name']}")
        found["status"] = dump_status(status)
        found["metadata"]["resourceVersion"] = str(next(self.counter))
        return copy.deepcopy(found)

    async def delete(self, namespace: str, deletion: Deletion) -> None:
        found = self.objects.get((deletion.kind.kind, namespace, deletion.name))
        if found is not None and found["metadata"]["uid"] == deletion.uid:
            self._write(f"delete {deletion.kind.kind} {deletion.name}")
            self.remove(deletion.kind.kind, deletion.name)

    async def post_event(self, raw: Raw, note: EventNote, now: datetime) -> None:
        self.events.append(note)

    async def report(self, address: str, port: int) -> RankReport | None:
        return self.reports.get(address)

    def _write(self, what: str) -> None:
        if self.fail_at is not None and len(self.writes) >= self.fail_at:
            raise OperatorDied
        self.writes.append(what)

    # --- the hand of a user, and of the other controllers ---

    def put(self, manifest: Raw) -> Raw:
        """Create or change an object, as the API server would."""
        raw = copy.deepcopy(manifest)
        self.mutate(raw)
        meta = raw["metadata"]
        key = (raw["kind"], meta.get("namespace", ""), meta["name"])
        known = self.objects.get(key)
        version = next(self.counter)
        if known is None:
            meta.setdefault("uid", f"uid-{version}")
            meta.update(resourceVersion=str(version), generation=1)
            meta["creationTimestamp"] = self.now.isoformat()
            self.objects[key] = raw
            return copy.deepcopy(raw)
        changed = known.get("spec") != raw.get("spec")
        known["metadata"]["generation"] += changed
        known["metadata"]["resourceVersion"] = str(version)
        for part in ("labels", "annotations", "ownerReferences"):
            if part in meta:
                known["metadata"][part] = meta[part]
        known.update(
            {name: raw[name] for name in raw if name not in ("metadata", "status", "apiVersion", "kind")}
        )
        return copy.deepcopy(known)

    def remove(self, kind: str, name: str, namespace: str = NAMESPACE) -> None:
        """Delete an object and, as the garbage collector would, all that it owns."""
        gone = self.objects.pop((kind, namespace, name))["metadata"]["uid"]
        for key, raw in list(self.objects.items()):
            if any(owner["uid"] == gone for owner in raw["metadata"].get("ownerReferences") or ()):
                self.remove(key[0], key[2], key[1])

    def all(self, kind: str) -> list[Raw]:
        """All objects of a kind, by name."""
        return [raw for key, raw in sorted(self.objects.items()) if key[0] == kind]

    def status(self, name: str = "demo") -> Raw:
        """The status that a user sees."""
        return dict(self.objects[DEPLOYMENT.kind, NAMESPACE, name].get("status") or {})

    def condition(self, type_: str, name: str = "demo") -> Raw:
        """One condition that a user sees."""
        return next(dict(c) for c in self.status(name)["conditions"] if c["type"] == type_)

    def run_stateful_sets(self) -> None:
        """Make the pods that StatefulSets want, bound to a node, and remove those beyond."""
        for owner in self.all("StatefulSet"):
            meta, spec = owner["metadata"], owner["spec"]
            start = spec.get("ordinals", {}).get("start", 0)
            for rank in range(start, start + spec["replicas"]):
                name = f"{meta['name']}-{rank}"
                if ("Pod", NAMESPACE, name) not in self.objects:
                    self._make_pod(owner, name, rank)
            for rank in range(start + spec["replicas"], 20):
                if ("Pod", NAMESPACE, f"{meta['name']}-{rank}") in self.objects:
                    self.remove("Pod", f"{meta['name']}-{rank}")

    def _make_pod(self, owner: Raw, name: str, rank: int) -> None:
        template = copy.deepcopy(owner["spec"]["template"])
        address = f"10.0.0.{next(self.counter)}"
        template["metadata"]["labels"][names.POD_INDEX] = str(rank)
        reference = {"kind": "StatefulSet", "name": owner["metadata"]["name"], "controller": True}
        self.put({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "name": name,
                "namespace": NAMESPACE,
                "labels": template["metadata"]["labels"],
                "ownerReferences": [reference | {"uid": owner["metadata"]["uid"]}],
            },
            "spec": template["spec"] | {"nodeName": self._node_for(template["spec"])},
            "status": {
                "phase": "Running",
                "podIP": address,
                "conditions": [{"type": "Ready", "status": "False"}],
                "containerStatuses": [{"restartCount": 0, "state": {"running": {}}}],
            },
        })  # fmt: skip

    def _node_for(self, spec: Raw) -> str:
        """The first node that the selector allows; where labels have changed meanwhile, the first of all."""
        for raw in self.all("Node"):
            if spec.get("nodeSelector", {}).items() <= raw["metadata"]["labels"].items():
                return str(raw["metadata"]["name"])
        return "node-a"

    def pod(self, name: str) -> Raw:
        """A pod to change in place; `touch` must follow."""
        return self.objects["Pod", NAMESPACE, name]

    def touch(self, raw: Raw) -> None:
        """Count a change that was made in place."""
        raw["metadata"]["resourceVersion"] = str(next(self.counter))

    def set_ready(self, name: str, *, ready: bool = True, state: RankState | None = None, epoch: int = 1,
                  incarnation: str = "first", performance: Any = None,
                  requests: Any = None) -> None:  # fmt: skip
        """Make a worker pod (un)ready, and let it report so."""
        raw = self.pod(name)
        raw["status"]["conditions"] = [{"type": "Ready", "status": str(ready)}]
        self.touch(raw)
        rank = int(name.rpartition("-")[2])
        self.reports[raw["status"]["podIP"]] = RankReport(
            rank=rank,
            num_stages=3,
            plan_hash="",
            state=state or (RankState.READY if ready else RankState.CONNECTING),
            incarnation=incarnation if rank == 0 else "",
            epoch=epoch,
            transport=Transport(kind="Gloo"),
            performance=performance if rank == 0 else None,
            requests=requests if rank == 0 else None,
        )

    def all_ready(self, **how: Any) -> None:
        """Make every worker pod ready."""
        for raw in self.all("Pod"):
            if raw["metadata"]["labels"].get(names.APP_COMPONENT) == names.WORKER:
                self.set_ready(raw["metadata"]["name"], **how)

    def finish_inspection(self, message: str, *, exit_code: int = 0) -> None:
        """End the inspect pods with a termination message."""
        for raw in self.all("Pod"):
            if raw["metadata"]["labels"].get(names.APP_COMPONENT) == names.INSPECT:
                ended = {"exitCode": exit_code, "message": message, "reason": "Completed"}
                raw["status"] = {
                    "phase": "Failed" if exit_code else "Succeeded",
                    "containerStatuses": [{"restartCount": 0, "state": {"terminated": ended}}],
                }
                self.touch(raw)

    def finish_inspection_if_running(self) -> None:
        """Let inspect pods find a small Llama."""
        if any(not raw.get("status") for raw in self.all("Pod")):
            self.finish_inspection(json.dumps(FACTS))

    def versions(self) -> dict[tuple[str, str, str], str]:
        """Which version of what exists."""
        return {key: raw["metadata"]["resourceVersion"] for key, raw in self.objects.items()}

    def pass_time(self, seconds: float) -> None:
        """Let the clock run."""
        self.now += timedelta(seconds=seconds)


class OperatorDied(BaseException):
    """The process ends between two writes."""


@dataclass
class Watched:
    """An operator over a world: the cache is brought up to date before every pass, as watches do."""

    world: World
    cache: Cache = field(default_factory=Cache)
    metrics: Metrics = field(default_factory=Metrics)

    def converger(self) -> Converger:
        return Converger(
            cache=self.cache,
            cluster=self.world,  # type: ignore[arg-type]  # the same calls, on dicts
            policy=Policy(worker_image="layerwise-worker:test"),
            metrics=self.metrics,
            clock=lambda: self.world.now,
        )

    def restart(self) -> None:
        """Forget everything, as a new process would have."""
        self.cache = Cache()

    def watch(self) -> None:
        """See everything as it is."""
        for kind in (DEPLOYMENT, NODE, *CHILDREN, BY_NAME["AcceleratorProfile"]):
            listing = Listing(self.cache, kind)
            listing.take(self.world.all(kind.kind), 10**9)
            listing.end()

    async def converge(self, name: str = "demo") -> float | None:
        """One pass."""
        self.watch()
        return await self.converger().converge(Key(NAMESPACE, name))

    async def poll(self, name: str = "demo") -> None:
        """Ask all ranks."""
        self.watch()
        pods = tuple(pod for pod in self.cache.pods_of(Key(NAMESPACE, name)) if pod.ip)
        await self.converger().poll(8000, pods)

    async def run(self, name: str = "demo", **spec: Any) -> None:
        """Create a deployment and bring all its pipelines up."""
        self.world.put(deployment(name, **spec))
        await self.settle(name)
        self.world.all_ready()
        await self.poll(name)
        await self.settle(name)

    async def settle(self, name: str = "demo", *, passes: int = 8) -> None:
        """Passes and controllers by turns until nothing changes any more; fails when that never happens."""
        for _ in range(passes):
            before = self.world.versions()
            await self.converge(name)
            self.world.finish_inspection_if_running()
            self.world.run_stateful_sets()
            if self.world.versions() == before:
                return
        raise AssertionError(f"still writing after {passes} passes: {self.world.writes[-6:]}")


async def until_death(operator: Watched, step: Callable[[], Awaitable[object]], writes: int) -> bool:
    """Let `writes` more writes through, then die; False when the step needs no more than these."""
    world = operator.world
    world.fail_at = len(world.writes) + writes
    try:
        await step()
    except OperatorDied:
        return True
    finally:
        world.fail_at = None
    return False
