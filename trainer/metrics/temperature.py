"""The temperature that makes probabilities fit the samples of val (Guo et al. 2017, section 4.2)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from trainer.metrics.of_scores import EPSILON, calibration_error, log_loss

MOST = 100.0  # a temperature lies between the inverse of this number and this number
MAX_STEPS, CLOSE = 60, 1e-10  # of the search, which ends when a step changes the number by less


@dataclass(frozen=True)
class Calibration:
    """A temperature, and what it does to the probabilities of val.

    Args:
        temperature: what logits are divided by; 1 leaves them as they are.
        log_loss, error: the log loss and the expected calibration error before and after.
    """

    temperature: float
    log_loss: tuple[float, float]
    error: tuple[float, float]

    def __str__(self) -> str:
        if self.temperature == 1:
            return "not calibrated: no temperature has the lowest log loss on val"
        (loss, then), (error, now) = self.log_loss, self.error
        changes = f"log_loss {loss:.4f} to {then:.4f}, ece {error:.4f} to {now:.4f}"
        return f"calibrated on val: logits / {self.temperature:.4g}; {changes}"


@torch.no_grad()
def fit_temperature(scores: Tensor, targets: Tensor) -> Calibration:
    """Return the temperature with the lowest log loss, rounded to six digits so that the order of samples is no matter.

    The log loss is convex in the inverse of the temperature, so its derivative has one root at most, which Newton's
    method finds within bounds. If the log loss falls up to a bound, such as on a val split without a mistake, no
    temperature is the best, and it is 1.

    Args:
        scores: (samples, classes or labels) probabilities, as float64.
        targets: (samples,) classes, or (samples, labels) of 0 and 1.
    """
    # the probability of the first of two classes, 1 - p, is 0 for logits above 37, where float64 ends
    logits = torch.where(scores > 0, scores, EPSILON).log() if targets.ndim == 1 else scores.logit(EPSILON)
    temperature = float(f"{1 / _best_factor(logits, targets):.6g}")
    after = _chances(logits, targets, 1 / temperature)
    return Calibration(
        temperature,
        (log_loss(scores, targets), log_loss(after, targets)),
        (calibration_error(scores, targets), calibration_error(after, targets)),
    )


def _chances(logits: Tensor, targets: Tensor, factor: float) -> Tensor:
    scaled = logits * factor
    return scaled.softmax(1) if targets.ndim == 1 else scaled.sigmoid()


def _best_factor(logits: Tensor, targets: Tensor) -> float:
    """Return the factor of the logits with the lowest log loss, or 1 if that lies at a bound."""
    low, high, factor = 1 / MOST, MOST, 1.0
    if not _slopes(logits, targets, low)[0] < 0 < _slopes(logits, targets, high)[0]:
        return 1.0
    for _ in range(MAX_STEPS):
        slope, curvature = _slopes(logits, targets, factor)
        low, high = (factor, high) if slope < 0 else (low, factor)
        following = factor - slope / curvature if curvature > 0 else low
        if not low < following < high:
            following = (low * high) ** 0.5
        if abs(following / factor - 1) < CLOSE:
            break
        factor = following
    return factor


def _slopes(logits: Tensor, targets: Tensor, factor: float) -> tuple[float, float]:
    """Return the first and second derivative of the summed log loss with respect to the factor of the logits."""
    chances = _chances(logits, targets, factor)
    if targets.ndim == 2:
        return float(((chances - targets) * logits).sum()), float((chances * (1 - chances) * logits**2).sum())
    mean = (chances * logits).sum(1, keepdim=True)
    variance = (chances * (logits - mean) ** 2).sum()
    return float(mean.sum() - logits.gather(1, targets[:, None]).sum()), float(variance)
