"""A multi-layer perceptron with embeddings for the numbers and categories of tables."""

from __future__ import annotations

import itertools
from typing import Annotated, Literal

from msgspec import Meta
from torch import Tensor, nn

from trainer.config import Fraction, PositiveInt
from trainer.model import MODELS
from trainer.model._table_layers import FeatureScale, NumberEmbedding, RatedHead, RatedLinear, RatedSiLU, as_vectors
from trainer.spec import Spec

RATE = 15.0  # of the weights of the hidden layers, see ``_table_layers``


@MODELS.register
class MLP(nn.Module):
    """Fully connected layers, with the parametrisation and the activation of RealMLP (Holzmüller et al. 2024).

    A table is embedded first, see ``TableInputs``; samples of other kinds are flattened. Each layer is linear, then
    normalised if ``norm`` says so, followed by the activation and dropout; with ``residual``, its inputs are added if
    it has as many outputs.

    Returns:
        (batch, ``spec.num_outputs``).
    """

    def __init__(
        self,
        spec: Spec,
        *,
        hidden: Annotated[list[PositiveInt], Meta(min_length=1)],
        numbers: NumberEmbedding,
        number_width: PositiveInt,
        level_width: PositiveInt,
        residual: bool,
        norm: Literal["none", "batch", "layer"],
        dropout: Fraction,
        embedding: PositiveInt,
    ) -> None:
        super().__init__()
        self.inputs = as_vectors(spec, numbers, number_width, level_width, embedding, RATE)
        self.scale = FeatureScale(self.inputs.width, RATE)
        widths = [self.inputs.width, *hidden]
        self.layers = nn.ModuleList(
            _Layer(before, width, norm, dropout, residual=residual and before == width)
            for before, width in itertools.pairwise(widths)
        )
        self.out = RatedHead(hidden[-1], spec, RATE)

    def forward(self, inputs: Tensor, lengths: Tensor | None = None) -> Tensor:
        hidden = self.scale(self.inputs(inputs))
        for layer in self.layers:
            hidden = layer(hidden)
        outputs: Tensor = self.out(hidden)
        return outputs


class _Layer(nn.Module):
    def __init__(self, before: int, width: int, norm: str, dropout: float, *, residual: bool) -> None:
        super().__init__()
        self.linear = RatedLinear(before, width, RATE)
        norms: dict[str, type[nn.Module]] = {"none": nn.Identity, "batch": nn.BatchNorm1d, "layer": nn.LayerNorm}
        self.norm = norms[norm]() if norm == "none" else norms[norm](width)
        self.rest = nn.Sequential(RatedSiLU(width, RATE), nn.Dropout(dropout))
        self.residual = residual

    def forward(self, inputs: Tensor) -> Tensor:
        outputs: Tensor = self.rest(self.norm(self.linear(inputs)))
        return inputs + outputs if self.residual else outputs
