"""Checkpoints are atomic, hold plain data, are ranked, and never damage earlier ones."""

from __future__ import annotations

import contextlib
import errno
import io
import json
import os
import random
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from torch import nn

from tests import kills
from tests.conftest import Train
from tests.shell import TRAIN
from trainer.checkpoint import BEST, LAST, PREVIOUS, Checkpoints, FoundCheckpoint, RandomStates, _copy, _reason
from trainer.config import ConfigError, RunError
from trainer.runs.checkpoint_file import dump


def read(path: Path) -> dict[str, Any]:
    state: dict[str, Any] = torch.load(path, weights_only=True)
    return state


def weights(value: float, size: int = 4) -> dict[str, Any]:
    linear = nn.Linear(size, size)
    nn.init.constant_(linear.weight, value)
    return {"model": linear}


def test_a_checkpoint_comes_back_with_config_and_step(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path / "new", keep=1, extra={"config": {"seed": 3}})
    checkpoints.save(weights(0.5), step=7)
    state = read(tmp_path / "new" / LAST)
    assert (state["step"], state["config"]) == (7, {"seed": 3})
    assert torch.equal(state["model"]["weight"], torch.full((4, 4), 0.5))
    assert [path.name for path in (tmp_path / "new").iterdir()] == [LAST]


def test_the_best_stays_when_last_goes_on(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, keep=1, extra={})
    checkpoints.save(weights(1.0), step=1, best=True)
    checkpoints.save(weights(2.0), step=2)
    assert read(tmp_path / BEST)["model"]["weight"][0, 0] == 1.0
    assert read(tmp_path / LAST)["model"]["weight"][0, 0] == 2.0


def test_the_k_best_are_kept_and_no_others(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, keep=2, extra={})
    best = float("-inf")
    for step, score in enumerate([0.3, 0.9, 0.1, 0.5, 0.95]):
        checkpoints.rank((score, -1.0), step)
        checkpoints.save(weights(score), step=step, best=score > best)
        best = max(best, score)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["best-1.pt", "best-4.pt", BEST, LAST, PREVIOUS]
    assert read(tmp_path / BEST)["step"] == read(tmp_path / "best-4.pt")["step"] == 4


def test_what_somebody_else_has_put_there_stays_and_what_is_not_wanted_any_more_goes(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, keep=2, extra={})
    (tmp_path / "best-backup.pt").write_text("mine")
    for step in range(3):
        checkpoints.rank((float(step),), step)
        checkpoints.save(weights(step), step=step, best=True)
    assert {path.name for path in tmp_path.glob("best-*")} == {"best-1.pt", "best-2.pt", "best-backup.pt"}
    for path in (LAST, PREVIOUS, BEST):
        (tmp_path / path).unlink()
    found = checkpoints.newest()
    assert found is not None and found.name == "best-2.pt"
    checkpoints = Checkpoints(tmp_path, keep=1, extra={})
    checkpoints.save(weights(9.0), step=9, best=True)
    assert {path.name for path in tmp_path.glob("best-*")} == {"best-backup.pt"}


def test_equal_scores_are_ranked_by_what_decides_the_best_and_not_by_their_age(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, keep=2, extra={})
    for step, loss in enumerate([0.2, 0.1, 0.3, 0.4]):
        checkpoints.rank((0.9, -loss), step)
    assert checkpoints.ranking == [[0.9, -0.1, 1], [0.9, -0.2, 0]]


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, keep=1, extra={})
    checkpoints.save(weights(1.0), step=1)
    before = (tmp_path / LAST).read_bytes()
    with pytest.raises(RunError, match=r"cannot write the checkpoint .*last\.pt: "):
        checkpoints.save({"model": Unsaveable()}, step=2)
    assert (tmp_path / LAST).read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == [LAST]


class Unsaveable:
    """An object whose state cannot be pickled."""

    def state_dict(self) -> dict[str, Any]:
        return {"function": lambda: None}

    def load_state_dict(self, state: dict[str, Any]) -> None: ...


def damage(path: Path, how: str) -> None:
    """Damage a file as failing disks, copies and kills do."""
    whole = path.read_bytes()
    middle = len(whole) // 2
    path.unlink()  # its other names keep what it was
    if how == "truncated":
        path.write_bytes(whole[:-100])
    elif how == "torn":
        path.write_bytes(whole[:middle] + bytes(len(whole) - middle))
    elif how == "bit flipped":
        path.write_bytes(whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :])
    elif how == "a byte missing":
        path.write_bytes(whole[:middle] + whole[middle + 1 :])
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "no checksum":
        torch.save(torch.load(io.BytesIO(whole), weights_only=True), path)
    elif how == "other":
        path.write_bytes(b"#!/bin/sh\n" * 100)


DAMAGES = {
    "truncated": "it is cut short, or no checkpoint",
    "torn": "it is cut short, or no checkpoint",
    "bit flipped": "its checksum does not fit what it holds",
    "a byte missing": "its checksum does not fit what it holds",
    "empty": "it is empty",
    "no checksum": "it has no checksum",
    "other": "it is cut short, or no checkpoint",
    "gone": "No such file or directory",
}


@pytest.mark.parametrize(("how", "reason"), DAMAGES.items())
def test_a_damaged_checkpoint_is_named_and_the_one_before_it_is_used(tmp_path: Path, how: str, reason: str) -> None:
    checkpoints = Checkpoints(tmp_path, keep=1, extra={})
    checkpoints.save(weights(1.0), step=1, best=True)
    checkpoints.save(weights(2.0), step=2)
    damage(tmp_path / LAST, how)
    found = checkpoints.newest()
    assert found is not None
    assert (found.name, found.state["step"]) == (PREVIOUS, 1)
    assert found.damaged == [f"{tmp_path / LAST} cannot be used: {reason}"]
    checkpoints.restore_files(found, 1)
    assert [read(tmp_path / name)["step"] for name in (LAST, PREVIOUS, BEST)] == [1, 1, 1]
    damage(tmp_path / LAST, how)
    damage(tmp_path / PREVIOUS, how)
    found = checkpoints.newest()
    assert found is not None
    assert (found.name, found.state["step"]) == (BEST, 1)
    assert found.damaged == [f"{tmp_path / name} cannot be used: {reason}" for name in (LAST, PREVIOUS)]
    damage(tmp_path / BEST, how)
    if how == "gone":
        assert checkpoints.newest() is None
        return
    with pytest.raises(ConfigError) as caught:
        checkpoints.newest()
    assert caught.value.problems == tuple(
        f"resume: {tmp_path / name} cannot be used: {reason}" for name in (LAST, PREVIOUS, BEST)
    )


def test_a_flipped_bit_anywhere_is_seen(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, keep=1, extra={})
    checkpoints.save(weights(1.0), step=1)
    whole, draw = (tmp_path / LAST).read_bytes(), random.Random(0)
    for _ in range(300):
        position, bit = draw.randrange(len(whole)), draw.randrange(8)
        (tmp_path / LAST).write_bytes(whole[:position] + bytes([whole[position] ^ (1 << bit)]) + whole[position + 1 :])
        with pytest.raises(ConfigError, match="cannot be used"):
            checkpoints.newest()


def test_where_the_best_is_damaged_the_next_best_stands_in(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, keep=3, extra={})
    for step, score in enumerate([0.5, 0.9, 0.7]):
        checkpoints.rank((score,), step)
        checkpoints.save(weights(score), step=step, best=step < 2)
    damage(tmp_path / BEST, "bit flipped")
    assert checkpoints.best().name == "best-1.pt"
    damage(tmp_path / "best-1.pt", "empty")
    found = checkpoints.best()
    assert (found.name, found.state["step"], len(found.damaged)) == ("best-2.pt", 2, 2)
    for path in tmp_path.iterdir():
        path.unlink()
    with pytest.raises(RunError, match=r"best\.pt cannot be used: No such file or directory"):
        checkpoints.best()


class Evil:
    """An object that writes a file when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self._mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self._mark,))


@pytest.mark.parametrize("what", ["code", "object", "array"])
def test_foreign_objects_are_refused_in_one_line_and_never_run(tmp_path: Path, what: str) -> None:
    thing = {"code": Evil(tmp_path / "ran"), "object": Path("x"), "array": np.ones(3)}[what]
    dump({"model": thing, "step": 1}, tmp_path / LAST)
    with pytest.raises(ConfigError, match=r"holds .+ besides tensors and plain data; it could run code") as caught:
        Checkpoints(tmp_path, keep=1, extra={}).newest()
    assert len(caught.value.problems) == len(str(caught.value).splitlines()) == 1
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("zipped", [True, False])
def test_a_file_without_a_checksum_is_not_even_opened_by_torch(tmp_path: Path, zipped: bool) -> None:
    torch.save({"model": Evil(tmp_path / "ran"), "step": 1}, tmp_path / LAST, _use_new_zipfile_serialization=zipped)
    with pytest.raises(ConfigError, match="it has no checksum" if zipped else "it is cut short, or no checkpoint"):
        Checkpoints(tmp_path, keep=1, extra={}).newest()
    assert not (tmp_path / "ran").exists()


def test_in_the_background_the_state_is_that_of_the_moment_and_nothing_is_half_there(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, keep=2, extra={}, background=True)
    objects = weights(0.0, size=1000)
    for step in range(6):
        nn.init.constant_(objects["model"].weight, float(step))
        checkpoints.rank((float(step),), step)
        checkpoints.save(objects, step=step, best=True)
        nn.init.constant_(objects["model"].weight, -1.0)  # the next step, while the file is written
        found = Checkpoints(tmp_path, keep=1, extra={}).newest()  # another process looks
        assert found is None or (found.damaged == [] and found.state["model"]["weight"][0, 0] == found.state["step"])
    checkpoints.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["best-4.pt", "best-5.pt", BEST, LAST, PREVIOUS]
    assert read(tmp_path / LAST)["model"]["weight"][0, 0] == read(tmp_path / LAST)["step"] == 5


def test_an_error_in_the_background_stops_the_run_at_the_next_checkpoint(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, keep=1, extra={}, background=True)
    checkpoints.save({"model": Unsaveable()}, step=1)
    with pytest.raises(RunError, match="cannot write the checkpoint"):
        checkpoints.save(weights(1.0), step=2)
    checkpoints.close()


def test_a_copy_of_a_state_is_the_same_but_shares_nothing() -> None:
    state = nn.BatchNorm1d(3).state_dict()
    copied = _copy({"model": state, "list": [torch.ones(2)], "number": 3})
    assert copied["model"]._metadata == state._metadata  # type: ignore[attr-defined]
    assert list(copied["model"]) == list(state)
    state["weight"].zero_()
    assert copied["model"]["weight"].tolist() == [1, 1, 1]


def test_the_best_weights_are_there_for_others_too(train: Train) -> None:
    result = train("epochs=3", "ema=0.9", "logger=none")
    folder = result.run_dir / "checkpoints"
    with safe_open(folder / "best.safetensors", framework="pt") as file:
        shared = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  it is no dict
    kept = torch.load(folder / BEST, weights_only=True)["ema"]
    assert shared.keys() == kept.keys()
    assert all(torch.equal(shared[name], kept[name]) for name in kept)


def test_random_states_repeat_every_generator_and_are_plain(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, keep=1, extra={})
    np.random.standard_normal()  # leaves half a pair behind
    checkpoints.save({"random": RandomStates()}, step=0)
    drawn = (random.random(), np.random.standard_normal(3).tolist(), torch.rand(3).tolist())
    RandomStates().load_state_dict(read(tmp_path / LAST)["random"])
    assert drawn == (random.random(), np.random.standard_normal(3).tolist(), torch.rand(3).tolist())


@contextlib.contextmanager
def mounted(folder: Path, kib: int) -> Iterator[Path]:
    """Mount a file system of the given number of KiB."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={kib}k", "tmpfs", str(folder)]
    if subprocess.run(command, capture_output=True, check=False).returncode != 0:
        pytest.skip("mounting a small disk needs root")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-R", str(folder)], check=True)


@pytest.mark.slow
def test_the_last_checkpoint_of_a_stopped_run_must_be_written_whatever_the_config_says(tmp_path: Path) -> None:
    with mounted(tmp_path / "disk", 1024) as disk:
        words = [*SMALL_RUN, "epochs=100000", "checkpoint.on_error=warn", f"run_dir={disk / 'run'}"]
        process = subprocess.Popen(
            [*TRAIN, *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        for line in process.stdout:
            if "going on" in line:
                break
        process.terminate()
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 1
        assert errors.startswith(f"train: error: cannot write the checkpoint {disk}/run/checkpoints/last.pt: ")
        assert read(disk / "run" / "checkpoints" / LAST)["step"] == 21


SMALL_RUN = ("model.hidden=100", "logger=none")  # checkpoints of 530 KiB


@pytest.mark.parametrize("kib", [4, 12, 20, 40])
def test_a_disk_too_small_for_the_first_files_is_one_line(train: Train, tmp_path: Path, kib: int) -> None:
    with mounted(tmp_path / "disk", kib) as disk:
        result = train(f"run_dir={disk / 'run'}", "epochs=2")
        assert result.code == 1
        (line,) = result.err.splitlines()
        assert line.startswith("train: error: ")
        assert "No space left on device" in line or "no space left on the disk" in line


@pytest.mark.parametrize("background", ["true", pytest.param("false", marks=pytest.mark.slow)])
def test_a_full_disk_is_said_and_the_last_good_checkpoint_stays(train: Train, tmp_path: Path, background: str) -> None:
    words = (*SMALL_RUN, "epochs=3", "resume=auto", f"checkpoint.async={background}")
    with mounted(tmp_path / "disk", 1024) as disk:
        run_dir = disk / "run"
        result = train(f"run_dir={run_dir}", *words)
        assert result.code == 1
        (line,) = result.err.splitlines()
        assert line.startswith(f"train: error: cannot write the checkpoint {run_dir}/checkpoints/")
        assert "No space left on device" in line or "no space left on the disk" in line
        assert f"(the log: {run_dir}/train.log)" in line
        state = read(run_dir / "checkpoints" / LAST)
        assert state["step"] == state["progress"]["step"] == 21
        assert not list((run_dir / "checkpoints").glob(".*"))
        subprocess.run(["mount", "-o", "remount,size=8m", str(disk)], check=True)
        resumed = train(f"run_dir={run_dir}", *words)
        assert (resumed.code, "resume   after step 21" in resumed.out) == (0, True), resumed.err
        whole = train(*words[:-2])
        assert kills.lines(run_dir / "metrics.jsonl") == kills.lines(whole.run_dir / "metrics.jsonl")
        assert kills.plain(read(run_dir / "checkpoints" / LAST)["model"]) == kills.plain(
            read(whole.run_dir / "checkpoints" / LAST)["model"]
        )


def test_a_full_disk_can_be_a_warning_and_the_run_goes_on(train: Train, tmp_path: Path) -> None:
    with mounted(tmp_path / "disk", 1024) as disk:
        run_dir = disk / "run"
        result = train(f"run_dir={run_dir}", *SMALL_RUN, "epochs=3", "checkpoint.on_error=warn")
        assert (result.code, result.err) == (0, "")
        assert result.out.count("warning  cannot write the checkpoint") >= 2
        assert "the best weights are lost: testing those of step 21 (best.pt)" in result.out
        summary = json.loads((run_dir / "summary.json").read_text())
        assert (summary["state"], summary["steps"], summary["tested_step"]) == ("finished", 63, 21)
        assert "(weights of step 21)" in result.out
        assert read(run_dir / "checkpoints" / LAST)["step"] == 21


SPOIL = """
import shutil, subprocess
import torch
from trainer.metrics import metric

times = 0

@metric({name!r}, "classification")
def spoil(counts):
    global times
    times += 1
    if times == 4:  # the first epoch asks three times: for the curve, for val and for the line
        {what}
    return torch.zeros(())
"""


def spoiled(folder: Path, name: str, what: str) -> tuple[str, ...]:
    """Return the words of a run whose files are changed in its second epoch."""
    plugin = folder / f"{name}.py"
    plugin.write_text(SPOIL.format(name=name, what=what))
    return (f"plugins=[{plugin}]", f"metrics=[accuracy,{name}]", *SMALL_RUN, "epochs=3")


@pytest.mark.parametrize("on_error", ["stop", "warn"])
def test_a_folder_that_turns_read_only_keeps_what_it_has(
    train: Train, tmp_path: Path, forgets: None, on_error: str
) -> None:
    with mounted(tmp_path / "disk", 8192) as disk:
        mount = f"mount --bind {disk}/run/checkpoints {disk}/run/checkpoints"
        command = f"{mount} && {mount.replace('--bind', '-o remount,bind,ro')}"
        words = spoiled(tmp_path, "spoiled", f"subprocess.run({command!r}, shell=True, check=True)")
        result = train(*words, f"run_dir={disk / 'run'}", f"checkpoint.on_error={on_error}")
        assert read(disk / "run" / "checkpoints" / LAST)["step"] == 21
        assert result.code == (1 if on_error == "stop" else 0)
        if on_error == "stop":
            (line,) = result.err.splitlines()
            assert line.startswith(
                f"train: error: cannot write the checkpoint {disk}/run/checkpoints/last.pt: Read-only"
            )
        else:
            assert result.err == ""
            assert result.out.count("Read-only file system; going on") == 2
            assert "testing those of step 21 (best.pt)" in result.out


@pytest.mark.parametrize("on_error", ["stop", "warn"])
def test_a_folder_that_vanishes_is_said(train: Train, tmp_path: Path, forgets: None, on_error: str) -> None:
    words = spoiled(tmp_path, "spoiled", f"shutil.rmtree({str(tmp_path / 'run')!r})")
    result = train(*words, f"run_dir={tmp_path / 'run'}", f"checkpoint.on_error={on_error}")
    (line,) = result.err.splitlines()
    assert result.code == 1
    assert line.startswith(f"train: error: the run directory {tmp_path}/run is gone: ")
    if on_error == "stop":
        assert "cannot write the checkpoint" in line
    else:
        assert "is gone; going on" in result.out
        assert "epoch 3/3" in result.out
        assert "best.pt cannot be used: No such file or directory" in line


@pytest.mark.parametrize(
    ("gpus", "saved", "set_"),
    [
        ([], "abcd", {}),
        ([2], "abcd", {2: "c"}),  # of an earlier version, which saved those of all GPUs
        ([2], "a", {2: "a"}),  # of another GPU
        ([0, 1], "ab", {0: "a", 1: "b"}),
        ([0, 1, 2], "ab", {0: "a", 1: "b"}),
        ([3], "ab", {}),
    ],
)
def test_only_the_gpus_of_the_run_get_a_state(
    gpus: list[int], saved: str, set_: dict[int, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    state, got = {**RandomStates().state_dict(), "cuda": [*saved]}, {}
    monkeypatch.setattr(torch.cuda, "set_rng_state", lambda each, gpu: got.update({gpu.index: each}))
    monkeypatch.setattr(torch.cuda, "get_rng_state", lambda gpu: f"state of {gpu.index}")
    states = RandomStates([torch.device("cuda", number) for number in gpus])
    states.load_state_dict(state)
    assert got == set_
    assert states.state_dict()["cuda"] == [f"state of {number}" for number in gpus]


@pytest.mark.parametrize(
    ("cause", "exists", "reason"),
    [
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), True, "No space left on device"),
        (OSError(errno.EFBIG, os.strerror(errno.EFBIG)), True, "File too large"),  # ulimit -f
        (FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT)), False, "the folder {run} is gone"),
    ],
)
def test_the_reason_of_a_failed_write_is_the_systems_and_not_torchs(
    tmp_path: Path, cause: OSError, exists: bool, reason: str
) -> None:
    run = tmp_path / "run"
    if exists:
        run.mkdir()  # the disk was full before the folder of the checkpoints could be made
    error = RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 90048 vs 90000")
    error.__context__ = cause
    assert _reason(run / "checkpoints", error) == reason.format(run=run)


def test_a_run_that_goes_on_from_before_its_early_end_has_the_best_files_of_then(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, keep=1, extra={})
    checkpoints.rank([0.5], 3)
    checkpoints.save({}, step=3, best=True)
    checkpoints.save({}, step=5)
    checkpoints.rank([0.7], 5)
    checkpoints.save({}, step=5, best=True, early=True)
    assert checkpoints.best().state["step"] == 5
    before = FoundCheckpoint(PREVIOUS, read(tmp_path / PREVIOUS), [])
    checkpoints.restore_files(before, best_step=3)
    assert [read(tmp_path / name)["step"] for name in (LAST, BEST)] == [5, 3]
    assert {path.name for path in tmp_path.iterdir()} == {LAST, PREVIOUS, BEST}
