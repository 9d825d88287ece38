"""The command ``trainer report``: write one HTML page about a run. This module does not import torch."""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

from trainer.commands._arguments import add_checkpoint, describe, parted
from trainer.commands.pages.render import mark
from trainer.config import ConfigError
from trainer.config.errors import printable
from trainer.config.terminal import loading
from trainer.runs import atomic_files
from trainer.runs.read import run_named

PAGE = "report.html"
MISTAKES = 12

EPILOG = """\
A RUN is a run directory, or last. A WORD is an override that still applies after training: dataset.path=… (the data
have moved), device=cpu, plugins=[…]. The page needs no other file and no network. Without the data, or without a
checkpoint that can be read, it shows what the run directory holds: result, curves, config, environment.
exit code: 0 the page is written, 1 it failed, 2 the command is wrong."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    does = "Write one page about a run: result, curves, mistakes and columns explained, config, how to repeat it."
    describe(parser, does, EPILOG)
    parser.add_argument("words", nargs="*", metavar="RUN|WORD", help="the run, and overrides")
    parser.add_argument("-o", "--output", metavar="FILE", help=f"the file of the page (RUN/{PAGE})")
    parser.add_argument("--split", choices=["train", "val", "test"], default="test", help="the split to measure (test)")
    parser.add_argument(
        "--mistakes", metavar="N", default=str(MISTAKES), help="how many of the worst mistakes to show (%(default)s)"
    )
    parser.add_argument("--no-explanations", action="store_true", help="do not explain the mistakes and the columns")
    add_checkpoint(parser)


def run(arguments: argparse.Namespace) -> int:
    """Write the page, and return the exit code, 0.

    Raises:
        ConfigError: the arguments are wrong, or the run does not exist.
    """
    names, words = parted(arguments.words)
    if len(names) != 1:
        raise ConfigError(f"report: needs one RUN: a run directory, or last; got {' '.join(names) or 'none'}")
    if not re.fullmatch("[0-9]{1,4}", arguments.mistakes) or int(arguments.mistakes) > 1000:
        raise ConfigError(f"--mistakes: must be a whole number, at most 1000, got {arguments.mistakes}")
    found = run_named(names[0])
    output = found.path / PAGE if arguments.output is None else Path(arguments.output)
    atomic_files.check_ours("--output", output, mark("report"), within=500, what="no page")
    with loading():
        from trainer.commands.report.analysis import analyse
        from trainer.commands.report.page import make_page

    analysis = analyse(
        found,
        words,
        checkpoint=arguments.checkpoint,
        split=arguments.split,
        max_mistakes=int(arguments.mistakes),
        explains=not arguments.no_explanations,
    )
    for line in analysis.notes:
        print(f"trainer: warning: {printable(line)}", file=sys.stderr)
    html = make_page(found, analysis)
    atomic_files.write_text(output, html)
    print(printable(f"page     {output}  ({len(html) / 2**10:,.0f} KiB)"))
    return 0
