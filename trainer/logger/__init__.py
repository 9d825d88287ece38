"""The registry of loggers: ``Component(run_dir, *, keys)`` returns a ``Logger``.

Every run writes metrics.jsonl, train.log and summary.json; loggers are what comes on top.
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
    """What a run tells a logger. This one writes nothing; another overrides what it wants to hear."""

    def log(self, values: Mapping[str, float], step: int, epoch: int) -> None:
        """A point of some curves: ``train/loss``, ``val/accuracy``, ``lr``, …"""

    def log_samples(self, images: Tensor) -> None:
        """The first training images, raw, (samples, channels, height, width); once, before training."""

    def log_confusion(self, counts: Tensor, classes: Sequence[str]) -> None:
        """(classes, classes) int64 counts of the test set: [true class, predicted class]; once, at the end."""

    def finish(self, hyperparameters: Mapping[str, bool | float | str], results: Mapping[str, float]) -> None:
        """The run is done: its settings and its final metrics."""

    def state_dict(self) -> dict[str, Any]:
        """Write out what was told so far, and say how far that is; plain types. For a checkpoint."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go back to where ``state_dict`` was asked, so that a resumed run says nothing twice; {} is the beginning."""

    def paths(self) -> Sequence[Path]:
        """What a checkpoint counts on to be there after a power cut, once ``state_dict`` was asked."""
        return ()

    def close(self) -> None:
        """Write everything out; also after a failure."""
