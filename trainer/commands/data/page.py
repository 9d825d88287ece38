"""The page that shows a data set: its numbers, what was found, and samples as they are and as training makes them."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from html import escape

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from trainer.data import Data, Split
from trainer.data.checks import UNKNOWN, Survey, as_text, target_text
from trainer.data.data import Inputs
from trainer.data.preprocess import Preprocess

MARK = '<meta name="generator" content="trainer data">'  # tells a page of ours
MAX_CLASSES = 20  # that samples are shown of
PER_CLASS = 6
MAX_SAMPLES = 24  # where there are no classes
MAX_PIXELS = 96  # of a picture's longer side; larger ones are shrunk
MAX_STEPS = 400  # of a spectrogram's picture; longer ones are shrunk
MAX_POINTS = 240  # of a line
MAX_LINES = 6  # columns of a sequence that are drawn
MAX_BARS = 60  # columns of a table that are drawn
MAX_TOKENS = 60
DEVIATIONS = 2.5  # of normalised values, from white to black
COLORS = ("#1f5fa8", "#c2571a", "#2e7d4f", "#8a3ffc", "#b8860b", "#5f6b7a")

STYLE = """
body { margin: 0 auto; max-width: 72rem; padding: 1rem 1.25rem 3rem; background: #fff; color: #1c2127;
  font: 15px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.6rem; margin: .5rem 0 0; } h2 { font-size: 1.15rem; margin: 2rem 0 .5rem; }
h3 { font-size: .95rem; margin: 1rem 0 .25rem; } p { margin: .25rem 0; }
.quiet, figcaption { color: #5b6570; } .scroll { overflow-x: auto; }
ul.findings { list-style: none; padding: 0; }
ul.findings li { border-left: 4px solid #8a949e; background: #f4f6f8; margin: .4rem 0; padding: .4rem .75rem;
  overflow-wrap: anywhere; }
ul.findings li.warning { border-color: #b3261e; background: #fdf1f0; }
ul.findings b { margin-right: .5rem; }
table { border-collapse: collapse; } td, th { padding: .1rem .75rem .1rem 0; text-align: right; font-weight: 400; }
th { color: #5b6570; } td:first-child, th:first-child { text-align: left; overflow-wrap: anywhere; }
td.bar { width: 40%; min-width: 6rem; } td.bar i { display: block; height: .7rem; background: #1f5fa8; }
.samples { display: flex; flex-wrap: wrap; gap: .5rem; }
figure { margin: 0; min-width: 0; max-width: 100%; } figcaption { font-size: .8rem; max-width: 14rem; }
.class { display: grid; grid-template-columns: 7rem 1fr; gap: .15rem .75rem; padding: .4rem 0;
  border-top: 1px solid #e3e7eb; align-items: start; }
.class h3 { grid-row: span 2; margin: 0; overflow-wrap: anywhere; }
.class .samples { grid-column: 2; min-width: 0; }
.augmented { border-left: 3px solid #c2571a; padding-left: .5rem; }
img { display: block; max-width: 100%; border: 1px solid #d5dadf; }
img.small { width: 64px; image-rendering: pixelated; }
img.sound { height: 80px; max-width: min(100%, 20rem); }
svg { display: block; background: #f8f9fa; border: 1px solid #e3e7eb; max-width: 100%; }
.text { font-size: .9rem; border: 1px solid #e3e7eb; background: #f8f9fa; padding: .3rem .5rem; overflow-wrap: anywhere;
  max-width: 34rem; } mark { background: #fbe3c6; color: #8a4b08; }
@media (max-width: 40rem) { .class { grid-template-columns: 1fr; } .class .samples { grid-column: 1; }
  .class h3 { grid-row: auto; } }
"""


def page(data: Data, survey: Survey, seed: int) -> str:
    """A whole HTML page that needs nothing else; ``seed`` is that of the augmentation."""
    warnings = survey.num_warnings
    verdict = "Nothing to be acted on was found." if warnings == 0 else f"{warnings} to be acted on:"
    findings = "".join(
        f'<li class="{finding.level}"><b>{finding.level}</b>{escape(finding.text)}</li>' for finding in survey.findings
    )
    name = escape(survey.spec.dataset)
    parts = [
        f"<h1>{name}</h1><p class=quiet>{escape(str(survey.spec))}</p>",
        f"<h2>Findings</h2><p>{verdict}</p><ul class=findings>{findings}</ul>",
        f"<h2>Numbers</h2>{_numbers(survey)}",
        f"<h2>Samples of train</h2>{_samples(data, survey, seed)}",
    ]
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8">{MARK}'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{name}</title><style>{STYLE}</style></head>\n<body>\n" + "\n".join(parts) + "\n</body></html>\n"
    )


def _numbers(survey: Survey) -> str:
    """The splits, and the classes with a bar for their share of train."""
    splits = list(survey.parts)
    rows = [("samples", [f"{part.samples:,}" for part in survey.parts.values()])]
    for title, attribute in (
        ("least steps", "least"),
        ("half have at most", "median"),
        ("95 % have at most", "most"),
        ("most steps", "longest"),
    ):
        found = [part.lengths for part in survey.parts.values()]
        if found[0] is not None:
            rows.append((title, [f"{getattr(lengths, attribute):,}" for lengths in found]))
    for at, value in enumerate(survey.spec.classes if survey.spec.task == "regression" else ()):
        ranges = [part.targets[at] for part in survey.parts.values()]
        rows.append((f"{value}: mean", [f"{each.mean:.4g}" for each in ranges]))
        rows.append((f"{value}: range", [f"{each.least:.4g} to {each.most:.4g}" for each in ranges]))
    head = "".join(f"<th>{name}" for name in splits)
    body = "".join(f"<tr><td>{escape(title)}" + "".join(f"<td>{cell}" for cell in cells) for title, cells in rows)
    scaled = f"; normalised by {survey.scaled}" if survey.scaled else ""
    tables = f"<p class=quiet>{escape(survey.raw + scaled)}</p><table><tr><th>{head}{body}</table>"
    counts = survey.parts["train"].counts
    if counts:
        largest = max(*counts, 1)
        body = "".join(
            f"<tr><td>{escape(name)}"
            + "".join(f"<td>{part.counts[at]:,}" for part in survey.parts.values())
            + f'<td class=bar><i style="width:{100 * counts[at] / largest:.1f}%"></i>'
            for at, name in enumerate(survey.spec.classes)
        )
        noun = "class" if survey.spec.task == "classification" else "label"
        tables += f"<h3>Samples of each {noun}</h3><div class=scroll><table><tr><th>{head}<th>{body}</table></div>"
    return tables


def _samples(data: Data, survey: Survey, seed: int) -> str:
    """Samples in rows, the augmented ones below those they come from."""
    parts = []
    random = [each for each in (data.augment, data.augment_features, data.mix) if each is not None]
    if random:
        parts.append(
            "<p class=quiet>With a line to the left: the same samples as training sees them in its first epoch, "
            "augmented; they are drawn anew in every epoch.</p>"
        )
    for title, numbers in _chosen(data):
        split = data.train.take(numbers)
        plain = _drawn(data, survey, split, None)
        augmented = _drawn(data, survey, split, seed) if random else []
        rows = f"<div class=samples>{''.join(plain)}</div>"
        rows += f'<div class="samples augmented">{"".join(augmented)}</div>' if augmented else ""
        parts.append(f"<section class=class><h3>{escape(title)}</h3>{rows}</section>")
    if data.spec.task == "classification" and len(data.spec.classes) > MAX_CLASSES:
        parts.append(f"<p class=quiet>and {len(data.spec.classes) - MAX_CLASSES} more classes</p>")
    return "".join(parts)


def _chosen(data: Data) -> Iterator[tuple[str, Tensor]]:
    """Titles, and the numbers of some training samples, spread evenly over all that there are."""
    if data.spec.task != "classification":
        yield "", _spread(torch.arange(len(data.train)), MAX_SAMPLES)
        return
    targets = data.train.targets
    for number, name in enumerate(data.spec.classes[:MAX_CLASSES]):
        members = (targets == number).nonzero().flatten()
        if len(members):
            yield name, _spread(members, PER_CLASS)


def _spread(numbers: Tensor, most: int) -> Tensor:
    count = min(most, len(numbers))
    return numbers[torch.arange(count) * len(numbers) // count]


def _drawn(data: Data, survey: Survey, split: Split, seed: int | None) -> list[str]:
    """Each sample as HTML; with a seed as it is trained on in the first epoch."""
    inputs, targets = _read(data, split, seed)
    captions = [
        "" if data.spec.task == "classification" else target_text(data.spec, target) for target in split.targets
    ]
    if seed is not None and data.mix is not None:
        captions = [_shares(data, target) for target in targets]
    return [
        f"<figure>{each}{f'<figcaption>{escape(caption)}</figcaption>' if caption else ''}</figure>"
        for each, caption in zip(drawn(data, inputs, shades(survey)), captions, strict=True)
    ]


Shades = tuple[float, float]  # raw values that are drawn black and white


def shades(raw: Survey | Tensor) -> Shades:
    """Of pictures: those of bytes, or else of the values there are."""
    if isinstance(raw, Tensor):
        least, most = map(float, raw.aminmax())
        name = str(raw.dtype).removeprefix("torch.")
    else:
        least, most, name = raw.least, raw.most, raw.dtype
    return (0.0, 255.0) if name == "uint8" and most > 127 else (min(least, 0.0), most)


def drawn(data: Data, inputs: Inputs, shades: Shades) -> list[str]:
    """Each sample of a batch, as a model reads it, as HTML."""
    if data.spec.kind == "image":
        return _images(data, inputs, shades)
    draw = {"spectrogram": _spectrograms, "sequence": _lines, "table": _bars, "tokens": _texts}
    return draw[data.spec.kind](data, inputs)


def _read(data: Data, split: Split, seed: int | None) -> tuple[Inputs, Tensor]:
    """What a model reads of a split's samples, and their targets."""
    positions, source = split.positions, split.source
    preprocess = Preprocess(data, data.train.positions, seed, torch.device("cpu"))
    inputs, targets = preprocess(source.fetch(positions), positions, 0), split.targets
    partners = preprocess.partners(positions, 0)
    if partners is not None:
        others = preprocess(source.fetch(partners), partners, 0)
        inputs = preprocess.mixed(inputs, others, positions, 0)
        targets = preprocess.mixed_targets(targets, source.targets.index_select(0, partners), positions, 0)
    return inputs, targets


def _shares(data: Data, target: Tensor) -> str:
    """What a sample that is mixed of others counts as."""
    if data.spec.task == "regression":
        return target_text(data.spec, target)
    largest = target.argsort(descending=True)[:2].tolist()
    return ", ".join(f"{data.spec.classes[at]} {float(target[at]):.2f}" for at in largest if target[at] > 0)


def _images(data: Data, inputs: Inputs, shades: Shades) -> list[str]:
    """Pictures, in the range that the raw pixels have."""
    values = inputs[0].float()
    if data.normalise is not None:
        values = values * data.normalise.std.view(-1, 1, 1) + data.normalise.mean.view(-1, 1, 1)
    low, high = shades
    levels = ((values - low) / max(high - low, 1e-12) * 255).round().clamp(0, 255).byte()
    levels = levels[:, :3] if levels.shape[1] >= 3 else levels[:, :1]
    drawn = []
    for each in levels.permute(0, 2, 3, 1).numpy():
        picture = Image.fromarray(each[:, :, 0] if each.shape[2] == 1 else np.ascontiguousarray(each))
        small = max(picture.size) <= 64
        picture.thumbnail((MAX_PIXELS, MAX_PIXELS))
        drawn.append(png(picture, "small" if small else ""))
    return drawn


def _spectrograms(data: Data, inputs: Inputs) -> list[str]:
    """Time to the right, low bands at the bottom, loud is dark."""
    values = inputs[0].float()
    lengths = inputs[1].tolist() if len(inputs) > 1 else [values.shape[2]] * len(values)
    low, high = (-DEVIATIONS, DEVIATIONS) if data.normalise is not None else map(float, values.aminmax())
    levels = (255 - (values - low) / max(high - low, 1e-12) * 255).round().clamp(0, 255).byte()
    drawn = []
    for each, length in zip(levels, lengths, strict=True):
        picture = Image.fromarray(np.ascontiguousarray(each[0, :length].t().flip(0).numpy()))
        if picture.width > MAX_STEPS:
            picture = picture.resize((MAX_STEPS, picture.height))
        drawn.append(png(picture, "sound"))
    return drawn


def png(picture: Image.Image, css: str) -> str:
    """A picture in the page, with a class of its style."""
    with io.BytesIO() as file:
        picture.save(file, "PNG", optimize=True)
        content = base64.b64encode(file.getvalue()).decode()
    return f'<img class="{css}" alt="" src="data:image/png;base64,{content}">'


def _lines(data: Data, inputs: Inputs) -> list[str]:
    """A line for each column; of a wave in steps one line."""
    values = inputs[0].float()
    lengths = inputs[1].tolist() if len(inputs) > 1 else [values.shape[1]] * len(values)
    is_wave = data.features is not None
    drawn = []
    for each, length in zip(values, lengths, strict=True):
        columns = each[:length].reshape(-1, 1) if is_wave else each[:length, :MAX_LINES]
        drawn.append(plot(columns.numpy(), 240, 70))
    return drawn


def plot(columns: NDArray[np.float32], width: int, height: int) -> str:
    """(steps, lines) as SVG; long ones as their lowest and highest values."""
    columns = np.nan_to_num(columns)
    if len(columns) > MAX_POINTS:
        pieces = np.array_split(columns, MAX_POINTS // 2)
        columns = np.concatenate([np.stack([piece.min(0), piece.max(0)]) for piece in pieces])
    low, high = float(columns.min()), float(columns.max())
    across = np.linspace(3, width - 3, len(columns))
    down = height - 3 - (columns - low) / max(high - low, 1e-12) * (height - 6)
    lines = "".join(
        f'<polyline fill="none" stroke="{COLORS[at]}" points="'
        + " ".join(f"{x:.1f},{y:.1f}" for x, y in zip(across, down[:, at], strict=True))
        + '"/>'
        for at in range(columns.shape[1])
    )
    title = f"<title>{low:.4g} to {high:.4g}</title>"
    return f'<svg width="{width}" height="{height}" viewBox="0 0 {width} {height}">{title}{lines}</svg>'


def _bars(data: Data, inputs: Inputs) -> list[str]:
    """A bar for each column, up or down from zero, in deviations from the mean where they are normalised."""
    values = inputs[0].float()[:, :MAX_BARS].nan_to_num()
    most = max(float(values.abs().max()), 1e-12)
    names = data.preprocess.get("columns") or list(range(values.shape[1]))
    height, bar = 70, max(4, min(14, 220 // values.shape[1]))
    drawn = []
    for row in values.tolist():
        bars = "".join(
            f'<rect x="{2 + at * bar}" y="{height / 2 - max(value, 0) / most * 32:.1f}" width="{bar - 1}" '
            f'height="{max(abs(value) / most * 32, 0.5):.1f}" fill="{COLORS[0] if value >= 0 else COLORS[1]}">'
            f"<title>{escape(str(names[at]))}: {value:.4g}</title></rect>"
            for at, value in enumerate(row)
        )
        width = 4 + bar * values.shape[1]
        drawn.append(f'<svg width="{width}" height="{height}" viewBox="0 0 {width} {height}">{bars}</svg>')
    return drawn


def _texts(data: Data, inputs: Inputs) -> list[str]:
    """The words again; those that are not in the vocabulary are marked."""
    tokens, *lengths = inputs
    cut = tuple(each.clamp_max(MAX_TOKENS) for each in lengths)
    vocabulary = data.preprocess.get("vocabulary")
    unknown = "" if vocabulary is None else escape(vocabulary[UNKNOWN])
    drawn = []
    for text in as_text(data, (tokens[:, :MAX_TOKENS], *cut)):
        shown = escape(text)
        shown = shown.replace(unknown, "<mark>unknown</mark>") if unknown else shown
        drawn.append(f"<div class=text>{shown}</div>")
    return drawn
