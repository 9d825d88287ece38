"""The command ``trainer runs``: list the runs that meet conditions on their config, metrics, state and date.

This module does not import torch.
"""

from __future__ import annotations

import argparse
import contextlib
import math
import operator
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from trainer.commands._arguments import describe, whole_number
from trainer.commands.text_table import figure, fitted, print_json, print_lines
from trainer.config import ConfigError
from trainer.config.messages import did_you_mean
from trainer.runs.read import (
    OUTPUTS,
    STATES,
    Run,
    as_number,
    find_runs,
    format_value,
    more_is_better,
    test_metrics_of,
    values_of,
    varied_keys,
)

FACTS = ("state", "started", "steps", "epochs", "seconds", "best")  # keys of a run besides its config keys and metrics
MAX_LETTERS = 80  # longest text of a run's overrides in the table; --json has all overrides
MIN_LETTERS = 20  # to which a text is shortened on a narrow terminal
LEAST = ("seconds", "steps")  # the columns that a narrow terminal leaves out first
MISSING: Any = object()  # the value of a key that a run lacks; None would mean that the config has null

CONDITION = re.compile(r"([^=<>!]*)(!=|<=|>=|==|=|<|>)(.*)", re.DOTALL)
DATE = re.compile(r"\d{4}(-\d\d(-\d\d([T ]\d\d(:\d\d(:\d\d)?)?)?)?)?")
SIGNS = {
    "=": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}

EPILOG = """\
A CONDITION is KEY=VALUE, with =, !=, <, <=, > or >=; < and > need quotes in a shell. All conditions have to hold.
A KEY is one of
  state     finished, pruned, stopped, failed, running, killed, or unreadable if summary.json is damaged
  started   a date, or the beginning of one: 2026-07, 2026-07-01, 2026-07-01T10:30
  steps, epochs, seconds   the length of the run and the time that it took
  best      the best value of the monitored metric
  val/accuracy, test/loss, …   the best value in validation, the final value in the test
  model, optimizer.lr, seed, …   as for train
examples:
  trainer runs model=gru 'val/accuracy>0.9'
  trainer runs outputs/sweeps --sort val/accuracy --limit 10
  trainer runs state=failed --json
exit code: 0, also if there is no run; 2 the command is wrong."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command to its parser."""
    describe(parser, "List the runs below a folder, the newest first.", EPILOG)
    parser.add_argument(
        "words", nargs="*", metavar="WORD", help=f"a DIR with runs in it ({OUTPUTS}), and any CONDITION, see below"
    )
    parser.add_argument("--sort", metavar="KEY", help="sort by a key: metrics from best to worst, others upwards")
    parser.add_argument("--reverse", action="store_true", help="reverse the order; runs without the KEY stay last")
    parser.add_argument("--limit", metavar="N", help="list only the first N runs")
    parser.add_argument("--columns", metavar="KEY,KEY", help="the columns of the table, instead of the usual ones")
    parser.add_argument("--json", action="store_true", help="print everything that is known of the runs as JSON")


def run(arguments: argparse.Namespace) -> int:
    """Print the runs that meet the conditions, and return the exit code, 0.

    Raises:
        ConfigError: the arguments are wrong, or no run has one of the keys.
    """
    folder, conditions = _parse(arguments.words)
    limit = whole_number("--limit", arguments.limit, 10**9)
    columns = _columns(arguments.columns)
    found = every = find_runs(folder)
    if every:
        found = _matching(every, conditions, folder)
        for option, key in [("--sort", arguments.sort), *(("--columns", key) for key in columns)]:
            if key is not None:
                _check_known(f"{option} {key}", _plain_key(key), [*found, *every], folder)
    found = _in_order(found, arguments.sort, reverse=arguments.reverse)
    shown = found[:limit]
    if arguments.json:
        print_json([as_dict(each) for each in shown])
    elif not shown:
        wanted = f" with {' '.join(each.typed for each in conditions)} (of {len(every):,})" if every else ""
        print_lines([f"no run under {folder}{wanted}"])
    else:
        table = _chosen_columns(shown, columns) if columns else _usual_columns(shown, arguments.sort)
        lines = _table(table, columns[::-1] if columns else [*LEAST, table[4].head, "started"])
        more = [f"… and {len(found) - len(shown):,} more"] if len(found) > len(shown) else []
        print_lines([*lines, *more])
    return 0


def as_dict(run: Run) -> dict[str, Any]:
    """Return all information about a run for ``--json``; the names are a stable interface for other programs."""
    reason = run.summary.get("reason")
    known = {name: None if (value := value_of(run, name)) is MISSING else value for name in FACTS}
    return {
        "path": str(run.path),
        "state": known["state"],
        "started": known["started"],
        "words": list(run.words),
        "config": run.config,
        "metrics": run.metrics,
        "monitor": run.monitor,
        "direction": None if run.monitor is None else "maximize" if run.maximizes else "minimize",
        "best": known["best"],
        "steps": known["steps"],
        "epochs": known["epochs"],
        "seconds": known["seconds"],
        "reason": reason if isinstance(reason, str) else None,
    }


class Condition(NamedTuple):
    """A filter condition on a run, such as ``lr=0.1``."""

    typed: str  # the condition as typed on the command line
    key: str
    sign: str  # = != < <= > or >=
    value: str  # as typed

    def holds(self, run: Run) -> bool:
        """Return whether a run meets the condition; a run without the key meets no condition, not even ``!=``."""
        found, compare = value_of(run, self.key), SIGNS[self.sign]
        if found is MISSING:
            return False
        if self.key == "started":  # compare only the typed part of the date
            date = self.value.replace(" ", "T")
            return bool(compare(str(found)[: len(date)], date))
        if self.sign in ("=", "!="):
            return _is_equal(found, self.value) == (self.sign == "=")
        number = as_number(found)
        return number is not None and bool(compare(number, float(self.value)))

    def mistake(self) -> str:
        """Return the error message if the key is missing or cannot have the value, else an empty string."""
        if not self.key:
            return f"{self.typed}: no key; a condition is KEY=VALUE, such as model=gru"
        if self.key == "started":
            return "" if DATE.fullmatch(self.value) else f"{self.typed}: must be a date such as 2026-07-01T10:30"
        if self.sign not in ("=", "!="):
            with contextlib.suppress(ValueError):
                float(self.value)
                return ""
            return f"{self.typed}: {self.sign} needs a number, got {self.value or 'nothing'}"
        if self.key == "state" and self.value not in STATES:
            near = did_you_mean(self.value, STATES)
            return f"{self.typed}: must be one of {', '.join(STATES)}, got {self.value or 'nothing'}{near}"
        return ""


def value_of(run: Run, key: str) -> Any:
    """Return the value of a key, or ``MISSING``; the config file is read only for a config key, as this is slow."""
    if key in FACTS:
        value: Any = run.summary.get(key)
        if key in ("state", "best"):
            value = getattr(run, key)
        elif key == "started":
            value = run.started.isoformat(timespec="seconds")
        elif as_number(value) is None or (key != "seconds" and not isinstance(value, int)):
            value = None
        return MISSING if value is None else value
    return run.metrics.get(key, MISSING) if "/" in key else run.config.get(key, MISSING)


class _YamlValue(yaml.SafeLoader):
    """A YAML loader for typed values that parses 1e-3 as a number, like ``train`` and unlike YAML 1.1."""


_YamlValue.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"), list("-+.0123456789")
)


def _is_equal(found: Any, typed: str) -> bool:
    """Return whether a value of a run equals the typed value."""
    if format_value(found) == typed:
        return True
    try:
        value = yaml.load(typed, _YamlValue)
    except (yaml.YAMLError, ValueError, RecursionError):  # ValueError: a date such as 2026-13-01
        return False
    return bool(found == value) and isinstance(found, bool) == isinstance(value, bool)


def _parse(words: Sequence[str]) -> tuple[Path, list[Condition]]:
    """Return the folder to search and the conditions.

    Raises:
        ConfigError: there are mistakes; the error has one line for each.
    """
    folders, conditions = [], []
    for word in words:
        match = CONDITION.fullmatch(word)
        if match is None or Path(word).is_dir():  # a folder may be named lr=0.1
            folders.append(word)
        else:
            key, sign, value = match.groups()
            conditions.append(Condition(word, _plain_key(key.strip()), "=" if sign == "==" else sign, value.strip()))
    problems = [line for condition in conditions if (line := condition.mistake())]
    if len(folders) > 1:
        problems.append(f"{' '.join(folders)}: more than one folder; a condition is KEY=VALUE, such as model=gru")
    elif folders and not Path(folders[0]).is_dir():
        problems.append(_no_folder(folders[0]))
    if problems:
        raise ConfigError(*problems)
    return Path(folders[0]) if folders else OUTPUTS, conditions


def _no_folder(word: str) -> str:
    """Return the error message for an argument that is neither a folder nor a condition such as ``lr=0.1``."""
    path = Path(word)
    if path.exists():
        return f"{word}: is not a folder"
    beside = [each.name for each in path.parent.glob("*") if each.is_dir()]
    near = did_you_mean(path.name, beside, "" if path.parent == Path() else f"{path.parent}/")
    return f"{word}: no such folder{near or '; a condition is KEY=VALUE, such as model=gru'}"


def _columns(typed: str | None) -> list[str]:
    """Return the keys given with ``--columns``; an empty list selects the default columns."""
    keys = list(dict.fromkeys(stripped for key in (typed or "").split(",") if (stripped := key.strip())))
    if typed is not None and not keys:
        raise ConfigError(f"--columns: must be keys such as model,optimizer.lr,best, got {typed or 'nothing'}")
    return keys


def _plain_key(key: str) -> str:
    return key.removesuffix(".name")  # model.name is shown as model


def _matching(runs: Sequence[Run], conditions: Sequence[Condition], folder: Path) -> list[Run]:
    """Return the runs that meet all conditions.

    Raises:
        ConfigError: no run has a key that a condition names.
    """
    left = list(runs)
    # Reading a config is slow, so conditions on config keys are checked last, on the remaining runs.
    for condition in sorted(conditions, key=lambda each: each.key not in FACTS and "/" not in each.key):
        _check_known(condition.typed, condition.key, [*left, *runs], folder)
        left = [run for run in left if condition.holds(run)]
    return left


def _check_known(typed: str, key: str, runs: Sequence[Run], folder: Path) -> None:
    """Raise ConfigError, with a suggestion, if no run has the key."""
    if key in FACTS or any(value_of(run, key) is not MISSING for run in runs):
        return
    metrics = dict.fromkeys(name for run in runs for name in run.metrics)
    known = list(dict.fromkeys([*FACTS, *metrics, *(name for run in runs for name in run.config)]))
    ends = [name for name in known if re.split("[./]", name)[-1] == key]
    near = f"; did you mean {ends[0]}?" if ends else did_you_mean(key, known)
    listed = ", ".join([*FACTS, *metrics])
    raise ConfigError(
        f"{typed}: no run under {folder} has the key {key}{near or f'; keys: {listed}, and those of config.yaml'}"
    )


def _in_order(runs: Sequence[Run], key: str | None, *, reverse: bool) -> list[Run]:
    """Return the runs sorted by a key, or the newest first if the key is None; runs without a value come last."""
    if key is None:
        return list(reversed(runs)) if reverse else list(runs)
    key = _plain_key(key)
    maximizes = "/" in key and _maximizes(runs, key)
    ranked, rest = list[tuple[tuple[bool, float, str], Run]](), list[Run]()
    for run in runs:
        value = value_of(run, key)
        number = as_number(value)
        if value is MISSING or value is None or (number is not None and math.isnan(number)):
            rest.append(run)
        elif number is None:
            ranked.append(((True, 0.0, format_value(value)), run))
        else:
            falls = run.maximizes if key == "best" else maximizes
            ranked.append(((False, -number if falls else number, ""), run))
    ranked.sort(key=lambda pair: pair[0], reverse=reverse)
    return [*(run for _, run in ranked), *rest]


def _maximizes(runs: Iterable[Run], metric: str) -> bool:
    """Return whether larger values of a metric are better, according to a run that monitors it, or else its name."""
    for run in runs:
        if run.monitor is not None and metric in (run.monitor, test_metrics_of(run.monitor)):
            return run.maximizes
    return more_is_better(metric)


class TableColumn(NamedTuple):
    """A column of the table; a column of text is left-aligned, a column of numbers is right-aligned."""

    head: str
    cells: Sequence[str]
    is_text: bool = False


def _table(columns: Sequence[TableColumn], least: Sequence[str]) -> list[str]:
    """Return the lines of a table, without columns that are empty.

    Args:
        columns: the columns, the last one with the run directories.
        least: the heads of the columns that a narrow terminal leaves out, the least useful first.
    """
    columns = [column for column in columns if any(column.cells)]
    heads = [column.head for column in columns]
    left = [at for at, column in enumerate(columns) if column.is_text]
    return fitted(
        heads,
        [*zip(*(column.cells for column in columns), strict=True)],
        left,
        elastic={at: MIN_LETTERS for at in left if heads[at] not in ("started", "state")},
        least=[heads.index(head) for head in least if head in heads],
        where="a wider terminal, | cat or --json",
    )


def _usual_columns(runs: Sequence[Run], sort: str | None) -> list[TableColumn]:
    """Return the default columns, and a column for the key ``sort`` unless they already include it."""
    names = {run.monitor for run in runs if run.best is not None}
    name = names.pop() if len(names) == 1 else None
    best, test = list[str](), list[str]()
    for run in runs:
        tested = test_metrics_of(run.monitor or "")
        values = (run.best, as_number(run.metrics.get(tested)) if tested != run.monitor else None)
        for cells, metric, value in zip((best, test), (run.monitor, tested), values, strict=True):
            named = "" if value is None or name is not None else f"{metric} "
            cells.append(f"{named}{figure(value)}")
    shown = {*FACTS, *([name, test_metrics_of(name)] if name else [])} - {"epochs"}
    sorted_by = [] if sort is None or _plain_key(sort) in shown else [sort]
    started, state, *others = _chosen_columns(runs, ["started", "state", *sorted_by, "steps", "seconds"])
    return [
        started,
        state,
        TableColumn("typed", _typed(runs), is_text=True),
        TableColumn(f"best {name}" if name else "best", best, is_text=name is None),
        TableColumn(test_metrics_of(name) if name else "test", test, is_text=name is None),
        *others,
    ]


def _chosen_columns(runs: Sequence[Run], keys: Sequence[str]) -> list[TableColumn]:
    """Return a column for each key, and a last column with the run directories."""
    columns = []
    for key in keys:
        plain = _plain_key(key)
        values = [value_of(run, plain) for run in runs]
        texts = any(value is not MISSING and value is not None and as_number(value) is None for value in values)
        columns.append(TableColumn(key, [_cell(plain, run) for run in runs], is_text=texts))
    return [*columns, TableColumn("run", [str(run.path) for run in runs], is_text=True)]


def _typed(runs: Sequence[Run]) -> list[str]:
    """Return for each run the overrides whose values vary between the runs; for a single run, all its overrides."""
    wanted = set(varied_keys([run.words for run in runs]))
    cells = []
    for run in runs:
        text = " ".join(word for word in run.words if len(runs) == 1 or not wanted.isdisjoint(values_of([word])))
        cells.append(text if len(text) <= MAX_LETTERS else f"{text[: MAX_LETTERS - 2]} …")
    return cells


def _cell(key: str, run: Run) -> str:
    """Return the value of a key, formatted for the table."""
    value = value_of(run, key)
    if value is MISSING:
        return ""
    if key == "started":
        return run.started.strftime("%Y-%m-%d %H:%M")
    if key in ("steps", "epochs"):
        return f"{value:,}"
    if key == "seconds":
        return f"{value:.1f}"
    return figure(value) if key == "best" or "/" in key else format_value(value)
