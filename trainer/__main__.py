"""The command ``trainer``, which ``python -m trainer`` is too: everything around ``train``."""

from __future__ import annotations

import argparse
import os
import sys


def main(words: list[str] | None = None) -> int:
    """Run a command and return its exit code."""
    words = sys.argv[1:] if words is None else words
    if words[:1] == ["train"]:
        return _train(words[1:])
    help_only = words in ([], ["-h"], ["--help"])
    trains = not help_only and ("=" in words[0] or words[0].startswith("-"))
    if trains and "_ARGCOMPLETE" not in os.environ:
        return _train(words)
    parser, data = _parsers()
    if "_ARGCOMPLETE" in os.environ:
        import argcomplete

        from trainer import completion

        completion.offer(data)
        argcomplete.autocomplete(parser)
    if not words:
        parser.print_help()
        return 0
    if words[0] == "data":  # only a parser without commands lets words and options alternate
        return _data(data.parse_intermixed_args(words[1:]))
    arguments = parser.parse_args(words)
    if arguments.command == "completion":
        return _completion(arguments.shell, print_only=arguments.print)
    raise AssertionError(arguments.command)


def _train(words: list[str]) -> int:
    import cli

    return cli.main(words)


def _data(arguments: argparse.Namespace) -> int:
    import cli
    from trainer import survey_command

    try:
        return survey_command.run(arguments)
    except KeyboardInterrupt as stopped:
        return cli.report_stop(stopped, "trainer")
    except BrokenPipeError:
        return 1
    except Exception as error:
        if os.environ.get("HYDRA_FULL_ERROR") == "1":
            raise
        cli.report(error, "trainer")
        return 2
    finally:
        cli.leave_a_broken_pipe()


def _completion(shell: str | None, *, print_only: bool) -> int:
    from trainer import completion

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


def _parsers() -> tuple[argparse.ArgumentParser, argparse.ArgumentParser]:
    """That of all, and that of ``data`` alone."""
    from trainer import survey_command

    parser = _Parser(prog="trainer", description="Everything around train. Other words are handed to train.")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands")
    commands.add_parser("train", help="train a model; the same as the command train", add_help=False)
    data = commands.add_parser("data", help="look at a data set before training: numbers, bad files, a page of samples")
    survey_command.add_arguments(data)
    completion = commands.add_parser("completion", help="install tab completion for train and trainer")
    completion.add_argument("shell", nargs="?", help="bash, zsh or fish; by default the one of $SHELL")
    completion.add_argument("--print", action="store_true", help="print the script instead of installing it")
    return parser, data


class _Parser(argparse.ArgumentParser):
    """Mistakes are one line, and exit code 2."""

    def error(self, message: str) -> None:  # type: ignore[override]
        print(f"trainer: error: {message}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    sys.exit(main())
