"""Command-line arguments that several subcommands of ``trainer`` share."""

from __future__ import annotations

import argparse
import contextlib
import math
import re
from collections.abc import Sequence
from pathlib import Path

from trainer.config import ConfigError


def describe(parser: argparse.ArgumentParser, description: str, epilog: str) -> None:
    """Set the description and the epilog of a command's help; the line breaks of the epilog are kept."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description, parser.epilog = description, epilog


def add_checkpoint(parser: argparse.ArgumentParser) -> None:
    """Add the option ``--checkpoint``, which selects the checkpoint whose weights are loaded."""
    text = "the weights: of the best or last checkpoint, or of a file (%(default)s)"
    parser.add_argument("--checkpoint", metavar="best|last|FILE", default="best", help=text)


def need_both(command: str, run: str | None, names: Sequence[str]) -> None:
    """Raise ConfigError with a suggestion if the run or the files are missing on the command line."""
    if run is None:
        raise ConfigError(f"{command}: needs a RUN and a FILE, as in trainer {command} last FILE")
    if not names and not (run == "last" or Path(run).is_dir()):
        raise ConfigError(f"{command}: {run}: is not a run directory; did you mean trainer {command} last {run}?")
    if not names:
        raise ConfigError(f"{command}: needs a FILE behind the RUN: a file, a folder, or - for standard input")


def tolerance_of(typed: str, example: str = "") -> float:
    """Return the value of the option ``--tolerance``; raise ConfigError if it is not a number of at least 0."""
    with contextlib.suppress(ValueError):
        if 0 <= float(typed) < math.inf:
            return float(typed)
    raise ConfigError(f"--tolerance: must be a number of at least 0{example}, got {typed or 'nothing'}")


def whole_number(option: str, typed: str | None, most: int, limits: str = "of at least 1") -> int | None:
    """Return the value of an option, or None if it is not given; raise ConfigError if it is not from 1 to ``most``."""
    if typed is None:
        return None
    if not re.fullmatch("[0-9]{1,10}", typed) or not 1 <= int(typed) <= most:
        raise ConfigError(f"{option}: must be a whole number {limits}, got {typed or 'nothing'}")
    return int(typed)


def parted(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Split arguments into names and overrides such as ``device=cpu``; an existing file is a name, even with ``=``."""
    is_override = {word: "=" in word and not _exists(word) for word in words}
    return [word for word in words if not is_override[word]], [word for word in words if is_override[word]]


def _exists(word: str) -> bool:
    try:
        return Path(word).exists()
    except (OSError, ValueError):  # the name is too long or contains a null byte
        return False
