"""The comparison of a run with its repetition: curves, weights and environments."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from trainer.commands.reproduce.comparison import Difference, compare_points, compare_weights, environment_differences


def test_points_are_compared_without_what_the_clock_says() -> None:
    one = [{"step": 1, "epoch": 1, "val/loss": 1.0, "lr": 0.1, "samples_per_second": 3.0, "epoch/data_wait": 0.5}]
    other = [{"step": 1, "epoch": 1, "val/loss": 1.0, "lr": 0.1, "samples_per_second": 4.0}]
    assert compare_points(one, other).first is None
    for changes in ({"val/loss": None}, {"lr": 0.2}, {"step": 2}, {"val/f1": 1.0}, {"val/loss": "1.0"}):
        found = compare_points(one, [{**other[0], **changes}], tolerance=0.1).first
        assert found is not None and found.name in changes
    near = compare_points(one, [{**other[0], "val/loss": 1.05}], tolerance=0.1)
    assert near.first is None and near.largest == pytest.approx(0.05 / 1.05)


def test_weights_are_compared_by_their_bits(tmp_path: Path) -> None:
    paths = [tmp_path / "one", tmp_path / "other"]
    tensor = torch.tensor([1.0, -2.0, float("nan")])
    pairs = [
        (tensor, tensor.clone(), 0, 0.0),
        (torch.tensor(0.0), torch.tensor(-0.0), 1, 0.0),
        (torch.tensor([4.0, 2.0]), torch.tensor([4.0, 1.0]), 1, 0.25),
        (torch.tensor([1.0]), torch.tensor([1.0], dtype=torch.float64), 1, float("inf")),
        (torch.tensor([1.0]), torch.tensor([float("nan")]), 1, float("inf")),
        (torch.tensor([True]), torch.tensor([False]), 1, 1.0),
        (torch.tensor([3], dtype=torch.bfloat16), torch.tensor([3], dtype=torch.bfloat16), 0, 0.0),
    ]
    for one, other, different, largest in pairs:
        save_file({"weight": one}, paths[0])
        save_file({"weight": other}, paths[1])
        found = compare_weights(*paths)
        assert (found.reason, found.different, found.largest) == ("", different, largest)
    save_file({"others": tensor}, paths[1])
    assert compare_weights(*paths).different == 2
    paths[1].write_bytes(b"no weights")
    assert "cannot be read" in compare_weights(*paths).reason


def test_what_others_have_written_into_an_environment_is_no_error() -> None:
    odd: list[dict[str, Any]] = [{"git": 1, "versions": [1], "device": "cpu", "data": None}, {}, {"git": {"diff": 3}}]
    now = {"git": {"commit": "a", "diff": ""}, "versions": {"torch": "2"}, "device": {"name": "x"}, "python": "3"}
    found = [environment_differences(each, now) for each in odd]
    assert Difference("version", "torch", None, "2") in found[0] and found[1] == []
    assert found[2] == [Difference("code", "commit", None, "a")]
