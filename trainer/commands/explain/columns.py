"""Measure what the columns of a table do for a run: the permutation importance and the effect of each column.

The importance of a column is how much worse a metric is with the cells of the column exchanged at random among the
samples (Breiman 2001; Fisher, Rudin and Dominici 2019). The effect of a column is the mean answer of the model if the
column had one and the same cell in all samples (partial dependence, Friedman 2001).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from trainer.commands.explain.attribution import name_columns
from trainer.commands.opened_run import OpenedRun
from trainer.compose.plugins import load_metrics
from trainer.config import ConfigError
from trainer.config.messages import did_you_mean
from trainer.data import Split
from trainer.data.sources import Inputs, keep, valid_steps
from trainer.data.table_encoding import MISSING, OTHER, EncodedColumn, TableEncoding
from trainer.loss._probabilities import gives_probabilities
from trainer.metrics import METRICS, Metric, Sums
from trainer.spec import Task

EXCHANGES = 5  # times that the cells of a column are exchanged
SEED = 0  # of the exchanges and of the choice of samples, so that the numbers are the same each time
MAX_SAMPLES = 5000  # of a split, of which the importance is measured
MAX_EFFECT_SAMPLES = 500  # over which the answers of an effect are averaged
MAX_NUMBERS = 2**25  # in the changed raw rows of a column; of long sequences fewer samples are taken
MAX_COLUMNS = 200  # whose importance is measured, unless columns are named
MAX_EFFECTS = 20  # columns with an effect, the most important ones
MAX_POINTS = 20  # quantiles of a number, or levels of a category
MAX_SHOWN = 3  # classes or labels whose answers an effect shows
MAX_NAMED = 20  # columns in a message
ROWS_AT_ONCE, VALUES_AT_ONCE = 1024, 2**20  # in a batch; more rows are not faster on a CPU
READABLE: dict[Task, str] = {"classification": "accuracy", "multilabel": "f1", "regression": "rmse"}


@dataclass(frozen=True)
class Column:
    """A column that a run learned from, and the places of its values in a raw row."""

    encoded: EncodedColumn
    place: slice

    @property
    def name(self) -> str:
        return self.encoded.name


@dataclass(frozen=True)
class Score:
    """The metric by which answers are compared; ``metric`` is None for the loss."""

    name: str
    metric: Metric | None

    @property
    def sign(self) -> int:
        """1 if a higher value is better, else -1."""
        return 1 if self.metric is not None and self.metric.higher_is_better else -1


class Samples(NamedTuple):
    """Raw samples on the device of a model, and their targets."""

    inputs: Inputs
    targets: Tensor

    def __len__(self) -> int:
        return len(self.targets)


@dataclass(frozen=True)
class Effect:
    """The mean answers of a model for several cells of a column.

    Args:
        cells: (points,) the raw values of the column; NaN is a missing cell.
        counts: the number of samples that have each cell; None for quantiles.
        answers: (points, classes, labels or values) the mean scores if all samples had the cell.
        shown: the classes, labels or values to show: that asked for, the second of two classes, or those that change
            the most.
    """

    cells: Tensor
    counts: Sequence[int] | None
    answers: Tensor
    shown: Sequence[int]


@dataclass(frozen=True)
class ExplainedColumn:
    """A column with the loss of the metric by each exchange, (exchanges,) float64, and the effect if it is measured."""

    column: Column
    worse: Tensor
    effect: Effect | None = None

    @property
    def importance(self) -> float:
        """The mean loss of the metric; below 0 if the exchanges happened to improve the metric."""
        return float(self.worse.mean())

    @property
    def deviation(self) -> float:
        """The sample standard deviation of the loss over the exchanges."""
        return float(self.worse.std())


@dataclass(frozen=True)
class ExplainedColumns:
    """The columns of a run, the most important first.

    Args:
        columns: the columns.
        score: the metric that gets worse.
        value: the metric without an exchange.
        num_samples: the number of samples that were measured.
        num_in_split: the number of samples of the split.
        num_left_out: the number of columns that were not measured.
        answer: (classes, labels or values) the mean scores without a change.
    """

    columns: Sequence[ExplainedColumn]
    score: Score
    value: float
    num_samples: int
    num_in_split: int
    num_left_out: int
    answer: Tensor

    def measured(self, split: str) -> str:
        """Return how many samples of a split were measured, as text."""
        whole = f"{self.num_samples:,} sample{'s' * (self.num_samples != 1)} of {split}"
        return whole if self.num_samples == self.num_in_split else f"{whole}, drawn from {self.num_in_split:,}"

    def said(self, difference: float) -> str:
        """Return an importance or a deviation as text, with the decimal places of the metric."""
        scale = max([abs(self.value), *(abs(each.importance) for each in self.columns)])
        if not 1e-3 <= scale < 1e4:
            return f"{difference:.3e}"
        return f"{round(difference, 4) + 0.0:.4f}"


def has_columns(trained: OpenedRun) -> bool:
    """Return whether the samples of a run have columns: whether they are rows of a table, or sequences of rows."""
    return trained.spec.kind in ("table", "sequence") and trained.features is None


def columns_of(trained: OpenedRun) -> list[Column]:
    """Return the columns of a run, in the order of a raw row.

    Raises:
        ConfigError: the samples of the run have no columns.
    """
    if not has_columns(trained):
        raise ConfigError(
            f"--columns: the run {trained.run.path} reads {trained.spec}, which has no columns; "
            f"trainer explain RUN FILE explains the answer for a file"
        )
    encoding, width = trained.normalise, trained.raw_shape[-1]
    plain = [EncodedColumn(name) for name in name_columns(trained, width)]
    found, start = list[Column](), 0
    for encoded in encoding.columns if isinstance(encoding, TableEncoding) else plain:
        found.append(Column(encoded, slice(start, start + encoded.raw_width)))
        start += encoded.raw_width
    return found


def find_columns(columns: Sequence[Column], typed: str) -> list[Column]:
    """Return the columns with names that are separated by commas; all columns if nothing is typed.

    Raises:
        ConfigError: the run has no column of such a name.
    """
    by_name = {column.name: column for column in columns}
    if not typed:
        return [*columns]
    names = [typed] if typed in by_name else list(dict.fromkeys(each.strip() for each in typed.split(",")))
    for name in names:
        if name not in by_name:
            near = did_you_mean(name, by_name)
            if not near and "=" in name:
                near = f"; write {name} before --columns;"
            known = ", ".join([*by_name][:MAX_NAMED])
            more = f" and {len(by_name) - MAX_NAMED:,} more" if len(by_name) > MAX_NAMED else ""
            raise ConfigError(f"--columns: {name}: no such column{near or ';'} the run learned from {known}{more}")
    return [by_name[name] for name in names]


def choose_score(trained: OpenedRun, typed: str | None = None) -> Score:
    """Return the metric named ``typed``; if None, the run's monitor.

    If the run monitors its loss, which has no unit of the data, the score is the accuracy of classes, the F1 of labels
    or the RMSE of values.

    Raises:
        ConfigError: the task has no metric of this name, or the metric needs probabilities and the loss gives values.
    """
    settings, task = trained.settings, trained.spec.task
    load_metrics([*([typed] if typed else []), *(settings.metrics or ())])
    known = {name: found for (name, its_task), found in METRICS.items() if its_task == task}
    if typed is None:
        monitor = (settings.monitor or "").removeprefix("val/")
        typed = monitor if monitor in known else READABLE[task]
    if typed not in known and typed != "loss":
        names = ["loss", *sorted(known)]
        near = did_you_mean(typed, names) or ";"
        raise ConfigError(f"--metric: {typed}: no such metric for {task}{near} metrics: {', '.join(names)}")
    metric = known.get(typed)
    if metric is not None and metric.of == "probabilities" and not gives_probabilities(trained.loss, trained.spec):
        why = f"needs probabilities, and the run has loss={settings.loss['name']}, which gives values"
        raise ConfigError(f"--metric: {typed}: {why}; --metric {READABLE[task]} needs none")
    return Score(typed, metric)


def choose_samples(trained: OpenedRun, split: Split, most: int = MAX_SAMPLES) -> Samples:
    """Return the samples of a split, or ``most`` of them, drawn at random but the same each time."""
    most = _fitting(trained, most, EXCHANGES)
    if len(split) > most:
        split = split.take(torch.randperm(len(split), generator=_generator())[:most].sort().values)
    inputs = split.source.fetch(split.positions)
    return Samples(tuple(each.to(trained.device) for each in inputs), split.targets.to(trained.device))


def explain_columns(
    trained: OpenedRun,
    split: Split,
    columns: Sequence[Column],
    score: Score,
    *,
    target: int | None = None,
    max_samples: int = MAX_SAMPLES,
    max_effects: int = MAX_EFFECTS,
    max_effect_samples: int = MAX_EFFECT_SAMPLES,
    watch: Callable[[Sequence[Column]], Iterable[Column]] = iter,
) -> ExplainedColumns:
    """Measure the importance of columns on a split, and the effects of the most important ones.

    Args:
        trained: the run.
        split: the samples.
        columns: the columns, of which the first ``MAX_COLUMNS`` are measured.
        score: the metric.
        target: the class, label or value whose answers the effects show; None for a choice, see ``Effect``.
        max_samples: the number of samples of the split that are measured at most.
        max_effects: the number of columns whose effects are measured at most.
        max_effect_samples: the number of samples over which the answers of an effect are averaged at most.
        watch: wraps the columns while they are measured, for a progress bar.
    """
    samples = choose_samples(trained, split, max_samples)
    value = measure_score(trained, _outputs(trained, samples.inputs), samples.targets, score)
    orders = draw_orders(len(samples))
    found = [
        ExplainedColumn(column, measure_importance(trained, samples, column, score, value, orders))
        for column in watch(columns[:MAX_COLUMNS])
    ]
    found.sort(key=lambda each: -each.importance if math.isfinite(each.importance) else math.inf)
    most = _fitting(trained, max_effect_samples, MAX_POINTS)
    some = _take(samples, torch.arange(0, len(samples), -(-len(samples) // most)))
    for at, each in enumerate(found[:max_effects]):
        found[at] = dataclasses.replace(each, effect=measure_effect(trained, samples, some, each.column, target))
    return ExplainedColumns(
        found,
        score,
        value,
        num_samples=len(samples),
        num_in_split=len(split),
        num_left_out=max(0, len(columns) - MAX_COLUMNS),
        answer=_mean_scores(trained, some.inputs, 1)[0],
    )


# ---- importance


def draw_orders(num_samples: int) -> Tensor:
    """Return random orders of samples, (exchanges, samples) int64, the same each time."""
    generator = _generator()
    return torch.stack([torch.randperm(num_samples, generator=generator) for _ in range(EXCHANGES)])


def measure_importance(
    trained: OpenedRun, samples: Samples, column: Column, score: Score, value: float, orders: Tensor
) -> Tensor:
    """Return how much worse the metric is than ``value`` with each exchange of a column's cells, (exchanges,) float64.

    Args:
        orders: (exchanges, samples) int64, for each sample the sample whose cells it is given.
    """
    orders = orders.to(trained.device)
    changed = _joined([exchange_cells(samples.inputs, column.place, order) for order in orders])
    outputs = _outputs(trained, changed).split(len(samples))
    found = [measure_score(trained, each, samples.targets, score) for each in outputs]
    return score.sign * (value - torch.tensor(found, dtype=torch.float64))


def exchange_cells(inputs: Inputs, place: slice, order: Tensor) -> Inputs:
    """Return raw samples that have the cells of a column from the samples at ``order``.

    A sequence is given the whole series of another sequence. If that series has another length, its steps are repeated
    or left out evenly, so that it fits.
    """
    values, *lengths = inputs
    given = values[..., place].index_select(0, order)
    if lengths:
        own, theirs = lengths[0][:, None], lengths[0].index_select(0, order)[:, None]
        steps = torch.arange(values.shape[1], device=values.device)
        where = torch.minimum(steps * theirs // own, theirs - 1)
        given = given.gather(1, where[..., None].expand_as(given))
        given = keep(given, valid_steps(lengths[0], values.shape[1]))
    changed = values.clone()
    changed[..., place] = given
    return changed, *lengths


@torch.inference_mode()
def measure_score(trained: OpenedRun, outputs: Tensor, targets: Tensor, score: Score) -> float:
    """Return the metric of the outputs of a model, (samples, outputs), given their targets."""
    loss, keeps = trained.loss, score.metric is not None and score.metric.of != "sums"
    sums = Sums(trained.spec, trained.device, loss.scores, trained.thresholds, keeps_outputs=keeps)
    sums.update(loss(outputs, targets), loss.size(targets), outputs, targets)
    return sums.compute({} if score.metric is None else {score.name: score.metric})[score.name]


# ---- effect


def measure_effect(
    trained: OpenedRun, samples: Samples, some: Samples, column: Column, target: int | None = None
) -> Effect | None:
    """Return the effect of a column, or None for a text, and for a column without a cell.

    In a sequence every step has the cell.

    Args:
        samples: the samples whose cells the column is given.
        some: the samples over which the answers are averaged.
        target: as for ``explain_columns``.
    """
    if column.encoded.kind == "text":
        return None
    cells, counts = _choose_cells(column.encoded, _cells(samples.inputs, column))
    if not len(cells):
        return None
    changed = _joined([_with_cell(some.inputs, column, cell) for cell in cells])
    answers = _mean_scores(trained, changed, len(cells))
    return Effect(cells.cpu(), counts, answers, _choose_shown(trained, answers, target))


def _cells(inputs: Inputs, column: Column) -> Tensor:
    """Return the cells of a column in all samples and steps, (cells,) float32."""
    values, *lengths = inputs
    cells = values[..., column.place.start]
    return (cells[valid_steps(lengths[0], cells.shape[1])] if lengths else cells.flatten()).float()


def _choose_cells(column: EncodedColumn, cells: Tensor) -> tuple[Tensor, list[int] | None]:
    """Return the cells for which an effect is measured, and how often each occurs; None for quantiles."""
    there = cells[~cells.isnan()]
    marks = [math.nan] if column.missing else []
    if column.kind == "category":
        counts = there[there >= 0].long().bincount(minlength=len(column.levels))
        levels = counts.argsort(descending=True, stable=True)[:MAX_POINTS].tolist()
        chosen = cells.new_tensor([*map(float, levels), *[OTHER] * column.other, *marks])
    else:
        values = there.unique()
        if len(values) > MAX_POINTS:  # the middles of parts with equally many cells
            middles = (torch.arange(MAX_POINTS, device=cells.device) + 0.5) / MAX_POINTS * len(there)
            chosen = there.sort().values[middles.long()].unique()
            return torch.cat([chosen, chosen.new_tensor(marks)]), None
        chosen = torch.cat([values, values.new_tensor(marks)])
    comparable = cells.nan_to_num(MISSING if column.kind == "category" else math.inf)
    wanted = chosen.nan_to_num(MISSING if column.kind == "category" else math.inf)
    return chosen, (comparable == wanted[:, None]).sum(1).tolist()


def _with_cell(inputs: Inputs, column: Column, cell: Tensor) -> Inputs:
    values, *lengths = inputs
    changed = values.float().clone()
    changed[..., column.place] = cell
    if lengths:
        changed = keep(changed, valid_steps(lengths[0], changed.shape[1]))
    return changed, *lengths


def _choose_shown(trained: OpenedRun, answers: Tensor, target: int | None) -> list[int]:
    """Return the classes, labels or values that an effect shows, in order."""
    if target is not None:
        return [target]
    if trained.spec.task == "classification" and answers.shape[1] == 2:
        return [1]
    changes = answers.amax(0) - answers.amin(0)
    if trained.spec.task == "regression":  # values may have different units
        scale = torch.tensor(trained.spec.target_std or 1.0, dtype=changes.dtype)
        return [int((changes / scale.clamp_min(1e-12)).argmax())]
    return sorted(changes.argsort(descending=True, stable=True)[:MAX_SHOWN].tolist())


def _mean_scores(trained: OpenedRun, inputs: Inputs, parts: int) -> Tensor:
    """Return the mean scores of each of several parts with equally many samples, (parts, scores) float64."""
    with torch.inference_mode():
        scores = trained.loss.scores(_outputs(trained, inputs)).cpu().double()
    return scores.view(parts, -1, scores.shape[1]).mean(1)


@torch.inference_mode()
def _outputs(trained: OpenedRun, inputs: Inputs) -> Tensor:
    """Return the outputs of the model for raw samples, in batches."""
    size = max(trained.batch_size, min(ROWS_AT_ONCE, VALUES_AT_ONCE // math.prod(trained.spec.shape)))
    batches = zip(*(each.split(size) for each in inputs), strict=True)
    return torch.cat([trained.outputs(trained.read(batch)) for batch in batches])


def _joined(parts: Sequence[Inputs]) -> Inputs:
    return tuple(torch.cat(each) for each in zip(*parts, strict=True))


def _fitting(trained: OpenedRun, most: int, copies: int) -> int:
    """Return the number of samples, at most ``most``, of which so many copies fit into memory."""
    return min(most, max(1, MAX_NUMBERS // (copies * math.prod(trained.raw_shape))))


def _take(samples: Samples, which: Tensor) -> Samples:
    which = which.to(samples.targets.device)
    return Samples(tuple(each[which] for each in samples.inputs), samples.targets[which])


def _generator() -> torch.Generator:
    return torch.Generator().manual_seed(SEED)
