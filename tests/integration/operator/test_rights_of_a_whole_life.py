"""A whole life under the account that the chart makes, with RBAC enforced: no 403, no idle right."""

import json
import os
import re
import subprocess
from collections.abc import Iterator

import pytest
import yaml
from tests.unit.chart.test_chart_rbac import Right, granted

from layerwise_cli.tools import helm
from layerwise_operator.handlers import WATCHED
from layerwise_operator.kinds import BY_NAME, CHILDREN

from .conftest import PRODUCT, ROOT, Bench, Json, benched

pytestmark = [pytest.mark.chaos, pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(300)]

SYSTEM = "layerwise-system"
WORKER = {"device": "CPU", "resources": {"requests": {"cpu": "100m"}}, "terminationGracePeriodSeconds": 2}
METRICS = f"/api/v1/namespaces/{SYSTEM}/services/layerwise-operator-metrics:8080/proxy/metrics"
GROUPS = {kind.plural: kind.group for kind in BY_NAME.values()}


@pytest.fixture(params=["", "watchNamespaces={default}"], ids=["Cluster", "Role"])
def installed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """The chart on a cluster of its own: in the whole cluster, or with a Role in one namespace."""
    with benched(tmp_path_factory, f"rights-{os.getpid()}", f"4x{PRODUCT}") as bench:
        bench.log.write_bytes(b"")
        subprocess.run(
            [
                str(helm()), "install", "layerwise", str(ROOT / "charts" / "layerwise"),
                "-n", SYSTEM, "--create-namespace", "--wait", "--timeout", "120s",
                "--set", "crds.install=false", *(["--set", request.param] if request.param else []),
            ],
            env={**os.environ, "KUBECONFIG": str(bench.kubeconfig)},
            check=True,
            capture_output=True,
        )  # fmt: skip
        yield bench


def live_through_everything(bench: Bench) -> None:
    """Create, re-plan, scale, restart, drift, suspend, node pods, benchmark, a taken name, delete."""

    def ready(name: str) -> None:
        bench.until(lambda: bench.is_ready(name), f"{name} is ready", 90)

    bench.apply("demo")
    ready("demo")
    bench.kubectl("scale", "lwd", "demo", "--replicas=2")
    bench.until(lambda: bench.status("demo").get("readyReplicas") == 2, "two pipelines", 90)
    bench.kubectl("scale", "lwd", "demo", "--replicas=1")
    bench.until(lambda: len(bench.pods("demo")) == 2, "one pipeline", 60)
    before = {pod["metadata"]["uid"] for pod in bench.pods("demo")}
    bench.kubectl("annotate", "lwd", "demo", "layerwise.dev/restart=once")
    bench.until(lambda: before.isdisjoint(p["metadata"]["uid"] for p in bench.pods("demo")), "new pods", 60)
    ready("demo")
    bench.apply("demo", strategy={"stages": 3}, serving={"maxPromptTokens": 32, "maxOutputTokens": 32})
    bench.until(lambda: bench.status("demo").get("stages") == "3/3", "3/3", 90)
    bench.kubectl("delete", "service,networkpolicy,poddisruptionbudget", "demo")
    bench.until(lambda: len(bench.names("service,networkpolicy,pdb", "demo")) >= 3, "all are back", 60)
    bench.apply("demo", suspend=True)
    bench.until(lambda: not bench.pods("demo"), "no pod is left", 60)
    bench.kubectl("delete", "lwd", "demo", "--timeout=60s")

    shared_pods = {"strategy": {"type": "TensorPipeline", "tensorParallelSize": 2, "pipelineParallelSize": 1}}
    bench.apply("node", **shared_pods, worker={**WORKER, "podGranularity": "Node"})
    ready("node")
    bench.kubectl("delete", "lwd", "node", "--timeout=60s")

    text = (ROOT / "examples" / "benchmark-dense.yaml").read_text(encoding="utf-8")
    bench.kubectl("apply", "-f", "-", stdin=json.dumps(yaml.safe_load(text)))
    bench.kubectl("wait", "--for=condition=Complete", "lwd/benchmark-dense", "--timeout=90s")

    bench.kubectl("create", "service", "clusterip", "taken", "--tcp=80")
    bench.apply("taken")
    bench.until(lambda: bench.condition("taken", "Ready").get("reason") == "NameTaken", "it is said", 60)
    bench.kubectl("delete", "lwd", "--all", "--timeout=60s")


def calls(bench: Bench) -> list[tuple[str, str, str]]:
    """(verb, resource, code) of every call that the operator counted."""
    pattern = r"^layerwise_operator_api_calls_total\{(.*)\} "
    lines = re.findall(pattern, bench.kubectl("get", "--raw", METRICS), flags=re.MULTILINE)
    labels = [dict(re.findall(r'(\w+)="([^"]*)"', line)) for line in lines]
    return [(found["verb"], found["resource"], found["code"]) for found in labels]


def rules(bench: Bench) -> list[Json]:
    """The roles of the operator, as they are in the cluster."""
    listed = json.loads(bench.kubectl("get", "clusterrole,role", "-A", "-o", "json"))["items"]
    return [role for role in listed if role["metadata"]["name"] == "layerwise-operator"]


def used(made: list[tuple[str, str, str]]) -> set[Right]:
    """The rights behind calls; the watches are kopf's, and not counted."""
    rights = {(GROUPS[resource], resource, verb) for verb, resource, code in made if verb != "patch"}
    for kind in WATCHED:
        rights |= {(kind.group, kind.plural, verb) for verb in ("list", "watch")}
    patched = {resource for verb, resource, _ in made if verb == "patch"}
    for kind in CHILDREN:
        # A server-side apply creates what is not there, which takes both rights. Where the name is taken, a
        # look says by whom: shown for a Service, and alike for all.
        if kind.plural in patched and ("get", "services", "200") in made:
            rights |= {(kind.group, kind.plural, verb) for verb in ("create", "patch", "get")}
    if "layerwisedeployments" in patched:
        rights.add(("layerwise.dev", "layerwisedeployments/status", "patch"))
    return rights


def test_nothing_is_forbidden_and_no_right_is_idle(installed: Bench) -> None:
    live_through_everything(installed)
    made = calls(installed)
    assert {call for call in made if call[2] == "403"} == set()
    metrics = installed.kubectl("get", "--raw", METRICS)
    # Of the watches: a refused one would be told as a fault.
    assert re.findall(r"^layerwise_operator_watch_faults_total.*$", metrics, flags=re.MULTILINE) == []
    log = installed.kubectl("logs", "-n", SYSTEM, "deployment/layerwise-operator", "--tail=-1")
    assert "Traceback" not in log
    assert "orbidden" not in log
    idle = granted(rules(installed)) - used(made)
    assert idle == set()
