"""`layerwise-operator`: wire the parts together and run until told to stop."""

import asyncio
import contextlib
import gc
import logging
import os
import signal
import sys
from datetime import UTC, datetime

from kubernetes.aio.config import ConfigException

from layerwise.errors import LayerwiseError
from layerwise_operator import logs, probes
from layerwise_operator import settings as settings_module
from layerwise_operator.cache import Cache
from layerwise_operator.cluster import Cluster
from layerwise_operator.converge import Converger
from layerwise_operator.faults import ClusterFault
from layerwise_operator.handlers import Operator, Pulse
from layerwise_operator.kinds import DEPLOYMENT, PROFILE
from layerwise_operator.metrics import Metrics
from layerwise_operator.reconcile import Policy
from layerwise_operator.settings import Settings
from layerwise_operator.watches import run_kopf
from layerwise_operator.work import Queue

logger = logging.getLogger("layerwise_operator")

RETRY_SECONDS = 2.0
# New objects between two looks of the garbage collector at the youngest; Python's own figure is 700.
COLLECTED_AFTER = 5_000
EXIT_CONFIGURATION = 64
EXIT_RESTART = 1


def main() -> int:
    """Run the operator; 0 after a stop, 64 for a wrong configuration, 1 for what a restart may mend."""
    try:
        settings = settings_module.read(sys.argv[1:], os.environ)
        logs.configure(settings.log_level, settings.log_format)
        asyncio.run(run(settings))
    except (LayerwiseError, ConfigException) as error:
        sys.stderr.write(f"layerwise-operator: {error}\n")
        return EXIT_CONFIGURATION
    except ClusterFault as fault:
        logger.error("%s", fault)  # noqa: TRY400 - one line; the cause is part of the text
        return EXIT_RESTART
    return 0


async def run(settings: Settings) -> None:
    """Probes first, then the custom resources, the first list, the workers, the watches."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    operator = await _assemble(settings)
    runner = await probes.serve(operator)
    tasks: list[asyncio.Task[None]] = []
    try:
        if await _prepared(operator, stop):
            tasks += [asyncio.create_task(coroutine) for coroutine in operator.loops()]
            for task in tasks:
                task.add_done_callback(lambda _: stop.set())
            await run_kopf(operator, stop)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await runner.cleanup()
        await operator.cluster.close()


async def _assemble(settings: Settings) -> Operator:
    metrics, cache = Metrics(), Cache()
    cluster = await Cluster.connect(settings.kubeconfig, metrics)
    clock = asyncio.get_running_loop().time
    converger = Converger(
        cache=cache,
        cluster=cluster,
        policy=Policy(worker_image=settings.worker_image),
        metrics=metrics,
        clock=lambda: datetime.now(UTC),
    )
    return Operator(
        settings=settings,
        cache=cache,
        cluster=cluster,
        converger=converger,
        metrics=metrics,
        queue=Queue(clock),
        pulse=Pulse(clock),
    )


async def _prepared(operator: Operator, stop: asyncio.Event) -> bool:
    """Wait until the custom resources are served and everything was listed; False when stopped before."""
    said = ""
    while not stop.is_set():
        try:
            if all([await operator.cluster.serves(kind) for kind in (DEPLOYMENT, PROFILE)]):
                await operator.resync()
                _spare_the_collector()
                logger.info("serving %s", ", ".join(operator.settings.namespaces) or "all namespaces")
                return True
            why = f"the API does not serve {DEPLOYMENT.plural} and {PROFILE.plural}: install the CRDs"
        except ClusterFault as fault:
            why = str(fault)
        if why != said:
            logger.warning("waiting: %s", why)
            said = why
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), RETRY_SECONDS)
    return False


def _spare_the_collector() -> None:
    """Have the garbage collector look less often, and not again and again at what is there to stay.

    Objects go when nothing refers to them any more; only the few that refer to each other wait for it.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(COLLECTED_AFTER, 20, 20)


if __name__ == "__main__":
    raise SystemExit(main())
