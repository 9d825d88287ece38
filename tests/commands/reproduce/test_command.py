"""The command ``trainer reproduce``: what it says of a run that it has started again, and what it refuses."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from filelock import FileLock
from safetensors.torch import load_file, save_file

from tests.conftest import Train
from tests.helpers import told
from tests.runs_on_disk import write_run
from tests.shell import DDP, run, torchrun

Reproduce = Callable[..., tuple[int, str, str]]
SMALL = ("model.channels=[8]", "model.hidden=16", "batch_size=128", "epochs=2", "logger=none", "run_dir=run")
WEIGHTS = "checkpoints/best.safetensors"
MODEL = """
from torch import nn
from trainer.model import MODELS

@MODELS.register
class Mine(nn.Sequential):
    def __init__(self, spec):
        super().__init__(nn.Flatten(), nn.LazyLinear(spec.num_outputs))
        self(__import__("torch").zeros(1, *spec.shape))
"""


@pytest.fixture
def reproduce(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Reproduce:
    """``reproduce("run", …)`` in the folder that is the working directory then."""
    monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)
    monkeypatch.setattr(sys, "argv", ["trainer"])
    monkeypatch.chdir(tmp_path)
    return functools.partial(told, capfd, "reproduce")


@pytest.fixture
def before(train: Train) -> Path:
    """A run that has finished, in the working directory."""
    assert train(*SMALL).code == 0
    return Path("run")


def contents(folder: Path) -> dict[str, str]:
    """A hash of every file below a folder, and when it was last written to."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {f"{path} {path.stat().st_mtime_ns}": hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def change(path: Path, **changes: Any) -> None:
    """Other values of some keys of a JSON file."""
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_the_same_run_once_more_is_equal_bit_for_bit_and_the_old_one_stays_as_it_is(
    reproduce: Reproduce, before: Path
) -> None:
    files = contents(before)
    code, out, errors = reproduce("run")
    assert (code, errors) == (0, "")
    lines = out.splitlines()
    assert lines[0] == "again    run"
    assert "now      versions, platform, device: as recorded" in lines
    assert "run      run-again" in lines
    assert lines[-1].startswith("same     5 points, 2 test metrics and ")
    assert lines[-1].endswith(" weights are equal bit for bit")
    assert contents(before) == files
    again = Path("run-again")
    assert (again / "overrides.yaml").read_text() == (before / "overrides.yaml").read_text()
    config, other = (yaml.safe_load((folder / "config.yaml").read_text()) for folder in (before, again))
    assert config == {**other, "run_dir": "run"}


def test_everything_for_a_program_is_all_of_stdout(reproduce: Reproduce, before: Path) -> None:
    change(before / "environment.json", python="3.1")
    os.chdir(before)
    code, out, errors = reproduce(".", "--json")
    found = json.loads(out)
    assert code == 0
    assert found["same"] and found["bit_for_bit"] and found["first_difference"] is None
    assert (found["run"], found["again"]) == (".", "../run-again")
    assert found["points"] == {"compared": True, "before": 5, "now": 5, "largest": 0.0}
    one, other, apart = found["metrics"]["test/loss"]
    assert one == other and apart == 0
    assert found["weights"]["compared"] and found["weights"]["different"] == 0
    (python,) = found["differences"]
    assert (python["kind"], python["name"], python["before"]) == ("version", "python", "3.1")
    assert "epoch 2/2" in errors and "again    ." in errors


def other_line(run: Path) -> None:
    lines = (run / "metrics.jsonl").read_text().splitlines()
    point = json.loads(lines[2])
    lines[2] = json.dumps({**point, "train/loss": point["train/loss"] * 1.001, "samples_per_second": 1.0})
    (run / "metrics.jsonl").write_text("\n".join(lines) + "\n")


def lost_line(run: Path) -> None:
    lines = (run / "metrics.jsonl").read_text().splitlines(keepends=True)
    (run / "metrics.jsonl").write_text("".join(lines[:-1]))


def other_weights(run: Path) -> None:
    weights = load_file(run / WEIGHTS)
    name = next(iter(weights))
    save_file({**weights, name: weights[name] * 1.001}, run / WEIGHTS)


def other_summary(run: Path) -> None:
    change(run / "summary.json", **{"test/accuracy": 0.25, "seconds": 1000.0})


@pytest.mark.parametrize(
    ("damage", "verdict", "also"),
    [
        (other_line, "differs  from step 22 on: train/loss ", "weights  all "),
        (lost_line, "differs  from step 22 on: step none before, 22 now", "weights  all "),
        (other_weights, "differs  the weights alone: 5 points, 2 test metrics are equal", "weights  differ in 1 of "),
        (other_summary, "differs  at the end: test/accuracy 0.25 before, ", "weights  all "),
    ],
)
def test_what_comes_out_differently_is_said_with_the_step(
    reproduce: Reproduce, before: Path, damage: Callable[[Path], None], verdict: str, also: str
) -> None:
    damage(before)
    code, out, errors = reproduce("run")
    assert (code, errors) == (1, "")
    lines = out.splitlines()
    assert any(line.startswith(verdict) for line in lines), out
    assert any(line.startswith(also) for line in lines), out
    assert any(line.startswith("test/accuracy  ") for line in lines)
    assert lines[-1].startswith("perhaps  nothing that is recorded differs: ")


def test_a_tolerance_takes_what_is_near_for_the_same_and_says_how_near(reproduce: Reproduce, before: Path) -> None:
    other_line(before)
    other_weights(before)
    code, out, _ = reproduce("run", "--tolerance", "0.01")
    assert code == 0
    assert "weights are equal to within 0.01; the largest relative difference is 1.0e-03" in out
    assert reproduce("run", "--tolerance", "1e-4")[0] == 1
    assert Path("run-again-2").is_dir()


def test_what_it_ran_on_is_compared_before_it_starts_and_told_as_a_reason_after(
    reproduce: Reproduce, before: Path
) -> None:
    environment = json.loads((before / "environment.json").read_text())
    diff = "diff --git a/model.py b/model.py\n+1\n"
    change(
        before / "environment.json",
        versions={**environment["versions"], "torch": "1.0"},
        device={**environment["device"], "threads": 99},
        git={"commit": "1" * 40, "diff": diff},
        data={**environment["data"], "train": 12345},
        resumed=[{"step": 11, "device": {}}],
    )
    other_line(before)
    code, out, _ = reproduce("run")
    assert code == 1
    start, _, end = out.partition("run      run-again")
    now = environment["versions"]["torch"]
    for kind, line in [
        ("version", f"torch 1.0 before, {now} now"),
        ("device", f"threads 99 before, {environment['device']['threads']} now"),
        ("code", "commit 1111111111 before, none now"),
        ("code", "uncommitted changes in model.py differ"),
    ]:
        assert f"{kind:<8} {line}\n" in start
        assert f"perhaps  {kind}: {line}\n" in end
    assert "perhaps  data: train 12,345 before, 1,298 now\n" in end
    assert "perhaps  resumed: after step 11; that attempt had another device\n" in end


def test_data_that_was_changed_is_named(reproduce: Reproduce, train: Train, tmp_path: Path) -> None:
    rows = [f"{number % 7},{number % 5},{'ab'[number % 2]}" for number in range(60)]
    table = tmp_path / "table.csv"
    table.write_text("\n".join(["x,y,label", *rows]))
    words = ("dataset=csv", f"dataset.path={table}", "dataset.target=label", "model=gru", "logger=none", "epochs=1")
    assert train(*words, "run_dir=run").code == 0
    table.write_text("\n".join(["x,y,label", *reversed(rows[1:])]))
    code, out, _ = reproduce("run")
    assert code == 1
    assert "perhaps  data: sha256 " in out and "perhaps  data: train 49 before, 48 now" in out
    table.rename(tmp_path / "moved.csv")
    code, _, errors = reproduce("run")
    assert code == 2 and errors.count("\n") == 1 and str(table) in errors
    code, out, _ = reproduce("run", f"dataset.path={tmp_path}/moved.csv", "device=cpu", "device.threads=1")
    assert code == 1
    assert f"config   dataset.path {table} before, {tmp_path}/moved.csv now" in out
    new = yaml.safe_load(Path("run-again-2/overrides.yaml").read_text())
    assert new[-3:] == [f"dataset.path={tmp_path}/moved.csv", "device=cpu", "device.threads=1"]
    assert f"dataset.path={table}" not in new


def test_what_the_old_run_has_lost_is_not_compared_and_that_is_said(reproduce: Reproduce, before: Path) -> None:
    for name in ("metrics.jsonl", WEIGHTS, "environment.json"):
        (before / name).unlink()
    code, out, _ = reproduce("run")
    assert code == 0
    assert "now      no environment was recorded" in out
    assert "same     2 test metrics are equal bit for bit" in out
    assert "points   not compared: the old run has no metrics.jsonl" in out
    assert f"weights  not compared: there is no run/{WEIGHTS}" in out


def test_a_run_with_components_of_plugins_needs_them_named_again(
    reproduce: Reproduce, train: Train, tmp_path: Path, forgets: None
) -> None:
    plugin = tmp_path / "mine_again.py"
    plugin.write_text(MODEL)
    words = ("dataset=synthetic", "epochs=1", "logger=none", "run_dir=run")
    assert train(f"plugins=[{plugin}]", "model=mine", *words).code == 0
    code, out, errors = reproduce("run")
    assert (code, out) == (2, "")
    assert errors == (
        f"trainer: error: the run run has components of {plugin}; "
        f"if you trust it, name it again: 'plugins=[{plugin}]'\n"
    )
    code, out, errors = reproduce("run", "plugins=[nowhere.py]")
    assert (code, out, errors) == (2, "", "trainer: error: plugins: nowhere.py: no such file\n")
    assert not Path("run-again").exists()
    code, out, errors = reproduce("run", f"plugins=[{plugin}]")
    assert (code, errors) == (0, "")
    assert "are equal bit for bit" in out


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ([], "reproduce: needs a run: its directory, or last"),
        (["nowhere"], "nowhere: no such folder"),
        (["last"], "last: no run under outputs"),
        (["empty"], "empty: no run in it"),
        (["several"], "several: holds 2 runs; name one of them, such as several/"),
        (["failed"], "failed: failed (out of luck); only a run that has finished can be reproduced"),
        (["stopped"], "stopped: stopped (interrupted); only a run that has finished can be reproduced"),
        (["killed"], "killed: killed; only a run that has finished can be reproduced"),
        (["running"], "running: is at work now, and only a run that has finished can be reproduced; wait for its end"),
        (["odd\nname"], r"epochs: must be a whole number, at least 1, got 'many' (odd\nname/config.yaml)"),
        (["finished"], "epochz: no such key (finished/config.yaml); did you mean epochs?"),
        (["finished", "epochs=3"], "epochs=3: would be another run; only these words may follow RUN: plugins="),
        (["finished", "+device=cpu"], "+device=cpu: device is there already; write device=cpu"),
        (["finished", "--tolerance", "-1"], "--tolerance: must be a number of at least 0 such as 1e-6, got -1"),
        (["damaged"], "damaged/config.yaml: damaged: must hold the keys and values of a run"),
    ],
)
def test_what_cannot_be_started_again_is_said_and_nothing_written(
    reproduce: Reproduce, words: list[str], line: str
) -> None:
    done = {"state": "finished"}
    for name in ("several/one", "several/two"):
        write_run(Path(name), summary=done)
    Path("empty").mkdir()
    write_run(Path("failed"), summary={"state": "failed", "reason": "out of luck"})
    write_run(Path("stopped"), summary={"state": "stopped", "reason": "interrupted"})
    write_run(Path("killed"))
    write_run(Path("running"))
    write_run(Path("odd\nname"), config={"epochs": "many"}, summary=done)
    write_run(Path("finished"), config={"epochz": 3}, summary=done)
    write_run(Path("damaged"), config={"model": "cnn"}, summary=done)
    with FileLock("running/.lock"):
        files = contents(Path())
        code, out, errors = reproduce(*words)
        assert contents(Path()) == files
    assert (code, out) == (2, "")
    assert f"trainer: error: {line}" in errors


def test_a_place_or_a_word_that_does_not_fit_is_a_line(reproduce: Reproduce, before: Path) -> None:
    Path("taken").mkdir()
    Path("taken/file").touch()
    files = contents(Path())
    for words, line in [
        (["--run-dir", "run/inside"], "--run-dir: run/inside: is inside the run run, which stays as it is"),
        (["--run-dir", ""], "--run-dir: must be a folder, got nothing"),
        (["--run-dir", "taken"], "--run-dir: taken: exists already; name another, or leave --run-dir out"),
        (["device=cpu,cuda"], "device=cpu,cuda: several values, but this command takes one"),
        (["dataset.path=x"], "dataset.path: no such key (from the command line)"),
    ]:
        code, out, errors = reproduce("run", *words)
        assert (code, out) == (2, "")
        assert errors.startswith(f"trainer: error: {line}") and errors.count("\n") == 1
        assert contents(Path()) == files


def test_ctrl_c_ends_it_as_it_ends_train(reproduce: Reproduce, before: Path) -> None:
    config = before / "config.yaml"
    config.write_text(config.read_text().replace("epochs: 2\n", "epochs: 100000\n"))

    def interrupt() -> None:
        while not Path("wanted/metrics.jsonl").exists():
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt, daemon=True)
    thread.start()
    code, out, errors = reproduce("run", "--run-dir", "wanted")
    thread.join()
    assert (code, errors) == (130, "trainer: interrupted\n")
    assert "next     train resume=wanted" in out
    code, _, errors = reproduce("wanted")
    assert code == 2 and "wanted: stopped (interrupted); only a run" in errors


@pytest.mark.slow
def test_a_run_of_several_processes_is_started_again_in_as_many(reproduce: Reproduce, train: Train) -> None:
    assert train(*SMALL, *DDP).code == 0
    code, out, errors = reproduce("run")
    assert (code, errors) == (0, "")
    assert "2 processes" in out and "are equal bit for bit" in out
    assert json.loads(reproduce("run", "--json")[1])["same"]


@pytest.mark.slow
def test_torchrun_is_left_out(tmp_path: Path) -> None:
    write_run(tmp_path / "run", summary={"state": "finished"})
    _, _, errors = run([*torchrun(2, "-m"), "trainer", "reproduce", "run"], tmp_path)
    assert "reproduce: starts the processes of a run itself; leave torchrun out" in errors
