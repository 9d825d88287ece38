"""The metrics that are functions of a task's sums: a confusion matrix, counts for each label, moments of values."""

from __future__ import annotations

import torch
from torch import Tensor

from trainer.metrics.registry import metric


def _ratio(part: Tensor, whole: Tensor) -> Tensor:
    """Divide elementwise, with 0 / 0 = 0 like torchmetrics and scikit-learn."""
    return torch.where(whole > 0, part / whole.clamp_min(1), 0.0)


def _macro(values: Tensor, confusion: Tensor) -> Tensor:
    """Average over the classes that occur among the targets or the predictions."""
    return values[confusion.sum(0) + confusion.sum(1) > 0].mean()


@metric("accuracy", "classification")
def accuracy_of_classes(confusion: Tensor) -> Tensor:
    """Compute the fraction of samples that are predicted correctly."""
    return confusion.trace() / confusion.sum()


@metric("balanced_accuracy", "classification")
def balanced_accuracy(confusion: Tensor) -> Tensor:
    """Compute the mean recall of the classes that occur (Brodersen et al. 2010)."""
    occurs = confusion.sum(1)
    return (confusion.diagonal() / occurs)[occurs > 0].mean()


@metric("precision", "classification")
def precision_of_classes(confusion: Tensor) -> Tensor:
    """Compute TP / (TP + FP), mean over classes."""
    return _macro(_ratio(confusion.diagonal(), confusion.sum(0)), confusion)


@metric("recall", "classification")
def recall_of_classes(confusion: Tensor) -> Tensor:
    """Compute TP / (TP + FN), mean over classes."""
    return _macro(_ratio(confusion.diagonal(), confusion.sum(1)), confusion)


@metric("f1", "classification")
def f1_of_classes(confusion: Tensor) -> Tensor:
    """Compute 2 TP / (2 TP + FP + FN), mean over classes (van Rijsbergen 1979)."""
    return _macro(_ratio(2 * confusion.diagonal(), confusion.sum(0) + confusion.sum(1)), confusion)


@metric("accuracy", "multilabel")
def accuracy_of_labels(counts: Tensor) -> Tensor:
    """Compute the fraction of labels, over all samples, that are predicted correctly."""
    return (counts[0] + counts[3]).sum() / counts.sum()


@metric("precision", "multilabel")
def precision_of_labels(counts: Tensor) -> Tensor:
    """Compute TP / (TP + FP), mean over labels."""
    return _ratio(counts[0], counts[0] + counts[1]).mean()


@metric("recall", "multilabel")
def recall_of_labels(counts: Tensor) -> Tensor:
    """Compute TP / (TP + FN), mean over labels."""
    return _ratio(counts[0], counts[0] + counts[2]).mean()


@metric("f1", "multilabel")
def f1_of_labels(counts: Tensor) -> Tensor:
    """Compute 2 TP / (2 TP + FP + FN), mean over labels."""
    return _ratio(2 * counts[0], 2 * counts[0] + counts[1] + counts[2]).mean()


@metric("mae", "regression", higher_is_better=False)
def mae(moments: Tensor) -> Tensor:
    """Compute the mean absolute error over samples and values."""
    return moments[3].sum() / moments[0].sum()


@metric("rmse", "regression", higher_is_better=False)
def rmse(moments: Tensor) -> Tensor:
    """Compute the root mean squared error over samples and values."""
    mean: Tensor = moments[4].sum() / moments[0].sum()
    return torch.sqrt(mean)


@metric("r2", "regression")
def r2(moments: Tensor) -> Tensor:
    """Compute 1 - mean squared error / variance of the targets, mean over values.

    For targets that do not vary, the value is 1 if every prediction is exact, else 0.
    """
    count, total, squares, _, error = moments
    varies = squares - total**2 / count
    return torch.where(varies > 0, 1 - error / varies, (error == 0).double()).mean()
