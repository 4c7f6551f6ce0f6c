"""The operator as a process of its own over an embedded cluster, with tiny models and real workers."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest
from tests.unit.worker_support.tiny_models import save_llama, write_tokenizer

from layerwise_cli.tools import kubectl
from layerwise_sandbox import cluster
from layerwise_sandbox.nodes.containers.leftovers import MARK

ROOT = Path(__file__).parents[3]
SHARED = "shared"
PRODUCT = "NVIDIA-H100-80GB-HBM3"

Json = dict[str, Any]


@dataclass
class Bench:
    """kubectl on one embedded cluster, and the operator's process."""

    kubeconfig: Path
    sandbox: str
    log: Path
    process: subprocess.Popen[bytes] | None = None
    made: list[str] = field(default_factory=list)

    def attempt(self, *arguments: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        """Run kubectl, whatever comes of it."""
        return subprocess.run(
            [str(kubectl()), *arguments],
            input=stdin,
            capture_output=True,
            text=True,
            env={**os.environ, "KUBECONFIG": str(self.kubeconfig)},
            timeout=90,
            check=False,
        )

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        """Run kubectl; it must succeed."""
        done = self.attempt(*arguments, stdin=stdin)
        assert done.returncode == 0, f"kubectl {' '.join(arguments)}\n{done.stdout}{done.stderr}"
        return done.stdout

    def start(self) -> None:
        """Start the operator."""
        environment = {
            **os.environ,
            "KUBECONFIG": str(self.kubeconfig),
            "LAYERWISE_WORKER_IMAGE": "layerwise-worker:test",
            "LAYERWISE_PROBE_HOST": "127.0.0.1",
            "LAYERWISE_PROBE_PORT": "0",
        }
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "layerwise_operator"], env=environment, stderr=log, cwd=ROOT
            )

    def kill(self, number: signal.Signals = signal.SIGKILL) -> None:
        """End the operator."""
        if self.process is not None:
            self.process.send_signal(number)
            self.process.wait(timeout=30)
            self.process = None

    def assert_nothing_went_wrong(self) -> None:
        """By what the operator said."""
        log = self.log.read_text()
        assert "Traceback" not in log
        assert " ERROR " not in log, log

    def apply(self, name: str, **spec: Any) -> None:
        """Create or change a deployment of a tiny model in two stages."""
        if name not in self.made:
            self.made.append(name)
        parts: Json = {
            "model": {"volume": {"claimName": "models", "directory": "tiny"}, "dtype": "Float32"},
            "strategy": {"stages": 2},
            "workload": {"concurrency": 4, "promptTokens": 16, "outputTokens": 16},
            "serving": {"maxPromptTokens": 64, "maxOutputTokens": 64},
            # One test after the other breaks the shared deployment on purpose.
            "failurePolicy": {"maxGroupRestarts": 1000},
            "worker": {
                "device": "CPU",
                "resources": {"requests": {"cpu": "100m"}},
                "terminationGracePeriodSeconds": 2,
            },
        }
        raw = {
            "apiVersion": "layerwise.dev/v1alpha1",
            "kind": "LayerwiseDeployment",
            "metadata": {"name": name},
            "spec": {**parts, **spec},
        }
        self.kubectl("apply", "-f", "-", stdin=json.dumps(raw))

    def delete(self, name: str) -> None:
        """Delete a deployment, and wait until nothing of it is left."""
        self.kubectl("delete", "lwd", name, "--ignore-not-found", "--timeout=60s")
        kinds = "statefulset,service,configmap,pod,networkpolicy,poddisruptionbudget"
        self.until(lambda: not self.names(kinds, name), f"nothing is left of {name}", 60)

    def status(self, name: str) -> Json:
        """The status of a deployment."""
        done = self.attempt("get", "lwd", name, "-o", "json")
        return dict(json.loads(done.stdout).get("status") or {}) if done.returncode == 0 else {}

    def condition(self, name: str, type_: str) -> Json:
        """One condition; empty while there is none."""
        return next((dict(c) for c in self.status(name).get("conditions", ()) if c["type"] == type_), {})

    def is_ready(self, name: str) -> bool:
        """Whether Ready is True."""
        return self.condition(name, "Ready").get("status") == "True"

    def names(self, kinds: str, name: str) -> list[str]:
        """Names of the objects of a deployment."""
        return self.kubectl("get", kinds, "-l", f"layerwise.dev/deployment={name}", "-o", "name").split()

    def pods(self, name: str) -> list[Json]:
        """The worker pods of a deployment."""
        selector = f"layerwise.dev/deployment={name},app.kubernetes.io/component=worker"
        return list(json.loads(self.kubectl("get", "pods", "-l", selector, "-o", "json"))["items"])

    def processes(self, pod: str) -> list[psutil.Process]:
        """The processes of a pod of this sandbox, the oldest first."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                environment = process.environ()
                ours = environment.get(MARK, "").startswith(f"{self.kubeconfig.parent}/")
                if ours and environment.get("LAYERWISE_POD_NAME") == pod:
                    found.append(process)
        return sorted(found, key=lambda process: process.create_time())

    def signal(self, pod: str, number: signal.Signals) -> None:
        """Send a signal to all processes of a pod."""
        for process in self.processes(pod):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(number)

    def until(self, fulfilled: Callable[[], object], what: str, seconds: float) -> float:
        """Ask until it holds; the seconds that it took."""
        started = time.monotonic()
        while not fulfilled():
            if time.monotonic() - started > seconds:
                seen = self.attempt("get", "lwd,pods,events", "-o", "wide").stdout
                raise AssertionError(
                    f"after {seconds} s still not: {what}\n{seen}\n{self.log.read_text()[-3000:]}"
                )
            time.sleep(0.1)
        return time.monotonic() - started


@contextlib.contextmanager
def benched(tmp_path_factory: pytest.TempPathFactory, name: str, accelerators: str) -> Iterator[Bench]:
    """Two nodes of mocked accelerators, the custom resources, and a claim with a tiny model."""
    volume = tmp_path_factory.mktemp("models")
    save_llama(volume / "tiny", eos_token_id=None)
    write_tokenizer(volume / "tiny")
    options = cluster.Options(name=name, nodes=2, accelerators=accelerators, clock_factor=10)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        started = cluster.up(options)
        bench = Bench(started.kubeconfig, name, tmp_path_factory.mktemp("log") / "operator.log")
        try:
            cluster.volume(name, "models", volume)
            bench.kubectl("apply", "--server-side", "-f", str(ROOT / "crds"))
            yield bench
        finally:
            bench.kill(signal.SIGTERM)
            cluster.down(name, delete=True)


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """Two nodes of four mocked H100s."""
    with benched(tmp_path_factory, f"op-{os.getpid()}", f"4x{PRODUCT}") as bench:
        yield bench


@pytest.fixture
def bench(world: Bench) -> Iterator[Bench]:
    """A running operator; what a test made goes afterwards, but for the deployment that tests share."""
    if world.process is None:
        world.log.write_bytes(b"")
        world.start()
    yield world
    world.assert_nothing_went_wrong()
    for name in [name for name in world.made if name != SHARED]:
        world.attempt("delete", "lwd", name, "--ignore-not-found", "--timeout=60s")
        world.made.remove(name)


@pytest.fixture
def shared(bench: Bench) -> Bench:
    """One deployment that is ready, for the tests that leave it so: a start takes most of a test's time."""
    bench.apply(SHARED)
    bench.until(lambda: bench.is_ready(SHARED), "ready", 60)
    return bench
