"""Generated data of any kind, shape, size and number of classes, from which a model can learn."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

import torch
import torch.nn.functional as F
from msgspec import Meta
from torch import Tensor
from typing_extensions import Unpack

from trainer.config import ConfigError, NonNegativeFloat, PositiveInt
from trainer.data import Data, RaggedSource, Split, TensorSource, split_off
from trainer.data.data import LoadKeys, generator, make_data, seed_of_val
from trainer.data.sources import valid_steps
from trainer.dataset import DATASETS
from trainer.spec import Kind, Task

DIMENSIONS = {"image": 3, "spectrogram": 3, "sequence": 2, "tokens": 1, "table": 1}


@DATASETS.register
def synthetic(
    seed: int,
    *,
    kind: Kind,
    shape: Annotated[list[PositiveInt], Meta(min_length=1, max_length=3)],
    task: Task,
    classes: PositiveInt,
    samples: PositiveInt,
    test_samples: PositiveInt,
    vocabulary: Annotated[int, Meta(ge=3)],
    min_steps: PositiveInt | None,
    noise: NonNegativeFloat,
    **keys: Unpack[LoadKeys],
) -> Data:
    """Generate samples that do not depend on the seed, which only chooses val, so that every seed has the same task.

    Each class has a smooth random prototype, and a sample is the prototype of its class plus noise. For labels and
    values, a sample is a weighted sum of all prototypes plus noise: a weight is 1 for the label 1 and -1 for the label
    0, or is the value. For ``kind=tokens``, a class is a few random tokens instead of a prototype.

    Raises:
        ConfigError: the keys do not fit each other.
    """
    _check(kind, shape, task, classes, min_steps)
    maker = generator("synthetic", kind, *shape, classes, vocabulary)
    total = samples + test_samples
    targets = _targets(task, total, classes, maker)
    if kind == "tokens":
        inputs = _tokens(targets, shape[0], classes, vocabulary, noise, maker)
    else:
        inputs = _numbers(targets, shape, classes, noise, maker)
    source = TensorSource((inputs,), targets) if min_steps is None else _cut(inputs, targets, min_steps, maker)
    everything = Split.all(source)
    train, val = split_off(everything.take(torch.arange(samples)), keys["val_fraction"], seed_of_val(seed, keys))
    test = everything.take(torch.arange(samples, total))
    data = make_data(
        "synthetic",
        kind,
        tuple(shape),
        tuple(str(number) for number in range(classes)),
        (train, val, test),
        keys,
        task=task,
        vocabulary=vocabulary if kind == "tokens" else None,
        varying=min_steps is not None,
    )
    return replace(data, in_memory=keys["in_memory"])  # the samples are in memory anyway


def _check(kind: Kind, shape: list[int], task: Task, classes: int, min_steps: int | None) -> None:
    problems = []
    if len(shape) != DIMENSIONS[kind]:
        problems.append(f"dataset.shape: must have {DIMENSIONS[kind]} numbers for kind={kind}, got {shape}")
    if task == "classification" and classes < 2:
        problems.append(f"dataset.classes: must be at least 2 for task=classification, got {classes}")
    if task == "regression" and kind == "tokens":
        problems.append("dataset.task: kind=tokens has classes or labels, not values; use task=classification")
    if min_steps is not None and kind not in ("sequence", "tokens"):
        problems.append(f"dataset.min_steps: only kind=sequence and kind=tokens have steps that vary, not kind={kind}")
    if min_steps is not None and min_steps > shape[0]:
        problems.append(f"dataset.min_steps: must be at most {shape[0]}, the steps of dataset.shape, got {min_steps}")
    if problems:
        raise ConfigError(*problems)


def _targets(task: Task, total: int, classes: int, maker: torch.Generator) -> Tensor:
    if task == "regression":
        return torch.randn(total, classes, generator=maker)
    if task == "multilabel":
        return (torch.rand(total, classes, generator=maker) < 0.5).float()
    return torch.arange(total).remainder(classes)[torch.randperm(total, generator=maker)]


def _numbers(targets: Tensor, shape: list[int], classes: int, noise: float, maker: torch.Generator) -> Tensor:
    """Return (samples, *shape): a prototype, or a sum of prototypes weighted by labels (±1) or values, plus noise."""
    prototypes = _smooth(torch.randn(classes, *shape, generator=maker))
    if targets.ndim == 1:
        clean = prototypes[targets]
    else:
        labels = bool(((targets == 0) | (targets == 1)).all())
        clean = torch.tensordot(targets * 2 - 1 if labels else targets, prototypes, dims=1) / classes**0.5
    return clean + noise * torch.randn(clean.shape, generator=maker)


def _smooth(prototypes: Tensor) -> Tensor:
    """Smooth prototypes along the last axis, so that a convolution finds structure; scale each to unit variance."""
    rows = prototypes.flatten(0, -2).unsqueeze(1)
    rows = F.avg_pool1d(rows, 3, stride=1, padding=1, count_include_pad=False)
    smooth = rows.view_as(prototypes)
    return smooth / smooth.flatten(1).std(1, unbiased=False).clamp_min(1e-6).view(-1, *[1] * (prototypes.ndim - 1))


def _tokens(targets: Tensor, steps: int, classes: int, vocabulary: int, noise: float, maker: torch.Generator) -> Tensor:
    """Return (samples, steps) tokens of each sample's classes, or with probability ``noise`` any token but padding."""
    weights = F.one_hot(targets, classes).float() if targets.ndim == 1 else targets + 1e-6
    speaking = torch.multinomial(weights, steps, replacement=True, generator=maker)
    words = torch.randint(1, vocabulary, (classes, 8), generator=maker)
    said = words[speaking, torch.randint(0, 8, speaking.shape, generator=maker)]
    anything = torch.randint(1, vocabulary, speaking.shape, generator=maker)
    return torch.where(torch.rand(speaking.shape, generator=maker) < noise, anything, said)


def _cut(inputs: Tensor, targets: Tensor, min_steps: int, maker: torch.Generator) -> RaggedSource:
    """Cut each sample to a random number of steps, which is at least ``min_steps``."""
    lengths = torch.randint(min_steps, inputs.shape[1] + 1, (len(inputs),), generator=maker)
    return RaggedSource(inputs[valid_steps(lengths, inputs.shape[1])], lengths, targets)
