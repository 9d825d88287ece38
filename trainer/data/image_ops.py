"""Operations on batches of images, with a separate strength for each image.

Images are (batch, channels, height, width) float32 from 0 to 255, and strengths are (batch,) float32. The formulas are
those of Pillow and torchvision, but results are not rounded to whole numbers. The result of an image does not depend on
its batch, not even in the last bit.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

TOP = 255
GREY = (0.2989, 0.587, 0.114)  # the weights of red, green and blue: ITU-R BT.601
MIDDLE = 5  # the weight of a pixel in the smoothed image of sharpness, in which its eight neighbours have weight 1


def look_up(images: Tensor, across: tuple[Tensor, Tensor, Tensor], down: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    """Apply an affine transformation with bilinear interpolation; pixels from outside of the image are 0.

    The pixel (x, y) of the result, in pixels from the middle of the image, is looked up at the place
    ``across[0] * x + across[1] * y + across[2]`` to the right of the middle and
    ``down[0] * x + down[1] * y + down[2]`` below it.

    Args:
        images: (batch, channels, height, width) of any range.
        across, down: three coefficients, (batch,) each.
    """
    height, width = images.shape[2:]
    x, y = (torch.arange(size, device=images.device) - (size - 1) / 2 for size in (width, height))
    places = []
    for (by_x, by_y, by), size in ((across, width), (down, height)):
        place = by_x.view(-1, 1, 1) * x + by_y.view(-1, 1, 1) * y[:, None] + by.view(-1, 1, 1)
        places.append(place * (2 / size))  # grid_sample has edges at -1 and 1
    return F.grid_sample(images, torch.stack(places, 3), align_corners=False)


def brightness(images: Tensor, factors: Tensor) -> Tensor:
    """Multiply each image by its factor."""
    return (images * _each(factors)).clamp_(0, TOP)


def contrast(images: Tensor, factors: Tensor) -> Tensor:
    """Multiply the distance to the mean grey level by the factor."""
    grey = _grey(images).floor()  # the sum of whole numbers does not depend on their order
    mean = grey.sum((1, 2, 3), keepdim=True, dtype=torch.int64) / grey[0].numel()
    return _blend(images, mean, factors)


def saturation(images: Tensor, factors: Tensor) -> Tensor:
    """Multiply the distance to the grey image by the factor; grey images stay the same."""
    return _blend(images, _grey(images), factors) if images.shape[1] == len(GREY) else images


def sharpness(images: Tensor, factors: Tensor) -> Tensor:
    """Multiply the distance to the smoothed image by the factor; the pixels at the edges stay the same."""
    if min(images.shape[2:]) < 3:
        return images
    smooth, inner = images.clone(), images[:, :, 1:-1, 1:-1]
    rows = images[:, :, :-2] + images[:, :, 1:-1] + images[:, :, 2:]
    around = rows[..., :-2] + rows[..., 1:-1] + rows[..., 2:]
    smooth[:, :, 1:-1, 1:-1] = (around + inner * (MIDDLE - 1)) / (8 + MIDDLE)
    return _blend(images, smooth, factors)


def posterize(images: Tensor, bits: Tensor) -> Tensor:
    """Keep only the highest ``bits`` of 8 bits."""
    steps = _each(2 ** (8 - bits))
    return (images / steps).floor() * steps


def solarize(images: Tensor, thresholds: Tensor) -> Tensor:
    """Invert the pixels that are at least as bright as the threshold."""
    return torch.where(images >= _each(thresholds), TOP - images, images)


def autocontrast(images: Tensor) -> Tensor:
    """Stretch every channel to 0 … 255; a channel with a single level stays the same."""
    low, high = images.amin((2, 3), keepdim=True), images.amax((2, 3), keepdim=True)
    spread = high - low
    return torch.where(spread > 0, ((images - low) / (spread / TOP)).clamp(0, TOP), images)


def equalize(images: Tensor) -> Tensor:
    """Equalise the histogram of every channel, by the rule of Pillow.

    The new level of a pixel is the number of darker pixels, in units of 1/255 of the pixels below the highest level.
    A channel with fewer than 255 such pixels stays the same.
    """
    levels = images.flatten(0, 1).flatten(1).round().long()
    channels = torch.arange(len(levels), device=levels.device)[:, None]
    cells = (levels + channels * (TOP + 1)).flatten()
    counts = cells.bincount(minlength=len(levels) * (TOP + 1)).view(-1, TOP + 1)
    step = (levels.shape[1] - counts.gather(1, levels.amax(1, keepdim=True))) // TOP
    darker = counts.cumsum(1) - counts
    table = ((darker + step // 2) // step.clamp_min(1)).clamp_max(TOP).to(images.dtype)
    equal = table.flatten().index_select(0, cells).view(images.shape)
    return torch.where(step.view(*images.shape[:2], 1, 1) > 0, equal, images)


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
