"""The progress bar, the rates and the times of a run."""

from __future__ import annotations

import functools
import re
import signal
import subprocess
import sys
import time
from collections.abc import Generator, Mapping
from pathlib import Path

import pytest
import torch

from tests.conftest import REPOSITORY
from tests.shell import TRAIN
from tests.terminal import on_terminal
from trainer.config.progress_bar import ProgressBar
from trainer.logger import Logger
from trainer.recorder import Recorder

COMMAND = [*TRAIN, "logger=none"]


@pytest.fixture
def bar_of_every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw the bar at every step: an epoch may be shorter than tqdm's interval of 0.1 s."""
    monkeypatch.setattr(ProgressBar, "__init__", functools.partialmethod(ProgressBar.__init__, mininterval=0))


@pytest.mark.usefixtures("bar_of_every_step")
@pytest.mark.parametrize(
    ("columns", "ending"), [(120, r"\d+\.\d s  [\d,]+/s  data \d+ %  \* best"), (80, r"\d+\.\d s  \*")]
)
def test_a_terminal_gets_a_bar_that_goes_away_and_lines_that_fit(tmp_path: Path, columns: int, ending: str) -> None:
    shown = on_terminal(["logger=none", "epochs=2", "run_dir=here"], tmp_path, columns)
    assert shown.code == 0
    assert "epoch 1/2:" in shown.written
    assert re.search(r"batch/s, loss=\d\.\d{4}", shown.written)
    assert "run ends in 0" in shown.written
    lines = [line for line in shown.lines if line.startswith("epoch")]
    number = r"\d\.\d{4}"
    form = rf"epoch [12]/2  train loss {number}  val loss {number}  val accuracy {number}  "
    assert [bool(re.fullmatch(form + ending, line)) for line in lines] == [True, True]
    assert all(len(line) <= columns for line in shown.lines)
    assert not any("batch/s" in line or "loading" in line for line in shown.lines)
    log = (tmp_path / "here" / "train.log").read_text()  # keeps everything
    assert len(re.findall(rf"{form}.* s  [\d,]+/s  data \d+ %  \* best\n", log)) == 2


@pytest.mark.usefixtures("bar_of_every_step")
def test_ctrl_c_at_a_terminal_leaves_no_bar_over_the_last_lines(tmp_path: Path) -> None:
    typed = list[str]()

    def interrupt(written: str) -> bytes | None:
        if typed or "loss=" not in written:
            return None
        typed.append("^C")
        return b"\x03"

    shown = on_terminal(["logger=none", "epochs=1000", "run_dir=here"], tmp_path, 80, when=interrupt)
    assert shown.code == 130
    assert shown.lines[-4:] == ["stopped  interrupted", "next     train resume=here", "train: interrupted", ""]
    assert not any("batch/s" in line for line in shown.lines)


def test_ctrl_c_ends_with_130_and_keeps_the_last_checkpoint(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [*COMMAND, "epochs=1000", "run_dir=here"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 120
    while not (tmp_path / "here" / "checkpoints" / "best.pt").exists():
        assert time.monotonic() < deadline
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert errors == "train: interrupted\n"
    assert (tmp_path / "here" / "summary.json").read_text().count('"stopped"') == 1
    assert (tmp_path / "here" / "checkpoints" / "last.pt").exists()


class Points(Logger):
    """A logger that keeps the points in a list."""

    def __init__(self) -> None:
        self.points: list[dict[str, float]] = []

    def log(self, values: Mapping[str, float], step: int, epoch: int) -> None:
        self.points.append({"step": step, **values})


@pytest.fixture
def exact_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let time pass in ``time.sleep`` alone, so that the load of the machine changes no rate."""
    now = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(time, "sleep", lambda seconds: now.__setitem__(0, now[0] + seconds))


@pytest.mark.usefixtures("exact_clock")
def test_the_throughput_counts_training_time_alone() -> None:
    listener = Points()
    recorder = Recorder({"listener": listener}, num_epochs=2, monitor="accuracy")
    for epoch in (1, 2):
        recorder.start_epoch(epoch, 1, 0)
        recorder.count_step(100)
        time.sleep(0.05)
        recorder.log_training({"loss": 1.0}, lr=0.1, gradient_norm=2.0, step=epoch)
        time.sleep(0.3)  # an evaluation
        recorder.end_epoch({"loss": 1.0}, {"loss": 1.0, "accuracy": 0.5}, epoch, is_best=True)
    rates = [point["samples_per_second"] for point in listener.points if "samples_per_second" in point]
    assert rates == pytest.approx([2000, 2000])
    assert recorder.samples == 200


def slow(seconds: float, closed: list[float]) -> Generator[int, None, None]:
    """Yield numbers, each after some seconds."""
    try:
        for number in range(100):
            time.sleep(seconds)
            yield number
    finally:
        closed.append(seconds)


@pytest.mark.usefixtures("exact_clock")
def test_an_epoch_says_how_fast_it_was_and_how_long_it_waited_for_data() -> None:
    listener, closed = Points(), list[float]()
    recorder = Recorder({"listener": listener}, num_epochs=3, monitor="accuracy")
    for epoch, wait in ((1, 0.03), (2, 0.0)):
        recorder.start_epoch(epoch, 4, 0)
        for number in recorder.timed(slow(wait, closed), 4):
            time.sleep(0.01)
            recorder.count_step(10)
            if number % 2 == 1:
                recorder.log_training({"loss": 1.0}, lr=0.1, gradient_norm=2.0, step=number + 1)
        assert closed == [0.03, 0.0][:epoch]  # at once, and not when the next epoch begins
        time.sleep(0.2)  # an evaluation
        recorder.end_epoch({"loss": 1.0}, {"loss": 1.0, "accuracy": 0.5} if epoch == 1 else {}, 4, is_best=True)
    first, second = [point for point in listener.points if "epoch/data_wait" in point]
    assert first["val/loss"] == 1.0 and "val/loss" not in second  # one point, with a val split and without
    assert [each["epoch/data_wait"] for each in (first, second)] == pytest.approx([0.12 / 0.16, 0])
    assert [each["epoch/samples_per_second"] for each in (first, second)] == pytest.approx([40 / 0.16, 40 / 0.04])
    assert all(20 < point["epoch/peak_memory_mib"] < 50_000 for point in (first, second))
    assert recorder.peak_memory == second["epoch/peak_memory_mib"]


def test_an_epoch_of_which_only_the_evaluation_is_left_has_no_rates() -> None:
    listener = Points()
    recorder = Recorder({"listener": listener}, num_epochs=1, monitor="accuracy")
    recorder.start_epoch(1, 4, 4)
    assert list(recorder.timed(slow(0, []), 0)) == []
    recorder.end_epoch({"loss": 1.0}, {"loss": 1.0, "accuracy": 0.5}, 4, is_best=False)
    (point,) = listener.points
    assert point.keys() - {"epoch/peak_memory_mib"} == {"step", "val/loss", "val/accuracy"}


def test_loaders_with_too_few_batches_end_the_epoch() -> None:
    recorder = Recorder({}, num_epochs=1, monitor="accuracy")
    recorder.start_epoch(1, 4, 0)
    assert list(recorder.timed((number for number in range(3)), 4)) == [0, 1, 2]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_the_memory_of_an_epoch_is_that_of_its_tensors_on_the_gpu() -> None:
    listener, device = Points(), torch.device("cuda")
    recorder = Recorder({"listener": listener}, num_epochs=2, monitor="accuracy", device=device)
    for epoch, mebibytes in ((1, 64), (2, 16)):
        recorder.start_epoch(epoch, 1, 0)
        torch.empty(mebibytes * 2**20, dtype=torch.uint8, device=device)
        recorder.end_epoch({"loss": 1.0}, {}, epoch, is_best=True)
    first, second = (point["epoch/peak_memory_mib"] for point in listener.points)
    assert first - second == 48
    assert recorder.peak_memory == first


@pytest.mark.slow
def test_a_reader_that_leaves_early_changes_nothing(tmp_path: Path) -> None:
    command = (
        f"{sys.executable} {REPOSITORY / 'cli.py'} logger=none epochs=2 run_dir=here | head -1; echo ${{PIPESTATUS[0]}}"
    )
    done = subprocess.run(["bash", "-c", command], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["model    cnn, 53,002 parameters", "0"]
    assert done.stderr == ""
    assert "finished" in (tmp_path / "here" / "summary.json").read_text()
    command = f"{sys.executable} {REPOSITORY / 'cli.py'} --help | head -1"
    done = subprocess.run(["bash", "-c", command], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stderr == ""


def test_the_peak_memory_of_an_earlier_run_on_the_gpu_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    peak = {"bytes": 64 * 2**20}  # of an earlier run of this process
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: peak["bytes"])
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda device: peak.update(bytes=2**20))
    recorder = Recorder({}, num_epochs=1, monitor="accuracy", device=torch.device("cuda"))
    recorder.start_epoch(1, 1, 0)
    assert recorder.peak_memory == 1
