"""The command ``trainer data``: examine a data set before training. This module does not import torch."""

from __future__ import annotations

import argparse
import functools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from trainer.commands._arguments import describe
from trainer.commands.pages.render import mark
from trainer.commands.text_table import fitted, print_json, print_lines
from trainer.compose.check_command import compose
from trainer.compose.overrides import single_values
from trainer.config import ConfigError, RunError
from trainer.config.terminal import loading
from trainer.runs import atomic_files

if TYPE_CHECKING:
    from trainer.data import Data
    from trainer.data.checks import Survey

PAGE = "data.html"
MAX_COLUMNS = 20  # maximum number of rows of the table of columns
MAX_CLASSES = 20  # if there are more classes, the table shows only the most and the least frequent ones
HALF_SHOWN = 8  # number of the most frequent classes, and of the least frequent classes, in this table

EPILOG = """\
exit code: 0 no warning, 1 at least one warning, 2 the command or the data cannot be used.
A warning needs an action; a note is only information."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    describe(parser, "Examine a data set before training: numbers, bad files, leaks, and a page of samples.", EPILOG)
    parser.add_argument(
        "overrides", nargs="*", metavar="WORD", help="as for train: dataset=mnist dataset.root=… seed=1"
    )
    parser.add_argument("--config-dir", metavar="FOLDER", help="a folder of YAML files of your own")
    parser.add_argument("--page", metavar="FILE", default=PAGE, help="the file of the page of samples (%(default)s)")
    parser.add_argument("--no-page", action="store_true", help="write no page")
    parser.add_argument("--json", action="store_true", help="print the numbers for a program, and write no page")


def run(arguments: argparse.Namespace) -> int:
    """Examine a data set, print what was found, write the page, and return the exit code: 1 after a warning.

    Raises:
        ConfigError: the arguments are wrong, or the data cannot be read or used.
    """
    bare = next((word for word in arguments.overrides if "=" not in word and not word.startswith(("-", "~"))), None)
    if bare is not None:
        raise ConfigError(f"{bare}: must be key=value, such as dataset=csv or dataset.path=FILE, as for train")
    with single_values("one data set is looked at"):
        settings = compose(*arguments.overrides, config_dir=arguments.config_dir).settings
    page = None if arguments.no_page or arguments.json else Path(arguments.page)
    if page is not None:
        atomic_files.check_ours("--page", page, mark("data"), within=500, what="no page")
    with loading():
        from trainer.build import build_data
        from trainer.commands.data.page import make_page
        from trainer.data import ReadOptions
        from trainer.data.checks import survey
        from trainer.data.random_numbers import seed_all

    seed_all(settings.seed)
    # Skip bad files, because all of them are to be reported, not only the first one.
    skipping = {"on_error": "skip"} if "on_error" in settings.dataset else {}
    try:
        data = build_data({**settings.dataset, **skipping}, settings.seed, ReadOptions(report_all=True))
        data.check()
        found = survey(data, settings)
        if page is not None:
            html = make_page(data, found, settings.seed)
            atomic_files.write_text(page, html)
    except RunError as error:  # because exit code 1, that of a RunError, means that the data set has warnings
        raise ConfigError(str(error)) from error
    if arguments.json:
        print_json(found.to_dict())
    else:
        written = [] if page is None else [f"page     {page}"]
        print_lines([*_describe(data, found), *written, f"verdict  {_sum_up(found)}"])
    return int(found.num_warnings > 0)


def _describe(data: Data, found: Survey) -> Iterator[str]:
    """Yield the lines to print, from the description of the data set to the findings."""
    spec, parts = found.spec, found.parts
    sizes = ", ".join(f"{name} {part.samples:,}" for name, part in parts.items())
    held = "in memory" if found.in_memory else f"streamed by {data.workers or 'no'} workers"
    yield f"data     {spec.dataset}: {spec}; {'; '.join([sizes, *found.notes])}"
    yield f"raw      {found.raw}; {held}, {found.num_bytes / 2**20:,.1f} MiB"
    if found.mean:
        yield f"scaled   by {found.scaled}"
    if found.columns:
        yield from _table("columns", ["kind", "missing", "holds"], [*_column_rows(found)], left=(0, 1, 3))
    if any(part.lengths is not None for part in parts.values()):
        yield from _table("steps", ["least", "median", "95 %", "most"], [*_length_rows(found)])
    if spec.kind == "tokens":
        unknown = ", ".join(
            f"{name} {100 * part.unknown:.2f} %" for name, part in parts.items() if part.unknown is not None
        )
        yield f"tokens   {spec.vocabulary:,} in the vocabulary" + (f"; unknown: {unknown}" if unknown else "")
    if spec.task == "regression":
        for at, value in enumerate(spec.classes):
            text = functools.partial(spec.value_text, at)
            rows = [
                [name, text(each.least), text(each.mean), f"{each.deviation:.4g}", text(each.most)]
                for name, part in parts.items()
                for each in part.targets[at : at + 1]
            ]
            yield from _table(value, ["least", "mean", "deviation", "most"], rows)
    else:
        yield from _table("classes" if spec.task == "classification" else "labels", [*parts], _class_rows(found))
    if found.imbalance is not None:
        yield f"         the rarest to the most frequent in train: 1:{found.imbalance:.3g}"
    yield from (f"{finding.level:<8} {finding.text}" for finding in found.findings)


def _column_rows(found: Survey) -> Iterator[list[str]]:
    """Yield the row of each column of a table, of at most ``MAX_COLUMNS``."""
    for each in found.columns[:MAX_COLUMNS]:
        yield [each.name, each.kind, f"{each.missing:,}", each.content]
    if len(found.columns) > MAX_COLUMNS:
        yield [f"… {len(found.columns) - MAX_COLUMNS:,} more", "", "", ""]


def _length_rows(found: Survey) -> Iterator[list[str]]:
    for name, part in found.parts.items():
        lengths = part.lengths
        numbers = () if lengths is None else (lengths.least, lengths.median, lengths.most, lengths.longest)
        yield [name, *([f"{number:,}" for number in numbers] or [""] * 4)]


def _class_rows(found: Survey) -> list[list[str]]:
    """Return the table rows with the counts of each class by split.

    If there are more than ``MAX_CLASSES``, only the most and the least frequent classes have a row.
    """
    counts = found.parts["train"].counts
    rows = [
        [name, *(f"{part.counts[at]:,}" for part in found.parts.values())] for at, name in enumerate(found.spec.classes)
    ]
    if len(rows) <= MAX_CLASSES:
        return rows
    order = sorted(range(len(rows)), key=lambda at: -counts[at])
    more = [f"… {len(rows) - 2 * HALF_SHOWN} more", *[""] * len(found.parts)]
    return [*(rows[at] for at in order[:HALF_SHOWN]), more, *(rows[at] for at in order[-HALF_SHOWN:])]


def _table(title: str, head: Sequence[str], rows: Sequence[Sequence[str]], left: Sequence[int] = (0,)) -> list[str]:
    """Return the lines of a table, with the rows indented below the title."""
    shown = [[" " * 9 + name, *cells] for name, *cells in rows]
    return fitted([title, *head], shown, left, elastic={0: 24, **({3: 24} if 3 in left else {})})


def _sum_up(found: Survey) -> str:
    warnings, notes = found.num_warnings, len(found.findings) - found.num_warnings
    counted = [
        f"{count} {noun}{'s' * (count > 1)}" for count, noun in ((warnings, "warning"), (notes, "note")) if count
    ]
    bad = f"; bad samples: {found.num_bad:,}" if found.num_bad else ""
    return (", ".join(counted) or "nothing found") + bad
