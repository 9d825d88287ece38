"""What data tells a model and a loss: the kind and shape of a sample, the task, the classes. No torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["image", "sequence", "tokens", "table"]
Task = Literal["classification", "multilabel", "regression"]


@dataclass(frozen=True)
class Spec:
    """What a model has to read and what it has to answer.

    Args:
        dataset: name of the data set, for messages.
        kind: what a sample is.
        shape: of one sample: image (channels, height, width), sequence (steps, width), tokens (steps,),
            table (features,). Samples of varying length are padded to this shape and come with their lengths.
        task: one of several classes, any number of labels, or values.
        classes: names of the classes, labels or values.
        counts: training samples of each class or label; empty for values.
        vocabulary: number of different tokens, 0 being the padding; only for tokens.
        num_outputs: what the model has to return for one sample, as the loss wants it.
        sigmoid: the loss takes probabilities, so the model has to end in a sigmoid.
    """

    dataset: str
    kind: Kind
    shape: tuple[int, ...]
    task: Task
    classes: tuple[str, ...]
    counts: tuple[int, ...] = ()
    vocabulary: int | None = None
    num_outputs: int = 0
    sigmoid: bool = False

    def __str__(self) -> str:
        noun = {"classification": "classes", "multilabel": "labels", "regression": "values"}[self.task]
        return f"{self.kind} {'×'.join(map(str, self.shape))}, {len(self.classes)} {noun}"
