"""The mean and the deviation of the targets of a regression, and the dtype that keeps their differences."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from trainer.data.data import Data, ReadOptions
from trainer.data.moments import Moments
from trainer.data.sources import Source, Split
from trainer.spec import Spec

LARGEST_EXACT = 2.0**53  # float64 holds all whole numbers up to this one
MIN_DIFFERENT = 2.0**-46  # span of values that float64 tells apart, as a share of their size: 64 to 128 steps


def standardise(data: Data, options: ReadOptions, *, normalise: bool) -> Data:
    """Return a regression with the mean and the deviation of the targets of train in its spec.

    The targets become float32 unless ``Spec.needs_float64``; a finished run keeps its own mean and deviation.

    Args:
        data: a regression whose sources are dataclasses, with targets (samples, values), float64 or float32.
        options: the options with which the data set is read.
        normalise: the key ``dataset.normalise_targets``. If it is false, the spec stays as it is, and targets that
            float32 hardly tells apart are a warning.
    """
    run = options.preprocessing
    if run is not None:
        mean, std = (tuple(run.get(key) or ()) for key in ("target_mean", "target_std"))
        spec = dataclasses.replace(data.spec, target_mean=mean, target_std=std)
        return _with_targets(data, spec, torch.float64 if spec.needs_float64 else torch.float32)
    exact = _measured(data.spec, data.train.targets)
    data = dataclasses.replace(data, warnings=(*data.warnings, *_unlearnable(data)))
    if exact.needs_float64 and normalise:
        return _with_targets(data, exact, torch.float64)
    rounded = _with_targets(data, data.spec, torch.float32)
    if normalise:
        return dataclasses.replace(rounded, spec=_measured(data.spec, rounded.train.targets))
    if exact.needs_float64:
        names = [name for at, name in enumerate(exact.classes) if exact.is_far(at)]
        text = (
            f"the values of {', '.join(names)} are so close to one another that float32 hardly tells them "
            "apart; dataset.normalise_targets=true subtracts their mean first"
        )
        return dataclasses.replace(rounded, warnings=(*rounded.warnings, text))
    return rounded


def _unlearnable(data: Data) -> Iterator[str]:
    """Yield a warning for each value that is the same in all train samples, or too large for differences to be kept."""
    for name, values in zip(data.spec.classes, data.train.targets.double().T, strict=True):
        size, span = values.abs().max(), values.max() - values.min()
        if size >= LARGEST_EXACT and span < MIN_DIFFERENT * size:
            yield f"the values of {name} are so large that float64 hardly tells them apart; subtract the smallest first"
        elif span == 0:
            yield f"{name} is {values[0]:.6g} in every train sample, so that nothing can be learned"


def _measured(spec: Spec, targets: Tensor) -> Spec:
    """Return the spec with the mean and the deviation of targets; the deviation of a constant counts as 1."""
    if targets.dtype == torch.float64:
        moments = Moments()
        moments.add(targets.T)
        mean, std = moments.result()
    else:
        exact = targets.double()
        mean, std = exact.mean(0), exact.std(0, correction=0)
    varies = (targets != targets[:1]).any(0) & (std > 0)
    return dataclasses.replace(
        spec, target_mean=tuple(mean.tolist()), target_std=tuple(torch.where(varies, std, 1.0).tolist())
    )


def _with_targets(data: Data, spec: Spec, dtype: torch.dtype) -> Data:
    """Return the data with another spec, and with targets of another dtype."""
    converted: dict[int, Source] = {}  # by id, as splits may share a source

    def convert(split: Split) -> Split:
        if split.source.targets.dtype == dtype:
            return split
        source: Any = split.source
        new = converted.get(id(source)) or dataclasses.replace(source, targets=source.targets.to(dtype))
        converted[id(source)] = new
        return Split(new, split.positions)

    train, test = convert(data.train), convert(data.test)
    val = None if data.val is None else convert(data.val)
    return dataclasses.replace(data, spec=spec, train=train, val=val, test=test)
