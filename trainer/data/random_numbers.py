"""Random numbers that are a pure function of (seed, epoch, sample), computed on the device of the batch.

The numbers are hashes, so they have no state and no order: they are the same on every device, in every process and in
batches of any size. Drawing a table for all samples in every epoch would cost too much, as noise needs one number for
each value of a sample.

On the CPU numpy computes the hashes. A batch needs few numbers but about thirty operations, whose overhead in numpy is
a third of that in torch. The code and the bits are the same.
"""

from __future__ import annotations

import hashlib
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

# SplitMix64 (Steele, Lea and Flood 2014): the step, and the two multipliers of its finaliser, as signed integers
STEP = 0x9E3779B97F4A7C15 - 2**64
MULTIPLIERS = (0xBF58476D1CE4E5B9 - 2**64, 0x94D049BB133111EB - 2**64)
BITS = 24  # random bits of a float32 in [0, 1)

Bits = TypeVar("Bits", Tensor, "npt.NDArray[np.int64]")  # integer overflow wraps around in both


class SampleRandom:
    """The random numbers of the samples of a batch in an epoch.

    Args:
        positions: (batch,) int64, the positions of the samples in their source.
        key: the rest of the key of the numbers, such as (seed, epoch).
    """

    def __init__(self, positions: Tensor, *key: int | str) -> None:
        self.positions, self._key = positions, key

    def split(self, size: int) -> list[SampleRandom]:
        """Split the batch into parts of ``size`` samples; the numbers of a sample stay the same."""
        return [SampleRandom(some, *self._key) for some in self.positions.split(size)]

    def uniform(self, name: str, *shape: int) -> Tensor:
        """Return (batch, *shape) float32 numbers, uniform in [0, 1); every ``name`` has independent numbers.

        A number depends on its place within the sample, not on the shape: the numbers of a shorter shape are the first
        numbers of a longer one.
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
        """Return (batch, *shape) float32 numbers from the standard normal distribution."""
        between = (
            self.uniform(name, *shape) * 2 - 1 + 2**-BITS
        )  # exact; -1 and 1, which erfinv makes infinite, are left out
        return torch.erfinv(between) * 2**0.5

    def others(self, name: str, among: Tensor) -> Tensor:
        """Return one of the positions ``among`` for each sample, (batch,) int64."""
        number = (self.uniform(name) * 2**BITS).long() * len(among) >> BITS  # exact without float64, which mps lacks
        return among.to(self.positions.device).index_select(0, number)


def mix_bits(bits: Bits) -> Bits:
    """Apply the finaliser of SplitMix64 to (…) int64: each bit of the result depends on each bit of the input."""
    bits = _multiplied(bits)
    return bits ^ _shifted(bits, 31)


def _multiplied(bits: Bits) -> Bits:
    """Apply all but the last step of the finaliser, after which the highest 31 bits are final."""
    for shift, multiplier in zip((30, 27), MULTIPLIERS, strict=True):
        bits = (bits ^ _shifted(bits, shift)) * multiplier
    return bits


def _shifted(bits: Bits, by: int) -> Bits:
    """Shift to the right and fill with zeros; ``>>`` of torch and numpy would repeat the sign bit."""
    return (bits >> by) & ((1 << (64 - by)) - 1)


def _hashed(positions: Bits, places: Bits, start: int) -> Bits:
    """Return (batch, places), the highest ``BITS`` bits of the hash at each place; ``places`` count from 1."""
    samples = mix_bits(positions * STEP + start)
    return _shifted(_multiplied(samples[:, None] + places * STEP), 64 - BITS)
