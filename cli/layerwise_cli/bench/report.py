"""The outcome of a benchmark, as one JSON object and as a table; both say under which conditions."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

from layerwise.benchmark.figures import HEADINGS, Spread, figures, spreads
from layerwise.benchmark.reading import grouping_text, in_flight_text
from layerwise.benchmark.workload import PromptKind, Workload
from layerwise.planning.figures import count_text, three_places
from layerwise_cli.bench.answers import Answer
from layerwise_cli.bench.load import Measured

_MOST_REASONS = 5
# Load average over cores beyond which others take time that the figures would show.
_BUSY_SHARE = 0.5


@dataclass(frozen=True, slots=True)
class Report:
    """Everything that was asked, done and measured."""

    target: Mapping[str, Any]
    workload: Workload
    reading: str
    metrics: Mapping[str, Spread]
    requests: Mapping[str, Any]
    remarks: tuple[str, ...]
    conditions: Mapping[str, Any]

    def to_json(self) -> dict[str, Any]:
        """Plain values under camelCase keys."""
        return {
            "target": dict(self.target),
            "workload": {_camel(name): value for name, value in asdict(self.workload).items()},
            "reading": self.reading,
            "metrics": {name: spread.to_json() for name, spread in self.metrics.items()},
            "requests": dict(self.requests),
            "remarks": list(self.remarks),
            **self.conditions,
        }


def make_report(
    target: Mapping[str, Any], workload: Workload, measured: Measured, conditions: Mapping[str, Any]
) -> Report:
    """Figures and remarks out of the outcomes."""
    answered = [
        [outcome for outcome in outcomes if isinstance(outcome, Answer)] for outcomes in measured.repetitions
    ]
    return Report(
        target=target,
        workload=workload,
        reading=reading(workload, target),
        metrics=spreads([figures([answer.timeline for answer in answers]) for answers in answered]),
        requests=_requests(measured),
        remarks=(*_remarks(workload, measured), *busy_machine(conditions["machine"])),
        conditions=conditions,
    )


def reading(workload: Workload, target: Mapping[str, Any]) -> str:
    """Which of the things that are called batch this is."""
    text = in_flight_text(workload.concurrency)
    plan = target.get("plan")
    if plan is None:
        return f"{text}; the server groups them as it does"
    return f"{text}; {grouping_text(plan['microBatchSize'], plan['microBatchesInFlight'])}"


def print_report(report: Report, console: Console) -> None:
    """The table and what must be known to read it."""
    console.print(_title(report), markup=False, highlight=False, soft_wrap=True)
    table = Table()
    table.add_column("metric", no_wrap=True)
    for heading in ("median", "lowest", "highest"):
        table.add_column(heading, justify="right")
    for name, spread in report.metrics.items():
        cells = (spread.median, spread.lowest, spread.highest)
        table.add_row(HEADINGS[name], *("-" if cell is None else three_places(cell) for cell in cells))
    console.print(table)
    for line in (report.reading, *report.remarks, *_condition_lines(report)):
        console.print(f"- {line}", markup=False, highlight=False, soft_wrap=True)


def _title(report: Report) -> str:
    workload = report.workload
    return (
        f"{report.target['model']}: {workload.prompt_tokens} prompt and {workload.output_tokens} output "
        "tokens, "
        f"{workload.concurrency} in flight, {count_text(workload.repetitions, 'repetition')} of "
        f"{count_text(workload.num_requests, 'request')}"
    )


def _condition_lines(report: Report) -> list[str]:
    machine, versions = report.conditions["machine"], report.conditions["versions"]
    known = ", ".join(f"{name} {version}" for name, version in versions.items() if version)
    target = report.target
    where = [
        f"{name}: {target[name]}"
        for name in ("device", "dtype", "threadsPerRank", "stages")
        if name in target
    ]
    if cores := target.get("boundToCores"):
        where.append(f"bound to cores: {', '.join(str(core) for core in cores)}")
    lines = [f"{target['kind']} at {target['url']}" + (f" ({', '.join(where)})" if where else "")]
    lines += [
        f"stage {stage['index']}: {three_places(stage['computeMilliseconds'])} ms of computing and "
        f"{three_places(stage['waitMilliseconds'])} ms of waiting a micro-batch"
        for stage in target.get("stageTimes", ())
    ]
    lines.append(f"{machine['processor']}, {count_text(machine['cores'], 'core')}; {known}")
    lines.append(f"command: {report.conditions['command']}")
    return lines


def _requests(measured: Measured) -> dict[str, Any]:
    answers = measured.answers
    lengths = [len(answer.timeline.tokens) for answer in answers]
    prompts = [answer.prompt_tokens for answer in answers if answer.prompt_tokens is not None]
    return {
        "finished": len(answers),
        "failed": sum(measured.failures.values()),
        "failures": dict(measured.failures.most_common(_MOST_REASONS)),
        "outputTokens": _range(lengths),
        "promptTokens": _range(prompts),
        "ignoreEos": measured.asking.ignore_eos,
    }


def _remarks(workload: Workload, measured: Measured) -> list[str]:
    answers = measured.answers
    remarks = []
    if not measured.asking.ignore_eos:
        remarks.append("ignore_eos was not sent: an output ends where the model ends it")
    lengths = _range([len(answer.timeline.tokens) for answer in answers])
    if lengths is not None and (lengths["lowest"], lengths["highest"]) != (workload.output_tokens,) * 2:
        remarks.append(
            f"outputs have {lengths['lowest']} to {lengths['highest']} tokens (mean {lengths['mean']:.1f}), "
            f"where {workload.output_tokens} were asked for"
        )
    if not all(answer.counted for answer in answers):
        remarks.append("the server does not count tokens: every event with text was taken for a token")
    inexact = sum(not answer.exact for answer in answers)
    if inexact:
        remarks.append(
            f"in {inexact} of {len(answers)} answers events and tokens are not one to one: ITL is that of "
            "events, spread evenly over the tokens"
        )
    if workload.prompt_kind is PromptKind.TEXT:
        remarks.append(
            f"prompts are {count_text(workload.prompt_tokens, 'word')}; see promptTokens for the tokens"
        )
    if measured.failures:
        failed = sum(measured.failures.values())
        reason, _ = measured.failures.most_common(1)[0]
        remarks.append(f"{count_text(failed, 'request')} failed and are in no figure, most often: {reason}")
    return remarks


def busy_machine(machine: Mapping[str, Any]) -> list[str]:
    """A warning when others were using the machine before the benchmark did."""
    load, cores = machine["loadAverageBefore"], machine["cores"]
    if load < _BUSY_SHARE * cores:
        return []
    busy = f"load {load:.1f} on {count_text(cores, 'core')}"
    return [f"the machine was busy before: {busy}; repeat it on a quiet one"]


def _range(values: list[int]) -> dict[str, float] | None:
    if not values:
        return None
    return {"mean": sum(values) / len(values), "lowest": min(values), "highest": max(values)}


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)
