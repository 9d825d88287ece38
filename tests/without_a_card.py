"""A device without numbers, ``meta``, on which a step shows where it would wait for a GPU.

Code takes the same path on ``meta`` as on a GPU wherever it only asks whether the device is the CPU. Tensors have
shapes, but no numbers, so that the CPU cannot read one.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

aten = torch.ops.aten
META = torch.device("meta")
READS = {aten._local_scalar_dense.default, aten.nonzero.default, aten.is_nonzero.default, aten.bincount.default}
COPIES = {aten._to_copy.default, aten.copy_.default, aten.lift_fresh.default}


class WaitError(AssertionError):
    """An operation would wait for the device, or uses tensors of two devices."""


class _Card(TorchDispatchMode):
    """The checks of ``on_card``."""

    def __torch_dispatch__(
        self, func: Any, types: Sequence[Any], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        options = kwargs or {}
        tensors = [each for each in tree_leaves((args, options)) if isinstance(each, Tensor)]
        here = [each for each in tensors if each.device.type == "meta"]
        target = options.get("device")
        if here and func in READS:
            raise WaitError(f"{func} reads a number from the device")
        if here and func is aten._to_copy.default and target is not None and torch.device(target).type == "cpu":
            if not options.get("non_blocking"):
                raise WaitError(f"{func} copies {tuple(here[0].shape)} from the device")
            return torch.zeros(here[0].shape, dtype=options.get("dtype") or here[0].dtype)
        if not here and tensors and target is not None and torch.device(target).type == "meta":
            if not options.get("non_blocking"):
                raise WaitError(f"{func} copies {tuple(tensors[0].shape)} to the device")
        elif here and func not in COPIES and any(each.device.type == "cpu" and each.ndim for each in tensors):
            raise WaitError(f"{func} uses tensors of two devices")
        elif func is aten.copy_.default and len({each.device.type for each in tensors}) == 2:
            raise WaitError(f"{func} copies {tuple(tensors[0].shape)} between the devices")
        if func is aten.index.Tensor and any(each is not None and each.dtype == torch.bool for each in args[1]):
            raise WaitError(f"{func} chooses by a mask, whose number of values is not known")
        return func(*args, **options)


def on_card() -> AbstractContextManager[Any]:
    """Return a context that raises ``WaitError`` at each operation that would wait for a GPU, or that it would refuse.

    A copy that does not block is no wait; one from the device has zeros instead of numbers.
    """
    card: AbstractContextManager[Any] = _Card()  # type: ignore[no-untyped-call]
    return card
