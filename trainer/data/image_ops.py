"""Operations on batches of images, with a separate strength for each image.

Images are (batch, channels, height, width) float32 from 0 to 255, and strengths are (batch,) float32. The formulas are
those of Pillow and torchvision, but results are not rounded to integers. The result of an image is bit-identical in any
batch.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

TOP = 255  # the highest value of a pixel
GREY = (0.2989, 0.587, 0.114)  # the weights of red, green and blue: ITU-R BT.601
MIDDLE = 5  # the weight of a pixel in the smoothed image of ``sharpness``; each of its eight neighbours has weight 1


def look_up(images: Tensor, across: tuple[Tensor, Tensor, Tensor], down: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    """Apply an affine transformation with bilinear interpolation; pixels outside of the image are 0.

    The pixel of the result at (x, y) is read from the image at ``across[0] * x + across[1] * y + across[2]`` and
    ``down[0] * x + down[1] * y + down[2]``. Coordinates are in pixels from the centre of the image, to the right and
    downwards.

    Args:
        images: (batch, channels, height, width) of any range.
        across, down: three coefficients each, (batch,).
    """
    height, width = images.shape[2:]
    x, y = (torch.arange(size, device=images.device) - (size - 1) / 2 for size in (width, height))
    places = []
    for (by_x, by_y, by), size in ((across, width), (down, height)):
        place = by_x.view(-1, 1, 1) * x + by_y.view(-1, 1, 1) * y[:, None] + by.view(-1, 1, 1)
        places.append(place * (2 / size))  # for grid_sample the edges of the image are at -1 and 1
    return F.grid_sample(images, torch.stack(places, 3), align_corners=False)


def brightness(images: Tensor, factors: Tensor) -> Tensor:
    """Multiply each image by its factor."""
    return (images * _each(factors)).clamp_(0, TOP)


def contrast(images: Tensor, factors: Tensor) -> Tensor:
    """Multiply the difference between each image and its mean grey level by the factor."""
    grey = _grey(images).floor()  # a sum of integers does not depend on the order of summation
    mean = grey.sum((1, 2, 3), keepdim=True, dtype=torch.int64) / grey[0].numel()
    return _blend(images, mean, factors)


def saturation(images: Tensor, factors: Tensor) -> Tensor:
    """Multiply the difference between each image and its grey version by the factor; grey images stay the same."""
    return _blend(images, _grey(images), factors) if images.shape[1] == len(GREY) else images


def sharpness(images: Tensor, factors: Tensor) -> Tensor:
    """Multiply the difference between each image and its smoothed version by the factor, except at the edges."""
    if min(images.shape[2:]) < 3:
        return images
    smooth, inner = images.clone(), images[:, :, 1:-1, 1:-1]
    rows = images[:, :, :-2] + images[:, :, 1:-1] + images[:, :, 2:]
    around = rows[..., :-2] + rows[..., 1:-1] + rows[..., 2:]
    smooth[:, :, 1:-1, 1:-1] = (around + inner * (MIDDLE - 1)) / (8 + MIDDLE)
    return _blend(images, smooth, factors)


def posterize(images: Tensor, bits: Tensor) -> Tensor:
    """Keep only the highest ``bits`` of the 8 bits of every value."""
    steps = _each(2 ** (8 - bits))
    return (images / steps).floor() * steps


def solarize(images: Tensor, thresholds: Tensor) -> Tensor:
    """Invert the values that are at least as high as the threshold."""
    return torch.where(images >= _each(thresholds), TOP - images, images)


def autocontrast(images: Tensor) -> Tensor:
    """Stretch the values of every channel to 0 … 255; a constant channel stays the same."""
    low, high = images.amin((2, 3), keepdim=True), images.amax((2, 3), keepdim=True)
    spread = high - low
    return torch.where(spread > 0, ((images - low) / (spread / TOP)).clamp(0, TOP), images)


def equalize(images: Tensor) -> Tensor:
    """Equalise the histogram of every channel, as Pillow does.

    The new level of a pixel is the number of darker pixels, divided by the step and rounded. The step is the number of
    pixels below the highest level of the channel, divided by 255 and rounded down. A channel with a step of 0 stays the
    same.
    """
    levels = images.flatten(0, 1).flatten(1).round().long()
    channels = torch.arange(len(levels), device=levels.device)[:, None]
    cells = (levels + channels * (TOP + 1)).flatten()
    counts = _counted(cells, len(levels) * (TOP + 1)).view(-1, TOP + 1)
    step = (levels.shape[1] - counts.gather(1, levels.amax(1, keepdim=True))) // TOP
    darker = counts.cumsum(1) - counts
    table = ((darker + step // 2) // step.clamp_min(1)).clamp_max(TOP).to(images.dtype)
    equal = table.flatten().index_select(0, cells).view(images.shape)
    return torch.where(step.view(*images.shape[:2], 1, 1) > 0, equal, images)


def _counted(cells: Tensor, size: int) -> Tensor:
    """Return how often each number from 0 to ``size`` - 1 occurs in ``cells``, (size,) int64."""
    if cells.device.type == "cpu":
        return cells.bincount(minlength=size)
    return cells.new_zeros(size).index_add_(0, cells, torch.ones_like(cells))  # bincount waits for the device


def _each(strengths: Tensor) -> Tensor:
    return strengths.view(-1, 1, 1, 1)


def _grey(images: Tensor) -> Tensor:
    """Return the grey levels of images, (batch, 1, height, width)."""
    if images.shape[1] != len(GREY):
        return images.mean(1, keepdim=True)
    red, green, blue = images.split(1, 1)
    grey: Tensor = red * GREY[0] + green * GREY[1] + blue * GREY[2]
    return grey


def _blend(images: Tensor, others: Tensor, factors: Tensor) -> Tensor:
    factors = _each(factors)
    return (images * factors).add_(others * (1 - factors)).clamp_(0, TOP)
