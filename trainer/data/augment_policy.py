"""Policies of augmentation without anything to tune: every sample draws its own operations and their strengths."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from trainer.data import image_ops

LEVELS = 31  # that a strength is drawn from, 0 to 30
MOVES = ("shear_x", "shear_y", "shift_x", "shift_y", "rotate")
OPERATIONS = (
    "nothing",
    *MOVES,
    *("brightness", "saturation", "contrast", "sharpness", "posterize", "solarize", "autocontrast", "equalize"),
)


@dataclass(frozen=True)
class Policy:
    """So many of ``OPERATIONS`` one after the other, each as likely, with strengths up to these.

    Args:
        rounds: how many.
        level: of every strength, of 0 to 30; None draws it.
        shear: pixels aside for each pixel away from the corner.
        shift: share of the height or width.
        shift_pixels: but so many pixels at most.
        rotate: degrees.
        enhance: how far the factors of brightness, saturation, contrast and sharpness are from 1.
        bits: that posterize takes away.
    """

    rounds: int
    level: int | None
    shear: float
    shift: float
    shift_pixels: float
    rotate: float
    enhance: float
    bits: int

    num_draws = 3  # of each round: which operation, how strong, which way

    def __call__(self, pictures: Tensor, draws: Tensor) -> Tensor:
        """Change a batch; waits for the device, to compute every operation only for those that drew it.

        Args:
            pictures: (batch, channels, height, width) float32 from 0 to 255.
            draws: (batch, rounds, 3), uniform in [0, 1).
        """
        which = (draws[:, :, 0] * len(OPERATIONS)).long()
        levels = (draws[:, :, 1] * LEVELS).floor() / (LEVELS - 1)
        if self.level is not None:
            levels = torch.full_like(levels, self.level / (LEVELS - 1))
        signs = torch.where(draws[:, :, 2] < 0.5, -1.0, 1.0)
        numbers = torch.arange(len(OPERATIONS), device=which.device)
        counts = (which.unsqueeze(2) == numbers).sum(0).tolist()
        for turn, count in enumerate(counts):
            pictures = self._round(pictures, which[:, turn], levels[:, turn], signs[:, turn], count)
        return pictures

    def _round(self, pictures: Tensor, which: Tensor, levels: Tensor, signs: Tensor, count: list[int]) -> Tensor:
        """One operation each, all samples of an operation at once."""
        last = 1 + len(MOVES)
        sizes = [count[0], sum(count[1:last]), *count[last:]]  # all moves are one look-up
        _, *groups = which.argsort().split(sizes)
        changed = pictures.clone()
        for change, group in zip(self._changes(), groups, strict=True):
            if len(group):
                some, *those = (tensor.index_select(0, group) for tensor in (pictures, which, levels, signs))
                changed.index_copy_(0, group, change(some, *those))
        return changed

    def _changes(self) -> list[Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]]:
        """The moves as one, and the other operations, each of (pictures, which, levels, signs)."""

        def enhance(change: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]:
            return lambda some, _, levels, signs: change(some, 1 + signs * levels * self.enhance)

        return [
            self._move,
            *map(enhance, (image_ops.brightness, image_ops.saturation, image_ops.contrast, image_ops.sharpness)),
            lambda some, _, levels, __: image_ops.posterize(some, 8 - (levels * self.bits).round()),
            lambda some, _, levels, __: image_ops.solarize(some, image_ops.TOP * (1 - levels)),
            lambda some, *_: image_ops.autocontrast(some),
            lambda some, *_: image_ops.equalize(some),
        ]

    def _move(self, pictures: Tensor, which: Tensor, levels: Tensor, signs: Tensor) -> Tensor:
        """Shear from the upper left corner, shift by whole pixels, or turn about the middle."""
        height, width = pictures.shape[2:]
        most = {
            "shear_x": self.shear,
            "shear_y": self.shear,
            "shift_x": min(self.shift * width, self.shift_pixels),
            "shift_y": min(self.shift * height, self.shift_pixels),
            "rotate": math.radians(self.rotate),
        }
        strengths = signs * levels
        shear_x, shear_y, shift_x, shift_y, angle = (
            torch.where(which == OPERATIONS.index(name), strengths * most[name], 0.0) for name in MOVES
        )
        cos, sin = angle.cos(), angle.sin()
        across = (cos, shear_x - sin, shear_x * (height / 2) - shift_x.trunc())
        down = (shear_y + sin, cos, shear_y * (width / 2) - shift_y.trunc())
        return image_ops.look_up(pictures, across, down)


POLICIES = {
    # TrivialAugment (Müller and Hutter 2021), the wide space. Its 32 pixels are all of the CIFARs' pictures.
    "trivial": Policy(rounds=1, level=None, shear=0.99, shift=1.0, shift_pixels=32, rotate=135.0, enhance=0.99, bits=6),
    # RandAugment (Cubuk et al. 2019) with two operations of level 9, as torchvision has it.
    "rand": Policy(
        rounds=2, level=9, shear=0.3, shift=150 / 331, shift_pixels=math.inf, rotate=30.0, enhance=0.9, bits=4
    ),
}
