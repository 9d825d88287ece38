"""A gated recurrent unit network (Cho et al. 2014), with the reset gate after or before the matrix product."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trainer.config import Fraction, PositiveInt
from trainer.model import MODELS
from trainer.model._recurrent import Packed, Recurrent
from trainer.spec import Spec


@MODELS.register
def gru(
    spec: Spec,
    *,
    hidden: PositiveInt,
    layers: PositiveInt,
    bidirectional: bool,
    dropout: Fraction,
    embedding: PositiveInt,
    reset_after: bool,
) -> nn.Module:
    """A GRU over the steps; its output at the last valid one goes through a linear layer.

    Returns:
        a module from (batch, …) samples to (batch, ``spec.num_outputs``).
    """

    def layer(width: int) -> nn.Module:
        between = dropout if layers > 1 else 0.0
        if not reset_after:
            return ResetBefore(width, hidden, layers, dropout=between, bidirectional=bidirectional)
        return Packed(nn.GRU(width, hidden, layers, batch_first=True, dropout=between, bidirectional=bidirectional))

    return Recurrent(
        spec,
        layer,
        features=hidden * (1 + bidirectional),
        bidirectional=bidirectional,
        dropout=dropout,
        embedding=embedding,
    )


class ResetBefore(nn.Module):
    """Layers of the GRU as first published: the reset gate acts on the state before the matrix product.

    Cho et al. 2014, equations 5 to 8, with z and 1 - z exchanged as everywhere since:
    r = σ(W_r [h, x] + b_r), z = σ(W_z [h, x] + b_z), h̃ = tanh(W [r ⊙ h, x] + b), h' = (1 - z) ⊙ h̃ + z ⊙ h.
    """

    def __init__(self, width: int, hidden: int, layers: int, *, dropout: float, bidirectional: bool) -> None:
        super().__init__()
        directions = 1 + bidirectional
        self.cells = nn.ModuleList(
            nn.ModuleList(
                _ResetBeforeCell(width if depth == 0 else hidden * directions, hidden) for _ in range(directions)
            )
            for depth in range(layers)
        )
        self.dropout = dropout

    def forward(self, steps: Tensor, lengths: Tensor | None) -> Tensor:
        """(batch, steps, width), lengths -> (batch, steps, features)."""
        for depth, cells in enumerate(self.cells):
            assert isinstance(cells, nn.ModuleList)
            if depth > 0:
                steps = F.dropout(steps, self.dropout, self.training)
            outputs = [cells[0](steps)]
            if len(cells) == 2:
                outputs.append(_backwards(cells[1](_backwards(steps, lengths)), lengths))
            steps = torch.cat(outputs, dim=2)
        return steps


class _ResetBeforeCell(nn.Module):
    """One direction of one layer; weights are stacked in the order reset, update, candidate."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.weight_ih = nn.Parameter(torch.empty(3 * hidden, width))
        self.weight_hh = nn.Parameter(torch.empty(3 * hidden, hidden))
        self.bias = nn.Parameter(torch.empty(3 * hidden))
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -(hidden**-0.5), hidden**-0.5)  # as torch's recurrent layers

    def forward(self, steps: Tensor) -> Tensor:
        """(batch, steps, width) -> the state after every step, (batch, steps, hidden)."""
        hidden = self.weight_hh.shape[1]
        gate_weights, candidate_weights = self.weight_hh.split([2 * hidden, hidden])
        inputs = F.linear(steps, self.weight_ih, self.bias).unbind(1)  # one product for all steps
        state = inputs[0].new_zeros(len(steps), hidden)
        states = []
        for step in inputs:
            gates = torch.sigmoid(step[:, : 2 * hidden] + F.linear(state, gate_weights))
            reset, update = gates.chunk(2, dim=1)
            candidate = torch.tanh(step[:, 2 * hidden :] + F.linear(reset * state, candidate_weights))
            state = (1 - update) * candidate + update * state
            states.append(state)
        return torch.stack(states, dim=1)


def _backwards(sequence: Tensor, lengths: Tensor | None) -> Tensor:
    """Turn the valid steps of (batch, steps, width) round; what lies beyond them stays."""
    if lengths is None:
        return sequence.flip(1)
    steps = torch.arange(sequence.shape[1], device=sequence.device)
    turned = lengths[:, None] - 1 - steps
    where = torch.where(turned >= 0, turned, steps)
    return sequence.gather(1, where.unsqueeze(2).expand_as(sequence))
