"""Collectives between the processes of a run: gather, sum, broadcast, agree."""

from __future__ import annotations

import io
import random
import time
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn

from trainer.checkpoint import Stateful
from trainer.metrics import Sums

PACE = 0.25  # seconds between two points at which processes ask each other whether to stop


class Group:
    """What the processes of a run tell each other while they train. Of one process: nothing.

    Args:
        rank, size: which process of how many.
    """

    def __init__(self, rank: int = 0, size: int = 1) -> None:
        self.rank, self.size = rank, size
        self._interval, self._left, self._asked_at = 1, 1, time.monotonic()

    @property
    def leads(self) -> bool:
        """Whether this process is the one that speaks and writes."""
        return self.rank == 0

    def gather(self, *values: float) -> list[list[float]]:
        """The values of every process, by rank."""
        if self.size == 1:
            return [[*map(float, values)]]
        mine = torch.tensor(values, dtype=torch.float64)
        everyone = [torch.empty_like(mine) for _ in range(self.size)]
        dist.all_gather(everyone, mine)
        return [each.tolist() for each in everyone]

    def add(self, sums: Sums) -> None:
        """Make sums, of which every process has a part, the whole, in every process."""
        if self.size > 1:
            for tensor in sums.state_dict().values():
                dist.all_reduce(tensor)

    def level(self, model: nn.Module) -> None:
        """Give every process the leader's buffers, such as running statistics: a checkpoint has those."""
        if self.size > 1:
            for buffer in model.buffers():
                dist.broadcast(buffer, 0)

    def total(self, sums: Sums) -> Stateful:
        """Sums of which every process has a part, with the state of the whole. All processes have to ask at once."""
        return sums if self.size == 1 else ReducedSums(self, sums)

    def broadcast(self, state: dict[str, Any] | None) -> dict[str, Any] | None:
        """The leader's state, plain types and tensors, on the CPU of every process."""
        if self.size == 1:
            return state
        buffer = io.BytesIO()
        if self.leads and state is not None:
            torch.save(state, buffer)
        length = torch.tensor([buffer.tell()])
        dist.broadcast(length, 0)
        if not length:
            return None
        if self.leads:
            dist.broadcast(torch.frombuffer(buffer.getbuffer(), dtype=torch.uint8), 0)
            return state
        content = torch.empty(int(length), dtype=torch.uint8)
        dist.broadcast(content, 0)
        received: dict[str, Any] = torch.load(io.BytesIO(content.numpy().tobytes()), weights_only=True)
        return received

    def seed(self, seed: int, step: int) -> None:
        """What a follower draws in a step, in dropout, is a function of (seed, rank, step); the leader's draws go on.

        So nothing of a follower has to be in a checkpoint.
        """
        if self.rank > 0:
            drawn = int.from_bytes(f"{seed} {self.rank} {step}".encode(), "little") % (2**61 - 1)  # a prime
            torch.manual_seed(drawn)
            random.seed(drawn)
            np.random.seed(drawn % 2**32)

    def agree(self, asked: int | None) -> int | None:
        """Whether the processes have to stop: the highest signal that one of them has heard, or None.

        Every process calls this after each batch. They ask each other not after each, but about every ``PACE``
        seconds, after as many calls as the leader says.
        """
        self._left -= 1
        if self._left > 0:
            return None
        now = time.monotonic()
        pace = (now - self._asked_at) / self._interval
        wanted = min(2 * self._interval, max(1, int(PACE / max(pace, 1e-6)))) if self.leads else 0
        flags = torch.tensor([asked or 0, wanted])
        dist.all_reduce(flags, dist.ReduceOp.MAX)
        heard, self._interval = flags.tolist()
        self._left, self._asked_at = self._interval, time.monotonic()
        return heard or None

    def ask_often(self) -> None:
        """Batches take another time from here on."""
        self._interval = self._left = 1
        self._asked_at = time.monotonic()


class ReducedSums:
    """Sums of all processes, for a checkpoint."""

    def __init__(self, group: Group, sums: Sums) -> None:
        self._group, self._sums = group, sums

    def state_dict(self) -> dict[str, Any]:
        """The whole."""
        return {name: summed(tensor) for name, tensor in self._sums.state_dict().items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The leader takes it all."""
        self._sums.load_state_dict(state)
        if not self._group.leads:
            self._sums.reset()


def differentiable_sum(tensor: Tensor) -> Tensor:
    """The sum over all processes, with its gradient: that of every process's loss."""
    summed: Tensor = _Sum.apply(tensor)  # type: ignore[no-untyped-call]
    return summed


class _Sum(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, tensor: Tensor) -> Tensor:
        return summed(tensor)

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> Tensor:
        return summed(gradient)


def summed(tensor: Tensor) -> Tensor:
    """The sum over all processes, as a tensor of its own."""
    summed = tensor.clone()
    dist.all_reduce(summed)
    return summed
