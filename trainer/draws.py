"""Random numbers that are a pure function of (seed, epoch, sample), made where the batch is.

A table of them for all samples would have to be drawn in every epoch, and noise needs as many as a sample has values.
So they are hashed: no state, no order, the same on every device, in every process and in batches of any size.
"""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor

# SplitMix64 (Steele, Lea and Flood 2014): the step, and the two multipliers of its finaliser, as signed numbers
STEP = 0x9E3779B97F4A7C15 - 2**64
MULTIPLIERS = (0xBF58476D1CE4E5B9 - 2**64, 0x94D049BB133111EB - 2**64)
BITS = 24  # of a float32 in [0, 1)


class Draws:
    """The random numbers of the samples of a batch in an epoch.

    Args:
        positions: (batch,) int64, of the samples in their source.
        key: what else they follow from, such as (seed, epoch).
    """

    def __init__(self, positions: Tensor, *key: int | str) -> None:
        self.positions, self._key = positions, key

    def split(self, size: int) -> list[Draws]:
        """Those of ``size`` samples at a time."""
        return [Draws(some, *self._key) for some in self.positions.split(size)]

    def uniform(self, name: str, *shape: int) -> Tensor:
        """(batch, *shape) float32 in [0, 1); another ``name`` gives other numbers.

        A number depends on its place within the sample, so that a longer sample begins as a shorter one does.
        """
        digest = hashlib.sha256(repr((*self._key, name)).encode()).digest()
        start = int.from_bytes(digest[:8], "little", signed=True)
        places = torch.arange(torch.Size(shape).numel(), device=self.positions.device)
        samples = mix(self.positions * STEP + start)
        bits = mix(samples[:, None] + (places + 1) * STEP)
        numbers: Tensor = _shifted(bits, 64 - BITS).float() / 2**BITS
        return numbers.view(len(self.positions), *shape)

    def normal(self, name: str, *shape: int) -> Tensor:
        """(batch, *shape) float32 of zero mean and unit variance."""
        between = self.uniform(name, *shape) * 2 - 1 + 2**-BITS  # exact, and never -1 or 1, which would be infinite
        return torch.erfinv(between) * 2**0.5

    def others(self, name: str, among: Tensor) -> Tensor:
        """(batch,): one of the positions ``among`` for each sample."""
        number = (self.uniform(name) * 2**BITS).long() * len(among) >> BITS  # exact, and not every device has float64
        return among.to(self.positions.device).index_select(0, number)


def mix(bits: Tensor) -> Tensor:
    """The finaliser of SplitMix64: each bit of the result depends on each bit of (…) int64."""
    for shift, multiplier in zip((30, 27), MULTIPLIERS, strict=True):
        bits = (bits ^ _shifted(bits, shift)) * multiplier
    return bits ^ _shifted(bits, 31)


def _shifted(bits: Tensor, by: int) -> Tensor:
    """To the right, filled with zeros; torch's own keeps the sign."""
    return (bits >> by) & ((1 << (64 - by)) - 1)
