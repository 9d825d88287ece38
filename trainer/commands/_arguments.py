"""Arguments that several commands share."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from trainer.config import ConfigError


def add_checkpoint(parser: argparse.ArgumentParser) -> None:
    """The option that says whose weights."""
    parser.add_argument("--checkpoint", metavar="C", default="best", help="best, last or a file (%(default)s)")


def need_both(command: str, run: str | None, names: Sequence[str]) -> None:
    """Raises ConfigError where the run or the files of a command are missing, with what was probably meant."""
    if run is None:
        raise ConfigError(f"{command}: needs a RUN and a FILE, as in trainer {command} last FILE")
    if not names and not (run == "last" or Path(run).is_dir()):
        raise ConfigError(f"{command}: {run}: is no run; did you mean trainer {command} last {run}?")
    if not names:
        raise ConfigError(f"{command}: needs a FILE behind the RUN: a file, a folder, or - for standard input")


def parted(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Names, and words such as ``device=cpu``; a folder may well be called ``lr=0.1``."""
    is_word = {word: "=" in word and not _exists(word) for word in words}
    return [word for word in words if not is_word[word]], [word for word in words if is_word[word]]


def _exists(word: str) -> bool:
    try:
        return Path(word).exists()
    except (OSError, ValueError):  # too long, a null byte
        return False
