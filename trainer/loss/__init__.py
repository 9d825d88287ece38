"""The registry of losses: ``Component(spec, *, keys)`` is an nn.Module; ``Loss`` says what else it has."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from trainer.config.registry import Registry

if TYPE_CHECKING:
    from torch import Tensor

LOSSES = Registry("loss", __path__)


class Loss(Protocol):
    """What the engine asks of a loss besides being an nn.Module."""

    num_outputs: int  # what the model must return for a sample
    sigmoid: bool  # whether these are probabilities, so that the model ends in a sigmoid

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The mean loss of (batch, num_outputs) float32 outputs, a scalar."""

    def size(self, targets: Tensor) -> Tensor | int:
        """What that mean divides by: losses times sizes add up over batches."""

    def scores(self, outputs: Tensor) -> Tensor:
        """(batch, classes) or (batch, labels): probabilities where the loss defines them; or (batch, values)."""
