"""`layerwise bench` from options to a report: against a server that runs, or local ranks of its own."""

import asyncio
import os
import sys
import tempfile
import time
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError
from rich.console import Console

from layerwise.benchmark.workload import Workload
from layerwise.errors import InvalidInput
from layerwise.planning.layer_ranges import text_of_range
from layerwise.resources.deployment import Serving
from layerwise.telemetry import RankReport
from layerwise_cli.bench import conditions
from layerwise_cli.bench.bars import RequestBars
from layerwise_cli.bench.client import Asking, base_url, connect
from layerwise_cli.bench.load import Measured, Watcher, measure_load
from layerwise_cli.bench.report import Report, make_report
from layerwise_cli.local.inputs import LocalInputs, LocalOptions, local_inputs
from layerwise_cli.local.ranks import Ranks
from layerwise_cli.local.serve import descriptions
from layerwise_cli.local.start import LoadingBars, wait_until_ready
from layerwise_worker.sources import Seed

_WATCH_SECONDS = 0.5
_LEAVE_SECONDS = 5.0
_REPORT_SECONDS = 3.0

Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class BenchOptions:
    """What was asked beside the workload. `key_variable` names an environment variable with an API key."""

    model: str | None
    ignore_eos: bool
    time_limit_seconds: float
    key_variable: str | None = None


def check_target(
    url: str | None,
    *,
    local: bool,
    local_only: Mapping[str, object],
    url_only: Mapping[str, object],
    output_file: Path | None,
) -> None:
    """Exactly one target, and no option that it would ignore; raises InvalidInput."""
    if local == (url is not None):
        raise InvalidInput("what is to be measured? Give --url http://HOST:PORT, or --local --model-dir DIR")
    stray = [name for name, value in (url_only if local else local_only).items() if value is not None]
    if stray:
        raise InvalidInput(f"{', '.join(stray)} has no meaning with {'--local' if local else '--url'}")
    if local and local_only["--model-dir"] is None and local_only["--synthetic"] is None:
        raise InvalidInput(
            "--local needs --model-dir DIR, a directory with config.json and *.safetensors, or --synthetic"
        )
    if output_file is not None and not output_file.parent.is_dir():
        raise InvalidInput(f"--output {output_file}: {output_file.parent} is no directory")


def bench_url(url: str, workload: Workload, options: BenchOptions, console: Console) -> Report:
    """Measure a server that runs; raises LayerwiseError."""
    address, headers = base_url(url), _headers(options.key_variable)
    before = _conditions()
    with RequestBars(console, workload) as bars:
        measured, target = asyncio.run(_bench(address, headers, workload, options, bars))
    return make_report({"kind": "server", **target}, workload, measured, before)


def bench_local(local: LocalOptions, workload: Workload, options: BenchOptions, console: Console) -> Report:
    """Start ranks, measure them and stop them; raises LayerwiseError."""
    inputs = _served(local_inputs(local), workload)
    below = min(workload.token_ids_below, inputs.plan.architecture.vocabulary_size)
    workload = replace(workload, token_ids_below=below)
    before = _conditions()
    with (
        tempfile.TemporaryDirectory(prefix="layerwise-bench-") as work,
        Ranks(inputs, Path(work), lambda line: console.print(line, markup=False)) as ranks,
    ):
        with LoadingBars(console, descriptions(inputs.plan)) as loading:
            wait_until_ready(ranks, loading, lambda: False)
        with RequestBars(console, workload) as bars:
            measured, target = asyncio.run(_guarded(ranks, _bench(ranks.url, {}, workload, options, bars)))
        # In time: later micro-batches would be none of the workload's.
        report = _report_of_all_stages(ranks, len(inputs.plan.stages))
        leave_at = time.monotonic() + _LEAVE_SECONDS
        ranks.stop(lambda: time.monotonic() > leave_at)
    return make_report({**target, **_local_target(inputs, ranks.cores, report)}, workload, measured, before)


async def _bench(
    url: str, headers: Mapping[str, str], workload: Workload, options: BenchOptions, watcher: Watcher
) -> tuple[Measured, dict[str, Any]]:
    async with connect(url, headers) as server:
        model = options.model or await server.model()
        asking = Asking(model, workload.output_tokens, options.ignore_eos)
        measured = await measure_load(server, asking, workload, options.time_limit_seconds, watcher)
        return measured, {"url": url, "model": model, **_pipeline(await server.stats())}


async def _guarded(ranks: Ranks, work: Coroutine[Any, Any, Value]) -> Value:
    """Give up as soon as a rank ends: what is measured after that is something else."""
    task = asyncio.ensure_future(work)
    try:
        while not task.done():
            ranks.check()
            await asyncio.wait({task}, timeout=_WATCH_SECONDS)
    finally:
        task.cancel()
    ranks.check()
    return task.result()


def _report_of_all_stages(ranks: Ranks, num_stages: int) -> RankReport | None:
    """Rank 0's report; the others tell it their times once a second, and a workload may be over sooner."""
    give_up_at = time.monotonic() + _REPORT_SECONDS
    while (report := ranks.report(0)) is None or len(report.stage_times) < num_stages:
        if time.monotonic() > give_up_at:
            break
        time.sleep(_WATCH_SECONDS)
    return report


def _served(inputs: LocalInputs, workload: Workload) -> LocalInputs:
    """The front's limits, raised to what the workload sends."""
    try:
        serving = Serving(
            max_queued_requests=max(256, workload.concurrency),
            max_prompt_tokens=workload.prompt_tokens,
            max_output_tokens=workload.output_tokens,
        )
    except ValidationError as error:
        raise InvalidInput(
            f"the workload is beyond what a front can serve: {error.errors()[0]['msg']}"
        ) from None
    return replace(inputs, serving=serving)


def _pipeline(stats: str | None) -> dict[str, Any]:
    """What a front of ours says of its pipeline; nothing for other servers."""
    try:
        report = RankReport.model_validate_json(stats or "")
    except ValidationError:
        return {}
    facts: dict[str, Any] = {"stages": report.num_stages, "planHash": report.plan_hash, "epoch": report.epoch}
    if report.transport is not None:
        facts["transport"] = report.transport.kind
    return facts


def _local_target(inputs: LocalInputs, cores: tuple[int, ...], report: RankReport | None) -> dict[str, Any]:
    plan = inputs.plan
    return {
        "kind": "local ranks",
        **_source(inputs),
        "device": inputs.device.value,
        "dtype": plan.dtype,
        "threadsPerRank": inputs.threads,
        "boundToCores": list(cores),
        "stages": len(plan.stages),
        "tensorParallelSize": plan.tensor_parallel_size,
        "plan": {
            "layers": [text_of_range(stage.layers) if stage.layers else "" for stage in plan.stages],
            "lanes": plan.num_lanes,
            "laneTokens": plan.lane_tokens,
            "microBatchSize": plan.predicted.micro_batch_size,
            "microBatchesInFlight": plan.predicted.micro_batches_in_flight,
        },
        "stageTimes": [
            times.model_dump(mode="json", by_alias=True) for times in (report.stage_times if report else ())
        ],
    }


def _source(inputs: LocalInputs) -> dict[str, Any]:
    if isinstance(inputs.model, Seed):
        return {"synthetic": inputs.plan.architecture.to_json(), "seed": inputs.model.number}
    return {"modelDirectory": str(inputs.model)}


def _conditions() -> dict[str, Any]:
    return {
        "machine": conditions.machine(),
        "versions": conditions.versions(),
        "command": conditions.command(sys.argv),
        "startedAt": conditions.now(),
    }


def _headers(key_variable: str | None) -> dict[str, str]:
    if key_variable is None:
        return {}
    key = os.environ.get(key_variable, "")
    if not key or not key.isascii() or not key.isprintable():
        raise InvalidInput(f"--api-key-variable {key_variable}: there is no such variable with a key in it")
    return {"Authorization": f"Bearer {key}"}
