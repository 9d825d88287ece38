"""The registry of loggers: ``Component(run_dir, *, keys)`` returns a ``Logger``.

Every run writes metrics.jsonl, train.log and summary.json; the chosen loggers write additional files.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from trainer.config.registry import Registry

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

LOGGERS = Registry("logger", __path__)


class Logger:
    """The interface of a logger. Its methods do nothing; a subclass overrides the methods that it needs."""

    def log(self, values: Mapping[str, float], step: int, epoch: int) -> None:
        """Write one point of each curve in ``values``, such as ``train/loss``, ``val/accuracy`` or ``lr``."""

    def log_samples(self, images: Tensor) -> None:
        """Show the first training images, raw, (samples, channels, height, width); called once before training."""

    def log_confusion(self, counts: Tensor, classes: Sequence[str]) -> None:
        """Show the test set's confusion matrix: int64 counts, (classes, classes), [true class, predicted class]."""

    def finish(self, hyperparameters: Mapping[str, bool | float | str], results: Mapping[str, float]) -> None:
        """Write the hyper-parameters and the final metrics of the finished run."""

    def state_dict(self) -> dict[str, Any]:
        """Flush the files, and return how much has been written, in plain types, for a checkpoint."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a state from ``state_dict``, so that a resumed run writes nothing twice; {} is the initial state."""

    def paths(self) -> Sequence[Path]:
        """Return the files that ``state_dict`` describes; a checkpoint syncs them to the disk before it is written."""
        return ()

    def close(self) -> None:
        """Flush and close the files; also called after a failed run."""
