"""What counted in a sample, drawn: heat maps over pictures and spectrograms, marked words, bars of steps, columns."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from trainer.commands.data.page import plot, png, shades
from trainer.commands.explain.attribution import Attribution, columns, quantity, tokens
from trainer.commands.opened_run import OpenedRun
from trainer.data.checks import UNKNOWN
from trainer.data.data import Inputs

FOR, AGAINST = (213, 94, 0), (0, 114, 178)  # of Okabe and Ito 2008: everybody can tell them apart
SMALL = 64  # pixels of a picture's longer side up to which each is drawn as a square of its own
MAX_PIXELS = 224  # of a picture's longer side; larger ones are shrunk
MAX_FRAMES = 480  # of a spectrogram's picture
MAX_TOKENS = 1000
MAX_STEPS = 240  # bars of a sequence; of more steps each stands for some
MAX_COLUMNS = 20  # that have a bar
MAX_LINES = 6  # columns of a sequence that are drawn
WIDTH, HEIGHT = 480, 70  # of the drawing of a sequence
BRIGHTEST = 0.99  # the share of a picture's attributions that are not drawn in full strength

STYLE = f"""
.heat {{ --for: rgb{FOR}; --against: rgb{AGAINST}; margin: .25rem 0; min-width: 0; }}
.heat figcaption {{ color: #5b6570; font-size: .85rem; max-width: none; overflow-wrap: anywhere; }}
.heat figcaption b {{ color: #1c2127; }}
.heat .drawn {{ display: flex; flex-wrap: wrap; gap: .4rem; margin-bottom: .2rem; }}
.heat .drawn.sounds {{ display: grid; gap: .25rem; max-width: 32rem; }}
.heat img {{ display: block; border: 1px solid #d5dadf; max-width: 100%; box-sizing: border-box; }}
.heat img.small {{ width: 12rem; image-rendering: pixelated; }} .heat img.large {{ width: 14rem; }}
.heat .drawn img.small, .heat .drawn img.large {{ max-width: calc(50% - .2rem); }}
.heat img.sound {{ width: 100%; height: 7rem; max-width: none; image-rendering: auto; }}
.heat svg {{ display: block; width: 100%; max-width: 32rem; height: auto; }}
.heat polyline {{ stroke: #4a535c; }} .heat polyline:nth-of-type(even) {{ stroke: #a2abb4; }}
.heat polyline:nth-of-type(n+3) {{ stroke-dasharray: 4 2; }}
.heat polyline:nth-of-type(n+5) {{ stroke-dasharray: 1 2; }}
.heat .words {{ white-space: pre-wrap; overflow-wrap: anywhere; line-height: 1.9; max-width: 46rem; color: #1c2127; }}
.heat .words span {{ border-radius: 3px; padding: .12em 0; }}
.heat .words .unknown {{ border-bottom: 2px dotted #8a949e; }} .heat .words .cut {{ color: #8a949e; }}
.heat table {{ border-collapse: collapse; width: 100%; max-width: 36rem; font-variant-numeric: tabular-nums; }}
.heat td {{ padding: .1rem .6rem .1rem 0; border: 0; text-align: right; white-space: nowrap; }}
.heat td:first-child {{ text-align: left; white-space: normal; overflow-wrap: anywhere; }}
.heat td.bar {{ width: 35%; min-width: 5rem; padding: 0; position: relative; border-left: 0;
  background: linear-gradient(#aab2ba, #aab2ba) center / 1px 100% no-repeat; }}
.heat td.bar i {{ position: absolute; top: 15%; height: 70%; }}
.heat i.for {{ background: var(--for); }} .heat i.against {{ background: var(--against); }}
.heat figcaption i {{ display: inline-block; width: .7em; height: .7em; margin: 0 .15em; }}
"""


def figures(
    trained: OpenedRun,
    inputs: Inputs,
    attributions: Sequence[Attribution],
    shown: Sequence[str | None] | None = None,
) -> list[str]:
    """What counted in each sample, as HTML that needs ``STYLE`` and nothing else.

    Args:
        trained: the model.
        inputs: the raw samples, as they were given to ``attribute``.
        attributions: what it returned.
        shown: their texts, where they are known: then these are marked, not the tokens that are made of them.
    """
    draw: Drawer = {
        "image": _picture,
        "spectrogram": _spectrogram,
        "sequence": _sequence,
        "tokens": _text,
        "table": _table,
    }[trained.spec.kind]
    texts = shown or [None] * len(attributions)
    first, black_and_white = inputs[0].cpu(), shades(inputs[0])
    drawn = []
    for raw, attribution, text in zip(first, attributions, texts, strict=True):
        figure = draw(_Sample(trained, raw, attribution, text, black_and_white))
        drawn.append(f'<figure class="heat">{figure}<figcaption>{_caption(trained, attribution)}</figcaption></figure>')
    return drawn


@dataclass(frozen=True)
class _Sample:
    """What a figure is drawn of: a raw sample, what counted in it, its text, and what is drawn black and white."""

    trained: OpenedRun
    raw: Tensor
    attribution: Attribution
    text: str | None
    shades: tuple[float, float]

    @property
    def values(self) -> Tensor:
        """The attributions, nothing where a model that has diverged says no number."""
        return self.attribution.values.nan_to_num(0, 0, 0)


Drawer = Callable[[_Sample], str]


def _caption(trained: OpenedRun, attribution: Attribution) -> str:
    what, target = quantity(trained), trained.spec.classes[attribution.target]
    rough = ""
    if attribution.rough:
        error = abs(attribution.delta) / max(attribution.total, 1e-30)
        rough = f"; too rough: the integral is off by {error:.0%} of all that counted, and needs more steps"
    sides = "<i class=for></i>for and <i class=against></i>against"
    if trained.spec.task == "regression":
        sides = "<i class=for></i>more and <i class=against></i>less"
    return (
        f"{sides} <b>{escape(target)}</b>: {what} {attribution.output:.3g}, "
        f"of the baseline {attribution.baseline:.3g}{rough}"
    )


def _strengths(values: Tensor, share: float = 1.0) -> Tensor:
    """-1 to 1; those beyond the given share of all, by size, are -1 or 1."""
    sizes = values.abs().flatten()
    largest = float(np.quantile(sizes.numpy(), share)) or float(sizes.max())
    return (values / max(largest, 1e-30)).clamp(-1, 1)


def _over(levels: NDArray[np.float32], strengths: NDArray[np.float32]) -> Image.Image:
    """A heat map over grey levels from 0 to 1, both (height, width), the levels faded so that colours can be seen."""
    grey = (90 + 165 * levels)[..., None]
    color = np.where(strengths[..., None] >= 0, np.array(FOR), np.array(AGAINST))
    alpha = np.abs(strengths)[..., None]
    return Image.fromarray((grey * (1 - alpha) + color * alpha).round().astype(np.uint8))


# ---- pictures and sounds


def _picture(sample: _Sample) -> str:
    """Of a large picture the attributions are summed over squares, as those of single pixels are noise to the eye."""
    low, high = sample.shades
    pixels = ((sample.raw.float() - low) / max(high - low, 1e-12)).clamp(0, 1)
    pixels = pixels[:3] if len(pixels) >= 3 else pixels[:1]
    values, (height, width) = sample.values[None, None], pixels.shape[1:]
    cell = -(-max(height, width) // SMALL)
    css = "small"
    if cell > 1:
        css = "large"
        values = F.avg_pool2d(values, cell, ceil_mode=True)
        scale = min(1.0, MAX_PIXELS / max(height, width))
        size = (max(1, round(height * scale)), max(1, round(width * scale)))
        pixels = F.interpolate(pixels[None], size, mode="bilinear", antialias=True)[0].clamp(0, 1)
        values = F.interpolate(values, size, mode="bilinear")
    heat = _over(pixels.mean(0).numpy(), _strengths(values[0, 0], BRIGHTEST).numpy())
    plain = (pixels * 255).round().byte().permute(1, 2, 0).numpy()
    picture = Image.fromarray(plain[:, :, 0] if plain.shape[2] == 1 else np.ascontiguousarray(plain))
    return f"<div class=drawn>{png(picture, css)}{png(heat, css)}</div>"


def _spectrogram(sample: _Sample) -> str:
    """Time to the right, low bands at the bottom, loud is dark."""
    read, strengths = sample.attribution.read[0].nan_to_num(), sample.values
    if len(read) > MAX_FRAMES:
        read, strengths = (
            F.adaptive_avg_pool2d(each[None], (MAX_FRAMES, each.shape[1]))[0] for each in (read, strengths)
        )
    low, high = (float(each) for each in torch.from_numpy(np.quantile(read.numpy(), (0.02, 0.98))))
    levels = 1 - ((read - low) / max(high - low, 1e-12)).clamp(0, 1).t().flip(0)
    heat = _over(levels.numpy(), _strengths(strengths, BRIGHTEST).t().flip(0).numpy())
    plain = Image.fromarray((levels * 255).round().byte().contiguous().numpy())
    return f'<div class="drawn sounds">{png(plain, "sound")}{png(heat, "sound")}</div>'


# ---- texts


def _text(sample: _Sample) -> str:
    """The text with a background behind each token: the stronger, the more it counted."""
    trained, attribution = sample.trained, sample.attribution
    words = tokens(trained, attribution, sample.text)
    pieces, rest = _pieces(sample.text, words, trained.learned)
    values, strengths = sample.values.tolist(), _strengths(sample.values).tolist()
    has_unknown = "vocabulary" in trained.learned
    drawn = []
    for number, (before, word) in enumerate(pieces[:MAX_TOKENS]):
        is_unknown = has_unknown and int(attribution.read[number]) == UNKNOWN
        drawn.append(escape(before) + _marked(word, values[number], strengths[number], is_unknown=is_unknown))
    if len(pieces) > MAX_TOKENS:
        rest = f" … and {len(pieces) - MAX_TOKENS:,} more tokens"
    if rest.strip():
        drawn.append(f'<span class=cut title="the model does not read this">{escape(rest)}</span>')
    return f"<div class=words>{''.join(drawn)}</div>"


def _pieces(text: str | None, words: Sequence[str], learned: Mapping[str, Any]) -> tuple[list[tuple[str, str]], str]:
    """What stands before each token, and itself, both as in the text; and what follows the last one."""
    between = "" if learned.get("tokens") == "characters" else " "
    alone = [(between * (number > 0), word) for number, word in enumerate(words)]
    if text is None:
        return alone, ""
    lower = text.lower() if learned.get("lowercase") else text
    text = text if len(text) == len(lower) else lower  # a few letters become two
    pieces, end = [], 0
    for word in words:
        start = lower.find(word, end)
        if start < 0:
            return alone, ""
        pieces.append((text[end:start], text[start : start + len(word)]))
        end = start + len(word)
    return pieces, text[end:]


def _marked(word: str, value: float, strength: float, *, is_unknown: bool) -> str:
    color = ", ".join(map(str, FOR if strength >= 0 else AGAINST))
    title = f"{value:+.3g}{', not in the vocabulary' * is_unknown}"
    css = " class=unknown" if is_unknown else ""
    background = f"background: rgba({color}, {0.65 * abs(strength):.3f})"
    return f'<span{css} style="{background}" title="{title}">{escape(word)}</span>'


# ---- numbers


def _table(sample: _Sample) -> str:
    names = columns(sample.trained, len(sample.values))
    return _bars(names, [f"{value:.4g}" for value in sample.raw.tolist()], sample.values.tolist())


def _sequence(sample: _Sample) -> str:
    """The sequence, a bar for each step or for some together, and one for each column."""
    width = sample.values.shape[1]
    is_wave = sample.trained.features is not None
    read = sample.attribution.read
    lines = read.reshape(-1, 1) if is_wave else read[:, :MAX_LINES]
    drawn = f"{plot(lines.float().numpy(), WIDTH, HEIGHT)}{_steps(sample.values.sum(1))}"
    if is_wave or width == 1:
        return drawn
    return drawn + _bars(columns(sample.trained, width), None, sample.values.sum(0).tolist())


def _steps(values: Tensor) -> str:
    """A bar for each step, up where it speaks for the target."""
    parts = values.tensor_split(min(len(values), MAX_STEPS))
    sums = torch.stack([part.sum() for part in parts])
    wide, middle, first = (WIDTH - 6) / len(parts), HEIGHT / 2, 1
    bars = []
    for at, (part, strength) in enumerate(zip(parts, _strengths(sums).tolist(), strict=True)):
        name = f"step {first}" if len(part) == 1 else f"steps {first} to {first + len(part) - 1}"
        first += len(part)
        tall = abs(strength) * (middle - 3)
        bars.append(
            f'<rect x="{3 + at * wide:.2f}" y="{middle - tall * (strength > 0):.2f}" width="{wide * 0.9:.2f}" '
            f'height="{tall:.2f}" fill="rgb{FOR if strength >= 0 else AGAINST}">'
            f"<title>{name}: {float(sums[at]):+.3g}</title></rect>"
        )
    axis = f'<path d="M3 {middle}H{WIDTH - 3}" stroke="#aab2ba"/>'
    return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}">{axis}{"".join(bars)}</svg>'


def _bars(names: Sequence[str], shown: Sequence[str] | None, values: Sequence[float]) -> str:
    """A row for each name, those that counted most first, with a bar to the right where it speaks for the target."""
    order = sorted(range(len(values)), key=lambda at: -abs(values[at]))
    most = max((abs(value) for value in values), default=0) or 1.0
    rows = []
    for at in order[:MAX_COLUMNS]:
        wide = 50 * abs(values[at]) / most
        side, left = ("for", 50.0) if values[at] >= 0 else ("against", 50 - wide)
        bar = f'<i class={side} style="left: {left:.2f}%; width: {wide:.2f}%"></i>'
        value = f"<td>{escape(shown[at])}</td>" if shown else ""
        rows.append(f"<tr><td>{escape(names[at])}</td>{value}<td>{values[at]:+.3g}</td><td class=bar>{bar}</td></tr>")
    rest = order[MAX_COLUMNS:]
    if rest:
        total = sum(values[at] for at in rest)
        rows.append(f"<tr><td>{len(rest):,} more columns</td>{'<td></td>' if shown else ''}<td>{total:+.3g}</td></tr>")
    return f"<table>{''.join(rows)}</table>"
