"""The parsers of the subcommands of ``trainer``."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Iterable, Mapping
from typing import Any

from trainer.commands import COMMANDS


def module(command: str) -> Any:
    return importlib.import_module(f"trainer.commands.{COMMANDS[command][0]}")


def parsers(filled: Iterable[str]) -> tuple[argparse.ArgumentParser, Mapping[str, argparse.ArgumentParser]]:
    """Return the parser of ``trainer``, and the parsers of its commands by name.

    Args:
        filled: the commands whose arguments are added; the modules of all other commands are not imported.
    """
    parser = _Parser(prog="trainer", description="Everything around train. Other words are handed to train.")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands")
    commands.add_parser("train", help="train a model; the same as the command train", add_help=False)
    of_command = {name: commands.add_parser(name, help=sentence) for name, (_, sentence) in COMMANDS.items()}
    for name in filled:
        if name in of_command:
            module(name).add_arguments(of_command[name])
    return parser, of_command


def complete(parser: argparse.ArgumentParser, of_command: Mapping[str, argparse.ArgumentParser]) -> None:
    """Answer the shell's request for completions, and end the process."""
    import argcomplete

    from trainer.compose import completion

    completion.offer(of_command["data"])
    for name in COMMANDS.keys() - {"data", "completion"}:
        completion.offer_folders(of_command[name])
    argcomplete.autocomplete(parser)


class _Parser(argparse.ArgumentParser):
    """An argument parser that prints an error as one line and exits with code 2."""

    def error(self, message: str) -> None:  # type: ignore[override]
        from trainer.config.errors import printable  # only here: the import takes longer than the parsing

        print(f"trainer: error: {printable(message)}", file=sys.stderr)
        sys.exit(2)
