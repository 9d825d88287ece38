"""The command ``trainer report``: one page about a run. No torch here."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from trainer.commands._arguments import add_checkpoint, parted
from trainer.config import ConfigError
from trainer.config.errors import printable
from trainer.runs import atomic_files
from trainer.runs.read import run_named

PAGE = "report.html"
MISTAKES = 12

EPILOG = """\
A RUN is a run directory, or last. A WORD is as for train, about what may be otherwise now: dataset.path=… (the data
have moved), device=cpu, plugins=[…]. The page needs no other file and no network. Without the data, or with a
checkpoint that cannot be read, it has what the run directory tells: result, curves, config, environment.
exit code: 0 the page is written, 1 it failed, 2 the command is wrong."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description = "One page about a run: result, curves, mistakes and why, config, how to repeat it."
    parser.epilog = EPILOG
    parser.add_argument("words", nargs="*", metavar="RUN|WORD", help="the run, and what is otherwise now")
    parser.add_argument("-o", "--output", metavar="FILE", help=f"where the page goes (RUN/{PAGE})")
    parser.add_argument("--split", choices=["train", "val", "test"], default="test", help="what is looked at (test)")
    parser.add_argument("--mistakes", metavar="N", default=str(MISTAKES), help="so many of the worst (%(default)s)")
    parser.add_argument("--no-explanations", action="store_true", help="do not say why the mistakes were made")
    add_checkpoint(parser)


def run(arguments: argparse.Namespace) -> int:
    """Write the page, and return the exit code, 0.

    Raises:
        ConfigError: a mistake in the words, or no such run.
    """
    names, words = parted(arguments.words)
    if len(names) != 1:
        raise ConfigError(f"report: needs one RUN: a run directory, or last; got {' '.join(names) or 'none'}")
    if not arguments.mistakes.isdecimal() or int(arguments.mistakes) > 1000:
        raise ConfigError(f"--mistakes: must be a whole number, at most 1000, got {arguments.mistakes}")
    found = run_named(names[0])
    output = found.path / PAGE if arguments.output is None else Path(arguments.output)
    from trainer.commands.report import page

    atomic_files.check_ours("--output", output, page.MARK, within=500, what="no page")
    looked = page.look(
        found,
        words,
        checkpoint=arguments.checkpoint,
        split=arguments.split,
        mistakes=int(arguments.mistakes),
        explains=not arguments.no_explanations,
    )
    for line in looked.notes:
        print(f"trainer: warning: {printable(line)}", file=sys.stderr)
    html = page.page(found, looked)
    atomic_files.write(output, lambda path: path.write_text(html, encoding="utf-8"))
    print(printable(f"page     {output}  ({len(html) / 2**10:,.0f} KiB)"))
    return 0
