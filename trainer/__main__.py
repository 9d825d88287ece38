"""The command ``trainer``, which ``python -m trainer`` is too: everything around ``train``."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Iterable, Mapping
from typing import Any

# The commands that have a module of their own, with ``add_arguments`` and ``run``.
COMMANDS = {
    "data": ("data.command", "look at a data set before training: numbers, bad files, a page of samples"),
    "runs": ("runs", "list the runs below a folder: by config, metric, state and date"),
    "compare": ("compare", "lay runs side by side: what was different, and what came of it"),
    "evaluate": ("evaluate.command", "measure a run, or several as one, on any split or data set"),
    "predict": ("predict.command", "what a run says of new files, as CSV or JSON lines"),
    "explain": ("explain.command", "why it says so: a page with what counted in each file"),
    "export": ("export.command", "make a run's model a file for other programs: ONNX, torch.export, safetensors"),
    "report": ("report.command", "one page about a run: result, curves, mistakes, how to repeat it"),
    "reproduce": ("reproduce.command", "run it again, and say whether the same came out"),
}


def main(words: list[str] | None = None) -> int:
    """Run a command and return its exit code."""
    words = sys.argv[1:] if words is None else words
    if words[:1] == ["train"]:
        return _train(words[1:])
    help_only = words in ([], ["-h"], ["--help"])
    trains = not help_only and ("=" in words[0] or words[0].startswith("-"))
    if trains and "_ARGCOMPLETE" not in os.environ:
        return _train(words)
    completes = "_ARGCOMPLETE" in os.environ
    parser, own = _parsers(COMMANDS if completes else words[:1])
    if completes:
        import argcomplete

        from trainer.compose import completion

        completion.offer(own["data"])
        for name in own.keys() - {"data"}:
            completion.offer_folders(own[name])
        argcomplete.autocomplete(parser)
    if not words:
        parser.print_help()
        return 0
    if words[0] in own:  # only a parser without commands lets words and options alternate
        return _run(words[0], own[words[0]].parse_intermixed_args(words[1:]))
    known = ["train", *COMMANDS, "completion"]
    if words[0] not in known and not help_only:
        from trainer.config.messages import did_you_mean

        near = did_you_mean(words[0], known) or ";"
        print(f"trainer: error: {words[0]}: no such command{near} commands: {', '.join(known)}", file=sys.stderr)
        return 2
    arguments = parser.parse_args(words)
    if arguments.command == "completion":
        return _completion(arguments.shell, print_only=arguments.print)
    raise AssertionError(arguments.command)


def _train(words: list[str]) -> int:
    import cli

    return cli.main(words)


def _run(command: str, arguments: argparse.Namespace) -> int:
    """Run a command that has a module of its own, every mistake a line; returns its exit code."""
    import cli
    from trainer.config import ConfigError, RunError
    from trainer.config.errors import one_line

    try:
        code: int = _module(command).run(arguments)
        return code
    except KeyboardInterrupt as stopped:
        return cli.report_stop(stopped, "trainer")
    except BrokenPipeError:
        return 1
    except Exception as error:
        if os.environ.get("HYDRA_FULL_ERROR") == "1":
            raise
        if not isinstance(error, ConfigError | RunError):
            hint = "" if getattr(error, "strerror", None) else " (HYDRA_FULL_ERROR=1 shows the traceback)"
            error = RunError(f"{one_line(error)}{hint}")
        return cli.report(error, "trainer")
    finally:
        cli.leave_a_broken_pipe()


def _completion(shell: str | None, *, print_only: bool) -> int:
    from trainer.compose import completion

    shell = shell or os.path.basename(os.environ.get("SHELL", ""))  # noqa: PTH119
    if shell not in completion.SHELLS:
        known = ", ".join(completion.SHELLS)
        print(f"trainer: error: completion: {shell or 'no shell'}: must be one of {known}", file=sys.stderr)
        return 2
    if print_only:
        print(completion.script(shell))
        return 0
    try:
        files = completion.install(shell)
    except OSError as error:
        print(f"trainer: error: completion: {error.filename}: {error.strerror}", file=sys.stderr)
        return 1
    print(f"completion for {shell} is in {' and '.join(map(str, files))}; it works in every new shell")
    return 0


def _module(command: str) -> Any:
    return importlib.import_module(f"trainer.commands.{COMMANDS[command][0]}")


def _parsers(filled: Iterable[str]) -> tuple[argparse.ArgumentParser, Mapping[str, argparse.ArgumentParser]]:
    """That of all, and those of the commands with a module of their own.

    Args:
        filled: the commands whose arguments are wanted; what the others need is not imported.
    """
    parser = _Parser(prog="trainer", description="Everything around train. Other words are handed to train.")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands")
    commands.add_parser("train", help="train a model; the same as the command train", add_help=False)
    own = {name: commands.add_parser(name, help=sentence) for name, (_, sentence) in COMMANDS.items()}
    for name in filled:
        if name in own:
            _module(name).add_arguments(own[name])
    completion = commands.add_parser("completion", help="install tab completion for train and trainer")
    completion.add_argument("shell", nargs="?", help="bash, zsh or fish; by default the one of $SHELL")
    completion.add_argument("--print", action="store_true", help="print the script instead of installing it")
    return parser, own


class _Parser(argparse.ArgumentParser):
    """Mistakes are one line, and exit code 2."""

    def error(self, message: str) -> None:  # type: ignore[override]
        print(f"trainer: error: {message}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    sys.exit(main())
