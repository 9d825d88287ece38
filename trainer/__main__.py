"""The command ``trainer`` (also ``python -m trainer``): pass the arguments to ``train`` or to another command."""

from __future__ import annotations

import os
import sys

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
    from trainer.commands import parsers

    parser, of_command = parsers.parsers(COMMANDS if completes else words[:1])
    if completes:
        parsers.complete(parser, of_command)
    if help_only:
        parser.print_help()
        return 0
    if words[0] not in COMMANDS:
        from trainer.config.errors import printable
        from trainer.config.messages import did_you_mean

        known = ["train", *COMMANDS]
        near = did_you_mean(words[0], known) or ";"
        line = f"{words[0]}: no such command{near} commands: {', '.join(known)}"
        print(f"trainer: error: {printable(line)}", file=sys.stderr)
        return 2
    # use the command's own parser: a parser with subcommands cannot mix positional arguments and options
    code: int = parsers.module(words[0]).run(of_command[words[0]].parse_intermixed_args(words[1:]))
    return code


if __name__ == "__main__":
    sys.exit(main())
