"""No logger."""

from pathlib import Path

from trainer.logger import LOGGERS, Logger


class Silence(Logger):
    """Writes nothing."""


@LOGGERS.register
def none(run_dir: Path) -> Logger:
    """Only what every run writes."""
    return Silence()
