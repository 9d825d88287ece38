"""Signals: handled in every phase, never within a step; the state is saved, and the resumed run is the same."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests import kills
from tests.conftest import Train
from tests.shell import TRAIN
from trainer.config import ConfigError
from trainer.processes import signals
from trainer.processes.signals import INTERRUPTED, TERMINATED, Interrupts, Stopped, defer_in_data_worker, seconds

# Components that take their time in the phase that the variable SLOW names, so that a signal is sure to fall into it.
SLOW = '''
import dataclasses
import os
import time
from pathlib import Path

from torch import nn

from trainer.data.augment_images import OFF
from trainer.data import Data, Split
from trainer.dataset import DATASETS
from trainer.dataset.digits import digits
from trainer.model import MODELS


def wait(phase, seconds=100.0):
    if os.environ.get("SLOW") == phase:
        Path("phase").write_text(phase)
        time.sleep(seconds)


@DATASETS.register
def slow(seed: int) -> Data:
    """Digits that take their time."""
    wait("start")
    data = digits(seed, val_fraction=0.15, val_seed=None, sampler="shuffle", in_memory=False, workers=0, augment=OFF)
    whole = data.train.source

    class Source:
        targets = whole.targets

        def fetch(self, positions):
            if len(positions) == 64 and data.train.positions[0] not in positions:
                wait("load")
            return whole.fetch(positions)

    return dataclasses.replace(data, train=Split(Source(), data.train.positions), normalise=None)


@MODELS.register
class Slow(nn.Module):
    """A layer that takes its time."""

    def __init__(self, spec):
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Dropout(0.3), nn.Linear(32, 10))

    def forward(self, inputs):
        if self.training:
            wait("step", 0.7)
            wait("long step", 30.0)
        else:
            wait("evaluation")
        return self.layers(inputs.float())
'''
COMMAND = [*TRAIN, "logger=none", "batch_size=64", "epochs=2", "run_dir=run"]
PLUGIN = ["plugins=[slow.py]", "dataset=slow", "model=slow", "resume=auto"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "slow.py").write_text(SLOW)
    return tmp_path


def wait_for(process: subprocess.Popen[str], condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)


def start(folder: Path, *words: str, slow: str = "") -> subprocess.Popen[str]:
    """Start the command so that a phase takes long."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "SLOW": slow}
    return subprocess.Popen(
        [*COMMAND, *words], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )


def start_in(folder: Path, phase: str, *words: str) -> subprocess.Popen[str]:
    """Start the command, and wait until it is in a phase that takes long."""
    mark = folder / "phase"
    mark.unlink(missing_ok=True)
    process = start(folder, *PLUGIN, *words, slow=phase)
    wait_for(process, mark.exists)
    time.sleep(0.2)
    return process


PHASES = ("start", "load", "step", "evaluation")


@pytest.mark.parametrize(
    ("phase", "number", "code"),
    [
        ("step", signal.SIGINT, INTERRUPTED),
        *(pytest.param(phase, signal.SIGTERM, TERMINATED, marks=pytest.mark.slow) for phase in PHASES),
        *(pytest.param(phase, signal.SIGINT, INTERRUPTED, marks=pytest.mark.slow) for phase in PHASES),
        *(pytest.param(phase, signal.SIGUSR1, TERMINATED, marks=pytest.mark.slow) for phase in PHASES),
    ],
)
def test_a_signal_is_heard_in_every_phase_and_saves(folder: Path, phase: str, number: int, code: int) -> None:
    process = start_in(folder, phase)
    sent = time.monotonic()
    process.send_signal(number)
    out, errors = process.communicate(timeout=60)
    assert process.returncode == code, errors
    assert time.monotonic() - sent < 15
    assert len(errors.splitlines()) == 1 and errors.startswith("train: "), errors
    last = folder / "run" / "checkpoints" / "last.pt"
    assert last.exists() == (phase != "start")
    if phase != "start":
        assert '"state": "stopped"' in (folder / "run" / "summary.json").read_text()
        assert "next     train resume=run" in out
        progress = torch.load(last, weights_only=True)["progress"]
        expected = {"load": range(1), "step": range(1, 3), "evaluation": [21]}[phase]
        assert progress["step"] in expected and progress["evaluated"] == 0


@pytest.mark.slow
def test_a_run_that_compiles_is_left_at_once_and_goes_on(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "TORCHINDUCTOR_CACHE_DIR": str(cache)}
    words = [*COMMAND, "compile=true", "resume=auto"]
    process = subprocess.Popen(
        words, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=environment
    )
    wait_for(process, lambda: any(cache.rglob("*.cpp")))
    sent = time.monotonic()
    process.terminate()
    _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (TERMINATED, "train: terminated (SIGTERM)\n")
    assert time.monotonic() - sent < 6  # compiling takes more than 10
    assert torch.load(tmp_path / "run" / "checkpoints" / "last.pt", weights_only=True)["step"] == 0
    again = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, env=environment, check=False)
    assert again.returncode == 0, again.stderr
    (tmp_path / "run").rename(tmp_path / "parts")
    whole = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, env=environment, check=False)
    assert whole.returncode == 0, whole.stderr
    assert kills.lines(tmp_path / "run" / "metrics.jsonl") == kills.lines(tmp_path / "parts" / "metrics.jsonl")


@pytest.mark.slow
def test_what_goes_on_after_a_signal_in_any_phase_ends_as_if_there_had_been_none(folder: Path) -> None:
    whole = start(folder, *PLUGIN)
    assert whole.wait(timeout=120) == 0
    (folder / "run").rename(folder / "whole")
    for phase in ("load", "step", "evaluation"):
        process = start_in(folder, phase)
        process.terminate()
        assert process.wait(timeout=60) == TERMINATED, phase
    last = start(folder, *PLUGIN)
    assert last.wait(timeout=120) == 0, last.communicate()[1]
    assert kills.lines(folder / "run" / "metrics.jsonl") == kills.lines(folder / "whole" / "metrics.jsonl")
    states = [torch.load(folder / name / "checkpoints" / "last.pt", weights_only=True) for name in ("run", "whole")]
    assert kills.plain(states[0]["model"]) == kills.plain(states[1]["model"])
    assert kills.plain(states[0]["random"]) == kills.plain(states[1]["random"])


@pytest.mark.slow
def test_a_second_ctrl_c_ends_at_once(folder: Path) -> None:
    process = start_in(folder, "long step")
    process.send_signal(signal.SIGINT)
    time.sleep(0.5)
    assert process.poll() is None, "the step is finished first"
    sent = time.monotonic()
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=20)
    assert (process.returncode, time.monotonic() - sent < 5) == (INTERRUPTED, True)
    assert errors.strip() == "train: interrupted"


@pytest.mark.slow
def test_max_time_does_the_same_by_the_clock(folder: Path) -> None:
    process = start(folder, *PLUGIN, "max_time=8s", slow="evaluation")
    out, errors = process.communicate(timeout=100)
    assert (process.returncode, errors) == (TERMINATED, "train: max_time is over\n")
    assert "next     train resume=run" in out
    assert torch.load(folder / "run" / "checkpoints" / "last.pt", weights_only=True)["progress"]["step"] == 21


@pytest.mark.slow
def test_ctrl_c_in_a_terminal_reaches_the_data_workers_too_and_harms_nothing(folder: Path) -> None:
    words = ["dataset.in_memory=false", "dataset.workers=2", "epochs=1000", "batch_size=32"]
    process = subprocess.Popen(
        [*COMMAND, *words],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    wait_for(process, (folder / "run" / "checkpoints" / "last.pt").exists)
    os.killpg(process.pid, signal.SIGTERM)  # to all, as a scheduler does
    _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (TERMINATED, "train: terminated (SIGTERM)\n")
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:  # the workers are gone too
        try:
            os.killpg(process.pid, 0)
        except ProcessLookupError:
            return
        time.sleep(0.1)
    pytest.fail("a data worker is left")


def test_a_data_worker_of_a_run_with_max_time_ends_a_while_after_sigterm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signals, "GRACE", 1)
    with Interrupts("1h"):
        child = os.fork()
        if child == 0:
            defer_in_data_worker()
            signal.raise_signal(signal.SIGTERM)
            time.sleep(10)
            os._exit(7)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGALRM


@pytest.mark.slow
def test_a_signal_ends_a_sweep_and_the_clock_only_its_job(train: Train) -> None:
    result = train("--multirun", "seed=0,1", "max_time=4s", "epochs=100000", "logger=none", "hydra.sweep.dir=sweep")
    assert result.code == TERMINATED
    for job in ("0-seed=0", "1-seed=1"):
        assert '"stopped"' in (result.folder / "sweep" / job / "summary.json").read_text()


def test_a_block_that_is_held_is_finished_first() -> None:
    story: list[str] = []
    with pytest.raises(Stopped) as caught, Interrupts() as interrupts:
        with interrupts.held:
            signal.raise_signal(signal.SIGTERM)
            story.append("finished")
        story.append("never")
    assert (story, caught.value.code, caught.value.whole) == (["finished"], TERMINATED, True)


def test_an_error_within_it_is_laid_to_the_signal_and_nothing_is_to_be_saved() -> None:
    with pytest.raises(Stopped) as caught, Interrupts() as interrupts, interrupts.held:
        signal.raise_signal(signal.SIGINT)
        raise RuntimeError("a compiler was killed")
    assert (caught.value.code, caught.value.whole) == (INTERRUPTED, False)


def test_the_handlers_of_before_come_back_and_a_child_is_left_alone() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with Interrupts():
        child = os.fork()
        if child == 0:
            signal.raise_signal(signal.SIGTERM)
            os._exit(7)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_signal_that_was_swallowed_is_raised_when_a_run_begins() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Stopped) as caught, Interrupts():
        with contextlib.suppress(Stopped):  # as a destructor does
            signal.raise_signal(signal.SIGTERM)
        with Interrupts():
            pytest.fail("it begins")
    assert caught.value.code == TERMINATED
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.slow
def test_a_signal_at_any_moment_of_the_start_ends_with_its_code(tmp_path: Path) -> None:
    for wait in (0.4, 0.7, 1.2):
        process = start(tmp_path, "resume=auto", "epochs=1000000")
        time.sleep(wait)
        process.terminate()
        _, errors = process.communicate(timeout=60)
        assert (process.returncode, errors) == (TERMINATED, "train: terminated (SIGTERM)\n"), wait


def test_nohup_stays_nohup() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Interrupts():
            signal.raise_signal(signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)


def test_in_another_thread_nothing_is_listened_to_and_max_time_is_refused() -> None:
    found: list[str] = []

    def other() -> None:
        with Interrupts():
            found.append("quiet")
        try:
            Interrupts("1s").__enter__()
        except ConfigError as error:
            found.append(str(error))

    thread = threading.Thread(target=other)
    thread.start()
    thread.join()
    assert found[0] == "quiet" and found[1].startswith("max_time: needs the main thread")


@pytest.mark.parametrize(("text", "wanted"), [("90s", 90), ("1h30m", 5400), ("2d", 172800), ("1d1h1m1s", 90061)])
def test_durations(text: str, wanted: int) -> None:
    assert seconds(text) == wanted


@pytest.mark.parametrize("text", ["0s", "90", "1.5h", "h", "30m1h", "-1h", "''"])
def test_what_is_no_duration_is_refused(train: Train, text: str) -> None:
    result = train(f"max_time={text}")
    assert result.code == 2
    assert "train: error: max_time: must be a string, days, hours, minutes and seconds such as 1d12h" in result.err
