"""The metrics that need the scores of all samples at once: AUROC, average precision, log loss, Brier score, ECE.

A score is a probability, as float64. Every sum over samples is exact or exactly rounded (``math.fsum``), so a metric
depends neither on the order of the samples nor on the processes that evaluated them.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from trainer.metrics.registry import metric

BINS = 15  # number of bins of the expected calibration error, as in Guo et al. 2017


EPSILON = torch.finfo(torch.float64).eps  # no probability counts as less in the log loss, as in scikit-learn
CHUNK = 2**16  # numbers that are Python's at a time


def _sum(values: Tensor) -> float:
    """Return the exactly rounded sum, which does not depend on the order of the values."""
    return math.fsum(itertools.chain.from_iterable(some.tolist() for some in values.flatten().split(CHUNK)))


def _mean(values: Tensor) -> float:
    return _sum(values) / values.numel() if values.numel() else math.nan


def _overall(of_each: Callable[[Tensor, Tensor], Tensor], scores: Tensor, targets: Tensor) -> float:
    """Return the value of the second of two classes, else the mean over all classes or labels that have a value."""
    if targets.ndim == 1 and scores.shape[1] == 2:
        scores, targets = scores[:, 1:], targets[:, None]
    return float(of_each(scores, targets).nanmean())


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
    count, correct = place.bincount(minlength=BINS), place[right].bincount(minlength=BINS)
    confidence = torch.tensor([_sum(sure[place == at]) for at in range(BINS)], dtype=torch.float64)
    return torch.stack([count.double(), *(each / count.clamp_min(1) for each in (confidence, correct))], dim=1)


def _ranked(scores: Tensor, targets: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield, for each class against the rest or for each label, how many samples have each different score.

    Yields:
        the number of samples of the class, and of all samples, by ascending score: (different scores,) float64 each.
    """
    truth = F.one_hot(targets, scores.shape[1]) if targets.ndim == 1 else targets > 0.5
    for column, true in zip(scores.unbind(1), truth.unbind(1), strict=True):
        ascending, order = column.sort()
        _, group, count = ascending.unique_consecutive(return_inverse=True, return_counts=True)
        yield torch.zeros(len(count), dtype=torch.float64).index_add_(0, group, true[order].double()), count.double()


def auroc_of_each(scores: Tensor, targets: Tensor) -> Tensor:
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


def average_precision_of_each(scores: Tensor, targets: Tensor) -> Tensor:
    """Return the average precision of each class against the rest, or of each label: (classes,) float64.

    It is the mean, over the samples of the class, of the precision among all samples whose score is at least as high,
    as in scikit-learn's ``average_precision_score``: the precision-recall curve is not interpolated, and equal scores
    are one point of it. It is NaN if no sample belongs to the class. The mean over the labels is the mAP.
    """
    found = []
    for true, count in _ranked(scores, targets):
        above = torch.stack([true, count]).flip(1).cumsum(1)  # of the samples with each score or a higher one
        found.append(_sum(true.flip(0) * above[0] / above[1]) / true.sum())
    return torch.stack(found)


@metric("auroc", "classification", of="scores")
@metric("auroc", "multilabel", of="scores")
def auroc(scores: Tensor, targets: Tensor) -> float:
    """Compute the area under the ROC curve: of the second of two classes, else the mean over classes or labels."""
    return _overall(auroc_of_each, scores, targets)


@metric("average_precision", "classification", of="scores")
@metric("average_precision", "multilabel", of="scores")
def average_precision(scores: Tensor, targets: Tensor) -> float:
    """Compute the average precision: of the second of two classes, else the mean over classes or labels."""
    return _overall(average_precision_of_each, scores, targets)


@metric("log_loss", "classification", higher_is_better=False, of="probabilities")
@metric("log_loss", "multilabel", higher_is_better=False, of="probabilities")
def log_loss(scores: Tensor, targets: Tensor) -> float:
    """Compute the mean of -log(probability of the true class), over samples; over labels too, each of which has two.

    Neither class weights nor label smoothing count. A probability is at least ``EPSILON``.
    """
    of_labels = targets.ndim == 2
    chance = torch.where(targets > 0.5, scores, 1 - scores) if of_labels else scores.gather(1, targets[:, None])
    return _mean(-chance.clamp_min(EPSILON).log())


@metric("brier", "classification", higher_is_better=False, of="probabilities")
@metric("brier", "multilabel", higher_is_better=False, of="probabilities")
def brier(scores: Tensor, targets: Tensor) -> float:
    """Compute the Brier score (1950), the mean squared error of the probabilities, as scikit-learn scales it.

    It is the sum over more than two classes, that of the second of two classes, and the mean over labels.
    """
    if targets.ndim == 1 and scores.shape[1] == 2:
        return _mean((scores[:, 1] - targets) ** 2)
    truth = F.one_hot(targets, scores.shape[1]) if targets.ndim == 1 else targets
    return _mean((scores - truth) ** 2) * (scores.shape[1] if targets.ndim == 1 else 1)


@metric("ece", "classification", higher_is_better=False, of="probabilities")
@metric("ece", "multilabel", higher_is_better=False, of="probabilities")
def calibration_error(scores: Tensor, targets: Tensor) -> float:
    """Compute the expected calibration error: the mean of |accuracy - confidence| over bins, weighted by their counts.

    Source: Guo et al. 2017, On Calibration of Modern Neural Networks.
    """
    count, sure, right = calibration(scores, targets).unbind(1)
    return float((count * (sure - right).abs()).sum() / count.sum())
