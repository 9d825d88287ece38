"""The logger that writes no files of its own."""

from pathlib import Path

from trainer.logger import LOGGERS, Logger


@LOGGERS.register
def none(run_dir: Path) -> Logger:
    """Return a logger that writes nothing in addition to the files that every run writes."""
    return Logger()
