"""Long short-term memory (Hochreiter and Schmidhuber 1997) with a forget gate (Gers et al. 2000)."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn

from trainer.config import Fraction, PositiveInt
from trainer.model import MODELS
from trainer.model._exported import directions_of, exported_states
from trainer.model._recurrent import CellByCell, Layers, Recurrent, run_by_cell, run_by_torch
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


class PaddedLSTM(CellByCell, nn.LSTM):
    """torch's LSTM, which here returns the last valid states.

    On a CPU the steps stay padded, because oneDNN, which is twice as fast, does not support packed sequences.
    """

    def forward(self, steps: Tensor, lengths: Tensor | None) -> Tensor:  # type: ignore[override]
        """Return the last valid states, (batch, features), for steps (batch, steps, width)."""
        if torch.compiler.is_exporting():
            return exported_states("lstm", directions_of(self), steps, lengths)
        if lengths is None or not self.bidirectional or steps.device.type != "cpu":
            return run_by_torch(super().forward, self, steps, lengths)
        return run_by_cell(self, steps, lengths)
