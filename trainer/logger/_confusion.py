"""Draw a confusion matrix with Pillow, because importing matplotlib would add a second to the end of each run."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

MARGIN, FONT_SIZE, MAX_NAMED = 90, 13, 40


def draw_confusion(counts: Tensor, classes: Sequence[str]) -> Tensor:
    """Draw each count, divided by the sum of its row, as a shade of blue.

    The counts and the class names are printed if there are at most 40 classes.

    Args:
        counts: (classes, classes) integers, [true class, predicted class].
        classes: the names of the classes.

    Returns:
        the RGB image, (3, height, width) uint8.
    """
    num_classes = len(classes)
    cell = 34 if num_classes <= MAX_NAMED else max(1, 1200 // num_classes)
    shares = counts / counts.sum(1, keepdim=True).clamp_min(1)
    size = num_classes * cell + MARGIN + 10
    picture = Image.new("RGB", (size, size), "white")
    draw = ImageDraw.Draw(picture)
    font = ImageFont.load_default(FONT_SIZE)
    for true in range(num_classes):
        for guess in range(num_classes):
            share, left, top = float(shares[true, guess]), MARGIN + guess * cell, MARGIN + true * cell
            shade = tuple(round(255 + (end - 255) * share) for end in (8, 64, 129))
            draw.rectangle((left, top, left + cell - 1, top + cell - 1), fill=shade)
            if num_classes <= MAX_NAMED and counts[true, guess]:
                colour = "white" if share > 0.5 else "black"
                draw.text(
                    (left + cell / 2, top + cell / 2),
                    str(int(counts[true, guess])),
                    fill=colour,
                    font=font,
                    anchor="mm",
                )
    draw.text((MARGIN, 8), "columns: predicted   rows: true", fill="black", font=font)
    if num_classes <= MAX_NAMED:
        for number, name in enumerate(classes):
            middle = MARGIN + number * cell + cell / 2
            draw.text((MARGIN - 6, middle), name[:11], fill="black", font=font, anchor="rm")
            _draw_upwards(picture, (round(middle), MARGIN - 6), name[:8], font)
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1)


def _draw_upwards(
    picture: Image.Image, foot: tuple[int, int], text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont
) -> None:
    """Draw text that reads upwards, centred above ``foot``."""
    strip = Image.new("RGB", (MARGIN - 30, FONT_SIZE + 5), "white")
    ImageDraw.Draw(strip).text((0, 0), text, fill="black", font=font)
    turned = strip.rotate(90, expand=True)
    picture.paste(turned, (foot[0] - turned.width // 2, foot[1] - turned.height))
