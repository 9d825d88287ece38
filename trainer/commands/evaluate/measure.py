"""Compute the metrics of a run, or of an ensemble of runs, on a data set."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from trainer.commands.evaluate.own_samples import count_in_own_path
from trainer.commands.evaluate.scores import PerClass, check_names, default_names, per_class, top_accuracy
from trainer.commands.opened_run import Answers, OpenedRun, answers
from trainer.compose.plugins import load_metrics
from trainer.config import ConfigError
from trainer.data import Data, Split
from trainer.data.sources import Inputs
from trainer.loss import Loss
from trainer.loss._probabilities import gives_probabilities
from trainer.loss._quantiles import QuantileLoss
from trainer.metrics import METRICS, THRESHOLD, Sums, choose_metrics
from trainer.runs.directory import TEMPERATURE
from trainer.spec import Spec

MAX_NAMES = 5  # maximum number of classes or labels in a line


@dataclasses.dataclass(frozen=True)
class Interval:
    """The share of the values that lie between the lowest and the highest quantile, bounds included."""

    low: float  # the level of the lowest quantile
    high: float  # the level of the highest quantile
    coverage: float

    def __str__(self) -> str:
        wanted = f"{100 * (self.high - self.low):.4g} % wanted"
        return f"{100 * self.coverage:.1f} % lie between the quantiles {self.low:g} and {self.high:g} ({wanted})"


@dataclasses.dataclass(frozen=True)
class Measured:
    """The metrics of a run or an ensemble on one split."""

    split: str  # train, val, test or all
    own: bool  # whether the data set equals the one with which the run was trained
    num_in_own_path: int  # of other data, the samples that are in the files or folders of the run's own data
    spec: Spec  # the spec of the data set
    data: Data  # the data set of the first run
    positions: Tensor  # (samples,) int64, the positions of the samples in the source of the split
    scores: Tensor  # (samples, classes or labels) probabilities, or (samples, values) for regression
    fine: Tensor  # the scores as float64, which distinguish probabilities near 1; metrics of scores take them
    targets: Tensor  # (samples,) class indices, (samples, labels) of 0 and 1, or (samples, values)
    sums: Tensor  # the total of ``trainer.metrics.Sums``, for example the (classes, classes) confusion matrix
    thresholds: tuple[float, ...]  # the score above which each label is predicted; empty without labels
    values: dict[str, float]  # the loss and the metrics by name
    interval: Interval | None = None  # of the outer quantiles of a quantile loss

    def to_dict(self) -> dict[str, Any]:
        """Return plain containers for ``--json``: metrics named as in summary.json, metrics by class, confusions."""
        found: dict[str, Any] = {
            "dataset": self.spec.dataset,
            "split": self.split,
            "samples": len(self.targets),
            "own_data": self.own,
            "samples_in_own_path": self.num_in_own_path,
            "metrics": {f"{self.split}/{name}": value for name, value in self.values.items()},
        }
        if self.interval is not None:
            found["interval"] = dataclasses.asdict(self.interval)
        if self.spec.task != "regression":
            rows = zip(*(each.tolist() for each in self.by_class), strict=True)
            found["classes"] = [
                {"name": name, **dict(zip(PerClass._fields, row, strict=True))}
                for name, row in zip(self.spec.classes, rows, strict=True)
            ]
        for each, threshold in zip(found["classes"], self.thresholds, strict=True) if self.thresholds else ():
            each["threshold"] = threshold
        if self.spec.task == "classification":
            found["confusion"] = self.sums.tolist()
        return found

    @property
    def num_left_out(self) -> int:
        """The number of samples of the split that ``limit_batches`` left out."""
        return len(part_of(self.data, self.split)) - len(self.targets)

    def raw(self, order: Tensor) -> Inputs:
        """Return the raw samples with the given indices in ``positions``."""
        return part_of(self.data, self.split).source.fetch(self.positions[order])

    @functools.cached_property
    def by_class(self) -> PerClass:
        """Precision, recall, F1, AUROC, average precision and the number of samples of each class or label."""
        return per_class(self.sums, self.fine, self.targets)

    def class_rows(self) -> list[list[str]]:
        """Return a row of a table for each class or label, with the cells of ``class_head``; NaN is empty."""
        *metrics, samples = (each.tolist() for each in self.by_class)
        rows = [
            [name, *("" if math.isnan(value) else f"{value:.4f}" for value in values), f"{count:,}"]
            for name, count, *values in zip(self.spec.classes, samples, *metrics, strict=True)
        ]
        thresholds = [[f"{value:.4f}"] for value in self.thresholds] or [[]] * len(rows)
        return [[*row, *more] for row, more in zip(rows, thresholds, strict=True)]

    @property
    def class_head(self) -> list[str]:
        """The names of the columns of ``class_rows``."""
        noun = "class" if self.spec.task == "classification" else "label"
        return [noun, "precision", "recall", "f1", "auroc", "ap", "samples", *["threshold"] * bool(self.thresholds)]

    def notes(self) -> list[str]:
        """Return a line for the classes or labels that the mean of a metric leaves out, as it is not defined."""
        names = [name for name in ("auroc", "average_precision") if name in self.values]
        if not names or (self.spec.task == "classification" and len(self.spec.classes) == 2):
            return []
        samples, lines = self.by_class.samples, []
        for rule, which in (("no", samples == 0), ("every", samples == len(self.targets))):
            left_out = [
                name for name, is_left_out in zip(self.spec.classes, which.tolist(), strict=True) if is_left_out
            ]
            metrics = names if rule == "no" else [name for name in names if name == "auroc"]
            if left_out and metrics:
                more = f" and {len(left_out) - MAX_NAMES:,} more" if len(left_out) > MAX_NAMES else ""
                shown = f"{', '.join(left_out[:MAX_NAMES])}{more}"
                where = "" if self.split == "all" else f" of {self.split}"
                lines.append(f"{rule} sample{where} has {shown}: left out of the mean {' and '.join(metrics)}")
        return lines

    def confused(self, most: int) -> list[tuple[str, str, int]]:
        """Return (true class, predicted class, number of samples) for the pairs that are confused most often."""
        names, wrong = self.spec.classes, self.sums.clone().fill_diagonal_(0).flatten()
        order = wrong.argsort(descending=True, stable=True)[:most].tolist()
        return [(names[at // len(names)], names[at % len(names)], int(wrong[at])) for at in order if wrong[at] > 0]


def measure(models: Sequence[OpenedRun], split: str | None, metrics: Sequence[str] | None) -> Measured:
    """Compute the metrics of a run, or of an ensemble of runs, whose scores are averaged.

    Each run preprocesses the data in its own way.

    Args:
        models: the runs, which have the same task and classes.
        split: train, val, test or all. None selects test for the data set with which the run was trained, and all for
            another data set, which may yet have samples of training.
        metrics: the names of the metrics; None selects those of the run and ``default_names``.

    Raises:
        ConfigError: the data cannot be read, the split or a metric does not exist, or the runs differ in their task,
            classes or samples.
    """
    first = models[0]
    for other in models[1:]:
        if (other.spec.task, other.spec.classes) != (first.spec.task, first.spec.classes):
            raise ConfigError(f"{other.run.path}: answers {other.spec}, but {first.run.path} {first.spec}")
    load_metrics([*(metrics or ()), *(first.settings.metrics or ())])
    found: tuple[Data, str, bool] | None = None
    parts: list[Answers] = []
    loss = 0.0
    for model in models:
        data = model.data()
        own = data.fingerprint() == model.fingerprint
        name = split or ("test" if own else "all")
        # A run applies limit_batches when it evaluates val and test. All samples of other splits or data are evaluated.
        limited = own and name in ("val", "test")
        given, loss = answers(model, data, part_of(data, name), limited=limited)
        parts.append(given)
        if found is not None and not _are_same_samples(found[0], data, parts[0], given):
            raise ConfigError(f"{model.run.path}: its {name} has other samples than that of {first.run.path}")
        found = found or (data, name, own)
    assert found is not None
    data, name, own = found
    one = len(models) == 1
    probabilities, fine = (_scores(models, parts, dtype) for dtype in (torch.float32, torch.float64))
    targets = parts[0].targets
    thresholds = first.thresholds if one else tuple(torch.tensor([each.thresholds for each in models]).mean(0).tolist())
    sums = _sums(data.spec, probabilities, targets, thresholds, first.batch_size)
    values = _values(first, sums, probabilities, fine, targets, metrics)
    quantiles = _quantiles(models, parts)
    values = {"loss": loss if one else _loss(first, probabilities, quantiles, targets), **values}
    return Measured(
        split=name,
        own=own,
        num_in_own_path=0 if own else count_in_own_path(first, data, parts[0].positions),
        spec=data.spec,
        data=data,
        positions=parts[0].positions,
        scores=probabilities,
        fine=fine,
        targets=targets,
        sums=sums.total,
        thresholds=thresholds,
        values=values,
        interval=_interval(first.loss, quantiles, targets),
    )


def _are_same_samples(one: Data, other: Data, first: Answers, second: Answers) -> bool:
    """Return whether two runs were evaluated on the same samples in the same order."""
    if not (torch.equal(first.positions, second.positions) and torch.equal(first.targets, second.targets)):
        return False
    if one.places is None or other.places is None:
        return one.places is other.places and one.spec.dataset == other.spec.dataset
    return all(one.places[at] == other.places[at] for at in first.positions.tolist())


def part_of(data: Data, name: str) -> Split:
    """Return a split by name; ``all`` is the union of all splits, with each sample once."""
    splits = data.splits()
    if name != "all":
        if name not in splits:
            raise ConfigError(f"--split: {name}: no such split; splits: {', '.join(splits)}, all")
        return splits[name]
    sources = {id(split.source) for split in splits.values()}
    if len(sources) > 1:
        raise ConfigError(
            f"--split: all: the splits of dataset={data.spec.dataset} are separate; splits: {', '.join(splits)}"
        )
    return Split(data.test.source, torch.cat([split.positions for split in splits.values()]).unique())


def _scores(models: Sequence[OpenedRun], parts: Sequence[Answers], dtype: torch.dtype) -> Tensor:
    """Return the scores of the runs on the CPU, computed from outputs of a type; of several runs, their mean."""
    scores = [
        model.loss.scores(each.outputs.to(model.device, dtype if model.device.type != "mps" else torch.float32)).cpu()
        for model, each in zip(models, parts, strict=True)
    ]
    return scores[0] if len(scores) == 1 else torch.stack(scores).mean(0)


def _quantiles(models: Sequence[OpenedRun], parts: Sequence[Answers]) -> Tensor | None:
    """Return the quantiles of the runs on the CPU, (samples, values, levels), of several their mean; None without any.

    Raises:
        ConfigError: the runs have other quantiles.
    """
    levels = [model.loss.of_levels if isinstance(model.loss, QuantileLoss) else None for model in models]
    for model, own in zip(models, levels, strict=True):
        if own != levels[0]:
            raise ConfigError(f"{model.run.path}: its loss has other quantiles than that of {models[0].run.path}")
    found = [
        model.loss.quantiles(each.outputs.to(model.device)).cpu()
        for model, each in zip(models, parts, strict=True)
        if isinstance(model.loss, QuantileLoss)
    ]
    return torch.stack(found).mean(0) if found else None


def _interval(loss: Loss, quantiles: Tensor | None, targets: Tensor) -> Interval | None:
    """Return the interval of the outer quantiles; None without quantiles, or with the median alone."""
    if not isinstance(loss, QuantileLoss) or quantiles is None or len(loss.of_levels) == 1:
        return None
    inside = (targets >= quantiles[..., 0]) & (targets <= quantiles[..., -1])
    return Interval(loss.of_levels[0], loss.of_levels[-1], float(inside.double().mean()))


def _sums(spec: Spec, probabilities: Tensor, targets: Tensor, thresholds: Sequence[float], batch_size: int) -> Sums:
    """Return the sums over the samples in batches of the run's evaluation, which its sums of values depend on."""
    sums = Sums(spec, torch.device("cpu"), lambda scores: scores, thresholds)
    for some, true in zip(probabilities.split(batch_size), targets.split(batch_size), strict=True):
        sums.update(torch.zeros(()), len(true), some, true)
    return sums


def _values(
    model: OpenedRun,
    sums: Sums,
    probabilities: Tensor,
    fine: Tensor,
    targets: Tensor,
    wanted: Sequence[str] | None,
) -> dict[str, float]:
    """Return metrics by name: those in ``wanted``, else those of the run and ``default_names``."""
    spec = model.spec
    known = {name: found for (name, task), found in METRICS.items() if task == spec.task}

    def needs(name: str) -> bool:
        return name in known and known[name].of == "probabilities"

    if wanted is None:
        names = [*choose_metrics(model.settings.metrics, spec), *default_names(spec)]
        names = [name for name in names if not needs(name) or gives_probabilities(model.loss, spec)]
    else:
        names = list(wanted)
        check_names(names, spec, sorted(known))
        if (asked := [*filter(needs, names)]) and not gives_probabilities(model.loss, spec):
            why = f"needs probabilities, and the run has loss={model.settings.loss['name']}, which gives values"
            raise ConfigError(*(f"--metrics: {name}: {why}; leave it out" for name in asked))
    values = dict[str, float]()
    for name in names:
        if name not in known:
            values[name] = top_accuracy(probabilities, targets, int(name.removeprefix("top")))
        elif known[name].of == "sums":
            values[name] = sums.compute({name: known[name]})[name]
        else:
            values[name] = float(known[name].compute(fine, targets))
    return values


def _loss(model: OpenedRun, probabilities: Tensor, quantiles: Tensor | None, targets: Tensor) -> float:
    """Return the loss of an ensemble: the first run's loss of the outputs that have the mean scores or quantiles."""
    loss, spec = model.loss, model.spec
    scores = probabilities.to(model.device).double()
    if isinstance(loss, QuantileLoss) and quantiles is not None:
        outputs = loss.outputs_of(quantiles.to(model.device))
    elif spec.task == "regression" or not hasattr(loss, "scores"):
        mean, std = getattr(loss, "mean", 0.0), getattr(loss, "std", 1.0)
        outputs = (scores - mean) / std
    elif loss.num_outputs == 1 or spec.task == "multilabel":
        one = scores[:, 1:] if loss.num_outputs == 1 else scores
        outputs = one if loss.sigmoid else one.logit(1e-7)
    else:
        outputs = scores.clamp_min(1e-30).log()
    return float(loss(outputs.float(), targets.to(model.device)))


def differences(measured: Measured, model: OpenedRun) -> Mapping[str, tuple[float, float]] | None:
    """Return the test metrics that differ from summary.json: (value in summary.json, value measured now) by name.

    Return None if the values need not be equal: for other data, another split, other thresholds, another temperature,
    weights of another step, or weights of an earlier version that were converted, which changes the rounding.
    """
    summary, thresholds = model.run.summary, model.run.config.get("thresholds", THRESHOLD)
    same_data, same_step = measured.split == "test" and measured.own, summary.get("tested_step") == model.step
    as_chosen = thresholds == model.settings.thresholds and summary.get(TEMPERATURE) == model.temperature
    if not (same_data and same_step and as_chosen and not model.converted):
        return None
    found = {f"test/{name}": value for name, value in measured.values.items()}
    return {name: (summary[name], found[name]) for name in found if name in summary and summary[name] != found[name]}
