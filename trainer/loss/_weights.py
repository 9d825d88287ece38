"""The weights of classes and labels."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from trainer.config import ConfigError, PositiveFloat
from trainer.spec import Spec

ClassWeights = list[PositiveFloat] | Literal["balanced"] | None


def weights_of(weight: ClassWeights, spec: Spec) -> Tensor | None:
    """Return the weights of the classes, or of the samples that have each label: (classes or labels,) float32, or None.

    Args:
        weight: None for equal weights; one number for each class or label; or "balanced": for classes samples /
            (classes * samples of the class), as in scikit-learn (King and Zeng 2001), for labels samples without the
            label / samples with it.
        spec: the data.

    Raises:
        ConfigError: the number of weights is wrong, or the weights are to be balanced although a class or label has no
            samples, or every sample has the label.
    """
    if weight is None:
        return None
    nouns = ("class", "classes") if spec.task == "classification" else ("label", "labels")
    if weight == "balanced":
        return _balanced(spec, *nouns)
    if len(weight) != len(spec.classes):
        raise ConfigError(
            f"loss.weight: must have {len(spec.classes)} numbers, one for each {nouns[0]}, got {len(weight)}"
        )
    return torch.tensor(weight, dtype=torch.float32)


def _balanced(spec: Spec, noun: str, nouns: str) -> Tensor:
    if len(spec.counts) != len(spec.classes):
        gives = f"gives {len(spec.counts)} counts for its {len(spec.classes)} {nouns}"
        raise ConfigError(f"loss.weight: dataset={spec.dataset} {gives}; give a list of weights instead")
    if 0 in spec.counts:
        empty = spec.classes[spec.counts.index(0)]
        raise ConfigError(f"loss.weight: {noun} {empty} has no training sample to balance; give a list instead")
    counts = torch.tensor(spec.counts, dtype=torch.float64)
    if spec.task == "classification":
        return (counts.sum() / (len(counts) * counts)).float()
    if max(spec.counts) >= spec.num_samples:
        full = spec.classes[spec.counts.index(max(spec.counts))]
        raise ConfigError(f"loss.weight: every training sample has label {full}; give a list instead")
    return (spec.num_samples / counts - 1).float()
