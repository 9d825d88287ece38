"""The analysis for a report: evaluate the model again, explain its worst mistakes and the columns of a table."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import torch
from markupsafe import Markup
from torch import Tensor

from trainer.commands.evaluate.measure import Measured, measure, part_of
from trainer.commands.explain.attribution import attribute
from trainer.commands.explain.column_figures import draw_columns
from trainer.commands.explain.columns import choose_score, columns_of, explain_columns, has_columns
from trainer.commands.explain.heatmaps import draw_attributions
from trainer.commands.opened_run import OpenedRun, notes, open_run
from trainer.commands.pages.drawings import draw_lines, draw_sound
from trainer.commands.pages.samples import WIDTH, draw_samples, find_value_range
from trainer.config import ConfigError, RunError
from trainer.data import Split
from trainer.data.sources import unpadded
from trainer.runs.read import Run

WAVE_HEIGHT = 48  # pixels
MAX_EFFECTS, MAX_EFFECT_SAMPLES = 6, 200  # of the columns; trainer explain RUN --columns takes more
MIN_COLUMN_SAMPLES, MAX_COLUMN_SAMPLES, MAX_CELLS = 100, 1000, 20_000  # the cells are those of all columns and steps


@dataclasses.dataclass(frozen=True)
class Mistake:
    """A sample that the model predicts wrongly."""

    place: str  # the file of the sample, or its number
    truth: str  # the target as text
    answer: str  # the prediction as text
    drawing: Markup | str  # empty if the explanation already shows the sample
    explanation: Markup | str  # the attributions as HTML; empty without explanations


@dataclasses.dataclass(frozen=True)
class Analysis:
    """The result of evaluating a run's model again."""

    trained: OpenedRun | None  # None if the checkpoint cannot be opened
    measured: Measured | None = None  # None if the checkpoint or the data cannot be read
    mistakes: Sequence[Mistake] = ()  # the worst first
    num_wrong: int | None = None  # the number of all mistakes; None for regression
    notes: Sequence[str] = ()  # warnings, one line each
    columns: Markup | str = ""  # what the columns do, as HTML; empty without columns or explanations


def analyse(
    run: Run, words: Sequence[str], *, checkpoint: str, split: str, max_mistakes: int, explains: bool
) -> Analysis:
    """Evaluate a run and find its worst mistakes; a checkpoint or data that cannot be read become a warning."""
    trained, lines = None, list[str]()
    try:
        trained = open_run(run, checkpoint=checkpoint, words=words)
        lines += notes(trained)
        measured = measure([trained], split, None)
    except (ConfigError, RunError) as error:
        lines += (f"the mistakes are not shown: {each}" for each in _problems(error))
        return Analysis(trained, notes=lines)
    if not measured.own:
        lines.append(
            "the data have changed since the training, so the run may have been trained on some of these samples"
        )
    lines += measured.notes()
    order, num_wrong = _find_worst(measured, max_mistakes)
    explanations = list["Markup"]()
    if explains and len(order):
        try:
            inputs = measured.raw(order)
            explanations = draw_attributions(trained, inputs, attribute(trained, inputs))
        except (ConfigError, RunError) as error:
            lines += (f"the page is without explanations: {each}" for each in _problems(error))
    columns = _explain_columns(trained, measured) if explains and has_columns(trained) else ""
    return Analysis(trained, measured, _show(trained, measured, order, explanations), num_wrong, lines, columns)


def _explain_columns(trained: OpenedRun, measured: Measured) -> Markup:
    """Return what the columns do, measured on samples that are measured in the report, too."""
    columns, steps = columns_of(trained), math.prod(trained.spec.shape[:-1])
    found = explain_columns(
        trained,
        Split(part_of(measured.data, measured.split).source, measured.positions),
        columns,
        choose_score(trained),
        max_samples=max(MIN_COLUMN_SAMPLES, min(MAX_COLUMN_SAMPLES, MAX_CELLS // (len(columns) * steps))),
        max_effects=MAX_EFFECTS,
        max_effect_samples=MAX_EFFECT_SAMPLES,
    )
    return draw_columns(trained, found, measured.split)


def _problems(error: ConfigError | RunError) -> Sequence[str]:
    return error.problems if isinstance(error, ConfigError) else [str(error)]


def _find_worst(measured: Measured, count: int) -> tuple[Tensor, int | None]:
    """Find the mistakes with the lowest probability of the true class or label, or for regression the largest errors.

    The error of a value is measured in standard deviations of the targets.

    Returns:
        the indices of these samples in ``measured``, the worst first; and the number of all mistakes, None for
        regression.
    """
    scores, targets = measured.scores.double(), measured.targets
    if measured.spec.task == "regression":
        scale = targets.double().std(0, correction=0).clamp_min(1e-12)
        errors = ((scores - targets).abs() / scale).amax(1)
        return errors.argsort(descending=True, stable=True)[:count], None
    if measured.spec.task == "classification":
        wrong = scores.argmax(1) != targets
        probability = scores.gather(1, targets[:, None])[:, 0]
    else:
        wrong = ((scores > torch.tensor(measured.thresholds)) != (targets > 0.5)).any(1)
        probability = torch.where(targets > 0.5, scores, 1 - scores).amin(1)
    order = torch.where(wrong, probability, torch.inf).argsort(stable=True)
    num_wrong = int(wrong.sum())
    return order[: min(count, num_wrong)], num_wrong


def _show(trained: OpenedRun, measured: Measured, order: Tensor, explanations: Sequence[Markup | str]) -> list[Mistake]:
    if not len(order):
        return []
    data, raw = measured.data, measured.raw(order)
    drawings: list[Markup | str] = [""] * len(order)
    if not explanations:
        drawings = [*draw_samples(data, trained.read(raw), find_value_range(raw[0]))]
        explanations = [""] * len(order)
    if data.features is not None:
        rate = trained.preprocessing["sample_rate"]
        drawings = [each + _draw_wave(wave, rate) for each, wave in zip(drawings, unpadded(raw), strict=True)]
    mistakes = []
    for at, drawing, explanation in zip(order.tolist(), drawings, explanations, strict=True):
        position = int(measured.positions[at])
        place = str(data.places[position]) if data.places is not None else f"sample {position}"
        mistakes.append(Mistake(place, *_describe(measured, at), drawing, explanation))
    return mistakes


def _draw_wave(wave: Tensor, rate: int) -> Markup | str:
    player = draw_sound(wave, rate)
    return draw_lines(wave.float().view(-1, 1).numpy(), WIDTH, WAVE_HEIGHT) + player if player else ""


def _describe(measured: Measured, at: int) -> tuple[str, str]:
    """Return the target and the prediction of a sample, as text."""
    names, scores, target = measured.spec.classes, measured.scores[at], measured.targets[at]
    if measured.spec.task == "classification":
        best, own = int(scores.argmax()), int(target)
        return f"{names[own]} ({float(scores[own]):.2f})", f"{names[best]} ({float(scores[best]):.2f})"
    if measured.spec.task == "multilabel":
        truth = [name for name, value in zip(names, target, strict=True) if value > 0.5]
        pairs = zip(names, scores.tolist(), measured.thresholds, strict=True)
        answer = [f"{name} {score:.2f}" for name, score, threshold in pairs if score > threshold]
        return ", ".join(truth) or "none", ", ".join(answer) or "none"
    truth, answer = (
        [f"{names[at]} {measured.spec.value_text(at, value)}" for at, value in enumerate(values.tolist())]
        for values in (target, scores)
    )
    return ", ".join(truth), ", ".join(answer)
