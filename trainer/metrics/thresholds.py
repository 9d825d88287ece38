"""The score above which a label is predicted: a fixed one, or that with the highest F1 on val."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from trainer.config import ConfigError
from trainer.spec import Spec

THRESHOLD = 0.5  # a label is predicted where its score is above, unless a run has chosen its own threshold
MAX_SHOWN = 8  # labels whose thresholds a line shows


def fixed_thresholds(value: float | Literal["auto"], spec: Spec) -> tuple[float, ...]:
    """Return the thresholds of the labels that the key ``thresholds`` sets, 0.5 for auto; empty without labels.

    Raises:
        ConfigError: a threshold is set for data without labels.
    """
    if spec.task == "multilabel":
        return tuple(torch.full((len(spec.classes),), THRESHOLD if value == "auto" else value).tolist())
    if value not in ("auto", THRESHOLD):  # a run of an earlier version has 0.5, whatever its task is
        raise ConfigError(f"thresholds: needs labels; dataset={spec.dataset} is {spec}; leave thresholds out")
    return ()


def shown_thresholds(names: Sequence[str], thresholds: Sequence[float]) -> str:
    """Return the threshold of each label as text, of the first ``MAX_SHOWN``; a single one if all are equal."""
    if len({*thresholds}) == 1 < len(thresholds):
        return f"{thresholds[0]:.4g}"
    shown = [f"{name} {value:.4f}" for name, value in zip(names, thresholds, strict=True)]
    return ", ".join(shown[:MAX_SHOWN]) + (f" and {len(shown) - MAX_SHOWN:,} more" if len(shown) > MAX_SHOWN else "")


def choose_thresholds(scores: Tensor, targets: Tensor) -> tuple[float, ...]:
    """Return the threshold of each label above which it is predicted with the highest F1.

    A threshold is the mean of two neighbouring scores, or half the lowest score. Of several with the same F1 it is the
    one nearest to 0.5. A label without a true sample has 0.5.

    Args:
        scores: (samples, labels) float32 on the CPU.
        targets: (samples, labels) of 0 and 1 on the CPU.
    """
    return tuple(map(_choose_threshold, scores.unbind(1), targets.unbind(1)))


def _choose_threshold(scores: Tensor, true: Tensor) -> float:
    higher, group, count = scores.unique(return_inverse=True, return_counts=True)
    positive = torch.zeros(len(higher), dtype=torch.float64).index_add_(0, group, true.double())
    lower = torch.cat([higher.new_zeros(1), higher[:-1]])  # the score below each; probabilities begin at 0
    middle = ((lower.double() + higher.double()) / 2).to(scores.dtype)
    middle = torch.where(middle < higher, middle, lower)  # as it has been rounded
    right, predicted = (each.flip(0).cumsum(0).flip(0) for each in (positive, count))
    f1 = torch.where(lower < higher, 2 * right / (predicted + positive.sum()), 0.0)
    if not f1.any():
        return THRESHOLD
    return float(middle[torch.where(f1 == f1.max(), (middle - THRESHOLD).abs(), torch.inf).argmin()])
