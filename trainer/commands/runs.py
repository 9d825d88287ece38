"""The command ``trainer runs``: which runs there are, which of them are meant, and how good they are. No torch here."""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainer.commands.text_table import aligned, figure
from trainer.config import ConfigError
from trainer.config.errors import printable
from trainer.config.messages import did_you_mean
from trainer.runs.read import (
    FAILED,
    FINISHED,
    KILLED,
    OUTPUTS,
    PRUNED,
    RUNNING,
    STOPPED,
    Run,
    as_number,
    find_runs,
    for_json,
    format_value,
    more_is_better,
    test_metrics_of,
    values_of,
    varied_keys,
)

STATES = (FINISHED, PRUNED, STOPPED, FAILED, RUNNING, KILLED)
MAX_LETTERS = 80  # of what was typed for a run; --json has all
ABSENT: Any = object()  # what a run has for a key that it lacks; None is the null of a config

EPILOG = """\
A CONDITION is KEY=VALUE, with =, !=, <, <=, > or >=; < and > need quotes in a shell. All of them have to hold.
A KEY is one of
  state     finished, pruned, stopped, failed, running or killed
  started   a date, or the beginning of one: 2026-07, 2026-07-01, 2026-07-01T10:30
  steps, epochs, seconds   how far the run came and how long it took
  best      the best value of the metric that the run was judged by
  val/accuracy, test/loss, …   the best value in validation, the value in the test at the end
  model, optimizer.lr, seed, …   as for train
examples:
  trainer runs model=gru 'val/accuracy>0.9'
  trainer runs outputs/sweeps --sort val/accuracy --limit 10
  trainer runs state=failed --json
exit code: 0, also where there is no run; 2 the command is wrong."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description = "List the runs below a folder, the newest first."
    parser.epilog = EPILOG
    parser.add_argument(
        "words", nargs="*", metavar="WORD", help=f"a DIR with runs in it ({OUTPUTS}), and any CONDITION, see below"
    )
    parser.add_argument("--sort", metavar="KEY", help="the better first for a metric, the least first for all else")
    parser.add_argument("--reverse", action="store_true", help="the other way round; runs without the KEY stay last")
    parser.add_argument("--limit", metavar="N", help="the first N alone")
    parser.add_argument("--columns", metavar="KEY,KEY", help="these columns, instead of the usual ones")
    parser.add_argument("--json", action="store_true", help="print all that is known of the runs, for a program")


def run(arguments: argparse.Namespace) -> int:
    """Print the runs that are meant and return the exit code, 0.

    Raises:
        ConfigError: a mistake in the words or the options, a key that no run has.
    """
    folder, conditions = _parse(arguments.words)
    limit = _limit(arguments.limit)
    columns = _columns(arguments.columns)
    there = find_runs(folder)
    found = _that_match(there, conditions, folder) if there else []
    if there:
        for option, key in [("--sort", arguments.sort), *(("--columns", key) for key in columns)]:
            if key is not None:
                _check_known(f"{option} {key}", _plain_key(key), [*found, *there], folder)
    found = _in_order(found, arguments.sort, reverse=arguments.reverse)
    shown = found[:limit]
    if arguments.json:
        print(json.dumps([as_dict(each) for each in shown], ensure_ascii=False, indent=2))
    elif not shown:
        wanted = f" with {' '.join(each.typed for each in conditions)} (of {len(there):,})" if there else ""
        print(printable(f"no run under {folder}{wanted}"))
    else:
        lines = _table(_chosen_columns(shown, columns) if columns else _usual_columns(shown, arguments.sort))
        more = [f"… and {len(found) - len(shown):,} more"] if len(found) > len(shown) else []
        print("\n".join([*lines, *more]))
    return 0


def as_dict(run: Run) -> dict[str, Any]:
    """All that is known of a run, as JSON can hold it; the names are for programs, so they stay."""
    return {
        "path": str(run.path),
        "state": run.state,
        "started": run.started.isoformat(timespec="seconds"),
        "words": list(run.words),
        "config": for_json(run.config),
        "metrics": for_json(run.metrics),
        "monitor": run.monitor,
        "direction": None if run.monitor is None else "maximize" if run.maximizes else "minimize",
        "best": for_json(run.best),
        "steps": _count(run, "steps"),
        "epochs": _count(run, "epochs"),
        "seconds": for_json(_seconds(run)),
        "reason": _reason(run),
    }


@dataclass(frozen=True)
class Condition:
    """What a run has to be.

    Args:
        typed: the word.
        key: left of the sign.
        sign: = != < <= > >=.
        value: right of it, as typed.
    """

    typed: str
    key: str
    sign: str
    value: str

    def holds(self, run: Run) -> bool:
        """Whether a run is so; one without the key is not."""
        found = value_of(run, self.key)
        if found is ABSENT:
            return False
        if self.key == "started":  # of a date as much counts as was typed
            date = self.value.replace(" ", "T")
            return _compare(str(found)[: len(date)], self.sign, date)
        if self.sign in ("=", "!="):
            return _compare(_canonical(found), self.sign, _canonical(_as_typed(self.value)))
        number = as_number(found)
        return number is not None and _compare(number, self.sign, float(self.value))

    def mistake(self) -> str:
        """The line for a value that its key cannot have; nothing for a right one."""
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


WORD = re.compile(r"([^=<>!]*)(!=|<=|>=|==|=|<|>)(.*)", re.DOTALL)
DATE = re.compile(r"\d{4}(-\d\d(-\d\d([T ]\d\d(:\d\d(:\d\d)?)?)?)?)?")


def value_of(run: Run, key: str) -> Any:
    """What a run has for a key, None for a null, ``ABSENT`` where it lacks the key; only some keys read its config."""
    if key in FACTS:
        found = FACTS[key](run)
        return ABSENT if found is None else found
    return run.metrics.get(key, ABSENT) if "/" in key else run.config.get(key, ABSENT)


def _count(run: Run, name: str) -> int | None:
    """How many of them a run made."""
    count = run.summary.get(name)
    return count if isinstance(count, int) and not isinstance(count, bool) else None


def _seconds(run: Run) -> float | None:
    return as_number(run.summary.get("seconds"))


def _reason(run: Run) -> str | None:
    """Why it did not finish, where it has said that."""
    reason = run.summary.get("reason")
    return reason if isinstance(reason, str) else None


# What is known of a run besides its config and its metrics.
FACTS: Mapping[str, Callable[[Run], Any]] = {
    "state": lambda run: run.state,
    "started": lambda run: run.started.isoformat(timespec="seconds"),
    "steps": lambda run: _count(run, "steps"),
    "epochs": lambda run: _count(run, "epochs"),
    "seconds": _seconds,
    "best": lambda run: run.best,
}


def _parse(words: Sequence[str]) -> tuple[Path, list[Condition]]:
    """The folder and the conditions.

    Raises:
        ConfigError: more than one folder, none that is there, a condition that none can be.
    """
    folders, conditions = [], []
    for word in words:
        match = WORD.fullmatch(word)
        if match is None or Path(word).is_dir():  # the folder of a run may well be called lr=0.1
            folders.append(word)
        else:
            key, sign, value = match.groups()
            conditions.append(Condition(word, _plain_key(key.strip()), "=" if sign == "==" else sign, value.strip()))
    problems = [line for line in (condition.mistake() for condition in conditions) if line]
    if len(folders) > 1:
        problems.append(f"{' '.join(folders)}: more than one folder; a condition is KEY=VALUE, such as model=gru")
    elif folders and not Path(folders[0]).is_dir():
        problems.append(_no_folder(folders[0]))
    if problems:
        raise ConfigError(*problems)
    return Path(folders[0]) if folders else OUTPUTS, conditions


def _no_folder(word: str) -> str:
    """The line for a folder that is not there."""
    path = Path(word)
    if path.exists():
        return f"{word}: is no folder"
    beside: list[str] = []
    with contextlib.suppress(OSError):
        beside = [each.name for each in path.parent.iterdir() if each.is_dir()]
    near = did_you_mean(path.name, beside, "" if path.parent == Path() else f"{path.parent}/")
    return f"{word}: no such folder{near or '; a condition is KEY=VALUE, such as model=gru'}"


def _limit(typed: str | None) -> int | None:
    """How many runs are shown; None for all.

    Raises:
        ConfigError: no number of runs.
    """
    if typed is None:
        return None
    if not re.fullmatch(r"[0-9]{1,9}", typed) or int(typed) == 0:
        raise ConfigError(f"--limit: must be a whole number of at least 1, got {typed or 'nothing'}")
    return int(typed)


def _columns(typed: str | None) -> list[str]:
    """The keys of the columns that are wanted; none for the usual ones.

    Raises:
        ConfigError: there is no key in it.
    """
    keys = [key.strip() for key in (typed or "").split(",")]
    keys = list(dict.fromkeys(key for key in keys if key))
    if typed is not None and not keys:
        raise ConfigError(f"--columns: must be keys such as model,optimizer.lr,best, got {typed or 'nothing'}")
    return keys


def _plain_key(key: str) -> str:
    """``model.name`` is ``model``."""
    return key.removesuffix(".name")


def _that_match(found: Sequence[Run], conditions: Sequence[Condition], folder: Path) -> list[Run]:
    """The runs for which all conditions hold.

    Raises:
        ConfigError: a condition is about a key that no run has.
    """
    left = list(found)
    # reading a config takes longer than all else, so those conditions come last and see the fewest runs
    for condition in sorted(conditions, key=lambda each: each.key not in FACTS and "/" not in each.key):
        _check_known(condition.typed, condition.key, [*left, *found], folder)
        left = [run for run in left if condition.holds(run)]
    return left


def _check_known(typed: str, key: str, found: Sequence[Run], folder: Path) -> None:
    """Raises ConfigError where no run has a key."""
    if key in FACTS or any(value_of(run, key) is not ABSENT for run in found):
        return
    metrics = dict.fromkeys(name for run in found for name in run.metrics)
    known = list(dict.fromkeys([*FACTS, *metrics, *(name for run in found for name in run.config)]))
    ends = [name for name in known if re.split("[./]", name)[-1] == key]
    near = f"; did you mean {ends[0]}?" if ends else did_you_mean(key, known)
    listed = ", ".join([*FACTS, *metrics])
    raise ConfigError(
        f"{typed}: no run under {folder} has the key {key}{near or f'; keys: {listed}, and those of config.yaml'}"
    )


def _in_order(found: Sequence[Run], key: str | None, *, reverse: bool) -> list[Run]:
    """The runs by a key, those without it last; by their age where there is none."""
    if key is None:
        return list(reversed(found)) if reverse else list(found)
    key = _plain_key(key)
    maximizes = "/" in key and _maximizes(found, key)
    ranked, rest = list[tuple[tuple[int, float, str], Run]](), list[Run]()
    for run in found:
        value = value_of(run, key)
        number = as_number(value)
        if value is ABSENT or value is None or (number is not None and math.isnan(number)):
            rest.append(run)
        elif number is None:
            ranked.append(((1, 0.0, _canonical(value)), run))
        else:
            falls = run.maximizes if key == "best" else maximizes
            ranked.append(((0, -number if falls else number, ""), run))
    ranked.sort(key=lambda pair: pair[0], reverse=reverse)
    return [*(run for _, run in ranked), *rest]


def _maximizes(found: Iterable[Run], metric: str) -> bool:
    """Whether more of a metric is better: as the runs say that were judged by it, else by its name."""
    for run in found:
        if run.monitor is not None and metric in (run.monitor, test_metrics_of(run.monitor)):
            return run.maximizes
    return more_is_better(metric)


@dataclass(frozen=True)
class _Column:
    """A column of the table; ``left`` is whether its cells are texts."""

    head: str
    cells: Sequence[str]
    left: bool = False


def _table(columns: Sequence[_Column]) -> list[str]:
    """The lines of a table, without columns that have nothing in them."""
    columns = [column for column in columns if any(column.cells)]
    cells = [[printable(cell) for cell in column.cells] for column in columns]
    left = [at for at, column in enumerate(columns) if column.left]
    return aligned([printable(column.head) for column in columns], list(zip(*cells, strict=True)), left)


def _usual_columns(found: Sequence[Run], sort: str | None) -> list[_Column]:
    """When, how it ended, what was typed, how good it is, what it is sorted by, how long it took, where it is."""
    names = {run.monitor for run in found if run.best is not None}
    name = names.pop() if len(names) == 1 else None
    best, test = list[str](), list[str]()
    for run in found:
        tested = test_metrics_of(run.monitor or "")
        values = (run.best, as_number(run.metrics.get(tested)) if tested != run.monitor else None)
        for cells, metric, value in zip((best, test), (run.monitor, tested), values, strict=True):
            named = "" if value is None or name is not None else f"{metric} "
            cells.append(f"{named}{figure(value)}")
    there = {*FACTS, *([name, test_metrics_of(name)] if name else [])} - {"epochs"}
    by = [] if sort is None or _plain_key(sort) in there else _chosen_columns(found, [sort])[:-1]
    return [
        _Column("started", [_cell("started", run) for run in found], left=True),
        _Column("state", [run.state for run in found], left=True),
        _Column("typed", _typed(found), left=True),
        _Column(f"best {name}" if name else "best", best, left=name is None),
        _Column(test_metrics_of(name) if name else "test", test, left=name is None),
        *by,
        _Column("steps", [_cell("steps", run) for run in found]),
        _Column("seconds", [_cell("seconds", run) for run in found]),
        _path_column(found),
    ]


def _chosen_columns(found: Sequence[Run], keys: Sequence[str]) -> list[_Column]:
    """Those that were asked for, and where the run is."""
    columns = []
    for key in keys:
        plain = _plain_key(key)
        values = [value_of(run, plain) for run in found]
        numbers = all(value is ABSENT or value is None or as_number(value) is not None for value in values)
        columns.append(_Column(key, [_cell(plain, run) for run in found], left=not numbers))
    return [*columns, _path_column(found)]


def _path_column(found: Sequence[Run]) -> _Column:
    return _Column("run", [str(run.path) for run in found], left=True)


def _typed(found: Sequence[Run]) -> list[str]:
    """What was typed for each run and not the same for all; everything where there is but one run."""
    keys = varied_keys([run.words for run in found])
    wanted = set(keys)
    cells = []
    for run in found:
        words = [word for word in run.words if len(found) == 1 or not wanted.isdisjoint(values_of([word]))]
        text = " ".join(words)
        cells.append(text if len(text) <= MAX_LETTERS else f"{text[: MAX_LETTERS - 2]} …")
    return cells


def _cell(key: str, run: Run) -> str:
    """What a run has for a key, for a table."""
    value = value_of(run, key)
    if value is ABSENT:
        return ""
    if key == "started":
        return run.started.strftime("%Y-%m-%d %H:%M")
    if key in ("steps", "epochs"):
        return f"{value:,}"
    if key == "seconds":
        return f"{value:.1f}"
    return figure(value) if key == "best" or "/" in key else format_value(value)


def _as_typed(text: str) -> Any:
    """What a word means to train: ``true`` and ``null`` in any case, and lists; numbers are found later."""
    if text.lower() in ("true", "false", "null"):
        return {"true": True, "false": False, "null": None}[text.lower()]
    if text.startswith("[") and text.endswith("]"):
        inner = text[1:-1].strip()
        return [_as_typed(part.strip()) for part in inner.split(",")] if inner else []
    return text


def _canonical(value: Any) -> str:
    """A text that is the same for the same value: that of 1e-3, 0.001 and .001 is one."""
    if isinstance(value, list):
        return f"[{','.join(map(_canonical, value))}]"
    if isinstance(value, bool) or value is None:
        return format_value(value)
    for kind in (int, float):  # the digits of a large seed do not fit into a float
        with contextlib.suppress(ValueError, TypeError, OverflowError):
            if isinstance(value, str) or kind(value) == value:
                number = kind(value)
                return str(int(number)) if number == number // 1 else repr(number)
    return str(value)


def _compare(one: Any, sign: str, other: Any) -> bool:
    """Whether ``one sign other`` is true; both are of a kind."""
    if sign in ("=", "!="):
        return bool((one == other) == (sign == "="))
    if sign in ("<=", ">=") and one == other:
        return True
    return bool(one < other if sign[0] == "<" else one > other)
