"""Metrics of all answers at once, which no sums over batches can have: calibration, ranking, the k best."""

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

BINS = 15  # of the calibration error, as in Guo et al. 2017
DEFAULT_TOP = (3, 5)  # of the top-k accuracies that are shown unasked


def names(spec: Spec) -> list[str]:
    """Those that a task has, besides what ``trainer.metrics`` knows."""
    if spec.task == "regression":
        return []
    top = [f"top{k}" for k in DEFAULT_TOP if k < len(spec.classes)] if spec.task == "classification" else []
    return ["auroc", "ece", *top]


def is_known(name: str, spec: Spec) -> bool:
    """Whether a name is one of them; ``top7`` is, where there are more than 7 classes."""
    top = re.fullmatch(r"top([1-9]\d*)", name)
    if top is not None:
        return spec.task == "classification" and int(top[1]) < len(spec.classes)
    return name in names(spec)


def check(wanted: Sequence[str], spec: Spec, others: Sequence[str]) -> None:
    """Raises ConfigError for every name that is neither one of these nor of the others."""
    known = [*others, *names(spec)]
    problems = [
        f"--metrics: {name}: no such metric for {spec.task}{did_you_mean(name, known) or ';'} "
        f"metrics: {', '.join(known)}"
        for name in wanted
        if name not in others and not is_known(name, spec)
    ]
    if problems:
        raise ConfigError(*problems)


def compute(name: str, scores: Tensor, targets: Tensor) -> float:
    """A metric by its name.

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
    """The share of samples whose class is among the k with the highest scores."""
    return float((scores.topk(k, dim=1).indices == targets[:, None]).any(1).double().mean())


def calibration(scores: Tensor, targets: Tensor, bins: int = BINS) -> Tensor:
    """How sure the answers are, and how often right: (bins, 3) float64 of answers, mean confidence, accuracy.

    The confidence is the probability of the answer; of labels each is an answer of its own. Bins are of equal width.
    Where a bin has no answers its means are 0.
    """
    if targets.ndim == 1:
        sure, answer = scores.max(1)
        right = answer == targets
    else:
        sure = torch.maximum(scores, 1 - scores).flatten()
        right = ((scores > 0.5) == (targets > 0.5)).flatten()
    place = (sure.double() * bins).ceil().long().clamp(1, bins) - 1  # bins (low, high], as Guo et al. have them
    count = torch.zeros(bins, dtype=torch.float64).index_add_(0, place, torch.ones_like(sure, dtype=torch.float64))
    sums = [torch.zeros(bins, dtype=torch.float64).index_add_(0, place, each.double()) for each in (sure, right)]
    return torch.stack([count, *(each / count.clamp_min(1) for each in sums)], dim=1)


def calibration_error(scores: Tensor, targets: Tensor) -> float:
    """The expected calibration error: mean |accuracy - confidence| over bins, by their answers (Guo et al. 2017)."""
    count, sure, right = calibration(scores, targets).unbind(1)
    return float((count * (sure - right).abs()).sum() / count.sum())


def auroc(scores: Tensor, targets: Tensor) -> Tensor:
    """The area under the ROC curve of each class against all others, or of each label: (classes,) float64.

    The chance that a sample of the class has a higher score than one that is not (Hanley and McNeil 1982), ties
    counting half: from the sum of ranks (Mann and Whitney 1947). NaN where one of the two sides has no sample.
    """
    truth = F.one_hot(targets, scores.shape[1]) if targets.ndim == 1 else (targets > 0.5).long()
    found = []
    for column, true in zip(scores.unbind(1), truth.unbind(1), strict=True):
        _, group, count = column.unique(return_inverse=True, return_counts=True)
        ends = count.cumsum(0).double()
        rank = ends - (count.double() - 1) / 2  # the mean of the ranks, from 1, of those that are equal
        positive = true.sum().double()
        negative = len(true) - positive
        ranks = (rank[group] * true).sum()
        found.append((ranks - positive * (positive + 1) / 2) / (positive * negative))
    return torch.stack(found)


class PerClass(NamedTuple):
    """What became of the samples of each class, or of each label: (classes,) float64, NaN where nothing divides.

    Precision, recall and F1 as in ``trainer.metrics``, class by class: 0 where a class was never predicted.
    """

    precision: Tensor
    recall: Tensor
    f1: Tensor
    auroc: Tensor
    samples: Tensor


def per_class(sums: Tensor, scores: Tensor, targets: Tensor) -> PerClass:
    """From the sums of ``trainer.metrics.Sums``: the confusion matrix, or the four counts of each label."""
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
