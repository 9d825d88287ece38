"""Binary cross entropy on logits."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from trainer.loss import LOSSES
from trainer.loss._classes import need_two_sided, side_scores, sides
from trainer.spec import Spec


@LOSSES.register
class BCE(nn.Module):
    """As torch's BCEWithLogitsLoss, mean over samples and labels.

    Outputs are (batch, 1) logits of the second of two classes, targets (batch,) 0 and 1,
    or (batch, 2) shares of both; or outputs and targets are (batch, labels).
    """

    sigmoid = False

    def __init__(self, spec: Spec) -> None:
        super().__init__()
        need_two_sided("bce", spec)
        self.spec = spec
        self.num_outputs = len(spec.classes) if spec.task == "multilabel" else 1

    def forward(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The mean, a scalar."""
        return F.binary_cross_entropy_with_logits(outputs, sides(targets, self.spec))

    def size(self, targets: Tensor) -> Tensor | int:
        """The number of samples."""
        return len(targets)

    def scores(self, outputs: Tensor) -> Tensor:
        """Probabilities, (batch, 2) or (batch, labels)."""
        return side_scores(outputs.sigmoid(), self.spec)
