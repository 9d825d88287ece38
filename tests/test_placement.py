"""How a model lies in memory changes no number, also where its optimizer comes from elsewhere."""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from torch import nn

from trainer.placement import Placement, lie_as_weights

CPU = torch.device("cpu")


def step(model: nn.Module, optimizer: torch.optim.Optimizer, seed: int) -> None:
    images = torch.randn(4, 3, 6, 6, generator=torch.Generator().manual_seed(seed))
    optimizer.zero_grad()
    F.mse_loss(model(images), torch.ones(4, 5, 6, 6)).backward()
    optimizer.step()


def test_convolutions_lie_pixel_by_pixel_and_answer_alike() -> None:
    plain = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(64, 2))
    placed = Placement(CPU).prepare(copy.deepcopy(plain))
    convolution = placed[0]  # type: ignore[index]
    assert convolution.weight.is_contiguous(memory_format=torch.channels_last)
    images = torch.randn(5, 3, 6, 6)
    assert convolution(images).is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(placed(images), plain(images))


def test_optimizer_that_was_saved_with_another_layout_goes_on_with_ours() -> None:
    plain = nn.Conv2d(3, 5, 3, padding=1)
    before = torch.optim.Adam(plain.parameters(), fused=True)
    for seed in range(3):
        step(plain, before, seed)
    placed = Placement(CPU).prepare(copy.deepcopy(plain))
    after = torch.optim.Adam(placed.parameters(), fused=True)
    after.load_state_dict(copy.deepcopy(before.state_dict()))
    lie_as_weights(after)
    for weight, values in after.state.items():
        assert values["exp_avg"].stride() == weight.stride()
    for seed in range(3, 6):
        step(plain, before, seed)
        step(placed, after, seed)
    torch.testing.assert_close(list(placed.parameters()), list(plain.parameters()))
