"""Collectives between the processes of a run: gather, sum, broadcast, agree on a signal."""

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

PACE = 0.25  # seconds between two collective calls that check for signals


class Group:
    """The collectives of the processes of a run. In a group of one process, they do not communicate.

    Args:
        rank: the rank of this process.
        size: the world size.
    """

    def __init__(self, rank: int = 0, size: int = 1) -> None:
        self.rank, self.size = rank, size
        self._interval, self._left, self._asked_at = 1, 1, time.monotonic()

    @property
    def leads(self) -> bool:
        """Whether this process is rank 0, which prints and writes files."""
        return self.rank == 0

    def gather(self, *values: float) -> list[list[float]]:
        """Return the values of every process, by rank."""
        if self.size == 1:
            return [[*map(float, values)]]
        mine = torch.tensor(values, dtype=torch.float64)
        everyone = [torch.empty_like(mine) for _ in range(self.size)]
        dist.all_gather(everyone, mine)
        return [each.tolist() for each in everyone]

    def gather_rows(self, rows: Tensor) -> Tensor:
        """Return the rows, (n, …), of every process, by rank, on the CPU; each process may have another number."""
        mine = rows.cpu()
        if self.size == 1:
            return mine
        counts = [int(count) for (count,) in self.gather(len(mine))]
        padded = mine.new_zeros(max(counts), *mine.shape[1:])
        padded[: len(mine)] = mine
        everyone = [torch.empty_like(padded) for _ in counts]
        dist.all_gather(everyone, padded)
        return torch.cat([each[:count] for each, count in zip(everyone, counts, strict=True)])

    def add(self, sums: Sums) -> None:
        """Replace the sums of each process, and the outputs that it keeps, by those of all processes, in place."""
        if self.size > 1:
            for tensor in sums.state_dict().values():
                dist.all_reduce(tensor)
            if sums.keeps_outputs:
                outputs, targets = sums.kept
                sums.kept = self.gather_rows(outputs), self.gather_rows(targets)

    def broadcast_buffers(self, model: nn.Module) -> None:
        """Copy rank 0's buffers, such as running statistics, to all processes, because checkpoints hold them."""
        if self.size > 1:
            for buffer in model.buffers():
                dist.broadcast(buffer, 0)

    def reduced(self, sums: Sums) -> Stateful:
        """Return an object whose ``state_dict``, a collective call, has the total of ``sums`` over all processes."""
        return sums if self.size == 1 else ReducedSums(self, sums)

    def broadcast(self, state: dict[str, Any] | None) -> dict[str, Any] | None:
        """Return the state of rank 0 in every process; it holds only plain types and CPU tensors."""
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
        """Reseed all ranks but 0 from (seed, rank, step), so that checkpoints need the random states of rank 0 only."""
        if self.rank > 0:
            value = int.from_bytes(f"{seed} {self.rank} {step}".encode(), "little") % (2**61 - 1)  # a prime
            torch.manual_seed(value)
            random.seed(value)
            np.random.seed(value % 2**32)

    def agree_on_signal(self, asked: int | None) -> int | None:
        """Return the highest signal that any process has received, or None.

        Every process calls this method after each batch. The processes communicate only about every ``PACE`` seconds:
        rank 0 decides after how many calls.

        Args:
            asked: the signal that this process has received, or None.
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

    def reset_pace(self) -> None:
        """Reset the interval at which the ranks synchronise, because the time per batch is about to change."""
        self._interval = self._left = 1
        self._asked_at = time.monotonic()


class ReducedSums:
    """Sums whose state dict has the total over all processes, for a checkpoint."""

    def __init__(self, group: Group, sums: Sums) -> None:
        self._group, self._sums = group, sums

    def state_dict(self) -> dict[str, Any]:
        return {name: summed(tensor) for name, tensor in self._sums.state_dict().items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Load the total into rank 0, and set the sums of all other ranks to zero."""
        self._sums.load_state_dict(state)
        if not self._group.leads:
            self._sums.reset()


def differentiable_sum(tensor: Tensor) -> Tensor:
    """Return the sum over all processes; its gradient is the sum of the gradients of all processes' losses."""
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
    """Return the sum over all processes as a new tensor."""
    summed = tensor.clone()
    dist.all_reduce(summed)
    return summed
