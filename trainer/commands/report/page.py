"""The page about a run: what came out, how it got there, what it gets wrong and why, and how to repeat it."""

from __future__ import annotations

import base64
import dataclasses
import io
import shlex
import wave
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import torch
import yaml
from torch import Tensor

from trainer.commands.data import page as samples_page
from trainer.commands.evaluate import scores
from trainer.commands.evaluate.measure import Measured, measure
from trainer.commands.opened_run import OpenedRun, notes, open_run
from trainer.commands.pages import plots
from trainer.commands.pages.plots import Curve
from trainer.commands.text_table import figure
from trainer.config import ConfigError, RunError
from trainer.data.data import Inputs
from trainer.runs.directory import ENVIRONMENT, read_json
from trainer.runs.read import Run, as_number, flatten, read_config, values_of

MARK = '<meta name="generator" content="trainer report">'
MAX_CLASSES = 30  # of a confusion matrix; of more, the pairs that were mistaken most often
MAX_PAIRS = 20
SIZE = (5.6, 3.0)  # of a picture, in inches
MAX_DIFF = 20_000  # characters of a diff
MAX_SOUND = 2**19  # bytes of a sound that the page holds

STYLE = """
:root { --ink: #1c2127; --quiet: #5b6570; --line: #e3e7eb; --blue: #0b5cad; }
body { margin: 0 auto; max-width: 74rem; padding: 1rem 1.25rem 4rem; background: #fff; color: var(--ink);
  font: 15px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.6rem; margin: .5rem 0 0; overflow-wrap: anywhere; }
h2 { font-size: 1.15rem; margin: 2.25rem 0 .5rem; }
h3 { font-size: .95rem; margin: 1rem 0 .25rem; } p { margin: .25rem 0; } a { color: var(--blue); }
.quiet, figcaption { color: var(--quiet); } .scroll { overflow-x: auto; }
.numbers { display: flex; flex-wrap: wrap; gap: .6rem; margin: 1rem 0 .25rem; }
.numbers div { border: 1px solid var(--line); border-radius: 6px; padding: .45rem .8rem; min-width: 6.5rem; }
.numbers b { display: block; font-size: 1.3rem; font-weight: 600; font-variant-numeric: tabular-nums; }
.numbers span { color: var(--quiet); font-size: .85rem; }
.note { border-left: 4px solid #b3261e; background: #fdf1f0; padding: .4rem .75rem; overflow-wrap: anywhere; }
.state { border-radius: 4px; padding: .05rem .5rem; font-size: .85rem; background: #e6f4ec; color: #1b6e41; }
.state.failed, .state.killed { background: #fdf1f0; color: #b3261e; }
.state.stopped, .state.running, .state.pruned { background: #fff5e0; color: #8a5a00; }
.pictures { display: flex; flex-wrap: wrap; gap: .75rem; } .pictures svg { max-width: 100%; height: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
td, th { padding: .2rem .9rem .2rem 0; text-align: right; font-weight: 400; white-space: nowrap; }
th { color: var(--quiet); border-bottom: 1px solid #d5dadf; } td:first-child, th:first-child { text-align: left; }
table.words td:first-child { white-space: nowrap; }
table.words td { text-align: left; white-space: normal; overflow-wrap: anywhere; vertical-align: top; }
table.confusion td, table.confusion th { padding: .25rem .5rem; text-align: center; min-width: 1.6rem; border: 0; }
table.confusion th { max-width: 7rem; overflow: hidden; text-overflow: ellipsis; }
table.confusion tr > :first-child { text-align: right; color: var(--quiet); }
.mistakes { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 17rem), 1fr)); gap: .9rem; }
.mistake { border: 1px solid var(--line); border-radius: 6px; padding: .6rem .75rem; min-width: 0; overflow: hidden; }
.mistake p { overflow-wrap: anywhere; } .mistake figure > svg, .mistake > svg { width: 100%; }
.mistake .place { font-size: .8rem; color: var(--quiet); }
.mistake audio { width: 100%; height: 2rem; margin-top: .3rem; }
code.again, pre { display: block; background: #f4f6f8; border: 1px solid var(--line); border-radius: 4px;
  padding: .5rem .75rem; margin: .4rem 0; overflow-x: auto; } code.again { white-space: pre; user-select: all; }
details { margin: .5rem 0; } summary { cursor: pointer; color: var(--blue); }
figure { margin: 0; } img { max-width: 100%; border: 1px solid #d5dadf; } svg { max-width: 100%; }
img.small { width: 96px; image-rendering: pixelated; } img.sound { height: 96px; width: 100%; image-rendering: auto; }
.text { font-size: .95rem; border: 1px solid var(--line); background: #f8f9fa; padding: .3rem .5rem;
  overflow-wrap: anywhere; } mark { background: #fbe3c6; color: #8a4b08; }
@media (max-width: 40rem) { body { padding: .75rem .75rem 3rem; } h1 { font-size: 1.3rem; } }
"""


@dataclasses.dataclass(frozen=True)
class Mistake:
    """A sample that a run gets wrong.

    Args:
        place: where it stands.
        is_: what it is.
        said: what the run says of it.
        drawn: it as HTML.
        why: what counted, as HTML; empty where that was not asked for.
    """

    place: str
    is_: str
    said: str
    drawn: str
    why: str = ""


@dataclasses.dataclass(frozen=True)
class Looked:
    """What was found out about a run by asking it.

    Args:
        trained, measured: None where it cannot be asked.
        mistakes: the worst, first.
        num_wrong: how many there are; None for values.
        notes: what one has to know, a line each.
    """

    trained: OpenedRun | None
    measured: Measured | None
    mistakes: Sequence[Mistake]
    num_wrong: int | None
    notes: Sequence[str]


def look(run: Run, words: Sequence[str], *, checkpoint: str, split: str, mistakes: int, explains: bool) -> Looked:
    """Measure a run and find its worst mistakes, as far as its weights and its data are there."""
    try:
        trained = open_run(run, checkpoint=checkpoint, words=words)
        lines = list(notes(trained))
    except (ConfigError, RunError) as error:
        return Looked(None, None, (), None, [f"the mistakes are not shown: {each}" for each in _problems(error)])
    try:
        measured = measure([trained], split, None)
    except (ConfigError, RunError) as error:
        problems = [f"the mistakes are not shown: {each}" for each in _problems(error)]
        return Looked(trained, None, (), None, [*lines, *problems])
    if not measured.own:
        lines.append("the samples are not those that the run was trained with")
    order, num_wrong = _worst(measured, mistakes)
    why, reasons = _explained(trained, measured, order) if explains and len(order) else ([], [])
    return Looked(trained, measured, _mistakes(trained, measured, order, why), num_wrong, [*lines, *reasons])


def _problems(error: ConfigError | RunError) -> Sequence[str]:
    return error.problems if isinstance(error, ConfigError) else [str(error)]


def _worst(measured: Measured, count: int) -> tuple[Tensor, int | None]:
    """The samples with the largest loss among those that are wrong, by number; and how many are wrong."""
    said, targets = measured.scores.double(), measured.targets
    if measured.spec.task == "regression":
        scale = targets.double().std(0, correction=0).clamp_min(1e-12)
        far = ((said - targets).abs() / scale).amax(1)
        return far.argsort(descending=True, stable=True)[:count], None
    if measured.spec.task == "classification":
        wrong = said.argmax(1) != targets
        chance = said.gather(1, targets[:, None])[:, 0]
    else:
        wrong = ((said > 0.5) != (targets > 0.5)).any(1)
        chance = torch.where(targets > 0.5, said, 1 - said).amin(1)
    order = torch.where(wrong, chance, torch.inf).argsort(stable=True)
    num_wrong = int(wrong.sum())
    return order[: min(count, num_wrong)], num_wrong


def _explained(trained: OpenedRun, measured: Measured, order: Tensor) -> tuple[list[str], list[str]]:
    """Why it said what it said of some samples, as HTML; or a line that says why not."""
    try:
        from trainer.commands.explain.attribution import attribute
        from trainer.commands.explain.heatmaps import figures

        inputs = measured.raw(order)
        return figures(trained, inputs, attribute(trained, inputs)), []
    except (ConfigError, RunError) as error:
        return [], [f"the page is without explanations: {each}" for each in _problems(error)]


def _mistakes(trained: OpenedRun, measured: Measured, order: Tensor, why: Sequence[str]) -> list[Mistake]:
    if not len(order):
        return []
    data = measured.data
    raw = measured.raw(order)
    drawn = [""] * len(order) if why else samples_page.drawn(data, trained.read(raw), samples_page.shades(raw[0]))
    if data.features is not None:
        drawn = [picture + _heard(trained, sound) for picture, sound in zip(drawn, _each(raw), strict=True)]
    found = []
    for number, at in enumerate(order.tolist()):
        position = int(measured.positions[at])
        place = str(data.places[position]) if data.places is not None else f"sample {position}"
        is_, said = _said(measured, at)
        found.append(Mistake(place, is_, said, drawn[number], why[number] if why else ""))
    return found


def _each(raw: Inputs) -> list[Tensor]:
    lengths = raw[1].tolist() if len(raw) > 1 else [raw[0].shape[1]] * len(raw[0])
    return [sample[:length] for sample, length in zip(raw[0], lengths, strict=True)]


def _said(measured: Measured, at: int) -> tuple[str, str]:
    """What a sample is, and what was said of it."""
    names, said, target = measured.spec.classes, measured.scores[at], measured.targets[at]
    if measured.spec.task == "classification":
        best, own = int(said.argmax()), int(target)
        return f"{names[own]} ({float(said[own]):.2f})", f"{names[best]} ({float(said[best]):.2f})"
    if measured.spec.task == "multilabel":
        are = [name for name, value in zip(names, target, strict=True) if value > 0.5]
        told = [f"{name} {float(value):.2f}" for name, value in zip(names, said, strict=True) if value > 0.5]
        return ", ".join(are) or "none", ", ".join(told) or "none"
    pairs = [
        [f"{name} {float(each):.4g}" for name, each in zip(names, values, strict=True)] for values in (target, said)
    ]
    return ", ".join(pairs[0]), ", ".join(pairs[1])


def _heard(trained: OpenedRun, sound: Tensor) -> str:
    """A sound that can be played, 16 bits."""
    samples = sound if sound.dtype == torch.int16 else (sound * (2**15 - 1)).clamp(-(2**15), 2**15 - 1).to(torch.int16)
    if 2 * len(samples) > MAX_SOUND:
        return ""
    with io.BytesIO() as file:
        with wave.open(file, "wb") as opened:
            opened.setparams((1, 2, trained.learned["sample_rate"], len(samples), "NONE", "not compressed"))
            opened.writeframes(samples.contiguous().numpy().tobytes())
        content = base64.b64encode(file.getvalue()).decode()
    picture = samples_page.plot(samples.float().view(-1, 1).numpy(), 240, 48)
    return f'{picture}<audio controls preload="none" src="data:audio/wav;base64,{content}"></audio>'


# ---- the page


def page(run: Run, looked: Looked) -> str:
    """A whole HTML page that needs nothing else."""
    config, environment = read_config(run.path), read_json(run.path / ENVIRONMENT)
    names = [str(flatten(config).get(f"{group}.name", "?")) for group in ("model", "dataset")]
    title = f"{names[0]} on {names[1]}"
    reason = run.summary.get("reason")
    sections = [
        f"<h1>{escape(title)} <span class='state {run.state}'>{run.state}</span></h1>",
        f"<p class=quiet>{escape(str(run.path))}, started {run.started.isoformat(sep=' ', timespec='seconds')}</p>",
        *([f"<p class=note>{escape(str(reason))}</p>"] if reason else []),
        *(f"<p class=note>{escape(line)}</p>" for line in looked.notes),
        _numbers(run, looked),
        _curves(run),
        _measured(looked),
        _wrong(looked),
        _repeat(run, config),
        _config(run, config),
        _environment(environment),
    ]
    content = (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8">{MARK}'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}{_heat_style()}</style></head>\n<body>\n"
        + "\n".join(filter(None, sections))
        + "\n</body></html>\n"
    )
    return content.encode("utf-8", "replace").decode()  # a file's name may hold bytes that are no letter


def _heat_style() -> str:
    from trainer.commands.explain import heatmaps

    style: str = heatmaps.STYLE
    return style


def _numbers(run: Run, looked: Looked) -> str:
    summary = run.summary
    shown = {name: figure(value) for name, value in run.metrics.items() if name.startswith("test/")}
    if run.monitor is not None:
        shown[f"best {run.monitor}"] = figure(run.best)
    if looked.measured is not None:
        split = looked.measured.split
        known = {name.removeprefix(f"{split}/") for name in shown if name.startswith(f"{split}/")}
        shown |= {f"{split}/{n}": f"{v:.4f}" for n, v in looked.measured.values.items() if n not in known}
    for name in ("steps", "epochs", "seconds", "samples_per_second"):
        number = as_number(summary.get(name))
        if number is not None:
            shown[name.replace("_", " ")] = f"{number:,.1f}" if name == "seconds" else f"{number:,.0f}"
    if looked.trained is not None:
        shown["parameters"] = f"{sum(each.numel() for each in looked.trained.model.parameters()):,}"
    cells = "".join(
        f"<div><b>{escape(str(value))}</b><span>{escape(name)}</span></div>" for name, value in shown.items()
    )
    return f"<div class=numbers>{cells}</div>" if cells else ""


def _curves(run: Run) -> str:
    """Train and val over each other, for the loss and for what the run was judged by, and the learning rate."""
    monitor = (run.monitor or "val/loss").removeprefix("val/")
    drawn = []
    for name in dict.fromkeys(["loss", monitor]):
        lines = [Curve(part, run.curve(f"{part}/{name}"), part == "val") for part in ("train", "val")]
        if any(line.points for line in lines):
            drawn.append(
                plots.as_svg(
                    plots.curves([line for line in lines if line.points], name, SIZE), f"{name} over the steps"
                )
            )
    rate = run.curve("lr")
    if len({value for _, value in rate}) > 1:
        drawn.append(plots.as_svg(plots.curves([Curve("lr", rate)], "lr", SIZE), "learning rate over the steps"))
    return f"<h2>Curves</h2><div class=pictures>{''.join(drawn)}</div>" if drawn else ""


def _measured(looked: Looked) -> str:
    measured = looked.measured
    if measured is None or measured.spec.task == "regression":
        return ""
    rows = []
    found, names = measured.of_classes(), measured.spec.classes
    for at, name in enumerate(names):
        cells = "".join(f"<td>{_cell(float(each[at]))}</td>" for each in found[:4])
        rows.append(f"<tr><td>{escape(name)}</td>{cells}<td>{int(found.samples[at]):,}</td></tr>")
    noun = "class" if measured.spec.task == "classification" else "label"
    head = "".join(f"<th>{each}</th>" for each in (noun, "precision", "recall", "F1", "AUROC", "samples"))
    table = f"<div class=scroll><table><tr>{head}</tr>{''.join(rows)}</table></div>"
    if len(rows) > MAX_CLASSES:
        table = f"<details><summary>{len(rows)} {noun}{'es' if noun == 'class' else 's'}</summary>{table}</details>"
    confusion = _confusion(measured) if measured.spec.task == "classification" else ""
    title = f"Each {noun} of {measured.split}, {len(measured.targets):,} samples"
    return f"<h2>{title}</h2>{table}{confusion}{_calibration(measured)}"


def _cell(value: float) -> str:
    return "" if value != value else f"{value:.4f}"


def _confusion(measured: Measured) -> str:
    sums, names = measured.sums, measured.spec.classes
    if len(names) > MAX_CLASSES:
        return _pairs(sums, names)
    shares = (sums.double() / sums.sum(1, keepdim=True).clamp_min(1)).tolist()
    rows = []
    for true, (name, counts) in enumerate(zip(names, sums.tolist(), strict=True)):
        cells = [
            _square(count, shares[true][said], true == said, f"{name} taken for {names[said]}: {count}")
            for said, count in enumerate(counts)
        ]
        rows.append(f"<tr><th>{escape(name)}</th>{''.join(cells)}</tr>")
    head = "".join(f"<th>{escape(name)}</th>" for name in names)
    return (
        "<h2>Confusion</h2><p class=quiet>Rows are what samples are, columns what they were taken for.</p>"
        f"<div class=scroll><table class=confusion><tr><th></th>{head}</tr>{''.join(rows)}</table></div>"
    )


def _square(count: int, share: float, is_right: bool, title: str) -> str:
    """A cell of the confusion matrix: the larger the share of its row, the darker."""
    strength = 0 if count == 0 else 0.12 + 0.75 * share
    color, ink = "0, 114, 178" if is_right else "213, 94, 0", "#fff" if strength > 0.6 else "inherit"
    style = f"background: rgba({color}, {strength:.2f}); color: {ink}"
    return f'<td style="{style}" title="{escape(title)}">{count or ""}</td>'


def _pairs(sums: Tensor, names: Sequence[str]) -> str:
    """Of many classes, those that are most often taken for each other."""
    wrong = sums.clone().fill_diagonal_(0).flatten()
    order = [at for at in wrong.argsort(descending=True, stable=True)[:MAX_PAIRS].tolist() if wrong[at] > 0]
    cells = [(names[at // len(names)], names[at % len(names)], str(int(wrong[at]))) for at in order]
    rows = "".join("<tr>" + "".join(f"<td>{escape(each)}</td>" for each in row) + "</tr>" for row in cells)
    head = "<tr><th>is</th><th>taken for</th><th>times</th></tr>"
    return f"<h2>Mistaken most often</h2><table>{head}{rows}</table>" if rows else ""


def _calibration(measured: Measured) -> str:
    """How often answers are right, by how sure they are."""
    bins = [each for each in scores.calibration(measured.scores, measured.targets).tolist() if each[0]]
    if len(bins) < 2:
        return ""
    points = [(sure, right) for _, sure, right in bins]
    lines = [Curve("answers", points, True), Curve("as often as sure", [(0, 0), (1, 1)])]
    picture = plots.curves(lines, "share of right answers", SIZE)
    picture.axes[0].set_xlabel("probability of the answer")
    svg = plots.as_svg(picture, "share of right answers over the probability of the answer")
    error = scores.calibration_error(measured.scores, measured.targets)
    return (
        f"<h2>Calibration</h2><p class=quiet>Expected calibration error {error:.4f}: how far, on average, the "
        "probability of an answer is from how often such answers are right.</p>"
        f"<div class=pictures>{svg}</div>"
    )


def _wrong(looked: Looked) -> str:
    measured = looked.measured
    if measured is None:
        return ""
    if not looked.mistakes:
        return "<h2>Worst mistakes</h2><p>There is none.</p>" if looked.num_wrong == 0 else ""
    of = f", {len(looked.mistakes)} of {looked.num_wrong:,}" if looked.num_wrong is not None else ""
    cards = "".join(
        f"<div class=mistake><p>is <b>{escape(each.is_)}</b>, said <b>{escape(each.said)}</b></p>{each.drawn}{each.why}"
        f"<p class=place>{escape(each.place)}</p></div>"
        for each in looked.mistakes
    )
    return f"<h2>Worst mistakes{of}</h2><div class=mistakes>{cards}</div>"


def _repeat(run: Run, config: Mapping[str, Any]) -> str:
    words = [
        *run.words,
        *(
            f"plugins=[{','.join(map(str, config['plugins']))}]"
            for _ in [0]
            if isinstance(config.get("plugins"), list) and config["plugins"]
        ),
    ]
    path = shlex.quote(str(run.path))
    lines = {
        "The same training": shlex.join(["train", *words]),
        "The same, compared number by number": f"trainer reproduce {path}",
        "Its answers on new files": f"trainer predict {path} FILE",
        "A file for other programs": f"trainer export {path}",
    }
    return "<h2>Again</h2>" + "".join(
        f"<p>{name}</p><code class=again>{escape(line)}</code>" for name, line in lines.items()
    )


def _config(run: Run, config: Mapping[str, Any]) -> str:
    typed = "".join(
        f"<tr><td>{escape(key)}</td><td>{escape(value)}</td></tr>" for key, value in values_of(run.words).items()
    )
    table = (
        f"<table class=words><tr><th>typed</th><th></th></tr>{typed}</table>"
        if typed
        else "<p>Every key has its default.</p>"
    )
    whole = escape(yaml.safe_dump(dict(config), sort_keys=False, allow_unicode=True))
    return f"<h2>Config</h2>{table}<details><summary>the whole config</summary><pre>{whole}</pre></details>"


def _environment(environment: Mapping[str, Any]) -> str:
    rows = []
    for key, value in flatten(environment).items():
        if key != "git.diff" and value not in (None, "", []):
            shown = shlex.join(map(str, value)) if key == "command" and isinstance(value, list) else str(value)
            rows.append(f"<tr><td>{escape(key)}</td><td>{escape(shown)}</td></tr>")
    if not rows:
        return ""
    git = environment.get("git")
    diff = str(git.get("diff") or "") if isinstance(git, dict) else ""
    cut = f"\n… {len(diff) - MAX_DIFF:,} more characters in {ENVIRONMENT}" if len(diff) > MAX_DIFF else ""
    more = f"<details><summary>uncommitted changes</summary><pre>{escape(diff[:MAX_DIFF] + cut)}</pre></details>"
    return (
        f"<h2>Environment</h2><div class=scroll><table class=words>{''.join(rows)}</table></div>{more if diff else ''}"
    )
