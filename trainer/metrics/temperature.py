"""The temperature that makes probabilities fit the samples of val (Guo et al. 2017, section 4.2)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from trainer.metrics.of_scores import EPSILON, calibration_error, log_loss

MOST = 100.0  # a temperature lies between the inverse of this number and this number
HALVINGS = 40  # of the logarithm of this range, which leave a relative error below 1e-11


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

    The log loss is convex in the inverse of the temperature, so the sign of its derivative is bisected. If the log loss
    falls up to a bound, such as on a val split without a mistake, no temperature is the best, and it is 1.

    Args:
        scores: (samples, classes or labels) probabilities, as float64.
        targets: (samples,) classes, or (samples, labels) of 0 and 1.
    """
    # the probability of the first of two classes, 1 - p, is 0 for logits above 37, where float64 ends
    logits = torch.where(scores > 0, scores, EPSILON).log() if targets.ndim == 1 else scores.logit(EPSILON)
    low, high = 1 / MOST, MOST
    temperature = 1.0
    if _slope(logits, targets, low) < 0 < _slope(logits, targets, high):
        for _ in range(HALVINGS):
            middle = (low * high) ** 0.5
            low, high = (middle, high) if _slope(logits, targets, middle) < 0 else (low, middle)
        temperature = float(f"{(low * high) ** -0.5:.6g}")
    after = _chances(logits, targets, 1 / temperature)
    return Calibration(
        temperature,
        (log_loss(scores, targets), log_loss(after, targets)),
        (calibration_error(scores, targets), calibration_error(after, targets)),
    )


def _chances(logits: Tensor, targets: Tensor, factor: float) -> Tensor:
    scaled = logits * factor
    return scaled.softmax(1) if targets.ndim == 1 else scaled.sigmoid()


def _slope(logits: Tensor, targets: Tensor, factor: float) -> float:
    """Return the derivative of the summed log loss with respect to the factor of the logits."""
    chances = _chances(logits, targets, factor)
    if targets.ndim == 2:
        return float(((chances - targets) * logits).sum())
    return float((chances * logits).sum() - logits.gather(1, targets[:, None]).sum())
