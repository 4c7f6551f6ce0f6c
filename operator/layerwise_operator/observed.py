"""What one pass looks at: the deployment, its children, its pods and the accelerators, as plain values."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from layerwise.resources.deployment import DeploymentSpec
from layerwise.resources.status import DeploymentStatus
from layerwise.telemetry import RankReport

Object = Mapping[str, Any]

# Phases of a pod whose containers will not run again.
ENDED = ("Succeeded", "Failed")


@dataclass(frozen=True, slots=True, order=True)
class Key:
    """Which deployment."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True)
class Deployment:
    """A LayerwiseDeployment, parsed. Another `restart` mark means whole new groups of pods."""

    key: Key
    uid: str
    generation: int
    spec: DeploymentSpec
    status: DeploymentStatus = field(default_factory=DeploymentStatus)
    restart: str = ""

    @property
    def name(self) -> str:
        """The name that all children start with."""
        return self.key.name

    @property
    def namespace(self) -> str:
        """The namespace of the deployment and of all its children."""
        return self.key.namespace


@dataclass(frozen=True, slots=True)
class Termination:
    """How a container ended, and what it left as its termination message."""

    exit_code: int
    reason: str
    message: str
    finished_at: str


@dataclass(frozen=True, slots=True)
class Pod:
    """One pod of the deployment, reduced to what decisions need.

    A pod that is `deleting` should be gone at `delete_by`, when its grace period ends.
    """

    name: str
    uid: str
    labels: Mapping[str, str]
    phase: str = "Pending"
    ip: str = ""
    node: str = ""
    ready: bool = False
    started: bool = False
    deleting: bool = False
    delete_by: str = ""
    unschedulable: str = ""
    waiting_reason: str = ""
    waiting_message: str = ""
    restarts: int = 0
    terminated: Termination | None = None
    last_terminated: Termination | None = None
    reason: str = ""
    message: str = ""
    owner_uid: str = ""


@dataclass(frozen=True, slots=True)
class Taint:
    """A taint that keeps pods away (effect NoSchedule or NoExecute)."""

    key: str
    value: str
    effect: str


@dataclass(frozen=True, slots=True)
class Node:
    """One node: its labels and what it can give."""

    name: str
    labels: Mapping[str, str]
    accelerators: Mapping[str, int]
    schedulable: bool = True
    ready: bool = True
    taints: tuple[Taint, ...] = ()


@dataclass(frozen=True, slots=True)
class Holding:
    """Accelerators that a pod which is none of this deployment holds on a node."""

    node: str
    resource: str
    count: int


@dataclass(frozen=True, slots=True)
class Reservation:
    """Accelerators promised to another deployment and not yet held by its pods."""

    placement: str
    count: int


@dataclass(frozen=True, slots=True)
class Rejection:
    """The API's last word on a write of ours that retrying as it is cannot change."""

    what: str
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Observed:
    """One deployment with everything that its next step depends on."""

    deployment: Deployment
    children: tuple[Object, ...] = ()
    pods: tuple[Pod, ...] = ()
    nodes: tuple[Node, ...] = ()
    holdings: tuple[Holding, ...] = ()
    reservations: tuple[Reservation, ...] = ()
    profiles: tuple[Object, ...] = ()
    reports: Mapping[str, RankReport] = field(default_factory=dict)
    claim_exists: bool | None = None
    rejection: Rejection | None = None
    # (kind, name) of the children that are exactly what the server made of our last write: if that differs
    # from what we wrote, an admission webhook wants it so, and writing again would only start a quarrel.
    settled: frozenset[tuple[str, str]] = frozenset()

    def child(self, kind: str, name: str) -> Object | None:
        """The child of this kind and name, if it exists."""
        for child in self.children:
            if child["kind"] == kind and child["metadata"]["name"] == name:
                return child
        return None

    def of_kind(self, kind: str) -> tuple[Object, ...]:
        """All children of a kind."""
        return tuple(child for child in self.children if child["kind"] == kind)
