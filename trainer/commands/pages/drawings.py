"""Pictures, lines, bars and sounds as parts of a page."""

from __future__ import annotations

import base64
import io
import wave
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from trainer.commands.pages.render import draw

if TYPE_CHECKING:
    from markupsafe import Markup

MAX_POINTS = 240  # of a line; a longer one is drawn as its minima and maxima
MAX_SOUND = 2**19  # bytes of a sound within a page
HEIGHT = 70  # pixels of lines and bars
MARGIN = 3


def to_image(levels: Tensor) -> Image.Image:
    """Return a picture of (channels, height, width) uint8; it is grey unless there are at least three channels."""
    levels = levels[:3] if len(levels) >= 3 else levels[:1]
    pixels = np.ascontiguousarray(levels.permute(1, 2, 0).numpy())
    return Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)


def draw_picture(picture: Image.Image, style: str) -> Markup:
    """Return a picture as HTML, as PNG within the page.

    Args:
        picture: of any size.
        style: its class in the style sheet: small, large or sound, or an empty text.
    """
    with io.BytesIO() as file:
        picture.save(file, "PNG", optimize=True)
        return draw("picture", source=_as_url("image/png", file.getvalue()), style=style)


def draw_sound(samples: Tensor, rate: int) -> Markup | str:
    """Return a player for a sound, 16 bits a sample; nothing for a long sound, which would make the page too large.

    Args:
        samples: (samples,) int16, or floating point from -1 to 1.
        rate: samples a second.
    """
    if samples.dtype != torch.int16:
        samples = (samples * (2**15 - 1)).clamp(-(2**15), 2**15 - 1).to(torch.int16)
    if 2 * len(samples) > MAX_SOUND:
        return ""
    with io.BytesIO() as file:
        with wave.open(file, "wb") as opened:
            opened.setparams((1, 2, rate, len(samples), "NONE", "not compressed"))
            opened.writeframes(samples.contiguous().numpy().tobytes())
        return draw("sound", source=_as_url("audio/wav", file.getvalue()))


def draw_lines(columns: NDArray[np.float32], width: int, height: int = HEIGHT) -> Markup:
    """Return (steps, lines) as SVG, one line for each column."""
    columns = np.nan_to_num(columns)
    if len(columns) > MAX_POINTS:
        pieces = np.array_split(columns, MAX_POINTS // 2)
        columns = np.concatenate([np.stack([piece.min(0), piece.max(0)]) for piece in pieces])
    low, high = float(columns.min()), float(columns.max())
    across = np.linspace(MARGIN, width - MARGIN, len(columns))
    down = height - MARGIN - (columns - low) / max(high - low, 1e-12) * (height - 2 * MARGIN)
    lines = [" ".join(f"{x:.1f},{y:.1f}" for x, y in zip(across, line, strict=True)) for line in down.T]
    return draw("lines", width=width, height=height, title=f"{low:.4g} to {high:.4g}", lines=lines)


def draw_bars(values: Sequence[float], titles: Sequence[str], width: float) -> Markup:
    """Return a bar for each value as SVG, up from the middle for a positive value and down for a negative one.

    Args:
        values: from -1 to 1.
        titles: a text for each bar.
        width: pixels of the drawing.
    """
    return draw("bars", values=values, titles=titles, width=width, height=HEIGHT, margin=MARGIN)


def _as_url(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
