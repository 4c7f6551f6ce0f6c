"""What the model is: read once by a short-lived pod that mounts the claim, then kept in a ConfigMap.

A synthetic model is what the spec says that it is: there is nothing to read.

The operator can neither mount a volume nor read logs, so facts come as the pod's termination message. A
failure is kept as well, with its time: the next attempt comes when `RETRY_SECONDS` have passed, without a pod
left lying in between.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any

from layerwise.models.architecture import Architecture
from layerwise.models.blocks import blocks_of, total_weights
from layerwise_operator import foreign
from layerwise_operator.decision import Deletion, Step, Verdict
from layerwise_operator.kinds import POD
from layerwise_operator.lines import on_one_line
from layerwise_operator.manifests import config_maps, inspect, names
from layerwise_operator.manifests.pipeline import sealed
from layerwise_operator.observed import ENDED, Deployment, Object, Observed, Pod

RETRY_SECONDS = 60.0
CLAIM_RETRY_SECONDS = 10.0
MAX_MESSAGE_LENGTH = 1024
EXIT_WRONG_MODEL = 64
_LARGEST_SIZE = 1 << 63
_LONGEST_WORD = 64
_WAITING_IS_NORMAL = ("", "ContainerCreating", "PodInitializing")


@dataclass(frozen=True, slots=True)
class Facts:
    """A model as its files describe it. `weight_bytes` as stored, before conversion to the served format."""

    architecture: Architecture
    weight_bytes: int
    dtype: str

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Facts":
        """Facts from model.json; raises KeyError, TypeError or ValueError on anything else."""
        weight_bytes, dtype = data["weightBytes"], data["dtype"]
        if type(weight_bytes) is not int or not 0 <= weight_bytes < _LARGEST_SIZE:
            raise ValueError("weightBytes is no size")
        if not isinstance(dtype, str) or len(dtype) > _LONGEST_WORD:
            raise ValueError("dtype is no word")
        return cls(Architecture.from_json(data["architecture"]), weight_bytes, dtype)


@dataclass(frozen=True, slots=True)
class Inspection:
    """Where the inspection stands: facts, or why there are none (yet); and what it takes to go on."""

    facts: Facts | None
    verdict: Verdict | None
    step: Step = field(default_factory=Step)
    kept: tuple[str, ...] = ()


def source_hash(deployment: Deployment) -> str:
    """Identifies the model's source: a change of it means another inspection."""
    volume = deployment.spec.model.volume
    return names.digest(volume.model_dump(mode="json", by_alias=True) if volume else "")


def claim_name(deployment: Deployment) -> str:
    """The claim that holds the model; empty for a model without files."""
    volume = deployment.spec.model.volume
    return volume.claim_name if volume else ""


def wants_claim(observed: Observed) -> bool:
    """Whether the pass has to know if the claim exists: only until facts, or a pod that mounts it, do."""
    if observed.deployment.spec.model.volume is None or _stored_facts(observed) is not None:
        return False
    name = names.inspect_pod(observed.deployment.name, source_hash(observed.deployment))
    return not any(pod.name == name and (pod.node or pod.phase in ENDED) for pod in observed.pods)


def inspection(observed: Observed, *, image: str, now: datetime) -> Inspection:
    """Facts if they are known, else the next step towards them."""
    given = _synthetic_facts(observed.deployment)
    if given:
        return Inspection(given, None, Step(delete=_pods(observed, except_name="")))
    source = source_hash(observed.deployment)
    stored = _stored_facts(observed)
    if stored:
        kept = (names.model_config_map(observed.deployment.name, source),)
        return Inspection(stored, None, Step(delete=_pods(observed, except_name="")), kept)
    failed = observed.child("ConfigMap", names.inspect_pod(observed.deployment.name, source))
    pod = next(
        (p for p in observed.pods if p.name == names.inspect_pod(observed.deployment.name, source)), None
    )
    if pod and pod.phase in ENDED and not pod.deleting:
        return _finished(observed, pod, source, now)
    start = _started(observed, source, image, pod)
    attempt = _attempt(failed) if failed else None
    if attempt:
        return _failed_before(observed, attempt, source, now, start)
    if observed.claim_exists is False:
        return Inspection(None, _no_claim(observed.deployment), Step(requeue_seconds=CLAIM_RETRY_SECONDS))
    return start


def _started(observed: Observed, source: str, image: str, pod: Pod | None) -> Inspection:
    manifest = sealed(inspect.inspect_pod(observed.deployment, source, image))
    step = Step(
        apply=() if pod else (manifest,),
        delete=_pods(observed, except_name=manifest["metadata"]["name"]),
    )
    return Inspection(None, _waiting(observed.deployment, pod), step)


def _synthetic_facts(deployment: Deployment) -> Facts | None:
    model = deployment.spec.model
    if model.synthetic is None:
        return None
    architecture = model.synthetic.to_architecture()
    num_bytes = total_weights(blocks_of(architecture)) * model.dtype.num_bytes
    return Facts(architecture, num_bytes, model.dtype.value)


def _waiting(deployment: Deployment, pod: Pod | None) -> Verdict:
    claim = claim_name(deployment)
    if pod and pod.unschedulable:
        return Verdict(
            "False",
            "InspectPodUnschedulable",
            f"the pod that reads the model: {one_line(pod.unschedulable)}",
        )
    if pod and pod.waiting_reason not in _WAITING_IS_NORMAL:
        said = one_line(pod.waiting_message) or "see kubectl describe pod"
        return Verdict("False", pod.waiting_reason, f"the pod that reads the model ({pod.name}): {said}")
    return Verdict("Unknown", "InspectingModel", f"reading the model's configuration from claim {claim}")


def _no_claim(deployment: Deployment) -> Verdict:
    claim = claim_name(deployment)
    return Verdict(
        "False",
        "ClaimNotFound",
        f"there is no PersistentVolumeClaim {claim!r} in namespace {deployment.namespace!r}: create it, or "
        "name another in spec.model.volume.claimName",
    )


def _finished(observed: Observed, pod: Pod, source: str, now: datetime) -> Inspection:
    """The pod has ended: keep what it said, then let it go."""
    deployment = observed.deployment
    gone = Deletion(POD, pod.name, pod.uid, grace_seconds=0)
    message = pod.terminated.message if pod.terminated else ""
    if pod.phase == "Succeeded":
        facts = _parse_facts(message)
        if facts:
            manifest = sealed(config_maps.model(deployment, source, json.loads(message)))
            return Inspection(facts, None, Step((manifest,), (gone,)), (manifest["metadata"]["name"],))
    verdict = _failure(pod, message)
    manifest = sealed(config_maps.failure(deployment, source, verdict.reason, verdict.message, now))
    return Inspection(
        None,
        verdict,
        Step((manifest,), (gone,), requeue_seconds=RETRY_SECONDS),
        (manifest["metadata"]["name"],),
    )


def _failure(pod: Pod, message: str) -> Verdict:
    rejection = parse_rejection(message)
    if rejection:
        return rejection
    if pod.terminated is None:
        said = pod.message or pod.reason or "the pod was stopped"
        return Verdict(
            "False", "InspectionFailed", f"the pod that reads the model did not run: {one_line(said)}"
        )
    said = one_line(message) or pod.terminated.reason or "no message"
    return Verdict(
        "False",
        "InspectionFailed",
        f"the pod that reads the model ended with {pod.terminated.exit_code}: {said}",
    )


def _failed_before(
    observed: Observed, attempt: tuple[Verdict, datetime], source: str, now: datetime, start: Inspection
) -> Inspection:
    """Keep saying what was wrong, and `start` again when it is time: volumes get mended."""
    kept = (names.inspect_pod(observed.deployment.name, source),)
    verdict, finished = attempt
    wait = min(RETRY_SECONDS, (finished + timedelta(seconds=RETRY_SECONDS) - now).total_seconds())
    if wait > 0:
        return Inspection(None, verdict, Step(requeue_seconds=wait), kept)
    if observed.claim_exists is False:
        wait = CLAIM_RETRY_SECONDS
        return Inspection(None, _no_claim(observed.deployment), Step(requeue_seconds=wait), kept)
    return Inspection(None, verdict, start.step, kept)


def _attempt(failed: Object) -> tuple[Verdict, datetime] | None:
    """What went wrong and when, as we wrote it; None if somebody else has written there."""
    data = failed.get("data") or {}
    finished = foreign.moment(data.get("finishedAt", ""))
    if finished is None or not foreign.is_reason(data.get("reason", "")):
        return None
    return Verdict("False", data["reason"], one_line(data.get("message", ""))), finished


def _stored_facts(observed: Observed) -> Facts | None:
    name = names.model_config_map(observed.deployment.name, source_hash(observed.deployment))
    child = observed.child("ConfigMap", name)
    return _parse_facts((child.get("data") or {}).get(config_maps.MODEL_KEY, "")) if child else None


@lru_cache(maxsize=2048)
def _parse_facts(text: str) -> Facts | None:
    """Facts from model.json; every pass asks, and the answer depends on the text alone."""
    try:
        return Facts.from_json(foreign.json_object(text))
    except (KeyError, TypeError, ValueError):
        return None


def parse_rejection(message: str) -> Verdict | None:
    """What a worker that exits with 64 says is wrong, if its message is the JSON object of the ADR."""
    try:
        data = foreign.json_object(message)
        reason, said = str(data["reason"]), one_line(str(data["message"]))
    except (KeyError, TypeError, ValueError):
        return None
    return Verdict("False", reason, said) if foreign.is_reason(reason) else None


def one_line(text: str) -> str:
    """Text from elsewhere as one bounded line of what UTF-8 can hold and a terminal can show."""
    return on_one_line(text)[:MAX_MESSAGE_LENGTH]


def utc(moment: datetime) -> str:
    """A moment as Kubernetes writes it."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _pods(observed: Observed, *, except_name: str) -> tuple[Deletion, ...]:
    """Inspect pods that are not (or no longer) needed."""
    return tuple(
        Deletion(POD, pod.name, pod.uid, grace_seconds=0)
        for pod in observed.pods
        if pod.labels.get(names.APP_COMPONENT) == names.INSPECT
        and pod.name != except_name
        and not pod.deleting
    )
