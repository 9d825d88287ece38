"""The parts of recurrent models, which read any data as a sequence and compute outputs from the last valid state."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd import Function
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence

from trainer.model._sequence import as_sequence, autocast_dtype, last_layer, without_autocast
from trainer.spec import Spec

States = tuple[Tensor, Tensor]  # the states after each step, and the state after the last step of each sample
Cell = Callable[[Tensor], States]  # one direction of one layer, which maps the steps to states

# Where torch's layers cannot compute under autocast, or should not: oneDNN has no LSTM in float16, nor in bfloat16 on
# processors without AVX-512, and autocast runs cuDNN in float16 even if its dtype is bfloat16, so that gradients would
# underflow, as only fp16 scales the loss.
UNFIT = {(nn.LSTM, "cpu", torch.float16), (nn.LSTM, "cuda", torch.bfloat16), (nn.GRU, "cuda", torch.bfloat16)}
if torch.backends.mkldnn.is_available() and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
    UNFIT.add((nn.LSTM, "cpu", torch.bfloat16))


class Recurrent(nn.Module):
    """Recurrent layers with a zero initial state, followed by dropout and a linear layer on the last valid state.

    The last step of the backward direction is the first step of the sequence.

    Args:
        spec: the data and the outputs.
        make_layers: called with ``(width, hidden, layers, dropout=…, bidirectional=…, varying=…)``; returns a module
            that maps (batch, steps, width) and lengths to the last states of the last layer, (batch, directions *
            hidden).
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
        self.recurrent = make_layers(
            width, hidden, layers, dropout=between, bidirectional=bidirectional, varying=spec.varying
        )
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
        kind: a subclass of ``CellByCell`` and of a module of torch, whose ``forward`` takes steps and lengths.
        varying: whether the number of steps varies.
        sizes, options: the other arguments of ``kind``.
    """

    def __init__(self, kind: Callable[..., CellByCell], *sizes: int, varying: bool = False, **options: Any) -> None:
        super().__init__()
        self.layer = kind(*sizes, batch_first=True, **options)
        self.layer.varying = varying
        self.kind = nn.LSTM if isinstance(self.layer, nn.LSTM) else nn.GRU

    def forward(self, steps: Tensor, lengths: Tensor | None) -> Tensor:
        """Return the last valid states, (batch, features), for steps (batch, steps, width)."""
        unfit = (self.kind, steps.device.type, autocast_dtype(steps.device)) in UNFIT
        with without_autocast(steps.device) if unfit else contextlib.nullcontext():
            last: Tensor = self.layer(steps.float() if unfit else steps, lengths)
        return last


class CellByCell(nn.RNNBase):
    """The base of subclasses of torch's recurrent modules, which may run on a GPU one direction of one layer at a time.

    Attributes:
        varying: whether the number of steps varies.
    """

    varying = False

    @property
    def by_cell(self) -> bool:
        """Whether a GPU runs each direction of each layer on its own.

        Dropout between layers would otherwise draw from a state within cuDNN that no checkpoint has. Two directions
        of samples of varying length would otherwise be packed, for which the CPU has to read the lengths from the GPU.
        """
        return (self.dropout > 0 and self.num_layers > 1) or (self.varying and self.bidirectional)

    def flatten_parameters(self) -> None:
        """Put the weights that cuDNN reads in one call into one piece of memory."""
        if not self.by_cell:
            super().flatten_parameters()
            return
        kind = nn.LSTM if isinstance(self, nn.LSTM) else nn.GRU
        for weights in itertools.chain.from_iterable(weights_by_layer(self)):
            alone = kind(weights[0].shape[1], self.hidden_size, batch_first=True, device="meta")
            alone._flat_weights = [*weights]
            alone.flatten_parameters()


def run_by_torch(forward: Callable[..., Any], layer: CellByCell, steps: Tensor, lengths: Tensor | None) -> Tensor:
    """Return the last valid states, (batch, features); ``forward`` is the method of the torch class of ``layer``."""
    if layer.by_cell and steps.device.type != "cpu":
        return run_by_cell(layer, steps, lengths)
    if lengths is None:
        return _join_directions(forward(steps)[1], layer)
    if not layer.bidirectional:  # the padding comes later and cannot change the last valid state
        return last_valid(forward(steps)[0], lengths)
    return _join_directions(forward(pack(steps, lengths))[1], layer)


def _join_directions(last: Tensor | tuple[Tensor, Tensor], layer: nn.RNNBase) -> Tensor:
    """Return the last layer's (batch, directions * hidden) from torch's h_n, (layers * directions, batch, hidden)."""
    states = last[0] if isinstance(last, tuple) else last
    return torch.cat(list(states[-1 - layer.bidirectional :]), dim=1)


def run_by_cell(layer: nn.RNNBase, steps: Tensor, lengths: Tensor | None) -> Tensor:
    """Return the last valid states, (batch, features); call torch's kernel for each direction of each layer."""
    cells = make_cells(layer, partial(_torch_cell, layer, lengths))
    return run_layers(steps, cells, layer.dropout * layer.training)


def _torch_cell(layer: nn.RNNBase, lengths: Tensor | None, weights: Sequence[Tensor], backwards: bool) -> Cell:
    """Return a cell for one direction of one layer that runs over padded steps."""

    def forwards(steps: Tensor) -> Tensor:
        zeros = steps.new_zeros(1, len(steps), layer.hidden_size)
        options = (list(weights), True, 1, 0.0, layer.training, False, True)
        states: Tensor
        if isinstance(layer, nn.LSTM):
            states = torch.lstm(steps, (zeros, zeros), *options)[0]
        else:
            states = torch.gru(steps, zeros, *options)[0]
        return states

    return lambda steps: run_padded(forwards, steps, backwards, lengths)


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
    reversed_: Tensor = _Reversed.apply(sequence, torch.where(places >= 0, places, steps).unsqueeze(2))  # type: ignore[no-untyped-call]
    return reversed_


class _Reversed(Function):
    """``gather`` along the steps, where the map of the steps is its own inverse.

    So the gradient is another ``gather``. The deterministic backward pass of ``gather`` itself sorts all indices.
    """

    @staticmethod
    def forward(context: Any, sequence: Tensor, places: Tensor) -> Tensor:
        context.save_for_backward(places)
        return sequence.gather(1, places.expand_as(sequence))

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (places,) = context.saved_tensors
        return gradient.gather(1, places.expand_as(gradient)), None
