"""Operations on batches of pictures, each picture with a strength of its own.

Pictures are (batch, channels, height, width) float32 from 0 to 255, strengths (batch,) float32. The formulas are those
of Pillow and torchvision; their fractions are kept, where those cut them to whole numbers. The result of a picture does
not depend on its batch, not even in its last bit.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

TOP = 255
GREY = (0.2989, 0.587, 0.114)  # of red, green and blue: ITU-R BT.601
MIDDLE = 5  # weight of a pixel among its eight neighbours of weight 1, in the mean that sharpness departs from


def look_up(pictures: Tensor, across: tuple[Tensor, Tensor, Tensor], down: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    """Every pixel comes from another place, bilinearly; outside is 0.

    Args:
        pictures: of any range.
        across: (batch,) each: for the pixel x, y of the result, in pixels from the middle, that place is
            ``across[0] * x + across[1] * y + across[2]`` to the right of the middle.
        down: and below it.
    """
    height, width = pictures.shape[2:]
    x, y = (torch.arange(size, device=pictures.device) - (size - 1) / 2 for size in (width, height))
    places = []
    for (by_x, by_y, by), size in ((across, width), (down, height)):
        place = by_x.view(-1, 1, 1) * x + by_y.view(-1, 1, 1) * y[:, None] + by.view(-1, 1, 1)
        places.append(place * (2 / size))  # grid_sample has edges at -1 and 1
    return F.grid_sample(pictures, torch.stack(places, 3), align_corners=False)


def brightness(pictures: Tensor, factors: Tensor) -> Tensor:
    """Times the factor."""
    return (pictures * _each(factors)).clamp_(0, TOP)


def contrast(pictures: Tensor, factors: Tensor) -> Tensor:
    """The distance to the mean grey level times the factor."""
    grey = _grey(pictures).floor()  # whole numbers add up to the same in any order
    mean = grey.sum((1, 2, 3), keepdim=True, dtype=torch.int64) / grey[0].numel()
    return _blend(pictures, mean, factors)


def saturation(pictures: Tensor, factors: Tensor) -> Tensor:
    """The distance to the grey picture times the factor; grey pictures stay as they are."""
    return _blend(pictures, _grey(pictures), factors) if pictures.shape[1] == len(GREY) else pictures


def sharpness(pictures: Tensor, factors: Tensor) -> Tensor:
    """The distance to the smoothed picture times the factor; the outermost pixels stay as they are."""
    if min(pictures.shape[2:]) < 3:
        return pictures
    smooth, inner = pictures.clone(), pictures[:, :, 1:-1, 1:-1]
    rows = pictures[:, :, :-2] + pictures[:, :, 1:-1] + pictures[:, :, 2:]
    around = rows[..., :-2] + rows[..., 1:-1] + rows[..., 2:]
    smooth[:, :, 1:-1, 1:-1] = (around + inner * (MIDDLE - 1)) / (8 + MIDDLE)
    return _blend(pictures, smooth, factors)


def posterize(pictures: Tensor, bits: Tensor) -> Tensor:
    """Only the highest bits of 8."""
    steps = _each(2 ** (8 - bits))
    return (pictures / steps).floor() * steps


def solarize(pictures: Tensor, thresholds: Tensor) -> Tensor:
    """What is as bright as the threshold is inverted."""
    return torch.where(pictures >= _each(thresholds), TOP - pictures, pictures)


def autocontrast(pictures: Tensor) -> Tensor:
    """Every channel stretched to 0 … 255; one of a single level stays as it is."""
    low, high = pictures.amin((2, 3), keepdim=True), pictures.amax((2, 3), keepdim=True)
    spread = high - low
    return torch.where(spread > 0, ((pictures - low) / (spread / TOP)).clamp(0, TOP), pictures)


def equalize(pictures: Tensor) -> Tensor:
    """Every level of a channel about as frequent as the others, by Pillow's rule.

    It moves a level by how many pixels are darker, in steps of 1/255 of those that are not the brightest. Where these
    are less than 255 the channel stays as it is.
    """
    levels = pictures.flatten(0, 1).flatten(1).round().long()
    channels = torch.arange(len(levels), device=levels.device)[:, None]
    cells = (levels + channels * (TOP + 1)).flatten()
    counts = cells.bincount(minlength=len(levels) * (TOP + 1)).view(-1, TOP + 1)
    step = (levels.shape[1] - counts.gather(1, levels.amax(1, keepdim=True))) // TOP
    darker = counts.cumsum(1) - counts
    table = ((darker + step // 2) // step.clamp_min(1)).clamp_max(TOP).to(pictures.dtype)
    equal = table.flatten().index_select(0, cells).view(pictures.shape)
    return torch.where(step.view(*pictures.shape[:2], 1, 1) > 0, equal, pictures)


def _each(strengths: Tensor) -> Tensor:
    return strengths.view(-1, 1, 1, 1)


def _grey(pictures: Tensor) -> Tensor:
    """(batch, 1, height, width)."""
    if pictures.shape[1] != len(GREY):
        return pictures.mean(1, keepdim=True)
    red, green, blue = pictures.split(1, 1)
    grey: Tensor = red * GREY[0] + green * GREY[1] + blue * GREY[2]
    return grey


def _blend(pictures: Tensor, others: Tensor, factors: Tensor) -> Tensor:
    factors = _each(factors)
    return (pictures * factors).add_(others * (1 - factors)).clamp_(0, TOP)
