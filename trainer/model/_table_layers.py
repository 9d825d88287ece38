"""Layers of networks for tables: embeddings of numbers and categories, and linear layers with a rate of their own.

With Adam, a step changes every learned number by about the learning rate, whatever the gradient is. A layer that
computes with ``rate * value`` for a learned ``value`` therefore changes ``rate`` times as fast as one that computes
with the value. The rates here are those of RealMLP (Holzmüller et al. 2024), relative to its hidden layers, so that one
learning rate fits all of them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist
from typing import Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trainer.model._sequence import EMBEDDING_STD, without_autocast
from trainer.spec import Spec

NumberEmbedding = Literal["both", "piecewise", "periodic", "none"]
# The rates of layers, relative to those of the weights of hidden layers, but for that of pieces.
SCALE, SMALL = 6.0, 0.1
PIECE_RATE = 6.0
BIAS_STD = 0.58
WAVES, WAVE_STD = 16, 0.1  # periodic features of a number, and the deviation of their initial frequencies
MAX_LEVELS = 8  # levels of a category that are read as 0 and 1; those of a larger one are embedded
BINS = 48  # parts of the range of a number without edges, if it is normalised


class RatedLinear(nn.Module):
    """A linear layer in the neural tangent parametrisation (Jacot et al. 2018), which learns at a rate of its own.

    ``outputs = inputs @ weight * rate / sqrt(in_features) + bias * 0.1 * rate``; at first, the weights that are used
    have the deviation ``1 / sqrt(in_features)``, and the biases ``bias_std``.
    """

    def __init__(self, in_features: int, out_features: int, rate: float, bias_std: float = BIAS_STD) -> None:
        super().__init__()
        self.factor, self.bias_rate = rate / math.sqrt(in_features), SMALL * rate
        self.weight = nn.Parameter(torch.randn(in_features, out_features) / rate)
        self.bias = nn.Parameter(torch.randn(out_features) * (bias_std / self.bias_rate))

    def forward(self, inputs: Tensor) -> Tensor:
        """Return (batch, out_features) for inputs (batch, in_features)."""
        return torch.addmm(self.bias, inputs, self.weight, beta=self.bias_rate, alpha=self.factor)


class RatedHead(RatedLinear):
    """The last layer, which computes in float32 under autocast too: a probability of bfloat16 has 8 significant bits.

    If ``spec.sigmoid`` is set, the outputs are probabilities.
    """

    def __init__(self, in_features: int, spec: Spec, rate: float) -> None:
        super().__init__(in_features, spec.num_outputs, rate, bias_std=0)
        self.sigmoid = spec.sigmoid

    def forward(self, inputs: Tensor) -> Tensor:
        with without_autocast(inputs.device):
            outputs = super().forward(inputs.float())
        return outputs.sigmoid() if self.sigmoid else outputs


class RatedSiLU(nn.Module):
    """SiLU (Elfwing et al. 2018) of learned strength: ``x + (1 + strength) * (silu(x) - x)``, at first of strength 0.

    In RealMLP the activation is Mish; the error is the same, and SiLU is cheaper.
    """

    def __init__(self, width: int, rate: float) -> None:
        super().__init__()
        self.rate = SMALL * rate
        self.strength = nn.Parameter(torch.zeros(width))

    def forward(self, inputs: Tensor) -> Tensor:
        return torch.lerp(inputs, F.silu(inputs), 1 + self.strength * self.rate)


class FeatureScale(nn.Module):
    """Multiply each feature by a learned factor, which is 1 at first, so that useless features can fade fast."""

    def __init__(self, width: int, rate: float) -> None:
        super().__init__()
        self.rate = SCALE * rate
        self.scale = nn.Parameter(torch.zeros(width))

    def forward(self, inputs: Tensor) -> Tensor:
        return inputs * (1 + self.scale * self.rate)


class Pieces(nn.Module):
    """Functions of numbers that are linear between the edges of bins (Gorishniy et al. 2022).

    ``embedding = sum over bins of w_t clamp((x - low_t) / (high_t - low_t), 0, 1)``. The bins of a number have equally
    many samples of train. ``w`` is 0 at first.

    Args:
        edges: for each number, the ascending edges of its bins.
        width: the size of an embedding.
    """

    low: Tensor
    inverse: Tensor

    def __init__(self, edges: Sequence[Sequence[float]], width: int) -> None:
        super().__init__()
        most = max(len(each) for each in edges) - 1
        low, inverse = torch.zeros(2, len(edges), most)
        for at, each in enumerate(edges):
            bounds = torch.tensor(each)
            low[at, : len(each) - 1] = bounds[:-1]
            inverse[at, : len(each) - 1] = 1 / bounds.diff()  # an unused bin keeps 0, and is always empty
        self.register_buffer("low", low)
        self.register_buffer("inverse", inverse)
        self.weight = nn.Parameter(torch.zeros(len(edges), most, width))

    def forward(self, numbers: Tensor) -> Tensor:
        """Return (batch, numbers, width) for (batch, numbers)."""
        filled = ((numbers.unsqueeze(2) - self.low) * self.inverse).clamp(0, 1)
        return torch.einsum("bnt,ntw->bnw", filled, self.weight * PIECE_RATE)


class Waves(nn.Module):
    """Linear functions of cosines of numbers, with learned frequencies and phases, as in RealMLP."""

    def __init__(self, count: int, width: int, rate: float) -> None:
        super().__init__()
        self.rate = SMALL * rate
        bound = WAVES**-0.5 / self.rate
        self.frequency = nn.Parameter(torch.randn(count, WAVES) * (WAVE_STD / self.rate))
        self.phase = nn.Parameter(torch.empty(count, WAVES).uniform_(-math.pi, math.pi) / self.rate)
        self.weight = nn.Parameter(torch.empty(count, WAVES, width).uniform_(-bound, bound))

    def forward(self, numbers: Tensor) -> Tensor:
        """Return (batch, numbers, width) for (batch, numbers)."""
        angles = torch.addcmul(self.phase * self.rate, numbers.unsqueeze(2), self.frequency * (2 * math.pi * self.rate))
        return torch.einsum("bnt,ntw->bnw", angles.cos(), self.weight * self.rate)


class EmbeddedNumbers(nn.Module):
    """Embed each number by the sum of a linear function, pieces and waves; ``kind`` says which of them.

    Args:
        edges: for each number, the edges of its bins.
        kind: ``piecewise`` without waves, ``periodic`` without pieces, or ``both``.
        width: the size of an embedding.
        rate: the rate of the hidden layers.
    """

    def __init__(self, edges: Sequence[Sequence[float]], kind: NumberEmbedding, width: int, rate: float) -> None:
        super().__init__()
        self.rate = SMALL * rate
        self.slope = nn.Parameter(torch.empty(len(edges), width).uniform_(-1, 1) / self.rate)
        self.bias = nn.Parameter(torch.empty(len(edges), width).uniform_(-1, 1) / self.rate)
        bends = [Pieces(edges, width)] if kind != "periodic" else []
        self.bends = nn.ModuleList([*bends, *([Waves(len(edges), width, rate)] if kind != "piecewise" else [])])

    def forward(self, numbers: Tensor) -> Tensor:
        """Return (batch, numbers, width) for (batch, numbers)."""
        embedded = torch.addcmul(self.bias * self.rate, numbers.unsqueeze(2), self.slope * self.rate)
        for bend in self.bends:
            embedded = embedded + bend(numbers)
        return embedded


class TableInputs(nn.Module):
    """Convert rows of a table to vectors, with embeddings for numbers and categories.

    Numbers with more than two values are embedded, as are the levels of categories with more than ``MAX_LEVELS``
    features; other features are read as they are.

    Args:
        spec: the spec of a table.
        numbers: how numbers are embedded.
        number_width, level_width: the sizes of the embeddings of a number and of a category.
        rate: the rate of the hidden layers.

    Attributes:
        width: the size of a vector.
        parts: the sizes of the parts of a vector that stem from one number or column.
    """

    embedded: Tensor
    plain: Tensor

    def __init__(self, spec: Spec, numbers: NumberEmbedding, number_width: int, level_width: int, rate: float) -> None:
        super().__init__()
        normal = tuple(NormalDist().inv_cdf((at + 0.5) / BINS) for at in range(BINS))
        edges = spec.edges or (normal,) * spec.num_numbers
        embedded = [at for at, each in enumerate(edges) if len(each) > 2 and numbers != "none"]
        plain = [at for at in range(spec.num_numbers) if at not in embedded]
        self.large, start = list[tuple[int, int]](), spec.num_numbers
        for size in spec.blocks:
            if size > MAX_LEVELS:
                self.large.append((start, size))
            else:
                plain += range(start, start + size)
            start += size
        self.register_buffer("embedded", torch.tensor(embedded, dtype=torch.int64), persistent=False)
        self.register_buffer("plain", torch.tensor(plain, dtype=torch.int64), persistent=False)
        own = [edges[at] for at in embedded]
        self.numbers = EmbeddedNumbers(own, numbers, number_width, rate) if embedded else None
        self.rate = rate
        self.levels = nn.ParameterList([torch.randn(size, level_width) / rate for _, size in self.large])
        small = [size for size in spec.blocks if size <= MAX_LEVELS]
        alone = [1] * (spec.num_numbers - len(embedded))
        self.parts = [number_width] * len(embedded) + alone + small + [level_width] * len(self.large)
        self.width = sum(self.parts)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the vectors, (batch, width), of rows (batch, features)."""
        parts = [] if self.numbers is None else [self.numbers(inputs.index_select(1, self.embedded)).flatten(1)]
        if len(self.plain):
            parts.append(inputs.index_select(1, self.plain))
        for (start, size), table in zip(self.large, self.levels, strict=True):
            parts.append(inputs.narrow(1, start, size) @ (table * self.rate))
        return torch.cat(parts, dim=1)


class FlatInputs(nn.Module):
    """Flatten samples of any other kind to vectors; where lengths vary, with zeros up to the longest sample.

    Args:
        spec: the spec of the samples.
        token_width: the size of the embedding of a token.

    Attributes:
        width, parts: as in ``TableInputs``.
    """

    def __init__(self, spec: Spec, token_width: int) -> None:
        super().__init__()
        self.step_axis = spec.step_axis if spec.varying else None
        self.steps = spec.shape[spec.step_axis - 1]
        self.width = math.prod(spec.shape)
        self.tokens: nn.Module = nn.Identity()
        if spec.kind == "tokens":
            self.tokens = nn.Embedding(cast(int, spec.vocabulary), token_width, padding_idx=0)
            with torch.no_grad():
                self.tokens.weight *= EMBEDDING_STD
            self.width *= token_width
        self.parts = [1] * self.width

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the vectors, (batch, width); padding behind the steps of a sample has to be zero."""
        if self.step_axis is not None:
            # an exported model cannot compute the number of zeros, but can cut off what is too much
            padding = [*[0, 0] * (inputs.ndim - 1 - self.step_axis), 0, self.steps]
            inputs = F.pad(inputs, padding).narrow(self.step_axis, 0, self.steps)
        flat: Tensor = self.tokens(inputs).flatten(1)
        return flat


def as_vectors(
    spec: Spec, numbers: NumberEmbedding, number_width: int, level_width: int, token_width: int, rate: float
) -> TableInputs | FlatInputs:
    """Return the module that converts samples of any kind to vectors; the arguments are those of both modules."""
    if spec.kind == "table":
        return TableInputs(spec, numbers, number_width, level_width, rate)
    return FlatInputs(spec, token_width)
