"""Draw samples as HTML for a page: pictures, spectrograms, sequences, rows of tables and texts."""

from __future__ import annotations

import numpy as np
from markupsafe import Markup
from PIL import Image
from torch import Tensor

from trainer.commands.pages.drawings import draw_bars, draw_lines, draw_picture, to_image
from trainer.commands.pages.render import draw
from trainer.data import Data, Normalise
from trainer.data.checks import Survey
from trainer.data.findings import as_text
from trainer.data.readers.texts.vocabulary import UNKNOWN
from trainer.data.sources import Inputs, unpadded
from trainer.data.table_encoding import TableEncoding

MAX_PIXELS = 96  # maximum length of a picture's longer side; a larger picture is shrunk
SMALL = 64  # up to this length of the longer side, a picture is enlarged with each pixel as a square
MAX_STEPS = 400  # maximum width of the picture of a spectrogram; a wider one is shrunk
MAX_LINES = 6  # maximum number of columns of a sequence that are drawn
MAX_BARS = 60  # maximum number of columns of a table that are drawn
MAX_TOKENS = 60
DEVIATIONS = 2.5  # a normalised spectrogram is drawn from white at -2.5 to black at 2.5 standard deviations
WIDTH = 240  # width in pixels of the drawing of a sequence

ValueRange = tuple[float, float]  # the raw value that is drawn black, and the raw value that is drawn white


def find_value_range(raw: Survey | Tensor) -> ValueRange:
    """Return the raw values to draw black and white.

    For uint8 with values above 127 these are 0 and 255; otherwise the minimum, but at most 0, and the maximum.
    """
    if isinstance(raw, Tensor):
        least, most = map(float, raw.aminmax())
        name = str(raw.dtype).removeprefix("torch.")
    else:
        least, most, name = raw.least, raw.most, raw.dtype
    return (0.0, 255.0) if name == "uint8" and most > 127 else (min(least, 0.0), most)


def draw_samples(data: Data, inputs: Inputs, limits: ValueRange) -> list[Markup]:
    """Draw each sample of a batch of model inputs as HTML; ``limits`` are the raw values to draw black and white."""
    if data.spec.kind == "image":
        return _draw_images(data, inputs, limits)
    draw_kind = {
        "spectrogram": _draw_spectrograms,
        "sequence": _draw_sequences,
        "table": _draw_rows,
        "tokens": _draw_texts,
    }[data.spec.kind]
    return draw_kind(data, inputs)


def _draw_images(data: Data, inputs: Inputs, limits: ValueRange) -> list[Markup]:
    values = inputs[0].float()
    if isinstance(data.normalise, Normalise):
        values = values * data.normalise.std.view(-1, 1, 1) + data.normalise.mean.view(-1, 1, 1)
    low, high = limits
    levels = ((values - low) / max(high - low, 1e-12) * 255).round().clamp(0, 255).byte()
    drawn = []
    for each in levels:
        picture = to_image(each)
        style = "small" if max(picture.size) <= SMALL else ""
        picture.thumbnail((MAX_PIXELS, MAX_PIXELS))
        drawn.append(draw_picture(picture, style))
    return drawn


def _draw_spectrograms(data: Data, inputs: Inputs) -> list[Markup]:
    """Draw spectrograms; time runs to the right, low bands are at the bottom, loud is dark."""
    values = inputs[0].float()
    low, high = (-DEVIATIONS, DEVIATIONS) if data.normalise is not None else map(float, values.aminmax())
    levels = (255 - (values - low) / max(high - low, 1e-12) * 255).round().clamp(0, 255).byte()
    drawn = []
    for each in unpadded((levels, *inputs[1:]), data.spec.step_axis):
        picture = Image.fromarray(np.ascontiguousarray(each[0].t().flip(0).numpy()))
        if picture.width > MAX_STEPS:
            picture = picture.resize((MAX_STEPS, picture.height))
        drawn.append(draw_picture(picture, "sound"))
    return drawn


def _draw_sequences(data: Data, inputs: Inputs) -> list[Markup]:
    """Draw a line for each column; for a wave that was divided into steps, draw one line."""
    lines = [each[:, :MAX_LINES] if data.features is None else each.reshape(-1, 1) for each in unpadded(inputs)]
    return [draw_lines(each.float().numpy(), WIDTH) for each in lines]


def _draw_rows(data: Data, inputs: Inputs) -> list[Markup]:
    """Draw a bar for each column, scaled to the largest absolute value in the batch."""
    values = inputs[0].float()[:, :MAX_BARS].nan_to_num()
    most = max(float(values.abs().max()), 1e-12)
    encoded = data.normalise.names if isinstance(data.normalise, TableEncoding) else []
    names = encoded or data.preprocess.get("columns") or list(range(values.shape[1]))
    width = 6 + values.shape[1] * max(4, min(14, 220 // values.shape[1]))
    return [
        draw_bars(
            [value / most for value in row],
            [f"{name}: {value:.4g}" for name, value in zip(names, row, strict=False)],
            width,
        )
        for row in values.tolist()
    ]


def _draw_texts(data: Data, inputs: Inputs) -> list[Markup]:
    """Draw the texts; tokens that are not in the vocabulary are marked."""
    tokens, *lengths = inputs
    cut = tuple(each.clamp_max(MAX_TOKENS) for each in lengths)
    vocabulary = data.preprocess.get("vocabulary")
    texts = as_text(data, (tokens[:, :MAX_TOKENS], *cut))
    return [draw("text", pieces=text.split(vocabulary[UNKNOWN]) if vocabulary else [text]) for text in texts]
