"""Sources of raw samples, and splits, which are lists of positions in a source.

Samples stay raw (uint8 if the file contains uint8) until they are preprocessed in a batch.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

Inputs = tuple[Tensor, ...]  # the arguments of a model: (inputs,), or (inputs, lengths) if steps vary


class Source(Protocol):
    """The interface of a source, which returns raw samples by their positions.

    If steps vary, a source may also have the attribute ``lengths``, (samples,) int64, so that samples of similar length
    are put into the same batch.
    """

    @property
    def targets(self) -> Tensor:
        """(samples,) int64 classes, or (samples, outputs) float32 labels or values; see ``Spec.needs_float64``."""

    def fetch(self, positions: Tensor) -> Inputs:
        """Return the raw inputs at ``positions`` (int64) as a batch: (inputs,), or (inputs, lengths)."""


class Resident(Source, Protocol):
    """A source whose samples can be copied to a device."""

    @property
    def num_bytes(self) -> int:
        """The size of the samples and their targets in bytes."""

    def to(self, device: torch.device) -> Resident:
        """Return a copy on another device."""

    def fetch(self, positions: Tensor, on_host: Tensor | None = None) -> Inputs:
        """Return the raw inputs at ``positions``; with ``on_host``, the positions on the CPU, without a wait."""


@dataclass(frozen=True)
class TensorSource:
    """Samples of one shape, in one tensor.

    Args:
        inputs: samples (samples, *shape) and, if steps vary, their lengths (samples,); padding is zero.
        targets: as in ``Source``.
    """

    inputs: Inputs
    targets: Tensor

    def fetch(self, positions: Tensor, on_host: Tensor | None = None) -> Inputs:
        return tuple(tensor.index_select(0, positions) for tensor in self.inputs)

    @property
    def num_bytes(self) -> int:
        return sum(tensor.numel() * tensor.element_size() for tensor in (*self.inputs, self.targets))

    def to(self, device: torch.device) -> TensorSource:
        return TensorSource(tuple(tensor.to(device) for tensor in self.inputs), self.targets.to(device))


@dataclass(frozen=True)
class RaggedSource:
    """Samples of varying length, concatenated without padding; ``fetch`` pads a batch.

    Args:
        values: the samples, concatenated along the steps, (steps of all samples, *width).
        lengths: (samples,) int64, each at least 1.
        targets: as in ``Source``.
        host_lengths: ``lengths`` on the CPU, if they are on another device.
    """

    values: Tensor
    lengths: Tensor
    targets: Tensor
    host_lengths: Tensor | None = None

    @classmethod
    def join(cls, samples: list[Tensor], targets: Tensor) -> RaggedSource:
        """Return a source of ``samples``, each (steps, *width)."""
        return cls(torch.cat(samples), torch.tensor([len(sample) for sample in samples]), targets)

    @functools.cached_property
    def starts(self) -> Tensor:
        """The index in ``values`` of the first step of each sample, (samples,) int64."""
        return self.lengths.cumsum(0) - self.lengths

    def fetch(self, positions: Tensor, on_host: Tensor | None = None) -> Inputs:
        """Return the samples at ``positions``, padded with zeros to the longest of them, and their lengths."""
        lengths = known = self.lengths.index_select(0, positions)
        if on_host is not None and self.host_lengths is not None:
            known = self.host_lengths.index_select(0, on_host)
        steps = torch.arange(int(known.max()), device=lengths.device)
        valid = steps < lengths[:, None]
        places = torch.where(valid, self.starts.index_select(0, positions)[:, None] + steps, 0)
        values = self.values.index_select(0, places.flatten()).view(*places.shape, *self.values.shape[1:])
        return keep(values, valid), lengths

    @property
    def num_bytes(self) -> int:
        return sum(tensor.numel() * tensor.element_size() for tensor in (self.values, self.lengths, self.targets))

    def to(self, device: torch.device) -> RaggedSource:
        values, lengths, targets = (tensor.to(device) for tensor in (self.values, self.lengths, self.targets))
        return RaggedSource(values, lengths, targets, None if lengths is self.lengths else self.lengths)


def collate(samples: list[Tensor], *, varying: bool) -> Inputs:
    """Return samples as a batch. Where steps vary, pad with zeros to the longest one, and return the lengths too."""
    if not varying:
        return (torch.stack(samples),)
    padded = torch.nn.utils.rnn.pad_sequence(samples, batch_first=True)
    return padded, torch.tensor([len(sample) for sample in samples])


def valid_steps(lengths: Tensor, steps: int) -> Tensor:
    """Return a mask of the steps that are not padding, (batch, steps) bool."""
    return torch.arange(steps, device=lengths.device) < lengths[:, None]


def unpadded(inputs: Inputs, axis: int = 1) -> list[Tensor]:
    """Return each sample of a batch without its padding; ``axis`` is the axis of the steps in the batch."""
    values, *lengths = inputs
    if not lengths:
        return list(values)
    return [sample.narrow(axis - 1, 0, length) for sample, length in zip(values, lengths[0].tolist(), strict=True)]


def keep(values: Tensor, valid: Tensor, axis: int = 1) -> Tensor:
    """Keep the values of valid steps, and set those of padding to zero.

    Args:
        values: (batch, …, steps, …).
        valid: (batch, steps) bool, False for padding.
        axis: the axis of the steps.
    """
    shape = [1] * values.ndim
    shape[0], shape[axis] = valid.shape
    return values.masked_fill(~valid.view(shape), 0)


def channel_values(values: Tensor, lengths: Sequence[Tensor], axis: int) -> Tensor:
    """Return the values of each channel of a batch without padding, (channels, values).

    Args:
        values: (batch, …) with channels along ``axis``. If steps vary, they have to be the last axis besides ``axis``.
        lengths: a sequence with the lengths (batch,) if steps vary; else empty.
        axis: the axis of the channels.
    """
    moved = values.movedim(axis, 0)
    flat = moved.flatten(1)
    return flat[:, valid_steps(lengths[0], moved.shape[-1]).flatten()] if lengths else flat


def value_range(values: Tensor) -> tuple[Tensor, Tensor]:
    """Return the least and the largest of the values of each channel, (channels,) each, apart from NaN.

    They are infinity and minus infinity for a channel of NaN alone; ``values`` are (channels, values).
    """
    missing = values.isnan()
    return values.masked_fill(missing, math.inf).amin(1), values.masked_fill(missing, -math.inf).amax(1)


@dataclass(frozen=True)
class Split:
    """A list of positions in a source, so that dividing a split copies no samples."""

    source: Source
    positions: Tensor  # int64

    @classmethod
    def all(cls, source: Source) -> Split:
        """Return a split of all samples of a source."""
        return cls(source, torch.arange(len(source.targets)))

    def __len__(self) -> int:
        return len(self.positions)

    @property
    def targets(self) -> Tensor:
        """The targets of the samples, in the order of the split."""
        return self.source.targets.index_select(0, self.positions)

    @property
    def lengths(self) -> Tensor | None:
        """The lengths of the samples, in the order of the split; None if the source has no lengths."""
        lengths: Tensor | None = getattr(self.source, "lengths", None)
        return None if lengths is None else lengths.index_select(0, self.positions)

    def head(self, count: int) -> Tensor:
        """Return the raw inputs of the first ``count`` samples, (count, *shape), without lengths."""
        return self.source.fetch(self.positions[:count])[0]

    def take(self, which: Tensor) -> Split:
        """Return a split of the samples with the indices ``which`` in this split."""
        return Split(self.source, self.positions.index_select(0, which))
