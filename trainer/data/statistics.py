"""Statistics of the samples of a split, from one pass over the samples."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor

from trainer.config import RunError
from trainer.data.data import BAD_SAMPLE, Data
from trainer.data.duplicates import CHUNK, hash_batch
from trainer.data.near_duplicates import MAX_CHANNELS, Thumbnails
from trainer.data.readers.texts.vocabulary import UNKNOWN
from trainer.data.sources import Inputs, Split, valid_steps


@dataclass(frozen=True)
class Lengths:
    """The distribution of the number of steps of samples; ``most`` is the 95th percentile."""

    least: int
    median: int
    most: int
    longest: int

    @classmethod
    def of(cls, lengths: Tensor) -> Lengths:
        ordered = lengths.sort().values
        middle, most = (int(ordered[int(share * (len(ordered) - 1))]) for share in (0.5, 0.95))
        return cls(int(ordered[0]), middle, most, int(ordered[-1]))


@dataclass(frozen=True)
class Values:
    """The minimum, mean, standard deviation and maximum of one target value of a regression."""

    least: float
    mean: float
    deviation: float
    most: float

    @classmethod
    def of(cls, values: Tensor) -> Values:
        exact = values.double()
        mean, deviation = float(exact.mean()), float(exact.std(correction=0))
        return cls(float(exact.min()), mean, deviation, float(exact.max()))


@dataclass(frozen=True)
class SplitStatistics:
    """The statistics of one split.

    Args:
        samples: the number of samples.
        counts: the number of samples of each class or label; empty for a regression.
        targets: the statistics of each target value of a regression; empty for classes and labels.
        lengths: the statistics of the lengths; None if all samples have the same number of steps.
        unknown: the fraction of tokens that are not in the vocabulary; None without a vocabulary.
        repeated: the number of samples with the same content as an earlier sample of the split.
    """

    samples: int
    counts: tuple[int, ...]
    targets: tuple[Values, ...]
    lengths: Lengths | None
    unknown: float | None
    repeated: int


@dataclass
class Scan:
    """The result of one pass over the samples of a split.

    Args:
        numbers: the indices in the split of the samples that can be read, batch by batch.
        hashes: the hashes of the content of these samples.
        lengths: the lengths of these samples if steps vary; else empty.
        thumbnails: the thumbnails of these samples if they are pictures; else empty.
        problems: one line for each sample that cannot be read.
        not_finite: the indices in the split of the samples with NaN or infinite values.
        dtype, shape: the dtype and the shape of a sample; if steps vary, the shape has the largest number of steps.
        least, most: the minimum and the maximum of all finite values.
        num_values, num_bytes: the number of values of all samples and their size in bytes, without padding.
        num_unknown: the number of values that are the unknown token.
    """

    numbers: list[Tensor] = field(default_factory=list)
    hashes: list[Tensor] = field(default_factory=list)
    lengths: list[Tensor] = field(default_factory=list)
    thumbnails: list[Thumbnails] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    not_finite: list[int] = field(default_factory=list)
    dtype: str = ""
    shape: tuple[int, ...] = ()
    least: float = math.inf
    most: float = -math.inf
    num_values: int = 0
    num_bytes: int = 0
    num_unknown: int = 0

    @classmethod
    def of(cls, data: Data, split: Split, *, thumbnails: bool = True) -> Scan:
        """Read every sample of a split; ``thumbnails`` makes those of pictures.

        Raises:
            RunError: no sample of the split can be read.
        """
        scan = cls()
        step_axis = data.spec.step_axis if data.features is None else 1  # waves are (batch, samples)
        for numbers, inputs in readable_batches(split, scan.problems):
            values = scan._add(numbers, inputs, step_axis)
            scan.hashes.append(hash_batch(inputs, split.positions[numbers], data.spec))
            if thumbnails and data.spec.kind == "image" and inputs[0].shape[1] <= MAX_CHANNELS:
                scan.thumbnails.append(Thumbnails.of(inputs))
            if data.spec.kind == "tokens":
                scan.num_unknown += int((values == UNKNOWN).sum())
        if not scan.numbers:
            raise RunError(next(iter(scan.problems), f"dataset={data.spec.dataset}: a split without a sample"))
        return scan

    def _add(self, numbers: Tensor, inputs: Inputs, step_axis: int) -> Tensor:
        """Add a batch of samples; return all its finite values, without padding."""
        samples, *lengths = inputs
        values = samples
        if lengths:
            valid = valid_steps(lengths[0], samples.shape[step_axis])
            width = [1] * (samples.ndim - step_axis - 1)
            values = samples[valid.view(len(samples), *[1] * (step_axis - 1), -1, *width).expand_as(samples)]
            self.lengths.append(lengths[0])
        self.numbers.append(numbers)
        self.dtype = str(samples.dtype).removeprefix("torch.")
        self.shape = tuple(map(max, self.shape or samples.shape[1:], samples.shape[1:]))
        self.num_values += values.numel()
        self.num_bytes += values.numel() * values.element_size()
        if samples.is_floating_point():
            finite = samples.isfinite().flatten(1).all(1)
            if not finite.all():
                self.not_finite += numbers[~finite].tolist()
                values = values[values.isfinite()]
        if values.numel():
            least, most = values.aminmax()
            self.least, self.most = min(self.least, least.item()), max(self.most, most.item())
        return values


def readable_batches(split: Split, problems: list[str]) -> Iterator[tuple[Tensor, Inputs]]:
    """Yield the samples that can be read, in batches, with their indices in the split.

    Args:
        split: the samples.
        problems: receives one line for each sample that cannot be read.
    """
    for some in torch.arange(len(split)).split(CHUNK) if len(split) else ():
        positions = split.positions.index_select(0, some)
        try:
            yield some, split.source.fetch(positions)
        except RunError:
            for number, position in zip(some.split(1), positions.split(1), strict=True):
                try:
                    inputs = split.source.fetch(position)
                except RunError as error:
                    problems.append(BAD_SAMPLE + str(error))
                else:
                    yield number, inputs
