"""Augmentation of whole batches of images, with draws of its own for every sample.

The draws of a sample are a pure function of (seed, epoch, position of the sample): neither the batch it is in nor the
process that loads it changes them.
"""

from __future__ import annotations

import math
from typing import TypedDict

import torch
import torch.nn.functional as F
from torch import Tensor

from trainer.config import Fraction, NonNegativeFloat, NonNegativeInt
from trainer.data import Inputs
from trainer.draws import Draws


class AugmentKeys(TypedDict):
    """The keys under ``dataset.augment`` of an image data set."""

    crop: NonNegativeInt
    flip: bool
    rotate: NonNegativeFloat
    scale: Fraction


class Augment:
    """Shift, mirror, turn and grow images.

    Args:
        crop: shift by up to so many pixels in each direction; what is uncovered is 0.
        flip: mirror left and right with probability 1/2.
        rotate: turn by up to so many degrees either way.
        scale: grow or shrink by up to this fraction.
    """

    num_draws = 5  # down, right, mirror, angle, size

    def __init__(self, *, crop: int, flip: bool, rotate: float, scale: float) -> None:
        self.crop, self.flip, self.rotate, self.scale = crop, flip, rotate, scale

    @classmethod
    def from_keys(cls, keys: AugmentKeys) -> Augment | None:
        """The augmentation that ``dataset.augment`` asks for; None where every key is off."""
        return cls(**keys) if any(keys.values()) else None

    def __call__(self, inputs: Inputs, draws: Draws) -> Inputs:
        """Augment the images of a batch."""
        return self.change(inputs[0], draws.uniform("image", self.num_draws)), *inputs[1:]

    def change(self, images: Tensor, draws: Tensor) -> Tensor:
        """Augment a batch.

        Args:
            images: (batch, channels, height, width), raw.
            draws: (batch, ``num_draws``), uniform in [0, 1).

        Returns:
            as ``images``; float32 where they were turned or resized.
        """
        if self.rotate or self.scale:
            images = self._turn(images.float(), draws)
        if self.crop or self.flip:
            images = self._shift(images, draws)
        return images

    def _shift(self, images: Tensor, draws: Tensor) -> Tensor:
        """Crop out of the padded image, and mirror: one gather for the batch."""
        batch, channels, height, width = images.shape
        padded = F.pad(images, [self.crop] * 4)
        down, right = ((draws[:, :2] * (2 * self.crop + 1)).long()).unbind(1)
        rows = torch.arange(height, device=images.device) + down[:, None]
        columns = torch.arange(width, device=images.device).expand(batch, -1)
        if self.flip:
            columns = torch.where(draws[:, 2:3] < 0.5, columns.flip(1), columns)
        columns = columns + right[:, None]
        pixels = (rows[:, :, None] * padded.shape[3] + columns[:, None, :]).view(batch, 1, -1)
        return padded.flatten(2).gather(2, pixels.expand(-1, channels, -1)).view(images.shape)

    def _turn(self, images: Tensor, draws: Tensor) -> Tensor:
        """Rotate about the middle and resize, bilinearly; outside is 0."""
        angle = (draws[:, 3] * 2 - 1) * math.radians(self.rotate)
        zoom = 1 + (draws[:, 4] * 2 - 1) * self.scale
        height, width = images.shape[2:]
        cos, sin = angle.cos() / zoom, angle.sin() / zoom
        zero = torch.zeros_like(cos)
        # grid coordinates run from -1 to 1 on both axes, so a turn of pixels that are square needs the aspect ratio
        rows = [
            torch.stack([cos, -sin * height / width, zero], 1),
            torch.stack([sin * width / height, cos, zero], 1),
        ]
        grid = F.affine_grid(torch.stack(rows, 1), list(images.shape), align_corners=False)
        return F.grid_sample(images, grid, align_corners=False)
