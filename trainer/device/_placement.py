"""Model placement: on a single device, replicated or sharded."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from trainer.checkpoint import Stateful as Stateful
from trainer.device._batch_norm import accept_single_values


@dataclass(frozen=True)
class Placement:
    """The placement of a model on one device; subclasses place replicated and sharded models.

    Args:
        device: the device of this process.
    """

    processes: ClassVar[bool] = False  # whether several processes may train the model
    device: torch.device

    @property
    def gpus(self) -> list[torch.device]:
        """The GPUs from NVIDIA or AMD that this process computes on."""
        return [self.device] if self.device.type == "cuda" else []

    def prepare(self, model: nn.Module) -> nn.Module:
        """Return a newly built model, with layers adapted to the placement; the optimizer is built afterwards."""
        return accept_single_values(model)

    def normalised_together(self, count: int) -> int:
        """Return how many of the ``count`` samples of a micro-batch the batch normalisation of rank 0 sees together."""
        return count

    def wrap(self, model: nn.Module, averaged: nn.Module | None, optimizer: torch.optim.Optimizer) -> nn.Module:
        """Return the module that training calls instead of ``model``; called once, after the processes are connected.

        Args:
            model: the prepared model on the device.
            averaged: the model with the averaged weights, or None without ``ema``.
            optimizer: the optimizer of ``model``, before its first step.
        """
        return model

    def exchanging(
        self, wrapped: nn.Module, *, last: bool, counts: bool, all_count: bool
    ) -> contextlib.AbstractContextManager[Any]:
        """Return the context for the forward and backward pass of a micro-batch.

        Args:
            wrapped: the module that ``wrap`` has returned.
            last: whether this is the last micro-batch of the batch, in which the processes exchange gradients.
            counts: whether this process has samples of the micro-batch.
            all_count: whether every process has samples of every micro-batch of the batch.
        """
        return contextlib.nullcontext()

    def evaluating(self) -> contextlib.AbstractContextManager[Any]:
        """Return the context for evaluations, without gradients."""
        return torch.inference_mode()

    def gathered(self, item: nn.Module | torch.optim.Optimizer) -> Stateful:
        """Return an object whose state dict is the one that ``item`` would have on a single device."""
        return item

    def shards(self, parameters: Sequence[Tensor]) -> list[Tensor]:
        """Return the parts of the parameters that this process holds."""
        return list(parameters)

    def full(self, value: Tensor) -> Tensor:
        """Return a value as a plain tensor, even if it was computed from sharded tensors."""
        return value


def for_kernels(state: Mapping[str, Any], optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Adapt the state dict of an optimizer to another optimizer of the same weights that may use other kernels.

    State tensors get the strides of their weights, because the fused CPU kernels do not check strides.
    """
    pairs = zip(state["param_groups"], optimizer.param_groups, strict=True)
    groups = [{**saved, "fused": group["fused"]} if "fused" in group else saved for saved, group in pairs]
    return {**map_state(_with_strides_of, state, optimizer), "param_groups": groups}


def map_state(
    change: Callable[[Tensor, Any], Any], state: Mapping[str, Any], optimizer: torch.optim.Optimizer
) -> dict[str, Any]:
    """Return the state dict of an optimizer with ``change(weight, value)`` in place of each value of each weight."""
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    of_weights = {
        number: {name: change(weights[number], value) for name, value in values.items()}
        for number, values in state["state"].items()
    }
    return {**state, "state": of_weights}


def _with_strides_of(weight: Tensor, value: Any) -> Any:
    if not isinstance(value, Tensor) or value.shape != weight.shape or value.stride() == weight.stride():
        return value
    return torch.empty_strided(weight.shape, weight.stride(), dtype=value.dtype, device=value.device).copy_(value)
