"""What models share: reading any kind of data as a sequence or a signal, and the last layer."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from trainer.spec import Spec

# Of an embedding before training. torch's 1 drowns what a rare token learns in its few steps: the cnn then reaches 0.70
# on the sentences of rt-polarity instead of 0.76.
EMBEDDING_STD = 0.1


class Rows(nn.Module):
    """An image as the sequence of its rows: (batch, channels, height, width) -> (batch, height, channels * width).

    Of a spectrogram the rows are its steps.
    """

    def forward(self, images: Tensor) -> Tensor:
        """See the class."""
        return images.transpose(1, 2).flatten(2)


class Columns(nn.Module):
    """A table as a sequence of single numbers: (batch, features) -> (batch, features, 1)."""

    def forward(self, table: Tensor) -> Tensor:
        """See the class."""
        return table.unsqueeze(-1)


class Transpose(nn.Module):
    """A sequence as a 1-D signal: (batch, steps, width) -> (batch, width, steps)."""

    def forward(self, sequence: Tensor) -> Tensor:
        """See the class."""
        return sequence.transpose(1, 2)


def as_sequence(spec: Spec, embedding: int) -> tuple[nn.Module, int]:
    """A module that turns the spec's samples into (batch, steps, width) float sequences, and the width."""
    if spec.kind in ("image", "spectrogram"):
        channels, _, width = spec.shape
        return Rows(), channels * width
    if spec.kind == "tokens":
        tokens = nn.Embedding(cast(int, spec.vocabulary), embedding, padding_idx=0)
        with torch.no_grad():
            tokens.weight *= EMBEDDING_STD
        return tokens, embedding
    if spec.kind == "table":
        return Columns(), 1
    return nn.Identity(), spec.shape[1]


def last_layer(in_features: int, spec: Spec) -> nn.Module:
    """A linear layer to the spec's outputs; ends in a sigmoid where the loss takes probabilities."""
    linear = nn.Linear(in_features, spec.num_outputs)
    return nn.Sequential(linear, nn.Sigmoid()) if spec.sigmoid else linear
