"""The metrics of an evaluation besides those by name: top-k accuracy, and metrics of each class or label."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from trainer.config import ConfigError
from trainer.config.messages import did_you_mean
from trainer.metrics.of_scores import auroc_of_each, average_precision_of_each
from trainer.spec import Spec

DEFAULT_TOP = (3, 5)  # values of k for which the top-k accuracy is computed by default


def default_names(spec: Spec) -> list[str]:
    """Return the names of the metrics that an evaluation has for a task besides those of the run."""
    if spec.task == "regression":
        return []
    top = [f"top{k}" for k in DEFAULT_TOP if k < len(spec.classes)] if spec.task == "classification" else []
    return ["auroc", "average_precision", "ece", *top]


def is_top(name: str, spec: Spec) -> bool:
    """Return whether a metric is a top-k accuracy that the task has: ``top7`` needs more than 7 classes."""
    top = re.fullmatch(r"top([1-9]\d*)", name)
    return top is not None and spec.task == "classification" and int(top[1]) < len(spec.classes)


def check_names(wanted: Sequence[str], spec: Spec, others: Sequence[str]) -> None:
    """Raise ConfigError with a line for every name that is neither a top-k accuracy nor in ``others``."""
    known = list(dict.fromkeys([*others, *default_names(spec)]))
    problems = [
        f"--metrics: {name}: {_why_unknown(name, spec)}{did_you_mean(name, known) or ';'} metrics: {', '.join(known)}"
        for name in wanted
        if name not in others and not is_top(name, spec)
    ]
    if problems:
        raise ConfigError(*problems)


def _why_unknown(name: str, spec: Spec) -> str:
    if spec.task == "classification" and re.fullmatch(r"top[1-9]\d*", name):
        return f"needs more than {name.removeprefix('top')} classes, and the run has {len(spec.classes)}"
    return f"no such metric for {spec.task}"


def top_accuracy(scores: Tensor, targets: Tensor, k: int) -> float:
    """Return the top-k accuracy: the share of samples whose class is among the k classes with the highest scores."""
    return float((scores.topk(k, dim=1).indices == targets[:, None]).any(1).double().mean())


class PerClass(NamedTuple):
    """Metrics of each class or label: tensors (classes,) of float64; ``samples`` is int64.

    Recall, AUROC and average precision are NaN for a class without samples, and F1 if this class was never predicted
    either. The precision of a class that was never predicted is 0, as in ``trainer.metrics``.
    """

    precision: Tensor
    recall: Tensor
    f1: Tensor
    auroc: Tensor
    average_precision: Tensor
    samples: Tensor


def per_class(sums: Tensor, scores: Tensor, targets: Tensor) -> PerClass:
    """Return the metrics of each class or label.

    Args:
        sums: the total of ``trainer.metrics.Sums``: the (classes, classes) confusion matrix, or (4, labels) counts of
            true positives, false positives, false negatives and true negatives.
        scores: (samples, classes or labels) probabilities.
        targets: (samples,) classes, or (samples, labels) of 0 and 1.
    """
    if targets.ndim == 1:
        right, predicted, there = sums.diagonal().double(), sums.sum(0).double(), sums.sum(1).double()
    else:
        right = sums[0].double()
        predicted, there = right + sums[1], right + sums[2]
    precision = torch.where(predicted > 0, right / predicted.clamp_min(1), 0.0)
    recall = torch.where(there > 0, right / there, torch.nan)
    both = predicted + there
    f1 = torch.where(both > 0, 2 * right / both, torch.nan)
    areas = auroc_of_each(scores, targets), average_precision_of_each(scores, targets)
    return PerClass(precision, recall, f1, *areas, there.long())
