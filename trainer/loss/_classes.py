"""The base class of the losses for classification, with class weights."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from trainer.config import ConfigError, PositiveFloat
from trainer.spec import Spec

ClassWeights = list[PositiveFloat] | Literal["balanced"] | None


class ClassLoss(nn.Module):
    """A loss of logits, (batch, classes), with a weighted mean over the samples.

    Targets are class numbers (batch,) or shares of the classes (batch, classes). The weight of a sample is that of its
    class; with shares, the sum of the weights of the classes times their shares.

    Args:
        spec: classification data.
        name: the name of the loss, for messages.
        weight: None for equal weights, one number for each class, or "balanced" for samples / (classes * samples of the
            class), as in scikit-learn (King and Zeng 2001).

    Raises:
        ConfigError: the task is not classification, the number of weights is wrong, or the weights are to be balanced
            although a class has no samples.
    """

    sigmoid = False
    weight: Tensor | None

    def __init__(self, spec: Spec, name: str, weight: ClassWeights) -> None:
        super().__init__()
        if spec.task != "classification":
            use = "loss=bce" if spec.task == "multilabel" else "loss=mse, l1 or huber"
            one = spec.task == "regression" and len(spec.classes) == 1
            hint = f", {spec.classes[0]} (dataset.task=classification if each value names a class)" if one else ""
            raise ConfigError(
                f"loss={name}: needs one class for each sample; dataset={spec.dataset} is {spec}{hint}; use {use}"
            )
        self.num_outputs = len(spec.classes)
        self.register_buffer("weight", _class_weights(weight, spec))

    def size(self, targets: Tensor) -> Tensor | int:
        """Return the sum of the weights of the samples."""
        if self.weight is None:
            return targets.shape[0]
        return self.weight[targets].sum() if targets.ndim == 1 else (targets * self.weight).sum()

    def scores(self, outputs: Tensor) -> Tensor:
        """Return the probabilities of the classes, (batch, classes)."""
        return outputs.softmax(1)


def _class_weights(weight: ClassWeights, spec: Spec) -> Tensor | None:
    """Return the weights of the classes, (classes,) float32, or None for equal weights."""
    if weight is None:
        return None
    if weight == "balanced":
        if len(spec.counts) != len(spec.classes):
            gives = f"gives {len(spec.counts)} counts for its {len(spec.classes)} classes"
            raise ConfigError(f"loss.weight: dataset={spec.dataset} {gives}; give a list of weights instead")
        if 0 in spec.counts:
            empty = spec.classes[spec.counts.index(0)]
            raise ConfigError(f"loss.weight: class {empty} has no training sample to balance; give a list instead")
        counts = torch.tensor(spec.counts, dtype=torch.float64)
        return (counts.sum() / (len(counts) * counts)).float()
    if len(weight) != len(spec.classes):
        raise ConfigError(f"loss.weight: must have {len(spec.classes)} numbers, one for each class, got {len(weight)}")
    return torch.tensor(weight, dtype=torch.float32)
