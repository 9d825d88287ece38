"""Losses whose scores are probabilities: which losses these are, and the calibration of the probabilities."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from trainer.config import ConfigError, Settings
from trainer.loss import Loss
from trainer.spec import Spec


class Calibrated(nn.Module):
    """A loss whose scores are those of the logits divided by a temperature (Guo et al. 2017); otherwise the same loss.

    The class with the highest score stays the same. The loss itself is that of the outputs as they are.

    Args:
        loss: a loss whose outputs are logits, or probabilities if ``loss.sigmoid``.
        temperature: a positive number; above 1, probabilities move towards one another.
    """

    def __init__(self, loss: Loss, temperature: float) -> None:
        super().__init__()
        self.loss, self.temperature = cast(nn.Module, loss), temperature
        self.num_outputs, self.sigmoid = loss.num_outputs, loss.sigmoid

    def forward(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return cast(Loss, self.loss)(outputs, targets)

    def size(self, targets: Tensor) -> Tensor | int:
        return cast(Loss, self.loss).size(targets)

    def tempered(self, outputs: Tensor) -> Tensor:
        """Return outputs of the same form and shape whose scores are calibrated."""
        return ((outputs.logit() / self.temperature).sigmoid()) if self.sigmoid else outputs / self.temperature

    def scores(self, outputs: Tensor) -> Tensor:
        """Return the calibrated probabilities, (batch, classes or labels)."""
        return cast(Loss, self.loss).scores(self.tempered(outputs))


def check_probabilities(loss: Loss, spec: Spec, settings: Settings, metrics: Sequence[str]) -> None:
    """Check that the loss gives probabilities if ``calibrate`` or the named metrics need them.

    Raises:
        ConfigError: the scores of the loss are values; one line for each key.
    """
    keys = [*(f"metrics: {name}" for name in metrics), *["calibrate"] * (settings.calibrate != "none")]
    if keys and not gives_probabilities(loss, spec):
        use = {"classification": "use loss=cross_entropy", "multilabel": "use loss=bce", "regression": "leave it out"}
        what = f"needs probabilities, and loss={settings.loss['name']} gives values; {use[spec.task]}"
        raise ConfigError(*(f"{key}: {what}" for key in keys))


@torch.no_grad()
def gives_probabilities(loss: Loss, spec: Spec) -> bool:
    """Return whether the scores of a loss are probabilities, as those of mse are not."""
    if spec.task == "regression":
        return False
    device = next((each.device for each in cast(nn.Module, loss).buffers()), None)
    outputs = torch.linspace(-3, 2, loss.num_outputs, device=device)[None]
    scores = loss.scores(outputs.sigmoid() if loss.sigmoid else outputs)
    whole = spec.task == "multilabel" or bool(torch.isclose(scores.sum(1), torch.ones_like(scores[:, 0])).all())
    return scores.shape == (1, len(spec.classes)) and bool(((scores >= 0) & (scores <= 1)).all()) and whole
