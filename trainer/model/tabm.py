"""TabM: many small networks for tables that share most of their weights, trained side by side."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Annotated

import torch
from msgspec import Meta
from torch import Tensor, nn

from trainer.config import Fraction, PositiveInt
from trainer.model import MODELS
from trainer.model._sequence import without_autocast
from trainer.model._table_layers import (
    BIAS_STD,
    SMALL,
    FeatureScale,
    NumberEmbedding,
    RatedSiLU,
    as_vectors,
)
from trainer.spec import Spec

RATE = 30.0  # of the weights of the hidden layers, see ``_table_layers``
ADAPTER_RATE, BIAS_RATE = 0.07 * RATE, SMALL * RATE


@MODELS.register
class TABM(nn.Module):
    """The members of TabM (Gorishniy et al. 2025), with the embeddings and the parametrisation of ``model=mlp``.

    All members share the weights of the hidden layers (BatchEnsemble, Wen et al. 2020). A member has adapters, which
    multiply the inputs and outputs of each layer, biases, and a last layer of its own. The adapters of the first layer
    are random at first, one number for each column, so that the members differ. In training, every member has its own
    loss; the answer is the mean of the members' probabilities or values.

    Returns:
        (batch, ``members`` * ``spec.num_outputs``): the outputs of the first member, then those of the next.
    """

    def __init__(
        self,
        spec: Spec,
        *,
        members: PositiveInt,
        hidden: Annotated[list[PositiveInt], Meta(min_length=1)],
        numbers: NumberEmbedding,
        number_width: PositiveInt,
        level_width: PositiveInt,
        dropout: Fraction,
        embedding: PositiveInt,
    ) -> None:
        super().__init__()
        self.members = members
        self.inputs = as_vectors(spec, numbers, number_width, level_width, embedding, RATE)
        self.scale = FeatureScale(self.inputs.width, RATE)
        layers: list[nn.Module] = []
        for before, width in itertools.pairwise([self.inputs.width, *hidden]):
            parts = None if layers else self.inputs.parts
            layers += [MemberLinear(before, width, members, parts), RatedSiLU(width, RATE), nn.Dropout(dropout)]
        self.layers = nn.Sequential(*layers)
        self.out = MemberHead(hidden[-1], members, spec)

    def forward(self, inputs: Tensor, lengths: Tensor | None = None) -> Tensor:
        hidden = self.scale(self.inputs(inputs)).unsqueeze(1).expand(-1, self.members, -1)
        outputs: Tensor = self.out(self.layers(hidden)).flatten(1)
        return outputs


class MemberLinear(nn.Module):
    """A linear layer with weights that all members share, and adapters and biases of each member.

    ``outputs = ((inputs * before) @ weight) * behind + bias``, in the parametrisation of ``RatedLinear``.

    Args:
        in_features, out_features, members: the sizes.
        parts: the sizes of the parts of the inputs, whose features have a random adapter in common; None if the
            adapters are 1 at first.
    """

    def __init__(self, in_features: int, out_features: int, members: int, parts: Sequence[int] | None) -> None:
        super().__init__()
        self.factor = RATE / math.sqrt(in_features)
        self.weight = nn.Parameter(torch.randn(in_features, out_features) / RATE)
        before = torch.ones(members, in_features)
        if parts is not None:
            before = torch.randn(members, len(parts)).repeat_interleave(torch.tensor(parts), dim=1)
        self.before = nn.Parameter(before / ADAPTER_RATE)
        self.behind = nn.Parameter(torch.ones(members, out_features) / ADAPTER_RATE)
        bias = torch.randn(out_features) * (BIAS_STD / BIAS_RATE)
        self.bias = nn.Parameter(bias.expand(members, -1).clone())

    def forward(self, inputs: Tensor) -> Tensor:
        """Return (batch, members, out_features) for inputs (batch, members, in_features)."""
        outputs = (inputs * (self.before * ADAPTER_RATE)) @ self.weight
        return torch.addcmul(self.bias * BIAS_RATE, outputs, self.behind * (ADAPTER_RATE * self.factor))


class MemberHead(nn.Module):
    """The last layer of each member, which computes in float32; with ``spec.sigmoid`` the outputs are probabilities."""

    def __init__(self, in_features: int, members: int, spec: Spec) -> None:
        super().__init__()
        self.factor, self.sigmoid = RATE / math.sqrt(in_features), spec.sigmoid
        self.weight = nn.Parameter(torch.randn(members, in_features, spec.num_outputs) / RATE)
        self.bias = nn.Parameter(torch.zeros(members, spec.num_outputs))

    def forward(self, inputs: Tensor) -> Tensor:
        """Return (batch, members, outputs) for inputs (batch, members, in_features)."""
        with without_autocast(inputs.device):
            outputs = torch.einsum("bmi,mio->bmo", inputs.float(), self.weight * self.factor) + self.bias * BIAS_RATE
        return outputs.sigmoid() if self.sigmoid else outputs
