"""Augmentation of whole batches of images, with draws of its own for every sample.

The draws of a sample are a pure function of (seed, epoch, position of the sample): neither the batch it is in nor the
process that loads it changes them.
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
from trainer.data.data import Inputs
from trainer.data.random_numbers import SampleRandom

# Of erasing, as Zhong et al. 2020 have it: the rectangle's share of the image, and its height by its width.
LEAST_AREA, MAX_AREA = 0.02, 0.33
MAX_ASPECT = 3.3


class AugmentKeys(TypedDict):
    """The keys under ``dataset.augment`` of an image data set."""

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
    """Turn and grow images, shift and mirror them, change their colors, erase a part; only what is on is computed.

    Args:
        keys: those under ``dataset.augment``; mixing is not done here.
        top: the value of the brightest pixel there can be.
    """

    def __init__(self, keys: AugmentKeys, top: int = image_ops.TOP) -> None:
        self.keys, self.top = keys, top

    @classmethod
    def from_keys(cls, keys: AugmentKeys, top: int = image_ops.TOP) -> Augment | None:
        """The augmentation that ``dataset.augment`` asks for; None where every key is off."""
        on = any(value for key, value in keys.items() if key not in ("mixup", "cutmix"))
        return cls(keys, top) if on else None

    def __call__(self, inputs: Inputs, draws: SampleRandom) -> Inputs:
        """Augment (batch, channels, height, width) raw images; what stays no whole number becomes float32."""
        keys, (images, *rest) = self.keys, inputs
        if keys["rotate"] or keys["scale"]:
            images = turn(images, draws.uniform("turn", 2), rotate=keys["rotate"], scale=keys["scale"])
        if keys["crop"] or keys["flip"]:
            images = shift(images, draws.uniform("shift", 3), crop=keys["crop"], flip=keys["flip"])
        if keys["color"] or keys["policy"] is not None:
            images = self._paint(images, draws)
        if keys["erase"]:
            images = erase(images, draws.uniform("erase", 5), chance=keys["erase"])
        return images, *rest

    def _paint(self, images: Tensor, draws: SampleRandom) -> Tensor:
        """What is said of 8-bit pictures: images of another range are brought to theirs, and back."""
        painted = images.to(torch.float32, copy=True).mul_(image_ops.TOP / self.top)
        if self.keys["color"]:
            painted = recolor(painted, draws.uniform("color", 3), color=self.keys["color"])
        if self.keys["policy"] is not None:
            policy = POLICIES[self.keys["policy"]]
            painted = policy(painted, draws.uniform("policy", policy.rounds, policy.num_draws))
        return painted.mul_(self.top / image_ops.TOP)


def shift(images: Tensor, draws: Tensor, *, crop: int, flip: bool) -> Tensor:
    """Crop out of the padded image, and mirror with probability 1/2: one look-up of whole windows for the batch.

    Args:
        images: (batch, channels, height, width).
        draws: (batch, 3), uniform in [0, 1): down, right, mirror.
        crop: up to so many pixels in each direction; what is uncovered is 0.
        flip: mirror at all.
    """
    batch, channels, height, width = images.shape
    if images.device.type == "mps":  # which would copy all windows there are
        return _shift_by_pixels(images, draws, crop, flip)
    # Each image and its mirror image stand side by side, with zeros around both, so that every result is a window of
    # that: rows are copied as they lie, and there is one index for a sample instead of one for a pixel.
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
    # all windows there are: one begins at each pixel that the last one fits behind
    windows = canvas.as_strided((canvas.numel() - extent, *images.shape[1:]), (1, *strides))
    return windows.index_select(0, first)


def _shift_by_pixels(images: Tensor, draws: Tensor, crop: int, flip: bool) -> Tensor:
    """The same with an index for every pixel."""
    batch, channels, height, width = images.shape
    padded = F.pad(images, [crop] * 4)
    down, right = (draws[:, :2] * (2 * crop + 1)).long().unbind(1)
    columns = torch.arange(width, device=images.device).expand(batch, -1)
    if flip:
        columns = torch.where(draws[:, 2:3] < 0.5, columns.flip(1), columns)
    rows = torch.arange(height, device=images.device) + down[:, None]
    pixels = (rows[:, :, None] * padded.shape[3] + (columns + right[:, None])[:, None, :]).view(batch, 1, -1)
    return padded.flatten(2).gather(2, pixels.expand(-1, channels, -1)).view(images.shape)


def turn(images: Tensor, draws: Tensor, *, rotate: float, scale: float) -> Tensor:
    """Rotate about the middle and resize, bilinearly; outside is 0. Returns float32.

    Args:
        images: (batch, channels, height, width).
        draws: (batch, 2), uniform in [0, 1): angle, size.
        rotate: up to so many degrees either way.
        scale: grow or shrink by up to this fraction.
    """
    angle = (draws[:, 0] * 2 - 1) * math.radians(rotate)
    zoom = 1 + (draws[:, 1] * 2 - 1) * scale
    cos, sin = angle.cos() / zoom, angle.sin() / zoom
    zero = torch.zeros_like(cos)
    return image_ops.look_up(images.float(), (cos, -sin, zero), (sin, cos, zero))


def recolor(images: Tensor, draws: Tensor, *, color: float) -> Tensor:
    """Brightness, then contrast, then the saturation of color images, each times a factor of its own.

    Args:
        images: (batch, channels, height, width) float32 from 0 to 255.
        draws: (batch, 3), uniform in [0, 1): of each.
        color: the factors are up to so far from 1.
    """
    bright, contrast, saturation = (1 + (draws * 2 - 1) * color).unbind(1)
    images = image_ops.contrast(image_ops.brightness(images, bright), contrast)
    return image_ops.saturation(images, saturation)


def erase(images: Tensor, draws: Tensor, *, chance: float) -> Tensor:
    """A rectangle becomes 0, as what a crop uncovers: Zhong et al. 2020.

    Its area is 2 to 33 % of the image's, its height by its width 0.3 to 3.3, each way up as likely; a side that is
    longer than the image is cut.

    Args:
        images: (batch, channels, height, width).
        draws: (batch, 5), uniform in [0, 1): whether, area, aspect, down, right.
        chance: of an image.
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
    return images * ~erased  # to fill where a mask says so takes a CPU twenty times as long
