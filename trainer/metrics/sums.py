"""Running sums over the samples of a split, which stay on the device until a metric is read.

All metrics of a task share the same sums: a confusion matrix for classification, counts for multilabel, moments for
regression. Every sample counts once. Sums of parts of a split can be added, so the parts may come from several
processes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from trainer.memory import RowBuffer, to_host
from trainer.metrics.registry import Metric
from trainer.metrics.thresholds import THRESHOLD
from trainer.spec import Spec

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
        keeps_outputs: whether the outputs and targets of all samples are kept, which metrics of scores need. Memory
            then grows with the samples, so the sums of training do not keep them.
    """

    def __init__(
        self,
        spec: Spec,
        device: torch.device,
        scores: Callable[[Tensor], Tensor],
        thresholds: Sequence[float] = (),
        *,
        keeps_outputs: bool = False,
    ) -> None:
        self.task, self.width, self.scores, self.keeps_outputs = spec.task, len(spec.classes), scores, keeps_outputs
        self._thresholds = torch.tensor([*thresholds] or THRESHOLD, device=device)
        self._kept = RowBuffer(), RowBuffer()  # outputs and targets
        self._gathered: tuple[Tensor, Tensor] | None = None
        self._num_outputs, plain = spec.num_outputs, torch.float64 if spec.needs_float64 else torch.float32
        self._target_type = torch.int64 if self.task == "classification" else plain
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
    def kept(self) -> tuple[Tensor, Tensor]:
        """The outputs (samples, outputs) and the targets of all samples, those of every process once gathered."""
        assert self.keeps_outputs
        self._sum_answers()
        if self._gathered is not None:
            return self._gathered
        outputs, targets = (rows[:] for rows in self._kept)
        if not len(outputs):  # this process had no sample, and still has to gather rows of the same form
            outputs = torch.empty(0, self._num_outputs)
            targets = torch.empty((0,) if self.task == "classification" else (0, self.width))
        return outputs, targets.to(self._target_type)

    @kept.setter
    def kept(self, gathered: tuple[Tensor, Tensor]) -> None:
        self._gathered = gathered

    @torch.no_grad()
    def scored(self, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
        """Return the scores and the targets of all samples on the CPU; this waits for the device.

        Args:
            dtype: float32 for the scores that ``trainer predict`` writes; float64, the same function of the same
                outputs, distinguishes probabilities near 1.

        Returns:
            the scores (samples, classes, labels or values) of that type; and the targets: classes (samples,) int64, or
            (samples, labels or values).
        """
        (outputs, targets), device = self.kept, self._total.device
        computed = dtype if device.type != "mps" else torch.float32
        return self.scores(outputs.to(device, computed)).to("cpu", dtype), targets.cpu()

    @property
    def loss(self) -> Tensor:
        """The sum of losses times sizes, and the sum of sizes, (2,) on the CPU; reading it waits for the device."""
        self.settle()
        return self._loss

    @torch.no_grad()
    def _sum_answers(self) -> None:
        if not len(self._outputs):
            return
        outputs, targets = self._outputs.pop_all(), self._targets.pop_all()
        if self.task == "classification" and targets.ndim == 2:
            targets = targets.argmax(1)
        if self.keeps_outputs:
            for kept, rows in zip(self._kept, (outputs, targets), strict=True):
                kept.append(rows)
        scores = self.scores(outputs)
        if self.task == "classification":
            cells = targets * self.width + scores.argmax(1)
            self._total.view(-1).index_add_(0, cells, torch.ones_like(cells))
        elif self.task == "multilabel":
            guessed, true = scores > self._thresholds, targets > 0.5
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

        Metrics of scores are left out if the outputs are not kept: the training curve has none.

        Args:
            metrics: the metrics by name.
            total: the sums over samples on the CPU, if they have been copied there already.
        """
        (total,) = self.settle(self.total) if total is None else (total,)
        total, (losses, sizes) = total.double(), self._loss.tolist()
        values, scored = {"loss": losses / sizes if sizes else math.nan}, None
        for name, metric in metrics.items():
            if metric.of == "sums":
                values[name] = float(metric.compute(total))
            elif self.keeps_outputs:
                scored = scored or self.scored()
                values[name] = float(metric.compute(*scored))
        return values

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
