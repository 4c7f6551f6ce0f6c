"""Mode Benchmark: run once, write the result, then give everything back; and never twice for nothing."""

from collections.abc import Callable
from typing import Any

import pytest
from tests.unit.operator_world.world import Watched, World, deployment, node, until_death

from layerwise.telemetry import BenchmarkReport, BenchmarkState, MeasuredPerformance, MetricSpread, StageTimes
from layerwise_operator.manifests import names

DENSE = {"architecture": "Dense", "layers": 6, "heads": 8, "headSize": 64, "mlpHiddenSize": 2048}
SPEC: dict[str, Any] = {
    "mode": "Benchmark",
    "model": {"synthetic": DENSE},
    "workload": {"concurrency": 8, "promptTokens": 16, "outputTokens": 32},
    "benchmark": {"repetitions": 5},
}
TPS, TPOT = 200.0, 40.0
RUN = "LAYERWISE_BENCHMARK_RUN"


def variables(world: World, name: str = "demo-0") -> dict[str, str]:
    found = world.objects["StatefulSet", "default", name]
    [container] = found["spec"]["template"]["spec"]["containers"]
    return {variable["name"]: variable.get("value", "") for variable in container["env"]}


def report(run: str, state: BenchmarkState = BenchmarkState.SUCCEEDED, **figures: Any) -> BenchmarkReport:
    measured: dict[str, Any] = {
        "performance": MeasuredPerformance(
            tokens_per_second=TPS,
            system_time_per_token_milliseconds=1000 / TPS,
            time_per_output_token_milliseconds=TPOT,
            window_seconds=10.0,
            samples=160,
            measured_at="2026-01-01T00:00:00+00:00",
        ),
        "metrics": (
            MetricSpread(name="tokensPerSecond", median=TPS, lowest=190.0, highest=220.0),
            MetricSpread(name="systemTimePerTokenMilliseconds", median=5.0, lowest=4.5, highest=5.3),
            MetricSpread(name="timePerOutputTokenMilliseconds", median=TPOT, lowest=39.0, highest=44.0),
        ),
        "stage_times": (StageTimes(index=0, compute_milliseconds=3.0, wait_milliseconds=1.0),),
    }
    return BenchmarkReport(
        run=run,
        state=state,
        repetition=5,
        repetitions=5,
        sequences_in_flight=8,
        micro_batch_size=3,
        micro_batches_in_flight=3,
        prompt_tokens=16,
        output_tokens=32,
        requests=32,
        **({**measured, **figures} if state is BenchmarkState.SUCCEEDED else figures),
    )


def tell(world: World, state: BenchmarkState = BenchmarkState.SUCCEEDED, **figures: Any) -> None:
    """Every pipeline is ready, and its rank 0 reports the benchmark that its environment names."""
    world.all_ready()
    for raw in world.all("Pod"):
        name, address = raw["metadata"]["name"], raw["status"]["podIP"]
        if name.endswith("-0"):
            run = variables(world, name.rpartition("-")[0])[RUN]
            told = report(run, state, **figures)
            world.reports[address] = world.reports[address].model_copy(update={"benchmark": told})


async def finish(operator: Watched, **figures: Any) -> None:
    tell(operator.world, **figures)
    await operator.poll()
    await operator.settle()


async def benchmark(operator: Watched, **changes: Any) -> None:
    await operator.run(**{**SPEC, **changes})


def left(world: World) -> set[str]:
    return {key[0] for key in world.objects} - {"Node", "LayerwiseDeployment"}


async def test_the_workload_goes_to_the_workers_by_environment(operator: Watched, world: World) -> None:
    await benchmark(operator)
    told = variables(world)
    assert told[RUN]
    assert {key.removeprefix("LAYERWISE_BENCHMARK_"): told[key] for key in told if "BENCHMARK" in key} == {
        "RUN": told[RUN],
        "PROMPT_TOKENS": "16",
        "OUTPUT_TOKENS": "32",
        "REPETITIONS": "5",
        "REQUESTS": "32",
        "WARMUP_REQUESTS": "8",
        "TIME_LIMIT_SECONDS": "3600",
        "SEED": "0",
    }


async def test_while_it_runs_it_serves_nobody_and_says_how_far_it_is(operator: Watched, world: World) -> None:
    await benchmark(operator)
    tell(world, BenchmarkState.RUNNING)
    await operator.poll()
    await operator.settle()
    assert world.status()["phase"] == "Running"
    assert world.condition("Ready")["status"] == "True"
    assert world.condition("Available")["reason"] == "Benchmark"
    assert world.condition("Progressing")["message"] == "pipeline 0: repetition 5 of 5"
    assert (world.condition("Complete")["status"], world.condition("Complete")["reason"]) == (
        "False",
        "Benchmarking",
    )
    assert "performance" not in world.status()
    assert [raw["metadata"]["name"] for raw in world.all("Service")] == ["demo-0-ranks"]


async def test_the_result_stays_and_the_pods_go(operator: Watched, world: World) -> None:
    await benchmark(operator)
    await finish(operator)
    status = world.status()
    assert (status["phase"], status["stages"], status["replicas"]) == ("Succeeded", "0/3", 0)
    assert world.condition("Complete")["status"] == "True"
    assert {world.condition(name)["reason"] for name in ("Complete", "Ready", "Progressing")} == {
        "BenchmarkFinished"
    }
    assert world.condition("Planned")["status"] == "True"
    assert left(world) == {"ConfigMap"}
    assert status["performance"]["tokensPerSecond"] == "200"
    assert status["performance"]["timePerOutputTokenMilliseconds"] == "40"
    assert status["performance"]["perStageMilliseconds"][0]["compute"] == "3"
    ended = status["benchmark"]
    assert ended["metrics"][0] == {
        "name": "tokensPerSecond",
        "median": "200",
        "lowest": "190",
        "highest": "220",
    }
    assert "batch is 8 sequences in flight" in ended["reading"]
    assert ended["reading"].endswith("as 3 micro-batches of at most 3")
    predicted = float(status["plan"]["predicted"]["workloadTokensPerSecond"])
    assert float(ended["predictedTokensPerSecond"]) == pytest.approx(predicted)
    error = 100 * (predicted - TPS) / TPS
    assert float(ended["tokensPerSecondErrorPercent"]) == pytest.approx(error, rel=0.01)
    assert world.events[-1].reason == "BenchmarkFinished"
    assert world.events[-1].type == "Normal"
    assert "NotReady" not in [note.reason for note in world.events if note.type == "Warning"]


async def test_the_result_is_written_before_anything_is_removed(operator: Watched, world: World) -> None:
    await benchmark(operator)
    tell(world)
    await operator.poll()
    before = len(world.writes)
    requeue = await operator.converge()
    assert world.writes[before:] == ["status demo"]
    assert requeue == 0.0
    await operator.settle()
    assert "delete StatefulSet demo-0" in world.writes[before + 1 :]


async def test_at_rest_after_the_end_nothing_is_written(operator: Watched, world: World) -> None:
    await benchmark(operator)
    await finish(operator)
    written = len(world.writes)
    operator.restart()
    for _ in range(3):
        world.pass_time(3600)
        await operator.poll()
        await operator.converge()
    assert len(world.writes) == written


async def test_a_finished_benchmark_needs_no_cluster(operator: Watched, world: World) -> None:
    await benchmark(operator)
    await finish(operator)
    for name in ("node-a", "node-b"):
        world.remove("Node", name, "")
    operator.restart()
    await operator.settle()
    assert world.status()["phase"] == "Succeeded"
    assert world.status()["performance"]["tokensPerSecond"] == "200"


@pytest.mark.parametrize(
    "change",
    [
        {"suspend": True},
        {"failurePolicy": {"maxGroupRestarts": 3}},
        {"serving": {"port": 9000}},
        {"benchmark": {"repetitions": 5, "timeLimitSeconds": 3600}},
    ],
)
async def test_a_change_of_nothing_that_is_measured_runs_nothing_again(
    operator: Watched, world: World, change: dict[str, Any]
) -> None:
    await benchmark(operator)
    await finish(operator)
    await benchmark(operator, **change)
    assert world.status()["phase"] == "Succeeded"
    assert world.all("StatefulSet") == []


@pytest.mark.parametrize(
    "change",
    [
        {"workload": {"concurrency": 4}},
        {"benchmark": {"repetitions": 6}},
        {"model": {"synthetic": {**DENSE, "seed": 1}}},
        {"strategy": {"stages": 2}},
    ],
)
async def test_a_change_of_what_is_measured_runs_it_anew(
    operator: Watched, world: World, change: dict[str, Any]
) -> None:
    await benchmark(operator)
    await finish(operator)
    await benchmark(operator, **change)
    assert world.status()["phase"] == "Running"
    assert "performance" not in world.status()
    assert "benchmark" not in world.status()
    await finish(operator)
    assert world.status()["phase"] == "Succeeded"


async def test_the_restart_annotation_runs_it_anew(operator: Watched, world: World) -> None:
    await benchmark(operator)
    await finish(operator)
    first = world.status()["benchmark"]["run"]
    raw = world.objects["LayerwiseDeployment", "default", "demo"]
    raw["metadata"]["annotations"] = {names.RESTART: "1"}
    world.touch(raw)
    await operator.settle()
    assert world.all("StatefulSet") != []
    await finish(operator)
    assert world.status()["phase"] == "Succeeded"
    assert world.status()["benchmark"]["run"] != first


async def test_a_result_of_another_run_is_none(operator: Watched, world: World) -> None:
    await benchmark(operator)
    world.all_ready()
    for address, told in world.reports.items():
        world.reports[address] = told.model_copy(update={"benchmark": report("another")})
    await operator.poll()
    await operator.settle()
    assert world.status()["phase"] == "Running"


async def test_suspending_during_it_removes_the_pods_and_resuming_runs_it(
    operator: Watched, world: World
) -> None:
    await benchmark(operator)
    tell(world, BenchmarkState.RUNNING)
    await operator.poll()
    await benchmark(operator, suspend=True)
    assert world.status()["phase"] == "Suspended"
    assert world.all("StatefulSet") == []
    await benchmark(operator)
    await finish(operator)
    assert world.status()["phase"] == "Succeeded"


async def test_deleting_during_it_leaves_nothing(operator: Watched, world: World) -> None:
    await benchmark(operator)
    world.remove("LayerwiseDeployment", "demo")
    assert await operator.converge() is None
    assert left(world) == set()


async def test_a_failure_is_failed_with_its_reason_and_frees_the_accelerators(
    operator: Watched, world: World
) -> None:
    await benchmark(operator)
    await finish(operator, state=BenchmarkState.FAILED, reason="BenchmarkTimedOut", message="too slow")
    assert world.status()["phase"] == "Failed"
    assert world.condition("Complete")["reason"] == "BenchmarkTimedOut"
    assert world.condition("Ready")["message"] == "too slow"
    assert "performance" not in world.status()
    assert left(world) == {"ConfigMap"}
    assert next(note for note in world.events if note.reason == "BenchmarkTimedOut").type == "Warning"


async def test_two_pipelines_end_together_and_add_up(operator: Watched, world: World) -> None:
    await benchmark(operator, replicas=2)
    tell(world)
    run = variables(world)[RUN]
    [second] = [raw for raw in world.all("Pod") if raw["metadata"]["name"] == "demo-1-0"]
    address = second["status"]["podIP"]
    waiting = report(run, BenchmarkState.RUNNING)
    world.reports[address] = world.reports[address].model_copy(update={"benchmark": waiting})
    await operator.poll()
    await operator.settle()
    assert world.status()["phase"] == "Running"
    await finish(operator)
    status = world.status()
    assert status["performance"]["tokensPerSecond"] == "400"
    assert status["performance"]["timePerOutputTokenMilliseconds"] == "40"
    metrics = {metric["name"]: metric for metric in status["benchmark"]["metrics"]}
    assert metrics["tokensPerSecond"]["lowest"] == "380"
    assert metrics["systemTimePerTokenMilliseconds"]["median"] == "2.5"
    assert status["benchmark"]["sequencesInFlight"] == 16


async def test_from_benchmark_to_serving_its_figures_are_gone(operator: Watched, world: World) -> None:
    await benchmark(operator)
    await finish(operator)
    await operator.run(model={"synthetic": DENSE})
    status = world.status()
    assert status["phase"] == "Running"
    assert "performance" not in status
    assert "benchmark" not in status
    assert "Complete" not in {condition["type"] for condition in status["conditions"]}
    assert "demo" in {raw["metadata"]["name"] for raw in world.all("Service")}


async def start(spec: dict[str, Any]) -> Watched:
    world = World()
    for name in ("node-a", "node-b"):
        world.put(node(name))
    operator = Watched(world)
    world.put(deployment(**spec))
    return operator


async def live(operator: Watched, runs: list[str]) -> None:
    """Bring it up and let it finish; pods that a run needs are told apart by their uids."""
    for _ in range(8):
        await operator.settle(passes=12)
        if operator.world.all("StatefulSet"):
            tell(operator.world)
            runs.extend(raw["metadata"]["uid"] for raw in operator.world.all("Pod"))
            await operator.poll()
    await operator.settle()


async def test_a_death_between_any_two_writes_neither_loses_the_result_nor_runs_it_twice(
    record_property: Callable[[str, object], None],
) -> None:
    operator = await start(SPEC)
    await live(operator, [])
    wanted = operator.world.status()
    assert wanted["phase"] == "Succeeded"
    for writes in range(60):
        operator, runs = await start(SPEC), list[str]()
        died = await until_death(operator, lambda: live(operator, runs), writes)  # noqa: B023 - called at once
        operator.restart()
        await live(operator, runs)
        status = operator.world.status()
        assert left(operator.world) == {"ConfigMap"}, f"after a death behind write {writes}"
        assert len(set(runs)) == 3, f"after a death behind write {writes}"
        assert (status["phase"], status["performance"]) == ("Succeeded", wanted["performance"])
        assert status["benchmark"]["run"] == wanted["benchmark"]["run"]
        assert operator.world.condition("Complete")["status"] == "True"
        if not died:
            break
    else:
        raise AssertionError("the step never ended")
    assert writes >= 8
    record_property("deaths", writes)
