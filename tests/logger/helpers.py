"""Loggers for tests, and the calls that a whole run makes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from tests.helpers import defaults
from trainer.logger import LOGGERS, Logger

TRAINING = {"train/loss": 0.75, "train/accuracy": 0.5, "lr": 0.01, "samples_per_second": 1000.0}
VALIDATION = {"val/loss": 0.5, "val/accuracy": 0.625, "epoch/data_wait": 0.25}
TESTING = {"test/loss": 0.25, "test/accuracy": 0.875}


def build(name: str, run_dir: Path, **keys: Any) -> Logger:
    logger = LOGGERS.build(defaults("logger", name, **keys), run_dir)
    assert isinstance(logger, Logger)
    return logger


def run_through(logger: Logger, channels: int = 1) -> None:
    """Everything that a run of two epochs tells a logger."""
    logger.log_samples(torch.rand(20, channels, 8, 8))
    for epoch in (1, 2):
        logger.log(TRAINING, 10 * epoch, epoch)
        logger.log(VALIDATION, 10 * epoch, epoch)
    logger.log(TESTING, 20, 2)
    logger.log_confusion(torch.tensor([[3, 1], [0, 4]]), ["cat", "dog"])
    logger.finish({"seed": 0, "optimizer.lr": 0.01, "model.name": "cnn", "compile": False}, TESTING)
    logger.close()
