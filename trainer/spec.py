"""The description of a data set for models and losses: kind, shape, task and classes. Does not import torch."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

Kind = Literal["image", "spectrogram", "sequence", "tokens", "table"]
Task = Literal["classification", "multilabel", "regression"]

FAR = 2**10  # the ratio of mean to deviation beyond which the rounding of float32 shows in the targets of a regression
TINY = 2.0**-100  # deviations below it come near the smallest numbers of float32
MAX_DIGITS = 17  # significant digits that identify a float64

MAX_EVALUATED = 128  # samples in an evaluation batch; larger batches are hardly faster
MAX_TIMES = 8  # largest ratio to the training batch size; an evaluation stores no activations, so memory suffices
MAX_VALUES = 2**20  # input values in an evaluation batch


@dataclass(frozen=True)
class Spec:
    """The shape and meaning of a model's inputs and outputs.

    Args:
        dataset: the name of the data set, for messages.
        shape: the shape of a sample: image (channels, height, width), spectrogram (1, steps, bands), sequence (steps,
            width), tokens (steps,), table (features,). A feature is a number, or one of a block that encodes a column.
        task: classification has one class for each sample, multilabel any number of labels, regression values.
        classes: the names of the classes, labels or values.
        counts: the number of training samples of each class or label; empty for values. A data set may leave it empty,
            and training counts its targets.
        num_samples: the number of training samples, which the counts of labels do not tell; 0 if it is unknown.
        target_mean, target_std: the mean and standard deviation of each training value if the targets are standardised,
            else empty.
        vocabulary: the number of different tokens, including the padding 0; only for tokens.
        blocks: of a table, or of the steps of a sequence, the number of features of each block. A block encodes a
            column, such as the levels of a category as 0 and 1. Blocks follow the features that are numbers, in order.
        edges: of a table whose numbers are divided into bins, the ascending edges of the bins of each number: quantiles
            of train, in the units of the features. A number with few values has few edges, or none.
        varying: True if the number of steps varies between samples. ``shape`` then has the largest number; a batch is
            padded with zeros to its longest sample and comes with the lengths of its samples.
        num_outputs: the number of outputs of the model for one sample, which the loss determines.
        sigmoid: True if the loss takes probabilities, so that the model has to end in a sigmoid.
    """

    dataset: str
    kind: Kind
    shape: tuple[int, ...]
    task: Task
    classes: tuple[str, ...]
    counts: tuple[int, ...] = ()
    num_samples: int = 0
    target_mean: tuple[float, ...] = ()
    target_std: tuple[float, ...] = ()
    vocabulary: int | None = None
    blocks: tuple[int, ...] = ()
    edges: tuple[tuple[float, ...], ...] = ()
    varying: bool = False
    num_outputs: int = 0
    sigmoid: bool = False

    @property
    def needs_float64(self) -> bool:
        """Whether targets are so far from zero, or so close to one another, that they stay float64 until standardised.

        The differences of Unix times within a minute, for example, are lost in float32.
        """
        return any(self.is_far(at) for at in range(len(self.target_mean)))

    def is_far(self, at: int) -> bool:
        """Whether value ``at`` needs float64; only for standardised targets."""
        mean, std = abs(self.target_mean[at]), self.target_std[at]
        return mean > FAR * std or std < TINY

    def value_text(self, at: int, value: float, digits: int = 4) -> str:
        """Return value ``at`` of a sample with so many significant digits, or more where targets are far from zero.

        For Unix times with a deviation of 25, the digits count from the tens.
        """
        if self.target_mean and self.is_far(at) and self.target_mean[at]:
            ratio = abs(self.target_mean[at]) / self.target_std[at]
            digits += max(0, math.ceil(math.log10(ratio)))
        return f"{value:.{min(digits, MAX_DIGITS)}g}"

    @property
    def num_numbers(self) -> int:
        """Of a table, or of the steps of a sequence, the number of features that belong to no block."""
        return self.shape[-1] - sum(self.blocks)

    @property
    def step_axis(self) -> int:
        """The axis of the steps in a batch, if samples of this kind have steps."""
        return 2 if self.kind == "spectrogram" else 1

    def __str__(self) -> str:
        noun = {"classification": "classes", "multilabel": "labels", "regression": "values"}[self.task]
        noun = noun[:-1] if len(self.classes) == 1 else noun
        steps = self.step_axis - 1
        size = ["≤" * (self.varying and axis == steps) + str(length) for axis, length in enumerate(self.shape)]
        return f"{self.kind} {'×'.join(size)}, {len(self.classes)} {noun}"


def evaluation_batch_size(batch_size: int, spec: Spec) -> int:
    """Return the batch size for evaluation: that of training, or a larger one that takes no more memory."""
    return max(batch_size, min(MAX_EVALUATED, MAX_TIMES * batch_size, MAX_VALUES // math.prod(spec.shape)))
