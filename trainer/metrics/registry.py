"""The registry of metrics, and the choice of metrics and of the monitor."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

from torch import Tensor

from trainer.config import ConfigError
from trainer.config.messages import did_you_mean
from trainer.config.registry import identity
from trainer.spec import Spec, Task

Source = Literal["sums", "scores", "probabilities"]
Compute = Callable[..., Tensor | float]
C = TypeVar("C", bound=Compute)


@dataclass(frozen=True)
class Metric:
    """A metric as a function of a task's sums, or of the scores of all samples.

    Args:
        compute: maps the sums, as float64, to a scalar; of scores, maps the scores of all samples, (samples, classes,
            labels or values) float64, and their targets to a scalar.
        task: the task whose sums or scores ``compute`` takes.
        higher_is_better: whether a higher value is better.
        of: ``sums``; ``scores`` for all samples, which only val and test keep; ``probabilities`` for scores that have
            to be probabilities.
    """

    compute: Compute
    task: Task
    higher_is_better: bool
    of: Source = "sums"


METRICS: dict[tuple[str, Task], Metric] = {}
DEFAULTS: dict[Task, list[str]] = {
    "classification": ["accuracy"],
    "multilabel": ["accuracy", "f1"],
    "regression": ["mae", "r2"],
}


def metric(name: str, task: Task, *, higher_is_better: bool = True, of: Source = "sums") -> Callable[[C], C]:
    """Return a decorator that registers a function as a metric; names are unique within a task. See ``Metric``.

    Raises:
        ValueError: another function is already registered under this name for the task.
    """

    def register(compute: C) -> C:
        known = METRICS.get((name, task))
        if known is not None and identity(known.compute) != identity(compute):
            places = f"{known.compute.__module__} and {compute.__module__}"
            raise ValueError(f"metrics: {name}: registered twice for {task}, in {places}")
        METRICS[name, task] = Metric(compute, task, higher_is_better, of)
        return compute

    return register


@dataclass(frozen=True)
class Monitor:
    """The metric of the val split that decides which weights are the best.

    Args:
        name: the name of the metric, without the split.
        higher_is_better: whether a higher value is better.
    """

    name: str
    higher_is_better: bool

    def score(self, values: Mapping[str, float]) -> tuple[float, float]:
        """Return a key to compare evaluations by, higher is better: the metric (NaN is worst), then minus the loss."""
        value = values[self.name] if self.higher_is_better else -values[self.name]
        return (-math.inf if math.isnan(value) else value, -values["loss"])


def choose_metrics(names: Sequence[str] | None, spec: Spec) -> dict[str, Metric]:
    """Return the metrics with the given names, or the defaults of the task if ``names`` is None.

    Raises:
        ConfigError: the task has no metric of a given name.
    """
    known = {name: found for (name, task), found in METRICS.items() if task == spec.task}
    chosen = DEFAULTS[spec.task] if names is None else names
    problems = [
        f"metrics: {name}: no such metric for {spec.task}{did_you_mean(name, known) or ';'} "
        f"metrics: {', '.join(sorted(known))}"
        for name in chosen
        if name not in known
    ]
    if problems:
        raise ConfigError(*problems)
    return {name: known[name] for name in chosen}


def choose_monitor(name: str | None, metrics: Mapping[str, Metric], spec: Spec) -> Monitor:
    """Return the monitor ``name``; if None, accuracy or else the first metric, but the loss for regression.

    Raises:
        ConfigError: ``name`` is neither ``val/loss`` nor ``val/`` and a chosen metric.
    """
    known = {"val/loss": False, **{f"val/{key}": metric.higher_is_better for key, metric in metrics.items()}}
    if name is None:
        preferred = [name for name in ("accuracy", *metrics) if name in metrics and spec.task != "regression"]
        name = f"val/{[*preferred, 'loss'][0]}"
    if name not in known:
        if name.startswith("val/") and (measure := name.removeprefix("val/"), spec.task) in METRICS:
            chosen = ",".join([*metrics, measure])
            raise ConfigError(f"monitor: {name}: no metric yields it; 'metrics=[{chosen}]' measures {measure}, too")
        hint = did_you_mean(name, known) or ";"
        raise ConfigError(f"monitor: {name}: no metric yields it{hint} metrics: {', '.join(known)}")
    return Monitor(name.removeprefix("val/"), known[name])
