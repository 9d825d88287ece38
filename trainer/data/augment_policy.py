"""Augmentation policies without parameters to tune: every sample draws its own operations and strengths."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from trainer.data import image_ops

LEVELS = 31  # the number of levels of a strength: 0 to 30
MOVES = ("shear_x", "shear_y", "shift_x", "shift_y", "rotate")
OPERATIONS = (
    "nothing",
    *MOVES,
    *("brightness", "saturation", "contrast", "sharpness", "posterize", "solarize", "autocontrast", "equalize"),
)


@dataclass(frozen=True)
class Policy:
    """Apply random ``OPERATIONS`` one after the other; all operations are equally probable.

    Args:
        rounds: the number of operations that are applied to a sample.
        level: the strength of every operation, 0 to 30; None draws a random level for each operation.
        shear: the maximum shear, in pixels per pixel of distance from the upper left corner.
        shift: the maximum shift, as a fraction of the height or width.
        shift_pixels: the maximum shift in pixels.
        rotate: the maximum angle in degrees.
        enhance: the maximum difference between 1 and the factors of brightness, saturation, contrast and sharpness.
        bits: the maximum number of bits that posterize removes.
    """

    rounds: int
    level: int | None
    shear: float
    shift: float
    shift_pixels: float
    rotate: float
    enhance: float
    bits: int

    num_draws = 3  # for each round: the operation, its strength and its direction

    def __call__(self, images: Tensor, draws: Tensor, on_host: Tensor | None = None) -> Tensor:
        """Augment a batch of images.

        Every operation is computed only for the samples that drew it. The CPU has to know how many they are.

        Args:
            images: (batch, channels, height, width) float32 from 0 to 255.
            draws: (batch, rounds, 3), uniform in [0, 1).
            on_host: ``draws`` on the CPU; if None, they are copied from the device, for which the CPU waits.
        """
        which = (draws[:, :, 0] * len(OPERATIONS)).long()
        levels = (draws[:, :, 1] * LEVELS).floor() / (LEVELS - 1)
        if self.level is not None:
            levels = torch.full_like(levels, self.level / (LEVELS - 1))
        signs = torch.where(draws[:, :, 2] < 0.5, -1.0, 1.0)
        drawn = (draws.cpu() if on_host is None else on_host)[:, :, 0] * len(OPERATIONS)
        counts = (drawn.long().unsqueeze(2) == torch.arange(len(OPERATIONS))).sum(0).tolist()
        for turn, count in enumerate(counts):
            images = self._round(images, which[:, turn], levels[:, turn], signs[:, turn], count)
        return images

    def _round(self, images: Tensor, which: Tensor, levels: Tensor, signs: Tensor, count: list[int]) -> Tensor:
        """Apply one operation to each sample; the samples with the same operation are processed as one batch."""
        last = 1 + len(MOVES)
        sizes = [count[0], sum(count[1:last]), *count[last:]]  # all ``MOVES`` are one affine transformation
        _, *groups = which.argsort().split(sizes)
        changed = images.clone()
        for change, group in zip(self._changes(), groups, strict=True):
            if len(group):
                some, *those = (tensor.index_select(0, group) for tensor in (images, which, levels, signs))
                changed.index_copy_(0, group, change(some, *those))
        return changed

    def _changes(self) -> list[Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]]:
        """Return functions of (images, which, levels, signs): one for all ``MOVES``, one for each later operation."""

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

    def _move(self, images: Tensor, which: Tensor, levels: Tensor, signs: Tensor) -> Tensor:
        """Shear relative to the upper left corner, shift by whole pixels, or rotate around the centre."""
        height, width = images.shape[2:]
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
        return image_ops.look_up(images, across, down)


POLICIES = {
    # TrivialAugment (Müller and Hutter 2021), the wide augmentation space. The 32 pixels are the size of a CIFAR image.
    "trivial": Policy(rounds=1, level=None, shear=0.99, shift=1.0, shift_pixels=32, rotate=135.0, enhance=0.99, bits=6),
    # RandAugment (Cubuk et al. 2019) with two operations of level 9, as in torchvision.
    "rand": Policy(
        rounds=2, level=9, shear=0.3, shift=150 / 331, shift_pixels=math.inf, rotate=30.0, enhance=0.9, bits=4
    ),
}
