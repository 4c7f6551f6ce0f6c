"""Nodes as pools of equal accelerators: which may be used, how many are free, why others are left out."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from layerwise.hardware.catalogue import PRODUCT_LABELS
from layerwise.resources.worker import Toleration
from layerwise_operator import foreign
from layerwise_operator.manifests.pipeline import RESOURCES, Placement
from layerwise_operator.observed import Holding, Node, Object, Reservation, Taint


@dataclass(frozen=True, slots=True)
class Room:
    """One node's accelerators: all of them, and those that no pod of others holds."""

    capacity: int
    free: int


@dataclass(frozen=True, slots=True)
class Pool:
    """Nodes with the same accelerator product. What this deployment holds counts as free: it may keep it.

    `rooms` are the nodes one by one; of what they have free, `promised` accelerators are someone's already,
    wherever these will turn out to be.
    """

    placement: Placement
    nodes: tuple[str, ...]
    capacity: int
    free: int
    rooms: tuple[Room, ...]
    promised: int

    def num_pods(self, share: int) -> int:
        """Pods of `share` accelerators that find a node at once."""
        pods = sum(room.free // share for room in self.rooms)
        return max(0, pods - -(-self.promised // share))

    def most_pods(self, share: int) -> int:
        """Pods of `share` accelerators that would, if nobody else held any."""
        return sum(room.capacity // share for room in self.rooms)


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A node with accelerators that cannot be used, and why."""

    node: str
    reason: str


@dataclass(frozen=True, slots=True)
class Survey:
    """All that the nodes offer to one deployment."""

    pools: tuple[Pool, ...]
    left_out: tuple[LeftOut, ...]

    def pool(self, identity: str) -> Pool | None:
        """The pool that a placement names, while it has nodes."""
        return next((pool for pool in self.pools if pool.placement.pool == identity), None)


def survey(
    nodes: Sequence[Node],
    holdings: Sequence[Holding],
    reservations: Sequence[Reservation],
    *,
    node_selector: Mapping[str, str],
    tolerations: Sequence[Toleration],
) -> Survey:
    """Group the usable nodes by product; two products are never merged, and nothing is guessed."""
    groups, left_out = _usable(_Same(tuple(nodes)), tuple(sorted(node_selector.items())), tuple(tolerations))
    pools = [_pool(group, holdings, reservations) for group in groups]
    return Survey(tuple(pools), left_out)


@dataclass(frozen=True, slots=True)
class _Same:
    """Nodes that are told apart by being the same tuple: comparing them would cost what it saves."""

    nodes: tuple[Node, ...]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and self.nodes is other.nodes

    def __hash__(self) -> int:
        return id(self.nodes)


@dataclass(frozen=True, slots=True)
class _Group:
    """Usable nodes with the same product, by name, each with all that it has."""

    placement: Placement
    rooms: Mapping[str, Room]


@lru_cache(maxsize=64)
def _usable(
    nodes: _Same, node_selector: tuple[tuple[str, str], ...], tolerations: tuple[Toleration, ...]
) -> tuple[tuple[_Group, ...], tuple[LeftOut, ...]]:
    """The nodes in groups, by pool, and those left out: the same for every pass until a node changes."""
    members: dict[Placement, dict[str, Room]] = {}
    left_out: list[LeftOut] = []
    for node in sorted(nodes.nodes, key=lambda node: node.name):
        if not node.accelerators:
            continue
        reason = _why_not(node, node_selector, tolerations)
        if reason:
            left_out.append(LeftOut(node.name, reason))
        else:
            placement = placement_of(node)
            capacity = node.accelerators[placement.resource]
            members.setdefault(placement, {})[node.name] = Room(capacity, capacity)
    groups = [_Group(placement, rooms) for placement, rooms in members.items()]
    return tuple(sorted(groups, key=lambda group: group.placement.pool)), tuple(left_out)


def placement_of(node: Node) -> Placement:
    """The label that names the node's product, and the resource by which pods ask for it."""
    label = next(label for label in PRODUCT_LABELS if node.labels.get(label))
    resource = next(resource for resource in RESOURCES if node.accelerators.get(resource))
    return Placement(node_label=label, product=node.labels[label], resource=resource)


def pool_of(pod_spec: Object) -> str:
    """The pool that a pod goes to, read back from its node selector; nothing when it names none."""
    selector = pod_spec.get("nodeSelector") or {}
    return next((f"{label}={selector[label]}" for label in PRODUCT_LABELS if label in selector), "")


def demand_of(stateful_sets: Iterable[Object]) -> Counter[str]:
    """Accelerators that StatefulSets ask for, by pool."""
    demand: Counter[str] = Counter()
    for child in stateful_sets:
        pod_spec = child["spec"]["template"]["spec"]
        in_a_pod = sum(accelerators_asked(pod_spec).values())
        demand[pool_of(pod_spec)] += int(child["spec"].get("replicas", 0)) * in_a_pod
    return demand


def accelerators_asked(pod_spec: Object) -> Mapping[str, int]:
    """Accelerators that a pod's containers ask for, by resource."""
    held: dict[str, int] = {}
    for container in pod_spec.get("containers") or ():
        resources = container.get("resources") or {}
        amounts = {**(resources.get("limits") or {}), **(resources.get("requests") or {})}
        for resource in RESOURCES:
            if resource in amounts:
                held[resource] = held.get(resource, 0) + foreign.count(amounts[resource])
    return held


def _pool(group: _Group, holdings: Sequence[Holding], reservations: Sequence[Reservation]) -> Pool:
    placement, rooms = group.placement, dict(group.rooms)
    held: Counter[str] = Counter()
    for holding in holdings:
        if holding.node in rooms and holding.resource == placement.resource:
            held[holding.node] += holding.count
    for name, count in held.items():
        capacity = rooms[name].capacity
        rooms[name] = Room(capacity, max(0, capacity - count))
    promised = sum(r.count for r in reservations if r.placement == placement.pool)
    capacity = sum(room.capacity for room in rooms.values())
    return Pool(
        placement,
        tuple(rooms),
        capacity,
        max(0, capacity - held.total() - promised),
        tuple(rooms.values()),
        promised,
    )


def _why_not(node: Node, node_selector: Sequence[tuple[str, str]], tolerations: Sequence[Toleration]) -> str:
    """Why this node's accelerators cannot be used; empty when they can."""
    for key, value in node_selector:
        if node.labels.get(key) != value:
            found = node.labels.get(key, "missing")
            return f"label {key} is {found!r}, spec.accelerators.nodeSelector wants {value!r}"
    if not node.schedulable:
        return "the node is cordoned or not ready"
    taint = next((taint for taint in node.taints if not _tolerated(taint, tolerations)), None)
    if taint:
        return f"taint {taint.key}={taint.value}:{taint.effect} is not tolerated by spec.worker.tolerations"
    if not any(node.labels.get(label) for label in PRODUCT_LABELS):
        return f"no label names its accelerator product ({', '.join(PRODUCT_LABELS)})"
    return _divided(node.labels)


def _divided(labels: Mapping[str, str]) -> str:
    """Why the node's devices are no whole accelerators; empty when they are."""
    product = labels.get("nvidia.com/gpu.product", "")
    if labels.get("nvidia.com/mig.strategy", "none") not in ("", "none") and "MIG" in product:
        return "MIG devices are slices of an accelerator, whose cache and bandwidth no profile describes"
    if labels.get("nvidia.com/mig.strategy") == "mixed":
        return "MIG with the mixed strategy: its whole accelerators cannot be told from slices"
    if product.endswith("-SHARED") or labels.get("nvidia.com/gpu.sharing-strategy", "none") not in (
        "",
        "none",
    ):
        return "its accelerators are shared between pods (time slicing or MPS)"
    return ""


def _tolerated(taint: Taint, tolerations: Sequence[Toleration]) -> bool:
    if taint.key in RESOURCES and taint.effect == "NoSchedule":
        return True  # manifests.pods adds this toleration to every pod
    return any(_matches(toleration, taint) for toleration in tolerations)


def _matches(toleration: Toleration, taint: Taint) -> bool:
    if toleration.effect and toleration.effect != taint.effect:
        return False
    if toleration.key is None:
        return toleration.operator == "Exists"
    if toleration.key != taint.key:
        return False
    return toleration.operator == "Exists" or (toleration.value or "") == taint.value
