"""What the losses over classes share: class weights, and which data they fit."""

from __future__ import annotations

import torch
from torch import Tensor

from trainer.config import ConfigError
from trainer.spec import Spec


def need_classes(loss: str, spec: Spec) -> None:
    """Raises ConfigError unless each sample has one of two or more classes."""
    if spec.task != "classification":
        use = "bce" if spec.task == "multilabel" else "mse, l1 or huber"
        raise ConfigError(f"loss={loss}: needs one class for each sample; dataset={spec.dataset} is {spec}; use {use}")


def need_two_sided(loss: str, spec: Spec) -> None:
    """Raises ConfigError unless there are two classes, or labels."""
    if spec.task == "regression":
        raise ConfigError(
            f"loss={loss}: needs classes or labels; dataset={spec.dataset} is {spec}; use mse, l1 or huber"
        )
    if spec.task == "classification" and len(spec.classes) != 2:
        raise ConfigError(
            f"loss={loss}: needs two classes or several labels; dataset={spec.dataset} has {len(spec.classes)} "
            "classes; use cross_entropy or focal"
        )


def class_weights(weight: list[float] | str | None, spec: Spec) -> Tensor | None:
    """(classes,) float32 weights.

    Args:
        weight: None, one number for each class, or "balanced": samples / (classes * samples of the class), as in
            scikit-learn (King and Zeng 2001).

    Raises:
        ConfigError: the number of weights is wrong, or a class without a sample cannot be balanced.
    """
    if weight is None:
        return None
    if weight == "balanced":
        if 0 in spec.counts:
            empty = spec.classes[spec.counts.index(0)]
            raise ConfigError(f"loss.weight: class {empty} has no training sample to balance; give a list instead")
        counts = torch.tensor(spec.counts, dtype=torch.float64)
        return (counts.sum() / (len(counts) * counts)).float()
    if len(weight) != len(spec.classes):
        raise ConfigError(f"loss.weight: must have {len(spec.classes)} numbers, one for each class, got {len(weight)}")
    return torch.tensor(weight, dtype=torch.float32)


def size_of_classes(targets: Tensor, weight: Tensor | None) -> Tensor | int:
    """The sum of the samples' weights; that of a mixed one (batch, classes) is the mean of its classes' weights."""
    if weight is None:
        return targets.shape[0]
    return weight[targets].sum() if targets.ndim == 1 else (targets * weight).sum()


def sides(targets: Tensor, spec: Spec) -> Tensor:
    """Two classes as one column, float32: (batch,) of 0 and 1, or the shares (batch, 2); labels as they are."""
    if spec.task == "classification" and targets.ndim == 2:
        targets = targets[:, 1]
    return targets.float().view(len(targets), -1)


def side_scores(probabilities: Tensor, spec: Spec) -> Tensor:
    """The probability of both classes, (batch, 2); labels as they are."""
    if spec.task == "multilabel":
        return probabilities
    return torch.cat([1 - probabilities, probabilities], dim=1)
