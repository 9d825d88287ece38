"""Random numbers that are a pure function of (seed, epoch, sample), made where the batch is.

A table of them for all samples would have to be drawn in every epoch, and noise needs as many as a sample has values.
So they are hashed: no state, no order, the same on every device, in every process and in batches of any size.

On the CPU numpy computes them: a batch wants few numbers but some thirty operations, and what an operation costs beside
its arithmetic is in numpy a third of what it is in torch. The code and the bits are the same.
"""

from __future__ import annotations

import hashlib
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

# SplitMix64 (Steele, Lea and Flood 2014): the step, and the two multipliers of its finaliser, as signed numbers
STEP = 0x9E3779B97F4A7C15 - 2**64
MULTIPLIERS = (0xBF58476D1CE4E5B9 - 2**64, 0x94D049BB133111EB - 2**64)
BITS = 24  # of a float32 in [0, 1)

Bits = TypeVar("Bits", Tensor, "npt.NDArray[np.int64]")  # operations on both wrap around


class SampleRandom:
    """The random numbers of the samples of a batch in an epoch.

    Args:
        positions: (batch,) int64, of the samples in their source.
        key: what else they follow from, such as (seed, epoch).
    """

    def __init__(self, positions: Tensor, *key: int | str) -> None:
        self.positions, self._key = positions, key

    def split(self, size: int) -> list[SampleRandom]:
        """Those of ``size`` samples at a time."""
        return [SampleRandom(some, *self._key) for some in self.positions.split(size)]

    def uniform(self, name: str, *shape: int) -> Tensor:
        """(batch, *shape) float32 in [0, 1); another ``name`` gives other numbers.

        A number depends on its place within the sample, so that a longer sample begins as a shorter one does.
        """
        digest = hashlib.sha256(repr((*self._key, name)).encode()).digest()
        start = int.from_bytes(digest[:8], "little", signed=True)
        positions, count = self.positions, torch.Size(shape).numel()
        places = torch.arange(1, count + 1, device=positions.device)
        if positions.device.type == "cpu":
            bits = torch.from_numpy(_hashed(positions.numpy(), places.numpy(), start))
        else:
            bits = _hashed(positions, places, start)
        numbers: Tensor = bits.float() / 2**BITS
        return numbers.view(len(self.positions), *shape)

    def normal(self, name: str, *shape: int) -> Tensor:
        """(batch, *shape) float32 of zero mean and unit variance."""
        between = self.uniform(name, *shape) * 2 - 1 + 2**-BITS  # exact, and never -1 or 1, which would be infinite
        return torch.erfinv(between) * 2**0.5

    def others(self, name: str, among: Tensor) -> Tensor:
        """(batch,): one of the positions ``among`` for each sample."""
        number = (self.uniform(name) * 2**BITS).long() * len(among) >> BITS  # exact, and not every device has float64
        return among.to(self.positions.device).index_select(0, number)


def mix(bits: Bits) -> Bits:
    """The finaliser of SplitMix64: each bit of the result depends on each bit of (…) int64."""
    bits = _multiplied(bits)
    return bits ^ _shifted(bits, 31)


def _multiplied(bits: Bits) -> Bits:
    """All but the last step of the finaliser; the highest 31 bits are those of the result already."""
    for shift, multiplier in zip((30, 27), MULTIPLIERS, strict=True):
        bits = (bits ^ _shifted(bits, shift)) * multiplier
    return bits


def _shifted(bits: Bits, by: int) -> Bits:
    """To the right, filled with zeros; that of torch and numpy keeps the sign."""
    return (bits >> by) & ((1 << (64 - by)) - 1)


def _hashed(positions: Bits, places: Bits, start: int) -> Bits:
    """(batch, places) of the highest ``BITS`` bits of the numbers at ``places``, which count from 1."""
    samples = mix(positions * STEP + start)
    return _shifted(_multiplied(samples[:, None] + places * STEP), 64 - BITS)
