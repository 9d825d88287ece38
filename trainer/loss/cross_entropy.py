"""Cross entropy over classes."""

from __future__ import annotations

from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from trainer.config import Fraction, PositiveFloat
from trainer.loss import LOSSES
from trainer.loss._classes import class_weights, need_classes, size_of_classes
from trainer.spec import Spec


@LOSSES.register
class CrossEntropy(nn.Module):
    """``-log softmax(outputs)[class]``, as torch's, smoothed (Szegedy et al. 2016) and weighted by class.

    Outputs are (batch, classes) logits, targets (batch,) class numbers, or (batch, classes) shares. With weights the
    mean is the weighted one, of shares too, where torch's own divides by the number of samples.
    """

    sigmoid = False
    weight: Tensor | None

    def __init__(
        self,
        spec: Spec,
        *,
        label_smoothing: Fraction,
        weight: list[PositiveFloat] | Literal["balanced"] | None,
    ) -> None:
        super().__init__()
        need_classes("cross_entropy", spec)
        self.num_outputs = len(spec.classes)
        self.label_smoothing = label_smoothing
        self.register_buffer("weight", class_weights(weight, spec))

    def forward(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The weighted mean, a scalar."""
        reduction = "mean" if targets.ndim == 1 else "sum"
        loss = F.cross_entropy(
            outputs, targets, weight=self.weight, label_smoothing=self.label_smoothing, reduction=reduction
        )
        return loss if targets.ndim == 1 else loss / self.size(targets)

    def size(self, targets: Tensor) -> Tensor | int:
        """The sum of the samples' weights."""
        return size_of_classes(targets, self.weight)

    def scores(self, outputs: Tensor) -> Tensor:
        """Probabilities, (batch, classes)."""
        return outputs.softmax(1)
