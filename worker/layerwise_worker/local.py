"""A whole pipeline as processes of this machine: for tests, and for trying a model without a cluster.

Each rank gets a loopback address of its own, so that all may use the same ports, as pods do. A rank runs in a
process group of its own, so that Ctrl-C in a terminal reaches only the process that started it, and dies with
that process.
"""

import os
import secrets
import socket
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from layerwise.planning.plan import Plan
from layerwise_worker.__main__ import main as worker
from layerwise_worker.config import crowd_of
from layerwise_worker.core_claims import CoreClaim
from layerwise_worker.cores import share_of
from layerwise_worker.process import die_with_parent
from layerwise_worker.sources import ModelSource, Seed


@dataclass(frozen=True, slots=True)
class LocalSettings:
    """What a cluster would set on every worker container.

    `model` is a directory with its files, or the seed of a synthetic one. `front` is where rank 0 listens
    (address and port; None: a free place); `visible_devices` is CUDA_VISIBLE_DEVICES of each pod (none: every
    pod sees all).
    """

    plan: Plan
    model: ModelSource
    work_directory: Path
    model_name: str = "local"
    device: str = "CPU"
    threads: int = 1
    max_queued_requests: int = 256
    max_prompt_tokens: int = 1024
    max_output_tokens: int = 512
    grace_seconds: int = 20
    environment: Mapping[str, str] = field(default_factory=dict)
    front: tuple[str, int] | None = None
    visible_devices: tuple[str, ...] = ()


class LocalPipeline:
    """Ranks as child processes; their logs and termination messages lie in the work directory.

    Where the plan puts several ranks into a pod, a child is a pod, and is counted as such.
    """

    def __init__(self, settings: LocalSettings) -> None:
        self._settings = settings
        # 127.0.0.0/8 is all loopback: a random net keeps pipelines of one machine apart.
        net = f"127.{secrets.randbelow(200) + 20}.{secrets.randbelow(250) + 1}"
        addresses = [f"{net}.{rank + 1}" for rank in range(settings.plan.num_pods)]
        if settings.front is not None:
            addresses[0] = settings.front[0]
        self.addresses = tuple(addresses)
        self.control_port, self.rendezvous_port, self.http_port = _free_ports(self.addresses)
        if settings.front is not None:
            self.http_port = settings.front[1]
        self._claim = _claim_cores(settings)
        self._plan_file = settings.work_directory / "plan.json"
        self._plan_file.write_text(settings.plan.dumps())
        self.processes: dict[int, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def start(self) -> None:
        """Start all ranks."""
        for rank in range(len(self.addresses)):
            self.start_rank(rank)

    def start_rank(self, rank: int) -> None:
        """Start one rank, again if it has run before; its log is appended to."""
        with self.log_file(rank).open("ab") as log:
            self.processes[rank] = subprocess.Popen(  # noqa: S603 - this program itself
                [sys.executable, "-m", "layerwise_worker.local", str(os.getpid())],
                env={**os.environ, **self.environment(rank)},
                process_group=0,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def environment(self, rank: int) -> dict[str, str]:
        """What the container of a rank is told."""
        settings = self._settings
        devices = settings.visible_devices
        return {
            "LAYERWISE_PLAN_FILE": str(self._plan_file),
            **_model_variables(settings.model),
            "LAYERWISE_MODEL_NAME": settings.model_name,
            "LAYERWISE_RANK": str(rank),
            "LAYERWISE_POD_NAME": f"{settings.model_name}-0-{rank}",
            "LAYERWISE_BIND_ADDRESS": self.addresses[rank],
            "LAYERWISE_COORDINATOR_HOST": self.addresses[0],
            "LAYERWISE_CONTROL_PORT": str(self.control_port),
            "LAYERWISE_RENDEZVOUS_PORT": str(self.rendezvous_port),
            "LAYERWISE_HTTP_PORT": str(self.http_port),
            "LAYERWISE_DEVICE": settings.device,
            "LAYERWISE_MAX_QUEUED_REQUESTS": str(settings.max_queued_requests),
            "LAYERWISE_MAX_PROMPT_TOKENS": str(settings.max_prompt_tokens),
            "LAYERWISE_MAX_OUTPUT_TOKENS": str(settings.max_output_tokens),
            "LAYERWISE_GRACE_SECONDS": str(settings.grace_seconds),
            "LAYERWISE_THREADS": str(settings.threads),
            "LAYERWISE_CORES": ",".join(str(core) for core in self._claim.cores),
            "LAYERWISE_TERMINATION_LOG": str(self.termination_file(rank)),
            **({"CUDA_VISIBLE_DEVICES": devices[rank]} if devices else {}),
            **settings.environment,
        }

    @property
    def cores(self) -> tuple[int, ...]:
        """Which cores its ranks are bound to; none where the kernel decides."""
        return self._claim.cores

    def url(self, rank: int = 0) -> str:
        """Where a rank serves HTTP."""
        return f"http://{self.addresses[rank]}:{self.http_port}"

    def log_file(self, rank: int) -> Path:
        """What the rank wrote to its standard streams."""
        return self._settings.work_directory / f"rank-{rank}.log"

    def termination_file(self, rank: int) -> Path:
        """The rank's termination message, if it left one."""
        return self._settings.work_directory / f"rank-{rank}.termination"

    def terminate(self, timeout_seconds: float) -> dict[int, int]:
        """Stop all ranks as a cluster would, and wait; returns their exit statuses."""
        for process in self.processes.values():
            process.terminate()
        return {rank: process.wait(timeout_seconds) for rank, process in self.processes.items()}

    def kill(self) -> None:
        """End all ranks now; their engines die with them."""
        for process in self.processes.values():
            process.kill()
        for process in self.processes.values():
            process.wait()
        self._claim.release()


def _claim_cores(settings: LocalSettings) -> CoreClaim:
    """Cores for all that compute at once; none where others have them or nothing would be bound."""
    crowd = crowd_of(settings.plan, settings.threads)
    is_bound = settings.device == "CPU" and share_of(0, crowd, range(crowd.num_cores)) is not None
    return CoreClaim(crowd.num_cores if is_bound else 0, os.sched_getaffinity(0))


def _model_variables(model: ModelSource) -> dict[str, str]:
    if isinstance(model, Seed):
        return {"LAYERWISE_SYNTHETIC_SEED": str(model.number)}
    return {"LAYERWISE_MODEL_DIRECTORY": str(model)}


def _free_ports(addresses: tuple[str, ...]) -> tuple[int, int, int]:
    """Three ports that are free on all addresses, as far as one can know without keeping them."""
    ports: list[int] = []
    while len(ports) < 3:  # noqa: PLR2004 - control, rendezvous, HTTP
        with socket.socket() as probe:
            probe.bind((addresses[0], 0))
            port = probe.getsockname()[1]
        if port not in ports and all(_is_free(address, port) for address in addresses):
            ports.append(port)
    return ports[0], ports[1], ports[2]


def _is_free(address: str, port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind((address, port))
        except OSError:
            return False
    return True


def main() -> int:
    """A rank as a child of the process whose id is the argument."""
    die_with_parent(int(sys.argv[1]))
    return worker(["serve"])


if __name__ == "__main__":
    sys.exit(main())
