"""How often each pipeline began anew, and when that is too often.

Everything is computed from what the last status recorded and what is seen now, so that an operator which was
away, or dies before it writes, counts each restart once.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import zip_longest

from layerwise.resources.status import PipelineStatus
from layerwise.telemetry import RankReport
from layerwise_operator import foreign
from layerwise_operator.backoff import doubled
from layerwise_operator.decision import Verdict
from layerwise_operator.inspection import one_line, utc
from layerwise_operator.manifests import names
from layerwise_operator.observed import Deployment
from layerwise_operator.troubles import name_of
from layerwise_operator.views import Pipeline, Stage

TOO_MANY = "TooManyRestarts"
# Health that lasts so long forgives the restarts before it. As long as the kubelet's own for its back-off.
SETTLED_SECONDS = 600.0
# What someone deletes again and again is made anew after 5, 10, 20 ... seconds, as the kubelet would.
FIRST_BACKOFF_SECONDS = 5.0
LONGEST_BACKOFF_SECONDS = 300.0

_FORGIVEN = {"restarts": 0, "last_restart_time": "", "last_restart_reason": "", "healthy_since": ""}


@dataclass(frozen=True, slots=True)
class Hold:
    """A StatefulSet that is not made anew before `until`; without a time, not at all."""

    replica: int
    until: datetime | None

    def seconds_left(self, now: datetime) -> float | None:
        """Seconds until then, if that ever comes."""
        return None if self.until is None else max(0.0, (self.until - now).total_seconds())


def lives(
    pipelines: Sequence[Pipeline], deployment: Deployment, *, now: datetime
) -> tuple[tuple[PipelineStatus, ...], int]:
    """Each pipeline's row of the status, and how many restarts there were since the last status."""
    recorded = {row.replica: row for row in deployment.status.pipelines}
    rows, total = [], 0
    for pipeline in pipelines:
        before = _carried(recorded.get(pipeline.replica), pipeline, deployment, now)
        restarts, life = _life(before, pipeline)
        counted = _counted(before, restarts, pipeline, now)
        rows.append(life.model_copy(update={**counted, **_standing(pipeline)}))
        total += restarts
    return tuple(rows), total


def exhausted(rows: Sequence[PipelineStatus], deployment: Deployment) -> Verdict | None:
    """Why the operator has given up on the deployment, if it has."""
    allowed = deployment.spec.failure_policy.max_group_restarts
    row = max(rows, key=lambda one: one.restarts, default=None)
    if row is None or row.restarts <= allowed:
        return None
    return Verdict(
        "False",
        TOO_MANY,
        f"pipeline {row.replica} restarted {row.restarts} time(s) without {SETTLED_SECONDS / 60:.0f} minutes "
        f"of health in between, spec.failurePolicy.maxGroupRestarts allows {allowed}; last: "
        f"{row.last_restart_reason}. Its pods are kept. To try again, change the spec or run kubectl "
        f'annotate lwd {deployment.name} -n {deployment.namespace} {names.RESTART}="$(date +%s)" --overwrite',
    )


def seconds_to_forgive(rows: Sequence[PipelineStatus], *, now: datetime) -> float | None:
    """Seconds until the first pipeline has been healthy for long enough; None: nothing to wait for."""
    waits = [SETTLED_SECONDS - _seconds_since(row.healthy_since, now) for row in rows if row.healthy_since]
    return max(0.0, min(waits)) if waits else None


def hold(deployment: Deployment, pipeline: Pipeline, *, now: datetime) -> Hold | None:
    """Whether a StatefulSet that is missing shall stay so for now: it went missing, or failed, too often."""
    found = next((row for row in deployment.status.pipelines if row.replica == pipeline.replica), None)
    row = _carried(found, pipeline, deployment, now)
    # The loss that is seen now is counted only when the status is written.
    restarts = row.restarts + row.created
    since = utc(now) if row.created else row.last_restart_time
    if restarts > deployment.spec.failure_policy.max_group_restarts:
        return Hold(row.replica, None)
    if restarts <= 1:
        return None
    backoff = doubled(FIRST_BACKOFF_SECONDS, restarts - 2, LONGEST_BACKOFF_SECONDS)
    left = backoff - _seconds_since(since, now)
    return Hold(row.replica, now + timedelta(seconds=left)) if left > 0 else None


def soonest(holds: Sequence[Hold]) -> Hold | None:
    """The one that ends first."""
    return min(holds, key=lambda one: (one.until is None, one.until, one.replica), default=None)


def _carried(
    row: PipelineStatus | None, pipeline: Pipeline, deployment: Deployment, now: datetime
) -> PipelineStatus:
    """What of the row still holds: another revision is another pipeline, another spec a new chance."""
    if row is None or row.revision != pipeline.revision:
        return PipelineStatus(replica=pipeline.replica, revision=pipeline.revision)
    same_spec = deployment.status.observed_generation == deployment.generation
    settled = row.healthy_since and _seconds_since(row.healthy_since, now) >= SETTLED_SECONDS
    return row if same_spec and not settled else row.model_copy(update=_FORGIVEN)


def _life(row: PipelineStatus, pipeline: Pipeline) -> tuple[int, PipelineStatus]:
    """Restarts since `row` was written, and the life that is now on record.

    A report of rank 0 is exact: it counts its epochs. While there is none, the containers' restarts count,
    those of all stages in one round once; a report that comes later adds only what they did not tell.
    """
    if row.created and pipeline.is_halved:
        # Rank 0 may have outlived it: the epoch or the life that follows is the one that is counted here.
        return 1, row.model_copy(update={"attempts": row.attempts + 1})
    if row.created and not pipeline.exists:
        return 1, PipelineStatus(replica=row.replica, revision=row.revision)
    report = pipeline.report
    containers = _container_restarts(pipeline)
    if report is not None and pipeline.is_connected:
        if (row.incarnation, row.epoch) == (report.incarnation, report.epoch):
            # Perhaps the last word of a rank 0 whose containers have ended since.
            return 0, row
        life = {
            "incarnation": report.incarnation,
            "epoch": report.epoch,
            "plan_hash": _plan_hash(pipeline),
            "container_restarts": containers if any(containers) else (),
            "attempts": 0,
        }
        return max(0, _new_lives(row, report) - row.attempts), row.model_copy(update=life)
    # A pod that was replaced begins at 0 again.
    pairs = list(zip_longest(row.container_restarts, containers, fillvalue=0))
    base = tuple(min(before, now) for before, now in pairs)
    rounds = max((now - start for start, (_, now) in zip(base, pairs, strict=True)), default=0)
    if rounds < row.attempts:
        base = tuple(now - row.attempts for now in containers)
    attempts = max(rounds, row.attempts)
    life = {"container_restarts": base if any(base) else (), "attempts": attempts}
    return attempts - row.attempts, row.model_copy(update=life)


def _new_lives(row: PipelineStatus, report: RankReport) -> int:
    if not row.incarnation:
        return 0
    if row.incarnation != report.incarnation:
        return 1
    return report.epoch - row.epoch if report.epoch >= row.epoch else 1


def _counted(row: PipelineStatus, restarts: int, pipeline: Pipeline, now: datetime) -> dict[str, object]:
    """The restarts that nothing has forgiven yet."""
    total = row.restarts + restarts
    if not total:
        return dict(_FORGIVEN)
    since = "" if restarts else row.healthy_since
    return {
        "restarts": total,
        "last_restart_time": utc(now) if restarts else row.last_restart_time,
        "last_restart_reason": _reason(row, pipeline) if restarts else row.last_restart_reason,
        "healthy_since": (since or utc(now)) if pipeline.is_ready else "",
    }


def _standing(pipeline: Pipeline) -> dict[str, object]:
    return {
        "ready": pipeline.is_ready,
        "ready_stages": pipeline.ready_stages,
        "created": pipeline.exists,
    }


def _reason(row: PipelineStatus, pipeline: Pipeline) -> str:
    """The last words of a container that ended since the recorded life, or what else is known."""
    if row.created and not pipeline.exists:
        return "its StatefulSet was deleted"
    before = dict(enumerate(row.container_restarts))
    ended = [
        (stage, stage.pod.last_terminated)
        for stage in pipeline.stages
        if stage.pod and stage.pod.last_terminated and stage.pod.restarts > before.get(stage.index, 0)
    ]
    if not ended:
        return "a rank was lost or replaced, and the ranks met anew"
    stage, last = max(ended, key=lambda one: one[1].finished_at)
    said = one_line(last.message) or last.reason or "no last words"
    return f"{name_of(stage)} ended with exit status {last.exit_code}: {said}"


def _container_restarts(pipeline: Pipeline) -> tuple[int, ...]:
    return tuple(_restarts(stage) for stage in pipeline.stages)


def _restarts(stage: Stage) -> int:
    return stage.pod.restarts if stage.pod else 0


def _plan_hash(pipeline: Pipeline) -> str:
    pod = pipeline.stages[0].pod
    return pod.labels.get(names.PLAN_HASH, "") if pod else ""


def _seconds_since(moment: str, now: datetime) -> float:
    """Seconds since a recorded time; endless when it is none, so that nothing waits for it."""
    recorded = foreign.moment(moment)
    return float("inf") if recorded is None else (now - recorded).total_seconds()
