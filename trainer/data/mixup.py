"""Mix training images with other training images: mixup and cutmix."""

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
NUM_POINTS = 20001  # the number of points at which the density is evaluated


class MixImages:
    """Blend an image with another image (mixup), or replace a rectangle by that of another image (cutmix).

    If both are on, each sample gets one of them, with probability 1/2 each.

    Args:
        mixup: the weight of the image is drawn from Beta(mixup, mixup) (Zhang et al. 2018); 0 turns mixup off.
        cutmix: the area of the image outside of the rectangle, as a fraction, is drawn from Beta(cutmix, cutmix) (Yun
            et al. 2019); 0 turns cutmix off.
        height, width: the size of the images in pixels.
    """

    def __init__(self, *, mixup: float, cutmix: float, height: int, width: int) -> None:
        self.height, self.width = height, width
        self._quantiles = {
            name: beta_quantiles(alpha) for name, alpha in (("mixup", mixup), ("cutmix", cutmix)) if alpha
        }

    @classmethod
    def from_keys(cls, keys: AugmentKeys, height: int, width: int) -> MixImages | None:
        """Return the mixing of ``dataset.augment``, or None if ``mixup`` and ``cutmix`` are 0."""
        mixup, cutmix = keys["mixup"], keys["cutmix"]
        return cls(mixup=mixup, cutmix=cutmix, height=height, width=width) if mixup or cutmix else None

    def shares(self, draws: SampleRandom) -> Tensor:
        """Return the weight of each sample, (batch,) float32; for cutmix, the exact fraction of the pixels it keeps."""
        return self._plan(draws).shares

    def __call__(self, inputs: Inputs, others: Inputs, draws: SampleRandom) -> Inputs:
        """Mix the images of ``others`` into those of ``inputs``, both (batch, channels, height, width) float32."""
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
        """Convert uniform numbers in [0, 1), (batch,), to numbers from the Beta distribution of ``name``."""
        table = self._quantiles[name] = self._quantiles[name].to(numbers.device)  # copied to the device only once
        return table.index_select(0, (numbers * NUM_QUANTILES).long())

    def _box(self, shares: Tensor, places: Tensor) -> _Plan:
        """Return the plan for rectangles around random pixels, with the aspect ratio of the image and clipped to it."""
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
    shares: Tensor  # (batch,), the weight of each image
    stays: Tensor  # (batch, 1, height, width) or (batch, 1, 1, 1), the weight of each pixel of the image


def beta_quantiles(alpha: float) -> Tensor:
    """Return the quantiles of Beta(alpha, alpha) at the probabilities (i + 0.5) / 4096, (4096,) float32.

    They are computed from the density of log(x / (1 - x)). Unlike that of x, this density has no poles: it is
    proportional to exp(alpha · (log x + log(1 - x))).
    """
    alpha = min(max(alpha, 1e-6), 1e6)  # for a smaller alpha x is practically 0 or 1, for a larger one 1/2
    reach = 21 / alpha + math.sqrt(84 / alpha)  # about e^-21 of the probability lies outside
    logits = np.linspace(-reach, reach, NUM_POINTS)
    density = np.exp(-alpha * (np.logaddexp(0, logits) + np.logaddexp(0, -logits) - 2 * math.log(2)))
    below = (np.cumsum(density) - density / 2) / density.sum()
    middles = (np.arange(NUM_QUANTILES) + 0.5) / NUM_QUANTILES
    return torch.from_numpy(np.interp(middles, below, logits)).sigmoid().float()
