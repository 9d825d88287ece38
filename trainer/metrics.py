"""Metrics, computed from running sums that stay on the device until a metric is read.

A metric is a function of sums over samples, and all metrics of a task share the same sums: a confusion matrix for
classification, counts for multilabel, moments for regression. Every sample counts once. Sums of parts of a split can
be added, so the parts may come from several processes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from trainer.config import ConfigError
from trainer.config.messages import did_you_mean
from trainer.config.registry import identity
from trainer.memory import RowBuffer, to_host
from trainer.spec import Spec, Task


@dataclass(frozen=True)
class Metric:
    """A metric as a function of a task's sums.

    Args:
        compute: maps the sums, as float64, to a scalar.
        task: the task whose sums ``compute`` takes.
        higher_is_better: whether a higher value is better.
    """

    compute: Callable[[Tensor], Tensor]
    task: Task
    higher_is_better: bool


METRICS: dict[tuple[str, Task], Metric] = {}
DEFAULTS: dict[Task, list[str]] = {
    "classification": ["accuracy"],
    "multilabel": ["accuracy", "f1"],
    "regression": ["mae", "r2"],
}


def metric(
    name: str, task: Task, *, higher_is_better: bool = True
) -> Callable[[Callable[[Tensor], Tensor]], Callable[[Tensor], Tensor]]:
    """Return a decorator that registers a function of a task's sums as a metric; names are unique within a task.

    Raises:
        ValueError: another function is already registered under this name for the task.
    """

    def register(compute: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
        known = METRICS.get((name, task))
        if known is not None and identity(known.compute) != identity(compute):
            places = f"{known.compute.__module__} and {compute.__module__}"
            raise ValueError(f"metrics: {name}: registered twice for {task}, in {places}")
        METRICS[name, task] = Metric(compute, task, higher_is_better)
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


THRESHOLD = 0.5  # a label is predicted where its score is above, unless a run has chosen its own threshold
MAX_SHOWN = 8  # labels whose thresholds a line shows
MAX_WAITING = 2**17  # buffered output values, or losses, before they are summed


class Sums:
    """The running sums of one split.

    ``update`` only buffers the tensors of a batch. They are summed when the sums are read, or when the buffers hold
    ``MAX_WAITING`` values. Counts are integers and losses are added in order, so the result is the same bit for bit
    whenever the tensors are summed.

    Args:
        spec: the task and the number of classes, labels or values.
        device: the device that holds the sums over samples; the sums of losses are on the CPU.
        scores: maps a model's outputs (batch, outputs) to the scores (batch, width) that the metrics compare.
        thresholds: the score above which each label is predicted, (labels,); empty for 0.5.
        keeps_scores: whether ``kept`` keeps the scores of labels, to choose thresholds.
    """

    def __init__(
        self,
        spec: Spec,
        device: torch.device,
        scores: Callable[[Tensor], Tensor],
        thresholds: Sequence[float] = (),
        *,
        keeps_scores: bool = False,
    ) -> None:
        self.task, self.width, self._scores = spec.task, len(spec.classes), scores
        self._thresholds = torch.tensor([*thresholds] or THRESHOLD, device=device)
        self._kept = RowBuffer() if keeps_scores else None
        shape = {
            "classification": (self.width, self.width),  # [true class, predicted class]
            "multilabel": (4, self.width),  # true positives, false positives, false negatives, true negatives
            "regression": (5, self.width),  # n, and the sums of target, target², |error|, error²
        }[self.task]
        real = torch.float32 if device.type == "mps" else torch.float64  # mps has no float64
        self._total = torch.zeros(shape, dtype=real if self.task == "regression" else torch.int64, device=device)
        # subtracted from targets far from 0, or even float64 would lose their variance among the squares
        self._centre = self._total.new_tensor(spec.target_mean if spec.needs_float64 else (0,))
        self._loss = torch.zeros(2, dtype=torch.float64)  # sum of losses times sizes, sum of sizes
        self._outputs, self._targets, self._losses = RowBuffer(), RowBuffer(), RowBuffer()  # not summed yet
        self._sizes, self._weights = list[int | None](), RowBuffer()  # size None: the next value of _weights

    def update(self, loss: Tensor, size: Tensor | int, outputs: Tensor, targets: Tensor) -> None:
        """Add a batch. This waits for the device once in ``MAX_WAITING`` calls.

        Args:
            loss: the mean loss of the batch, a scalar.
            size: the divisor of that mean.
            outputs: the model's outputs, (batch, outputs).
            targets: classes (batch,), labels or values (batch, width), or the shares of mixed classes (batch, width),
                of which the class with the largest share counts.
        """
        self._losses.append(loss.view(1))
        if isinstance(size, Tensor):
            self._weights.append(size.view(1))
        self._sizes.append(None if isinstance(size, Tensor) else size)
        self._outputs.append(outputs)
        self._targets.append(targets)
        # floating-point sums depend on how they are grouped, so regression sums each batch separately
        if len(self._outputs) * outputs.shape[1] > MAX_WAITING or self.task == "regression":
            self._sum_answers()
        if len(self._sizes) > MAX_WAITING:
            self.settle()

    @property
    def total(self) -> Tensor:
        """The sums over samples; their shape depends on the task."""
        self._sum_answers()
        return self._total

    @property
    def kept(self) -> Tensor:
        """The scores of the labels, and their targets of 0 and 1 beside them: (samples, 2 * labels)."""
        assert self._kept is not None
        self._sum_answers()
        return self._kept[:].reshape(-1, 2 * self.width)

    @property
    def loss(self) -> Tensor:
        """The sum of losses times sizes, and the sum of sizes, (2,) on the CPU; reading it waits for the device."""
        self.settle()
        return self._loss

    @torch.no_grad()
    def _sum_answers(self) -> None:
        if not len(self._outputs):
            return
        scores, targets = self._scores(self._outputs.pop_all()), self._targets.pop_all()
        if self.task == "classification":
            if targets.ndim == 2:
                targets = targets.argmax(1)
            cells = targets * self.width + scores.argmax(1)
            self._total.view(-1).index_add_(0, cells, torch.ones_like(cells))
        elif self.task == "multilabel":
            guessed, true = scores > self._thresholds, targets > 0.5
            if self._kept is not None:
                self._kept.append(torch.cat([scores, true.to(scores.dtype)], dim=1))
            quarters = [guessed & true, guessed & ~true, ~guessed & true, ~guessed & ~true]
            self._total += torch.stack([quarter.sum(0) for quarter in quarters])
        else:
            true = targets.to(self._total.dtype)  # in float32, squares of targets far from 0 would lose the variance
            error = scores.to(self._total.dtype) - true
            true = true - self._centre
            sums = [torch.ones_like(true), true, true**2, error.abs(), error**2]
            self._total += torch.stack([each.sum(0) for each in sums])

    def settle(self, *others: Tensor) -> list[Tensor]:
        """Add the buffered losses to their sum, and return ``others`` on the CPU; this waits for the device once."""
        losses, weights, *on_host = to_host([self._losses.pop_all(), self._weights.pop_all(), *others])
        total, count = self._loss.tolist()
        of_batches = iter(weights.tolist())
        for loss, size in zip(losses.tolist(), self._sizes, strict=True):
            weight = next(of_batches) if size is None else size
            total, count = total + loss * weight, count + weight
        self._sizes.clear()
        self._loss.copy_(torch.tensor([total, count], dtype=self._loss.dtype))
        return on_host

    def compute(self, metrics: Mapping[str, Metric], total: Tensor | None = None) -> dict[str, float]:
        """Return the mean loss and the metrics; this waits for the device.

        Args:
            metrics: the metrics by name.
            total: the sums over samples on the CPU, if they have been copied there already.
        """
        (total,) = self.settle(self.total) if total is None else (total,)
        total, (losses, sizes) = total.double(), self._loss.tolist()
        values = {name: float(metric.compute(total)) for name, metric in metrics.items()}
        return {"loss": losses / sizes if sizes else math.nan, **values}

    def add(self, other: Sums) -> None:
        """Add the sums of another part of the same split."""
        self.total.add_(other.total)
        self.loss.add_(other.loss)

    def state_dict(self) -> dict[str, Any]:
        return {"total": self.total, "loss": self.loss}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.total.copy_(state["total"])
        self.loss.copy_(state["loss"])

    def reset(self) -> None:
        self.total.zero_()
        self.loss.zero_()


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
        hint = did_you_mean(name, known) or ";"
        raise ConfigError(f"monitor: {name}: no metric yields it{hint} metrics: {', '.join(known)}")
    return Monitor(name.removeprefix("val/"), known[name])


def fixed_thresholds(value: float | Literal["auto"], spec: Spec) -> tuple[float, ...]:
    """Return the thresholds of the labels that the key ``thresholds`` sets, 0.5 for auto; empty without labels.

    Raises:
        ConfigError: a threshold is set for data without labels.
    """
    if spec.task == "multilabel":
        return tuple(torch.full((len(spec.classes),), THRESHOLD if value == "auto" else value).tolist())
    if value not in ("auto", THRESHOLD):  # a run of an earlier version has 0.5, whatever its task is
        raise ConfigError(f"thresholds: needs labels; dataset={spec.dataset} is {spec}; leave thresholds out")
    return ()


def shown_thresholds(names: Sequence[str], thresholds: Sequence[float]) -> str:
    """Return the threshold of each label as text, of the first ``MAX_SHOWN``; a single one if all are equal."""
    if len({*thresholds}) == 1 < len(thresholds):
        return f"{thresholds[0]:.4g}"
    shown = [f"{name} {value:.4f}" for name, value in zip(names, thresholds, strict=True)]
    return ", ".join(shown[:MAX_SHOWN]) + (f" and {len(shown) - MAX_SHOWN:,} more" if len(shown) > MAX_SHOWN else "")


def choose_thresholds(rows: Tensor) -> tuple[float, ...]:
    """Return the threshold of each label above which it is predicted with the highest F1.

    A threshold is the mean of two neighbouring scores, or half the lowest score. Of several with the same F1 it is the
    one nearest to 0.5. A label without a true sample has 0.5. The rows are those of ``Sums.kept``, on the CPU.
    """
    scores, targets = (each.unbind(1) for each in rows.chunk(2, dim=1))
    return tuple(map(_choose_threshold, scores, targets))


def _choose_threshold(scores: Tensor, true: Tensor) -> float:
    higher, group, count = scores.unique(return_inverse=True, return_counts=True)
    positive = torch.zeros(len(higher), dtype=torch.float64).index_add_(0, group, true.double())
    lower = torch.cat([higher.new_zeros(1), higher[:-1]])  # the score below each; probabilities begin at 0
    middle = ((lower.double() + higher.double()) / 2).to(scores.dtype)
    middle = torch.where(middle < higher, middle, lower)  # as it has been rounded
    right, predicted = (each.flip(0).cumsum(0).flip(0) for each in (positive, count))
    f1 = torch.where(lower < higher, 2 * right / (predicted + positive.sum()), 0.0)
    if not f1.any():
        return THRESHOLD
    return float(middle[torch.where(f1 == f1.max(), (middle - THRESHOLD).abs(), torch.inf).argmin()])


def _ratio(part: Tensor, whole: Tensor) -> Tensor:
    """Divide elementwise, with 0 / 0 = 0 like torchmetrics and scikit-learn."""
    return torch.where(whole > 0, part / whole.clamp_min(1), 0.0)


def _macro(values: Tensor, confusion: Tensor) -> Tensor:
    """Average over the classes that occur among the targets or the predictions."""
    return values[confusion.sum(0) + confusion.sum(1) > 0].mean()


@metric("accuracy", "classification")
def accuracy_of_classes(confusion: Tensor) -> Tensor:
    """Compute the fraction of samples that are predicted correctly."""
    return confusion.trace() / confusion.sum()


@metric("balanced_accuracy", "classification")
def balanced_accuracy(confusion: Tensor) -> Tensor:
    """Compute the mean recall of the classes that occur (Brodersen et al. 2010)."""
    occurs = confusion.sum(1)
    return (confusion.diagonal() / occurs)[occurs > 0].mean()


@metric("precision", "classification")
def precision_of_classes(confusion: Tensor) -> Tensor:
    """Compute TP / (TP + FP), mean over classes."""
    return _macro(_ratio(confusion.diagonal(), confusion.sum(0)), confusion)


@metric("recall", "classification")
def recall_of_classes(confusion: Tensor) -> Tensor:
    """Compute TP / (TP + FN), mean over classes."""
    return _macro(_ratio(confusion.diagonal(), confusion.sum(1)), confusion)


@metric("f1", "classification")
def f1_of_classes(confusion: Tensor) -> Tensor:
    """Compute 2 TP / (2 TP + FP + FN), mean over classes (van Rijsbergen 1979)."""
    return _macro(_ratio(2 * confusion.diagonal(), confusion.sum(0) + confusion.sum(1)), confusion)


@metric("accuracy", "multilabel")
def accuracy_of_labels(counts: Tensor) -> Tensor:
    """Compute the fraction of labels, over all samples, that are predicted correctly."""
    return (counts[0] + counts[3]).sum() / counts.sum()


@metric("precision", "multilabel")
def precision_of_labels(counts: Tensor) -> Tensor:
    """Compute TP / (TP + FP), mean over labels."""
    return _ratio(counts[0], counts[0] + counts[1]).mean()


@metric("recall", "multilabel")
def recall_of_labels(counts: Tensor) -> Tensor:
    """Compute TP / (TP + FN), mean over labels."""
    return _ratio(counts[0], counts[0] + counts[2]).mean()


@metric("f1", "multilabel")
def f1_of_labels(counts: Tensor) -> Tensor:
    """Compute 2 TP / (2 TP + FP + FN), mean over labels."""
    return _ratio(2 * counts[0], 2 * counts[0] + counts[1] + counts[2]).mean()


@metric("mae", "regression", higher_is_better=False)
def mae(moments: Tensor) -> Tensor:
    """Compute the mean absolute error over samples and values."""
    return moments[3].sum() / moments[0].sum()


@metric("rmse", "regression", higher_is_better=False)
def rmse(moments: Tensor) -> Tensor:
    """Compute the root mean squared error over samples and values."""
    mean: Tensor = moments[4].sum() / moments[0].sum()
    return torch.sqrt(mean)


@metric("r2", "regression")
def r2(moments: Tensor) -> Tensor:
    """Compute 1 - mean squared error / variance of the targets, mean over values.

    For targets that do not vary, the value is 1 if every prediction is exact, else 0.
    """
    count, total, squares, _, error = moments
    varies = squares - total**2 / count
    return torch.where(varies > 0, 1 - error / varies, (error == 0).double()).mean()
