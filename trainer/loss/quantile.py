"""Quantile loss."""

from typing import Annotated

from msgspec import Meta

from trainer.config import OpenUnitInterval
from trainer.loss import LOSSES
from trainer.loss._quantiles import QuantileLoss
from trainer.spec import Spec


@LOSSES.register
def quantile(spec: Spec, *, quantiles: Annotated[list[OpenUnitInterval], Meta(min_length=1)]) -> QuantileLoss:
    """Return the pinball loss (Koenker and Bassett 1978) of several quantiles of each value."""
    return QuantileLoss(spec, quantiles)
