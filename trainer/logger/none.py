"""The logger that writes nothing."""

from pathlib import Path

from trainer.logger import LOGGERS, Logger


@LOGGERS.register
def none(run_dir: Path) -> Logger:
    """Return a logger that adds nothing to the files of every run."""
    return Logger()
