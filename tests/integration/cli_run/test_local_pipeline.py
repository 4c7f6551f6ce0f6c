"""`layerwise run --local` and `layerwise bench --local` with real ranks, from the outside."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil
import pytest
from tests.unit.worker_support.tiny_models import save_llama, write_tokenizer

pytestmark = [pytest.mark.chaos, pytest.mark.slow, pytest.mark.timeout(600)]
LAYERWISE = (sys.executable, "-m", "layerwise_cli")
READY_SECONDS = 240


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("tiny")
    save_llama(directory)
    write_tokenizer(directory)
    return directory


class Run:
    """A `layerwise run` whose output is read as it comes."""

    def __init__(self, output: Path, *arguments: str) -> None:
        self._output = output
        with output.open("wb") as file:
            self.process = subprocess.Popen(
                [*LAYERWISE, "run", "--local", *arguments], stdout=file, stderr=subprocess.STDOUT
            )

    @property
    def said(self) -> str:
        return self._output.read_text()

    @property
    def url(self) -> str:
        found = re.search(r"http://127\.0\.0\.1:\d+", self.said)
        assert found is not None, self.said
        return found[0]

    def ranks(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children()

    def family(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)

    def until(self, condition: Callable[[], bool], seconds: float = READY_SECONDS) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, self.said
            assert self.process.poll() is None, self.said
            time.sleep(0.05)

    def complete(self, **settings: object) -> str:
        body = {"model": "tiny", "prompt": [5, 6, 7], "max_tokens": 12, "temperature": 0, **settings}
        body["model"] = httpx.get(f"{self.url}/v1/models", timeout=30).json()["data"][0]["id"]
        answer = httpx.post(f"{self.url}/v1/completions", json=body, timeout=120)
        assert answer.status_code == 200, answer.text
        text: str = answer.json()["choices"][0]["text"]
        return text


@contextmanager
def running(output: Path, *arguments: str) -> Iterator[Run]:
    run = Run(output, "--port", "0", "--threads", "1", *arguments)
    try:
        yield run
    finally:
        run.process.kill()
        run.process.wait()


def gone(processes: list[psutil.Process]) -> bool:
    return not psutil.wait_procs(processes, timeout=20)[1]


def test_a_pipeline_serves_mends_itself_and_drains_without_a_trace(model: Path, tmp_path: Path) -> None:
    with running(tmp_path / "out", "--model-dir", str(model), "--stages", "2", "--dtype", "Float32") as run:
        run.until(lambda: "ready:" in run.said)
        before = run.complete()

        victim = run.ranks()[1]
        victim.kill()
        run.until(lambda: "has met again" in run.said)
        assert "ended by signal 9: starting it again" in run.said
        assert "the pipeline is interrupted" in run.said
        assert run.complete() == before

        family = run.family()
        assert len(family) == 4
        run.process.send_signal(signal.SIGINT)
        assert run.process.wait(60) == 0
        assert gone(family)
        assert "no process is left" in run.said


def test_a_rank_leaves_with_the_process_that_started_it(model: Path, tmp_path: Path) -> None:
    with running(tmp_path / "out", "--model-dir", str(model), "--stages", "2") as run:
        run.until(lambda: len(run.family()) == 4)
        family = run.family()
        run.process.kill()
        assert gone(family)


def test_a_request_that_runs_is_finished_before_the_end(model: Path, tmp_path: Path) -> None:
    with running(tmp_path / "out", "--model-dir", str(model)) as run:
        run.until(lambda: "ready:" in run.said)
        name = httpx.get(f"{run.url}/v1/models", timeout=30).json()["data"][0]["id"]
        body = {"model": name, "prompt": [5], "max_tokens": 200, "ignore_eos": True, "stream": True}
        with httpx.stream("POST", f"{run.url}/v1/completions", json=body, timeout=120) as answer:
            lines = answer.iter_lines()
            assert next(lines).startswith("data:")
            run.process.terminate()
            rest = list(lines)
        assert rest[-2] == "data: [DONE]" or "data: [DONE]" in rest
        assert run.process.wait(60) == 0


def test_what_a_rank_refuses_is_one_line_and_exit_status_2(model: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    broken.mkdir()
    for file in model.iterdir():
        if file.name != "tokenizer.json":
            (broken / file.name).write_bytes(file.read_bytes())
    done = subprocess.run(
        [*LAYERWISE, "run", "--local", "--model-dir", str(broken), "--port", "0"],
        capture_output=True,
        text=True,
        timeout=READY_SECONDS,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("layerwise: InvalidModel: rank 0:")
    assert "tokenizer.json" in done.stderr
    assert done.stderr.count("\n") == 1


def bench(*arguments: str) -> dict[str, object]:
    done = subprocess.run(
        [*LAYERWISE, "bench", "--local", "-o", "json", *arguments],
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    report: dict[str, object] = json.loads(done.stdout)
    return report


def test_local_ranks_are_measured_and_stopped(model: Path) -> None:
    report = bench(
        *("--model-dir", str(model), "--stages", "2", "--threads", "1", "--dtype", "Float32"),
        *("--concurrency", "4", "--requests", "8", "--prompt-tokens", "6", "--output-tokens", "8"),
        *("--repetitions", "2"),
    )
    requests, target, metrics = report["requests"], report["target"], report["metrics"]
    assert isinstance(requests, dict)
    assert isinstance(target, dict)
    assert isinstance(metrics, dict)
    assert (requests["finished"], requests["failed"], requests["ignoreEos"]) == (16, 0, True)
    assert requests["outputTokens"] == {"mean": 8, "lowest": 8, "highest": 8}
    assert (target["device"], target["dtype"], target["threadsPerRank"], target["stages"]) == (
        *("CPU", "Float32"),
        *(1, 2),
    )
    assert target["transport"] == "Gloo"
    usable = os.sched_getaffinity(0)
    # None are where other pipelines have them.
    assert not target["boundToCores"] or (
        len(target["boundToCores"]) == 2 and usable.issuperset(target["boundToCores"])
    )
    assert all(spread["median"] > 0 for spread in metrics.values())


def test_smollm2_is_measured_over_two_stages(smollm2_directory: Path) -> None:
    report = bench(
        *("--model-dir", str(smollm2_directory), "--stages", "2", "--threads", "1"),
        *("--concurrency", "4", "--requests", "4", "--prompt-tokens", "16", "--output-tokens", "8"),
        *("--repetitions", "1"),
    )
    requests, target = report["requests"], report["target"]
    assert isinstance(requests, dict)
    assert isinstance(target, dict)
    assert requests["finished"] == 4
    assert requests["promptTokens"] == {"mean": 16, "lowest": 16, "highest": 16}
    assert [times["index"] for times in target["stageTimes"]] == [0, 1]
