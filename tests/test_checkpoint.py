"""Checkpoints: atomic, plain, ranked; what was saved before stays good."""

from __future__ import annotations

import random
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from tests.conftest import Train
from trainer.checkpoint import BEST, LAST, PREVIOUS, Checkpoints, RandomStates
from trainer.config import RunError


def weights(value: float, size: int = 4) -> dict[str, Any]:
    linear = nn.Linear(size, size)
    nn.init.constant_(linear.weight, value)
    return {"model": linear}


def test_a_checkpoint_comes_back_with_config_and_step(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path / "new", keep=1, extra={"config": {"seed": 3}})
    checkpoints.save(weights(0.5), step=7)
    state = checkpoints.load(LAST)
    assert (state["step"], state["config"]) == (7, {"seed": 3})
    assert torch.equal(state["model"]["weight"], torch.full((4, 4), 0.5))
    assert [path.name for path in (tmp_path / "new").iterdir()] == [LAST]


def test_the_best_stays_when_last_goes_on(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, keep=1, extra={})
    checkpoints.save(weights(1.0), step=1, best=True)
    checkpoints.save(weights(2.0), step=2)
    assert checkpoints.load(BEST)["model"]["weight"][0, 0] == 1.0
    assert checkpoints.load(LAST)["model"]["weight"][0, 0] == 2.0


def test_the_k_best_are_kept_and_no_others(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, keep=2, extra={})
    best = float("-inf")
    for step, score in enumerate([0.3, 0.9, 0.1, 0.5, 0.95]):
        checkpoints.rank((score, -1.0), step)
        checkpoints.save(weights(score), step=step, best=score > best)
        best = max(best, score)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["best-1.pt", "best-4.pt", BEST, LAST, PREVIOUS]
    assert checkpoints.load(BEST)["step"] == checkpoints.load("best-4.pt")["step"] == 4


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
    """Its state cannot be pickled."""

    def state_dict(self) -> dict[str, Any]:
        return {"function": lambda: None}

    def load_state_dict(self, state: dict[str, Any]) -> None: ...


@pytest.mark.parametrize("damage", ["truncated", "empty", "foreign", "gone"])
def test_a_damaged_checkpoint_is_named(tmp_path: Path, damage: str) -> None:
    checkpoints = Checkpoints(tmp_path, keep=1, extra={})
    checkpoints.save(weights(1.0), step=1)
    path = tmp_path / LAST
    if damage == "truncated":
        path.write_bytes(path.read_bytes()[:-100])
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage == "foreign":
        torch.save({"model": Path("object")}, path)
    else:
        path.unlink()
    with pytest.raises(RunError, match=r"cannot read the checkpoint .*last\.pt"):
        checkpoints.load(LAST)


def test_random_states_repeat_every_generator_and_are_plain(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, keep=1, extra={})
    np.random.standard_normal()  # leaves half a pair behind
    checkpoints.save({"random": RandomStates()}, step=0)
    drawn = (random.random(), np.random.standard_normal(3).tolist(), torch.rand(3).tolist())
    RandomStates().load_state_dict(checkpoints.load(LAST)["random"])
    assert drawn == (random.random(), np.random.standard_normal(3).tolist(), torch.rand(3).tolist())


@pytest.fixture
def small_disk(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    """A file system of as many KiB as the parameter says."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={request.param}k", "tmpfs", str(folder)]
    if subprocess.run(command, capture_output=True, check=False).returncode != 0:
        pytest.skip("mounting a small disk needs root")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.parametrize("small_disk", [4, 12, 20, 40], indirect=True)
def test_a_disk_too_small_for_the_first_files_is_one_line(train: Train, small_disk: Path) -> None:
    result = train(f"run_dir={small_disk / 'run'}", "epochs=2")
    assert result.code == 1
    (line,) = result.err.splitlines()
    assert line.startswith("train: error: ")
    assert "No space left on device" in line or "no space left on the disk" in line


@pytest.mark.parametrize("small_disk", [1024], indirect=True)
def test_a_full_disk_is_said_and_the_last_good_checkpoint_stays(train: Train, small_disk: Path) -> None:
    run_dir = small_disk / "run"
    result = train(f"run_dir={run_dir}", "epochs=3", "model.hidden=100", "logger=none")
    assert result.code == 1
    (line,) = result.err.splitlines()
    assert line.startswith(f"train: error: cannot write the checkpoint {run_dir}/checkpoints/")
    assert "No space left on device" in line or "no space left on the disk" in line
    assert f"(the log: {run_dir}/train.log)" in line
    state = torch.load(run_dir / "checkpoints" / LAST, weights_only=True)
    assert state["step"] == state["progress"]["step"] == 21
    assert not list((run_dir / "checkpoints").glob(".*"))
