"""Sources of raw samples, and splits, which are lists of positions in a source.

Samples stay raw (uint8 where the file holds uint8) until a batch is needed.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

Inputs = tuple[Tensor, ...]  # the arguments of a model: (inputs,), or (inputs, lengths) where steps vary


class Source(Protocol):
    """Samples by position.

    A source whose samples vary in their steps may also have ``lengths``, (samples,) int64. Samples of similar length
    then come into the same batch.
    """

    @property
    def targets(self) -> Tensor:
        """(samples,) int64 classes, or (samples, outputs) float32 labels or values."""

    def fetch(self, positions: Tensor) -> Inputs:
        """Return the raw inputs at ``positions`` (int64) as a batch: (inputs,), or (inputs, lengths)."""


class Resident(Source, Protocol):
    """A source whose samples may be moved to the device."""

    @property
    def num_bytes(self) -> int:
        """The memory of the samples and their targets, in bytes."""

    def to(self, device: torch.device) -> Resident:
        """Return a copy on another device."""


@dataclass(frozen=True)
class TensorSource:
    """Samples of one size, as whole tensors.

    Args:
        inputs: (samples, *shape), and lengths (samples,) where steps vary, padded with zeros.
        targets: as in ``Source``.
    """

    inputs: Inputs
    targets: Tensor

    def fetch(self, positions: Tensor) -> Inputs:
        return tuple(tensor.index_select(0, positions) for tensor in self.inputs)

    @property
    def num_bytes(self) -> int:
        return sum(tensor.numel() * tensor.element_size() for tensor in (*self.inputs, self.targets))

    def to(self, device: torch.device) -> TensorSource:
        return TensorSource(tuple(tensor.to(device) for tensor in self.inputs), self.targets.to(device))


@dataclass(frozen=True)
class RaggedSource:
    """Samples of varying length, stored one after the other. Only batches are padded.

    Args:
        values: (steps of all samples, *width).
        lengths: (samples,) int64, each at least 1.
        targets: as in ``Source``.
    """

    values: Tensor
    lengths: Tensor
    targets: Tensor

    @classmethod
    def join(cls, samples: list[Tensor], targets: Tensor) -> RaggedSource:
        """Make a source of single samples, each (steps, *width)."""
        return cls(torch.cat(samples), torch.tensor([len(sample) for sample in samples]), targets)

    @functools.cached_property
    def starts(self) -> Tensor:
        """(samples,) int64, the index in ``values`` of the first step of each sample."""
        return self.lengths.cumsum(0) - self.lengths

    def fetch(self, positions: Tensor) -> Inputs:
        """Gather samples and pad them with zeros to the longest of them."""
        lengths = self.lengths.index_select(0, positions)
        steps = torch.arange(int(lengths.max()), device=lengths.device)
        valid = steps < lengths[:, None]
        places = torch.where(valid, self.starts.index_select(0, positions)[:, None] + steps, 0)
        values = self.values.index_select(0, places.flatten()).view(*places.shape, *self.values.shape[1:])
        return keep(values, valid), lengths

    @property
    def num_bytes(self) -> int:
        return sum(tensor.numel() * tensor.element_size() for tensor in (self.values, self.lengths, self.targets))

    def to(self, device: torch.device) -> RaggedSource:
        return RaggedSource(self.values.to(device), self.lengths.to(device), self.targets.to(device))


def valid_steps(lengths: Tensor, steps: int) -> Tensor:
    """Return a (batch, steps) bool mask of the steps that belong to a sample and are not padding."""
    return torch.arange(steps, device=lengths.device) < lengths[:, None]


def keep(values: Tensor, valid: Tensor, axis: int = 1) -> Tensor:
    """Set the steps that are padding to zero.

    Args:
        values: (batch, …, steps, …).
        valid: (batch, steps) bool, False for padding.
        axis: the axis of the steps.
    """
    shape = [1] * values.ndim
    shape[0], shape[axis] = valid.shape
    return values.masked_fill(~valid.view(shape), 0)


def channel_values(values: Tensor, lengths: Sequence[Tensor], axis: int) -> Tensor:
    """Return (channels, values), the values of each channel in a batch without padding.

    Args:
        values: (batch, …) with channels along ``axis``; where steps vary, they are the last of the other axes.
        lengths: the (batch,) lengths where steps vary, else nothing.
        axis: the axis of the channels.
    """
    moved = values.movedim(axis, 0)
    flat = moved.flatten(1)
    return flat[:, valid_steps(lengths[0], moved.shape[-1]).flatten()] if lengths else flat


@dataclass(frozen=True)
class Split:
    """Some samples of a source, in order. Cutting val from train copies no samples."""

    source: Source
    positions: Tensor  # int64

    @classmethod
    def all(cls, source: Source) -> Split:
        """Make a split of every sample of a source."""
        return cls(source, torch.arange(len(source.targets)))

    def __len__(self) -> int:
        return len(self.positions)

    @property
    def targets(self) -> Tensor:
        """The targets of the split, in its order."""
        return self.source.targets.index_select(0, self.positions)

    @property
    def lengths(self) -> Tensor | None:
        """The lengths of the split's samples, in its order, or None if the source has no lengths."""
        lengths: Tensor | None = getattr(self.source, "lengths", None)
        return None if lengths is None else lengths.index_select(0, self.positions)

    def head(self, count: int) -> Tensor:
        """Return the raw inputs of the first samples, (count, *shape)."""
        return self.source.fetch(self.positions[:count])[0]

    def take(self, which: Tensor) -> Split:
        """Return the split of the samples whose numbers in this split are ``which``."""
        return Split(self.source, self.positions.index_select(0, which))
