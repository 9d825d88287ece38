"""The command ``trainer`` (also ``python -m trainer``): pass the arguments to ``train`` or to another command."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Iterable, Mapping
from typing import Any

from trainer.commands import COMMANDS
from trainer.config.terminal import prepare_streams


def main(words: list[str] | None = None) -> int:
    """Run a command and return its exit code.

    Args:
        words: the arguments of the command; None takes ``sys.argv[1:]``.
    """
    prepare_streams()
    words = sys.argv[1:] if words is None else words
    completes = "_ARGCOMPLETE" in os.environ
    help_only = words in ([], ["-h"], ["--help"])
    overrides = not help_only and not completes and ("=" in words[0] or words[0].startswith("-"))
    if words[:1] == ["train"] or overrides:
        import cli

        return cli.main(words[1:] if words[0] == "train" else words)
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
    return _run(words[0], of_command[words[0]].parse_intermixed_args(words[1:]))


def _run(command: str, arguments: argparse.Namespace) -> int:
    """Run a command and return its exit code; every error is one line on stderr."""
    from trainer.commands.exit_code import leave_a_broken_pipe, report, report_stop
    from trainer.config import ConfigError, RunError
    from trainer.config.errors import one_line
    from trainer.processes.threads import limit_spinning

    limit_spinning()
    try:
        code: int = _module(command).run(arguments)
        return code
    except KeyboardInterrupt as stopped:
        return report_stop(stopped, "trainer")
    except BrokenPipeError:
        return 1
    except Exception as error:
        if os.environ.get("HYDRA_FULL_ERROR") == "1":
            raise
        if not isinstance(error, ConfigError | RunError) and not getattr(error, "strerror", None):
            error = RunError(f"{one_line(error)} (HYDRA_FULL_ERROR=1 shows the traceback)")
        return report(error, "trainer")
    finally:
        leave_a_broken_pipe()


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
