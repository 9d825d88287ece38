"""The parts of recurrent models, which read any data as a sequence and compute outputs from the last valid state."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence

from trainer.model._sequence import as_sequence, last_layer
from trainer.spec import Spec

States = tuple[Tensor, Tensor]  # the states after each step, and the state after the last step of each sample
Cell = Callable[[Tensor], States]  # one direction of one layer, which maps the steps to states


class Recurrent(nn.Module):
    """Recurrent layers with a zero initial state, followed by dropout and a linear layer on the last valid state.

    The last step of the backward direction is the first step of the sequence.

    Args:
        spec: the data and the outputs.
        make_layers: called with ``(width, hidden, layers, dropout=…, bidirectional=…)``; returns a module that maps
            (batch, steps, width) and lengths to the last states of the last layer, (batch, directions * hidden).
        hidden, layers, bidirectional, dropout, embedding: the keys in configs/model/lstm.yaml.
    """

    def __init__(
        self,
        spec: Spec,
        make_layers: Callable[..., nn.Module],
        hidden: int,
        layers: int,
        bidirectional: bool,
        dropout: float,
        embedding: int,
    ) -> None:
        super().__init__()
        self.sequence, width = as_sequence(spec, embedding)
        between = dropout if layers > 1 else 0.0
        self.recurrent = make_layers(width, hidden, layers, dropout=between, bidirectional=bidirectional)
        self.head = nn.Dropout(dropout)
        self.out = last_layer(hidden * (1 + bidirectional), spec)

    def forward(self, inputs: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Return (batch, ``spec.num_outputs``) for samples (batch, …) and, if steps vary, their lengths (batch,)."""
        last = self.recurrent(self.sequence(inputs), lengths)
        outputs: Tensor = self.out(self.head(last))
        return outputs


class Layers(nn.Module):
    """A module that has torch's recurrent layers as its child ``layer``.

    Args:
        kind: a subclass of a recurrent module of torch, whose ``forward`` takes steps and lengths.
        sizes, options: the arguments of ``kind``.
    """

    def __init__(self, kind: Callable[..., nn.Module], *sizes: int, **options: Any) -> None:
        super().__init__()
        self.layer = kind(*sizes, batch_first=True, **options)

    def forward(self, steps: Tensor, lengths: Tensor | None) -> Tensor:
        """Return the last valid states, (batch, features), for steps (batch, steps, width)."""
        last: Tensor = self.layer(steps, lengths)
        return last


def run_by_torch(forward: Callable[..., Any], layer: nn.RNNBase, steps: Tensor, lengths: Tensor | None) -> Tensor:
    """Return the last valid states, (batch, features); ``forward`` is the method of the torch class of ``layer``."""
    if lengths is None:
        return _join_directions(forward(steps)[1], layer)
    if not layer.bidirectional:  # the padding comes later and cannot change the last valid state
        return last_valid(forward(steps)[0], lengths)
    return _join_directions(forward(pack(steps, lengths))[1], layer)


def _join_directions(last: Tensor | tuple[Tensor, Tensor], layer: nn.RNNBase) -> Tensor:
    """Return the last layer's (batch, directions * hidden) from torch's h_n, (layers * directions, batch, hidden)."""
    states = last[0] if isinstance(last, tuple) else last
    return torch.cat(list(states[-1 - layer.bidirectional :]), dim=1)


def pack(steps: Tensor, lengths: Tensor | None) -> PackedSequence:
    """Pack (batch, steps, width); ``lengths`` are (batch,), or None if all steps are valid."""
    sizes = torch.full((len(steps),), steps.shape[1]) if lengths is None else lengths.cpu()
    return pack_padded_sequence(steps, sizes, batch_first=True, enforce_sorted=lengths is None)


def in_order(last: Tensor, packed: PackedSequence) -> Tensor:
    """Return ``last``, (batch, features) in the order of the packed samples, in the original order of the batch."""
    return last if packed.unsorted_indices is None else last.index_select(0, packed.unsorted_indices)


def run_layers(steps: Tensor, cells: Sequence[Sequence[Cell]], dropout: float) -> Tensor:
    """Run one layer after the other.

    Args:
        steps: (…, width), packed or padded as the cells expect.
        cells: for each layer, one cell for each direction.
        dropout: the probability of dropout between the layers; 0 in evaluation.

    Returns:
        the last states of the last layer, (batch, directions * hidden).
    """
    last: tuple[Tensor, ...] = ()
    for depth, directions in enumerate(cells):
        if depth > 0 and dropout > 0:
            steps = F.dropout(steps, dropout)
        states, last = zip(*(cell(steps) for cell in directions), strict=True)
        if depth < len(cells) - 1:
            steps = torch.cat(states, dim=-1) if len(states) > 1 else states[0]
    return torch.cat(last, dim=1) if len(last) > 1 else last[0]


def weights_by_layer(layer: nn.RNNBase) -> list[list[list[nn.Parameter]]]:
    """Return the weights of a torch module: for each of its layers, those of each direction."""
    weights, directions = layer.all_weights, 1 + layer.bidirectional
    return [weights[at : at + directions] for at in range(0, len(weights), directions)]


def make_cells(layer: nn.RNNBase, make: Callable[[Sequence[Tensor], bool], Cell]) -> list[list[Cell]]:
    """Return the cells of a torch module: ``make(weights, backwards)``, ``backwards`` in the reverse direction."""
    return [[make(each, way == 1) for way, each in enumerate(weights)] for weights in weights_by_layer(layer)]


def run_padded(forwards: Callable[[Tensor], Tensor], steps: Tensor, backwards: bool, lengths: Tensor | None) -> States:
    """Run one direction of one layer over padded steps, (batch, steps, width).

    Args:
        forwards: returns the state after each step, in the forward direction.
        steps: padded to the longest of ``lengths``.
        backwards: run from the last valid step of each sample to its first step.
        lengths: the number of valid steps of each sample, (batch,); None if all steps are valid.
    """
    states = forwards(reverse_valid(steps, lengths) if backwards else steps)
    return reverse_valid(states, lengths) if backwards else states, last_valid(states, lengths)


def last_valid(states: Tensor, lengths: Tensor | None) -> Tensor:
    """Return the state after the last valid step of each sample: (batch, steps, features) -> (batch, features)."""
    if lengths is None:
        return states[:, -1]
    return states[torch.arange(len(states), device=states.device), lengths - 1]


def reverse_valid(sequence: Tensor, lengths: Tensor | None) -> Tensor:
    """Reverse the valid steps of each sample in (batch, steps, width); the padding stays at the end."""
    if lengths is None:
        return sequence.flip(1)
    steps = torch.arange(sequence.shape[1], device=sequence.device)
    places = lengths[:, None] - 1 - steps
    where = torch.where(places >= 0, places, steps)
    return sequence.gather(1, where.unsqueeze(2).expand_as(sequence))
