"""The parts of recurrent classifiers: any data is read as a sequence, and the last valid state classified."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence

from trainer.model._sequence import as_sequence, last_layer
from trainer.spec import Spec

States = tuple[Tensor, Tensor]  # the states after each step, and the state after each sample's last step
Cell = Callable[[Tensor], States]  # one direction of one layer


class Recurrent(nn.Module):
    """Recurrent layers that start from a zero state; dropout and a linear layer follow the last valid state.

    The last step of a backward direction is the first step of the sequence.

    Args:
        spec: the data and the outputs.
        make_layers: called with ``(width, hidden, layers, dropout=…, bidirectional=…)``; returns a module from
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
        """Return (batch, ``num_outputs``) for samples (batch, …) and, if the number of steps varies, their lengths."""
        last = self.recurrent(self.sequence(inputs), lengths)
        outputs: Tensor = self.out(self.head(last))
        return outputs


class Layers(nn.Module):
    """Recurrent layers of torch as the child ``layer``.

    Args:
        kind: a subclass of a recurrent module whose ``forward`` takes steps and lengths.
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
    """Return the last valid states, (batch, features), by ``forward`` of the torch class of ``layer``."""
    if lengths is None:
        return _join_directions(forward(steps)[1], layer)
    if not layer.bidirectional:  # padding follows the last valid step and cannot change the state there
        return last_valid(forward(steps)[0], lengths)
    packed = pack_padded_sequence(steps, lengths.cpu(), batch_first=True, enforce_sorted=False)
    return _join_directions(forward(packed)[1], layer)


def _join_directions(last: Tensor | tuple[Tensor, Tensor], layer: nn.RNNBase) -> Tensor:
    """Convert torch's h_n, (layers * directions, batch, hidden), to the last layer's (batch, directions * hidden)."""
    states = last[0] if isinstance(last, tuple) else last
    return torch.cat(list(states[-1 - layer.bidirectional :]), dim=1)


class Packed(NamedTuple):
    """Samples step by step without padding, the longest first, as in ``torch.nn.utils.rnn.PackedSequence``.

    Args:
        steps: the valid steps of all samples, (steps of all samples, width).
        sizes: the number of samples that have each step.
        places: the position of each sample of the batch after sorting by length; None if all lengths are equal.
    """

    steps: Tensor
    sizes: list[int]
    places: Tensor | None

    @classmethod
    def of(cls, steps: Tensor, lengths: Tensor | None) -> Packed:
        """Pack steps (batch, steps, width) with their lengths, (batch,) or None."""
        if lengths is None:
            return cls(steps.transpose(0, 1).flatten(0, 1), [len(steps)] * steps.shape[1], None)
        packed = pack_padded_sequence(steps, lengths.cpu(), batch_first=True, enforce_sorted=False)
        return cls(packed.data, packed.batch_sizes.tolist(), packed.unsorted_indices)

    def in_order(self, last: Tensor) -> Tensor:
        """Bring states (batch, features), sorted by length, back into the order of the batch."""
        return last if self.places is None else last.index_select(0, self.places)


def run_layers(steps: Tensor, cells: Sequence[Sequence[Cell]], dropout: float) -> Tensor:
    """Run the steps through one layer after the other.

    Args:
        steps: (…, width), packed or padded as the cells expect.
        cells: for each layer, one cell for each direction.
        dropout: the probability between the layers; 0 in evaluation.

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


def make_cells(layer: nn.RNNBase, make: Callable[[Sequence[Tensor], bool], Cell]) -> list[list[Cell]]:
    """Return the cells of a module of torch for ``run_layers``; ``make`` gets the weights and True for backwards."""
    weights = layer.all_weights
    if not layer.bidirectional:
        return [[make(each, False)] for each in weights]
    return [[make(one, False), make(other, True)] for one, other in zip(weights[::2], weights[1::2], strict=True)]


def run_padded(forwards: Callable[[Tensor], Tensor], steps: Tensor, backwards: bool, lengths: Tensor | None) -> States:
    """Run one direction of one layer over padded steps, (batch, steps, width).

    Args:
        forwards: returns the state after each step, in forward direction.
        steps: padded to the longest of ``lengths``.
        backwards: run from each sample's last valid step to its first.
        lengths: valid steps of each sample, (batch,); None if all steps are valid.
    """
    states = forwards(reverse_valid(steps, lengths) if backwards else steps)
    return reverse_valid(states, lengths) if backwards else states, last_valid(states, lengths)


def last_valid(states: Tensor, lengths: Tensor | None) -> Tensor:
    """Return the features of each sample's last valid step: (batch, steps, features) -> (batch, features)."""
    if lengths is None:
        return states[:, -1]
    return states[torch.arange(len(states), device=states.device), lengths - 1]


def reverse_valid(sequence: Tensor, lengths: Tensor | None) -> Tensor:
    """Reverse the valid steps of (batch, steps, width); the padding stays in place."""
    if lengths is None:
        return sequence.flip(1)
    steps = torch.arange(sequence.shape[1], device=sequence.device)
    places = lengths[:, None] - 1 - steps
    where = torch.where(places >= 0, places, steps)
    return sequence.gather(1, where.unsqueeze(2).expand_as(sequence))
