"""What trained models answer on a data set, measured: a run by itself, or several as one."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from trainer.commands.evaluate.scores import PerClass, check, compute, names, per_class
from trainer.commands.opened_run import Answers, OpenedRun, answers
from trainer.compose.plugins import load_metrics
from trainer.config import ConfigError
from trainer.data import Data, Split
from trainer.data.data import Inputs
from trainer.metrics import Sums, choose
from trainer.spec import Spec

SPLITS = ("train", "val", "test", "all")


@dataclasses.dataclass(frozen=True)
class Measured:
    """What came out.

    Args:
        split: train, val, test or all.
        own: whether these are the samples that the run was trained with, or split off from.
        spec: the data's.
        data: the data set of the first model.
        positions: (samples,) int64 of the samples in their source.
        answers: of the one model; None where several answer as one.
        scores: (samples, classes or labels) probabilities, or (samples, values).
        targets: as in ``Source``.
        sums: as ``trainer.metrics.Sums`` has them.
        values: loss and metrics by name.
    """

    split: str
    own: bool
    spec: Spec
    data: Data
    positions: Tensor
    answers: Answers | None
    scores: Tensor
    targets: Tensor
    sums: Tensor
    values: dict[str, float]

    def to_dict(self) -> dict[str, Any]:
        """For a program: metrics named as in summary.json, a row for each class, the confusion matrix."""
        found: dict[str, Any] = {
            "dataset": self.spec.dataset,
            "split": self.split,
            "samples": len(self.targets),
            "own_data": self.own,
            "metrics": {f"{self.split}/{name}": value for name, value in self.values.items()},
        }
        if self.spec.task != "regression":
            rows = zip(*(each.tolist() for each in self.of_classes()), strict=True)
            found["classes"] = [
                {"name": name, **dict(zip(PerClass._fields, row, strict=True))}
                for name, row in zip(self.spec.classes, rows, strict=True)
            ]
        if self.spec.task == "classification":
            found["confusion"] = self.sums.tolist()
        return found

    @property
    def num_left_out(self) -> int:
        """Samples of the split that were not looked at, as the run has a limit."""
        return len(_part(self.data, self.split)) - len(self.targets)

    def raw(self, order: Tensor) -> Inputs:
        """Some of the samples, by their numbers, as the source has them."""
        return _part(self.data, self.split).source.fetch(self.positions[order])

    def of_classes(self) -> PerClass:
        """What became of each class or label."""
        return per_class(self.sums, self.scores, self.targets)


def measure(models: Sequence[OpenedRun], split: str | None, metrics: Sequence[str] | None) -> Measured:
    """Measure models on a data set, each by its own preprocessing; several answer with the mean of their scores.

    Args:
        models: one or more, of the same classes.
        split: train, val, test or all; None: test where the data are the run's own, else all, as all of it is new.
        metrics: by name; None: those of the run, and what ``trainer.commands.evaluate.scores`` has.

    Raises:
        ConfigError: the data cannot be read, have no such split, or the models do not answer the same question.
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
        # a run's limit is that of its own evaluations; of other samples all are meant
        limited = own and name in ("val", "test")
        given, loss = answers(model, data, _part(data, name), limited=limited)
        parts.append(given)
        if found is not None and not _are_same(found[0], data, parts[0], given):
            raise ConfigError(f"{model.run.path}: its {name} has other samples than that of {first.run.path}")
        found = found or (data, name, own)
    assert found is not None
    data, name, own = found
    one = len(models) == 1
    mixed = torch.stack(
        [model.loss.scores(each.outputs.to(model.device)).cpu() for model, each in zip(models, parts, strict=True)]
    )
    probabilities, targets = mixed.mean(0) if not one else mixed[0], parts[0].targets
    sums = _sums(data.spec, probabilities, targets)
    values = _values(first, sums, probabilities, targets, metrics)
    values = {"loss": loss if one else _loss(first, probabilities, targets), **values}
    return Measured(
        split=name,
        own=own,
        spec=data.spec,
        data=data,
        positions=parts[0].positions,
        answers=parts[0] if one else None,
        scores=probabilities,
        targets=targets,
        sums=sums.total,
        values=values,
    )


def _are_same(one: Data, other: Data, first: Answers, second: Answers) -> bool:
    """Whether the same samples were asked about, in the same order."""
    if not (torch.equal(first.positions, second.positions) and torch.equal(first.targets, second.targets)):
        return False
    if (one.places is None) != (other.places is None):
        return False
    if one.places is not None and other.places is not None:
        return all(one.places[at] == other.places[at] for at in first.positions.tolist())
    return one.spec.dataset == other.spec.dataset


def _part(data: Data, name: str) -> Split:
    """The samples of a split, or of all, each once."""
    splits = data.splits()
    if name != "all":
        if name not in splits:
            raise ConfigError(f"--split: {name}: the data set has none; splits: {', '.join(splits)}, all")
        return splits[name]
    sources = {id(split.source) for split in splits.values()}
    if len(sources) > 1:
        raise ConfigError(
            f"--split: all: dataset={data.spec.dataset} keeps its splits apart; one of {', '.join(splits)}"
        )
    return Split(data.test.source, torch.cat([split.positions for split in splits.values()]).unique())


def _sums(spec: Spec, probabilities: Tensor, targets: Tensor) -> Sums:
    sums = Sums(spec, torch.device("cpu"), lambda scores: scores)
    for some, true in zip(probabilities.split(1024), targets.split(1024), strict=True):
        sums.update(torch.zeros(()), len(true), some, true)
    return sums


def _values(
    model: OpenedRun, sums: Sums, probabilities: Tensor, targets: Tensor, wanted: Sequence[str] | None
) -> dict[str, float]:
    spec = model.spec
    usual = choose(model.settings.metrics, spec)
    if wanted is None:
        asked = [*usual, *names(spec)]
        known = usual
    else:
        from trainer.metrics import METRICS

        known = {name: found for (name, task), found in METRICS.items() if task == spec.task}
        check(wanted, spec, sorted(known))
        asked = list(wanted)
    total = sums.compute({name: known[name] for name in asked if name in known})
    return {name: total[name] if name in known else compute(name, probabilities, targets) for name in asked}


def _loss(model: OpenedRun, probabilities: Tensor, targets: Tensor) -> float:
    """The loss of the first run, of outputs that would have given these scores."""
    loss, spec = model.loss, model.spec
    scores_ = probabilities.to(model.device).double()
    if spec.task == "regression" or not hasattr(loss, "scores"):
        mean, std = getattr(loss, "mean", 0.0), getattr(loss, "std", 1.0)
        outputs = (scores_ - mean) / std
    elif loss.num_outputs == 1 or spec.task == "multilabel":
        one = scores_[:, 1:] if loss.num_outputs == 1 else scores_
        outputs = one if loss.sigmoid else one.logit(1e-7)
    else:
        outputs = scores_.clamp_min(1e-30).log()
    return float(loss(outputs.float(), targets.to(model.device)))


def differences(measured: Measured, model: OpenedRun) -> Mapping[str, tuple[float, float]] | None:
    """Where the numbers are not those of summary.json: by name, the one there and the one here.

    None where they need not be the same: other data, another split, or other weights than those that were tested.
    """
    summary = model.run.summary
    tested = measured.split == "test" and measured.own and summary.get("tested_step") == model.step
    if not tested:
        return None
    here = {f"test/{name}": value for name, value in measured.values.items()}
    return {name: (summary[name], here[name]) for name in here if name in summary and summary[name] != here[name]}
