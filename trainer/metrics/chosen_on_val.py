"""What a run chooses on val with its final weights: the temperature of the probabilities, and thresholds of labels."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch

from trainer.config import Settings
from trainer.loss import Loss
from trainer.loss._probabilities import Calibrated
from trainer.metrics.sums import Sums
from trainer.metrics.temperature import Calibration, fit_temperature
from trainer.metrics.thresholds import choose_thresholds


class ChosenOnVal(NamedTuple):
    """The loss, whose scores are calibrated if ``calibrate`` asks for it; the calibration; and the thresholds."""

    loss: Loss
    calibration: Calibration | None
    thresholds: tuple[float, ...]


def choose_on_val(
    evaluate: Callable[[], Sums], loss: Loss, settings: Settings, thresholds: tuple[float, ...]
) -> ChosenOnVal:
    """Return what ``calibrate`` and ``thresholds`` ask for; the thresholds are those of calibrated probabilities.

    Args:
        evaluate: evaluates val and keeps the outputs; called only if there is something to choose.
        loss: the loss of the run.
        settings: the config of the run.
        thresholds: the thresholds before the choice; empty without labels.
    """
    calibrates, chooses, calibration = settings.calibrate != "none", thresholds and settings.thresholds == "auto", None
    if not (calibrates or chooses):
        return ChosenOnVal(loss, None, thresholds)
    sums = evaluate()
    if calibrates:
        calibration = fit_temperature(*sums.scored())
        loss = Calibrated(loss, calibration.temperature)
        sums.scores = loss.scores
    if chooses:
        thresholds = choose_thresholds(*sums.scored(torch.float32))
    return ChosenOnVal(loss, calibration, thresholds)
