"""Long short-term memory (Hochreiter and Schmidhuber 1997) with a forget gate (Gers et al. 2000)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn

from trainer.config import Fraction, PositiveInt
from trainer.model import MODELS
from trainer.model._exported import directions_of, exported_states
from trainer.model._recurrent import Cell, Layers, Recurrent, make_cells, run_by_torch, run_layers, run_padded
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
    """Return torch's LSTM, followed by a linear layer on the state after the last valid step.

    The module maps samples (batch, …) to (batch, ``spec.num_outputs``).
    """
    return Recurrent(spec, partial(Layers, PaddedLSTM), hidden, layers, bidirectional, dropout, embedding)


class PaddedLSTM(nn.LSTM):
    """torch's LSTM, which here returns the last valid states.

    On a CPU the steps stay padded, because oneDNN, which is twice as fast, does not support packed sequences.
    """

    def forward(self, steps: Tensor, lengths: Tensor | None) -> Tensor:  # type: ignore[override]
        """Return the last valid states, (batch, features), for steps (batch, steps, width)."""
        if torch.compiler.is_exporting():
            return exported_states("lstm", directions_of(self), steps, lengths)
        if (
            steps.device.type == "cpu"
            and torch.is_autocast_enabled("cpu")
            and torch.get_autocast_dtype("cpu") == torch.half
        ):
            with torch.autocast("cpu", enabled=False):  # oneDNN does not support an LSTM in float16
                last: Tensor = self(steps.float(), lengths)
                return last
        if lengths is None or not self.bidirectional or steps.device.type != "cpu":
            return run_by_torch(super().forward, self, steps, lengths)
        cells = make_cells(self, partial(_cell, self, lengths))
        return run_layers(steps, cells, self.dropout * self.training)


def _cell(layer: nn.LSTM, lengths: Tensor, weights: Sequence[Tensor], backwards: bool) -> Cell:
    """Return a cell for one direction of one layer that runs over padded steps."""

    def forwards(steps: Tensor) -> Tensor:
        zeros = steps.new_zeros(1, len(steps), layer.hidden_size)
        states: Tensor = torch.lstm(steps, (zeros, zeros), list(weights), True, 1, 0.0, layer.training, False, True)[0]
        return states

    return lambda steps: run_padded(forwards, steps, backwards, lengths)
