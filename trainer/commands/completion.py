"""The command ``trainer completion``: install tab completion for a shell. This module does not import torch."""

from __future__ import annotations

import argparse
import os

from trainer.config import ConfigError, RunError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command to its parser."""
    parser.add_argument("shell", nargs="?", help="bash, zsh or fish; by default the one of $SHELL")
    parser.add_argument("--print", action="store_true", help="print the script instead of installing it")


def run(arguments: argparse.Namespace) -> int:
    """Install or print the script, and return the exit code, 0.

    Raises:
        ConfigError: the shell is not supported.
        RunError: a file cannot be written.
    """
    from trainer.compose import completion

    shell = arguments.shell or os.path.basename(os.environ.get("SHELL", ""))  # noqa: PTH119
    if shell not in completion.SHELLS:
        known = ", ".join(completion.SHELLS)
        raise ConfigError(f"completion: {shell or 'no shell'}: must be one of {known}")
    if arguments.print:
        print(completion.script(shell))
        return 0
    try:
        files = completion.install(shell)
    except OSError as error:
        raise RunError(f"completion: {error.filename}: {error.strerror}") from error
    print(f"completion for {shell} is in {' and '.join(map(str, files))}; it works in every new shell")
    return 0
