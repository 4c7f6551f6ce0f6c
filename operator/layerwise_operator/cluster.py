"""Every call that the operator makes: to the Kubernetes API, always by server-side apply, and to `/stats`."""

import json
import urllib.request
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

import aiohttp
from kubernetes.aio import client, config
from pydantic import ValidationError
from pydantic_core import from_json, to_json

from layerwise.resources.status import DeploymentStatus
from layerwise.telemetry import RankReport
from layerwise_operator.decision import Deletion, EventNote
from layerwise_operator.faults import ERRORS_FROM, NOT_FOUND, ApiFault, Unreachable, retry_after
from layerwise_operator.inspection import utc
from layerwise_operator.kinds import BY_NAME, CLAIM, DEPLOYMENT, EVENT, Kind
from layerwise_operator.manifests import names
from layerwise_operator.metrics import Metrics
from layerwise_operator.observed import Key, Object

REQUEST_TIMEOUT = aiohttp.ClientTimeout(total=30)
# One object is read in milliseconds: a pass that waits longer for it had better be tried again.
READ_TIMEOUT = aiohttp.ClientTimeout(total=10)
STATS_TIMEOUT = aiohttp.ClientTimeout(total=2)
MAX_STATS_BYTES = 256 * 1024
PAGE_SIZE = 500
# A version that no object has: a write under this condition succeeds only where there is no object yet.
NO_VERSION = "1"


class Cluster:
    """One connection to the API server, and one to the workers."""

    def __init__(self, api: client.ApiClient, workers: aiohttp.ClientSession, metrics: Metrics) -> None:
        self._api = api
        self._workers = workers
        self._metrics = metrics

    @classmethod
    async def connect(cls, kubeconfig: str, metrics: Metrics) -> "Cluster":
        """Credentials from KUBECONFIG when it is set, else those of the pod's service account."""
        configuration = client.Configuration()
        if kubeconfig:
            await config.load_kube_config(config_file=kubeconfig, client_configuration=configuration)  # type: ignore[no-untyped-call]  # untyped client
        else:
            config.load_incluster_config(client_configuration=configuration)  # type: ignore[no-untyped-call]  # untyped client
        # The environment is asked for a proxy here, and not by two trips to a thread in every call.
        configuration.proxy = configuration.proxy or _proxy_for(configuration.host)
        configuration.client_session_kwargs = {"trust_env": False}
        api = client.ApiClient(configuration)
        api.user_agent = names.MANAGER
        workers = worker_session()
        return cls(api, workers, metrics)

    async def close(self) -> None:
        """Close both connections."""
        await self._workers.close()
        await self._api.close()  # type: ignore[no-untyped-call]  # untyped client

    async def serves(self, kind: Kind) -> bool:
        """Whether the API has this resource yet: CRDs may be installed after the operator."""
        root = kind.path().rpartition("/")[0]
        found = await self._optional("get", kind, root)
        resources = found.get("resources", ()) if found else ()
        return any(resource["name"] == kind.plural for resource in resources)

    async def pages(
        self, kind: Kind, *, namespace: str = "", selector: str = ""
    ) -> AsyncIterator[tuple[list[Object], int]]:
        """All objects of a kind, page by page, each with the version of the list.

        Raises ApiFault with status `GONE` when the snapshot that the pages come from expires between them.
        """
        # Items of a list do not repeat what they are.
        what = {"apiVersion": kind.api_version, "kind": kind.kind}
        token: str | None = ""
        while token is not None:
            query = [("limit", str(PAGE_SIZE))]
            if selector:
                query.append(("labelSelector", selector))
            if token:
                query.append(("continue", token))
            page = await self._call("list", kind, kind.path(namespace), query=query)
            meta = page.get("metadata") or {}
            token = meta.get("continue") or None
            items: list[Object] = [{**what, **item} for item in page.get("items") or ()]
            yield items, int(meta.get("resourceVersion") or 0)

    async def claim_exists(self, namespace: str, name: str) -> bool:
        """Whether there is such a PersistentVolumeClaim."""
        return await self._optional("get", CLAIM, CLAIM.path(namespace, name)) is not None

    async def get(self, kind: Kind, key: Key) -> Object | None:
        """One object, or None."""
        return await self._optional("get", kind, kind.path(key.namespace, key.name))

    async def apply(self, manifest: Object, *, only_new: bool = False) -> Object:
        """Server-side apply of one of our own objects; fields that others took over are taken back.

        With `only_new`, an object that exists already is left as it is, and the answer is a conflict (409):
        unlike a look beforehand, that leaves no moment in which somebody else may take the name.
        """
        kind, meta = BY_NAME[manifest["kind"]], manifest["metadata"]
        path = kind.path(meta["namespace"], meta["name"])
        if only_new:
            manifest = {**manifest, "metadata": {**meta, "resourceVersion": NO_VERSION}}
        return await self._apply(kind, path, manifest)

    async def write_status(self, deployment: Object, status: DeploymentStatus) -> Object:
        """The whole status in one write; the uid keeps it from a namesake made meanwhile."""
        meta = deployment["metadata"]
        body = {
            "apiVersion": DEPLOYMENT.api_version,
            "kind": DEPLOYMENT.kind,
            "metadata": {"name": meta["name"], "namespace": meta["namespace"], "uid": meta["uid"]},
            "status": dump_status(status),
        }
        path = DEPLOYMENT.path(meta["namespace"], meta["name"], "status")
        return await self._apply(DEPLOYMENT, path, body)

    async def delete(self, namespace: str, deletion: Deletion) -> None:
        """Delete an object if it still is the one that was meant; its dependents go with it."""
        options: dict[str, Any] = {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "propagationPolicy": "Background",
            "preconditions": {"uid": deletion.uid},
        }
        if deletion.grace_seconds is not None:
            options["gracePeriodSeconds"] = deletion.grace_seconds
        path = deletion.kind.path(namespace, deletion.name)
        await self._optional("delete", deletion.kind, path, body=options)

    async def post_event(self, deployment: Object, note: EventNote, now: datetime) -> None:
        """One event about a deployment."""
        meta = deployment["metadata"]
        body = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {
                "generateName": f"{meta['name']}.",
                "namespace": meta["namespace"],
            },
            "involvedObject": {
                "apiVersion": DEPLOYMENT.api_version,
                "kind": DEPLOYMENT.kind,
                "name": meta["name"],
                "namespace": meta["namespace"],
                "uid": meta["uid"],
            },
            "type": note.type,
            "reason": note.reason,
            "message": note.message,
            "source": {"component": names.MANAGER},
            "reportingComponent": names.MANAGER,
            "firstTimestamp": utc(now),
            "lastTimestamp": utc(now),
            "count": 1,
        }
        await self._call("create", EVENT, EVENT.path(meta["namespace"]), method="POST", body=body)

    async def report(self, address: str, port: int) -> RankReport | None:
        """What a rank says about itself; None when it does not answer in time, or not with a report."""
        host = f"[{address}]" if ":" in address else address
        with suppress(aiohttp.ClientError, TimeoutError, OSError, ValidationError, ValueError):
            # Without following redirects: the operator asks exactly the pods that the API names.
            async with self._workers.get(f"http://{host}:{port}/stats", allow_redirects=False) as response:
                if response.status != 200:  # noqa: PLR2004 - OK
                    return None
                text = await response.content.read(MAX_STATS_BYTES)
                while not response.content.at_eof() and len(text) < MAX_STATS_BYTES:
                    text += await response.content.read(MAX_STATS_BYTES - len(text))
                return RankReport.model_validate_json(text)
        return None

    async def _apply(self, kind: Kind, path: str, body: Object) -> Object:
        return await self._call(
            "patch",
            kind,
            path,
            method="PATCH",
            # Encoded here, in one go: the client would walk through every value first. With a parameter to
            # the media type it sends bytes as they are.
            body=to_json(body),
            query=[("fieldManager", names.MANAGER), ("force", "true")],
            content_type="application/apply-patch+yaml; charset=utf-8",
        )

    async def _optional(
        self, verb: str, kind: Kind, path: str, *, body: Object | None = None
    ) -> dict[str, Any] | None:
        method = "DELETE" if verb == "delete" else "GET"
        try:
            within = REQUEST_TIMEOUT if verb == "delete" else READ_TIMEOUT
            return await self._call(verb, kind, path, method=method, body=body, within=within)
        except ApiFault as fault:
            if fault.status == NOT_FOUND:
                return None
            raise

    async def _call(
        self,
        verb: str,
        kind: Kind,
        path: str,
        *,
        method: str = "GET",
        body: Object | bytes | None = None,
        query: list[tuple[str, str]] | None = None,
        content_type: str = "application/json",
        within: aiohttp.ClientTimeout = REQUEST_TIMEOUT,
    ) -> dict[str, Any]:
        what = f"{verb} {kind.plural}"
        try:
            request = await self._api.param_serialize(
                method,
                path,
                query_params=query or [],
                header_params={"Accept": "application/json", "Content-Type": content_type},
                body=body,
                auth_settings=["BearerToken"],
            )
            response = await self._api.call_api(*request, _request_timeout=within)
            data = await response.read()  # type: ignore[no-untyped-call]  # untyped client
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            self._metrics.count_call(verb, kind.plural, "none")
            raise Unreachable(f"{what}: {type(error).__name__} {error}") from error
        self._metrics.count_call(verb, kind.plural, str(response.status))
        if response.status >= ERRORS_FROM:
            raise _fault(response.status, data, response.headers, what)
        try:
            # Faster than json's, and equal strings of an answer are one string in memory.
            answer: dict[str, Any] = from_json(data)
        except ValueError as error:
            raise Unreachable(f"{what}: an answer that is no JSON") from error
        return answer


def _proxy_for(url: str) -> str | None:
    """The proxy that the environment names for the API server, if it does."""
    parts = urlsplit(url)
    if parts.hostname is None or urllib.request.proxy_bypass(parts.hostname):
        return None
    return urllib.request.getproxies().get(parts.scheme)


def worker_session() -> aiohttp.ClientSession:
    """For asking workers, which run any image: no proxy, no cookies, nothing that grows by being unpacked."""
    return aiohttp.ClientSession(
        timeout=STATS_TIMEOUT,
        trust_env=False,
        auto_decompress=False,
        cookie_jar=aiohttp.DummyCookieJar(),
        headers={"Accept-Encoding": "identity"},
    )


def dump_status(status: DeploymentStatus) -> dict[str, Any]:
    """The status as it is written: no nulls, since an absent field means unknown."""
    return status.model_dump(mode="json", by_alias=True, exclude_none=True)


def _fault(status: int, data: bytes, headers: Mapping[str, str], what: str) -> ApiFault:
    try:
        said = json.loads(data)
        reason, message = str(said.get("reason", "")), str(said.get("message", ""))
    except (ValueError, AttributeError):
        reason, message = "", data[:200].decode(errors="replace")
    return ApiFault(status, reason or f"HTTP{status}", message, what, retry_after(headers))
