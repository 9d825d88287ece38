"""Pictures, bars and sounds as parts of a page."""

from __future__ import annotations

import base64
import io
import re
import wave
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from PIL import Image

from trainer.commands.pages.drawings import HEIGHT, MAX_SOUND, draw_bars, draw_lines, draw_picture, draw_sound, to_image


def content_of(html: object) -> bytes:
    found = re.search(r"base64,([^\"]+)", str(html))
    assert found is not None
    return base64.b64decode(found[1])


@pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (2, "L"), (3, "RGB"), (4, "RGB")])
def test_a_picture_keeps_its_pixels(channels: int, mode: str) -> None:
    levels = torch.arange(channels * 6, dtype=torch.uint8).view(channels, 2, 3)
    picture = Image.open(io.BytesIO(content_of(draw_picture(to_image(levels), "small"))))
    assert (picture.mode, picture.size) == (mode, (3, 2))
    assert (np.asarray(picture).reshape(2, 3, -1) == levels[: len(mode)].permute(1, 2, 0).numpy()).all()


def test_bars_go_up_and_down_from_the_middle() -> None:
    svg = ElementTree.fromstring(draw_bars([1.0, -0.5, 0.0], ["<a>", "b", "c"], 96))
    up, down, zero = svg.iter("rect")
    middle, full = HEIGHT / 2, HEIGHT / 2 - 3
    assert (up.get("class"), up.get("y"), up.get("height")) == ("up", f"{middle - full:.2f}", f"{full:.2f}")
    assert (down.get("class"), down.get("y"), down.get("height")) == ("down", f"{middle:.2f}", f"{full / 2:.2f}")
    assert float(zero.get("height", "")) > 0
    assert [title.text for title in svg.iter("title")] == ["<a>", "b", "c"]


def test_a_long_line_keeps_its_extremes() -> None:
    values = np.zeros((10_000, 1), dtype=np.float32)
    values[1234], values[5678] = 7, -7
    svg = ElementTree.fromstring(draw_lines(values, 200, 50))
    (line,) = svg.iter("polyline")
    heights = [float(point.split(",")[1]) for point in line.get("points", "").split()]
    assert len(heights) <= 240
    assert (min(heights), max(heights)) == (3, 47)


def test_a_sound_is_playable_unless_it_is_too_long() -> None:
    with wave.open(io.BytesIO(content_of(draw_sound(torch.tensor([0.0, 1.0, -1.0]), 8000)))) as opened:
        assert opened.getframerate() == 8000
        assert np.frombuffer(opened.readframes(3), "<i2").tolist() == [0, 32767, -32767]
    assert draw_sound(torch.zeros(MAX_SOUND, dtype=torch.int16), 8000) == ""
