"""Recurrent layers as a model's file for other programs has them: over any number of steps, in operations it can hold.

Traced as they train, they would be as many operations as there are steps, for ever. For ONNX a layer is one operator of
its own (onnx.ai/onnx/operators, LSTM and GRU), for ``torch.export`` a loop over the steps.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trainer.data.data import valid_steps

# How torch orders the gates in its weights, and where ONNX looks for each of them: i o f c, and z r h.
ORDER = {"lstm": (0, 3, 1, 2), "gru": (1, 0, 2), "gru_before": (1, 0, 2)}


@dataclass(frozen=True)
class Direction:
    """The weights of one direction of one layer, gates one below the other in torch's order.

    Args:
        weight_in: (gates * hidden, width), of the inputs.
        weight: (gates * hidden, hidden), of the state.
        bias_in, bias: (gates * hidden,), added to the two products; None is zeros.
    """

    weight_in: Tensor
    weight: Tensor
    bias_in: Tensor
    bias: Tensor | None = None


Kind = Literal["lstm", "gru", "gru_before"]  # the last with the reset gate before the product with the state
State = tuple[Tensor, ...]  # (batch, hidden) each: of a GRU the state, of an LSTM also the cell
Run = Callable[[Kind, Sequence[Direction], Tensor, Tensor | None], tuple[Tensor, Tensor]]


def exported_states(
    kind: Kind, layers: Sequence[Sequence[Direction]], sequence: Tensor, lengths: Tensor | None
) -> Tensor:
    """(batch, steps, width) through layers -> each sample's last valid states, (batch, directions * hidden).

    Args:
        kind: of the layers.
        layers: of each the forward direction, and the backward one where there is one.
        sequence: padded to the longest of ``lengths``.
        lengths: (batch,) int64; None where all steps are valid.
    """
    run: Run = _by_operator if torch.onnx.is_in_onnx_export() else _by_loop
    steps = sequence.transpose(0, 1)
    last = steps
    for directions in layers:
        steps, last = run(kind, directions, steps, lengths)
    return last


def directions_of(layer: nn.RNNBase) -> list[list[Direction]]:
    """The weights of torch's own layers, as ``exported_states`` takes them."""
    weights = [Direction(*each) for each in layer.all_weights]
    number = 1 + layer.bidirectional
    return [weights[at : at + number] for at in range(0, len(weights), number)]


def _by_operator(
    kind: Kind, directions: Sequence[Direction], steps: Tensor, lengths: Tensor | None
) -> tuple[Tensor, Tensor]:
    """(steps, batch, width) through one layer, as ONNX's operator; the states after each step, and the last ones."""
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


def _by_loop(
    kind: Kind, directions: Sequence[Direction], steps: Tensor, lengths: Tensor | None
) -> tuple[Tensor, Tensor]:
    """The same as a loop, in which a sample's state stays as it is while a step is padding."""
    from torch._higher_order_ops.scan import scan  # there is no other loop that torch.export knows

    if lengths is None:
        lengths = torch.full_like(steps[0, :, 0], steps.shape[0], dtype=torch.int64)
    valid = valid_steps(lengths, steps.shape[0]).t().unsqueeze(2)
    states, last = [], []
    for each, backwards in zip(directions, (False, True), strict=False):
        step = _step(kind, each)

        def keep_or_step(state: State, inputs: tuple[Tensor, Tensor], step: Any = step) -> tuple[State, Tensor]:
            now, counts = inputs
            after = tuple(torch.where(counts, new, old) for new, old in zip(step(state, now), state, strict=True))
            return after, after[0].clone()

        hidden = each.weight.shape[1]
        start = tuple(steps.new_zeros(steps.shape[1], hidden) for _ in range(2 if kind == "lstm" else 1))
        inputs = F.linear(steps, each.weight_in, each.bias_in)
        end, after = scan(keep_or_step, start, (inputs, valid), reverse=backwards)
        states.append(after)
        last.append(end[0])
    return torch.cat(states, dim=2), torch.cat(last, dim=1)


def _step(kind: Kind, weights: Direction) -> Callable[[State, Tensor], State]:
    """From a state and (batch, gates * hidden), the inputs times their weights, to the next state.

    The formulas are those of ``torch.nn.LSTM`` and ``torch.nn.GRU``, and of ``reset_before_steps``.
    """
    hidden = weights.weight.shape[1]

    def lstm(state: State, inputs: Tensor) -> State:
        before, cell = state
        gates = inputs + F.linear(before, weights.weight, weights.bias)
        enters, forgets, candidate, leaves = gates.chunk(4, dim=1)
        cell = forgets.sigmoid() * cell + enters.sigmoid() * candidate.tanh()
        return leaves.sigmoid() * cell.tanh(), cell

    def gru(state: State, inputs: Tensor) -> State:
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
