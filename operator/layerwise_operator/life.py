"""The life of the operator's process: loops beside watches, begun anew together when the watches end.

A restart by the kubelet would do the same, but with its back-off, and as a crash loop where a fault repeats.
"""

import asyncio
import contextlib
import logging
import signal
from collections.abc import AsyncIterator

from layerwise_operator.faults import ClusterFault, WatchesEnded
from layerwise_operator.handlers import Operator
from layerwise_operator.kinds import DEPLOYMENT, PROFILE
from layerwise_operator.streams import Pacing
from layerwise_operator.watches import ALL_RESOURCES, run_kopf

logger = logging.getLogger(__name__)

RETRY_SECONDS = 2.0


async def live(operator: Operator, stop: asyncio.Event) -> None:
    """Serve until told to stop; raises what ended a loop, which is an error of ours.

    Everything is listed before each attempt at watching, and the loops run during the pause before it: even
    where no watch ever holds, deployments are seen and served.
    """
    pacing, clock = Pacing(), operator.pulse.clock
    num_in_a_row = 0
    while await _prepared(operator, stop):
        began = clock()
        try:
            async with _looping(operator, stop):
                await _rest(stop, pacing.pause(num_in_a_row))
                began = clock()
                await run_kopf(operator, stop)
        except WatchesEnded as fault:
            healthy = clock() - began >= pacing.healthy_after
            num_in_a_row = 1 if healthy else num_in_a_row + 1
            operator.metrics.watch_faults.labels(ALL_RESOURCES, "Ended").inc()
            logger.warning("%s: all are begun anew in %.1f s", fault, pacing.pause(num_in_a_row))


@contextlib.asynccontextmanager
async def _looping(operator: Operator, stop: asyncio.Event) -> AsyncIterator[None]:
    """Run the loops; one that ends by itself stops everything."""

    def ended(task: asyncio.Task[None]) -> None:
        # Kopf, when it ends, also ends what others began meanwhile: that is no error of a loop.
        if not task.cancelled():
            stop.set()

    tasks = [asyncio.create_task(coroutine) for coroutine in operator.loops()]
    for task in tasks:
        task.add_done_callback(ended)
    try:
        yield
    finally:
        for task in tasks:
            task.remove_done_callback(ended)
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
    for result in results:
        if isinstance(result, Exception):
            raise result


async def _prepared(operator: Operator, stop: asyncio.Event) -> bool:
    """Wait until the custom resources are served and everything was listed; False when stopped before."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        # Each time: kopf takes signals for itself, and does not give them back.
        loop.add_signal_handler(number, stop.set)
    said = ""
    while not stop.is_set():
        try:
            if all([await operator.cluster.serves(kind) for kind in (DEPLOYMENT, PROFILE)]):
                await operator.resync()
                logger.info("serving %s", ", ".join(operator.settings.namespaces) or "all namespaces")
                return True
            why = f"the API does not serve {DEPLOYMENT.plural} and {PROFILE.plural}: install the CRDs"
        except ClusterFault as fault:
            why = str(fault)
        if why != said:
            logger.warning("waiting: %s", why)
            said = why
        await _rest(stop, RETRY_SECONDS)
    return False


async def _rest(stop: asyncio.Event, seconds: float) -> None:
    """Wait so long, or until told to stop."""
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(stop.wait(), seconds)
