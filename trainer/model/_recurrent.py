"""What the recurrent classifiers share: any data as a sequence, the last valid step, a linear layer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence

from trainer.model._sequence import as_sequence, last_layer
from trainer.spec import Spec

States = tuple[Tensor, Tensor]  # after each step, and after each sample's last
Cell = Callable[[Tensor], States]


class Recurrent(nn.Module):
    """(batch, steps, width) through recurrent layers from a zero state, last valid state -> dropout -> linear.

    Read in both directions, the last step of the backward one is the first of the sequence.

    Args:
        spec: what it reads and answers.
        make_layers: from the width of a step to a module that maps (batch, steps, width) and lengths to the last
            states (batch, features), both directions side by side.
        features: of those states.
        dropout: before the last layer.
        embedding: width of a token's vector.
    """

    def __init__(
        self,
        spec: Spec,
        make_layers: Callable[[int], nn.Module],
        *,
        features: int,
        dropout: float,
        embedding: int,
    ) -> None:
        super().__init__()
        self.sequence, width = as_sequence(spec, embedding)
        self.recurrent = make_layers(width)
        self.head = nn.Dropout(dropout)
        self.out = last_layer(features, spec)

    def forward(self, inputs: Tensor, lengths: Tensor | None = None) -> Tensor:
        """(batch, …) samples and their lengths, where they vary, -> (batch, ``num_outputs``)."""
        last = self.recurrent(self.sequence(inputs), lengths)
        outputs: Tensor = self.out(self.head(last))
        return outputs


class Layers(nn.Module):
    """Recurrent layers of torch's as the child ``layer``, which is called with (steps, lengths)."""

    def __init__(self, layer: nn.RNNBase) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, steps: Tensor, lengths: Tensor | None) -> Tensor:
        """(batch, steps, width), lengths -> the last valid states, (batch, features)."""
        last: Tensor = self.layer(steps, lengths)
        return last


def by_torch(forward: Callable[..., Any], layer: nn.RNNBase, steps: Tensor, lengths: Tensor | None) -> Tensor:
    """The last valid states of layers, (batch, features), by their own ``forward``."""
    if lengths is None:
        return _side_by_side(forward(steps)[1], layer)
    if not layer.bidirectional:  # the padding comes after what counts
        return last_valid(forward(steps)[0], lengths)
    packed = pack_padded_sequence(steps, lengths.cpu(), batch_first=True, enforce_sorted=False)
    return _side_by_side(forward(packed)[1], layer)


def _side_by_side(last: Tensor | tuple[Tensor, Tensor], layer: nn.RNNBase) -> Tensor:
    """What torch calls h_n, (layers * directions, batch, hidden) -> the last layer's, (batch, directions * hidden)."""
    states = last[0] if isinstance(last, tuple) else last
    return torch.cat(list(states[-1 - layer.bidirectional :]), dim=1)


class Packed(NamedTuple):
    """Samples step by step without padding, the longest first, as in ``torch.nn.utils.rnn.PackedSequence``.

    Args:
        steps: (steps of all samples, width).
        sizes: how many samples have each step.
        places: where each sample of the batch stands among the first; None where all are as long.
    """

    steps: Tensor
    sizes: list[int]
    places: Tensor | None

    @classmethod
    def of(cls, steps: Tensor, lengths: Tensor | None) -> Packed:
        """Of (batch, steps, width) and lengths."""
        if lengths is None:
            return cls(steps.transpose(0, 1).flatten(0, 1), [len(steps)] * steps.shape[1], None)
        packed = pack_padded_sequence(steps, lengths.cpu(), batch_first=True, enforce_sorted=False)
        return cls(packed.data, packed.batch_sizes.tolist(), packed.unsorted_indices)

    def in_order(self, last: Tensor) -> Tensor:
        """(batch, features), sorted as the samples are here, in the batch's own order."""
        return last if self.places is None else last.index_select(0, self.places)


def through(steps: Tensor, cells: Sequence[Sequence[Cell]], dropout: float) -> Tensor:
    """The steps through one layer after the other.

    Args:
        steps: (…, width), as the cells take them.
        cells: of each layer, one for each direction.
        dropout: between the layers, now.

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


def by_direction(layer: nn.RNNBase, make: Callable[[Sequence[Tensor], bool], Cell]) -> list[list[Cell]]:
    """Cells for ``through``, each made of its weights and whether it reads backwards."""
    weights = layer.all_weights
    if not layer.bidirectional:
        return [[make(each, False)] for each in weights]
    return [[make(one, False), make(other, True)] for one, other in zip(weights[::2], weights[1::2], strict=True)]


def padded(forwards: Callable[[Tensor], Tensor], steps: Tensor, backwards: bool, lengths: Tensor | None) -> States:
    """One direction of one layer over (batch, steps, width), by what reads them forwards and has a state after each."""
    states = forwards(turned(steps, lengths) if backwards else steps)
    return turned(states, lengths) if backwards else states, last_valid(states, lengths)


def last_valid(states: Tensor, lengths: Tensor | None) -> Tensor:
    """(batch, steps, features) -> the features of each sample's last valid step, (batch, features)."""
    if lengths is None:
        return states[:, -1]
    return states[torch.arange(len(states), device=states.device), lengths - 1]


def turned(sequence: Tensor, lengths: Tensor | None) -> Tensor:
    """Turn the valid steps of (batch, steps, width) round; what lies beyond them stays."""
    if lengths is None:
        return sequence.flip(1)
    steps = torch.arange(sequence.shape[1], device=sequence.device)
    places = lengths[:, None] - 1 - steps
    where = torch.where(places >= 0, places, steps)
    return sequence.gather(1, where.unsqueeze(2).expand_as(sequence))
