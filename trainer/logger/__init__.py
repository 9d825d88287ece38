"""The registry of loggers: ``Component(run_dir, *, keys)`` returns a ``Logger``.

Every run writes metrics.jsonl, train.log and summary.json; the chosen loggers write in addition.
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
    """The interface of a logger, with methods that do nothing; a subclass overrides the methods that it needs."""

    def log(self, values: Mapping[str, float], step: int, epoch: int) -> None:
        """Write a point of some curves: ``train/loss``, ``val/accuracy``, ``lr``, …"""

    def log_samples(self, images: Tensor) -> None:
        """Show the first training images, raw, (samples, channels, height, width); called once, before training."""

    def log_confusion(self, counts: Tensor, classes: Sequence[str]) -> None:
        """Show the int64 counts of the test set, (classes, classes): [true class, predicted class]."""

    def finish(self, hyperparameters: Mapping[str, bool | float | str], results: Mapping[str, float]) -> None:
        """Write the hyper-parameters and the final metrics of the finished run."""

    def state_dict(self) -> dict[str, Any]:
        """Flush, and return for a checkpoint how much has been written, in plain types."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Return to a state of ``state_dict``, so that a resumed run writes nothing twice; {} is the empty state."""

    def paths(self) -> Sequence[Path]:
        """Return the files whose state a checkpoint records; the checkpoint syncs them to the disk first."""
        return ()

    def close(self) -> None:
        """Flush and close the files; also called after a failure."""
