"""How a model lies on the devices: on one, copied to several, or cut in pieces. The engine asks, a device answers."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from trainer.checkpoint import Stateful as Stateful


@dataclass(frozen=True)
class Placement:
    """The model as it is, on one device; what lies otherwise answers otherwise, with these methods.

    Args:
        device: where this process computes.
        processes: whether several processes may train one model.
    """

    device: torch.device
    processes: bool = False

    def prepare(self, model: nn.Module) -> nn.Module:
        """Change the layers of a model that has just been built; before the optimizer sees its weights.

        Images lie in memory pixel by pixel, with their channels side by side: convolutions and poolings of the CPU and
        of tensor cores are made for that. Weights that lie so make everything after them lie so.
        """
        return model.to(memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]

    def wrap(self, model: nn.Module, averaged: nn.Module | None, optimizer: torch.optim.Optimizer) -> nn.Module:
        """What training calls in the place of ``model``; once, when the processes have met.

        Args:
            averaged: the model of averaged weights, which lies as the other does.
            optimizer: of the weights of ``model``; it has not made a step.
        """
        return model

    def exchanging(
        self, wrapped: nn.Module, *, last: bool, counts: bool, all_count: bool
    ) -> contextlib.AbstractContextManager[Any]:
        """Around forward and backward of a micro-batch.

        Args:
            wrapped: what is called.
            last: of the batch, so that gradients are exchanged.
            counts: whether its samples count, in this process.
            all_count: whether they do in every one.
        """
        return contextlib.nullcontext()

    def evaluating(self) -> contextlib.AbstractContextManager[Any]:
        """Around the calls of a model that do not train it."""
        return torch.inference_mode()

    def whole(self, item: nn.Module | torch.optim.Optimizer) -> Stateful:
        """A model or an optimizer with the state that it has on one device, whatever its pieces."""
        return item

    def local(self, parameters: Sequence[Tensor]) -> list[Tensor]:
        """What this process has of them."""
        return list(parameters)

    def number(self, value: Tensor) -> Tensor:
        """A number computed from all pieces."""
        return value


def lie_as_weights(optimizer: torch.optim.Optimizer) -> None:
    """Lay what a loaded optimizer remembers of each weight in memory as the weight lies: fused kernels do not look."""
    for weight, values in optimizer.state.items():
        for name, value in values.items():
            if isinstance(value, Tensor) and value.shape == weight.shape and value.stride() != weight.stride():
                values[name] = torch.empty_like(weight).copy_(value)
