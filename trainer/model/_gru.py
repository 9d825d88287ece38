"""The steps of a gated recurrent unit on a CPU, with a handwritten backward pass.

Autograd would record a graph of every step and accumulate the gradient of each weight step by step. In this module a
backward step is a few operations, mostly in place, and the gradient of a weight is one matrix product over all steps.
Samples of varying length are packed as in ``torch.nn.utils.rnn.PackedSequence``, so that padding costs nothing.
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
    """Run the steps of the GRU of torch and cuDNN, which applies the reset gate after the product with the state.

    r = σ(x_r + W_r h), z = σ(x_z + W_z h), n = tanh(x_n + r ⊙ (W_n h + b_n)), h' = (1 - z) ⊙ n + z ⊙ h.

    Args:
        inputs: x_r, x_z and x_n including the biases of r and z, packed, (steps of all samples, 3 * hidden).
        weight: W_r, W_z and W_n, (3 * hidden, hidden).
        bias: b_n, (hidden,).
        sizes: for each step, the number of samples that have this step, in descending order.
        backwards: run from the last step of each sample to its first step.

    Returns:
        the state after each step, packed, (steps of all samples, hidden), and the last state of each sample, (batch,
        hidden). Both have the dtype of the weights, also under autocast.
    """
    with torch.autocast(inputs.device.type, enabled=False):
        states: States = _ResetAfterFunction.apply(inputs.to(weight.dtype), weight, bias, sizes, backwards)  # type: ignore[no-untyped-call]
    return states


def reset_before_steps(inputs: Tensor, weight: Tensor, sizes: Sequence[int], backwards: bool) -> States:
    """Run the steps of the GRU as first published, which applies the reset gate to the state before the product.

    r = σ(x_r + W_r h), z = σ(x_z + W_z h), n = tanh(x_n + W_n (r ⊙ h)), h' = (1 - z) ⊙ n + z ⊙ h.

    The arguments and results are those of ``reset_after_steps``, except that the inputs include all biases.
    """
    with torch.autocast(inputs.device.type, enabled=False):
        states: States = _ResetBeforeFunction.apply(inputs.to(weight.dtype), weight, sizes, backwards)  # type: ignore[no-untyped-call]
    return states


class _ResetAfterFunction(Function):
    """The forward and backward pass of ``reset_after_steps``."""

    @staticmethod
    def forward(
        ctx: Any, inputs: Tensor, weight: Tensor, bias: Tensor, sizes: Sequence[int], backwards: bool
    ) -> States:
        """Run all steps, and keep W_n h + b_n for the backward pass."""
        of_candidate = weight[2 * weight.shape[1] :].t()

        def candidate(step: Tensor, reset: Tensor, state: Tensor, kept: Tensor, out: Tensor) -> None:
            torch.addcmul(step, reset, torch.addmm(bias, state, of_candidate, out=kept), out=out)

        return forward_steps(ctx, inputs, weight, sizes, backwards, candidate)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_states: Tensor | None, of_last: Tensor | None) -> tuple[Tensor | None, ...]:
        """Return the gradients of the arguments of ``forward`` from those of its two results."""
        weight, reset, update, products, candidates, before = saved_tensors(ctx)
        steps, hidden = before.shape
        # derivatives of the state with respect to W_n h + b_n and to the preactivations of r, z and n; the loop below
        # multiplies them by the gradient of the state
        factors = before.new_empty(steps, 4, hidden)
        to_product, to_reset, to_update, to_candidate = factors.unbind(1)
        torch.mul(tanh_backward(1 - update, candidates, grad_input=to_candidate), reset, out=to_product)
        sigmoid_backward(products * to_candidate, reset, grad_input=to_reset)
        sigmoid_backward(before - candidates, update, grad_input=to_update)
        turned = torch.cat([weight[2 * hidden :], weight[: 2 * hidden]])
        flat = factors.view(steps, -1)  # the loop turns the derivatives into gradients, step by step
        for rows, of_state in walk_back(ctx, before, of_states, of_last):
            factors[rows].mul_(of_state.unsqueeze(1))
            of_state.mul_(update[rows]).addmm_(flat[rows, : 3 * hidden], turned)
        of_turned = flat[:, : 3 * hidden].t() @ before
        of_weight = torch.cat([of_turned[hidden:], of_turned[:hidden]])
        return flat[:, hidden:], of_weight, flat[:, :hidden].sum(0), None, None


class _ResetBeforeFunction(Function):
    """The forward and backward pass of ``reset_before_steps``."""

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, weight: Tensor, sizes: Sequence[int], backwards: bool) -> States:
        """Run all steps, and keep r ⊙ h for the backward pass."""
        of_candidate = weight[2 * weight.shape[1] :].t()

        def candidate(step: Tensor, reset: Tensor, state: Tensor, kept: Tensor, out: Tensor) -> None:
            torch.addmm(step, torch.mul(reset, state, out=kept), of_candidate, out=out)

        return forward_steps(ctx, inputs, weight, sizes, backwards, candidate)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_states: Tensor | None, of_last: Tensor | None) -> tuple[Tensor | None, ...]:
        """Return the gradients of the arguments of ``forward`` from those of its two results."""
        weight, reset, update, kept, candidates, before = saved_tensors(ctx)
        steps, hidden = before.shape
        to_reset = sigmoid_backward(before, reset)  # to be multiplied by the gradient of r ⊙ h
        gradients = before.new_empty(steps, 3, hidden)  # with respect to the preactivations of r, z and n
        flat, factors = gradients.view(steps, -1), gradients[:, 1:]  # derivatives until the loop multiplies them
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
    """Run all steps of either kind of GRU; the two kinds differ in ``candidate``.

    Args:
        ctx: stores the tensors for the backward pass.
        inputs, weight, sizes, backwards: the arguments of ``reset_after_steps``.
        candidate: called in each step with x_n, r and h, and with two buffers to fill: the value to keep for the
            backward pass, and the preactivation of n. All five are (samples, hidden).
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


def saved_tensors(ctx: Any) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Return the weights and, packed, r, z, the value that ``candidate`` kept, n and the state before each step."""
    weight, gates, kept, candidates, states = ctx.saved_tensors
    reset, update = gates.chunk(2, dim=1)
    return weight, reset, update, kept, candidates, states_before(states, ctx.order)


def walk(sizes: Sequence[int], backwards: bool) -> list[slice]:
    """Return the rows of each step in the packed tensors, in the order in which the steps are computed."""
    order, start = [], 0
    for size in sizes:
        order.append(slice(start, start + size))
        start += size
    return order[::-1] if backwards else order


def resized(state: Tensor, rows: slice) -> Tensor:
    """Return the states of the samples that have the step of ``rows``; the state of an additional sample is zero."""
    more = rows.stop - rows.start - len(state)
    return state[: rows.stop - rows.start] if more <= 0 else torch.cat([state, state.new_zeros(more, state.shape[1])])


def states_before(states: Tensor, order: list[slice]) -> Tensor:
    """Return the state before each step, packed, from the packed states after each step."""
    before = torch.empty_like(states)
    state = states[:0]
    for rows in order:
        state = resized(state, rows)
        before[rows] = state
        state = states[rows]
    return before


def last_states(states: Tensor, order: list[slice]) -> Tensor:
    """Return the state of each sample after the last of its steps, (batch, hidden)."""
    parts, done = [], 0
    for rows in reversed(order):  # each step adds the samples that have no later step
        if rows.stop - rows.start > done:
            parts.append(states[rows][done:])
            done = rows.stop - rows.start
    return torch.cat(parts)


def walk_back(
    ctx: Any, before: Tensor, of_states: Tensor | None, of_last: Tensor | None
) -> Iterator[tuple[slice, Tensor]]:
    """Yield the rows of each step, in reverse order, and the gradient of the states after the step.

    The caller has to change the gradient in place into the gradient of the states before the step.
    """
    gradient = before.new_zeros(ctx.batch, before.shape[1]) if of_last is None else of_last.clone()
    for rows in reversed(ctx.order):
        of_state = gradient[: rows.stop - rows.start]
        if of_states is not None:
            of_state += of_states[rows]
        yield rows, of_state
