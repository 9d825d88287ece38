"""Several processes, each with a shard of the model and a share of every batch."""

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
from torch.utils._pytree import tree_map_only

from trainer.config import Duration, NonNegativeInt, Processes, Threads
from trainer.device import DEVICES
from trainer.device._placement import Placement, Stateful, map_state
from trainer.device._processes import MultiProcess, device_of_this_process
from trainer.processes.world import current_world


@DEVICES.register
def fsdp(
    *,
    processes: Processes | Literal["auto"],
    threads: Threads | None,
    timeout: Duration,
    max_restarts: NonNegativeInt,
    sync_batchnorm: bool,
) -> Placement:
    """Use ``fully_shard`` (FSDP2, after Zhao et al. 2023), which shards weights, gradients and optimizer state.

    This trains models that do not fit on one device. A layer is gathered while it computes. Checkpoints hold gathered
    weights, so that any other device can load them.

    Raises:
        ConfigError: there are fewer GPUs than processes.
    """
    return Sharded(device_of_this_process(processes, threads), sync_batchnorm)


@dataclass(frozen=True)
class Sharded(MultiProcess):
    """The placement of a model that is sharded over all processes."""

    def prepare(self, model: nn.Module) -> nn.Module:
        # only contiguous weights can be sharded
        return super().prepare(model).to(memory_format=torch.contiguous_format)  # type: ignore[call-overload,no-any-return]

    def wrap(self, model: nn.Module, averaged: nn.Module | None, optimizer: torch.optim.Optimizer) -> nn.Module:
        """Shard the model in place, and replace its weights in the optimizer by their shards."""
        world = current_world()
        assert world is not None
        mesh = init_device_mesh(self.device.type, (world.size,))
        before = list(model.parameters())
        for each in (model, averaged):
            if each is not None:
                for layer in _layers(each):
                    fully_shard(layer, mesh=mesh)
        shards = dict(zip(before, model.parameters(), strict=True))
        for group in optimizer.param_groups:
            group["params"] = [shards[weight] for weight in group["params"]]
            if "fused" in group:
                group["fused"] = False  # not every fused kernel supports DTensor
        return model

    def exchanging(
        self, wrapped: nn.Module, *, last: bool, counts: bool, all_count: bool
    ) -> contextlib.AbstractContextManager[Any]:
        assert isinstance(wrapped, FSDPModule)
        wrapped.set_requires_gradient_sync(last)
        return super().exchanging(wrapped, last=last, counts=counts, all_count=all_count)

    def evaluating(self) -> contextlib.AbstractContextManager[Any]:
        # weights gathered in inference mode could not be trained afterwards
        return torch.no_grad()

    def gathered(self, item: nn.Module | torch.optim.Optimizer) -> Stateful:
        return _Gathered(item)

    def shards(self, parameters: Sequence[Tensor]) -> list[Tensor]:
        return [each.to_local() if isinstance(each, DTensor) else each for each in parameters]

    def full(self, value: Tensor) -> Tensor:
        return value.full_tensor() if isinstance(value, DTensor) else value


def _layers(model: nn.Module) -> Iterator[nn.Module]:
    """Yield the modules to shard, each gathered as a unit: every layer with weights of its own, then the model."""
    for module in model.modules():
        if module is not model and any(True for _ in module.parameters(recurse=False)):
            yield module
    yield model


class _Gathered:
    """A sharded model or optimizer with the state dict of an unsharded one; its methods are collective calls.

    ``torch.distributed.checkpoint.state_dict`` is not used, because its optimizer states have parameter names as keys,
    and checkpoints have parameter numbers.
    """

    def __init__(self, item: nn.Module | torch.optim.Optimizer) -> None:
        self._item = item

    def state_dict(self) -> dict[str, Any]:
        return dict(tree_map_only(DTensor, lambda shard: shard.full_tensor().cpu(), self._item.state_dict()))

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        if isinstance(self._item, nn.Module):
            shards = self._item.state_dict()
            self._item.load_state_dict({name: _shard(shards[name], value) for name, value in state.items()})
        else:
            self._item.load_state_dict(map_state(_shard, state, self._item))


def _shard(like: Tensor, value: Any) -> Any:
    """Shard a tensor in the same way as ``like``, a tensor of the same shape; return any other value unchanged."""
    if not (isinstance(value, Tensor) and isinstance(like, DTensor) and value.shape == like.shape):
        return value
    return distribute_tensor(value.to(like.device), like.device_mesh, like.placements)
