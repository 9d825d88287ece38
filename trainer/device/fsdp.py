"""Several processes, each with a piece of the model and a share of every batch."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from trainer.config import Duration, NonNegativeInt, Processes, Threads
from trainer.device import DEVICES
from trainer.device._placement import Placement, Stateful
from trainer.device._processes import MultiProcess, device_of_this_process
from trainer.processes.world import world


@DEVICES.register
def fsdp(
    *,
    processes: Processes | Literal["auto"],
    threads: Threads | None,
    timeout: Duration,
    max_restarts: NonNegativeInt,
    sync_batchnorm: bool,
) -> Placement:
    """``fully_shard`` (FSDP2, after Zhao et al. 2023): weights, gradients and optimizer state are cut in pieces.

    For models that one device does not hold. A layer is whole while it computes. Checkpoints are whole, so that any
    other device can load them.

    Raises:
        ConfigError: there are fewer GPUs than processes.
    """
    return Sharded(device_of_this_process(processes, threads), True, sync_batchnorm)


@dataclass(frozen=True)
class Sharded(MultiProcess):
    """A piece in every process."""

    def prepare(self, model: nn.Module) -> nn.Module:
        """What is cut in pieces has to be contiguous."""
        return super().prepare(model).to(memory_format=torch.contiguous_format)  # type: ignore[call-overload,no-any-return]

    def wrap(self, model: nn.Module, averaged: nn.Module | None, optimizer: torch.optim.Optimizer) -> nn.Module:
        """In place; the optimizer gets the pieces in the place of the weights."""
        here = world()
        assert here is not None
        mesh = init_device_mesh(self.device.type, (here.size,))
        before = list(model.parameters())
        for each in (model, averaged):
            if each is not None:
                for layer in _layers(each):
                    fully_shard(layer, mesh=mesh)
        pieces = dict(zip(before, model.parameters(), strict=True))
        for group in optimizer.param_groups:
            group["params"] = [pieces[weight] for weight in group["params"]]
            if "fused" in group:
                group["fused"] = False  # not every fused kernel knows pieces
        return model

    def exchanging(
        self, wrapped: nn.Module, *, last: bool, counts: bool, all_count: bool
    ) -> contextlib.AbstractContextManager[Any]:
        """No gradient is sent before the last micro-batch."""
        assert isinstance(wrapped, FSDPModule)
        wrapped.set_requires_gradient_sync(last)
        return super().exchanging(wrapped, last=last, counts=counts, all_count=all_count)

    def evaluating(self) -> contextlib.AbstractContextManager[Any]:
        """Pieces cannot be brought together in inference mode and be trained afterwards."""
        return torch.no_grad()

    def whole(self, item: nn.Module | torch.optim.Optimizer) -> Stateful:
        """All processes have to ask at once."""
        return _WholeModel(item) if isinstance(item, nn.Module) else _WholeOptimizer(item)

    def local(self, parameters: Sequence[Tensor]) -> list[Tensor]:
        """The pieces that are here."""
        return [each.to_local() if isinstance(each, DTensor) else each for each in parameters]

    def number(self, value: Tensor) -> Tensor:
        """The sum over the pieces."""
        return value.full_tensor() if isinstance(value, DTensor) else value


def _layers(model: nn.Module) -> Iterator[nn.Module]:
    """What is brought together at a time: each layer with weights of its own, the model last."""
    for module in model.modules():
        if module is not model and any(True for _ in module.parameters(recurse=False)):
            yield module
    yield model


class _WholeModel:
    """A model in pieces, with the state of the whole."""

    def __init__(self, model: nn.Module) -> None:
        self._model = model

    def state_dict(self) -> dict[str, Any]:
        """Whole tensors on the CPU."""
        return {name: _whole(value) for name, value in self._model.state_dict().items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Each process takes its piece."""
        pieces = self._model.state_dict()
        self._model.load_state_dict({name: _piece(value, pieces[name]) for name, value in state.items()})


class _WholeOptimizer:
    """An optimizer of pieces, with the state of one of whole weights."""

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        self._optimizer = optimizer

    def state_dict(self) -> dict[str, Any]:
        """Whole tensors on the CPU."""
        state = self._optimizer.state_dict()
        of_weights = {
            number: {name: _whole(value) for name, value in values.items()} for number, values in state["state"].items()
        }
        return {**state, "state": of_weights}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Each process takes its piece: what has the shape of a weight lies as that does."""
        weights = [weight for group in self._optimizer.param_groups for weight in group["params"]]
        of_weights = {
            number: {
                name: _piece(value, weights[number])
                if value is not None and value.shape == weights[number].shape
                else value
                for name, value in values.items()
            }
            for number, values in state["state"].items()
        }
        self._optimizer.load_state_dict({**state, "state": of_weights})


def _whole(value: Any) -> Any:
    return value.full_tensor().cpu() if isinstance(value, DTensor) else value


def _piece(value: Tensor, like: Tensor) -> Tensor:
    if not isinstance(like, DTensor):
        return value
    return distribute_tensor(value.to(like.device), like.device_mesh, like.placements)
