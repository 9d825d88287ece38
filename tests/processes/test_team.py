"""Several processes over gloo: the same training, one of everything, and what happens if a process fails."""

from __future__ import annotations

import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from tests import kills, two_machines
from tests.conftest import REPOSITORY, Train
from tests.shell import CLI, DDP, TRAIN, Processes, points, run, started, state, summary, torchrun
from trainer.processes.signals import INTERRUPTED, TERMINATED

WORDS = ("log_every=1", "logger=none", "seed=3")
# 1298 training samples, 229 of val, 270 of test: no batch size here divides any of them
SIZES = ("batch_size=67", "max_steps=42", "epochs=3")
FEW = ("dataset=synthetic", "dataset.samples=8", "dataset.val_fraction=0.25", "dataset.test_samples=2", "epochs=4")
CLOSE: dict[str, Any] = {
    "rel": 1e-5,
    "abs": 1e-7,
}  # of losses and gradient norms, float32 sums in another order; seen: 4e-7
WEIGHTS = 1e-5  # the largest difference of a weight; seen: 9e-7


def assert_same_training(one: Path, many: Path) -> None:
    """Check for the same losses and weights to rounding, and the same metrics to the last digit."""
    for name in ("train/loss", "val/loss", "test/loss", "gradient_norm"):
        assert len(points(one, name)) > 0
        assert points(many, name) == pytest.approx(points(one, name), **CLOSE), name
    for name in ("train/accuracy", "val/accuracy", "test/accuracy", "lr"):
        assert points(many, name) == points(one, name), name
    first, second = state(one), state(many)
    assert first["model"].keys() == second["model"].keys()
    for name, weight in first["model"].items():
        torch.testing.assert_close(second["model"][name], weight, rtol=0, atol=WEIGHTS, msg=name)
    assert first["step"] == second["step"]


def assert_one_of_everything(run_dir: Path) -> None:
    """Check that there is no second log, no event file of another process, and nothing half written."""
    names = {path.name for path in run_dir.iterdir()}
    expected = {"checkpoints", "config.yaml", "environment.json", "metrics.jsonl", "overrides.yaml", "summary.json"}
    assert names - {"tensorboard"} == expected | {"train.log"}
    assert len([line for line in (run_dir / "train.log").read_text().splitlines() if " INFO test " in line]) == 1


def sweep(folder: Path) -> list[Path]:
    """Return the run directories of the only sweep under outputs/."""
    (day,) = (folder / "outputs" / "sweeps").iterdir()
    (place,) = day.iterdir()
    assert [path.name for path in (folder / "outputs").iterdir()] == ["sweeps"]
    runs = sorted(path for path in place.iterdir() if path.is_dir() and path.name != "logs")
    files = {"logs", "overrides.yaml", "summary.csv", "summary.html"}
    assert {path.name for path in place.iterdir()} == {*(run.name for run in runs), *files}
    return runs


def test_two_processes_of_torchrun_train_as_one_does(train: Train, tmp_path: Path) -> None:
    code, out, errors = run([*torchrun(2), CLI, *WORDS, *SIZES, "--multirun", "model=cnn,gru", "ema=0.9"], tmp_path)
    assert code == 0, errors
    assert "train: " not in errors
    runs = sweep(tmp_path)
    for run_dir, model in zip(runs, ("cnn", "gru"), strict=True):
        assert_one_of_everything(run_dir)
        assert_same_training(train(*WORDS, *SIZES, f"model={model}", "ema=0.9").run_dir, run_dir)
    said = [log.read_text() for log in (runs[0].parent / "logs").iterdir()]
    assert "".join(said).count("device   ddp, 2 processes, cpu (1 thread), fp32") == len(runs) == 2
    assert out.count("val/accuracy 0.") >= 2


@pytest.mark.slow
def test_the_command_starts_its_processes_and_sweeps(train: Train, tmp_path: Path) -> None:
    words = (*SIZES, "log_every=1", "seed=3")
    # In half of all runs of 42 steps with normalisation, a value lies so close to 0 that its rounding decides a ReLU or
    # a maximum, and with it 1 % of a gradient; with these rates no value does.
    options = [
        "accumulate=3",
        "model.norm=batch",
        "optimizer=sgd",
        "loss.weight=balanced",
        "clip_norm=0.5",
        "dataset.augment.crop=1",
        "dataset.augment.mixup=0.2",
        "dataset.augment.cutmix=1.0",
    ]
    streamed = ["dataset.in_memory=false", "dataset.workers=1"]
    code, out, errors = run([*TRAIN, *words, *DDP, *options, *streamed, "-m", "optimizer.lr=0.005,0.03"], tmp_path)
    assert (code, errors) == (0, "")
    for run_dir, rate in zip(sweep(tmp_path), ("0.005", "0.03"), strict=True):
        assert_one_of_everything(run_dir)
        events = [path.parent.name for path in run_dir.rglob("events.out.tfevents.*")]
        assert sorted(events) == ["tensorboard", "test", "train", "val"]
        assert_same_training(train(*words, *options, f"optimizer.lr={rate}").run_dir, run_dir)
    assert "2 finished" in out


@pytest.mark.slow
def test_two_processes_normalise_batches_and_step_with_adam_as_one_does(train: Train, tmp_path: Path) -> None:
    words = ("log_every=1", "logger=none", "model.norm=batch", "optimizer=adam", "max_steps=20")
    code, _, errors = run([*TRAIN, *words, *DDP, "run_dir=run"], tmp_path)
    assert (code, errors) == (0, "")
    alone = train(*words).run_dir
    for name in ("val/loss", "test/loss", "val/accuracy", "test/accuracy"):
        assert points(tmp_path / "run", name) == pytest.approx(points(alone, name), rel=1e-5), name
    for name, weight in state(alone)["model"].items():
        torch.testing.assert_close(state(tmp_path / "run")["model"][name], weight, rtol=0, atol=1e-4, msg=name)


@pytest.mark.slow
def test_three_processes_and_a_data_set_that_is_smaller(train: Train, tmp_path: Path) -> None:
    few = [*FEW, "accumulate=2", "model.norm=batch", "optimizer=sgd"]  # micro-batches of 2 and 3 samples
    words = [*WORDS, *few, "--multirun", "batch_size=4,5"]
    code, _, errors = run([*torchrun(3, "-m"), "cli", *words], tmp_path, PYTHONPATH=str(REPOSITORY))
    assert code == 0, errors
    for run_dir, size in zip(sweep(tmp_path), (4, 5), strict=True):
        alone = train(*WORDS, *few, f"batch_size={size}").run_dir
        assert_same_training(alone, run_dir)
        assert points(run_dir, "val/accuracy") == points(alone, "val/accuracy")


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 3, 4])
@pytest.mark.parametrize("model", ["cnn", "gru", "lstm"])
def test_any_number_of_processes_trains_as_one_does(train: Train, tmp_path: Path, count: int, model: str) -> None:
    alone = train(*WORDS, *SIZES, f"model={model}").run_dir
    words = [*WORDS, *SIZES, f"model={model}", "device=ddp", f"device.processes={count}", "run_dir=many"]
    code, _, errors = run([*TRAIN, *words], tmp_path)
    assert (code, errors) == (0, "")
    assert_same_training(alone, tmp_path / "many")


@pytest.mark.slow
def test_torchrun_can_start_the_installed_command(train: Train, tmp_path: Path) -> None:
    installed = shutil.which("train", path=str(Path(sys.executable).parent))
    if installed is None:
        pytest.skip("train is not installed beside this Python")
    words = [*torchrun(2, "--no-python"), installed, *WORDS, *SIZES, "--multirun", "model=cnn,gru", "ema=null,0.9"]
    code, _, errors = run(words, tmp_path)
    assert code == 0, errors
    for run_dir, model, ema in zip(sweep(tmp_path), ("cnn", "cnn", "gru", "gru"), ("null", "0.9") * 2, strict=True):
        assert_same_training(train(*WORDS, *SIZES, f"model={model}", f"ema={ema}").run_dir, run_dir)


@pytest.mark.slow
@pytest.mark.parametrize("chosen", [("model=cnn", "optimizer=adam"), ("model=gru", "optimizer=sgd")], ids=" ".join)
def test_sharded_weights_train_as_whole_ones(train: Train, tmp_path: Path, chosen: tuple[str, str]) -> None:
    words = (*WORDS, "batch_size=67", "ema=0.9", "clip_norm=1.0", "accumulate=2", "epochs=2", *chosen)
    code, out, errors = run([*TRAIN, *words, "device=fsdp", "device.processes=2", "run_dir=run"], tmp_path)
    assert (code, errors) == (0, "")
    assert "device   fsdp, 2 processes, cpu (1 thread), fp32" in out
    assert_same_training(train(*words).run_dir, tmp_path / "run")


@pytest.mark.slow
def test_every_device_goes_on_with_the_checkpoints_of_another(train: Train, tmp_path: Path) -> None:
    words = (*WORDS, "batch_size=67", "ema=0.9", "clip_norm=1.0", "accumulate=2", "model=gru")
    sharded = ["device=fsdp", "device.processes=2", "run_dir=run", "resume=auto"]
    assert run([*TRAIN, *words, *sharded, "epochs=1"], tmp_path)[0] == 0
    code, out, errors = run([*TRAIN, *words, "run_dir=run", "resume=auto", "epochs=2"], tmp_path)
    assert (code, errors) == (0, "")
    assert "resume   device was fsdp and is auto: the same training, no longer bit for bit" in out
    assert "1 process instead of 2" in out
    code, out, errors = run([*TRAIN, *words, *sharded, "epochs=3"], tmp_path)
    assert (code, errors) == (0, "")
    assert_same_training(train(*words, "epochs=3").run_dir, tmp_path / "run")


@pytest.mark.slow
def test_wrong_words_end_every_process_with_one_message(tmp_path: Path) -> None:
    code, out, errors = run([*torchrun(2), CLI, "model=cn", "--multirun"], tmp_path)
    assert code == 1  # torchrun's own, whatever its processes say
    assert errors.count("train: error: model=cn: no such option; did you mean cnn?") == 1
    assert (out, list(tmp_path.iterdir())) == ("", [])


@pytest.mark.slow
def test_wrong_words_are_not_tried_again_and_help_is_shown_once(tmp_path: Path) -> None:
    code, out, errors = run([*torchrun(2, "--max_restarts=3"), CLI, "optimizer.lrr=1"], tmp_path)
    assert (code, errors.count("train: error: optimizer.lrr: no such key")) == (1, 1)
    code, out, errors = run([*torchrun(2), CLI, "--help"], tmp_path)
    assert (code, out.count("usage: train"), "train:" in errors) == (0, 1, False)


@pytest.mark.slow
def test_a_device_of_one_process_is_refused_under_torchrun(tmp_path: Path) -> None:
    errors = run([*torchrun(2), CLI, "device=cpu"], tmp_path)[2]
    assert "train: error: device=cpu: is for one process, and torchrun has started 2; use device=ddp" in errors
    errors = run([*torchrun(2), CLI, "device=ddp", "device.processes=3"], tmp_path)[2]
    assert errors.count("train: error: device.processes: is 3, but torchrun has started 2; leave it out") == 1
    assert list(tmp_path.iterdir()) == []


FAILING = '''
import os
import time

from torch import nn

from trainer.model import MODELS


@MODELS.register
class Failing(nn.Module):
    """A small network that fails in one process, in the first attempt."""

    def __init__(self, spec, *, rank: int = 1, call: int = 5, how: str = "raise"):
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Dropout(0.3), nn.Linear(32, 10))
        self.rank, self.left, self.how = rank, call, how

    def forward(self, inputs):
        self.left -= 1
        if self.left == 0 and os.environ["RANK"] == str(self.rank) and os.environ["TORCHELASTIC_RESTART_COUNT"] == "0":
            if self.how == "raise":
                raise ValueError("the model does not like this")
            if self.how == "hang":
                time.sleep(1000)
            os.kill(os.getpid(), {"kill": 9, "stop": 19}[self.how])
        if self.how == "slow":
            time.sleep(0.05)
        return self.layers(inputs.float())
'''
PLUGIN = ["plugins=[failing.py]", "model=failing", "logger=none", "epochs=2", "log_every=5"]
REASON = r"rank {}: ValueError: the model does not like this in \S+failing\.py, line \d+"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "failing.py").write_text(FAILING)
    return tmp_path


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_an_error_of_one_process_is_told_once_and_last_with_its_rank(folder: Path, rank: int) -> None:
    code, _, errors = run([*TRAIN, *PLUGIN, *DDP, "run_dir=run", f"model.rank={rank}"], folder)
    assert code == 1
    assert re.fullmatch(rf"train: error: {REASON.format(rank)} \(the log: run/train\.log\)\n", errors), errors
    assert re.fullmatch(REASON.format(rank), summary(folder / "run")["reason"])
    log = (folder / "run" / "train.log").read_text()
    assert "in forward" in log and 'raise ValueError("the model does not like this")' in log


@pytest.mark.slow
def test_a_job_that_fails_on_one_rank_leaves_the_next_ones_right(folder: Path) -> None:
    words = [*PLUGIN, "--multirun", "model.call=5,1000,6", "seed=1"]
    code, _, errors = run([*torchrun(2), CLI, *words], folder)
    assert code == 1
    assert len(re.findall(rf"train: error: [02]-call=[56]: {REASON.format(1)}", errors)) == 2
    runs = sweep(folder)
    assert [summary(each)["state"] for each in runs] == ["failed", "finished", "failed"]
    assert run([*torchrun(2), CLI, *PLUGIN, "model.call=1000", "seed=1", "run_dir=alone"], folder)[0] == 0
    assert kills.lines(runs[1] / "metrics.jsonl") == kills.lines(folder / "alone" / "metrics.jsonl")


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_a_process_that_is_killed_is_named(folder: Path, rank: int) -> None:
    code, _, errors = run([*TRAIN, *PLUGIN, *DDP, "run_dir=run", "model.how=kill", f"model.rank={rank}"], folder)
    reason = f"rank {rank} was killed (SIGKILL); out of memory?"
    assert (code, errors) == (1, f"train: error: {reason} (the log: run/train.log)\n")
    assert (summary(folder / "run")["state"], summary(folder / "run")["reason"]) == ("failed", reason)


@pytest.mark.slow
@pytest.mark.parametrize(("how", "rank"), [("hang", 1), ("hang", 0), ("stop", 1), ("stop", 0)])
def test_a_process_that_does_not_answer_is_not_waited_for(folder: Path, how: str, rank: int) -> None:
    words = [*PLUGIN, *DDP, "run_dir=run", f"model.how={how}", f"model.rank={rank}", "device.timeout=5s"]
    code, _, errors = run([*TRAIN, *words], folder)
    assert code == 1
    assert re.fullmatch(
        r"train: error: rank .*timed out after 5 s waiting for another process \(device\.timeout\).*\n", errors
    ), errors


@pytest.mark.slow
def test_what_fails_while_data_load_fails_everywhere(folder: Path) -> None:
    plugin = folder / "picky.py"
    plugin.write_text(
        "import os\nfrom trainer.data.augment_images import OFF\nfrom trainer.config import ConfigError\n"
        "from trainer.data import Data\n"
        "from trainer.dataset import DATASETS\nfrom trainer.dataset.digits import digits\n\n\n"
        '@DATASETS.register\ndef picky(seed: int) -> Data:\n    """Digits for the first process."""\n'
        '    if os.environ["RANK"] != "0":\n        raise ConfigError("dataset.root: nothing there")\n'
        "    return digits(seed, val_fraction=0.15, val_seed=None, sampler='shuffle', in_memory=True, workers=0,\n"
        "                  augment=OFF)\n"
    )
    code, out, errors = run([*TRAIN, f"plugins=[{plugin}]", "dataset=picky", *DDP], folder)
    assert (code, out) == (2, "")
    assert errors == "train: error: dataset.root: nothing there (rank 1)\n"
    assert not (folder / "outputs").exists()


@pytest.mark.slow
def test_a_restart_goes_on_in_the_same_directory_to_the_same_result(folder: Path) -> None:
    words = [*PLUGIN, "seed=1", "run_dir=run", "checkpoint.every_steps=10"]
    assert run([*TRAIN, *words, *DDP], folder)[0] == 1
    shutil.rmtree(folder / "run")
    code, out, errors = run([*TRAIN, *words, *DDP, "device.max_restarts=1", "model.call=27", "model.how=kill"], folder)
    assert (code, errors) == (0, "")
    assert out.count("restart  1 of 1, after rank 1 was killed (SIGKILL)") == 1
    assert "resume   after step 21, in epoch 2" in out
    (folder / "run").rename(folder / "killed")
    words[0:0] = torchrun(2, "--max_restarts=1")
    assert run([*words[:6], CLI, *words[6:], "model.call=27", "model.how=raise"], folder)[0] == 0
    (folder / "run").rename(folder / "raised")
    assert (
        run([*TRAIN, *PLUGIN, "seed=1", "run_dir=run", "checkpoint.every_steps=10", *DDP, "model.call=1000"], folder)[0]
        == 0
    )
    for other in ("killed", "raised"):
        assert kills.lines(folder / other / "metrics.jsonl") == kills.lines(folder / "run" / "metrics.jsonl")
        assert kills.plain(state(folder / other)["model"]) == kills.plain(state(folder / "run")["model"])


def wait_for(processes: Processes, path: Path) -> None:
    processes.until(lambda: path.exists() and path.stat().st_size > 0)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "code"),
    [
        (signal.SIGTERM, TERMINATED),
        pytest.param(signal.SIGINT, INTERRUPTED, marks=pytest.mark.slow),
        pytest.param(signal.SIGUSR1, TERMINATED, marks=pytest.mark.slow),
    ],
)
def test_a_signal_to_the_command_saves_once_and_ends_all(folder: Path, number: signal.Signals, code: int) -> None:
    words = [*PLUGIN, "model.how=slow", "model.call=0", "seed=1", "run_dir=run", "resume=auto", "device=ddp"]
    with started([*TRAIN, *words, "device.processes=2"], folder) as processes:
        wait_for(processes, folder / "run" / "metrics.jsonl")
        time.sleep(1)
        processes.command.send_signal(number)
        assert processes.finish()[0] == code
        processes.until_none_is_left(1)
    log = (folder / "run" / "train.log").read_text()
    assert log.count("stopped  ") == 1
    step = state(folder / "run")["step"]
    assert 0 < step < 42 and summary(folder / "run")["steps"] == step
    checkpoints = {path.name for path in (folder / "run" / "checkpoints").iterdir()}
    assert checkpoints <= {"last.pt", "previous.pt", "best.pt"}


@pytest.mark.slow
def test_the_curve_goes_on_with_another_number_of_processes(train: Train, tmp_path: Path) -> None:
    words = [*WORDS, "batch_size=67", "run_dir=run", "resume=auto"]
    assert run([*TRAIN, *words, *DDP, "epochs=1"], tmp_path)[0] == 0
    code, out, errors = run([*TRAIN, *words, "device=ddp", "device.processes=3", "epochs=2"], tmp_path)
    assert (code, errors) == (0, "")
    assert "resume   3 processes instead of 2: the same training, no longer bit for bit" in out
    assert_same_training(train(*WORDS, "batch_size=67", "epochs=2").run_dir, tmp_path / "run")


@pytest.mark.slow
@pytest.mark.parametrize(
    "words", [TRAIN, pytest.param([*torchrun(2), CLI], marks=pytest.mark.slow)], ids=("own", "torchrun")
)
def test_no_process_outlives_a_command_that_is_killed(folder: Path, words: list[str]) -> None:
    more = [*PLUGIN, "model.how=slow", "model.call=0", "epochs=1000", "run_dir=run", *DDP]
    with started([*words, *more, "dataset.in_memory=false", "dataset.workers=1"], folder) as processes:
        wait_for(processes, folder / "run" / "metrics.jsonl")
        assert len(processes.all()) >= 5
        processes.command.kill()
        processes.until_none_is_left(30)
    assert state(folder / "run")["step"] > 0  # they have saved


KILLED = ("model=gru", "model.dropout=0.3", "model.layers=2", "ema=0.9", *DDP, "device.max_restarts=5")


def kill_a_rank(folder: Path, draw: random.Random, seconds: float) -> str:
    """Run to the end, with one process killed at a random moment; return the moment."""
    moment, rank = draw.uniform(1.0, seconds), draw.randint(0, 1)
    with started(kills.command(KILLED), folder) as processes:
        begun = time.monotonic()
        while processes.command.poll() is None and (time.monotonic() - begun < moment or processes.rank(rank) is None):
            time.sleep(0.02)
        number = processes.rank(rank)
        if number is not None:
            os.kill(number, signal.SIGKILL)
        code, out, errors = processes.finish()
        assert code == 0, errors
        processes.until_none_is_left(1)
    return f"rank {rank} after {moment:.2f} s, restarted: {'restart  ' in out}"


@pytest.mark.slow
@pytest.mark.parametrize("runs", [1, pytest.param(20, marks=pytest.mark.slow)])
def test_a_rank_that_is_killed_at_any_moment_changes_nothing(tmp_path: Path, runs: int) -> None:
    (tmp_path / "whole").mkdir()
    seconds = kills.finish(kills.command(KILLED), tmp_path / "whole")
    wanted, draw, story = kills.outcome(tmp_path / "whole"), random.Random(runs), []
    for number in range(runs):
        folder = tmp_path / str(number)
        folder.mkdir()
        story.append(kill_a_rank(folder, draw, seconds))
        got = kills.outcome(folder)
        assert [name for name in wanted if got[name] != wanted[name]] == [], story
    print("\n".join(story))


@pytest.mark.slow
def test_two_machines_train_as_one_and_one_is_cut_off() -> None:
    reason = two_machines.missing()
    if reason:
        pytest.skip(reason)
    done = subprocess.run(
        [sys.executable, "-m", "tests.two_machines"], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
def test_a_sweep_that_is_started_again_goes_on_in_its_folder(folder: Path) -> None:
    words = [*PLUGIN, "--multirun", "model.how=kill", "model.call=1000,5,1000", "seed=1"]
    code, _, errors = run([*torchrun(2, "--max_restarts=1"), CLI, *words], folder)
    assert code == 0, errors
    runs = sweep(folder)
    assert [summary(each)["state"] for each in runs] == ["finished"] * 3
    assert len({str(kills.lines(each / "metrics.jsonl")) for each in runs}) == 1


@pytest.mark.slow
def test_a_process_that_does_not_come_is_not_waited_for(tmp_path: Path) -> None:
    stray = {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": "29633"}
    code, out, errors = run([*TRAIN, "device=ddp", "device.timeout=3s"], tmp_path, **stray)
    assert (code, out) == (1, "")
    assert errors == "train: error: timed out waiting for rank 1 to start (device.timeout)\n"
    with started([*TRAIN, "device=ddp"], tmp_path, **stray) as processes:
        time.sleep(8)
        processes.command.terminate()
        assert processes.finish(30) == (TERMINATED, "", "train: terminated (SIGTERM)\n")


@pytest.mark.slow
def test_an_early_signal_is_quiet(tmp_path: Path) -> None:
    for moment in (0.5, 1.5, 2.5, 3.5, 4.5, 5.5):
        with started([*TRAIN, *DDP, "epochs=400", f"run_dir=after-{moment}"], tmp_path) as processes:
            time.sleep(moment)
            processes.command.terminate()
            code, _, errors = processes.finish()
            assert (code, errors) == (TERMINATED, "train: terminated (SIGTERM)\n"), moment
            processes.until_none_is_left(2)


@pytest.mark.slow
def test_one_process_of_torchrun_hears_signals_and_goes_on(folder: Path) -> None:
    words = [*torchrun(1), CLI, *PLUGIN, "model.how=slow", "model.call=0", "run_dir=run", "resume=auto"]
    with started(words, folder) as processes:
        wait_for(processes, folder / "run" / "metrics.jsonl")
        number = processes.rank(0)
        assert number is not None
        os.kill(number, signal.SIGTERM)
        assert "train: terminated (SIGTERM)" in processes.finish()[2]
        processes.until_none_is_left()
    assert state(folder / "run")["step"] > 0
    code, out, errors = run(words, folder)
    assert code == 0, errors
    assert "resume   after step" in out
