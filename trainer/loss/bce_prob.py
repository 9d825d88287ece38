"""Binary cross entropy on probabilities."""

from __future__ import annotations

import math

import torch.nn.functional as F
from torch import Tensor, nn

from trainer.loss import LOSSES
from trainer.loss._classes import need_two_sided, side_scores, sides
from trainer.spec import Spec


@LOSSES.register
class BCEProb(nn.Module):
    """As torch's BCELoss, mean over samples and labels.

    Outputs are (batch, 1) probabilities of the second of two classes, targets (batch,) 0 and 1,
    or (batch, 2) shares of both; or outputs and targets are (batch, labels).
    """

    sigmoid = True

    def __init__(self, spec: Spec) -> None:
        super().__init__()
        need_two_sided("bce_prob", spec)
        self.spec = spec
        self.num_outputs = len(spec.classes) if spec.task == "multilabel" else 1

    def forward(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The mean, a scalar."""
        # torch raises where an output is no number; as with every other loss the run has to say where that began
        mean = F.binary_cross_entropy(outputs.nan_to_num(), sides(targets, self.spec))
        return mean.masked_fill(outputs.isnan().any(), math.nan)

    def size(self, targets: Tensor) -> Tensor | int:
        """The number of samples."""
        return len(targets)

    def scores(self, outputs: Tensor) -> Tensor:
        """Probabilities, (batch, 2) or (batch, labels)."""
        return side_scores(outputs, self.spec)
