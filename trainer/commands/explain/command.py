"""The command ``trainer explain``: what counted in files for what a run says of them. No torch here."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from trainer.commands._arguments import add_checkpoint, need_both, parted
from trainer.config import ConfigError
from trainer.config.errors import printable
from trainer.config.messages import did_you_mean
from trainer.runs import atomic_files
from trainer.runs.read import for_json, run_named

if TYPE_CHECKING:
    from trainer.commands.explain.attribution import Attribution
    from trainer.commands.opened_run import OpenedRun
    from trainer.commands.predict.samples import Sample

MARK = '<meta name="generator" content="trainer explain">'  # tells a page of ours
PAGE = "explain.html"
MAX_SAMPLES = 200  # on the page
MAX_PARTS = 5  # of a sample that a line names
MAX_STEPS = 10_000
AT_ONCE = 64  # samples that are held in memory

EPILOG = """\
A RUN is a run directory, or last. A FILE is what trainer predict takes: a picture, a sound, a text file, a table; a
folder of them; or - for standard input. A WORD is as for train, about what may be otherwise now: device=cpu, plugins=…
What counted is told by integrated gradients (Sundararajan et al. 2017), computed by Captum: how much each pixel, band,
token, step or column added to the log odds of the class, from a sample of zeros on, the mean of the training data (of
texts: of padding), to the sample. They add up to the difference of both.
With --json each sample is a line: {"input", "target", "prediction", "probability", "output", "baseline", "delta",
"names", "attributions"}, and a page is written only where -o names it.
examples:
  trainer explain last photos/ -o why.html
  trainer explain last cat.png --target dog
  echo "a charming and moving film" | trainer explain last -
exit code: 0 done, 1 some could not be read: they are lines with an error; 2 the command is wrong."""

STYLE = """
body { margin: 0 auto; max-width: 72rem; padding: 1rem 1.25rem 3rem; background: #fff; color: #1c2127;
  font: 15px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.6rem; margin: .5rem 0 .25rem; } p { margin: .25rem 0; max-width: 52rem; overflow-wrap: anywhere; }
.quiet { color: #5b6570; }
.samples { display: grid; gap: .9rem; margin-top: 1.25rem;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 27rem), 1fr)); }
.samples.wide { grid-template-columns: minmax(0, 52rem); }
.sample { border: 1px solid #e3e7eb; border-radius: 6px; padding: .6rem .8rem; min-width: 0; }
.sample h2 { font-size: .9rem; font-weight: 400; color: #5b6570; margin: 0; overflow-wrap: anywhere; }
.sample > p { margin: 0 0 .4rem; } .sample > p b { font-size: 1.05rem; }
@media (max-width: 40rem) { body { padding: .75rem .75rem 3rem; } h1 { font-size: 1.3rem; } }
"""


class Asked(NamedTuple):
    """What the options say, None where they say nothing: the number of the class, and the steps."""

    target: int | None
    steps: int | None


Explained = tuple["Sample", "Attribution | None", str]  # what was read, what counted in it, and its figure


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description = (
        "Tell what counted in files for what a run says of them: a page, and of texts and tables lines."
    )
    parser.epilog = EPILOG
    parser.add_argument("run", nargs="?", metavar="RUN", help="a run directory, or last")
    parser.add_argument("words", nargs="*", metavar="FILE|WORD", help="what to explain, and what is otherwise now")
    parser.add_argument("-o", "--output", metavar="FILE", help=f"the page ({PAGE}), of at most {MAX_SAMPLES} samples")
    add_checkpoint(parser)
    parser.add_argument("--target", metavar="CLASS", help="the class, label or value (that with the highest score)")
    parser.add_argument("--steps", metavar="N", help="of the integral (64, or as many as it needs, up to 1024)")
    parser.add_argument("--json", action="store_true", help="print all numbers, a line a sample")


def run(arguments: argparse.Namespace) -> int:
    """Explain, print, write the page, and return the exit code: 1 where something could not be read.

    Raises:
        ConfigError: a mistake in the words, a run that cannot be used, or Captum is missing.
    """
    names, words = parted(arguments.words)
    need_both("explain", arguments.run, names)
    steps = _steps(arguments.steps)
    page = None if arguments.json and arguments.output is None else Path(arguments.output or PAGE)
    if page is not None:
        atomic_files.check_ours("--output", page, MARK, within=500, what="no page")
    found = run_named(arguments.run)
    from trainer.commands.explain.attribution import need_captum
    from trainer.commands.opened_run import notes, open_run

    need_captum()
    trained = open_run(found, checkpoint=arguments.checkpoint, words=words)
    for line in notes(trained):
        print(f"trainer: warning: {printable(line)}", file=sys.stderr)
    asked = Asked(_target(trained, arguments.target), steps)
    cards, good, bad = list[str](), 0, 0
    for sample, attribution, figure in _explained(trained, names, asked, draws=page is not None):
        good, bad = good + (attribution is not None), bad + (attribution is None)
        line = _json(trained, sample, attribution) if arguments.json else _line(trained, sample, attribution)
        print(line, flush=True)
        if page is not None and len(cards) < MAX_SAMPLES:
            cards.append(_card(trained, sample, attribution, figure))
    if page is not None and good:
        content = _page(trained, cards, good + bad).encode("utf-8", "replace")  # names may hold bytes of no letter
        atomic_files.write(page, lambda path: path.write_bytes(content))
        more = f", the first {MAX_SAMPLES} samples on it" if good + bad > MAX_SAMPLES else ""
        print(f"{page}: {good:,} explained{more}", file=sys.stderr)
    if bad:
        print(f"trainer: {bad:,} of {good + bad:,} could not be read", file=sys.stderr)
    return int(bad > 0)


def _steps(typed: str | None) -> int | None:
    if typed is None:
        return None
    if not typed.isdecimal() or not 1 <= int(typed) <= MAX_STEPS:
        raise ConfigError(f"--steps: must be a whole number from 1 to {MAX_STEPS:,}, got {typed}")
    return int(typed)


def _target(trained: OpenedRun, typed: str | None) -> int | None:
    classes = trained.spec.classes
    if typed is None or typed in classes:
        return None if typed is None else classes.index(typed)
    noun = {"classification": "class", "multilabel": "label", "regression": "value"}[trained.spec.task]
    near = did_you_mean(typed, classes) or ";"
    known = ", ".join(classes[:20]) + (f" and {len(classes) - 20:,} more" if len(classes) > 20 else "")
    raise ConfigError(f"--target: {typed}: no such {noun}{near} the run has {known}")


def _explained(trained: OpenedRun, names: Sequence[str], asked: Asked, *, draws: bool) -> Iterator[Explained]:
    """Every sample, in order; figures only for those of the page."""
    import torch
    from tqdm.auto import tqdm

    from trainer.commands.explain import heatmaps
    from trainer.commands.explain.attribution import attribute
    from trainer.commands.predict import samples

    size, count = min(AT_ONCE, trained.batch_size), 0
    bar = tqdm(samples.samples(trained, names, size), unit=" samples", disable=None, leave=False, file=sys.stderr)
    for some in samples.batches(bar, size):
        good = [sample for sample in some if sample.inputs is not None]
        attributions, figures = list["Attribution"](), list[str]()
        if good:
            inputs = samples.collate(trained, good)
            targets = None if asked.target is None else torch.full((len(good),), asked.target)
            attributions = attribute(trained, inputs, targets, asked.steps)
            if draws and count < MAX_SAMPLES:
                figures = heatmaps.figures(trained, inputs, attributions, [sample.shown for sample in good])
        found = iter(zip(attributions, figures or [""] * len(good), strict=True))
        for sample in some:
            yield sample, *((None, "") if sample.inputs is None else next(found))
        count += len(some)


def _answer(trained: OpenedRun, attribution: Attribution) -> str:
    """What the run says, and what is explained where that is another."""
    classes, scores, target = trained.spec.classes, attribution.scores.tolist(), attribution.target
    if trained.spec.task == "regression":
        return f"{classes[target]} {scores[target]:.4g}"
    said = attribution.predicted
    if trained.spec.task == "multilabel":
        above = [f"{name} {score:.2f}" for name, score in zip(classes, scores, strict=True) if score > 0.5]
        answer = ", ".join(above) or "no label"
    else:
        answer = f"{classes[said]} {scores[said]:.2f}"
    other = trained.spec.task == "multilabel" or said != target
    return answer + (f"; explained: {classes[target]} {scores[target]:.2f}" if other else "")


def _line(trained: OpenedRun, sample: Sample, attribution: Attribution | None) -> str:
    """The name, the answer, and the strongest tokens, columns or steps."""
    from trainer.commands.explain.attribution import parts

    if attribution is None:
        return printable(f"{sample.name}: error: {sample.error}")
    found = sorted(parts(trained, attribution, sample.shown), key=lambda part: -abs(part[1]))[:MAX_PARTS]
    strongest = "  ".join(f"{'-' if value < 0 else '+'}{name} {abs(value):.2g}" for name, value in found)
    return printable(f"{sample.name}: {_answer(trained, attribution)}{'  ' * bool(found)}{strongest}")


def _json(trained: OpenedRun, sample: Sample, attribution: Attribution | None) -> str:
    from trainer.commands.explain.attribution import parts, quantity

    if attribution is None:
        return json.dumps({"input": sample.name, "error": sample.error}, ensure_ascii=False)
    classes, predicted = trained.spec.classes, attribution.predicted
    scores = dict(zip(classes, attribution.scores.tolist(), strict=True))
    answer: dict[str, Any] = {"values": scores}
    if trained.spec.task != "regression":
        answer = {"prediction": classes[predicted], "probability": float(attribution.scores[predicted])}
    names = [name for name, _ in parts(trained, attribution, sample.shown)]
    row = {
        "input": sample.name,
        "target": classes[attribution.target],
        **answer,
        "explained": quantity(trained),
        "output": attribution.output,
        "baseline": attribution.baseline,
        "delta": attribution.delta,
        **({"names": names} if names else {}),
        "attributions": attribution.values.tolist(),
    }
    return json.dumps(for_json(row), ensure_ascii=False)


# ---- the page


def _card(trained: OpenedRun, sample: Sample, attribution: Attribution | None, figure: str) -> str:
    answer = f"<p>cannot be read: {escape(sample.error)}</p>"
    if attribution is not None:
        answer = f"<p><b>{escape(_answer(trained, attribution))}</b></p>"
    return f"<section class=sample><h2>{escape(sample.name)}</h2>{answer}{figure}</section>"


def _page(trained: OpenedRun, cards: Sequence[str], count: int) -> str:
    """A whole HTML page that needs nothing else."""
    from trainer.commands.explain import heatmaps

    title = f"What counted: {trained.settings.model['name']} on {trained.spec.dataset}"
    epoch = "" if trained.epoch is None else f", epoch {trained.epoch}"
    more = f"<p>The first {len(cards):,} of {count:,} samples.</p>" if count > len(cards) else ""
    wide = " wide" if trained.spec.kind in ("tokens", "sequence") else ""
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8">{MARK}'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}{heatmaps.STYLE}</style></head>\n<body>\n<h1>{escape(title)}</h1>\n"
        f"<p class=quiet>{escape(str(trained.run.path))}, weights of step {trained.step}{epoch}</p>\n"
        f"<p>{_told(trained)}</p>\n{more}"
        f'<div class="samples{wide}">{"".join(cards)}</div>\n</body></html>\n'
    )


def _told(trained: OpenedRun) -> str:
    """What the page shows, in words."""
    from trainer.commands.explain.attribution import quantity

    kind = trained.spec.kind
    units = {"image": "pixel", "spectrogram": "band of each frame", "tokens": "token", "table": "column"}
    unit = units.get(kind, "column of each step" if trained.features is None else "step")
    what = {
        "log odds": "the log odds of the class, log p / (1 − p)",
        "value": "the value",
        "score": "the score of the class",
    }[quantity(trained)]
    start = "zeros" if trained.normalise is None else "the mean of the training data"
    start = "a text of padding" if kind == "tokens" else start
    unknown = " With dots below: not in the vocabulary, so that all such words are one to the model."
    return (
        f"How much each {unit} added to {what}, on the way from the baseline, "
        f"{start}, to the sample: integrated gradients (Sundararajan et al. 2017). They add up to the difference of "
        "both. They tell what counted for this model, not what is so in the world."
        + unknown
        * ("vocabulary" in trained.learned)
    )
