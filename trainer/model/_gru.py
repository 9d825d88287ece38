"""The steps of a gated recurrent unit on a CPU, with their backward pass written by hand.

Autograd keeps a graph of every step and adds up the gradient of each weight step by step. Here a step back is three
operations in place, and the gradient of a weight is one product over all steps. Samples of varying length lie packed,
as in ``torch.nn.utils.rnn.PackedSequence``, so that no step is computed for padding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from trainer.model._recurrent import States

sigmoid_backward, tanh_backward = torch.ops.aten.sigmoid_backward, torch.ops.aten.tanh_backward


def reset_after_steps(inputs: Tensor, weight: Tensor, bias: Tensor, sizes: Sequence[int], backwards: bool) -> States:
    """The steps of torch's and cuDNN's GRU: the reset gate acts after the product with the state.

    r = σ(x_r + W_r h), z = σ(x_z + W_z h), n = tanh(x_n + r ⊙ (W_n h + b_n)), h' = (1 - z) ⊙ n + z ⊙ h.

    Args:
        inputs: (steps of all samples, 3 * hidden): x_r, x_z, x_n with the biases of the gates, packed.
        weight: (3 * hidden, hidden): W_r, W_z, W_n.
        bias: (hidden,): b_n.
        sizes: how many samples have each step; they become less.
        backwards: from each sample's last step to its first.

    Returns:
        the state after each step, (steps of all samples, hidden), packed; and each sample's last one, (batch, hidden);
        in the precision of the weights, also under autocast.
    """
    with torch.autocast(inputs.device.type, enabled=False):
        states: States = _ResetAfter.apply(inputs.to(weight.dtype), weight, bias, sizes, backwards)  # type: ignore[no-untyped-call]
    return states


def reset_before_steps(inputs: Tensor, weight: Tensor, sizes: Sequence[int], backwards: bool) -> States:
    """The steps of the GRU as first published: the reset gate acts on the state before the product.

    r = σ(x_r + W_r h), z = σ(x_z + W_z h), n = tanh(x_n + W_n (r ⊙ h)), h' = (1 - z) ⊙ n + z ⊙ h.

    Takes and returns what ``reset_after_steps`` does, with all biases in the inputs.
    """
    with torch.autocast(inputs.device.type, enabled=False):
        states: States = _ResetBefore.apply(inputs.to(weight.dtype), weight, sizes, backwards)  # type: ignore[no-untyped-call]
    return states


class _ResetAfter(Function):
    """``reset_after_steps``."""

    @staticmethod
    def forward(
        ctx: Any, inputs: Tensor, weight: Tensor, bias: Tensor, sizes: Sequence[int], backwards: bool
    ) -> States:
        """What is kept for the backward pass is W_n h + b_n."""
        of_candidate = weight[2 * weight.shape[1] :].t()

        def candidate(step: Tensor, reset: Tensor, state: Tensor, kept: Tensor, out: Tensor) -> None:
            torch.addcmul(step, reset, torch.addmm(bias, state, of_candidate, out=kept), out=out)

        return forward_steps(ctx, inputs, weight, sizes, backwards, candidate)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_states: Tensor | None, of_last: Tensor | None) -> tuple[Tensor | None, ...]:
        """Of the states, and of the last ones -> of each argument of ``forward``."""
        weight, reset, update, products, candidates, before = recalled(ctx)
        steps, hidden = before.shape
        # what each step multiplies the gradient of its state with, for W_n h + b_n, r, z, and n before their functions
        factors = before.new_empty(steps, 4, hidden)
        to_product, to_reset, to_update, to_candidate = factors.unbind(1)
        torch.mul(tanh_backward(1 - update, candidates, grad_input=to_candidate), reset, out=to_product)
        sigmoid_backward(products * to_candidate, reset, grad_input=to_reset)
        sigmoid_backward(before - candidates, update, grad_input=to_update)
        turned = torch.cat([weight[2 * hidden :], weight[: 2 * hidden]])
        flat = factors.view(steps, -1)  # soon the gradients
        for rows, of_state in walk_back(ctx, before, of_states, of_last):
            factors[rows].mul_(of_state.unsqueeze(1))
            of_state.mul_(update[rows]).addmm_(flat[rows, : 3 * hidden], turned)
        of_turned = flat[:, : 3 * hidden].t() @ before
        of_weight = torch.cat([of_turned[hidden:], of_turned[:hidden]])
        return flat[:, hidden:], of_weight, flat[:, :hidden].sum(0), None, None


class _ResetBefore(Function):
    """``reset_before_steps``."""

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, weight: Tensor, sizes: Sequence[int], backwards: bool) -> States:
        """What is kept for the backward pass is r ⊙ h."""
        of_candidate = weight[2 * weight.shape[1] :].t()

        def candidate(step: Tensor, reset: Tensor, state: Tensor, kept: Tensor, out: Tensor) -> None:
            torch.addmm(step, torch.mul(reset, state, out=kept), of_candidate, out=out)

        return forward_steps(ctx, inputs, weight, sizes, backwards, candidate)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_states: Tensor | None, of_last: Tensor | None) -> tuple[Tensor | None, ...]:
        """Of the states, and of the last ones -> of each argument of ``forward``."""
        weight, reset, update, kept, candidates, before = recalled(ctx)
        steps, hidden = before.shape
        to_reset = sigmoid_backward(before, reset)  # of the gradient of r ⊙ h
        gradients = before.new_empty(steps, 3, hidden)  # for r, z, and n before their functions
        flat, factors = gradients.view(steps, -1), gradients[:, 1:]  # of the state's, until that is known
        to_update, to_candidate = factors.unbind(1)
        sigmoid_backward(before - candidates, update, grad_input=to_update)
        tanh_backward(1 - update, candidates, grad_input=to_candidate)
        of_gates, of_candidate = weight[: 2 * hidden], weight[2 * hidden :]
        for rows, of_state in walk_back(ctx, before, of_states, of_last):
            factors[rows].mul_(of_state.unsqueeze(1))
            of_kept = flat[rows, 2 * hidden :] @ of_candidate
            torch.mul(of_kept, to_reset[rows], out=flat[rows, :hidden])
            of_state.mul_(update[rows]).addcmul_(of_kept, reset[rows]).addmm_(flat[rows, : 2 * hidden], of_gates)
        of_weight = torch.cat([flat[:, : 2 * hidden].t() @ before, flat[:, 2 * hidden :].t() @ kept])
        return flat, of_weight, None, None


def forward_steps(
    ctx: Any,
    inputs: Tensor,
    weight: Tensor,
    sizes: Sequence[int],
    backwards: bool,
    candidate: Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], None],
) -> States:
    """The forward pass of both kinds, which differ in the candidate.

    Args:
        ctx: keeps what the backward pass needs.
        inputs, weight, sizes, backwards: as ``reset_after_steps`` has them.
        candidate: called in each step with x_n, r, h, and where it puts what it keeps, and n before its tanh, each
            (samples, hidden).
    """
    hidden = weight.shape[1]
    of_gates = weight[: 2 * hidden].t()
    gates, kept, candidates, states = (
        inputs.new_empty(len(inputs), width) for width in (2 * hidden, hidden, hidden, hidden)
    )
    order, state = walk(sizes, backwards), inputs.new_zeros(0, hidden)
    for rows in order:
        state = resized(state, rows)
        step, both, new = inputs[rows], gates[rows], candidates[rows]
        torch.addmm(step[:, : 2 * hidden], state, of_gates, out=both).sigmoid_()
        candidate(step[:, 2 * hidden :], both[:, :hidden], state, kept[rows], new)
        state = torch.lerp(new.tanh_(), state, both[:, hidden:], out=states[rows])
    ctx.save_for_backward(weight, gates, kept, candidates, states)
    ctx.order, ctx.batch = order, sizes[0]
    ctx.set_materialize_grads(False)
    return states, last_states(states, order)


def recalled(ctx: Any) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """What ``forward_steps`` has kept: the weights; r, z, what ``candidate`` keeps, n, and h before it, all packed."""
    weight, gates, kept, candidates, states = ctx.saved_tensors
    reset, update = gates.chunk(2, dim=1)
    return weight, reset, update, kept, candidates, states_before(states, ctx.order)


def walk(sizes: Sequence[int], backwards: bool) -> list[slice]:
    """Where the samples of each step lie among what is packed, in the order in which steps are computed."""
    order, start = [], 0
    for size in sizes:
        order.append(slice(start, start + size))
        start += size
    return order[::-1] if backwards else order


def resized(state: Tensor, rows: slice) -> Tensor:
    """The states of the samples that have the next step; a sample that begins there has zeros."""
    more = rows.stop - rows.start - len(state)
    return state[: rows.stop - rows.start] if more <= 0 else torch.cat([state, state.new_zeros(more, state.shape[1])])


def states_before(states: Tensor, order: list[slice]) -> Tensor:
    """The states that each step began with, packed as those after it."""
    before = torch.empty_like(states)
    state = states[:0]
    for rows in order:
        state = resized(state, rows)
        before[rows] = state
        state = states[rows]
    return before


def last_states(states: Tensor, order: list[slice]) -> Tensor:
    """(batch, hidden): the state of each sample after the last of its steps."""
    parts, done = [], 0
    for rows in reversed(order):  # samples that have no later step, the longest first
        if rows.stop - rows.start > done:
            parts.append(states[rows][done:])
            done = rows.stop - rows.start
    return torch.cat(parts)


def walk_back(
    ctx: Any, before: Tensor, of_states: Tensor | None, of_last: Tensor | None
) -> Iterator[tuple[slice, Tensor]]:
    """The steps in reverse, each with the gradient of its states, which its user turns into that of those before."""
    gradient = before.new_zeros(ctx.batch, before.shape[1]) if of_last is None else of_last.clone()
    for rows in reversed(ctx.order):
        of_state = gradient[: rows.stop - rows.start]
        if of_states is not None:
            of_state += of_states[rows]
        yield rows, of_state
