"""The cluster as last seen: fed by watch events, by our own writes and by whole lists, read by every pass.

Events may come late, twice or out of order, and some never come: an object is replaced only by a newer one,
and a list replaces all that it should have held. Nothing here waits for anything.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from layerwise.telemetry import RankReport
from layerwise_operator import parsing
from layerwise_operator.accounts import Accounts, Holder
from layerwise_operator.kinds import CHILDREN, DEPLOYMENT, NODE, POD, PROFILE, STATEFUL_SET, Kind
from layerwise_operator.manifests import names
from layerwise_operator.nodes import demand_of, pool_of
from layerwise_operator.observed import Deployment, Key, Node, Object, Observed, Pod

# Polls in a row that a rank may leave unanswered before what it said last no longer counts.
SILENCES = 2
_OBJECT_KINDS = tuple(kind for kind in CHILDREN if kind is not POD)


@dataclass(slots=True)
class Seen:
    """One object of the cluster: which version of it, whose child it is, and what was kept of it."""

    uid: str
    version: int
    owner: Key | None
    value: Any


@dataclass(slots=True)
class Cache:
    """All objects by kind and key, and what was promised to deployments."""

    objects: dict[str, dict[Key, Seen]] = field(default_factory=dict)
    by_owner: dict[Key, set[tuple[str, Key]]] = field(default_factory=dict)
    reports: dict[str, RankReport | None] = field(default_factory=dict)
    silent: dict[str, int] = field(default_factory=dict)
    promised: dict[Key, Counter[str]] = field(default_factory=dict)
    written: dict[tuple[str, Key], tuple[str, str]] = field(default_factory=dict)
    roster: tuple[Node, ...] | None = None
    accounts: Accounts = field(default_factory=Accounts)

    def put(self, kind: Kind, raw: Object) -> bool:
        """Take in an object; False when it is known, older, or different only in what nobody reads."""
        key, meta = parsing.key_of(raw), raw["metadata"]
        table = self.objects.setdefault(kind.kind, {})
        known, version = table.get(key), parsing.version_of(raw)
        if known and known.uid == meta["uid"] and known.version >= version >= 0:
            return False
        value = _value(kind, raw)
        if value is None:
            return self.drop(kind, raw)
        owner = owner_of(raw) if kind in CHILDREN else None
        self._unlink(kind, key)
        table[key] = Seen(meta["uid"], version, owner, value)
        if owner:
            self.by_owner.setdefault(owner, set()).add((kind.kind, key))
        if kind is POD:
            self.accounts.hold(value[1])
        if kind in (POD, STATEFUL_SET):
            self._account(owner)
        changed = known is None or (known.uid, known.value) != (meta["uid"], value)
        if kind is NODE and changed:
            self.roster = None
        return changed

    def drop(self, kind: Kind, raw: Object) -> bool:
        """Forget an object that is gone, unless a namesake took its place meanwhile."""
        key = parsing.key_of(raw)
        known = self.objects.get(kind.kind, {}).get(key)
        if known is None or known.uid != raw["metadata"]["uid"]:
            return False
        self._unlink(kind, key)
        del self.objects[kind.kind][key]
        self.written.pop((kind.kind, key), None)
        if kind is NODE:
            self.roster = None
        if kind is POD:
            self.reports.pop(known.uid, None)
            self.silent.pop(known.uid, None)
        if kind in (POD, STATEFUL_SET):
            self._account(known.owner)
        return True

    def keep(self, kind: Kind, present: Collection[Key], version: int, namespace: str = "") -> set[Key]:
        """Forget what a list of that version should have held; returns the keys of that."""
        gone = set()
        for key, known in list(self.objects.get(kind.kind, {}).items()):
            mine = not namespace or key.namespace == namespace
            if mine and key not in present and known.version <= version:
                self.drop(
                    kind, {"metadata": {"namespace": key.namespace, "name": key.name, "uid": known.uid}}
                )
                gone.add(key)
        return gone

    def owner(self, kind: Kind, key: Key) -> Key | None:
        """The deployment that an object belongs to, as far as it is known."""
        known = self.objects.get(kind.kind, {}).get(key)
        return known.owner if known else None

    def controller(self, kind: Kind, key: Key) -> str:
        """The uid of what controls an object of ours, as far as it is known."""
        known = self.objects.get(kind.kind, {}).get(key)
        if known is None or known.owner is None:
            return ""
        return str(known.value[0].owner_uid if kind is POD else parsing.controller_uid(known.value))

    def deployments(self) -> tuple[Key, ...]:
        """All deployments there are."""
        return tuple(self.objects.get(DEPLOYMENT.kind, {}))

    def raw_deployment(self, key: Key) -> Object | None:
        """A LayerwiseDeployment as the API sent it."""
        known = self.objects.get(DEPLOYMENT.kind, {}).get(key)
        return known.value if known else None

    def pods_of(self, key: Key) -> tuple[Pod, ...]:
        """The pods of a deployment, by name."""
        found = [value for kind, value in self._children(key) if kind == POD.kind]
        return tuple(sorted(found, key=lambda pod: pod.name))

    def take_report(self, pod: Pod, report: RankReport | None) -> bool:
        """Keep a rank's answer; whether it changed anything.

        One answer may fail to come before the rank's last word is void.
        """
        known = self.reports.get(pod.uid)
        if report is None:
            self.silent[pod.uid] = self.silent.get(pod.uid, 0) + 1
            if known is not None and self.silent[pod.uid] < SILENCES:
                return False
        else:
            self.silent.pop(pod.uid, None)
        changed = pod.uid not in self.reports or known != report
        self.reports[pod.uid] = report
        return changed

    def remember_write(self, kind: Kind, key: Key, manifest_hash: str, answer: Object) -> None:
        """Keep what the server made of a write of ours, to tell its own changes from drift."""
        self.put(kind, answer)
        self.written[kind.kind, key] = (manifest_hash, _fingerprint(answer))

    def promise(self, key: Key, counts: Mapping[str, int]) -> None:
        """Promise accelerators by pool, before the pods exist; nothing promised: the promise ends."""
        wanted = +Counter(counts)
        if wanted:
            self.promised[key] = wanted
        else:
            self.promised.pop(key, None)
        self._account(key)

    def forget(self, key: Key) -> None:
        """End all that is remembered about a deployment that is gone."""
        self.promise(key, {})

    def observe(self, deployment: Deployment, *, claim_exists: bool | None = None) -> Observed:
        """Everything that a pass over one deployment looks at."""
        key = deployment.key
        # Anyone can put a label on anything, and a deleted namesake's objects may still be on their way out.
        children = [
            value
            for kind, value in self._children(key)
            if kind != POD.kind and parsing.controller_uid(value) == deployment.uid
        ]
        owners = {deployment.uid, *(child["metadata"]["uid"] for child in children)}
        pods = tuple(pod for pod in self.pods_of(key) if pod.owner_uid in owners)
        return Observed(
            deployment=deployment,
            children=tuple(sorted(children, key=lambda child: (child["kind"], child["metadata"]["name"]))),
            pods=pods,
            nodes=self.nodes(),
            holdings=self.accounts.holdings(self._holders(key)),
            reservations=self.accounts.reservations(key),
            profiles=tuple(seen.value for seen in self.objects.get(PROFILE.kind, {}).values()),
            reports={pod.uid: report for pod in pods if (report := self.reports.get(pod.uid))},
            claim_exists=claim_exists,
            settled=self._settled(children),
        )

    def nodes(self) -> tuple[Node, ...]:
        """All nodes: the same tuple until one of them changes."""
        if self.roster is None:
            self.roster = tuple(seen.value for seen in self.objects.get(NODE.kind, {}).values())
        return self.roster

    def _children(self, key: Key) -> list[tuple[str, Any]]:
        found = []
        for kind, child in self.by_owner.get(key, ()):
            seen = self.objects[kind][child]
            found.append((kind, seen.value[0] if kind == POD.kind else seen.value))
        return found

    def _settled(self, children: Iterable[Object]) -> frozenset[tuple[str, str]]:
        """Children that are exactly what the server answered to our last write of their manifest."""
        result = set()
        for child in children:
            last = self.written.get((child["kind"], parsing.key_of(child)))
            mark = (child["metadata"].get("annotations") or {}).get(names.MANIFEST_HASH, "")
            if last == (mark, _fingerprint(child)):
                result.add((child["kind"], child["metadata"]["name"]))
        return frozenset(result)

    def _account(self, owner: Key | None) -> None:
        """Count anew what a deployment will take and does not hold yet, after something of it changed."""
        if owner is None:
            return
        demand = Counter(self._demand(owner))
        for holder in self._holders(owner):
            demand[holder.pool] -= holder.count
        self.accounts.promise(owner, demand)

    def _demand(self, key: Key) -> Counter[str]:
        """What a deployment was promised, or after a restart of ours: what its StatefulSets ask for."""
        if key in self.promised:
            return self.promised[key]
        # One that only carries our labels must not keep accelerators from others.
        uid = ((self.raw_deployment(key) or {}).get("metadata") or {}).get("uid")
        return demand_of(
            value
            for kind, value in self._children(key)
            if kind == STATEFUL_SET.kind and parsing.controller_uid(value) == uid
        )

    def _holders(self, key: Key) -> list[Holder]:
        pods = [child for kind, child in self.by_owner.get(key, ()) if kind == POD.kind]
        return [self.objects[POD.kind][pod].value[1] for pod in pods]

    def _unlink(self, kind: Kind, key: Key) -> None:
        known = self.objects.get(kind.kind, {}).get(key)
        if known and kind is POD:
            self.accounts.release(known.value[1])
        if known and known.owner:
            siblings = self.by_owner.get(known.owner, set())
            siblings.discard((kind.kind, key))
            if not siblings:
                self.by_owner.pop(known.owner, None)


def owner_of(raw: Object) -> Key | None:
    """The deployment that an object is labelled to belong to, if it is one of ours at all."""
    labels = raw["metadata"].get("labels") or {}
    if labels.get(names.APP_MANAGED_BY) != names.MANAGER or names.DEPLOYMENT not in labels:
        return None
    return Key(raw["metadata"].get("namespace", ""), labels[names.DEPLOYMENT])


def _value(kind: Kind, raw: Object) -> Any:
    """What is kept of an object; None for one that no decision depends on."""
    if kind is NODE:
        return parsing.node(raw)
    if kind is POD:
        held = parsing.accelerators_of(raw)
        ours = owner_of(raw)
        if not ours and not held:
            return None
        spec = raw.get("spec") or {}
        holder = Holder(spec.get("nodeName", ""), held, pool_of(spec) if ours else "")
        return (parsing.pod(raw) if ours else None, holder)
    if kind in _OBJECT_KINDS:
        return parsing.slim(raw) if owner_of(raw) else None
    return {**raw, "metadata": {k: v for k, v in raw["metadata"].items() if k != "managedFields"}}


def _fingerprint(raw: Object) -> str:
    """Changes with the spec, and not with a status where the server tells these apart."""
    meta = raw["metadata"]
    return f"{meta['uid']}/{meta.get('generation') or meta.get('resourceVersion', '')}"
