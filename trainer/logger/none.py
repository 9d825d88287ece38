"""No logger."""

from pathlib import Path

from trainer.logger import LOGGERS, Logger


@LOGGERS.register
def none(run_dir: Path) -> Logger:
    """Only what every run writes."""
    return Logger()
