"""The command ``trainer data``: looks at a data set as a run would build it, and says what is wrong. No torch here."""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from trainer.compose.composer import compose
from trainer.config import ConfigError, RunError, Settings
from trainer.runs import atomic_files

if TYPE_CHECKING:
    from trainer.data import Data
    from trainer.data.checks import Survey
    from trainer.data.statistics import SplitStatistics

PAGE = "data.html"
MAX_CLASSES = 20  # rows of the table; of more the most and the least frequent ones
HALF_SHOWN = 8  # of either

EPILOG = """\
exit code: 0 nothing to be acted on, 1 at least one warning, 2 the command or the data cannot be used.
A warning is to be acted on, a note only to be known."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description = "Look at a data set before training: numbers, bad files, leaks, and a page of samples."
    parser.epilog = EPILOG
    parser.add_argument(
        "overrides", nargs="*", metavar="WORD", help="as for train: dataset=mnist dataset.root=… seed=1"
    )
    parser.add_argument("--config-dir", metavar="FOLDER", help="a folder of YAML files of your own")
    parser.add_argument("--page", metavar="FILE", default=PAGE, help="where the page of samples goes (%(default)s)")
    parser.add_argument("--no-page", action="store_true", help="write no page")
    parser.add_argument("--json", action="store_true", help="print the numbers for a program, and write no page")


def run(arguments: argparse.Namespace) -> int:
    """Look, print, write the page, and return the exit code: 1 where something is to be acted on.

    Raises:
        ConfigError: a mistake in the words, or data that cannot be used or read.
    """
    settings = _settings(arguments)
    page = None if arguments.no_page or arguments.json else Path(arguments.page)
    if page is not None:
        atomic_files.check_ours("--page", page, 'content="trainer data"', within=500, what="no page")
    from trainer.build import build, seed_all
    from trainer.commands.data.page import page as make_page
    from trainer.data import Data, ReadOptions
    from trainer.data.checks import survey
    from trainer.dataset import DATASETS

    seed_all(settings.seed)
    # every bad file is to be seen, so none of them stops the others from being looked at
    skipping = {"on_error": "skip"} if "on_error" in settings.dataset else {}
    try:
        config = {**settings.dataset, **skipping}
        data = build(DATASETS, config, settings.seed, options=ReadOptions(report_all=True))
        if not isinstance(data, Data):
            raise ConfigError(f"dataset={settings.dataset['name']}: has to return a Data, got {type(data).__name__}")
        data.check()
        found = survey(data, settings)
        if page is not None:
            page.write_text(make_page(data, found, settings.seed), encoding="utf-8")
    except RunError as error:  # 1 says that something was found
        raise ConfigError(str(error)) from error
    if arguments.json:
        print(json.dumps(found.to_dict(), ensure_ascii=False, indent=2))
    else:
        written = [] if page is None else [f"page     {page}"]
        print("\n".join([*_lines(data, found), *written, f"verdict  {_verdict(found)}"]))
    return int(found.num_warnings > 0)


def _settings(arguments: argparse.Namespace) -> Settings:
    """What the words say; here is no sweep."""
    try:
        return compose(*arguments.overrides, config_dir=arguments.config_dir).settings
    except ConfigError as error:
        one = "several values, but one data set is looked at"
        raise ConfigError(*(line.replace("several values need --multirun", one) for line in error.problems)) from error


def _lines(data: Data, found: Survey) -> list[str]:
    """What is printed of a survey."""
    sizes = ", ".join(f"{name} {part.samples:,}" for name, part in found.parts.items())
    held = "in memory" if found.in_memory else f"streamed by {data.workers or 'no'} workers"
    lines = [
        f"data     {found.spec.dataset}: {found.spec}; {sizes}",
        f"raw      {found.raw}; {held}, {found.num_bytes / 2**20:,.1f} MiB",
    ]
    if found.mean:
        lines.append(f"scaled   by {found.scaled}")
    if any(part.lengths is not None for part in found.parts.values()):
        lines += _table(
            "steps", ("least", "median", "95 %", "most"), [(name, _lengths(part)) for name, part in found.parts.items()]
        )
    if found.spec.kind == "tokens":
        unknown = ", ".join(
            f"{name} {100 * part.unknown:.2f} %" for name, part in found.parts.items() if part.unknown is not None
        )
        lines.append(
            f"tokens   {found.spec.vocabulary:,} in the vocabulary" + (f"; unknown: {unknown}" if unknown else "")
        )
    for at, value in enumerate(found.spec.classes if found.spec.task == "regression" else ()):
        rows = [
            (name, [f"{number:.4g}" for number in (each.least, each.mean, each.deviation, each.most)])
            for name, part in found.parts.items()
            for each in part.targets[at : at + 1]
        ]
        lines += _table(value, ("least", "mean", "deviation", "most"), rows)
    if found.spec.task != "regression":
        lines += _class_lines(found)
    return [*lines, *(f"{finding.level:<8} {_printable(finding.text)}" for finding in found.findings)]


def _class_lines(found: Survey) -> list[str]:
    """How often each class is in each split; of many the most and the least frequent."""
    counts = found.parts["train"].counts
    order = list(range(len(counts)))
    rows: list[tuple[str, list[str]]] = []
    if len(order) > MAX_CLASSES:
        order.sort(key=lambda at: -counts[at])
        order = [*order[:HALF_SHOWN], -1, *order[-HALF_SHOWN:]]
    for at in order:
        if at < 0:
            rows.append((f"… {len(counts) - 2 * HALF_SHOWN} more", [""] * len(found.parts)))
        else:
            rows.append((found.spec.classes[at], [f"{part.counts[at]:,}" for part in found.parts.values()]))
    lines = _table("classes" if found.spec.task == "classification" else "labels", tuple(found.parts), rows)
    if found.imbalance is not None:
        lines.append(f"         the rarest to the most frequent in train: 1:{found.imbalance:.3g}")
    return lines


def _lengths(part: SplitStatistics) -> list[str]:
    lengths = part.lengths
    return (
        []
        if lengths is None
        else [f"{each:,}" for each in (lengths.least, lengths.median, lengths.most, lengths.longest)]
    )


def _table(title: str, head: Sequence[str], rows: Sequence[tuple[str, Sequence[str]]]) -> list[str]:
    """Aligned columns, the first to the left and the others to the right."""
    first = max([len(_printable(name)) for name, _ in rows] + [max(0, len(title) - 7)])
    widths = [
        max(len(name), *(len(cells[at]) if at < len(cells) else 0 for _, cells in rows)) for at, name in enumerate(head)
    ]
    lines = [
        f"{_printable(title):<{first + 9}}  "
        + "  ".join(f"{name:>{width}}" for name, width in zip(head, widths, strict=True))
    ]
    for name, cells in rows:
        line = "  ".join(f"{cell:>{width}}" for cell, width in zip(cells, widths, strict=False))
        lines.append(f"         {_printable(name):<{first}}  {line}".rstrip())
    return lines


def _printable(text: str) -> str:
    """A text of the data without what would move a terminal's cursor."""
    return re.sub(r"[^\S ]|[\x00-\x1f\x7f-\x9f]", lambda sign: ascii(sign[0])[1:-1], text)


def _verdict(found: Survey) -> str:
    warnings, notes = found.num_warnings, len(found.findings) - found.num_warnings
    counted = [
        f"{count} {noun}{'s' * (count > 1)}" for count, noun in ((warnings, "warning"), (notes, "note")) if count
    ]
    bad = f"; bad samples: {found.num_bad:,}" if found.num_bad else ""
    return (", ".join(counted) or "nothing found") + bad
