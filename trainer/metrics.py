"""Metrics as running sums on the device: one read at the end, every sample counted once.

A metric is a function of sums over samples, and metrics of one task share their sums: a confusion matrix for classes,
counts for labels, moments for values. Sums of parts add up, so the parts may come from any number of processes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from trainer.config import ConfigError
from trainer.config.messages import did_you_mean
from trainer.config.registry import identity
from trainer.spec import Spec, Task


@dataclass(frozen=True)
class Metric:
    """A function of a task's sums.

    Args:
        compute: from the sums, float64, to a number.
        task: whose sums these are.
        higher_is_better: which way is good.
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
    """Register a function of a task's sums under a name; the same name may mean something for every task."""

    def register(compute: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
        known = METRICS.get((name, task))
        if known is not None and identity(known.compute) != identity(compute):
            places = f"{known.compute.__module__} and {compute.__module__}"
            raise ValueError(f"metrics: {name}: registered twice for {task}, in {places}")
        METRICS[name, task] = Metric(compute, task, higher_is_better)
        return compute

    return register


MAX_WAITING = 2**17  # values of outputs, or losses, that are kept to be summed


class RowBuffer:
    """A tensor that grows by rows and begins anew, always in the same memory.

    Kept one by one, small tensors would lie between large ones that come and go, and the memory would fall to pieces.
    """

    def __init__(self) -> None:
        self._memory: Tensor | None = None
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, which: slice) -> Tensor:
        return torch.empty(0) if self._memory is None else self._memory[: self._count][which]

    def drop(self, start: int) -> None:
        """All rows from ``start`` on."""
        self._count = min(self._count, start)

    def append(self, rows: Tensor) -> None:
        """RowBuffer (n, …) like those before."""
        count = self._count + rows.shape[0]
        if self._memory is None or count > self._memory.shape[0]:
            before, self._memory = self._memory, rows.new_empty(2 * count, *rows.shape[1:])
            if before is not None:
                self._memory[: self._count] = before[: self._count]
        assert rows.dtype == self._memory.dtype
        self._memory[self._count : count] = rows
        self._count = count

    def take(self) -> Tensor:
        """All rows, to be read before others are appended."""
        rows = self[:]
        self.drop(0)
        return rows


class Sums:
    """The running sums of one split.

    A step only hands over what it has; many steps are summed at once, when somebody asks or as they take memory. Whole
    numbers and the losses, one after the other, add up to the same bits whenever that is.

    Args:
        spec: says the task and the number of classes, labels or values.
        device: where the sums are kept.
        scores: from a model's outputs (batch, outputs) to what the metrics are of, (batch, width).
    """

    def __init__(self, spec: Spec, device: torch.device, scores: Callable[[Tensor], Tensor]) -> None:
        self.task, self.width, self._scores = spec.task, len(spec.classes), scores
        shape = {
            "classification": (self.width, self.width),  # [true class, predicted class]
            "multilabel": (4, self.width),  # true positives, false positives, false negatives, true negatives
            "regression": (5, self.width),  # n, sums of target, target², |error|, error²
        }[self.task]
        real = torch.float32 if device.type == "mps" else torch.float64  # mps has no float64
        self._total = torch.zeros(shape, dtype=real if self.task == "regression" else torch.int64, device=device)
        self._loss = torch.zeros(2, dtype=real, device=device)  # sum of losses times sizes, sum of sizes
        self._outputs, self._targets, self._losses = RowBuffer(), RowBuffer(), RowBuffer()  # what is not summed yet
        self._sizes, self._weights = list[int | None](), RowBuffer()  # None: the size is a tensor, among the weights

    def update(self, loss: Tensor, size: Tensor | int, outputs: Tensor, targets: Tensor) -> None:
        """Add a batch, without waiting for the device; but for once in a hundred thousand.

        Args:
            loss: its mean, a scalar.
            size: what that mean divided by.
            outputs: (batch, outputs) of the model.
            targets: (batch,) classes or (batch, width) labels or values; of mixed classes their shares (batch, width),
                of which the largest counts.
        """
        self._losses.append(loss.view(1))
        if isinstance(size, Tensor):
            self._weights.append(size.view(1))
        self._sizes.append(None if isinstance(size, Tensor) else size)
        self._outputs.append(outputs)
        self._targets.append(targets)
        # those of values are no whole numbers, so when they are added up would change their bits
        if len(self._outputs) * outputs.shape[1] > MAX_WAITING or self.task == "regression":
            self._sum_answers()
        if len(self._sizes) > MAX_WAITING:
            self._sum_losses()

    @property
    def total(self) -> Tensor:
        """The sums over samples, as the task has them."""
        self._sum_answers()
        return self._total

    @property
    def loss(self) -> Tensor:
        """(2,): the sum of losses times sizes, and that of the sizes. Waits for the device."""
        self._sum_losses()
        return self._loss

    @torch.no_grad()
    def _sum_answers(self) -> None:
        if not len(self._outputs):
            return
        scores, targets = self._scores(self._outputs.take()), self._targets.take()
        if self.task == "classification":
            if targets.ndim == 2:
                targets = targets.argmax(1)
            cells = targets * self.width + scores.argmax(1)
            self._total.view(-1).index_add_(0, cells, torch.ones_like(cells))
        elif self.task == "multilabel":
            guessed, true = scores > 0.5, targets > 0.5
            quarters = [guessed & true, guessed & ~true, ~guessed & true, ~guessed & ~true]
            self._total += torch.stack([quarter.sum(0) for quarter in quarters])
        else:
            true = targets.to(self._total.dtype)  # squares of float32 targets far from 0 would lose their variance
            error = scores.to(self._total.dtype) - true
            sums = [torch.ones_like(true), true, true**2, error.abs(), error**2]
            self._total += torch.stack([each.sum(0) for each in sums])

    def _sum_losses(self) -> None:
        if not self._sizes:
            return
        total, count = self._loss.tolist()
        weights = iter(self._weights.take().tolist())
        for loss, size in zip(self._losses.take().tolist(), self._sizes, strict=True):
            weight = next(weights) if size is None else size
            total, count = total + loss * weight, count + weight
        self._sizes.clear()
        self._loss.copy_(torch.tensor([total, count], dtype=self._loss.dtype))

    def compute(self, metrics: Mapping[str, Metric]) -> dict[str, float]:
        """The mean loss and the metrics; waits for the device."""
        total, (losses, sizes) = self.total.cpu().double(), self.loss.tolist()
        values = {name: float(metric.compute(total)) for name, metric in metrics.items()}
        return {"loss": losses / sizes if sizes else math.nan, **values}

    def add(self, other: Sums) -> None:
        """Add the sums of another part of the same split."""
        self.total.add_(other.total)
        self.loss.add_(other.loss)

    def state_dict(self) -> dict[str, Any]:
        """The sums."""
        return {"total": self.total, "loss": self.loss}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from these sums."""
        self.total.copy_(state["total"])
        self.loss.copy_(state["loss"])

    def reset(self) -> None:
        """Start again from nothing."""
        self.total.zero_()
        self.loss.zero_()


def choose(names: Sequence[str] | None, spec: Spec) -> dict[str, Metric]:
    """The metrics called ``names``, or the task's defaults.

    Raises:
        ConfigError: the task has no such metric.
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


def _ratio(part: Tensor, whole: Tensor) -> Tensor:
    """0 where the whole is 0, as torchmetrics and scikit-learn have it."""
    return torch.where(whole > 0, part / whole.clamp_min(1), 0.0)


def _macro(values: Tensor, seen: Tensor) -> Tensor:
    """The mean over the classes that occur among targets or predictions."""
    return values[seen].mean()


@metric("accuracy", "classification")
def accuracy_of_classes(confusion: Tensor) -> Tensor:
    """Right ones among all."""
    return confusion.trace() / confusion.sum()


@metric("balanced_accuracy", "classification")
def balanced_accuracy(confusion: Tensor) -> Tensor:
    """Mean recall of the classes that occur: Brodersen et al. 2010."""
    occurs = confusion.sum(1)
    return (confusion.diagonal() / occurs)[occurs > 0].mean()


@metric("precision", "classification")
def precision_of_classes(confusion: Tensor) -> Tensor:
    """Right ones among those predicted as a class, mean over classes."""
    return _macro(_ratio(confusion.diagonal(), confusion.sum(0)), confusion.sum(0) + confusion.sum(1) > 0)


@metric("recall", "classification")
def recall_of_classes(confusion: Tensor) -> Tensor:
    """Right ones among those of a class, mean over classes."""
    return _macro(_ratio(confusion.diagonal(), confusion.sum(1)), confusion.sum(0) + confusion.sum(1) > 0)


@metric("f1", "classification")
def f1_of_classes(confusion: Tensor) -> Tensor:
    """2 TP / (2 TP + FP + FN), mean over classes (van Rijsbergen 1979)."""
    both = confusion.sum(0) + confusion.sum(1)
    return _macro(_ratio(2 * confusion.diagonal(), both), both > 0)


@metric("accuracy", "multilabel")
def accuracy_of_labels(counts: Tensor) -> Tensor:
    """Right ones among all labels of all samples."""
    return (counts[0] + counts[3]).sum() / counts.sum()


@metric("precision", "multilabel")
def precision_of_labels(counts: Tensor) -> Tensor:
    """TP / (TP + FP), mean over labels."""
    return _ratio(counts[0], counts[0] + counts[1]).mean()


@metric("recall", "multilabel")
def recall_of_labels(counts: Tensor) -> Tensor:
    """TP / (TP + FN), mean over labels."""
    return _ratio(counts[0], counts[0] + counts[2]).mean()


@metric("f1", "multilabel")
def f1_of_labels(counts: Tensor) -> Tensor:
    """2 TP / (2 TP + FP + FN), mean over labels."""
    return _ratio(2 * counts[0], 2 * counts[0] + counts[1] + counts[2]).mean()


@metric("mae", "regression", higher_is_better=False)
def mae(moments: Tensor) -> Tensor:
    """Mean absolute error over samples and values."""
    return moments[3].sum() / moments[0].sum()


@metric("rmse", "regression", higher_is_better=False)
def rmse(moments: Tensor) -> Tensor:
    """Root of the mean squared error over samples and values."""
    mean: Tensor = moments[4].sum() / moments[0].sum()
    return torch.sqrt(mean)


@metric("r2", "regression")
def r2(moments: Tensor) -> Tensor:
    """1 - squared error / variance of the targets, mean over values; of targets that do not vary, 0 unless exact."""
    count, total, squares, _, error = moments
    varies = squares - total**2 / count
    return torch.where(varies > 0, 1 - error / varies, (error == 0).double()).mean()
