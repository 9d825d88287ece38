"""Metrics that need the scores of all samples at once: AUROC, expected calibration error and top-k accuracy."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from trainer.config import ConfigError
from trainer.config.messages import did_you_mean
from trainer.spec import Spec

BINS = 15  # of the expected calibration error, as in Guo et al. 2017
DEFAULT_TOP = (3, 5)  # the top-k accuracies that are computed by default


def default_names(spec: Spec) -> list[str]:
    """Return the names of the metrics of this module that are computed by default for a task."""
    if spec.task == "regression":
        return []
    top = [f"top{k}" for k in DEFAULT_TOP if k < len(spec.classes)] if spec.task == "classification" else []
    return ["auroc", "ece", *top]


def has_metric(name: str, spec: Spec) -> bool:
    """Return whether this module has a metric for a task; ``top7`` needs more than 7 classes."""
    top = re.fullmatch(r"top([1-9]\d*)", name)
    if top is not None:
        return spec.task == "classification" and int(top[1]) < len(spec.classes)
    return name in default_names(spec)


def check_names(wanted: Sequence[str], spec: Spec, others: Sequence[str]) -> None:
    """Raise ConfigError with a line for every name that is neither a metric of this module nor one of ``others``."""
    known = [*others, *default_names(spec)]
    problems = [
        f"--metrics: {name}: no such metric for {spec.task}{did_you_mean(name, known) or ';'} "
        f"metrics: {', '.join(known)}"
        for name in wanted
        if name not in others and not has_metric(name, spec)
    ]
    if problems:
        raise ConfigError(*problems)


def compute_metric(name: str, scores: Tensor, targets: Tensor) -> float:
    """Return a metric by its name.

    The AUROC of two classes is the one of the second class. The AUROC of several classes or labels is their macro
    average, without classes that have no samples.

    Args:
        name: auroc, ece, or topK.
        scores: (samples, classes or labels) probabilities.
        targets: (samples,) classes, or (samples, labels) of 0 and 1.
    """
    if name == "auroc":
        found = auroc(scores, targets)
        if targets.ndim == 1 and scores.shape[1] == 2:
            return float(found[1])
        return float(found[~found.isnan()].mean()) if not found.isnan().all() else float("nan")
    if name == "ece":
        return calibration_error(scores, targets)
    return top_accuracy(scores, targets, int(name.removeprefix("top")))


def top_accuracy(scores: Tensor, targets: Tensor, k: int) -> float:
    """Return the share of samples whose class is among the k classes with the highest scores."""
    return float((scores.topk(k, dim=1).indices == targets[:, None]).any(1).double().mean())


def calibration(scores: Tensor, targets: Tensor, bins: int = BINS) -> Tensor:
    """Return the reliability diagram: (bins, 3) float64 with the count, mean confidence and accuracy of each bin.

    The confidence is the probability of the predicted class. Each label of a multilabel task is a prediction of its
    own. The bins have equal width. The means of an empty bin are 0.

    Args:
        scores: (samples, classes or labels) probabilities.
        targets: (samples,) classes, or (samples, labels) of 0 and 1.
        bins: the number of bins.
    """
    if targets.ndim == 1:
        sure, answer = scores.max(1)
        right = answer == targets
    else:
        sure = torch.maximum(scores, 1 - scores).flatten()
        right = ((scores > 0.5) == (targets > 0.5)).flatten()
    place = (sure.double() * bins).ceil().long().clamp(1, bins) - 1  # the bins are (low, high], as in Guo et al.
    count = torch.zeros(bins, dtype=torch.float64).index_add_(0, place, torch.ones_like(sure, dtype=torch.float64))
    sums = [torch.zeros(bins, dtype=torch.float64).index_add_(0, place, each.double()) for each in (sure, right)]
    return torch.stack([count, *(each / count.clamp_min(1) for each in sums)], dim=1)


def calibration_error(scores: Tensor, targets: Tensor) -> float:
    """Return the expected calibration error: the mean of |accuracy - confidence| over all samples, by bins.

    Guo et al. 2017, On Calibration of Modern Neural Networks.
    """
    count, sure, right = calibration(scores, targets).unbind(1)
    return float((count * (sure - right).abs()).sum() / count.sum())


def auroc(scores: Tensor, targets: Tensor) -> Tensor:
    """Return the area under the ROC curve of each class against all others, or of each label: (classes,) float64.

    The area is the probability that a sample of the class has a higher score than a sample of another class, where a
    tie counts half (Hanley and McNeil 1982). It is computed from the sum of ranks (Mann and Whitney 1947). It is NaN
    if no sample, or every sample, is of the class.
    """
    truth = F.one_hot(targets, scores.shape[1]) if targets.ndim == 1 else (targets > 0.5).long()
    found = []
    for column, true in zip(scores.unbind(1), truth.unbind(1), strict=True):
        _, group, count = column.unique(return_inverse=True, return_counts=True)
        ends = count.cumsum(0).double()
        rank = ends - (count.double() - 1) / 2  # equal scores share the mean of their ranks, which begin at 1
        positive = true.sum().double()
        negative = len(true) - positive
        ranks = (rank[group] * true).sum()
        found.append((ranks - positive * (positive + 1) / 2) / (positive * negative))
    return torch.stack(found)


class PerClass(NamedTuple):
    """Metrics of each class or label: (classes,) float64 each, NaN for a class without samples.

    The precision of a class that was never predicted is 0, as in ``trainer.metrics``.
    """

    precision: Tensor
    recall: Tensor
    f1: Tensor
    auroc: Tensor
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
    return PerClass(precision, recall, f1, auroc(scores, targets), there.long())
