"""Quantiles of values: the pinball loss, and the quantiles that a run answers with."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from trainer.config import ConfigError
from trainer.loss._values import ValueLoss
from trainer.spec import Spec

MEDIAN = 0.5


class QuantileLoss(ValueLoss):
    """The pinball loss (Koenker and Bassett 1978), averaged over samples, values and quantiles.

    For a target y and the quantile q of level a it is ``a * (y - q)`` if y is above q, else ``(1 - a) * (q - y)``.
    Outputs are (batch, values * levels): the quantiles of each value. They are sorted before anything is made of them,
    which never raises the loss (Chernozhukov et al. 2010), so quantiles do not cross. The scores are the medians.

    Args:
        spec: data with values.
        levels: the levels of the quantiles in ascending order; one of them is 0.5.

    Raises:
        ConfigError: the task is not regression, or the levels are not such.
    """

    levels: Tensor

    def __init__(self, spec: Spec, levels: Sequence[float]) -> None:
        if spec.task != "regression":
            use = "cross_entropy or focal" if spec.task == "classification" else "bce"
            raise ConfigError(f"loss=quantile: needs values; dataset={spec.dataset} is {spec}; use loss={use}")
        shown = f"[{', '.join(f'{level:g}' for level in levels)}]"
        if [*levels] != sorted({*levels}):
            right = f"[{', '.join(f'{level:g}' for level in sorted({*levels}))}]"
            raise ConfigError(f"loss.quantiles: must ascend, each level once, got {shown}; did you mean {right}?")
        if MEDIAN not in levels:
            right = f"[{', '.join(f'{level:g}' for level in sorted({*levels, MEDIAN}))}]"
            raise ConfigError(
                f"loss.quantiles: must hold {MEDIAN}, the median, which is the prediction, got {shown}; "
                f"did you mean {right}?"
            )
        super().__init__(spec, F.l1_loss)
        self.num_outputs, self.of_levels = len(spec.classes) * len(levels), tuple(levels)
        self.register_buffer("levels", torch.tensor(levels, dtype=torch.float32), persistent=False)
        names = column_names(spec, levels)
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise ConfigError(
                f"loss.quantiles: {twice} is the name of a value of dataset={spec.dataset} and of a quantile; "
                "choose other levels"
            )

    def forward(self, outputs: Tensor, targets: Tensor) -> Tensor:
        standard = ((targets.to(self.mean.dtype) - self.mean) / self.std).float()
        over = standard[:, :, None] - self._sorted(outputs)
        return torch.maximum(self.levels * over, (self.levels - 1) * over).mean()

    def quantiles(self, outputs: Tensor) -> Tensor:
        """Return the quantiles in the units of the targets, (batch, values, levels), ascending."""
        std, mean = (each[..., None] if each.ndim else each for each in (self.std, self.mean))
        return self._sorted(outputs) * std + mean

    def scores(self, outputs: Tensor) -> Tensor:
        """Return the medians in the units of the targets, (batch, values)."""
        return self._sorted(outputs)[:, :, self.of_levels.index(MEDIAN)] * self.std + self.mean

    def outputs_of(self, quantiles: Tensor) -> Tensor:
        """Return the outputs (batch, values * levels), float32, that have these quantiles (batch, values, levels)."""
        std, mean = (each[..., None] if each.ndim else each for each in (self.std, self.mean))
        return ((quantiles - mean) / std).flatten(1).float()

    def _sorted(self, outputs: Tensor) -> Tensor:
        # unflatten, as len(outputs) would fix the size of a batch in an exported file
        by_level: Tensor = outputs.unflatten(1, (-1, len(self.of_levels)))
        return by_level.sort(dim=2).values


def column_names(spec: Spec, levels: Sequence[float]) -> list[str]:
    """Return a name for each quantile of each value: ``price_q10``, ``price`` for the median, ``price_q90``."""
    return [
        name if level == MEDIAN else f"{name}_q{float(f'{100 * level:.10g}'):g}"
        for name in spec.classes
        for level in levels
    ]
