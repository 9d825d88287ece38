"""The memory layout of a model changes no result, even if its optimizer state was saved with another layout."""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from torch import nn

from trainer.device._placement import for_kernels


def step(model: nn.Module, optimizer: torch.optim.Optimizer, seed: int) -> None:
    images = torch.randn(4, 3, 6, 6, generator=torch.Generator().manual_seed(seed))
    optimizer.zero_grad()
    F.mse_loss(model(images), torch.ones(4, 5, 6, 6)).backward()
    optimizer.step()


def test_optimizer_that_was_saved_with_another_layout_goes_on_with_ours() -> None:
    plain = nn.Conv2d(3, 5, 3, padding=1)
    before = torch.optim.Adam(plain.parameters(), fused=True)
    for seed in range(3):
        step(plain, before, seed)
    placed = copy.deepcopy(plain).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    after = torch.optim.Adam(placed.parameters(), fused=True)
    saved = copy.deepcopy(before.state_dict())
    saved["param_groups"][0]["fused"] = False  # as where the weights lie in pieces
    after.load_state_dict(for_kernels(saved, after))
    assert after.param_groups[0]["fused"] is True
    for weight, values in after.state.items():
        assert values["exp_avg"].stride() == weight.stride()
    for seed in range(3, 6):
        step(plain, before, seed)
        step(placed, after, seed)
    torch.testing.assert_close(list(placed.parameters()), list(plain.parameters()))
