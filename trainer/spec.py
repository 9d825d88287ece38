"""What data tells a model and a loss: the kind and shape of a sample, the task, the classes. No torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["image", "spectrogram", "sequence", "tokens", "table"]
Task = Literal["classification", "multilabel", "regression"]


@dataclass(frozen=True)
class Spec:
    """What a model has to read and what it has to answer.

    Args:
        dataset: name of the data set, for messages.
        kind: what a sample is.
        shape: of one sample: image (channels, height, width), spectrogram (1, steps, bands), sequence (steps, width),
            tokens (steps,), table (features,).
        task: one of several classes, any number of labels, or values.
        classes: names of the classes, labels or values.
        counts: training samples of each class or label; empty for values.
        target_mean, target_std: of the training values, where a loss is to see them with zero mean and unit variance;
            empty: as they are.
        vocabulary: number of different tokens, 0 being the padding; only for tokens.
        varying: samples have one to ``shape``'s steps; they come with their lengths, padded with zeros to the longest
            of their batch.
        num_outputs: what the model has to return for one sample, as the loss wants it.
        sigmoid: the loss takes probabilities, so the model has to end in a sigmoid.
    """

    dataset: str
    kind: Kind
    shape: tuple[int, ...]
    task: Task
    classes: tuple[str, ...]
    counts: tuple[int, ...] = ()
    target_mean: tuple[float, ...] = ()
    target_std: tuple[float, ...] = ()
    vocabulary: int | None = None
    varying: bool = False
    num_outputs: int = 0
    sigmoid: bool = False

    @property
    def step_axis(self) -> int:
        """The axis of a batch that counts the steps, where the kind has steps."""
        return 2 if self.kind == "spectrogram" else 1

    def __str__(self) -> str:
        noun = {"classification": "classes", "multilabel": "labels", "regression": "values"}[self.task]
        steps = self.step_axis - 1
        size = ["≤" * (self.varying and axis == steps) + str(length) for axis, length in enumerate(self.shape)]
        return f"{self.kind} {'×'.join(size)}, {len(self.classes)} {noun}"
