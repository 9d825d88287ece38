"""Random numbers that are a pure function of (seed, epoch, sample), computed on the device of the batch.

The numbers are hashes instead of the output of a generator with a state, so they are the same on every device, in every
process and in batches of any size. Drawing the numbers of all samples in advance would cost too much, as noise needs
one number for each value of a sample.

On the CPU numpy computes the hashes. A batch needs few numbers but about thirty operations, and the overhead of an
operation in numpy is a third of that in torch. The code is the same for both, and so are the bits.
"""

from __future__ import annotations

import contextlib
import hashlib
import random
from collections.abc import Iterator
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import get_worker_info

# SplitMix64 (Steele, Lea and Flood 2014): the increment and the two multipliers of the finaliser, as signed integers
STEP = 0x9E3779B97F4A7C15 - 2**64
MULTIPLIERS = (0xBF58476D1CE4E5B9 - 2**64, 0x94D049BB133111EB - 2**64)
BITS = 24  # the number of random bits of a float32 in [0, 1)

Bits = TypeVar("Bits", Tensor, "npt.NDArray[np.int64]")  # integer overflow wraps around in both


def seed_all(seed: int) -> None:
    """Seed the global generators of Python, NumPy and torch."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


class SampleRandom:
    """The random numbers of the samples of a batch in an epoch.

    Args:
        positions: (batch,) int64, the positions of the samples in their source, or other keys from ``Order.keys``.
        key: further parts of the key of the numbers, such as (seed, epoch).
        on_host: ``positions`` on the CPU, if they are known there.
    """

    def __init__(self, positions: Tensor, *key: int | str, on_host: Tensor | None = None) -> None:
        self.positions, self._key, self._on_host = positions, key, on_host

    @property
    def on_host(self) -> SampleRandom:
        """The same random numbers on the CPU; this waits for the device if the positions are not known there."""
        return SampleRandom(self.positions.cpu() if self._on_host is None else self._on_host, *self._key)

    def split(self, size: int) -> list[SampleRandom]:
        """Split the batch into parts of ``size`` samples; the random numbers of a sample stay the same."""
        return [SampleRandom(some, *self._key) for some in self.positions.split(size)]

    def uniform(self, name: str, *shape: int) -> Tensor:
        """Return uniform numbers in [0, 1), (batch, *shape) float32; the numbers of two names are independent.

        A number depends on its index in the flattened ``shape`` but not on ``shape`` itself: the numbers for a smaller
        shape are the first of those for a larger one.
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
        """Return numbers from the standard normal distribution, (batch, *shape) float32."""
        # The sum is exact and excludes -1 and 1, for which erfinv is infinite.
        between = self.uniform(name, *shape) * 2 - 1 + 2**-BITS
        return torch.erfinv(between) * 2**0.5

    def others(self, name: str, among: Tensor) -> Tensor:
        """Return a random element of ``among``, on the device of the batch, for each sample, (batch,) int64."""
        number = (self.uniform(name) * 2**BITS).long() * len(among) >> BITS  # in int64, as mps has no float64
        return among.index_select(0, number)


@contextlib.contextmanager
def seeded(*key: int | str) -> Iterator[None]:
    """Seed the generators of Python, NumPy and torch's CPU from ``key`` within this context.

    On exit, the main process restores their states, so that its dropout does not depend on what a source draws. A
    DataLoader worker does not, as saving the states takes ten times as long as seeding.
    """
    here = get_worker_info() is None
    before = (random.getstate(), np.random.get_state(), torch.default_generator.get_state()) if here else None
    digest = hashlib.sha256(repr(key).encode()).digest()
    random.seed(digest)
    np.random.seed(np.frombuffer(digest, np.uint32))
    torch.default_generator.manual_seed(int.from_bytes(digest[:8], "little"))  # torch.manual_seed takes far longer
    try:
        yield
    finally:
        if before is not None:
            random.setstate(before[0])
            np.random.set_state(before[1])
            torch.default_generator.set_state(before[2])


def mix_bits(bits: Bits) -> Bits:
    """Apply the finaliser of SplitMix64 to int64 numbers: each bit of the result depends on each bit of the input."""
    bits = _multiplied(bits)
    return bits ^ _shifted(bits, 31)


def _multiplied(bits: Bits) -> Bits:
    """Apply all but the last step of the finaliser, after which the highest 31 bits are final."""
    for shift, multiplier in zip((30, 27), MULTIPLIERS, strict=True):
        bits = (bits ^ _shifted(bits, shift)) * multiplier
    return bits


def _shifted(bits: Bits, by: int) -> Bits:
    """Shift right and fill with zeros, whereas ``>>`` of torch and numpy repeats the sign bit."""
    return (bits >> by) & ((1 << (64 - by)) - 1)


def _hashed(positions: Bits, places: Bits, start: int) -> Bits:
    """Return the highest ``BITS`` bits of the hash of each sample and place, (batch, places); places count from 1."""
    samples = mix_bits(positions * STEP + start)
    return _shifted(_multiplied(samples[:, None] + places * STEP), 64 - BITS)
