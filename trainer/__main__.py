"""The command ``trainer`` (also ``python -m trainer``): pass the arguments to ``train`` or to another command."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Iterable, Mapping
from typing import Any

from trainer.commands import COMMANDS
from trainer.commands.early_interrupt import EarlyInterrupt


def main(words: list[str] | None = None) -> int:
    """Run a command and return its exit code.

    Args:
        words: the arguments of the command; None takes ``sys.argv[1:]``.
    """
    with EarlyInterrupt(ends_process=words is None):
        words = sys.argv[1:] if words is None else words
        completes = "_ARGCOMPLETE" in os.environ
        help_only = words in ([], ["-h"], ["--help"])
        overrides = not help_only and not completes and ("=" in words[0] or words[0].startswith("-"))
        if words[:1] == ["train"] or overrides:
            import cli

            return cli.main(words[1:] if words[0] == "train" else words)
        from trainer.commands.exit_code import ExitCode

        with ExitCode("trainer") as code:
            code.value = _run(words, completes=completes, help_only=help_only)
    return code.value


def _run(words: list[str], *, completes: bool, help_only: bool) -> int:
    """Run a command of ``trainer``, or answer a request for help or completions, and return the exit code."""
    parser, of_command = _parsers(COMMANDS if completes else words[:1])
    if completes:
        _complete(parser, of_command)
    if help_only:
        parser.print_help()
        return 0
    if words[0] not in COMMANDS:
        from trainer.config.messages import did_you_mean

        known = ["train", *COMMANDS]
        near = did_you_mean(words[0], known) or ";"
        print(f"trainer: error: {words[0]}: no such command{near} commands: {', '.join(known)}", file=sys.stderr)
        return 2
    # use the command's own parser: a parser with subcommands cannot mix positional arguments and options
    code: int = _module(words[0]).run(of_command[words[0]].parse_intermixed_args(words[1:]))
    return code


def _module(command: str) -> Any:
    return importlib.import_module(f"trainer.commands.{COMMANDS[command][0]}")


def _parsers(filled: Iterable[str]) -> tuple[argparse.ArgumentParser, Mapping[str, argparse.ArgumentParser]]:
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
            _module(name).add_arguments(of_command[name])
    return parser, of_command


def _complete(parser: argparse.ArgumentParser, of_command: Mapping[str, argparse.ArgumentParser]) -> None:
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
        print(f"trainer: error: {message}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    sys.exit(main())
