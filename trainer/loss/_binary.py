"""The base class of the binary cross entropies, with weights of classes and labels."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor, nn

from trainer.config import ConfigError
from trainer.loss._weights import ClassWeights, weights_of
from trainer.spec import Spec


class Function(Protocol):
    """A binary cross entropy of outputs and float32 targets of the same shape."""

    def __call__(self, outputs: Tensor, targets: Tensor, /, *, reduction: str = "mean") -> Tensor:
        """Return the mean loss, or the loss of each output with ``reduction="none"``."""


class BinaryLoss(nn.Module):
    """A binary loss for two classes or several labels, averaged over samples and labels.

    For two classes, outputs are (batch, 1) for the second class, and targets are classes (batch,) or shares (batch, 2).
    The mean over samples is weighted with the weights of their classes, as in ``ClassLoss``. For labels, outputs and
    targets are (batch, labels). A weight multiplies the loss of the samples that have the label, as ``pos_weight`` of
    torch's BCEWithLogitsLoss does.

    Args:
        spec: data with two classes or with labels.
        name: the name of the loss, for messages.
        function: the loss without weights.
        sigmoid: True if outputs are probabilities, False if they are logits.
        weight: as in ``weights_of``.

    Raises:
        ConfigError: the data has neither two classes nor labels, or the weights do not fit the data.
    """

    weight: Tensor | None

    def __init__(self, spec: Spec, name: str, function: Function, *, sigmoid: bool, weight: ClassWeights) -> None:
        super().__init__()
        if spec.task == "regression":
            raise ConfigError(
                f"loss={name}: needs classes or labels; dataset={spec.dataset} is {spec}; use loss=mse, l1 or huber"
            )
        if spec.task == "classification" and len(spec.classes) != 2:
            raise ConfigError(
                f"loss={name}: needs two classes or several labels; dataset={spec.dataset} has {len(spec.classes)} "
                "classes; use loss=cross_entropy or focal"
            )
        self.spec, self.function, self.sigmoid = spec, function, sigmoid
        self.num_outputs = len(spec.classes) if spec.task == "multilabel" else 1
        self.register_buffer("weight", weights_of(weight, spec))

    def forward(self, outputs: Tensor, targets: Tensor) -> Tensor:
        chances = self._chances(targets)
        if self.weight is None:
            return self.function(outputs, chances)
        absent, present = self._weights(self.weight)
        losses = present * chances * self.function(outputs, torch.ones_like(outputs), reduction="none")
        losses = losses + absent * (1 - chances) * self.function(outputs, torch.zeros_like(outputs), reduction="none")
        return losses.sum() / (self.size(targets) * self.num_outputs)

    def size(self, targets: Tensor) -> Tensor | int:
        """Return the number of samples, or for two weighted classes the sum of the weights of the samples."""
        if self.weight is None or self.spec.task == "multilabel":
            return len(targets)
        chances, (absent, present) = self._chances(targets), self._weights(self.weight)
        return (present * chances + absent * (1 - chances)).sum()

    def _chances(self, targets: Tensor) -> Tensor:
        """Return targets (batch, 1) of the second of two classes, or (batch, labels), as float32 from 0 to 1."""
        if self.spec.task == "classification" and targets.ndim == 2:
            targets = targets[:, 1]
        return targets.float().view(len(targets), -1)

    def _weights(self, weight: Tensor) -> tuple[Tensor | float, Tensor]:
        """Return the weights of the first and of the second class, or of samples without and with each label."""
        return (1.0, weight) if self.spec.task == "multilabel" else (weight[0], weight[1])

    def scores(self, outputs: Tensor) -> Tensor:
        """Return the probabilities of both classes, (batch, 2), or of the labels, (batch, labels)."""
        probabilities = outputs if self.sigmoid else outputs.sigmoid()
        if self.spec.task == "multilabel":
            return probabilities
        return torch.cat([1 - probabilities, probabilities], dim=1)
