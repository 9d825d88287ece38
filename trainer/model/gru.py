"""Gated recurrent units (Cho et al. 2014) that apply the reset gate after or before the matrix product."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trainer.config import Fraction, PositiveInt
from trainer.model import MODELS
from trainer.model._exported import Direction, directions_of, exported_states
from trainer.model._gru import reset_after_steps, reset_before_steps
from trainer.model._recurrent import (
    Cell,
    CellByCell,
    Layers,
    Recurrent,
    States,
    in_order,
    make_cells,
    pack,
    run_by_torch,
    run_layers,
    run_padded,
)
from trainer.model._sequence import without_autocast
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
    """Return a GRU, followed by a linear layer on the state after the last valid step.

    The module maps samples (batch, …) to (batch, ``spec.num_outputs``).
    """
    make_layers: Callable[..., nn.Module] = partial(Layers, PackedGRU) if reset_after else ResetBeforeGRU
    return Recurrent(spec, make_layers, hidden, layers, bidirectional, dropout, embedding)


class PackedGRU(CellByCell, nn.GRU):
    """torch's GRU, which here returns the last valid states; training on a CPU uses ``_gru.py``, which is faster."""

    def forward(self, steps: Tensor, lengths: Tensor | None) -> Tensor:  # type: ignore[override]
        """Return the last valid states, (batch, features), for steps (batch, steps, width)."""
        if torch.compiler.is_exporting():
            return exported_states("gru", directions_of(self), steps, lengths)
        if steps.device.type != "cpu" or torch.compiler.is_compiling() or not torch.is_grad_enabled():
            return run_by_torch(super().forward, self, steps, lengths)
        packed = pack(steps, lengths)
        cells = make_cells(self, partial(_reset_after_cell, packed.batch_sizes.tolist()))
        return in_order(run_layers(packed.data, cells, self.dropout * self.training), packed)


def _reset_after_cell(sizes: list[int], weights: Sequence[Tensor], backwards: bool) -> Cell:
    weight_in, weight, bias_in, bias = weights

    def cell(steps: Tensor) -> States:
        *of_gates, of_candidate = bias.chunk(3)  # the biases of r and z are added to those of the inputs
        inputs = F.linear(steps, weight_in, bias_in + torch.cat([*of_gates, torch.zeros_like(of_candidate)]))
        return reset_after_steps(inputs, weight, of_candidate, sizes, backwards)

    return cell


class ResetBeforeGRU(nn.Module):
    """Layers of the GRU as first published, which applies the reset gate to the state before the matrix product.

    Cho et al. 2014, equations 5 to 8, with z and 1 - z exchanged, as is usual today:
    r = σ(W_r [h, x] + b_r), z = σ(W_z [h, x] + b_z), h̃ = tanh(W [r ⊙ h, x] + b), h' = (1 - z) ⊙ h̃ + z ⊙ h.
    """

    def __init__(
        self, width: int, hidden: int, layers: int, *, dropout: float, bidirectional: bool, varying: bool = False
    ) -> None:
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
        """Return the last valid states, (batch, features), for steps (batch, steps, width)."""
        if torch.compiler.is_exporting():
            layers = [[Direction(*cell.parameters()) for cell in layer.children()] for layer in self.cells]
            return exported_states("gru_before", layers, steps, lengths)
        dropout = self.dropout * self.training
        if steps.device.type != "cpu" or torch.compiler.is_compiling():
            return run_layers(steps, self._cells(lengths, None), dropout)
        packed = pack(steps, lengths)
        return in_order(run_layers(packed.data, self._cells(None, packed.batch_sizes.tolist()), dropout), packed)

    def _cells(self, lengths: Tensor | None, sizes: list[int] | None) -> list[list[Cell]]:
        return [
            [
                partial(cell, backwards=way == 1, lengths=lengths, sizes=sizes)
                for way, cell in enumerate(layer.children())
            ]
            for layer in self.cells
        ]


class _ResetBeforeCell(nn.Module):
    """One direction of one layer; the weights are stacked in the order reset gate, update gate, candidate."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.weight_ih = nn.Parameter(torch.empty(3 * hidden, width))
        self.weight_hh = nn.Parameter(torch.empty(3 * hidden, hidden))
        self.bias = nn.Parameter(torch.empty(3 * hidden))
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -(hidden**-0.5), hidden**-0.5)  # like torch's recurrent layers

    def forward(self, steps: Tensor, *, backwards: bool, lengths: Tensor | None, sizes: list[int] | None) -> States:
        """Return the states after each step, and the state after the last step of each sample.

        Args:
            steps: packed, (steps of all samples, width), if ``sizes`` is given; otherwise padded to the longest of
                ``lengths``, (batch, steps, width).
            backwards: run from the last valid step of each sample to its first step.
            lengths: the number of valid steps of each sample, (batch,); None if all steps are valid.
            sizes: for each step, the number of samples that have this step; None if ``steps`` are padded.
        """
        if sizes is None:
            return run_padded(self._forwards, steps, backwards, lengths)
        return reset_before_steps(F.linear(steps, self.weight_ih, self.bias), self.weight_hh, sizes, backwards)

    def _forwards(self, steps: Tensor) -> Tensor:
        """Return the state after each step, with operations that can be compiled and do not synchronise with a GPU."""
        hidden = self.weight_hh.shape[1]
        gate_weights, candidate_weights = self.weight_hh.split([2 * hidden, hidden])
        inputs = F.linear(steps, self.weight_ih, self.bias)
        with without_autocast(steps.device):  # as in reset_before_steps: the state has the dtype of the weights
            state = self.weight_hh.new_zeros(len(steps), hidden)
            states = []
            for step in inputs.to(state.dtype).unbind(1):
                reset, update = torch.sigmoid(step[:, : 2 * hidden] + F.linear(state, gate_weights)).chunk(2, dim=1)
                candidate = torch.tanh(step[:, 2 * hidden :] + F.linear(reset * state, candidate_weights))
                state = (1 - update) * candidate + update * state
                states.append(state)
        return torch.stack(states, dim=1)
