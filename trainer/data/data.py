"""The contents of a data set: splits of raw samples, the preprocessing, and the spec."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol, TypedDict, get_args

import torch
from torch import Tensor

from trainer.config import ConfigError, Fraction, NonNegativeInt, RunError
from trainer.data.group_split import choose_groups
from trainer.data.moments import Moments
from trainer.data.random_numbers import SampleRandom, seeded
from trainer.data.sources import Inputs, Split, channel_values
from trainer.data.table_encoding import TableEncoding, restore_encoding
from trainer.spec import Kind, Spec, Task

SAVED_OF_SPEC = ("kind", "shape", "varying", "task", "classes", "counts", "target_mean", "target_std")
BAD_SAMPLE = "bad sample: "  # the prefix of the warnings about bad samples under ``ReadOptions.report_all``


class LoadKeys(TypedDict):
    """The keys that every data set has."""

    val_fraction: Fraction
    val_seed: NonNegativeInt | None
    sampler: Literal["shuffle", "balanced"]
    in_memory: bool | Literal["auto"]
    workers: NonNegativeInt


@dataclass(frozen=True)
class ReadOptions:
    """Options for reading a data set; training uses the defaults.

    Args:
        preprocessing: the result of ``Data.preprocessing`` for the training data of a finished run. The data set is
            read in the same way, and its classes, vocabulary and means are not derived from its own samples.
        report_all: add a warning for each bad sample to ``Data.warnings`` instead of raising an error.
    """

    preprocessing: Mapping[str, Any] | None = None
    report_all: bool = False

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes of the finished run; empty if the classes have to be derived from the samples."""
        return () if self.preprocessing is None else tuple(self.preprocessing["classes"])


class Features(Protocol):
    """A function that converts a batch of raw samples to features for a model, such as waves to spectrograms."""

    def __call__(self, inputs: Inputs) -> Inputs:
        """Return the features and, if steps vary, their lengths. The features of a sample depend on no other sample."""

    def to(self, device: torch.device) -> Features:
        """Return a copy on another device."""

    def preprocessing(self) -> dict[str, Any]:
        """Return the arguments of ``trainer.data.audio.make_features``, as plain types."""


@dataclass(frozen=True)
class Normalise:
    """Normalise each channel to zero mean and unit variance.

    Args:
        mean, std: (channels,) float32, in the units of the samples.
        axis: the channel axis of a batch.
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
        """Compute the mean and the standard deviation of each channel of a split, without padding.

        Args:
            split: samples with their channels along ``axis`` of a batch. If steps vary, they are along axis 1, or along
                axis 2 for spectrograms.
            chunk: the number of samples that are read at a time.
            axis: the channel axis of a batch.
            features: compute the statistics of these features instead of the raw samples.
            most: the maximum number of samples to read, spread evenly over the split; None reads all of them.
        """
        moments = Moments()
        measured = split.positions if most is None else split.positions[:: -(-len(split) // most)]
        for positions in measured.split(chunk):
            inputs = split.source.fetch(positions)
            values, *lengths = inputs if features is None else features(inputs)
            moments.add(channel_values(values, lengths, axis))
        mean, std = (each.float() for each in moments.result())
        return cls(mean, torch.where(std > 0, std, 1.0), axis)

    @staticmethod
    def restore(preprocessing: Mapping[str, Any]) -> Normalise | TableEncoding | None:
        """Return the normalisation from a result of ``Data.preprocessing``, or None if the data is not normalised."""
        saved = preprocessing.get("normalise")
        if saved is None:
            return None
        if "columns" in saved:
            return restore_encoding(saved)
        return Normalise(torch.tensor(saved["mean"]), torch.tensor(saved["std"]), saved["axis"])

    def preprocessing(self) -> dict[str, Any]:
        """Return the attributes as plain types, for ``restore``."""
        return {"mean": self.mean.tolist(), "std": self.std.tolist(), "axis": self.axis}

    def to(self, device: torch.device) -> Normalise:
        return Normalise(self.mean.to(device), self.std.to(device), self.axis)

    def __call__(self, inputs: Tensor) -> Tensor:
        """Return the normalised inputs as float32; the inputs are (batch, …) of any dtype."""
        shape = [1] * inputs.ndim
        shape[self.axis] = -1
        return inputs.to(torch.float32, copy=True).sub_(self.mean.view(shape)).div_(self.std.view(shape))


class Augmentation(Protocol):
    """A random change of the training samples of a batch."""

    def __call__(self, inputs: Inputs, draws: SampleRandom) -> Inputs:
        """Return the augmented batch; ``draws`` provides the random numbers of each sample."""


class Mix(Protocol):
    """Mixing of every training sample and its target with another sample (Zhang et al. 2018, Yun et al. 2019)."""

    def shares(self, draws: SampleRandom) -> Tensor:
        """Return the weight of each sample in its mixture, (batch,) float32 in [0, 1]."""

    def __call__(self, inputs: Inputs, others: Inputs, draws: SampleRandom) -> Inputs:
        """Mix the samples of ``others`` into those of ``inputs``; both are model inputs of the same shape."""


@dataclass(frozen=True)
class Data:
    """A data set, ready to be loaded in batches.

    Args:
        spec: describes a sample and the task to a model; ``num_outputs`` is set later, by the loss.
        train, val, test: the splits; ``val`` is None if no samples were held out.
        normalise: applied to every batch; None if the samples need no normalisation. For a table of the user's own it
            encodes the columns.
        augment: applied to raw training samples.
        features: computed from raw samples before normalisation.
        augment_features: applied to training samples after normalisation.
        mix: applied to training batches, as the last step.
        in_memory: keep whole tensors on the device instead of streaming batches through a DataLoader; ``auto`` keeps
            them there if the device has room for them.
        workers: the number of worker processes of the DataLoader.
        balanced: draw training samples with replacement, so that all classes are equally frequent.
        identity: hashed by ``fingerprint`` instead of the samples, if reading all samples would take too long.
        preprocess: further entries for the result of ``preprocessing()``, as plain types, such as a vocabulary.
        warnings: warnings about the data for the user, one line each.
        notes: short phrases about how the data were read, such as the target that was found, for the user.
        places: the origin of each sample for messages, such as its file, indexed by the position of the sample in the
            source that all splits share; None if unknown.
    """

    spec: Spec
    train: Split
    val: Split | None
    test: Split
    normalise: Normalise | TableEncoding | None = None
    augment: Augmentation | None = None
    features: Features | None = None
    augment_features: Augmentation | None = None
    mix: Mix | None = None
    in_memory: bool | Literal["auto"] = True
    workers: int = 0
    balanced: bool = False
    identity: str | None = None
    preprocess: dict[str, Any] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    places: Sequence[str] | None = None

    def fingerprint(self) -> dict[str, Any]:
        """Return the sizes of the splits and a SHA-256 of all samples and targets in order.

        If ``identity`` is set, the SHA-256 is that of the identity, the positions and the targets instead.
        """
        digest = hashlib.sha256((self.identity or "").encode())
        for split in self.splits().values():
            if self.identity is not None:
                digest.update(split.positions.numpy().data)
                digest.update(split.targets.numpy().data)
                continue
            for positions in split.positions.split(512):
                with seeded("fingerprint", len(positions)):
                    inputs = split.source.fetch(positions)
                for tensor in (*inputs, split.source.targets.index_select(0, positions)):
                    digest.update(tensor.numpy().data)
        sizes = {name: len(split) for name, split in self.splits().items()}
        return {**sizes, "sha256": digest.hexdigest()}

    def check(self) -> None:
        """Check that the samples and targets match the spec.

        Raises:
            ConfigError: the kind, the task, a shape or the targets are wrong.
            RunError: a class number is negative or too large.
        """
        spec, name = self.spec, self.spec.dataset
        for key, value, allowed in (("kind", spec.kind, get_args(Kind)), ("task", spec.task, get_args(Task))):
            if value not in allowed:
                raise ConfigError(f"dataset={name}: spec.{key} must be one of {', '.join(allowed)}, got {value!r}")
        if self.balanced and spec.task != "classification":
            raise ConfigError(f"dataset.sampler: balanced needs one class for each sample; dataset={name} is {spec}")
        wanted = torch.int64 if spec.task == "classification" else torch.float32
        allowed_types = (torch.float32, torch.float64) if spec.needs_float64 else (wanted,)
        width = () if spec.task == "classification" else (len(spec.classes),)
        for split, part in self.splits().items():
            targets = part.targets
            if targets.dtype not in allowed_types or targets.shape[1:] != width:
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
        values = read[0] if self.normalise is None else self.normalise(read[0])
        shape, wanted = list(values.shape[1:]), list(spec.shape)
        if len(read) > 1:
            steps = spec.step_axis - 1
            wanted[steps] = shape[steps] if len(shape) > steps and shape[steps] <= wanted[steps] else wanted[steps]
        if shape != wanted:
            raise ConfigError(
                f"dataset={name}: spec.shape is {spec.shape}, but a {split} sample is {tuple(values.shape[1:])}"
            )

    def counted(self) -> Data:
        """Return the data set with the counts of the classes or labels in its spec; call ``check`` first."""
        counts = self.spec.counts or class_counts(self.train, self.spec.task, len(self.spec.classes))
        return replace(self, spec=replace(self.spec, counts=counts, num_samples=len(self.train)))

    def splits(self) -> dict[str, Split]:
        """Return the splits by name, without ``val`` if it is None."""
        named = {"train": self.train, "val": self.val, "test": self.test}
        return {name: split for name, split in named.items() if split is not None}

    def preprocessing(self) -> dict[str, Any]:
        """Return everything that is needed to repeat the preprocessing without the training data, as plain types."""
        norm, spec = self.normalise, self.spec
        return {
            **{key: list(value) if isinstance(value := getattr(spec, key), tuple) else value for key in SAVED_OF_SPEC},
            "num_samples": spec.num_samples,
            "num_tokens": spec.vocabulary,
            "features": None if self.features is None else self.features.preprocessing(),
            "normalise": None if norm is None else norm.preprocessing(),
            **self.preprocess,
        }


def make_data(
    dataset: str,
    kind: Kind,
    shape: tuple[int, ...],
    classes: tuple[str, ...],
    splits: tuple[Split, Split | None, Split],
    keys: LoadKeys,
    *,
    task: Task = "classification",
    vocabulary: int | None = None,
    varying: bool = False,
    encoding: TableEncoding | None = None,
) -> Data:
    """Make a ``Data`` without preprocessing from train, val and test; the other arguments are as in ``Spec``."""
    train, val, test = splits
    counts = class_counts(train, task, len(classes))
    spec = Spec(dataset, kind, shape, task, classes, counts, vocabulary=vocabulary, varying=varying)
    spec = spec if encoding is None else _encoded(spec, encoding)
    return Data(spec, train, val, test, workers=keys["workers"], balanced=keys["sampler"] == "balanced")


def spec_of(preprocessing: Mapping[str, Any], dataset: str) -> Spec:
    """Return the spec from a result of ``Data.preprocessing``, which does not contain ``num_outputs``.

    Raises:
        KeyError: a key is missing, because an earlier version saved the preprocessing.
    """
    saved = {key: preprocessing[key] for key in SAVED_OF_SPEC}
    values: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in saved.items()}
    num_samples = preprocessing.get("num_samples", 0)  # an earlier version has saved none, and needed none
    spec = Spec(dataset=dataset, vocabulary=preprocessing["num_tokens"], num_samples=num_samples, **values)
    normalise = Normalise.restore(preprocessing)
    return _encoded(spec, normalise) if isinstance(normalise, TableEncoding) else spec


def _encoded(spec: Spec, encoding: TableEncoding) -> Spec:
    return replace(spec, blocks=encoding.blocks, edges=encoding.edges)


def generator(*key: int | str) -> torch.Generator:
    """Return a CPU generator whose seed is a pure function of ``key``, such as (seed, epoch, "order")."""
    digest = hashlib.sha256(repr(key).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little"))


def seed_of_val(seed: int, keys: LoadKeys) -> int:
    """Return the seed of the val split: ``dataset.val_seed`` or, if it is None, the seed of the run."""
    return seed if keys["val_seed"] is None else keys["val_seed"]


def split_off(
    split: Split,
    fraction: float,
    seed: int,
    key: str = "val",
    groups: Sequence[str] | None = None,
    leave: int = 1,
) -> tuple[Split, Split | None]:
    """Divide a split at random into two parts, with ``fraction`` of the samples in the second part.

    Classes have the same proportions in both parts. A class with a single sample stays in the first part, unless every
    class has a single sample. With groups, all of this holds as nearly as whole groups allow.

    Args:
        split: the split.
        fraction: the share of the second part.
        seed: the seed of the random choice.
        key: the name of the second part.
        groups: the group of each sample of the split; all samples of a group get into the same part.
        leave: the number of groups that the first part keeps at least.

    Returns:
        both parts, in the order of the split; the second part is None for a fraction of 0.

    Raises:
        ConfigError: one of the two parts would have no samples.
    """
    if fraction == 0:
        return split, None
    targets = split.targets if split.targets.ndim == 1 else torch.zeros(len(split), dtype=torch.int64)
    if groups is not None:
        names = sorted({*groups})
        if len(names) <= leave:
            some = f"{len(names)} group{'s' * (len(names) > 1)} ({', '.join(names)})"
            without = "" if key == "test" and leave == 1 else "; dataset.val_fraction=0 trains without val"
            splits = f"train and {key}" if leave == 1 else f"train, val and {key}"
            raise ConfigError(f"dataset.group: {some} cannot be divided into {splits}{without}")
        taken = torch.from_numpy(choose_groups(groups, targets.numpy(), fraction, seed, key, leave))
        return split.take((~taken).nonzero().squeeze(1)), split.take(taken.nonzero().squeeze(1))
    draw = torch.rand(len(split), generator=generator(seed, key))
    taken = torch.zeros(len(split), dtype=torch.bool)
    seen = quota = 0  # rounding running totals gives the right sum and puts each class within one sample of its share
    labels, counts = targets.unique(return_counts=True)
    for label in labels:
        members = (targets == label).nonzero().squeeze(1)
        seen += len(members)
        share = round(fraction * seen) - quota if len(members) > 1 or counts.max() == 1 else 0
        quota += share
        taken[members[draw[members].argsort()][:share]] = True
    if taken.all() or not taken.any():
        raise ConfigError(
            f"dataset.{key}_fraction: {fraction} of {len(split)} samples leaves {'train' if taken.any() else key} "
            f"without a sample{'; 0 trains without one' if key == 'val' and not taken.any() else ''}"
        )
    return split.take((~taken).nonzero().squeeze(1)), split.take(taken.nonzero().squeeze(1))


def class_counts(split: Split, task: Task, num_classes: int) -> tuple[int, ...]:
    """Return the number of samples of each class or label; empty for a regression."""
    if task == "regression":
        return ()
    targets = split.targets
    counts = targets.sum(0) if targets.ndim > 1 else targets.bincount(minlength=num_classes)
    return tuple(int(count) for count in counts)


def check_classes(dataset: str, split: str, targets: Tensor, num_classes: int) -> None:
    """Check that every class number is between 0 and ``num_classes`` - 1.

    Raises:
        RunError: a class number is negative or too large; the message names the first such sample.
    """
    wrong = ((targets < 0) | (targets >= num_classes)).nonzero().flatten()
    if len(wrong):
        first = int(wrong[0])
        raise RunError(
            f"dataset={dataset}: {split} sample {first} has label {int(targets[first])}, outside 0 to {num_classes - 1}"
            f" ({len(wrong)} of {len(targets)} labels are)"
        )
