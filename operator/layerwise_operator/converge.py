"""One pass with its side effects: observe, decide, carry out, write the status once."""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime

from layerwise.errors import InvalidInput
from layerwise.resources.status import ConditionType, DeploymentStatus, Phase
from layerwise_operator import parsing
from layerwise_operator.cache import Cache
from layerwise_operator.cluster import Cluster, dump_status
from layerwise_operator.conditions import conditions
from layerwise_operator.decision import Decision, EventNote, Verdict
from layerwise_operator.faults import CONFLICT, ApiFault
from layerwise_operator.inspection import claim_name, one_line, wants_claim
from layerwise_operator.kinds import BY_NAME, DEPLOYMENT, STATEFUL_SET
from layerwise_operator.manifests import names
from layerwise_operator.manifests.pipeline import annotation
from layerwise_operator.metrics import Metrics
from layerwise_operator.observed import Deployment, Key, Object, Observed, Pod, Rejection
from layerwise_operator.reconcile import Policy, reconcile

logger = logging.getLogger(__name__)

# What an API may answer that will not create an object under a version, as some did for Services
# (kubernetes/kubernetes#106745): then a look comes first. Any other reason for it comes again with the write.
REFUSED_CONDITIONS = frozenset({400, 404, 422, 500})

REJECTION_RETRY_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Converger:
    """What a pass needs beside the key."""

    cache: Cache
    cluster: Cluster
    policy: Policy
    metrics: Metrics
    clock: Callable[[], datetime]

    async def converge(self, key: Key) -> float | None:
        """Every trigger leads here, so none can be missed. Returns seconds until the next look, if any."""
        raw = self.cache.raw_deployment(key)
        if raw is None or raw["metadata"].get("deletionTimestamp"):
            self.cache.forget(key)
            return None
        try:
            deployment = parsing.deployment(raw)
        except InvalidInput as error:
            await self._write(raw, _unreadable(raw, error, self.clock()), ())
            return None
        observed = await self._observe(deployment)
        decision = self._decide(observed)
        try:
            await self._carry_out(key, decision)
        except ApiFault as fault:
            if not fault.is_final:
                raise
            return await self._rejected(raw, observed, fault)
        told = self._looked_again(observed, decision)
        await self._write(raw, told.status, told.events)
        return told.requeue_seconds

    async def poll(self, port: int, pods: tuple[Pod, ...]) -> bool:
        """Ask ranks for their reports; whether anything that matters to the status changed."""
        answers = await asyncio.gather(*(self.cluster.report(pod.ip, port) for pod in pods))
        changes = [self.cache.take_report(pod, answer) for pod, answer in zip(pods, answers, strict=True)]
        return any(changes)

    async def _observe(self, deployment: Deployment) -> Observed:
        observed = self.cache.observe(deployment)
        news = tuple(pod for pod in pollable(observed.pods) if self._has_news(deployment, pod))
        if news:
            await self.poll(deployment.spec.serving.port, news)
            # A ready pod that was never heard is asked twice before it counts as lost: just after a restart
            # with thousands of pods, an answer may come in time and yet be read too late.
            unheard = tuple(pod for pod in news if pod.ready and self.cache.reports.get(pod.uid) is None)
            if unheard:
                await self.poll(deployment.spec.serving.port, unheard)
        claim = None
        if wants_claim(observed):
            claim = await self.cluster.claim_exists(deployment.namespace, claim_name(deployment))
        # What was seen before waiting for an answer may be out of date by now.
        waited = bool(news) or claim is not None
        return self.cache.observe(deployment, claim_exists=claim) if waited else observed

    def _has_news(self, deployment: Deployment, pod: Pod) -> bool:
        """Whether a pod is to be asked before the pass.

        One that was never asked would look like a lost stage after a restart of the operator. One that is
        ready in a deployment that is not has more to say than at the last poll: a new epoch, perhaps.
        """
        if pod.uid not in self.cache.reports:
            return True
        return pod.ready and deployment.status.phase is not Phase.RUNNING

    def _decide(self, observed: Observed) -> Decision:
        """Decide, and promise the accelerators in the same breath: nothing can come between the two."""
        decision = reconcile(observed, self.policy, now=self.clock())
        self.cache.promise(observed.deployment.key, decision.reserved)
        return decision

    def _looked_again(self, observed: Observed, decision: Decision) -> Decision:
        """What is to be told after a decision was carried out: the cache knows our own writes already.

        So the status says at once that a pipeline exists, the one part of it that our own writes change, and
        is not written a second time for that. This is the next pass on top of the decided status, with one
        write for both; where it finds more to do, it is left to a pass of its own.
        """
        if not any(manifest["kind"] == STATEFUL_SET.kind for manifest in decision.apply):
            return decision
        decided = replace(observed.deployment, status=decision.status)
        seen = self.cache.observe(decided, claim_exists=observed.claim_exists)
        again = reconcile(seen, self.policy, now=self.clock())
        if again.apply or not set(again.delete) <= set(decision.delete):
            return decision
        return replace(again, events=(*decision.events, *again.events))

    async def _carry_out(self, key: Key, decision: Decision) -> None:
        for manifest in decision.apply:
            await self._apply(key, manifest)
        for deletion in decision.delete:
            await self.cluster.delete(key.namespace, deletion)

    async def _apply(self, key: Key, manifest: Object) -> None:
        kind, name = BY_NAME[manifest["kind"]], parsing.key_of(manifest)
        # A label can be put on anything: only an object that the deployment controls is taken for its own.
        known = self.cache.controller(kind, name) == _owner_uid(manifest)
        answer = await (self.cluster.apply(manifest) if known else self._create(manifest))
        logger.info("applied %s %s", kind.kind, name.name, extra={"key": key})
        if kind.kind == "ConfigMap" and names.PLAN_HASH in manifest["metadata"]["labels"]:
            self.metrics.plans.inc()
        self.cache.remember_write(kind, name, annotation(manifest, names.MANIFEST_HASH), answer)

    async def _create(self, manifest: Object) -> Object:
        """Write what is not known to exist; an object under that name is ours, or is left as it is."""
        try:
            return await self.cluster.apply(manifest, only_new=True)
        except ApiFault as fault:
            if fault.status != CONFLICT and fault.status not in REFUSED_CONDITIONS:
                raise
            await self._require_ours(manifest, fault)
        return await self.cluster.apply(manifest)

    async def _require_ours(self, manifest: Object, fault: ApiFault) -> None:
        """Never take over an object that someone else made under the name that we want."""
        kind, name = BY_NAME[manifest["kind"]], parsing.key_of(manifest)
        found = await self.cluster.get(kind, name)
        if found is None and fault.status == CONFLICT:
            raise fault
        if found is None:
            return
        if parsing.controller_uid(found) != _owner_uid(manifest):
            message = (
                f"{kind.kind} {name.name!r} exists and does not belong to this deployment: delete it, or "
                "give the deployment another name"
            )
            raise ApiFault(422, "NameTaken", message, f"apply {kind.kind} {name.name}")

    async def _rejected(self, raw: Object, observed: Observed, fault: ApiFault) -> float:
        """The API will not have what we want to write: say so in the status, and try again in a while."""
        logger.warning("rejected: %s", fault, extra={"key": observed.deployment.key})
        self.metrics.errors.labels(fault.reason).inc()
        rejection = Rejection(fault.what, fault.reason, one_line(fault.message))
        decision = reconcile(replace(observed, rejection=rejection), self.policy, now=self.clock())
        await self._write(raw, decision.status, decision.events)
        return REJECTION_RETRY_SECONDS

    async def _write(self, raw: Object, status: DeploymentStatus, events: tuple[EventNote, ...]) -> None:
        if dump_status(status) != (raw.get("status") or {}):
            answer = await self.cluster.write_status(raw, status)
            self.cache.put(DEPLOYMENT, answer)
        for note in events:
            logger.info("%s: %s", note.reason, note.message, extra={"key": parsing.key_of(raw)})
            await self.cluster.post_event(raw, note, self.clock())


def pollable(pods: tuple[Pod, ...]) -> tuple[Pod, ...]:
    """The worker pods that can be asked for a report."""
    return tuple(
        pod
        for pod in pods
        if pod.ip and pod.started and not pod.deleting and pod.labels.get(names.APP_COMPONENT) == names.WORKER
    )


def _owner_uid(manifest: Object) -> str:
    return str(manifest["metadata"]["ownerReferences"][0]["uid"])


def _unreadable(raw: Object, error: InvalidInput, now: datetime) -> DeploymentStatus:
    """The status of a resource whose spec is none: the schema let something through that the types do not."""
    old = parsing.deployment_status(raw)
    verdict = Verdict("False", error.reason, one_line(str(error)))
    found = {ConditionType.PLANNED: verdict, ConditionType.READY: verdict}
    generation = int(raw["metadata"].get("generation", 1))
    return old.model_copy(
        update={
            "observed_generation": generation,
            "phase": Phase.FAILED,
            "conditions": conditions(old.conditions, found, generation=generation, now=now),
        }
    )
