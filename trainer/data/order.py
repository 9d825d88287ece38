"""The order of the samples in an epoch."""

from __future__ import annotations

import torch
from torch import Tensor

from trainer.data.data import generator

SIMILAR = 50  # the number of batches whose samples are sorted by length together


class Order:
    """Assign samples to the batches of an epoch, as a pure function of (seed, epoch).

    Args:
        positions: the positions of the split's samples in their source.
        batch_size: samples in a batch; the last batch may be smaller.
        seed: the seed of the shuffling. None keeps the order of the split or, with ``lengths``, sorts by length.
        limit: the maximum number of batches in an epoch; None for no limit.
        lengths: the lengths of the samples. Samples of similar length are put into the same batch to save padding.
        weights: the weights of the samples, which are then drawn with replacement instead of being shuffled.
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
        """Return the key of the random numbers of each sample of a batch, (batch,) int64.

        The key is the position of the sample in its source. With ``weights`` a sample may occur several times in an
        epoch, so its key is its index in the order of the epoch instead.

        Args:
            batch: the positions of the samples in their source.
            number: the number of the batch in the epoch.
        """
        if self._weights is None:
            return batch
        return torch.arange(len(batch), device=batch.device) + number * self._batch_size

    def batches(self, epoch: int, start: int) -> list[Tensor]:
        """Return the positions of the samples of each batch from batch ``start`` on."""
        positions = self._positions
        if self._seed is not None:
            maker = generator(self._seed, epoch, "order")
            if self._weights is None:
                shuffled = torch.randperm(len(positions), generator=maker)
            else:  # inverse transform sampling, as torch.multinomial is limited to 2^24 samples
                cumulative = self._weights.double().cumsum(0)
                drawn = torch.rand(len(positions), generator=maker, dtype=torch.float64) * cumulative[-1]
                shuffled = torch.searchsorted(cumulative, drawn, right=True)
            if self._lengths is not None:
                shuffled = self._sort_nearby(shuffled, self._lengths, maker)
            positions = positions.index_select(0, shuffled)
        elif self._lengths is not None:
            positions = positions.index_select(0, self._lengths.argsort(stable=True))
        return list(positions.split(self._batch_size))[start : self.num_batches]

    def _sort_nearby(self, shuffled: Tensor, lengths: Tensor, maker: torch.Generator) -> Tensor:
        """Sort the samples within every group of ``SIMILAR`` batches by length, then shuffle the batches.

        The samples of an incomplete last batch keep their places.
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
