"""Recurrent layers for exported models, with a dynamic number of steps.

Tracing the layers that training uses would unroll them to the number of steps of the example. In an exported model, a
layer is therefore one operator in ONNX (onnx.ai/onnx/operators, LSTM and GRU) and a loop over the steps in
``torch.export``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trainer.data.sources import valid_steps
from trainer.model._recurrent import weights_by_layer

# For each gate in ONNX's order (i o f c for an LSTM, z r h for a GRU), the index of the gate in torch's weights.
ORDER = {"lstm": (0, 3, 1, 2), "gru": (1, 0, 2), "gru_before": (1, 0, 2)}


@dataclass(frozen=True)
class Direction:
    """The weights of one direction of one layer, with the gates stacked in torch's order.

    Args:
        weight_in: the weights of the inputs, (gates * hidden, width).
        weight: the weights of the state, (gates * hidden, hidden).
        bias_in: the bias that is added to the product with the inputs, (gates * hidden,).
        bias: the bias that is added to the product with the state, (gates * hidden,); None for zeros.
    """

    weight_in: Tensor
    weight: Tensor
    bias_in: Tensor
    bias: Tensor | None = None


LayerKind = Literal["lstm", "gru", "gru_before"]  # gru_before: a GRU that applies the reset gate before the product
LayerState = tuple[Tensor, ...]  # (state,) of a GRU, or (state, cell) of an LSTM, each (batch, hidden)


def exported_states(
    kind: LayerKind, layers: Sequence[Sequence[Direction]], sequence: Tensor, lengths: Tensor | None
) -> Tensor:
    """Return the state of the last layer after the last valid step of each sample, (batch, directions * hidden).

    The last step of the backward direction is the first step of the sequence.

    Args:
        kind: the kind of all layers.
        layers: for each layer, its forward direction and, if it is bidirectional, its backward direction.
        sequence: (batch, steps, width), padded to the longest of ``lengths``.
        lengths: the number of valid steps of each sample, (batch,) int64; None if all steps are valid.
    """
    run_layer = _run_as_operator if torch.onnx.is_in_onnx_export() else _run_as_loop
    steps = sequence.transpose(0, 1)
    last = steps
    for directions in layers:
        steps, last = run_layer(kind, directions, steps, lengths)
    return last


def directions_of(layer: nn.RNNBase) -> list[list[Direction]]:
    """Return the weights of a recurrent module of torch, as the argument ``layers`` of ``exported_states``."""
    return [[Direction(*each) for each in weights] for weights in weights_by_layer(layer)]


def _run_as_operator(
    kind: LayerKind, directions: Sequence[Direction], steps: Tensor, lengths: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Run one layer over (steps, batch, width) as an ONNX operator.

    Returns:
        the states after each step, (steps, batch, directions * hidden), and the states after the last valid steps,
        (batch, directions * hidden).
    """
    from torch.onnx import ops

    hidden = directions[0].weight.shape[1]
    count, batch, number = steps.shape[0], steps.shape[1], len(directions)

    def stacked(parts: Sequence[Tensor]) -> Tensor:
        return torch.stack([torch.cat([part.chunk(len(ORDER[kind]))[at] for at in ORDER[kind]]) for part in parts])

    biases = [
        stacked([each.bias_in for each in directions]),
        stacked([torch.zeros_like(each.bias_in) if each.bias is None else each.bias for each in directions]),
    ]
    attributes: dict[str, Any] = {"hidden_size": hidden, "direction": "bidirectional" if number == 2 else "forward"}
    if kind != "lstm":
        attributes["linear_before_reset"] = int(kind == "gru")
    states, *last = ops.symbolic_multi_out(
        "LSTM" if kind == "lstm" else "GRU",
        [
            steps,
            stacked([each.weight_in for each in directions]),
            stacked([each.weight for each in directions]),
            torch.cat(biases, dim=1),
            None if lengths is None else lengths.to(torch.int32),
        ],
        attrs=attributes,
        dtypes=[steps.dtype] * (3 if kind == "lstm" else 2),
        shapes=[[count, number, batch, hidden], *[[number, batch, hidden]] * (2 if kind == "lstm" else 1)],
    )
    return states.transpose(1, 2).flatten(2), last[0].transpose(0, 1).flatten(1)


def _run_as_loop(
    kind: LayerKind, directions: Sequence[Direction], steps: Tensor, lengths: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Run one layer over (steps, batch, width) as a loop; padding does not change the state of a sample.

    Returns:
        the states after each step, (steps, batch, directions * hidden), and the states after the last valid steps,
        (batch, directions * hidden).
    """
    from torch._higher_order_ops.scan import scan  # the only loop that torch.export supports

    if lengths is None:
        lengths = torch.full_like(steps[0, :, 0], steps.shape[0], dtype=torch.int64)
    valid = valid_steps(lengths, steps.shape[0]).t().unsqueeze(2)
    states, last = [], []
    for each, backwards in zip(directions, (False, True), strict=False):
        step = _step(kind, each)

        def step_if_valid(
            state: LayerState, inputs: tuple[Tensor, Tensor], step: Any = step
        ) -> tuple[LayerState, Tensor]:
            now, is_valid = inputs
            after = tuple(torch.where(is_valid, new, old) for new, old in zip(step(state, now), state, strict=True))
            return after, after[0].clone()

        hidden = each.weight.shape[1]
        start = tuple(steps.new_zeros(steps.shape[1], hidden) for _ in range(2 if kind == "lstm" else 1))
        inputs = F.linear(steps, each.weight_in, each.bias_in)
        end, after = scan(step_if_valid, start, (inputs, valid), reverse=backwards)
        states.append(after)
        last.append(end[0])
    return torch.cat(states, dim=2), torch.cat(last, dim=1)


def _step(kind: LayerKind, weights: Direction) -> Callable[[LayerState, Tensor], LayerState]:
    """Return a function that maps a state and the weighted inputs, (batch, gates * hidden), to the next state.

    The formulas are those of ``torch.nn.LSTM``, ``torch.nn.GRU`` and, for ``gru_before``, ``reset_before_steps``.
    """
    hidden = weights.weight.shape[1]

    def lstm(state: LayerState, inputs: Tensor) -> LayerState:
        before, cell = state
        gates = inputs + F.linear(before, weights.weight, weights.bias)
        input_gate, forget_gate, candidate, output_gate = gates.chunk(4, dim=1)
        cell = forget_gate.sigmoid() * cell + input_gate.sigmoid() * candidate.tanh()
        return output_gate.sigmoid() * cell.tanh(), cell

    def gru(state: LayerState, inputs: Tensor) -> LayerState:
        (before,) = state
        if kind == "gru":
            products = F.linear(before, weights.weight, weights.bias)
            reset, update = (inputs + products)[:, : 2 * hidden].sigmoid().chunk(2, dim=1)
            product = reset * products[:, 2 * hidden :]
        else:
            products = F.linear(before, weights.weight[: 2 * hidden])
            reset, update = (inputs[:, : 2 * hidden] + products).sigmoid().chunk(2, dim=1)
            product = F.linear(reset * before, weights.weight[2 * hidden :])
        candidate = (inputs[:, 2 * hidden :] + product).tanh()
        return ((1 - update) * candidate + update * before,)

    return lstm if kind == "lstm" else gru
