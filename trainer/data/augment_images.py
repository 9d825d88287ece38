"""Augmentation of whole batches of images, with separate random numbers for every sample.

The random numbers of a sample are a pure function of the seed, the epoch and the sample (see ``Order.keys``). They
depend neither on the other samples of the batch nor on the process that loads the batch.
"""

from __future__ import annotations

import math
from typing import Literal, TypedDict

import torch
import torch.nn.functional as F
from torch import Tensor

from trainer.config import Fraction, NonNegativeFloat, NonNegativeInt, UnitInterval
from trainer.data import image_ops
from trainer.data.augment_policy import POLICIES
from trainer.data.random_numbers import SampleRandom
from trainer.data.sources import Inputs

# Limits of random erasing (Zhong et al. 2020): the area of the rectangle as a fraction of the image; height / width.
LEAST_AREA, MAX_AREA = 0.02, 0.33
MAX_ASPECT = 3.3


class AugmentKeys(TypedDict):
    """The keys of ``dataset.augment`` for an image data set."""

    crop: NonNegativeInt
    flip: bool
    rotate: NonNegativeFloat
    scale: Fraction
    erase: UnitInterval
    color: Fraction
    policy: Literal["trivial", "rand"] | None
    mixup: NonNegativeFloat
    cutmix: NonNegativeFloat


OFF = AugmentKeys(crop=0, flip=False, rotate=0.0, scale=0.0, erase=0.0, color=0.0, policy=None, mixup=0.0, cutmix=0.0)


class Augment:
    """Rotate, scale, shift and mirror images, change their colors, and erase a rectangle; skip steps that are off.

    Args:
        keys: the keys of ``dataset.augment``; ``mixup`` and ``cutmix`` are ignored (see ``MixImages``).
        top: the highest possible value of a pixel.
    """

    def __init__(self, keys: AugmentKeys, top: int = image_ops.TOP) -> None:
        self.keys, self.top = keys, top

    @classmethod
    def from_keys(cls, keys: AugmentKeys, top: int = image_ops.TOP) -> Augment | None:
        """Return the augmentation of ``dataset.augment``, or None if no key except ``mixup`` and ``cutmix`` is on."""
        on = any(value for key, value in keys.items() if key not in ("mixup", "cutmix"))
        return cls(keys, top) if on else None

    def __call__(self, inputs: Inputs, draws: SampleRandom) -> Inputs:
        """Augment raw images, (batch, channels, height, width); some steps convert them to float32."""
        keys, (images, *rest) = self.keys, inputs
        if keys["rotate"] or keys["scale"]:
            images = rotate_and_scale(images, draws.uniform("turn", 2), rotate=keys["rotate"], scale=keys["scale"])
        if keys["crop"] or keys["flip"]:
            images = shift(images, draws.uniform("shift", 3), crop=keys["crop"], flip=keys["flip"])
        if keys["color"] or keys["policy"] is not None:
            images = self._paint(images, draws)
        if keys["erase"]:
            images = erase(images, draws.uniform("erase", 5), chance=keys["erase"])
        return images, *rest

    def _paint(self, images: Tensor, draws: SampleRandom) -> Tensor:
        """Change the colors of images; images of another range than 0 … 255 are scaled to it and back."""
        painted = images.to(torch.float32, copy=True).mul_(image_ops.TOP / self.top)
        if self.keys["color"]:
            painted = change_colors(painted, draws.uniform("color", 3), color=self.keys["color"])
        if self.keys["policy"] is not None:
            policy = POLICIES[self.keys["policy"]]
            drawn = draws.uniform("policy", policy.rounds, policy.num_draws)
            known = drawn if drawn.device.type == "cpu" else draws.on_host.uniform("policy", *drawn.shape[1:])
            painted = policy(painted, drawn, known)
        return painted.mul_(self.top / image_ops.TOP)


def shift(images: Tensor, draws: Tensor, *, crop: int, flip: bool) -> Tensor:
    """Crop a random window of the original size out of the padded image, and mirror it with probability 1/2.

    Args:
        images: (batch, channels, height, width).
        draws: (batch, 3), uniform in [0, 1), for the vertical shift, the horizontal shift and the choice to mirror.
        crop: the maximum shift in pixels, in each direction; zeros fill the gap.
        flip: whether images may be mirrored.
    """
    batch, channels, height, width = images.shape
    if images.device.type == "mps":  # as_strided on mps would copy every possible window
        return _shift_by_pixels(images, draws, crop, flip)
    # The canvas contains each image and its mirror image side by side, with zeros around both, so that every result is
    # a window of the canvas. One index_select copies the windows, with one index per sample instead of one per pixel.
    across = width + crop
    canvas = images.new_zeros(batch, channels, height + 2 * crop, (2 if flip else 1) * across + crop)
    rows = canvas[:, :, crop : crop + height]
    rows[..., crop:across] = images
    down, right, _ = (draws * (2 * crop + 1)).long().unbind(1)
    if flip:
        rows[..., across + crop : 2 * across] = images.flip(3)
        right = torch.where(draws[:, 2] < 0.5, across + 2 * crop - right, right)
    by_sample, *strides = canvas.stride()
    first = torch.arange(0, canvas.numel(), by_sample, device=images.device)
    first.add_(down, alpha=strides[1]).add_(right)
    extent = sum((size - 1) * stride for size, stride in zip(images.shape[1:], strides, strict=True))
    # a view of every possible window: one window begins at each pixel at which a whole window fits
    windows = canvas.as_strided((canvas.numel() - extent, *images.shape[1:]), (1, *strides))
    return windows.index_select(0, first)


def _shift_by_pixels(images: Tensor, draws: Tensor, crop: int, flip: bool) -> Tensor:
    """Return the result of ``shift``, computed with one index for every pixel."""
    batch, channels, height, width = images.shape
    padded = F.pad(images, [crop] * 4)
    down, right = (draws[:, :2] * (2 * crop + 1)).long().unbind(1)
    columns = torch.arange(width, device=images.device).expand(batch, -1)
    if flip:
        columns = torch.where(draws[:, 2:3] < 0.5, columns.flip(1), columns)
    rows = torch.arange(height, device=images.device) + down[:, None]
    pixels = (rows[:, :, None] * padded.shape[3] + (columns + right[:, None])[:, None, :]).view(batch, 1, -1)
    return padded.flatten(2).gather(2, pixels.expand(-1, channels, -1)).view(images.shape)


def rotate_and_scale(images: Tensor, draws: Tensor, *, rotate: float, scale: float) -> Tensor:
    """Rotate around the centre and resize, with bilinear interpolation; pixels outside of the image are 0.

    Args:
        images: (batch, channels, height, width).
        draws: (batch, 2), uniform in [0, 1), for the angle and the size.
        rotate: the maximum angle in degrees, in both directions.
        scale: the maximum change of the size, as a fraction.

    Returns:
        float32 images.
    """
    angle = (draws[:, 0] * 2 - 1) * math.radians(rotate)
    zoom = 1 + (draws[:, 1] * 2 - 1) * scale
    cos, sin = angle.cos() / zoom, angle.sin() / zoom
    zero = torch.zeros_like(cos)
    return image_ops.look_up(images.float(), (cos, -sin, zero), (sin, cos, zero))


def change_colors(images: Tensor, draws: Tensor, *, color: float) -> Tensor:
    """Multiply the brightness, then the contrast, then the saturation by random factors.

    Args:
        images: (batch, channels, height, width) float32 from 0 to 255.
        draws: (batch, 3), uniform in [0, 1), one number for each factor.
        color: the maximum difference between a factor and 1.
    """
    bright, contrast, saturation = (1 + (draws * 2 - 1) * color).unbind(1)
    images = image_ops.contrast(image_ops.brightness(images, bright), contrast)
    return image_ops.saturation(images, saturation)


def erase(images: Tensor, draws: Tensor, *, chance: float) -> Tensor:
    """Set a random rectangle to 0 (Zhong et al. 2020).

    The area of the rectangle is 2 to 33 % of the image, and log(height / width) is uniform between log(1 / 3.3) and
    log(3.3). A side that is longer than the image is shortened to the image.

    Args:
        images: (batch, channels, height, width).
        draws: (batch, 5), uniform in [0, 1), for the choice to erase, the area, height / width, the row and the column.
        chance: the probability that an image gets a rectangle.
    """
    height, width = images.shape[2:]
    area = (LEAST_AREA + draws[:, 1] * (MAX_AREA - LEAST_AREA)) * (height * width)
    aspect = ((draws[:, 2] * 2 - 1) * math.log(MAX_ASPECT)).exp()
    inside = []
    for side, length, draw in ((area * aspect, height, draws[:, 3]), (area / aspect, width, draws[:, 4])):
        extent = side.sqrt().round().clamp(1, length)
        start = (draw * (length - extent + 1)).floor()[:, None]
        places = torch.arange(length, device=images.device)
        inside.append((places >= start) & (places < start + extent[:, None]))
    rows, columns = inside
    rows = rows & (draws[:, :1] < chance)
    erased = rows[:, None, :, None] & columns[:, None, None, :]
    return images * ~erased  # masked_fill takes twenty times as long on a CPU
