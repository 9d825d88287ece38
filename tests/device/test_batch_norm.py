"""Batch normalisation of a single value per channel, in one process and over several."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn

from trainer.device._batch_norm import MicroBatch, accept_single_values, synchronise

CPU = torch.device("cpu")


@pytest.fixture
def group() -> Iterator[None]:
    """A process group of this process alone."""
    dist.init_process_group("gloo", store=torch._C._distributed_c10d.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def trained_norm() -> nn.BatchNorm2d:
    """Return a layer with statistics and weights that differ from the initial ones."""
    norm = nn.BatchNorm2d(3)
    nn.init.uniform_(norm.weight)
    nn.init.uniform_(norm.bias)
    norm(torch.randn(4, 3, 5, 5) * 2 + 1)
    return norm


def forward_and_backward(norm: nn.Module, inputs: Tensor) -> list[Tensor]:
    """Return the outputs, the gradients of the inputs and of the weights, and the buffers afterwards."""
    inputs = inputs.clone().requires_grad_()
    outputs = norm(inputs)
    outputs.square().sum().backward()
    assert inputs.grad is not None
    return [outputs.detach(), inputs.grad, *(each.grad for each in norm.parameters()), *norm.buffers()]


@pytest.mark.parametrize("synchronised", [False, True], ids=["alone", "synchronised"])
def test_single_values_are_normalised_by_the_running_statistics_which_stay(synchronised: bool, group: None) -> None:
    plain = trained_norm()
    ours: nn.Module = nn.Sequential(copy.deepcopy(plain))
    ours = synchronise(ours, MicroBatch(), CPU) if synchronised else accept_single_values(ours)
    single, several = torch.randn(1, 3, 1, 1), torch.randn(2, 3, 4, 4)
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        copy.deepcopy(plain)(single)
    torch.testing.assert_close(forward_and_backward(ours, several), forward_and_backward(plain, several))
    wanted = forward_and_backward(plain.eval(), single)
    torch.testing.assert_close(forward_and_backward(ours, single), wanted)


def test_a_layer_is_still_strict_about_axes() -> None:
    ours = accept_single_values(nn.Sequential(nn.BatchNorm2d(3)))
    for shape in ((2, 3), (1, 3)):
        with pytest.raises(ValueError, match="expected 4D input"):
            ours(torch.randn(*shape))
    assert isinstance(ours[0], nn.BatchNorm2d)  # type: ignore[index]
