"""The answer of a sweep: a row for each run, seeds folded, the best with the command that repeats it. No torch."""

from __future__ import annotations

import csv
import functools
import io
import math
import shlex
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from trainer.commands.text_table import aligned, counted, figure, lasted
from trainer.processes.signals import CLOCK, REASONS
from trainer.runs import atomic_files
from trainer.runs.read import (
    FINISHED,
    STOPPED,
    Run,
    as_number,
    as_typed,
    metric_names,
    test_metrics_of,
    values_of,
    varied_keys,
)

CSV = "summary.csv"
SEED = "seed"
MAX_ROWS = 40  # that are printed; the file has all
STATE = "state"


@dataclass(frozen=True)
class Row:
    """One run of a sweep.

    Args:
        number: counted from 0, in the order of the sweep.
        words: what is trained, as it would be typed.
        state: as ``Run.state``, or ``refused`` for one that could not begin, or ``waiting``.
        folder: the run directory, whether it is there or not.
        reason: why it did not finish; empty for one that did.
        run: what stands in the folder; None where nothing does.
    """

    number: int
    words: tuple[str, ...]
    state: str
    folder: Path
    reason: str = ""
    run: Run | None = None

    @functools.cached_property
    def typed(self) -> Mapping[str, str]:
        """What its words say by key."""
        return values_of(self.words)

    def of(self, key: str) -> str | None:
        """What it has for a key; of a run that another command has made, what its config says. None for nothing."""
        if key in self.typed or self.run is None or key not in self.run.config:
            return self.typed.get(key)
        return as_typed(self.run.config[key])

    @property
    def value(self) -> float | None:
        """The best value of the monitored metric; None for a run that has not come to the end of its steps or time."""
        ended = self.state == FINISHED or (self.state == STOPPED and self.reason == REASONS.get(CLOCK or 0))
        return self.run.best if self.run is not None and ended else None

    @property
    def metrics(self) -> Mapping[str, float]:
        """As ``Run.metrics``."""
        return {} if self.run is None else self.run.metrics

    @property
    def steps(self) -> int | None:
        """Optimizer steps."""
        steps = None if self.run is None else self.run.summary.get("steps")
        return steps if isinstance(steps, int) else None

    @property
    def seconds(self) -> float | None:
        """How long it ran."""
        return None if self.run is None else as_number(self.run.summary.get("seconds"))


@dataclass(frozen=True)
class Group:
    """The runs that differ in their seed alone.

    Args:
        values: of the other keys that vary, as typed.
        rows: every run of it.
    """

    values: Mapping[str, str]
    rows: tuple[Row, ...]

    @property
    def num_seeds(self) -> int:
        """How many seeds it has; what was run twice counts once."""
        return len({row.of(SEED) for row in self.rows})

    @property
    def found(self) -> list[float]:
        """The values of its runs that finished, one for each seed."""
        return [*{row.of(SEED): row.value for row in self.rows if row.value is not None}.values()]

    def mean_of(self, metric: str) -> float | None:
        """The mean of another metric over the same runs; None where one has none."""
        found = {row.of(SEED): row.metrics.get(metric) for row in self.rows if row.value is not None}
        values = [value for value in found.values() if value is not None]
        return statistics.fmean(values) if values and len(values) == len(found) else None

    @property
    def mean(self) -> float | None:
        """Of them; None where there are none."""
        return statistics.fmean(self.found) if self.found else None

    @property
    def deviation(self) -> float | None:
        """Their standard deviation, with n - 1; None for less than two."""
        return statistics.stdev(self.found) if len(self.found) > 1 else None


@dataclass(frozen=True)
class Table:
    """A sweep as it stands.

    Args:
        folder: of the sweep.
        rows: a run each, by number.
        took: seconds that the command took, or None where it is not known.
        options: of the command, which a run of its own needs too, such as ``--config-dir``.
    """

    folder: Path
    rows: tuple[Row, ...]
    took: float | None = None
    options: tuple[str, ...] = ()

    @functools.cached_property
    def keys(self) -> list[str]:
        """What varies, in the order in which it was typed."""
        return varied_keys([row.words for row in self.rows])

    @functools.cached_property
    def group_keys(self) -> list[str]:
        """What varies besides the seed."""
        return [key for key in self.keys if key != SEED]

    @functools.cached_property
    def monitors(self) -> list[str]:
        """The metrics by which runs are judged."""
        found = (row.run.monitor for row in self.rows if row.run is not None)
        return sorted({monitor for monitor in found if monitor is not None})

    @property
    def monitor(self) -> str | None:
        """The metric by which the runs are compared; None where they have none, or not the same."""
        return self.monitors[0] if len(self.monitors) == 1 else None

    @functools.cached_property
    def maximizes(self) -> bool:
        """Whether more of it is better."""
        return all(row.run.maximizes for row in self.rows if row.run is not None and row.run.monitor is not None)

    @functools.cached_property
    def metrics(self) -> list[str]:
        """The names of all metrics that a run has, the monitored one first."""
        return metric_names([row.run for row in self.rows if row.run is not None], [self.monitor])

    @functools.cached_property
    def groups(self) -> list[Group]:
        """The runs folded over their seeds, the best first; each its own group where the seed does not vary."""
        keys = self.group_keys
        found: dict[tuple[str | None, ...], list[Row]] = {}
        for row in self.rows:
            found.setdefault(tuple(row.of(key) for key in keys), []).append(row)
        groups = [
            Group({key: value for key, value in zip(keys, values, strict=True) if value is not None}, tuple(rows))
            for values, rows in found.items()
        ]
        sign = -1 if self.maximizes else 1
        return sorted(groups, key=lambda group: math.inf if group.mean is None else sign * group.mean)

    @functools.cached_property
    def folds(self) -> bool:
        """Whether there is more than one seed."""
        return SEED in self.keys

    @functools.cached_property
    def best(self) -> Row | None:
        """The best run of the best group; None where runs cannot be compared."""
        groups = self.groups
        if self.monitor is None or not groups or groups[0].mean is None:
            return None
        rows = [row for row in groups[0].rows if row.value is not None]
        choose = max if self.maximizes else min
        return choose(rows, key=lambda row: row.value or 0.0)

    @functools.cached_property
    def ordered(self) -> list[Row]:
        """The best first, and those without a value last; by number where they cannot be compared."""
        if self.monitor is None:
            return list(self.rows)
        sign = -1 if self.maximizes else 1
        return sorted(self.rows, key=lambda row: (row.value is None, sign * (row.value or 0.0), row.number))

    def values(self, row: Row) -> list[str]:
        """Of what varies, what a run has; empty where it has no such key."""
        return [row.of(key) or "" for key in self.keys]

    def count(self, state: str) -> int:
        """How many runs are in a state."""
        return sum(row.state == state for row in self.rows)


def command(table: Table, row: Row) -> str:
    """The command that trains a run again, for a shell."""
    return " ".join(["train", *map(shlex.quote, [*table.options, *row.words])])


def write_csv(table: Table) -> Path:
    """``summary.csv`` in the sweep's folder: whole numbers of digits, for a program; returns its path."""
    keys, metrics = table.keys, table.metrics
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["number", *keys, *metrics, "steps", "seconds", STATE, "reason", "folder"])
    for row in table.rows:
        shown = [row.metrics.get(name, "") for name in metrics]
        rest = ["" if each is None else each for each in (row.steps, row.seconds)]
        writer.writerow([row.number, *table.values(row), *shown, *rest, row.state, row.reason, row.folder.name])
    path = table.folder / CSV
    atomic_files.write(path, lambda file: file.write_text(text.getvalue(), encoding="utf-8"))
    return path


def as_text(table: Table) -> list[str]:
    """The lines that are printed: the runs, the best first; the seeds folded; the best and its command."""
    best, monitor = table.best, table.monitor
    test = [name for name in table.metrics if monitor is not None and name == test_metrics_of(monitor)]
    rows = table.ordered
    head = ["", *table.keys, monitor or "metric", *test, "steps", "seconds", STATE, "folder"]
    cells = []
    for row in rows[:MAX_ROWS]:
        cells.append(
            [
                "*" if row is best else "",
                *table.values(row),
                figure(row.value if monitor else None),
                *(figure(row.metrics.get(name)) for name in test),
                counted(row.steps),
                lasted(row.seconds),
                row.state,
                row.folder.name,
            ]
        )
    left = {len(head) - 1, len(head) - 2, *(1 + at for at, key in enumerate(table.keys) if not _all_numbers(rows, key))}
    lines = aligned(head, cells, left)
    if len(rows) > MAX_ROWS:
        lines.append(f"… and {len(rows) - MAX_ROWS} more in {CSV}")
    if table.folds and monitor is not None:
        keys = table.group_keys
        folded = [
            [*(group.values.get(key, "") for key in keys), *_folded(group), f"{len(group.found)} of {group.num_seeds}"]
            for group in table.groups[:MAX_ROWS]
        ]
        names = [*keys, f"{monitor}, mean", "deviation", "seeds"]
        left = {at for at, key in enumerate(keys) if not _all_numbers(rows, key)}
        lines += ["", *aligned(names, folded, left)]
    return [*lines, "", *conclusion(table)]


def conclusion(table: Table) -> list[str]:
    """How the runs ended, and the best with its command."""
    states = dict.fromkeys(row.state for row in sorted(table.rows, key=lambda row: row.state != FINISHED))
    counts = ", ".join(f"{table.count(state)} {state}" for state in states)
    took = "" if table.took is None else f" in {table.took:.1f} s"
    lines = [f"runs     {len(table.rows)}{took}: {counts}"]
    best = table.best
    if best is not None:
        more = sum(group.mean == table.groups[0].mean for group in table.groups) - 1
        lines.append(f"best     {what(table)}" + f"; {more} more as good" * (more > 0))
        lines.append(f"again    {command(table, best)}")
    elif len(table.monitors) > 1:
        lines.append(f"best     none is called so: the runs are judged by {' and '.join(table.monitors)}")
    return lines


def what(table: Table) -> str:
    """What is best and how good it is, in one line."""
    best, group = table.best, table.groups[0]
    if best is None:
        return "nothing"
    said = " ".join(f"{key}={value}" for key, value in group.values.items())
    if table.folds:
        spread = "" if group.deviation is None else f" ± {group.deviation:.4f}"
        seeds = f"over {len(group.found)} seed{'s' * (len(group.found) > 1)}"
        answer = f"{said + ': ' * bool(said)}{table.monitor} {figure(group.mean)}{spread} {seeds}"
    else:
        answer = f"{said or best.folder.name}: {table.monitor} {figure(best.value)}"
    tested = test_metrics_of(table.monitor or "")
    test = group.mean_of(tested) if tested != table.monitor else None
    return answer if test is None else f"{answer}, {tested} {figure(test)}"


def _folded(group: Group) -> list[str]:
    return [figure(group.mean), "" if group.deviation is None else f"{group.deviation:.4f}"]


def _all_numbers(rows: Sequence[Row], key: str) -> bool:
    """Whether every value of a key is one."""
    try:
        return all(math.isfinite(float(row.of(key) or "nan")) for row in rows)
    except ValueError:
        return False
