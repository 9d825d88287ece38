"""The order of the samples of an epoch, a pure function of (seed, epoch)."""

from __future__ import annotations

import torch
from torch import Tensor

from trainer.data.data import generator

SIMILAR = 50  # batches whose samples are sorted by length together


class Order:
    """Assign samples to the batches of an epoch, as a pure function of (seed, epoch).

    Args:
        positions: the positions of the split's samples in their source.
        batch_size: samples in a batch; the last batch may be smaller.
        seed: the seed of the shuffling; None keeps the order of the split, or sorts it by length if there are lengths.
        limit: the maximum number of batches.
        lengths: of the samples; samples of similar length come into the same batch, which saves padding.
        weights: draw samples with replacement with these weights, instead of shuffling them.
    """

    def __init__(
        self,
        positions: Tensor,
        batch_size: int,
        seed: int | None,
        limit: int | None,
        *,
        lengths: Tensor | None = None,
        weights: Tensor | None = None,
    ) -> None:
        self._positions, self._batch_size, self._seed = positions, batch_size, seed
        self._lengths, self._weights = lengths, weights
        batches = -(-len(positions) // batch_size)
        self.num_batches = batches if limit is None else min(batches, limit)

    def keys(self, batch: Tensor, number: int) -> Tensor:
        """Return the keys of the random numbers of the samples of batch ``number``, (batch,) int64.

        A key is the position of the sample in its source. Samples that are drawn with replacement may come several
        times in an epoch, so the key of such a sample is its place in the epoch.
        """
        if self._weights is None:
            return batch
        return torch.arange(len(batch), device=batch.device) + number * self._batch_size

    def batches(self, epoch: int, start: int, device: torch.device) -> list[Tensor]:
        """Return the positions of each batch from batch ``start`` on; one copy brings all of them to the device."""
        positions = self._positions
        if self._seed is not None:
            maker = generator(self._seed, epoch, "order")
            if self._weights is None:
                shuffled = torch.randperm(len(positions), generator=maker)
            else:  # the inverse of the cumulative distribution: torch.multinomial has a limit of 2^24 samples
                cumulative = self._weights.double().cumsum(0)
                drawn = torch.rand(len(positions), generator=maker, dtype=torch.float64) * cumulative[-1]
                shuffled = torch.searchsorted(cumulative, drawn, right=True)
            if self._lengths is not None:
                shuffled = self._sort_nearby(shuffled, self._lengths, maker)
            positions = positions.index_select(0, shuffled)
        elif self._lengths is not None:
            positions = positions.index_select(0, self._lengths.argsort(stable=True))
        return list(positions.to(device).split(self._batch_size))[start : self.num_batches]

    def _sort_nearby(self, shuffled: Tensor, lengths: Tensor, maker: torch.Generator) -> Tensor:
        """Sort the samples of every ``SIMILAR`` batches by length, then shuffle the batches.

        If the last batch is smaller, its samples stay where they are.
        """
        size = self._batch_size
        whole = len(shuffled) // size * size
        sorted_ = [
            some.index_select(0, lengths.index_select(0, some).argsort(stable=True))
            for some in shuffled[:whole].split(SIMILAR * size)
        ]
        batches = torch.cat([*sorted_, shuffled[:0]]).view(-1, size)
        mixed = batches.index_select(0, torch.randperm(len(batches), generator=maker))
        return torch.cat([mixed.flatten(), shuffled[whole:]])
