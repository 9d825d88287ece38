from __future__ import annotations

import pytest
import torch

from trainer.build import build_placement
from trainer.config import ConfigError
from trainer.device import DEVICES
from trainer.device._kernels import choose_tf32


def test_auto_takes_the_best_there_is() -> None:
    best = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    assert DEVICES.build({"name": "auto"}).type == best


def test_the_cpu_takes_as_many_threads_as_it_is_told() -> None:
    before = torch.get_num_threads()
    try:
        assert DEVICES.build({"name": "cpu", "threads": before + 1}) == torch.device("cpu")
        assert torch.get_num_threads() == before + 1
        DEVICES.build({"name": "cpu", "threads": None})
        assert torch.get_num_threads() == before + 1
    finally:
        torch.set_num_threads(before)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_gpu_that_is_not_there_is_one_line() -> None:
    with pytest.raises(ConfigError, match=r"device=cuda: torch .* sees no GPU; use device=cpu or device=auto"):
        DEVICES.build({"name": "cuda", "index": 0})


@pytest.mark.skipif(torch.backends.mps.is_available(), reason="this machine has a Metal device")
def test_a_metal_device_that_is_not_there_is_one_line() -> None:
    with pytest.raises(ConfigError, match=r"device=mps: torch .* sees no Metal device"):
        DEVICES.build({"name": "mps"})


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_number_beyond_the_last_is_one_line() -> None:
    with pytest.raises(ConfigError, match=r"device\.index: must be less than"):
        DEVICES.build({"name": "cuda", "index": 99})


def test_the_chosen_gpu_is_the_current_one(monkeypatch: pytest.MonkeyPatch) -> None:
    current: list[torch.device] = []
    for name, found in {"is_available": lambda: True, "device_count": lambda: 4, "set_device": current.append}.items():
        monkeypatch.setattr(torch.cuda, name, found)
    placement = build_placement({"name": "cuda", "index": 2})
    assert current == [torch.device("cuda", 2)] == placement.gpus
    both = build_placement({"name": "dp", "gpus": [1, 3]})
    assert current[1:] == [torch.device("cuda", 1)]
    assert both.gpus == [torch.device("cuda", 1), torch.device("cuda", 3)]


def test_tf32_is_allowed_where_the_precision_is_coarser() -> None:
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    try:
        for precision, wanted in {"fp32": (False, False), "tf32": (True, True), "bf16": (False, True)}.items():
            choose_tf32(precision)
            assert (torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32) == wanted
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before
