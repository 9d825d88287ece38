"""Sweeps: real runs in real processes that are killed, stopped, crashed and typed again with more values."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import re
import signal
from pathlib import Path

import pytest
import torch
import yaml

from tests.shell import CLI, TRAIN, run, started, torchrun
from trainer.processes.signals import INTERRUPTED, TERMINATED
from trainer.runs.read import is_run, read_run

FAST = ("logger=none", "epochs=1", "limit_batches=3")
PLUGIN = """\
import os, pathlib, signal, time
from torch import nn
from trainer.model import MODELS
from trainer.spec import Spec

@MODELS.register
class Fragile(nn.Module):
    \"\"\"A layer that does something else at a batch.

    Args:
        how: what it does.
        at: the batch.
    \"\"\"

    def __init__(self, spec: Spec, *, how: str = "train", at: int = 4) -> None:
        super().__init__()
        self.how, self.at, self.calls = how, at, 0
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(64, spec.num_outputs))

    def forward(self, x):
        self.calls += 1
        if self.calls == 1:
            print("heard from the model")
        if self.calls == self.at and self.how == "raise":
            raise ValueError("the model does not like this")
        if self.calls == self.at and self.how == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.how == "wait":
            pathlib.Path("waits").touch()
        if self.how in ("wait", "after"):
            time.sleep(0.1)
        if self.how == "after" and pathlib.Path("waits").exists():
            raise ValueError("another run is in progress")
        return self.layers(x) * (float("nan") if self.calls >= self.at and self.how == "broken" else 1)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "fragile.py").write_text(PLUGIN)
    return tmp_path


def sweep(folder: Path, *words: str) -> tuple[int, str, str]:
    return run([*TRAIN, "-m", "sweep_dir=s", *words], folder)


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "s" / "summary.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def digests(folder: Path) -> dict[str, str]:
    """Return the digest and the time of every file of the runs in a sweep."""
    files = [path for path in (folder / "s").glob("*/**/*") if path.is_file() and "logs" not in path.parts]
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() + str(path.stat().st_mtime_ns) for path in files}


def test_a_sweep_ends_in_a_table_a_file_a_page_and_the_best_command(folder: Path) -> None:
    code, out, errors = sweep(folder, *FAST, "optimizer.lr=1e-3,1e-2", "seed=0,1")
    assert (code, errors) == (0, "")
    names = ["0-lr=0.001-seed=0", "1-lr=0.001-seed=1", "2-lr=0.01-seed=0", "3-lr=0.01-seed=1"]
    table = rows(folder)
    assert [(row["optimizer.lr"], row["seed"], row["state"], row["folder"]) for row in table] == [
        ("0.001", "0", "finished", names[0]), ("0.001", "1", "finished", names[1]),
        ("0.01", "0", "finished", names[2]), ("0.01", "1", "finished", names[3]),
    ]  # fmt: skip
    for row, name in zip(table, names, strict=True):
        summary = read_run(folder / "s" / name).summary
        assert float(row["val/accuracy"]) == summary["best"]["val/accuracy"]
        assert float(row["test/loss"]) == summary["test/loss"]
        assert "epoch 1/1" in (folder / "s" / "logs" / f"{name}.txt").read_text()
    assert "epoch 1/1" not in out
    values = {
        rate: [float(row["val/accuracy"]) for row in table if row["optimizer.lr"] == rate] for rate in ("0.001", "0.01")
    }
    best = max(values, key=lambda rate: sum(values[rate]))
    (said,) = re.findall(r"^best     (.+)$", out, flags=re.MULTILINE)
    assert said.startswith(f"optimizer.lr={best}: val/accuracy {sum(values[best]) / 2:.4f} ± ")
    (again,) = re.findall(r"^again    train (.+)$", out, flags=re.MULTILINE)
    assert f"optimizer.lr={best}" in again.split()
    (winner,) = [
        row for row in table if float(row["val/accuracy"]) == max(values[best]) and row["optimizer.lr"] == best
    ]
    assert run([*TRAIN, *again.split(), "run_dir=again"], folder)[0] == 0
    assert read_run(folder / "again").summary["test/loss"] == float(winner["test/loss"])
    assert "<svg" in (folder / "s" / "summary.html").read_text()


@pytest.mark.slow
def test_a_sweep_that_was_killed_ends_as_the_undisturbed_one_and_leaves_finished_runs_alone(folder: Path) -> None:
    words = [*FAST[:1], "seed=range(0,4)", "epochs=12", "checkpoint.every_steps=10"]
    with started([*TRAIN, "-m", "sweep_dir=s", *words], folder) as processes:
        processes.until(lambda: list((folder / "s").glob("2-*/checkpoints/last.pt")))
        processes.command.kill()
        assert processes.finish(30)[0] == -signal.SIGKILL
        processes.until_none_is_left(10)  # the processes of the sweep end with the command
    states = {path.name: read_run(path).state for path in (folder / "s").iterdir() if is_run(path)}
    assert states == {"0-seed=0": "finished", "1-seed=1": "finished", "2-seed=2": "killed"}
    before = {name: digest for name, digest in digests(folder).items() if "2-seed" not in name}
    code, out, errors = sweep(folder, *words)
    assert (code, errors) == (0, "")
    assert len(re.findall(r"^\d/4  seed", out, flags=re.MULTILINE)) == 2
    after = digests(folder)
    assert before and all(after[name] == digest for name, digest in before.items())
    assert "resume   after step" in (folder / "s" / "logs" / "2-seed=2.txt").read_text()
    killed = rows(folder)
    (folder / "whole").mkdir()
    assert sweep(folder / "whole", *words)[0] == 0
    for row in (*killed, *(undisturbed := rows(folder / "whole"))):
        del row["seconds"]
    assert killed == undisturbed


@pytest.mark.slow
def test_runs_that_fail_end_no_others_and_are_tried_again(folder: Path) -> None:
    words = [*FAST[1:], "logger=none", "plugins=[fragile.py]", "model=fragile", "model.how=kill,broken,raise,train"]
    code, out, errors = sweep(folder, *words)
    assert code == 1
    assert [(row["model.how"], row["state"]) for row in rows(folder)] == [
        ("kill", "failed"), ("broken", "failed"), ("raise", "failed"), ("train", "finished"),
    ]  # fmt: skip
    lines = errors.splitlines()
    assert len(lines) == 3
    assert lines[0].startswith("train: error: 0-how=kill: was killed (SIGKILL); out of memory?")
    assert lines[1].startswith("train: error: 1-how=broken: the ")
    assert "ValueError: the model does not like this" in lines[2]
    assert "heard from the model" in (folder / "s" / "logs" / "3-how=train.txt").read_text()
    assert "heard" not in out
    log = (folder / "s" / "2-how=raise" / "train.log").read_text()
    source = (
        (folder / "fragile.py")
        .read_text()
        .replace('self.how == "raise"', "False")
        .replace('self.how == "kill"', "False")
    )
    (folder / "fragile.py").write_text(source)
    code, out, errors = run([*TRAIN, "sweep=s", "plugins=[fragile.py]"], folder)
    assert (code, len(errors.splitlines())) == (1, 1)
    assert [row["state"] for row in rows(folder)] == ["finished", "failed", "finished", "finished"]
    assert len((folder / "s" / "2-how=raise" / "train.log").read_text()) > len(log)


@pytest.mark.slow
def test_on_error_stop_starts_no_more_and_the_same_command_goes_on(folder: Path) -> None:
    words = [*FAST, "plugins=[fragile.py]", "model=fragile", "model.how=raise,wait,train", "sweep.on_error=stop"]
    code, out, _ = sweep(folder, *words)
    assert code == 1
    assert [row["state"] for row in rows(folder)] == ["failed", "waiting", "waiting"]
    assert "1 failed, 2 waiting" in out
    assert sweep(folder, *words[:-1])[0] == 1
    assert [row["state"] for row in rows(folder)] == ["failed", "finished", "finished"]


@pytest.mark.slow
def test_on_error_stop_lets_the_others_save_first(folder: Path) -> None:
    words = ["logger=none", "plugins=[fragile.py]", "model=fragile", "model.how=wait,after"]
    code, _, _ = sweep(folder, *words, "sweep.parallel=2", "sweep.on_error=stop")
    assert code == 1
    assert [row["state"] for row in rows(folder)] == ["stopped", "failed"]
    assert (folder / "s" / "0-how=wait" / "checkpoints" / "last.pt").is_file()


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, INTERRUPTED), (signal.SIGTERM, TERMINATED)])
def test_a_signal_saves_what_is_under_way_and_prints_the_table(folder: Path, number: int, code: int) -> None:
    words = [*TRAIN, "-m", "sweep_dir=s", "logger=none", "epochs=10000", "seed=0,1,2", "sweep.parallel=2"]
    with started(words, folder) as processes:
        processes.until(lambda: len(list((folder / "s").glob("*/checkpoints/last.pt"))) == 2)
        os.kill(processes.command.pid, number)
        ended, out, errors = processes.finish(60)
    assert ended == code
    assert [row["state"] for row in rows(folder)] == ["stopped", "stopped", "waiting"]
    assert "2 stopped, 1 waiting" in out
    assert errors.startswith("train: ") and errors.count("\n") == 1


@pytest.mark.slow
def test_a_sweep_takes_more_values_and_more_epochs_the_second_time(folder: Path) -> None:
    assert sweep(folder, *FAST, "seed=1,0")[0] == 0
    before = digests(folder)
    code, out, _ = sweep(folder, *FAST, "seed=0,1,2", "sweep.parallel=2")
    assert (code, out.count("3/3")) == (0, 1)
    assert [(row["seed"], row["folder"]) for row in rows(folder)] == [
        ("1", "0-seed=1"), ("0", "1-seed=0"), ("2", "2-seed=2"),
    ]  # fmt: skip
    assert all(digests(folder)[name] == digest for name, digest in before.items())
    code, out, _ = run([*TRAIN, "sweep=s", "epochs=2"], folder)
    assert code == 0
    assert [row["steps"] for row in rows(folder)] == ["6", "6", "6"]
    typed = (folder / "s" / "overrides.yaml").read_bytes()
    code, out, errors = run([*TRAIN, "sweep=s", "epochs=1"], folder)
    assert (code, out, errors.count("\n")) == (2, "", 1)
    assert errors.startswith("train: error: epochs: the run s/")
    assert (folder / "s" / "overrides.yaml").read_bytes() == typed
    assert yaml.safe_load((folder / "s" / "overrides.yaml").read_text())[-1] == "epochs=2"


@pytest.mark.slow
def test_sweep_last_is_the_newest_and_an_interrupted_sweep_of_a_file_goes_on_too(folder: Path) -> None:
    assert run([*TRAIN, "-m", *FAST, "seed=0,1"], folder)[0] == 0
    code, out, errors = run([*TRAIN, "sweep=last"], folder)
    assert (code, errors) == (0, "")
    assert "2 finished" in out
    assert len(list(folder.glob("outputs/sweeps/*/*/*/config.yaml"))) == 2


@pytest.mark.slow
def test_two_commands_cannot_do_one_sweep_at_once(folder: Path) -> None:
    words = [*TRAIN, "-m", "sweep_dir=s", "logger=none", "epochs=10000", "seed=0,1"]
    with started(words, folder) as processes:
        processes.until(lambda: list((folder / "s").glob("*/config.yaml")))
        code, _, errors = run(words, folder)
        assert (code, errors) == (
            2,
            "train: error: sweep_dir: another sweep is at work in s; wait for its end, or stop it\n",
        )
        processes.command.terminate()
        processes.finish(60)


@pytest.mark.slow
def test_runs_that_the_user_has_named_do_not_lose_each_other(folder: Path) -> None:
    code, out, errors = sweep(folder, *FAST, "run_dir=o/1a,o/1b,p/1a", "sweep.parallel=2")
    assert (code, errors) == (0, "")
    assert "3 finished" in out
    assert [read_run(folder / name).state for name in ("o/1a", "o/1b", "p/1a")] == ["finished"] * 3
    assert len(list((folder / "s" / "logs").iterdir())) == 3


def test_two_runs_with_one_folder_are_refused_and_nothing_is_trained(folder: Path) -> None:
    code, _, errors = sweep(folder, *FAST, "seed=0,1", "run_dir=o/a,o/b")
    assert (code, errors.count("\n")) == (2, 1)
    assert errors.startswith(
        "train: error: run_dir: o/a is used by seed=0 run_dir=o/a and by seed=1 run_dir=o/a; every"
    )
    assert not (folder / "s").exists() and not (folder / "o").exists()


@pytest.mark.slow
def test_a_run_of_another_is_never_taken_for_ones_own(folder: Path) -> None:
    words = [*FAST, "optimizer.lr=1e-3,1e-2", "run_dir=o/${optimizer.lr}"]
    assert sweep(folder, *words, "seed=0")[0] == 0
    code, out, errors = sweep(folder, *words, "seed=1")
    assert code == 2
    assert errors.count("seed: is 0 in the run o/") == 2
    assert "2 refused" in out and "best" not in out
    assert all("val/accuracy" not in row for row in rows(folder))


@pytest.mark.slow
def test_each_run_begins_as_the_first_one_of_its_process(folder: Path) -> None:
    words = ["device=cpu", "device.threads=1,null", "plugins=[fragile.py]", "model=fragile", "model.how=raise,train"]
    code, _, _ = sweep(folder, *FAST, *words)
    assert code == 1
    threads = {
        path.parent.name.partition("-how")[0]: json.loads(path.read_text())["device"]["threads"]
        for path in (folder / "s").glob("*train/environment.json")
    }
    assert threads == {"1-threads=1": 1, "3-threads=null": torch.get_num_threads()}


@pytest.mark.slow
def test_the_table_is_there_when_the_command_is_killed(folder: Path) -> None:
    words = ["logger=none", "epochs=10", "seed=range(0,50)"]
    with started([*TRAIN, "-m", "sweep_dir=s", *words], folder) as processes:
        processes.until(lambda: list((folder / "s").glob("03-*/config.yaml")))
        processes.command.kill()
        processes.finish(30)
        processes.until_none_is_left(10)
    states = [row["state"] for row in rows(folder)]
    assert len(states) == 50 and states[0] == "finished" and states[-1] == "waiting"


def test_no_process_outlives_a_command_that_is_killed_while_it_starts(folder: Path) -> None:
    with started([*TRAIN, "-m", "sweep_dir=s", "logger=none", "epochs=10000", "seed=0,1"], folder) as processes:
        processes.until((folder / "s" / "logs").is_dir)  # a process has been started and imports torch
        processes.command.kill()
        processes.finish(30)
        processes.until_none_is_left(10)


@pytest.mark.slow
def test_sweeps_under_torchrun_go_on_too(folder: Path) -> None:
    words = [*torchrun(2), CLI, "-m", "sweep_dir=s", *FAST]
    assert run([*words, "seed=0"], folder)[0] == 0
    before = digests(folder)
    code, out, errors = run([*words, "seed=0,1"], folder)
    assert code == 0, errors
    assert "2/2  seed=1" in out
    assert all(digests(folder)[name] == digest for name, digest in before.items())


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["joblib", "submitit_local"])
def test_hydras_launchers_do_what_is_left_of_a_sweep(folder: Path, launcher: str) -> None:
    pytest.importorskip(f"hydra_plugins.hydra_{launcher.partition('_')[0]}_launcher")
    few = ["hydra.launcher.n_jobs=2"] if launcher == "joblib" else ["hydra.launcher.timeout_min=5"]
    assert sweep(folder, *FAST, "seed=0")[0] == 0
    before = digests(folder)
    code, _, errors = sweep(folder, *FAST, f"hydra/launcher={launcher}", *few, "model.channels=[8,8,8,8],[8]", "seed=0")
    assert code == 2
    assert "1-channels=8_8_8_8: could not begin; its own output says why" in errors
    assert sorted(row["state"] for row in rows(folder)) == ["finished", "finished", "refused"]
    assert all(digests(folder)[name] == digest for name, digest in before.items())
    kept = {path.name for path in (folder / "s").iterdir() if path.is_dir()} - {"logs", ".submitit"}
    assert kept == {"0", "2-channels=8"}  # no folder of Hydra, and no folder of the refused run
