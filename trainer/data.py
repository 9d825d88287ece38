"""What a data set hands over: splits of raw samples, the preprocessing, and the spec.

Samples stay raw (uint8 where that is what they are) until a batch is needed; a split is a list of positions in a
source, so that cutting val from train copies nothing.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any, Protocol, get_args

import torch
from torch import Tensor

from trainer.augment import Augment
from trainer.config import ConfigError, RunError
from trainer.spec import Kind, Spec, Task


class Source(Protocol):
    """Samples by position."""

    @property
    def targets(self) -> Tensor:
        """(samples,) int64 classes, or (samples, outputs) float32 labels or values."""

    def fetch(self, positions: Tensor) -> tuple[Tensor, ...]:
        """The raw inputs at ``positions`` (int64), batched: (inputs,), or (inputs, lengths) where steps vary."""


@dataclass(frozen=True)
class TensorSource:
    """Samples that live as whole tensors.

    Args:
        inputs: (samples, *shape), and lengths (samples,) where steps vary.
        targets: as in ``Source``.
    """

    inputs: tuple[Tensor, ...]
    targets: Tensor

    def fetch(self, positions: Tensor) -> tuple[Tensor, ...]:
        """One gather for each input."""
        return tuple(tensor.index_select(0, positions) for tensor in self.inputs)

    def to(self, device: torch.device) -> TensorSource:
        """The same on another device."""
        return TensorSource(tuple(tensor.to(device) for tensor in self.inputs), self.targets.to(device))


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

    def head(self, count: int) -> Tensor:
        """The raw inputs of the first samples, (count, *shape)."""
        return self.source.fetch(self.positions[:count])[0]

    def take(self, which: Tensor) -> Split:
        """Those of the split's samples that ``which`` numbers."""
        return Split(self.source, self.positions.index_select(0, which))


@dataclass(frozen=True)
class Normalise:
    """Zero mean and unit variance for each channel.

    Args:
        mean, std: (channels,) float32, in the units of the raw samples.
    """

    mean: Tensor
    std: Tensor

    @classmethod
    def measure(cls, split: Split, chunk: int = 4096) -> Normalise:
        """Measure a split of (samples, channels, …) inputs, summed in float64, a chunk of samples at a time."""
        total = squares = torch.zeros(())
        count = 0
        for positions in split.positions.split(chunk):
            inputs = split.source.fetch(positions)[0]
            # pixels are exact enough in float32, which is faster; numbers far from 0 are not
            exact = torch.float64 if inputs.is_floating_point() else torch.float32
            values = inputs.to(exact).transpose(0, 1).flatten(1)
            total = total + values.sum(1).double()
            squares = squares + values.square().sum(1).double()
            count += values.shape[1]
        mean = total / count
        std = (squares / count - mean**2).clamp_min(0).sqrt()
        return cls(mean.float(), torch.where(std > 0, std, 1.0).float())

    def to(self, device: torch.device) -> Normalise:
        """The same on another device."""
        return Normalise(self.mean.to(device), self.std.to(device))

    def __call__(self, inputs: Tensor) -> Tensor:
        """(batch, channels, …) of any number type -> float32."""
        shape = (1, -1, *[1] * (inputs.ndim - 2))
        return inputs.to(torch.float32, copy=True).sub_(self.mean.view(shape)).div_(self.std.view(shape))


@dataclass(frozen=True)
class Data:
    """A data set, ready to be loaded in batches.

    Args:
        spec: what it tells a model; ``num_outputs`` is still open.
        train, val, test: the splits; ``val`` is None when nothing was held out.
        normalise: applied to every batch, where the samples are not already numbers of that kind.
        augment: applied to training batches before ``normalise``.
        in_memory: whole tensors on the device, or streamed through a DataLoader.
        workers: processes of that DataLoader.
    """

    spec: Spec
    train: Split
    val: Split | None
    test: Split
    normalise: Normalise | None = None
    augment: Augment | None = None
    in_memory: bool = True
    workers: int = 0

    def fingerprint(self) -> dict[str, Any]:
        """Sizes, and a SHA-256 of every sample and target in order, to tell two data sets apart."""
        digest = hashlib.sha256()
        for split in self.splits().values():
            for positions in split.positions.split(4096):
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
        for field, value, allowed in (("kind", spec.kind, get_args(Kind)), ("task", spec.task, get_args(Task))):
            if value not in allowed:
                raise ConfigError(f"dataset={name}: spec.{field} must be one of {', '.join(allowed)}, got {value!r}")
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
            shape = tuple(part.head(1).shape[1:])
            if len(part) and shape != spec.shape:
                raise ConfigError(f"dataset={name}: spec.shape is {spec.shape}, but a {split} sample is {shape}")

    def splits(self) -> dict[str, Split]:
        """The splits there are, by name."""
        named = {"train": self.train, "val": self.val, "test": self.test}
        return {name: split for name, split in named.items() if split is not None}

    def preprocessing(self) -> dict[str, Any]:
        """What repeats the preprocessing elsewhere, as plain types."""
        norm = self.normalise
        return {
            "kind": self.spec.kind,
            "shape": list(self.spec.shape),
            "task": self.spec.task,
            "classes": list(self.spec.classes),
            "normalise": None if norm is None else {"mean": norm.mean.tolist(), "std": norm.std.tolist()},
        }


def generator(*key: int | str) -> torch.Generator:
    """A CPU generator that is a pure function of ``key``, such as (seed, epoch, "order")."""
    digest = hashlib.sha256(repr(key).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little"))


def split_off(split: Split, fraction: float, seed: int, key: str = "val") -> tuple[Split, Split | None]:
    """Cut ``fraction`` of a split's samples off, drawn with the seed; the same fraction of every class.

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
    for label in targets.unique():
        members = (targets == label).nonzero().squeeze(1)
        seen += len(members)
        share = round(fraction * seen) - quota
        quota += share
        taken[members[draw[members].argsort()][:share]] = True
    if taken.all() or not taken.any():
        raise ConfigError(
            f"dataset.{key}_fraction: {fraction} of {len(split)} samples leaves {'train' if taken.any() else key} "
            f"without a sample{'; 0 trains without one' if not taken.any() else ''}"
        )
    return split.take((~taken).nonzero().squeeze(1)), split.take(taken.nonzero().squeeze(1))


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
