"""Draw pictures, lines and bars, and embed sounds, as HTML for a page."""

from __future__ import annotations

import base64
import io
import wave
from collections.abc import Sequence

import numpy as np
import torch
from markupsafe import Markup
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from trainer.commands.pages.render import draw

MAX_POINTS = 240  # of a line; for a longer line, the minimum and maximum of each piece are drawn
MAX_SOUND = 2**19  # maximum size in bytes of a sound that is embedded in a page
HEIGHT = 70  # height in pixels of lines and bars
MARGIN = 3  # pixels


def to_image(levels: Tensor) -> Image.Image:
    """Convert (channels, height, width) uint8 into a picture: RGB from the first three channels, or else grey."""
    levels = levels[:3] if len(levels) >= 3 else levels[:1]
    pixels = np.ascontiguousarray(levels.permute(1, 2, 0).numpy())
    return Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)


def draw_picture(picture: Image.Image, style: str) -> Markup:
    """Return a picture as HTML, with its PNG data embedded.

    Args:
        style: the class in the style sheet: ``"small"``, ``"large"``, ``"sound"``, or ``""`` for none.
    """
    with io.BytesIO() as file:
        picture.save(file, "PNG", optimize=True)
        return draw("picture", source=_as_url("image/png", file.getvalue()), style=style)


def draw_sound(samples: Tensor, rate: int) -> Markup | str:
    """Return an audio player as HTML with the sound embedded, at 16 bits per sample.

    Return an empty string if the sound has more than ``MAX_SOUND`` bytes, because the page would become too large.

    Args:
        samples: (samples,) int16, or floating point from -1 to 1.
        rate: the sample rate in Hz.
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
    """Draw an array of shape (steps, lines) as SVG, with one line for each column."""
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
    """Draw a bar with a tooltip for each value from -1 to 1 as SVG, upwards from the middle for a positive value."""
    return draw("bars", values=values, titles=titles, width=width, height=HEIGHT, margin=MARGIN)


def _as_url(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
