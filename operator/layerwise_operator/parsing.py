"""Objects as the API sends them, reduced to the values that decisions are made from."""

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from layerwise.errors import InvalidInput
from layerwise.hardware.catalogue import first_fault
from layerwise.resources.deployment import DeploymentSpec
from layerwise.resources.status import DeploymentStatus
from layerwise_operator import foreign, nodes
from layerwise_operator.manifests import names
from layerwise_operator.manifests.pipeline import RESOURCES
from layerwise_operator.observed import ENDED, Deployment, Key, Node, Object, Pod, Taint, Termination


def key_of(raw: Object) -> Key:
    """Namespace and name."""
    return Key(raw["metadata"].get("namespace", ""), raw["metadata"]["name"])


def deployment(raw: Object) -> Deployment:
    """A LayerwiseDeployment; raises InvalidInput naming the field when the spec is none.

    A status that cannot be read (another version wrote it) counts as none: it is computed anew in every pass.
    """
    meta = raw["metadata"]
    try:
        spec = DeploymentSpec.model_validate(raw.get("spec") or {})
    except ValidationError as error:
        fault = first_fault(error)
        raise InvalidInput(fault if fault.startswith("spec: ") else f"spec.{fault}") from None
    return Deployment(
        key=key_of(raw),
        uid=meta["uid"],
        generation=int(meta.get("generation", 1)),
        spec=spec,
        status=deployment_status(raw),
        restart=str((meta.get("annotations") or {}).get(names.RESTART, "")),
    )


def deployment_status(raw: Object) -> DeploymentStatus:
    """The last status, or an empty one."""
    try:
        return DeploymentStatus.model_validate(raw.get("status") or {})
    except ValidationError:
        return DeploymentStatus()


def pod(raw: Object) -> Pod:
    """A pod, as far as its deployment's status depends on it."""
    meta, spec, status = raw["metadata"], raw.get("spec") or {}, raw.get("status") or {}
    conditions = {condition["type"]: condition for condition in status.get("conditions") or ()}
    container: Mapping[str, Any] = next(iter(status.get("containerStatuses") or ()), {})
    state = container.get("state") or {}
    waiting = state.get("waiting") or {}
    placed = conditions.get("PodScheduled") or {}
    unschedulable = placed.get("status") == "False" and placed.get("reason") == "Unschedulable"
    return Pod(
        name=meta["name"],
        uid=meta["uid"],
        labels=meta.get("labels") or {},
        phase=status.get("phase", "Pending"),
        ip=foreign.address(status.get("podIP", "")),
        node=spec.get("nodeName", ""),
        ready=(conditions.get("Ready") or {}).get("status") == "True",
        started="running" in state,
        deleting="deletionTimestamp" in meta,
        delete_by=meta.get("deletionTimestamp", ""),
        unschedulable=placed.get("message", "no node fits") if unschedulable else "",
        waiting_reason=waiting.get("reason", ""),
        waiting_message=waiting.get("message", ""),
        restarts=int(container.get("restartCount", 0)),
        terminated=_termination(state.get("terminated")),
        last_terminated=_termination((container.get("lastState") or {}).get("terminated")),
        reason=status.get("reason", ""),
        message=status.get("message", ""),
        owner_uid=controller_uid(raw),
    )


def controller_uid(raw: Object) -> str:
    """The uid of the object that controls this one, if one does."""
    owners = raw["metadata"].get("ownerReferences") or ()
    return next((str(owner["uid"]) for owner in owners if owner.get("controller")), "")


def version_of(raw: Object) -> int:
    """The resource version as a number, which orders versions of one kind; -1 when it is none."""
    text = str(raw["metadata"].get("resourceVersion", ""))
    return int(text) if text.isdecimal() else -1


def accelerators_of(raw: Object) -> Mapping[str, int]:
    """Accelerators that a pod holds or will hold, by resource; none once it has ended."""
    return {} if has_ended(raw) else accelerators_asked(raw)


def has_ended(raw: Object) -> bool:
    """Whether a pod's containers have ended and will not run again."""
    return (raw.get("status") or {}).get("phase") in ENDED


def accelerators_asked(raw: Object) -> Mapping[str, int]:
    """Accelerators that a pod's containers ask for, by resource."""
    return nodes.accelerators_asked(raw.get("spec") or {})


def node(raw: Object) -> Node:
    """A node: labels, allocatable accelerators, and whether pods may go there."""
    spec, status = raw.get("spec") or {}, raw.get("status") or {}
    allocatable = status.get("allocatable") or {}
    ready = next((c["status"] for c in status.get("conditions") or () if c["type"] == "Ready"), "True")
    return Node(
        name=raw["metadata"]["name"],
        labels=raw["metadata"].get("labels") or {},
        accelerators={
            name: foreign.count(allocatable[name])
            for name in RESOURCES
            if foreign.count(allocatable.get(name, 0)) > 0
        },
        schedulable=ready == "True" and not spec.get("unschedulable", False),
        ready=ready == "True",
        taints=tuple(
            Taint(taint["key"], taint.get("value", ""), taint["effect"])
            for taint in spec.get("taints") or ()
            if taint.get("effect") in ("NoSchedule", "NoExecute")
        ),
    )


def slim(raw: Mapping[str, Any]) -> dict[str, Any]:
    """A child without what no decision needs: managed fields and status are the bulk of an object."""
    metadata = {key: value for key, value in raw["metadata"].items() if key != "managedFields"}
    return {key: value for key, value in raw.items() if key != "status"} | {"metadata": metadata}


def _termination(raw: Mapping[str, Any] | None) -> Termination | None:
    if not raw:
        return None
    return Termination(
        exit_code=int(raw.get("exitCode", 0)),
        reason=raw.get("reason", ""),
        message=raw.get("message", ""),
        finished_at=raw.get("finishedAt", ""),
    )
