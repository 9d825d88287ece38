"""The base class of the binary cross entropies."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from trainer.config import ConfigError
from trainer.spec import Spec


class BinaryLoss(nn.Module):
    """A binary loss for two classes or several labels, averaged over samples and labels.

    For two classes, outputs are (batch, 1) for the second class, and targets are classes (batch,) or shares (batch, 2).
    For labels, outputs and targets are (batch, labels).

    Args:
        spec: data with two classes or with labels.
        name: the name of the loss, for messages.
        function: returns the mean loss of outputs and float32 targets of the same shape.
        sigmoid: True if outputs are probabilities, False if they are logits.

    Raises:
        ConfigError: the data has neither two classes nor labels.
    """

    def __init__(self, spec: Spec, name: str, function: Callable[[Tensor, Tensor], Tensor], *, sigmoid: bool) -> None:
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

    def forward(self, outputs: Tensor, targets: Tensor) -> Tensor:
        if self.spec.task == "classification" and targets.ndim == 2:
            targets = targets[:, 1]
        return self.function(outputs, targets.float().view(len(targets), -1))

    def size(self, targets: Tensor) -> Tensor | int:
        """Return the number of samples."""
        return len(targets)

    def scores(self, outputs: Tensor) -> Tensor:
        """Return the probabilities of both classes, (batch, 2), or of the labels, (batch, labels)."""
        probabilities = outputs if self.sigmoid else outputs.sigmoid()
        if self.spec.task == "multilabel":
            return probabilities
        return torch.cat([1 - probabilities, probabilities], dim=1)
