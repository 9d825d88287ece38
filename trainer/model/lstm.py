"""A long short-term memory network (Hochreiter and Schmidhuber 1997; forget gate: Gers et al. 2000)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn

from trainer.config import Fraction, PositiveInt
from trainer.model import MODELS
from trainer.model._exported import directions_of, exported_states
from trainer.model._recurrent import Cell, Layers, Recurrent, by_direction, by_torch, padded, through
from trainer.spec import Spec


@MODELS.register
def lstm(
    spec: Spec,
    *,
    hidden: PositiveInt,
    layers: PositiveInt,
    bidirectional: bool,
    dropout: Fraction,
    embedding: PositiveInt,
) -> nn.Module:
    """torch's LSTM over the steps; its output at the last valid one goes through a linear layer.

    Returns:
        a module from (batch, …) samples to (batch, ``spec.num_outputs``).
    """

    def make(width: int) -> nn.Module:
        between = dropout if layers > 1 else 0.0
        return Layers(PaddedLSTM(width, hidden, layers, batch_first=True, dropout=between, bidirectional=bidirectional))

    return Recurrent(spec, make, features=hidden * (1 + bidirectional), dropout=dropout, embedding=embedding)


class PaddedLSTM(nn.LSTM):
    """torch's LSTM, asked for its last states; on a CPU padded, as oneDNN is twice as fast and takes nothing packed."""

    def forward(self, steps: Tensor, lengths: Tensor | None) -> Tensor:  # type: ignore[override]
        """(batch, steps, width), lengths -> the last valid states, (batch, features)."""
        if torch.compiler.is_exporting():
            return exported_states("lstm", directions_of(self), steps, lengths)
        if (
            steps.device.type == "cpu"
            and torch.is_autocast_enabled("cpu")
            and torch.get_autocast_dtype("cpu") == torch.half
        ):
            with torch.autocast("cpu", enabled=False):  # oneDNN's has no float16
                last: Tensor = self(steps.float(), lengths)
                return last
        if lengths is None or not self.bidirectional or steps.device.type != "cpu":
            return by_torch(super().forward, self, steps, lengths)
        cells = by_direction(self, partial(_cell, self, lengths))
        return through(steps, cells, self.dropout * self.training)


def _cell(layer: nn.LSTM, lengths: Tensor, weights: Sequence[Tensor], backwards: bool) -> Cell:
    """One direction of one layer, over padded steps."""

    def forwards(steps: Tensor) -> Tensor:
        zeros = steps.new_zeros(1, len(steps), layer.hidden_size)
        states: Tensor = torch.lstm(steps, (zeros, zeros), list(weights), True, 1, 0.0, layer.training, False, True)[0]
        return states

    return lambda steps: padded(forwards, steps, backwards, lengths)
