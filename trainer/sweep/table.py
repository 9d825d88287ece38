"""The results of a sweep: a row for each run, groups of runs that differ only in their seed, and the best run.

This module does not import torch.
"""

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

from trainer.commands.text_table import counted, figure, fitted, lasted
from trainer.processes.signals import CLOCK, REASONS
from trainer.runs import atomic_files
from trainer.runs.read import (
    FINISHED,
    STOPPED,
    Run,
    as_number,
    format_value,
    metric_names,
    test_metrics_of,
    values_of,
    varied_keys,
)

CSV = "summary.csv"
SEED = "seed"
MAX_ROWS = 40  # maximum number of rows that are printed; the CSV file has all rows
MIN_LETTERS = 12  # to which a text is shortened on a narrow terminal
STATE = "state"


@dataclass(frozen=True)
class SweepRow:
    """One run of a sweep.

    Args:
        number: position in the sweep, counted from 0.
        words: the overrides that affect training, as typed on a command line.
        state: a state of ``Run``, or ``refused`` (the run could not begin), or ``waiting`` (it has not begun).
        folder: the run directory, which may not exist yet.
        reason: why the run did not finish; empty for a finished run.
        run: the content of the run directory; None if there is no run in it.
    """

    number: int
    words: tuple[str, ...]
    state: str
    folder: Path
    reason: str = ""
    run: Run | None = None

    @functools.cached_property
    def typed(self) -> Mapping[str, str]:
        """The value of each key of the overrides, as typed."""
        return values_of(self.words)

    def value_of(self, key: str) -> str | None:
        """Return the value of a key: the typed value, else the value in the run's config, else None."""
        if key in self.typed or self.run is None or key not in self.run.config:
            return self.typed.get(key)
        return format_value(self.run.config[key])

    @property
    def value(self) -> float | None:
        """The best value of the monitored metric; None unless the run finished or reached its ``max_time``."""
        ended = self.state == FINISHED or (self.state == STOPPED and self.reason == REASONS.get(CLOCK or 0))
        return self.run.best if self.run is not None and ended else None

    @property
    def metrics(self) -> Mapping[str, float]:
        """The metrics of the run; empty without a run directory."""
        return {} if self.run is None else self.run.metrics

    @property
    def steps(self) -> int | None:
        """The number of optimizer steps, or None if the run has not ended."""
        steps = None if self.run is None else self.run.summary.get("steps")
        return steps if isinstance(steps, int) else None

    @property
    def seconds(self) -> float | None:
        """The duration of the run, or None if the run has not ended."""
        return None if self.run is None else as_number(self.run.summary.get("seconds"))


@dataclass(frozen=True)
class SeedGroup:
    """Runs that differ only in their seed.

    Args:
        values: the values of the keys, except for the seed, that vary in the sweep.
        rows: all runs of the group.
    """

    values: Mapping[str, str]
    rows: tuple[SweepRow, ...]

    @property
    def num_seeds(self) -> int:
        """The number of different seeds."""
        return len({row.value_of(SEED) for row in self.rows})

    @property
    def results(self) -> list[float]:
        """The best values of the monitored metric, one for each seed with a result; the last run of a seed counts."""
        return [*{row.value_of(SEED): row.value for row in self.rows if row.value is not None}.values()]

    def mean_of(self, metric: str) -> float | None:
        """Return the mean of a metric over the seeds in ``results``, or None if a seed lacks this metric."""
        by_seed = {row.value_of(SEED): row.metrics.get(metric) for row in self.rows if row.value is not None}
        values = [value for value in by_seed.values() if value is not None]
        return statistics.fmean(values) if values and len(values) == len(by_seed) else None

    @property
    def mean(self) -> float | None:
        """The mean of ``results``, or None if there are no results."""
        return statistics.fmean(self.results) if self.results else None

    @property
    def deviation(self) -> float | None:
        """The sample standard deviation (n - 1) of ``results``, or None for fewer than two results."""
        return statistics.stdev(self.results) if len(self.results) > 1 else None


@dataclass(frozen=True)
class SweepTable:
    """The runs of a sweep and their comparison.

    Args:
        folder: the folder of the sweep.
        rows: one row for each run, ordered by number.
        took: duration of the command in seconds, or None if unknown.
        options: options of the command that are also needed to repeat a single run, such as ``--config-dir``.
    """

    folder: Path
    rows: tuple[SweepRow, ...]
    took: float | None = None
    options: tuple[str, ...] = ()

    @functools.cached_property
    def keys(self) -> list[str]:
        """The keys whose values differ between the runs, in the order in which they were typed."""
        return varied_keys([row.words for row in self.rows])

    @functools.cached_property
    def group_keys(self) -> list[str]:
        """The keys in ``keys``, without the seed."""
        return [key for key in self.keys if key != SEED]

    @functools.cached_property
    def monitors(self) -> list[str]:
        """The names of the metrics that the runs monitor."""
        monitors = (row.run.monitor for row in self.rows if row.run is not None)
        return sorted({monitor for monitor in monitors if monitor is not None})

    @property
    def monitor(self) -> str | None:
        """The metric that all runs monitor, or None if they monitor different metrics or none at all."""
        return self.monitors[0] if len(self.monitors) == 1 else None

    @functools.cached_property
    def maximizes(self) -> bool:
        """True if a larger value of the monitored metric is better."""
        return all(row.run.maximizes for row in self.rows if row.run is not None and row.run.monitor is not None)

    @functools.cached_property
    def metrics(self) -> list[str]:
        """The names of all metrics of the runs, the monitored metric first."""
        return metric_names([row.run for row in self.rows if row.run is not None], [self.monitor])

    @functools.cached_property
    def groups(self) -> list[SeedGroup]:
        """The groups of runs that differ only in their seed, the best group first."""
        keys = self.group_keys
        rows_of: dict[tuple[str | None, ...], list[SweepRow]] = {}
        for row in self.rows:
            rows_of.setdefault(tuple(row.value_of(key) for key in keys), []).append(row)
        groups = [
            SeedGroup({key: value for key, value in zip(keys, values, strict=True) if value is not None}, tuple(rows))
            for values, rows in rows_of.items()
        ]
        sign = -1 if self.maximizes else 1
        return sorted(groups, key=lambda group: math.inf if group.mean is None else sign * group.mean)

    @functools.cached_property
    def has_seeds(self) -> bool:
        """Whether the seed differs between runs."""
        return SEED in self.keys

    @functools.cached_property
    def best(self) -> SweepRow | None:
        """The best run of the best group, or None if the runs cannot be compared."""
        groups = self.groups
        if self.monitor is None or not groups or groups[0].mean is None:
            return None
        rows = [row for row in groups[0].rows if row.value is not None]
        choose = max if self.maximizes else min
        return choose(rows, key=lambda row: row.value or 0.0)

    @functools.cached_property
    def ordered(self) -> list[SweepRow]:
        """The runs from best to worst, then those without a value; sorted by number if they cannot be compared."""
        if self.monitor is None:
            return list(self.rows)
        sign = -1 if self.maximizes else 1
        return sorted(self.rows, key=lambda row: (row.value is None, sign * (row.value or 0.0), row.number))

    def values(self, row: SweepRow) -> list[str]:
        """Return the values of a run for ``keys``; an empty string for a key that the run does not have."""
        return [row.value_of(key) or "" for key in self.keys]

    def count(self, state: str) -> int:
        """Return the number of runs in a state."""
        return sum(row.state == state for row in self.rows)


def train_command(table: SweepTable, row: SweepRow) -> str:
    """Return the shell command that repeats the training of a run."""
    return " ".join(["train", *map(shlex.quote, [*table.options, *row.words])])


def write_csv(table: SweepTable) -> Path:
    """Write ``summary.csv``, with unrounded numbers, into the sweep's folder, and return its path."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["number", *table.keys, *table.metrics, "steps", "seconds", STATE, "reason", "folder"])
    for row in table.rows:
        numbers = [*(row.metrics.get(name) for name in table.metrics), row.steps, row.seconds]
        cells = ["" if number is None else number for number in numbers]
        writer.writerow([row.number, *table.values(row), *cells, row.state, row.reason, row.folder.name])
    path = table.folder / CSV
    atomic_files.write_text(path, text.getvalue())
    return path


def as_text(table: SweepTable) -> list[str]:
    """Return the lines to print: the runs (best first), the mean over the seeds, and the best run's command."""
    best, monitor, rows = table.best, table.monitor, table.ordered
    test = [name for name in table.metrics if monitor is not None and name == test_metrics_of(monitor)]
    head = ["", *table.keys, monitor or "metric", *test, "steps", "seconds", STATE, "folder"]
    cells = [
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
        for row in rows[:MAX_ROWS]
    ]
    texts = [at for at, key in enumerate(table.keys) if not _all_numbers(rows, key)]
    state, folder = len(head) - 2, len(head) - 1
    after_keys = 2 + len(table.keys)  # test, if there is one, steps and seconds
    lines = fitted(
        head,
        cells,
        {state, folder, *(1 + at for at in texts)},
        elastic={folder: MIN_LETTERS, **{1 + at: MIN_LETTERS for at in texts}},
        least=[*range(state - 1, after_keys - 1, -1), folder, state, *range(len(table.keys), 1, -1)],
        where=CSV,
    )
    if len(rows) > MAX_ROWS:
        lines.append(f"… and {len(rows) - MAX_ROWS} more in {CSV}")
    if table.has_seeds and monitor is not None:
        lines += ["", *_seed_lines(table)]
    return [*lines, "", *_conclusion(table)]


def _seed_lines(table: SweepTable) -> list[str]:
    """Return the table of means and standard deviations over the seeds."""
    keys = table.group_keys
    cells = [
        [
            *(group.values.get(key, "") for key in keys),
            figure(group.mean),
            "" if group.deviation is None else f"{group.deviation:.4f}",
            f"{len(group.results)} of {group.num_seeds}",
        ]
        for group in table.groups[:MAX_ROWS]
    ]
    texts = {at for at, key in enumerate(keys) if not _all_numbers(table.rows, key)}
    return fitted(
        [*keys, f"{table.monitor}, mean", "deviation", "seeds"],
        cells,
        texts,
        elastic=dict.fromkeys(texts, MIN_LETTERS),
        least=[*range(len(keys) - 1, 0, -1)],
        where=CSV,
    )


def _conclusion(table: SweepTable) -> list[str]:
    """Return the lines that say how the runs ended, which run is best, and the best run's command."""
    states = dict.fromkeys(row.state for row in sorted(table.rows, key=lambda row: row.state != FINISHED))
    counts = ", ".join(f"{table.count(state)} {state}" for state in states)
    took = "" if table.took is None else f" in {table.took:.1f} s"
    lines = [f"runs     {len(table.rows)}{took}: {counts}"]
    best = table.best
    if best is not None:
        num_equal = sum(group.mean == table.groups[0].mean for group in table.groups) - 1
        lines.append(f"best     {describe_best(table)}" + f"; {num_equal} more as good" * (num_equal > 0))
        lines.append(f"again    {train_command(table, best)}")
    elif len(table.monitors) > 1:
        lines.append(f"best     unknown: the runs monitor different metrics, {' and '.join(table.monitors)}")
    return lines


def describe_best(table: SweepTable) -> str:
    """Return one line with the varied values and the metrics of the best group; ``nothing`` without a best run."""
    best, group = table.best, table.groups[0]
    if best is None:
        return "nothing"
    values = " ".join(f"{key}={value}" for key, value in group.values.items())
    if table.has_seeds:
        spread = "" if group.deviation is None else f" ± {group.deviation:.4f}"
        seeds = f"over {len(group.results)} seed{'s' * (len(group.results) > 1)}"
        line = f"{values + ': ' * bool(values)}{table.monitor} {figure(group.mean)}{spread} {seeds}"
    else:
        line = f"{values or best.folder.name}: {table.monitor} {figure(best.value)}"
    test_metric = test_metrics_of(table.monitor or "")
    test = group.mean_of(test_metric) if test_metric != table.monitor else None
    return line if test is None else f"{line}, {test_metric} {figure(test)}"


def _all_numbers(rows: Sequence[SweepRow], key: str) -> bool:
    """Return whether the value of a key is a finite number for every run."""
    try:
        return all(math.isfinite(float(row.value_of(key) or "nan")) for row in rows)
    except ValueError:
        return False
