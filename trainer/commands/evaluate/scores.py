"""Metrics that need the scores of all samples at once: AUROC, average precision, calibration error, top-k accuracy."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from trainer.config import ConfigError
from trainer.config.messages import did_you_mean
from trainer.spec import Spec

BINS = 15  # number of bins of the expected calibration error, as in Guo et al. 2017
DEFAULT_TOP = (3, 5)  # values of k for which the top-k accuracy is computed by default


def default_names(spec: Spec) -> list[str]:
    """Return the names of the metrics of this module that are computed by default for a task."""
    if spec.task == "regression":
        return []
    top = [f"top{k}" for k in DEFAULT_TOP if k < len(spec.classes)] if spec.task == "classification" else []
    return ["auroc", "average_precision", "ece", *top]


def has_metric(name: str, spec: Spec) -> bool:
    """Return whether this module can compute a metric for a task; ``top7``, for example, needs more than 7 classes."""
    top = re.fullmatch(r"top([1-9]\d*)", name)
    if top is not None:
        return spec.task == "classification" and int(top[1]) < len(spec.classes)
    return name in default_names(spec)


def check_names(wanted: Sequence[str], spec: Spec, others: Sequence[str]) -> None:
    """Raise ConfigError with a line for every name that is neither a metric of this module nor in ``others``."""
    known = [*others, *default_names(spec)]
    problems = [
        f"--metrics: {name}: {_why_unknown(name, spec)}{did_you_mean(name, known) or ';'} metrics: {', '.join(known)}"
        for name in wanted
        if name not in others and not has_metric(name, spec)
    ]
    if problems:
        raise ConfigError(*problems)


def _why_unknown(name: str, spec: Spec) -> str:
    if spec.task == "classification" and re.fullmatch(r"top[1-9]\d*", name):
        return f"needs more than {name.removeprefix('top')} classes, and the run has {len(spec.classes)}"
    return f"no such metric for {spec.task}"


def compute_metric(name: str, scores: Tensor, targets: Tensor) -> float:
    """Compute a metric, given its name.

    The AUROC and the average precision of two classes are those of the second class. Those of more classes, or of
    labels, are the mean over all classes or labels for which they are defined, see ``auroc`` and ``average_precision``.

    Args:
        name: auroc, average_precision, ece, or topK.
        scores: (samples, classes or labels) probabilities.
        targets: (samples,) classes, or (samples, labels) of 0 and 1.
    """
    if name in OF_CLASSES:
        found = OF_CLASSES[name](scores, targets)
        if targets.ndim == 1 and scores.shape[1] == 2:
            return float(found[1])
        return float(found[~found.isnan()].mean()) if not found.isnan().all() else float("nan")
    if name == "ece":
        return calibration_error(scores, targets)
    return top_accuracy(scores, targets, int(name.removeprefix("top")))


def top_accuracy(scores: Tensor, targets: Tensor, k: int) -> float:
    """Return the top-k accuracy: the share of samples whose class is among the k classes with the highest scores."""
    return float((scores.topk(k, dim=1).indices == targets[:, None]).any(1).double().mean())


def calibration(scores: Tensor, targets: Tensor) -> Tensor:
    """Return the data of a reliability diagram: (``BINS``, 3) float64: count, mean confidence and accuracy of each bin.

    The confidence is the probability of the predicted class. In a multilabel task, each label counts as a separate
    prediction, with or without the label, whichever is more probable: the thresholds of the run do not count. The bins
    have equal width. For an empty bin, mean confidence and accuracy are 0.

    Args:
        scores: (samples, classes or labels) probabilities.
        targets: (samples,) classes, or (samples, labels) of 0 and 1.
    """
    if targets.ndim == 1:
        sure, answer = scores.max(1)
        right = answer == targets
    else:
        sure = torch.maximum(scores, 1 - scores).flatten()
        right = ((scores > 0.5) == (targets > 0.5)).flatten()
    place = (sure.double() * BINS).ceil().long().clamp(1, BINS) - 1  # the bins are (low, high], as in Guo et al.
    count, *sums = (
        torch.zeros(BINS, dtype=torch.float64).index_add_(0, place, each.double())
        for each in (torch.ones_like(sure), sure, right)
    )
    return torch.stack([count, *(each / count.clamp_min(1) for each in sums)], dim=1)


def calibration_error(scores: Tensor, targets: Tensor) -> float:
    """Return the expected calibration error: the mean of |accuracy - confidence| over the bins, weighted by count.

    Source: Guo et al. 2017, On Calibration of Modern Neural Networks.
    """
    count, sure, right = calibration(scores, targets).unbind(1)
    return float((count * (sure - right).abs()).sum() / count.sum())


def _ranked(scores: Tensor, targets: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield, for each class against the rest or for each label, how many samples have each different score.

    Yields:
        the number of samples of the class, and of all samples, by ascending score: (different scores,) float64 each.
    """
    truth = F.one_hot(targets, scores.shape[1]) if targets.ndim == 1 else targets > 0.5
    for column, true in zip(scores.unbind(1), truth.unbind(1), strict=True):
        _, group, count = column.unique(return_inverse=True, return_counts=True)
        yield torch.zeros(len(count), dtype=torch.float64).index_add_(0, group, true.double()), count.double()


def auroc(scores: Tensor, targets: Tensor) -> Tensor:
    """Return the area under the ROC curve of each class against the rest, or of each label: (classes,) float64.

    The area is the probability that a sample of the class has a higher score than a sample of another class, where a
    tie counts half (Hanley and McNeil 1982). It is computed from the sum of ranks (Mann and Whitney 1947). It is NaN
    if no sample, or every sample, belongs to the class.
    """
    found = []
    for true, count in _ranked(scores, targets):
        rank = count.cumsum(0) - (count - 1) / 2  # equal scores have the mean of their ranks; ranks start at 1
        positive = true.sum()
        negative = count.sum() - positive
        found.append(((rank * true).sum() - positive * (positive + 1) / 2) / (positive * negative))
    return torch.stack(found)


def average_precision(scores: Tensor, targets: Tensor) -> Tensor:
    """Return the average precision of each class against the rest, or of each label: (classes,) float64.

    It is the mean, over the samples of the class, of the precision among all samples whose score is at least as high,
    as in scikit-learn's ``average_precision_score``: the precision-recall curve is not interpolated, and equal scores
    are one point of it. It is NaN if no sample belongs to the class. The mean over the labels is the mAP.
    """
    found = []
    for true, count in _ranked(scores, targets):
        above = torch.stack([true, count]).flip(1).cumsum(1)  # of the samples with each score or a higher one
        found.append((true.flip(0) * above[0] / above[1]).sum() / true.sum())
    return torch.stack(found)


OF_CLASSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"auroc": auroc, "average_precision": average_precision}


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
    areas = auroc(scores, targets), average_precision(scores, targets)
    return PerClass(precision, recall, f1, *areas, there.long())
