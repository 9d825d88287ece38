"""A run, from the command to the run directory."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

from tests.conftest import REPOSITORY, Train
from tests.dataset.test_torchvision import write_grey_set
from tests.helpers import looked_into
from tests.shell import TRAIN
from tests.test_engine import make_engine
from trainer.runs.environment import environment


def test_a_run_directory_holds_what_the_interface_promises(train: Train) -> None:
    result = train("epochs=2", "optimizer.lr=2e-3", "seed=4")
    assert result.code == 0
    assert result.err == ""
    run_dir = result.run_dir
    names = {
        str(path.relative_to(run_dir)) for path in run_dir.rglob("*") if path.is_file() and "events" not in path.name
    }
    assert names == {
        "config.yaml", "overrides.yaml", "environment.json", "train.log", "metrics.jsonl", "summary.json",
        "checkpoints/last.pt", "checkpoints/previous.pt", "checkpoints/best.pt", "checkpoints/best.safetensors",
    }  # fmt: skip
    assert {path.name for path in (run_dir / "tensorboard").iterdir() if path.is_dir()} == {"train", "val", "test"}
    config = yaml.safe_load((run_dir / "config.yaml").read_text())
    assert (config["seed"], config["optimizer"]["lr"], config["model"]["name"]) == (4, 2e-3, "cnn")
    assert yaml.safe_load((run_dir / "overrides.yaml").read_text()) == ["epochs=2", "optimizer.lr=2e-3", "seed=4"]
    environment = json.loads((run_dir / "environment.json").read_text())
    assert environment["versions"]["torch"] == torch.__version__
    assert environment["command"][1:] == ["epochs=2", "optimizer.lr=2e-3", "seed=4"]
    assert environment["data"]["train"] == 1298
    summary = json.loads((run_dir / "summary.json").read_text())
    assert summary["state"] == "finished"
    assert summary["steps"] == 42
    assert {"best", "test/loss", "test/accuracy", "seconds", "samples_per_second"} <= summary.keys()
    assert 50 < summary["peak_memory_mib"] < 50_000
    lines = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    keys = [set(line) for line in lines]
    point = {"step", "epoch", "train/loss", "train/accuracy", "lr", "gradient_norm", "samples_per_second"}
    speed = {"epoch/samples_per_second", "epoch/data_wait", "epoch/peak_memory_mib"}
    assert keys == [point, {"step", "epoch", "val/loss", "val/accuracy", *speed}] * 2 + [
        {"step", "epoch", "test/loss", "test/accuracy"}
    ]
    assert "Traceback" not in (run_dir / "train.log").read_text()


def test_the_best_weights_are_the_ones_tested_and_exported(train: Train) -> None:
    result = train("epochs=4", "logger=none")
    best = torch.load(result.run_dir / "checkpoints" / "best.pt", weights_only=True)
    assert best["step"] == result.summary["best"]["step"]
    weights = load_file(result.run_dir / "checkpoints" / "best.safetensors")
    assert weights.keys() == best["model"].keys()
    assert all(torch.equal(weights[name], tensor) for name, tensor in best["model"].items())
    assert best["data"]["classes"] == list("0123456789")
    assert len(best["data"]["normalise"]["mean"]) == 1
    assert {"optimizer", "scheduler", "scaler", "progress", "random", "config"} <= best.keys()


def test_the_test_is_made_with_the_best_weights_and_not_the_last(train: Train) -> None:
    result = train("epochs=30", "patience=1", "logger=none", "optimizer.lr=0.02", "seed=1")
    best, last = (
        torch.load(result.run_dir / "checkpoints" / f"{name}.pt", weights_only=True) for name in ("best", "last")
    )
    assert best["step"] != last["step"]
    engine = make_engine(result.folder, seed=1)
    found = {}
    for name, state in (("best", best), ("last", last)):
        engine.model.load_state_dict(state["model"])
        found[name] = engine.evaluate(engine.loaders.test).compute({})["loss"]
    assert result.summary["test/loss"] == pytest.approx(found["best"])
    assert found["best"] != pytest.approx(found["last"])


def test_the_commit_and_what_differs_from_it_are_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def git(*words: str) -> None:
        subprocess.run(["git", "-c", "user.name=t", "-c", "user.email=t@t", *words], check=True, capture_output=True)

    monkeypatch.chdir(tmp_path)
    git("init", "-q")
    Path("file").write_text("one\n")
    git("add", ".")
    git("commit", "-qm", "first")
    Path("file").write_text("two\n")
    recorded = environment(torch.device("cpu"), tmp_path / "run")["git"]
    assert len(recorded["commit"]) == 40
    assert "-one\n+two" in recorded["diff"]


@pytest.mark.slow
def test_two_runs_of_the_same_second_have_two_directories(tmp_path: Path) -> None:
    command = [*TRAIN, "max_steps=2", "logger=none", "run_dir=same-second"]
    program = (
        "import sys; from trainer.runs.directory import RunDirectory\n"
        "d = RunDirectory(sys.argv[1], fixed=False); d.claim({}, []); print(d.path)"
    )
    wanted = tmp_path / "outputs" / "12-00-00-cnn-digits"
    claims = [
        subprocess.Popen(
            [sys.executable, "-c", program, str(wanted)], cwd=REPOSITORY, stdout=subprocess.PIPE, text=True
        )
        for _ in range(4)
    ]
    paths = [claim.communicate(timeout=60)[0].strip() for claim in claims]
    assert sorted(Path(path).name for path in paths) == [
        "12-00-00-cnn-digits", "12-00-00-cnn-digits-2", "12-00-00-cnn-digits-3", "12-00-00-cnn-digits-4",
    ]  # fmt: skip
    runs = [subprocess.Popen(command[:-1], cwd=tmp_path, stdout=subprocess.DEVNULL) for _ in range(2)]
    assert [run.wait(timeout=120) for run in runs] == [0, 0]
    assert len(list(tmp_path.glob("outputs/*-*-*/*/summary.json"))) == 2


def test_a_run_dir_of_the_users_own_is_taken_as_it_is_and_never_shared(train: Train, tmp_path: Path) -> None:
    words = ("max_steps=2", "logger=none", f"run_dir={tmp_path / 'mine'}")
    assert train(*words).code == 0
    before = (tmp_path / "mine" / "metrics.jsonl").read_text()
    result = train(*words)
    assert result.code == 2
    assert result.err.startswith(f"train: error: run_dir: {tmp_path / 'mine'} is there already")
    assert (tmp_path / "mine" / "metrics.jsonl").read_text() == before


@pytest.mark.slow
def test_of_two_runs_told_to_use_one_folder_the_second_is_refused(tmp_path: Path) -> None:
    command = [*TRAIN, "max_steps=2", "logger=none", "run_dir=same"]
    runs = [subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    ends = [(run.communicate(timeout=120)[1], run.returncode) for run in runs]
    assert sorted(code for _, code in ends) == [0, 2]
    assert any(
        "run_dir: another run is at work in same" in errors
        or "run_dir: same belongs to another run" in errors
        or "run_dir: same is" in errors
        for errors, _ in ends
    )
    assert len((tmp_path / "same" / "metrics.jsonl").read_text().splitlines()) == 3


def test_a_dry_run_does_everything_once_and_keeps_nothing(train: Train) -> None:
    started = time.perf_counter()
    result = train("dry_run=true", "accumulate=2", "ema=0.9")
    assert result.code == 0
    assert result.out.splitlines()[-1].startswith("dry run: ")
    assert list(result.folder.iterdir()) == []
    assert time.perf_counter() - started < 60


def test_a_run_dir_that_cannot_be_made_is_one_line(train: Train, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    result = train(f"run_dir={tmp_path / 'file' / 'run'}", "max_steps=1")
    assert result.code == 2
    (line,) = result.err.splitlines()
    assert line == f"train: error: run_dir: {tmp_path / 'file' / 'run'}: Not a directory"


# Which of the packages that take their time are there in the first step.
LOOK = """
def look():
    from torch.optim.optimizer import register_optimizer_step_pre_hook
    heavy = ("torchvision", "tensorboard", "torch.utils.tensorboard", "torchmetrics", "trainer.profiler")
    register_optimizer_step_pre_hook(lambda *_: print("there:", [name for name in heavy if name in sys.modules]))
"""


def test_the_first_step_waits_for_nothing_that_it_does_not_need(tmp_path: Path) -> None:
    write_grey_set(tmp_path / "MNIST" / "raw")
    words = ["dataset=mnist", f"dataset.root={tmp_path}", "max_steps=1", "run_dir=run"]
    command = [sys.executable, "-c", looked_into(LOOK), *words]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "there: []" in done.stdout.splitlines()
    assert list((tmp_path / "run" / "tensorboard").glob("events*"))
