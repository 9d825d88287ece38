"""Mixing of training images with other training images: mixup and cutmix."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from trainer.data.augment_images import AugmentKeys
from trainer.data.random_numbers import SampleRandom
from trainer.data.sources import Inputs

NUM_QUANTILES = 4096
NUM_POINTS = 20001  # at which the density is evaluated


class MixImages:
    """Blend an image with its partner (mixup), or paste a box of the partner into the image (cutmix).

    If both are on, each sample gets one of the two with probability 1/2.

    Args:
        mixup: alpha of the distribution Beta(alpha, alpha) of the share that stays (Zhang et al. 2018); 0 is off.
        cutmix: alpha of the distribution of the area that stays (Yun et al. 2019); 0 is off.
        height, width: of the images, in pixels.
    """

    def __init__(self, *, mixup: float, cutmix: float, height: int, width: int) -> None:
        self.height, self.width = height, width
        self._quantiles = {
            name: beta_quantiles(alpha) for name, alpha in (("mixup", mixup), ("cutmix", cutmix)) if alpha
        }

    @classmethod
    def from_keys(cls, keys: AugmentKeys, height: int, width: int) -> MixImages | None:
        """Make the mixing of ``dataset.augment``; return None if mixup and cutmix are 0."""
        mixup, cutmix = keys["mixup"], keys["cutmix"]
        return cls(mixup=mixup, cutmix=cutmix, height=height, width=width) if mixup or cutmix else None

    def shares(self, draws: SampleRandom) -> Tensor:
        """Return the share of each sample that stays, (batch,) float32; for cutmix the exact share of its pixels."""
        return self._plan(draws).shares

    def __call__(self, inputs: Inputs, others: Inputs, draws: SampleRandom) -> Inputs:
        """Mix ``others`` into ``inputs``; both are (batch, channels, height, width) float32 images."""
        (images, *rest), other = inputs, others[0]
        stays = self._plan(draws).stays
        return (images * stays).add_(other * (1 - stays)), *rest

    def _plan(self, draws: SampleRandom) -> _Plan:
        numbers = draws.uniform("mix", 4)
        plans = {}
        if "mixup" in self._quantiles:
            shares = self._draw("mixup", numbers[:, 1])
            plans["mixup"] = _Plan(shares, shares.view(-1, 1, 1, 1))
        if "cutmix" in self._quantiles:
            plans["cutmix"] = self._box(self._draw("cutmix", numbers[:, 1]), numbers[:, 2:])
        if len(plans) == 1:
            return next(iter(plans.values()))
        blends = numbers[:, 0] < 0.5
        mixup, cutmix = plans["mixup"], plans["cutmix"]
        stays = torch.where(blends.view(-1, 1, 1, 1), mixup.stays, cutmix.stays)
        return _Plan(torch.where(blends, mixup.shares, cutmix.shares), stays)

    def _draw(self, name: str, numbers: Tensor) -> Tensor:
        """Turn (batch,) uniform numbers into numbers of the Beta distribution."""
        table = self._quantiles[name] = self._quantiles[name].to(numbers.device)  # once
        return table.index_select(0, (numbers * NUM_QUANTILES).long())

    def _box(self, shares: Tensor, places: Tensor) -> _Plan:
        """Return the plan of a box with the aspect ratio of the image around a random pixel, cut off at the edges."""
        inside = []
        for length, place in ((self.height, places[:, 0]), (self.width, places[:, 1])):
            extent = ((1 - shares).sqrt() * length).floor()
            start = (place * length).floor() - (extent / 2).floor()
            pixels = torch.arange(length, device=shares.device)
            inside.append((pixels >= start[:, None]) & (pixels < (start + extent)[:, None]))
        rows, columns = inside
        stays = ~(rows[:, None, :, None] & columns[:, None, None, :])
        area = self.height * self.width
        return _Plan((area - rows.sum(1) * columns.sum(1)) / area, stays.float())


class _Plan(NamedTuple):
    shares: Tensor  # (batch,), the share of each image that stays
    stays: Tensor  # (batch, 1, height, width) or (batch, 1, 1, 1), the share of each pixel that stays


def beta_quantiles(alpha: float) -> Tensor:
    """Return the quantiles of Beta(alpha, alpha) in the middle of each 1/4096 of probability, (4096,) float32.

    They are computed from the density of log(x / (1 - x)), exp(alpha · (log x + log(1 - x))), which has no poles.
    """
    alpha = min(max(alpha, 1e-6), 1e6)  # beyond these bounds x is practically 0 or 1, or practically 1/2
    reach = 21 / alpha + math.sqrt(84 / alpha)  # about e^-21 of the probability lies outside
    logits = np.linspace(-reach, reach, NUM_POINTS)
    density = np.exp(-alpha * (np.logaddexp(0, logits) + np.logaddexp(0, -logits) - 2 * math.log(2)))
    below = (np.cumsum(density) - density / 2) / density.sum()
    middles = (np.arange(NUM_QUANTILES) + 0.5) / NUM_QUANTILES
    return torch.from_numpy(np.interp(middles, below, logits)).sigmoid().float()
