"""Raw samples that a caller of ``trainer.load`` passes, as tensors of the right shape."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy.typing as npt
import torch
from torch import Tensor

from trainer.data.readers.tables.given_rows import GivenRows
from trainer.data.sources import Inputs, collate
from trainer.data.table_encoding import OTHER, TableEncoding
from trainer.spec import Spec

# A batch of samples, or their lengths; of a table also rows of cells, by name or in order, or a data frame.
RawInputs = Tensor | npt.NDArray[Any] | Sequence[Any] | Mapping[str, Sequence[Any]]


def as_tensors(
    inputs: RawInputs | tuple[RawInputs, ...], spec: Spec, raw_shape: Sequence[int], *, waves: bool
) -> Inputs:
    """Return a batch of raw samples as tensors; whole numbers of waves and pixels keep their type, others are float32.

    Args:
        inputs: a batch of raw samples; if lengths vary, a tuple of the padded batch and the (batch,) lengths.
        spec: the spec of the model.
        raw_shape: the shape of a raw sample; waves have none.
        waves: whether the samples are waves, from which the run computes features.

    Raises:
        ValueError: the batch has another shape than the samples of the run, or holds no numbers.
    """
    parts = inputs if isinstance(inputs, tuple) else (inputs,)
    shape = ["batch", "samples"] if waves else ["batch", *map(str, raw_shape)]
    varies = waves or spec.varying
    if spec.varying and not waves:
        shape[spec.step_axis] = "steps"
    wanted = f"({', '.join(shape)})" + " and lengths (batch,)" * varies
    try:
        values, *lengths = (torch.as_tensor(part) for part in parts)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"samples: must be numbers of shape {wanted}; {error}") from error
    fits = values.ndim == len(shape) and all(
        length == int(size) for length, size in zip(values.shape, shape, strict=True) if size.isdecimal()
    )
    if not fits or [tuple(each.shape) for each in lengths] != [(len(values),)] * varies:
        got = " and ".join(str(tuple(each.shape)) for each in (values, *lengths))
        raise ValueError(f"samples: must have the shape {wanted}, got {got}")
    if values.dtype == torch.bool or values.is_complex() or (spec.kind == "tokens" and values.is_floating_point()):
        raise ValueError(f"samples: must be {'whole ' * (spec.kind == 'tokens')}numbers, got {values.dtype}")
    tokens = spec.vocabulary if spec.kind == "tokens" and values.numel() else None
    if tokens is not None and not 0 <= int(values.min()) <= int(values.max()) < tokens:
        raise ValueError(f"samples: must be tokens from 0 to {tokens - 1}")
    if not lengths:
        return (_with_dtype(values, spec, waves),)
    steps = values.shape[1 if waves else spec.step_axis]
    count = lengths[0].long()
    if len(count) and not 1 <= int(count.min()) <= int(count.max()) <= steps:
        raise ValueError(f"lengths: must be from 1 to {steps}, the steps of the batch, got {count.tolist()[:8]}")
    return _with_dtype(values, spec, waves), count


def tensors_of_rows(inputs: Any, given: GivenRows, spec: Spec) -> Inputs:
    """Return rows of cells as a batch of raw samples; a sample of a sequence is a list of rows.

    Raises:
        ValueError: a column is missing, or a cell does not fit its column.
    """
    if spec.kind != "sequence":
        return (torch.from_numpy(given.raw(inputs)),)
    if isinstance(inputs, Mapping) or hasattr(inputs, "columns"):
        raise ValueError("samples: must be a list of samples, each of which has its rows")
    samples = [torch.from_numpy(given.raw(sample)) for sample in inputs]
    if not spec.varying and len({*map(len, samples)}) > 1:
        raise ValueError(f"samples: each must have {spec.shape[0]} rows")
    return collate(samples, varying=spec.varying)


def check_codes(values: Tensor, encoding: TableEncoding) -> None:
    """Raise ValueError if raw numbers, (…, raw width), hold something else than the code of a level for a category."""
    at = 0
    for column in encoding.columns:
        if column.kind == "category":
            codes = values[..., at]
            wrong = ~(
                codes.isnan() | (codes == OTHER) | ((codes >= 0) & (codes < len(column.levels)) & (codes % 1 == 0))
            )
            if wrong.any():
                first, last = float(codes[wrong][0]), len(column.levels) - 1
                raise ValueError(
                    f"samples: {column.name}: {first:g} is no code from 0 to {last}, {OTHER:g} (another level) or NaN "
                    "(missing); in lists of rows, cells are texts"
                )
        at += column.raw_width


def _with_dtype(values: Tensor, spec: Spec, waves: bool) -> Tensor:
    """Return the values as float32, except tokens, pixels as bytes, and waves of whole numbers, which have a scale."""
    if spec.kind == "tokens" or values.dtype == torch.uint8 or (waves and not values.is_floating_point()):
        return values
    return values.float()
