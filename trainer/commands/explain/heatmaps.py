"""Draw attributions: heat maps over pictures and spectrograms, coloured tokens, and bars for numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from markupsafe import Markup
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from trainer.commands.explain.attribution import Attribution, name_columns, name_quantity, name_tokens
from trainer.commands.opened_run import OpenedRun
from trainer.commands.pages.drawings import draw_bars, draw_lines, draw_picture, to_image
from trainer.commands.pages.render import draw
from trainer.commands.pages.samples import MAX_LINES, SMALL, ValueRange, find_value_range
from trainer.data.readers.texts.subwords import SPACE
from trainer.data.readers.texts.tokens import Tokenizer, join_tokens
from trainer.data.readers.texts.vocabulary import UNKNOWN
from trainer.data.sources import Inputs
from trainer.data.table_encoding import TableEncoding

FOR, AGAINST = (213, 94, 0), (0, 114, 178)  # from the palette of Okabe and Ito (2008), for colour-blind readers
MAX_PIXELS = 224  # maximum length of a picture's longer side; a larger picture is shrunk
MAX_FRAMES = 480  # maximum width of the picture of a spectrogram
MAX_TOKENS = 1000
MAX_STEPS = 240  # maximum number of bars of a sequence; in a longer one, a bar is the sum over several steps
MAX_COLUMNS = 20  # maximum number of columns that have a bar
WIDTH = 480  # width in pixels of the drawing of a sequence
QUANTILE = 0.99  # the absolute attributions of a picture that are above this quantile have the full colour


def draw_attributions(
    trained: OpenedRun,
    inputs: Inputs,
    attributions: Sequence[Attribution],
    texts: Sequence[str | None] | None = None,
) -> list[Markup]:
    """Return a figure for each sample, as HTML.

    Args:
        inputs: the raw samples that were given to ``attribute``.
        texts: the text of each sample if available; then the figure shows this text instead of the tokens.
    """
    draw_kind: Callable[[_Explained], Markup] = {
        "image": _draw_picture,
        "spectrogram": _draw_spectrogram,
        "sequence": _draw_sequence,
        "tokens": _draw_text,
        "table": _draw_row,
    }[trained.spec.kind]
    first, limits = inputs[0].cpu(), find_value_range(inputs[0])
    sides = ("more", "less") if trained.spec.task == "regression" else ("for", "against")
    return [
        draw(
            "heatmap",
            drawing=draw_kind(_Explained(trained, raw, attribution, text, limits)),
            sides=sides,
            target=trained.spec.classes[attribution.target],
            caption=_caption(trained, attribution),
        )
        for raw, attribution, text in zip(first, attributions, texts or [None] * len(first), strict=True)
    ]


class _Explained(NamedTuple):
    """A sample, the run that explains it, and what counted in it."""

    trained: OpenedRun
    raw: Tensor  # perhaps with padding
    attribution: Attribution
    text: str | None  # None if it is not available
    limits: ValueRange  # the raw values of a picture that are drawn black and white

    @property
    def values(self) -> Tensor:
        """The attributions, with zero in place of NaN and infinity, which a diverged model may produce."""
        return self.attribution.values.nan_to_num(0, 0, 0)


def _caption(trained: OpenedRun, attribution: Attribution) -> str:
    rough = ""
    if attribution.rough:
        error = abs(attribution.delta) / max(attribution.total, 1e-30)
        rough = f"; too rough: the integral is off by {error:.0%} of all that counted, and needs more steps"
    what = name_quantity(trained)
    return f"{what} {attribution.output:.3g}, of the baseline {attribution.baseline:.3g}{rough}"


def _scale(values: Tensor, quantile: float = 1.0) -> Tensor:
    """Scale values to the range -1 to 1; values whose absolute value exceeds the quantile are clamped."""
    sizes = values.abs().flatten()
    largest = float(np.quantile(sizes.numpy(), quantile)) or float(sizes.max())
    return (values / max(largest, 1e-30)).clamp(-1, 1)


def _lay_over(levels: NDArray[np.float32], strengths: NDArray[np.float32]) -> Image.Image:
    """Return a heat map drawn over a grey picture.

    Args:
        levels: (height, width) grey levels from 0 to 1, which are drawn faded so that the colours are visible.
        strengths: (height, width) scaled attributions from -1 to 1.
    """
    grey = (90 + 165 * levels)[..., None]
    color = np.where(strengths[..., None] >= 0, np.array(FOR), np.array(AGAINST))
    alpha = np.abs(strengths)[..., None]
    return Image.fromarray((grey * (1 - alpha) + color * alpha).round().astype(np.uint8))


# ---- pictures and sounds


def _draw_picture(sample: _Explained) -> Markup:
    """Draw a picture and its heat map.

    The attributions of a large picture are averaged over squares, because those of single pixels look like noise.
    """
    low, high = sample.limits
    pixels = ((sample.raw.float() - low) / max(high - low, 1e-12)).clamp(0, 1)
    pixels = pixels[:3] if len(pixels) >= 3 else pixels[:1]
    values, (height, width) = sample.values[None, None], pixels.shape[1:]
    cell, style = -(-max(height, width) // SMALL), "small"
    if cell > 1:
        style = "large"
        values = F.avg_pool2d(values, cell, ceil_mode=True)
        scale = min(1.0, MAX_PIXELS / max(height, width))
        size = (max(1, round(height * scale)), max(1, round(width * scale)))
        pixels = F.interpolate(pixels[None], size, mode="bilinear", antialias=True)[0].clamp(0, 1)
        values = F.interpolate(values, size, mode="bilinear")
    heat = _lay_over(pixels.mean(0).numpy(), _scale(values[0, 0], QUANTILE).numpy())
    pictures = [draw_picture(each, style) for each in (to_image((pixels * 255).round().byte()), heat)]
    return draw("pictures", pictures=pictures, style="")


def _draw_spectrogram(sample: _Explained) -> Markup:
    """Draw the spectrogram and its heat map; time runs to the right, low bands are at the bottom, loud is dark."""
    read, strengths = sample.attribution.read[0].nan_to_num(), sample.values
    if len(read) > MAX_FRAMES:
        read, strengths = (
            F.adaptive_avg_pool2d(each[None], (MAX_FRAMES, each.shape[1]))[0] for each in (read, strengths)
        )
    low, high = (float(each) for each in np.quantile(read.numpy(), (0.02, 0.98)))
    levels = 1 - ((read - low) / max(high - low, 1e-12)).clamp(0, 1).t().flip(0)
    heat = _lay_over(levels.numpy(), _scale(strengths, QUANTILE).t().flip(0).numpy())
    plain = to_image((levels * 255).round().byte()[None])
    return draw("pictures", pictures=[draw_picture(each, "sound") for each in (plain, heat)], style="sounds")


# ---- texts


def _draw_text(sample: _Explained) -> Markup:
    """Draw the text; the background of a token is the stronger, the larger its absolute attribution is."""
    trained, attribution = sample.trained, sample.attribution
    pieces, rest = _locate(sample.text, name_tokens(trained, attribution, sample.text), trained.preprocessing)
    values, strengths = sample.values.tolist(), _scale(sample.values).tolist()
    tokens = []
    for number, (before, word) in enumerate(pieces[:MAX_TOKENS]):
        is_unknown = "vocabulary" in trained.preprocessing and int(attribution.read[number]) == UNKNOWN
        color = ", ".join(map(str, FOR if strengths[number] >= 0 else AGAINST))
        color = f"{color}, {0.65 * abs(strengths[number]):.3f}"  # red, green, blue, opacity
        title = f"{values[number]:+.3g}{', not in the vocabulary' * is_unknown}"
        tokens.append((before, word, color, title, "unknown" * is_unknown))
    if len(pieces) > MAX_TOKENS:
        rest = f" … and {len(pieces) - MAX_TOKENS:,} more tokens"
    return draw("tokens", tokens=tokens, rest=rest)


def _locate(text: str | None, words: Sequence[str], learned: Mapping[str, Any]) -> tuple[list[tuple[str, str]], str]:
    """Find the tokens in the text.

    Returns:
        for each token, a pair of the text before it and the token itself, both as written; and the text after the last
        token. If the text is not available or does not contain the tokens, the text is that of ``join_tokens``.
    """
    if text is None:
        written = searched = join_tokens(words, learned.get("tokens"))
    else:
        tokenizer = Tokenizer.from_preprocessing(learned)
        written, searched = replace(tokenizer, lowercase=False).normalise(text), tokenizer.normalise(text)
        written = written if len(written) == len(searched) else searched  # a few letters are fewer in lower case
    pieces, end = [], 0
    for word in words:
        shown = word.replace(SPACE, " ").strip() if learned.get("tokens") == "subwords" else word
        start = searched.find(shown, end)
        if start < 0:
            assert text is not None, "a joined text holds its tokens"
            return _locate(None, words, learned)
        pieces.append((written[end:start], written[start : start + len(shown)]))
        end = start + len(shown)
    return pieces, written[end:]


# ---- numbers


def _draw_row(sample: _Explained) -> Markup:
    names = name_columns(sample.trained, len(sample.values))
    encoding = sample.trained.normalise
    if isinstance(encoding, TableEncoding):
        return _draw_effects(names, sample.values.tolist(), encoding.texts(sample.raw))
    return _draw_effects(names, sample.values.tolist(), [f"{value:.4g}" for value in sample.raw.tolist()])


def _draw_sequence(sample: _Explained) -> Markup:
    """Draw the sequence, a bar for each step, and, if there are several columns, a bar for each column."""
    width = sample.values.shape[1]
    is_wave = sample.trained.features is not None
    read = sample.attribution.read
    lines = read.reshape(-1, 1) if is_wave else read[:, :MAX_LINES]
    drawn = draw_lines(lines.float().numpy(), WIDTH) + _draw_steps(sample.values.sum(1))
    if is_wave or width == 1:
        return drawn
    return drawn + _draw_effects(name_columns(sample.trained, width), sample.values.sum(0).tolist())


def _draw_steps(values: Tensor) -> Markup:
    parts = values.tensor_split(min(len(values), MAX_STEPS))
    sums, titles, first = torch.stack([part.sum() for part in parts]), [], 1
    for part, total in zip(parts, sums.tolist(), strict=True):
        name = f"step {first}" if len(part) == 1 else f"steps {first} to {first + len(part) - 1}"
        titles.append(f"{name}: {total:+.3g}")
        first += len(part)
    return draw_bars(_scale(sums).tolist(), titles, WIDTH)


def _draw_effects(names: Sequence[str], values: Sequence[float], inputs: Sequence[str] | None = None) -> Markup:
    """Return a table with a row and a bar for each column, sorted by decreasing absolute attribution.

    ``inputs`` are the formatted values of the columns in the sample; None omits them.
    """
    order = sorted(range(len(values)), key=lambda at: -abs(values[at]))
    largest = max((abs(value) for value in values), default=0) or 1.0
    rows = [
        ([names[at], *([inputs[at]] if inputs else []), f"{values[at]:+.3g}"], values[at]) for at in order[:MAX_COLUMNS]
    ]
    others = order[MAX_COLUMNS:]
    total = f"{sum(values[at] for at in others):+.3g}"
    rest = [f"{len(others):,} more columns", *([""] if inputs else []), total] if others else []
    return draw("effects", rows=rows, largest=largest, rest=rest)
