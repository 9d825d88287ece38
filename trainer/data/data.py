"""What a data set hands over: splits of raw samples, the preprocessing, and the spec.

Samples stay raw (uint8 where that is what they are) until a batch is needed; a split is a list of positions in a
source, so that cutting val from train copies nothing.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Protocol, get_args

import torch
from torch import Tensor

from trainer.config import ConfigError, RunError
from trainer.data.random_numbers import SampleRandom
from trainer.spec import Kind, Spec, Task

# Whether a data set names every bad sample, a warning each, and refuses none: for who looks at it and does not train.
names_all: ContextVar[bool] = ContextVar("names_all", default=False)
# What ``Data.preprocessing`` said of the data that a run was trained on. With it a data set is read as those were:
# nothing is learned from its own samples, not even which classes there are.
learned: ContextVar[Mapping[str, Any] | None] = ContextVar("learned", default=None)
BAD_SAMPLE = "bad sample: "  # what such a warning begins with

Inputs = tuple[Tensor, ...]  # what a model is called with: (inputs,), or (inputs, lengths) where steps vary


class Source(Protocol):
    """Samples by position.

    Where steps vary it also has ``lengths``, (samples,) int64: so similar ones come together.
    """

    @property
    def targets(self) -> Tensor:
        """(samples,) int64 classes, or (samples, outputs) float32 labels or values."""

    def fetch(self, positions: Tensor) -> Inputs:
        """The raw inputs at ``positions`` (int64), batched: (inputs,), or (inputs, lengths) where steps vary."""


class Resident(Source, Protocol):
    """A source that may live on the device."""

    @property
    def num_bytes(self) -> int:
        """What that takes."""

    def to(self, device: torch.device) -> Resident:
        """The same on another device."""


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
        """One gather for each input."""
        return tuple(tensor.index_select(0, positions) for tensor in self.inputs)

    @property
    def num_bytes(self) -> int:
        """What it takes on a device."""
        return sum(tensor.numel() * tensor.element_size() for tensor in (*self.inputs, self.targets))

    def to(self, device: torch.device) -> TensorSource:
        """The same on another device."""
        return TensorSource(tuple(tensor.to(device) for tensor in self.inputs), self.targets.to(device))


@dataclass(frozen=True)
class RaggedSource:
    """Samples of varying length, one behind the other: padding exists only in batches.

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
        """Of samples (steps, *width) one by one."""
        return cls(torch.cat(samples), torch.tensor([len(sample) for sample in samples]), targets)

    @functools.cached_property
    def starts(self) -> Tensor:
        """Where each sample begins."""
        return self.lengths.cumsum(0) - self.lengths

    def fetch(self, positions: Tensor) -> Inputs:
        """One gather, padded with zeros to the longest of these samples."""
        lengths = self.lengths.index_select(0, positions)
        steps = torch.arange(int(lengths.max()), device=lengths.device)
        valid = steps < lengths[:, None]
        places = torch.where(valid, self.starts.index_select(0, positions)[:, None] + steps, 0)
        values = self.values.index_select(0, places.flatten()).view(*places.shape, *self.values.shape[1:])
        return keep(values, valid), lengths

    @property
    def num_bytes(self) -> int:
        """What it takes on a device."""
        return sum(tensor.numel() * tensor.element_size() for tensor in (self.values, self.lengths, self.targets))

    def to(self, device: torch.device) -> RaggedSource:
        """The same on another device."""
        return RaggedSource(self.values.to(device), self.lengths.to(device), self.targets.to(device))


def valid_steps(lengths: Tensor, steps: int) -> Tensor:
    """(batch, steps) bool: which of the steps are a sample's, and not padding."""
    return torch.arange(steps, device=lengths.device) < lengths[:, None]


def keep(values: Tensor, valid: Tensor, axis: int = 1) -> Tensor:
    """Zeros where a step is padding.

    Args:
        values: (batch, …, steps, …).
        valid: (batch, steps).
        axis: that of the steps.
    """
    shape = [1] * values.ndim
    shape[0], shape[axis] = valid.shape
    return values.masked_fill(~valid.view(shape), 0)


@dataclass(frozen=True)
class Split:
    """Some of a source's samples, in order."""

    source: Source
    positions: Tensor  # int64

    @classmethod
    def all(cls, source: Source) -> Split:
        """Every sample of a source."""
        return cls(source, torch.arange(len(source.targets)))

    def __len__(self) -> int:
        return len(self.positions)

    @property
    def targets(self) -> Tensor:
        """The split's targets, in its order."""
        return self.source.targets.index_select(0, self.positions)

    @property
    def lengths(self) -> Tensor | None:
        """Those of the split's samples, in its order, where the source knows them."""
        lengths: Tensor | None = getattr(self.source, "lengths", None)
        return None if lengths is None else lengths.index_select(0, self.positions)

    def head(self, count: int) -> Tensor:
        """The raw inputs of the first samples, (count, *shape)."""
        return self.source.fetch(self.positions[:count])[0]

    def take(self, which: Tensor) -> Split:
        """Those of the split's samples that ``which`` numbers."""
        return Split(self.source, self.positions.index_select(0, which))


class Features(Protocol):
    """What a model reads, computed from raw samples in batch, such as a spectrogram from a wave."""

    def __call__(self, inputs: Inputs) -> Inputs:
        """The first input and the lengths may change; a sample's result does not depend on the others."""

    def to(self, device: torch.device) -> Features:
        """The same on another device."""

    def preprocessing(self) -> dict[str, Any]:
        """What repeats it elsewhere, as plain types."""


@dataclass(frozen=True)
class Normalise:
    """Zero mean and unit variance for each channel.

    Args:
        mean, std: (channels,) float32, in the units of the samples.
        axis: of a batch, that of the channels.
    """

    mean: Tensor
    std: Tensor
    axis: int = 1

    @classmethod
    def measure(
        cls,
        split: Split,
        chunk: int = 512,
        *,
        axis: int = 1,
        features: Features | None = None,
        most: int | None = None,
    ) -> Normalise:
        """Measure a split, summed in float64, a chunk of samples at a time. Padding is not counted.

        Args:
            split: of (samples, …) inputs with channels along ``axis``; steps that vary are along axis 1, or 2 of
                spectrograms.
            chunk: samples at a time.
            axis: that of the channels.
            features: measure these of the samples.
            most: so many samples at most, drawn evenly over the split.
        """
        total = squares = torch.zeros(())
        count = 0
        measured = split.positions if most is None else split.positions[:: -(-len(split) // most)]
        for positions in measured.split(chunk):
            inputs = split.source.fetch(positions)
            values, *lengths = inputs if features is None else features(inputs)
            # pixels are exact enough in float32, which is faster; numbers far from 0 are not
            exact = torch.float64 if values.is_floating_point() else torch.float32
            moved = values.to(exact).movedim(axis, 0)
            flat = moved.flatten(1)
            if lengths:  # (channels, batch, steps) of sequences, (channels, batch, 1, steps) of spectrograms
                flat = flat[:, valid_steps(lengths[0], moved.shape[-1]).flatten()]
            total = total + flat.sum(1).double()
            squares = squares + flat.square().sum(1).double()
            count += flat.shape[1]
        mean = total / count
        std = (squares / count - mean**2).clamp_min(0).sqrt()
        return cls(mean.float(), torch.where(std > 0, std, 1.0).float(), axis)

    def to(self, device: torch.device) -> Normalise:
        """The same on another device."""
        return Normalise(self.mean.to(device), self.std.to(device), self.axis)

    def __call__(self, inputs: Tensor) -> Tensor:
        """(batch, …) of any number type -> float32."""
        shape = [1] * inputs.ndim
        shape[self.axis] = -1
        return inputs.to(torch.float32, copy=True).sub_(self.mean.view(shape)).div_(self.std.view(shape))


class Augmentation(Protocol):
    """Changes training samples at random, in batch."""

    def __call__(self, inputs: Inputs, draws: SampleRandom) -> Inputs:
        """As ``inputs``; the random numbers of each sample are those of ``draws``."""


class Mix(Protocol):
    """Mixes every training sample with another one, and their targets alike (Zhang et al. 2018, Yun et al. 2019)."""

    def shares(self, draws: SampleRandom) -> Tensor:
        """(batch,) float32 in [0, 1]: how much of each sample stays."""

    def __call__(self, inputs: Inputs, others: Inputs, draws: SampleRandom) -> Inputs:
        """Both as the model would read them; those of the first that ``shares`` speaks of stay."""


@dataclass(frozen=True)
class Data:
    """A data set, ready to be loaded in batches.

    Args:
        spec: what it tells a model; ``num_outputs`` is still open.
        train, val, test: the splits; ``val`` is None when nothing was held out.
        normalise: applied to every batch, where the samples are not already numbers of that kind.
        augment: applied to raw training samples.
        features: from raw samples to what is normalised.
        augment_features: applied to training samples as the model reads them.
        mix: applied to training batches, last.
        in_memory: whole tensors on the device, or streamed through a DataLoader.
        workers: processes of that DataLoader.
        balanced: train on each class as often as on every other, drawn with replacement.
        identity: stands in the fingerprint in the place of the samples, where reading all would take too long.
        preprocess: what else repeats the preprocessing elsewhere, as plain types: a vocabulary, a size.
        warnings: what the user has to hear of the data, a line each.
        places: where each sample of the splits' common source stands, such as its file, where it is one; for messages.
    """

    spec: Spec
    train: Split
    val: Split | None
    test: Split
    normalise: Normalise | None = None
    augment: Augmentation | None = None
    features: Features | None = None
    augment_features: Augmentation | None = None
    mix: Mix | None = None
    in_memory: bool = True
    workers: int = 0
    balanced: bool = False
    identity: str | None = None
    preprocess: dict[str, Any] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    places: Sequence[str] | None = None

    def fingerprint(self) -> dict[str, Any]:
        """Sizes, and a SHA-256 of every sample and target in order, to tell two data sets apart."""
        digest = hashlib.sha256((self.identity or "").encode())
        for split in self.splits().values():
            if self.identity is not None:
                digest.update(split.positions.numpy().data)
                digest.update(split.targets.numpy().data)
                continue
            for positions in split.positions.split(512):
                for tensor in (*split.source.fetch(positions), split.source.targets.index_select(0, positions)):
                    digest.update(tensor.numpy().data)
        sizes = {name: len(split) for name, split in self.splits().items()}
        return {**sizes, "sha256": digest.hexdigest()}

    def check(self) -> None:
        """Does the data look as its spec says? Asked once, before a model is built.

        Raises:
            ConfigError: a kind, a task, a shape or the targets are not what they have to be.
            RunError: a class number is outside the classes.
        """
        spec, name = self.spec, self.spec.dataset
        for key, value, allowed in (("kind", spec.kind, get_args(Kind)), ("task", spec.task, get_args(Task))):
            if value not in allowed:
                raise ConfigError(f"dataset={name}: spec.{key} must be one of {', '.join(allowed)}, got {value!r}")
        if self.balanced and spec.task != "classification":
            raise ConfigError(f"dataset.sampler: balanced needs one class for each sample; dataset={name} is {spec}")
        wanted = torch.int64 if spec.task == "classification" else torch.float32
        width = () if spec.task == "classification" else (len(spec.classes),)
        for split, part in self.splits().items():
            targets = part.targets
            if targets.dtype != wanted or targets.shape[1:] != width:
                got = f"{targets.dtype} of {tuple(targets.shape)}"
                size = ", ".join(["samples", *map(str, width)])
                raise ConfigError(f"dataset={name}: {split} targets must be {wanted} of ({size}), got {got}")
            if spec.task == "classification":
                check_classes(name, split, targets, len(spec.classes))
            self._check_shape(split, part)

    def _check_shape(self, split: str, part: Split) -> None:
        spec, name = self.spec, self.spec.dataset
        if not len(part):
            return
        inputs = part.source.fetch(part.positions[:1])
        read = inputs if self.features is None else self.features(inputs)
        if spec.varying and len(read) < 2:
            raise ConfigError(f"dataset={name}: spec.varying wants lengths, but a {split} sample has none")
        shape, wanted = list(read[0].shape[1:]), list(spec.shape)
        if len(read) > 1:
            steps = spec.step_axis - 1
            wanted[steps] = shape[steps] if len(shape) > steps and shape[steps] <= wanted[steps] else wanted[steps]
        if shape != wanted:
            raise ConfigError(
                f"dataset={name}: spec.shape is {spec.shape}, but a {split} sample is {tuple(read[0].shape[1:])}"
            )

    def splits(self) -> dict[str, Split]:
        """The splits there are, by name."""
        named = {"train": self.train, "val": self.val, "test": self.test}
        return {name: split for name, split in named.items() if split is not None}

    def preprocessing(self) -> dict[str, Any]:
        """What repeats the preprocessing elsewhere, as plain types."""
        norm, spec = self.normalise, self.spec
        return {
            "kind": spec.kind,
            "shape": list(spec.shape),
            "varying": spec.varying,
            "task": spec.task,
            "classes": list(spec.classes),
            "counts": list(spec.counts),
            "target_mean": list(spec.target_mean),
            "target_std": list(spec.target_std),
            "num_tokens": spec.vocabulary,
            "features": None if self.features is None else self.features.preprocessing(),
            "normalise": None
            if norm is None
            else {"mean": norm.mean.tolist(), "std": norm.std.tolist(), "axis": norm.axis},
            **self.preprocess,
        }


def spec_of(preprocessing: Mapping[str, Any], dataset: str) -> Spec:
    """The spec that ``Data.preprocessing`` tells of; ``num_outputs`` is open again.

    Raises:
        KeyError: it is that of an earlier version.
    """
    return Spec(
        dataset=dataset,
        kind=preprocessing["kind"],
        shape=tuple(preprocessing["shape"]),
        task=preprocessing["task"],
        classes=tuple(preprocessing["classes"]),
        counts=tuple(preprocessing["counts"]),
        target_mean=tuple(preprocessing["target_mean"]),
        target_std=tuple(preprocessing["target_std"]),
        vocabulary=preprocessing["num_tokens"],
        varying=preprocessing["varying"],
    )


def generator(*key: int | str) -> torch.Generator:
    """A CPU generator that is a pure function of ``key``, such as (seed, epoch, "order")."""
    digest = hashlib.sha256(repr(key).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little"))


def split_off(split: Split, fraction: float, seed: int, key: str = "val") -> tuple[Split, Split | None]:
    """Cut ``fraction`` of a split's samples off, drawn with the seed; the same fraction of every class.

    A class with a single sample keeps it, where others have more.

    Returns:
        what stays, and what was cut off (None for a fraction of 0); both in the split's own order.

    Raises:
        ConfigError: the fraction leaves one side without a sample.
    """
    if fraction == 0:
        return split, None
    draw = torch.rand(len(split), generator=generator(seed, key))
    targets = split.targets if split.targets.ndim == 1 else torch.zeros(len(split), dtype=torch.int64)
    taken = torch.zeros(len(split), dtype=torch.bool)
    seen = quota = 0  # rounding the running total makes the sum right, and each class within one sample
    labels, counts = targets.unique(return_counts=True)
    for label in labels:
        members = (targets == label).nonzero().squeeze(1)
        seen += len(members)
        share = round(fraction * seen) - quota if len(members) > 1 or counts.max() == 1 else 0  # an only one stays
        quota += share
        taken[members[draw[members].argsort()][:share]] = True
    if taken.all() or not taken.any():
        raise ConfigError(
            f"dataset.{key}_fraction: {fraction} of {len(split)} samples leaves {'train' if taken.any() else key} "
            f"without a sample{'; 0 trains without one' if key == 'val' and not taken.any() else ''}"
        )
    return split.take((~taken).nonzero().squeeze(1)), split.take(taken.nonzero().squeeze(1))


def class_counts(split: Split, task: Task, num_classes: int) -> tuple[int, ...]:
    """Samples of each class or label; nothing for values."""
    if task == "regression":
        return ()
    targets = split.targets
    counts = targets.sum(0) if targets.ndim > 1 else targets.bincount(minlength=num_classes)
    return tuple(int(count) for count in counts)


def check_classes(dataset: str, split: str, targets: Tensor, num_classes: int) -> None:
    """Every class number must be one of 0 to ``num_classes`` - 1.

    Raises:
        RunError: naming the first sample that is not.
    """
    wrong = ((targets < 0) | (targets >= num_classes)).nonzero().flatten()
    if len(wrong):
        first = int(wrong[0])
        raise RunError(
            f"dataset={dataset}: {split} sample {first} has label {int(targets[first])}, outside 0 to {num_classes - 1}"
            f" ({len(wrong)} of {len(targets)} labels are)"
        )
