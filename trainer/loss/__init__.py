"""The registry of losses: ``Component(spec, *, keys)`` is an nn.Module that follows the protocol ``Loss``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from trainer.config.registry import Registry

if TYPE_CHECKING:
    from torch import Tensor

LOSSES = Registry("loss", __path__)


class Loss(Protocol):
    """The interface of a loss, in addition to that of nn.Module."""

    num_outputs: int  # the number of outputs of the model for one sample
    sigmoid: bool  # True if the loss takes probabilities, so that the model has to end in a sigmoid

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the mean loss of a batch as a scalar; the outputs are (batch, num_outputs) float32."""

    def size(self, targets: Tensor) -> Tensor | int:
        """Return the divisor of the mean loss; the products of loss and size can be summed over batches."""

    def scores(self, outputs: Tensor) -> Tensor:
        """Return probabilities (batch, classes) or (batch, labels), or values (batch, values).

        A loss without probabilities, such as mse, returns values for classes, too.
        """
