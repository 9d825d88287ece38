"""The table and the trace of profiled runs, however the runs end."""

from __future__ import annotations

import gzip
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from tests import kills
from tests.conftest import REPOSITORY, Train
from tests.shell import TRAIN, run
from trainer import profiler

STOPPING = """
import os, signal, sys
import cli
from trainer.engine import Engine

step = Engine.train_step

def train_step(self, batch):
    step(self, batch)
    if self.progress.step == {}:
        os.kill(os.getpid(), signal.SIGINT)

Engine.train_step = train_step
sys.exit(cli.main())
"""
SMALL = ("model.channels=[8]", "model.hidden=16", "logger=none")
HEADER = re.compile(
    r"profile  steps? (\d+)(?: to (\d+))?: ([\d.]+) ms a step, (\d+) % of it in operators on the CPU, most in"
)
OPERATOR = re.compile(r"profile  +([\d.]+) % +([\d.]+) ms +([\d.e+]+) ×  (\S.*)")


def trace(run_dir: Path) -> list[dict[str, Any]]:
    """Return the events of the trace of a run."""
    with gzip.open(run_dir / "profile" / "trace.json.gz", "rt", encoding="utf-8") as file:
        events: list[dict[str, Any]] = json.load(file)["traceEvents"]
    return events


def steps(run_dir: Path) -> int:
    """Return the number of steps in a trace."""
    names = {event["name"] for event in trace(run_dir) if event.get("cat") == "user_annotation"}
    return sum(name.startswith("ProfilerStep#") for name in names)


def table(text: str) -> tuple[list[int], list[tuple[float, float, float, str]]]:
    """Return the first and the last step, and share, milliseconds, calls and name of each operator."""
    lines = [line for line in text.splitlines() if line.startswith("profile  ")]
    header = HEADER.match(lines[0])
    assert header is not None, lines[0]
    first, last = int(header[1]), int(header[2] or header[1])
    rows = [match for line in lines if (match := OPERATOR.fullmatch(line))]
    for share, milliseconds, *_ in (row.groups() for row in rows):
        assert float(share) == pytest.approx(100 * float(milliseconds) / float(header[3]), abs=0.2)
    assert sum(float(row[1]) for row in rows) <= int(header[4]) + 2
    return [first, last], [(float(row[1]), float(row[2]), float(row[3]), row[4]) for row in rows]


def test_a_run_shows_the_ten_operators_that_take_longest_and_keeps_a_trace(train: Train) -> None:
    result = train("profile=true", "epochs=1", "batch_size=32", *SMALL)  # 41 steps
    assert (result.code, result.err) == (0, "")
    (first, last), rows = table(result.out)
    assert (first, last) == (13, 32)  # ten skipped, two to warm up, twenty recorded
    assert len(rows) == 10
    assert [row[1] for row in rows] == sorted((row[1] for row in rows), reverse=True)
    calls = {name: calls for _, _, calls, name in rows}
    assert calls["aten::convolution_backward"] == 1  # of one layer in each step
    assert not any(name.startswith("ProfilerStep") for name in calls)
    events = trace(result.run_dir)
    assert {"aten::convolution_backward", "aten::mm"} <= {event["name"] for event in events}
    assert steps(result.run_dir) == 20
    lines = [line for line in result.out.splitlines() if line.startswith("profile  ")]
    assert lines[-1].startswith(f"profile  trace: {result.run_dir.relative_to(result.folder)}/profile/trace.json.gz")
    assert len(lines) == 12 and max(map(len, lines)) <= 120
    log = (result.run_dir / "train.log").read_text()
    assert all(line in log for line in lines)


def test_a_profile_changes_no_bit(train: Train) -> None:
    one, other = train("profile=true", "epochs=2", *SMALL), train("epochs=2", *SMALL)
    assert kills.lines(one.run_dir / "metrics.jsonl") == kills.lines(other.run_dir / "metrics.jsonl")
    assert "profile" not in other.out
    assert not (other.run_dir / "profile").exists()


def test_the_evaluation_is_no_part_of_the_last_step(train: Train) -> None:
    result = train("profile=true", "epochs=2", "batch_size=128", *SMALL)  # 11 steps in an epoch
    assert table(result.out)[0] == [6, 10]  # three skipped, two to warm up, and the last one has the evaluation
    assert steps(result.run_dir) == 5
    lines = result.out.splitlines()
    assert lines.index(next(line for line in lines if line.startswith("profile"))) == 5  # after the first epoch
    names = [event["name"] for event in trace(result.run_dir)]
    assert names.count("aten::convolution_backward") == names.count("aten::mkldnn_convolution") == 5


@pytest.mark.parametrize(
    ("words", "recorded"),
    [(("max_steps=1",), [1, 1]), (("max_steps=2",), [2, 2]), (("max_steps=5",), [4, 4]), (("max_steps=15",), [8, 14])],
)
def test_of_a_short_run_there_is_what_there_is(train: Train, words: tuple[str, ...], recorded: list[int]) -> None:
    result = train("profile=true", *words, *SMALL)
    assert (result.code, result.err) == (0, "")
    assert table(result.out)[0] == recorded
    assert steps(result.run_dir) == recorded[1] - recorded[0] + 1


def test_a_dry_run_shows_its_one_step_and_keeps_nothing(train: Train) -> None:
    result = train("profile=true", "dry_run=true", *SMALL)
    assert (result.code, result.err) == (0, "")
    assert table(result.out)[0] == [1, 1]
    assert "trace" not in result.out
    assert list(result.folder.iterdir()) == []


@pytest.mark.slow
def test_data_workers_are_not_recorded_but_waiting_for_them_is(tmp_path: Path) -> None:
    words = ["dataset.in_memory=false", "dataset.workers=2", "max_steps=12", "batch_size=32", "run_dir=here"]
    code, out, errors = run([*TRAIN, "profile=true", *words, *SMALL], tmp_path)
    assert (code, errors) == (0, "")
    assert steps(tmp_path / "here") == 5
    events = trace(tmp_path / "here")
    assert any("DataLoader" in event["name"] for event in events)
    assert len({event["pid"] for event in events if event["name"].startswith("aten::")}) == 1
    assert "data " in out


@pytest.mark.slow
def test_of_several_processes_the_first_is_recorded(tmp_path: Path) -> None:
    words = ["device=ddp", "device.processes=2", "epochs=1", "run_dir=here"]
    code, out, errors = run([*TRAIN, "profile=true", *words, *SMALL], tmp_path)
    assert (code, errors) == (0, "")
    assert len([line for line in out.splitlines() if HEADER.match(line)]) == 1
    assert steps(tmp_path / "here") == 11


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["early", "late"])
def test_a_run_that_is_stopped_saves_first_and_then_shows_what_there_is(tmp_path: Path, moment: str) -> None:
    program = STOPPING.format(5 if moment == "early" else 15)
    words = ["profile=true", "batch_size=32", "run_dir=here", *SMALL]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", program, *words]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (130, "train: interrupted\n")
    saved = torch.load(tmp_path / "here" / "checkpoints" / "last.pt", weights_only=True)["step"]
    if moment == "early":
        assert saved == 5
        assert "profile  the training ended before a step was recorded\n" in done.stdout
    else:
        assert saved == 15
        assert table(done.stdout)[0] == [13, 15]
        assert steps(tmp_path / "here") == 3
    assert done.stdout.index("profile  ") < done.stdout.index("stopped  interrupted")
    # what goes on is cut after 15 of 41 steps of its first epoch, which has enough; its profile takes the other's place
    code, out, errors = run([*TRAIN, *words, "resume=auto", "epochs=2"], tmp_path)
    assert (code, errors) == (0, "")
    first = 13 + saved if moment == "early" else 41 + 13
    assert table(out)[0] == [first, first + 19]
    assert steps(tmp_path / "here") == 20


def test_a_trace_that_cannot_be_written_ends_nothing(train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("trainer.profiler._export", fails)
    result = train("profile=true", "max_steps=3", *SMALL)
    assert result.code == 0
    assert "No space left on device" in result.out + result.err
    assert len(table(result.out)[1]) == 10
    assert not list(result.run_dir.glob("profile/*"))


@pytest.mark.slow
def test_nobody_pays_for_a_profile_that_is_not_wanted(tmp_path: Path) -> None:
    code = "import sys, cli\ncli.main()\nsys.exit('trainer.profiler' in sys.modules)\n"
    for words, wanted in ((["max_steps=1"], 0), (["max_steps=1", "profile=true"], 1)):
        folder = tmp_path / str(wanted)
        folder.mkdir()
        environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
        command = [sys.executable, "-c", code, *words, *SMALL]
        assert (
            subprocess.run(command, cwd=folder, env=environment, capture_output=True, check=False).returncode == wanted
        )


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu_its_own_time_counts(train: Train) -> None:
    result = train("profile=true", "device=cuda", "epochs=1", *SMALL)
    assert result.code == 0, result.err
    assert " % of it in operators on the GPU, most in these:" in result.out
    assert "aten::convolution_backward" in result.out
    assert any(event.get("cat") == "kernel" for event in trace(result.run_dir))


def test_notices_of_the_profiler_are_dropped_and_errors_are_kept(capfd: pytest.CaptureFixture[str]) -> None:
    notices = [
        "USDT: registered",
        "ERROR:2026-11-28 00:33:47 20121:20121 DeviceProperties.cpp:56] gpuGetDeviceCount failed with code 35",
    ]
    with profiler._without_notices():
        os.write(2, "\n".join([notices[0], "an error", notices[1], ""]).encode())
    assert capfd.readouterr().err == "an error\n"
