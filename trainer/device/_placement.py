"""How a model lies on the devices: on one, copied to several, or cut in pieces. The engine asks, a device answers."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
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
        """Change the layers of a model that has just been built; before the optimizer sees its weights."""
        return model

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


def for_kernels(state: Mapping[str, Any], optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """The state of another optimizer of the same weights, to be loaded by this one, which may use other kernels.

    What it remembers of each weight is laid in memory as the weight lies: the fused kernels of the CPU do not look.
    """
    pairs = zip(state["param_groups"], optimizer.param_groups, strict=True)
    groups = [{**saved, "fused": group["fused"]} if "fused" in group else saved for saved, group in pairs]
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    of_weights = {
        number: {name: _lie_as(weights[number], value) for name, value in values.items()}
        for number, values in state["state"].items()
    }
    return {**state, "param_groups": groups, "state": of_weights}


def _lie_as(weight: Tensor, value: Any) -> Any:
    if not isinstance(value, Tensor) or value.shape != weight.shape or value.stride() == weight.stride():
        return value
    return torch.empty_strided(weight.shape, weight.stride(), dtype=value.dtype, device=value.device).copy_(value)
