"""`layerwise-operator`: wire the parts together and run until told to stop."""

import asyncio
import gc
import logging
import os
import sys
from datetime import UTC, datetime

from kubernetes.aio.config import ConfigException

from layerwise.errors import LayerwiseError
from layerwise_operator import logs, probes
from layerwise_operator import settings as settings_module
from layerwise_operator.cache import Cache
from layerwise_operator.cluster import Cluster
from layerwise_operator.converge import Converger
from layerwise_operator.handlers import Operator, Pulse
from layerwise_operator.life import live
from layerwise_operator.metrics import Metrics
from layerwise_operator.reconcile import Policy
from layerwise_operator.settings import Settings
from layerwise_operator.work import Queue

logger = logging.getLogger("layerwise_operator")

# New objects between two looks of the garbage collector at the youngest; Python's own figure is 700.
COLLECTED_AFTER = 5_000
EXIT_CONFIGURATION = 64
EXIT_RESTART = 1


def main() -> int:
    """Run the operator; 0 after a stop, 64 for a wrong configuration, 1 for what a restart may mend."""
    try:
        settings = settings_module.read(sys.argv[1:], os.environ)
        logs.configure(settings.log_level, settings.log_format)
        _spare_the_collector()
        asyncio.run(run(settings))
    except (LayerwiseError, ConfigException) as error:
        sys.stderr.write(f"layerwise-operator: {error}\n")
        return EXIT_CONFIGURATION
    except Exception as error:
        # An error of ours. The formatter puts it on the same line.
        logger.error("the operator ended", exc_info=error)  # noqa: TRY400 - no traceback reaches a user
        return EXIT_RESTART
    return 0


def _spare_the_collector() -> None:
    """Have the garbage collector look less often, and never at modules and classes, which are there to stay.

    Objects go when nothing refers to them any more; only the few that refer to each other wait for it.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(COLLECTED_AFTER, 20, 20)


async def run(settings: Settings) -> None:
    """Probes first, then the life of loops and watches, until told to stop."""
    stop = asyncio.Event()
    operator = await _assemble(settings)
    runner = await probes.serve(operator)
    try:
        await live(operator, stop)
    finally:
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


if __name__ == "__main__":
    raise SystemExit(main())
