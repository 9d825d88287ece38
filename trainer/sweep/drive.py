"""Run a sweep: its jobs, the loop over the jobs, terminal output and results. Imports neither torch nor Hydra."""

from __future__ import annotations

import contextlib
import re
import shlex
import sys
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TextIO

from filelock import FileLock, Timeout

from trainer.commands.text_table import figure, shortened
from trainer.config import ConfigError, Job, Settings
from trainer.config.errors import one_line, printable
from trainer.config.messages import as_word
from trainer.config.progress_bar import ProgressBar
from trainer.config.terminal import fitting
from trainer.processes.signals import CLOCK, REASONS
from trainer.runs import atomic_files
from trainer.runs.directory import CONFIG, LOCK
from trainer.runs.read import (
    FAILED,
    FINISHED,
    PRUNED,
    STOPPED,
    PointReader,
    Run,
    as_number,
    comparable,
    find_runs,
    is_run,
    read_run,
    trained_words,
)
from trainer.sweep.table import MIN_LETTERS, SweepRow, SweepTable, as_text, write_csv

REFUSED, WAITING = "refused", "waiting"
POLL_SECONDS = 0.1  # interval at which the runs in progress are polled
MAX_TIME_SHARE = 0.02  # largest share of the command's time spent on saving the table while runs are in progress


@dataclass(frozen=True)
class SweepJob:
    """One run of a sweep.

    Args:
        number: the position in a grid, or the number of a trial; unique in the sweep.
        job: the job, with its run directory, ``resume=auto`` and one value for each key of its overrides.
        label: the overrides that vary between the runs, for terminal output.
    """

    number: int
    job: Job
    label: str

    @property
    def settings(self) -> Settings:
        return self.job.settings

    @property
    def folder(self) -> Path:
        return Path(self.settings.run_dir)

    def path_in(self, sweep: Path) -> Path:
        """Return the run directory relative to the sweep's folder; if it lies outside, a name with the job's number."""
        inside = self.folder.is_relative_to(sweep)  # if not, two run directories may have the same name
        return self.folder.relative_to(sweep) if inside else Path(f"{self.number}-{self.folder.name}")


class Outcome(NamedTuple):
    """How a job ended.

    Args:
        state: a state of ``Run``, or ``refused`` if the run could not begin.
        problems: error messages, one line each.
        code: the exit code that ``train`` would return for this run alone.
        summary: the content of summary.json, if the run finished.
    """

    state: str
    problems: tuple[str, ...] = ()
    code: int = 0
    summary: Mapping[str, Any] = {}

    @property
    def out_of_time(self) -> bool:
        """True if ``max_time`` stopped the run."""
        return self.state == STOPPED and CLOCK is not None and self.summary.get("reason") == REASONS[CLOCK]


class Executor:
    """The interface of an executor: runs jobs in worker processes, in this process, or with a Hydra launcher.

    An executor whose ``wait`` returns only after all jobs have ended inherits ``stop`` and ``close``, which do nothing.
    """

    max_jobs: int  # maximum number of jobs in progress at once

    def start(self, job: SweepJob) -> None:
        """Start a job, or queue the job for the next ``wait``."""

    def wait(self, seconds: float) -> list[tuple[SweepJob, Outcome]]:
        """Wait until a job ends or ``seconds`` have passed, and return the jobs that ended since the last call."""
        raise NotImplementedError

    def stop(self, job: SweepJob) -> None:
        """Ask a job to save a checkpoint and to end."""

    def close(self) -> None:
        """Stop all jobs, and end their processes after the jobs have saved their checkpoints."""


class JobSource:
    """The interface of a source of jobs: a grid of values, or a search. By default, no job is pruned."""

    def next_job(self) -> SweepJob | None:
        """Return the next job to run, or None if no job is available now."""
        raise NotImplementedError

    def should_prune(self, job: SweepJob) -> bool:
        """Return whether to stop a job in progress because its results so far are too poor."""
        return False

    def record(self, job: SweepJob, outcome: Outcome) -> Outcome:
        """Record how a job ended, and return the outcome to show to the user."""
        return outcome

    def closing_lines(self) -> Sequence[str]:
        """Return further lines to print after the table of results."""
        return ()


class Grid(JobSource):
    """A source of jobs with one job for each combination of the typed values, in order."""

    def __init__(self, jobs: Sequence[SweepJob]) -> None:
        self._left = iter(jobs)

    def next_job(self) -> SweepJob | None:
        return next(self._left, None)


def run_jobs(
    source: JobSource, executor: Executor, display: Display, outcomes: dict[int, Outcome], *, on_error: str
) -> None:
    """Run jobs until the source has none left, and store the outcome of each job in ``outcomes`` under its number.

    If ``on_error`` is ``stop`` instead of ``continue``, stop all jobs as soon as one fails.
    """
    running: dict[int, SweepJob] = {}
    stopping, stopped = False, set[int]()
    while True:
        while not stopping and len(running) < executor.max_jobs and (job := source.next_job()) is not None:
            running[job.number] = job
            executor.start(job)
        if not running:
            return
        for job, result in executor.wait(POLL_SECONDS):
            del running[job.number]
            innocent = job.number in stopped and result.state == STOPPED  # stopped because another job failed
            outcome = outcomes[job.number] = source.record(job, result._replace(code=0) if innocent else result)
            display.report(job, outcome)
            failed = outcome.code and outcome.state in (FAILED, REFUSED)
            if failed and on_error == "stop" and not stopping:
                stopping = True
                for other in running.values():
                    stopped.add(other.number)
                    executor.stop(other)
        for job in running.values():
            if source.should_prune(job):
                executor.stop(job)
        display.refresh(list(running.values()))


class Display:
    """The terminal output of a sweep: a progress bar, a line for each run that ends, and its error messages.

    Args:
        total: the number of runs, finished ones included.
        done: the runs that finished before this command started.
        save: saves the table of results while runs are in progress, in case the command is killed; an ``OSError``,
            such as a full disk, is ignored.
    """

    def __init__(self, total: int, done: Sequence[Run], save: Callable[[], object]) -> None:
        self._total, self._num_ended, self._best = total, len(done), ""
        self._save, self._saved_at, self._saving_took = save, float("-inf"), 0.0
        self._score = float("-inf")
        for run in done:
            self._is_new_best(run.summary)
        self._bar = ProgressBar(
            total=total,
            initial=len(done),
            desc="sweep",
            unit="run",
            disable=None,
            dynamic_ncols=True,
            leave=False,
            bar_format="{desc}: {percentage:3.0f}%|{bar}| {n:.1f}/{total} [{elapsed}<{remaining}{postfix}]",
        )
        self._refreshed_at = 0.0
        self._progress: dict[int, tuple[PointReader, float]] = {}  # the completed share of each job, from 0 to 1

    def report(self, job: SweepJob, outcome: Outcome) -> None:
        """Print a line for a job that ended and for each of its error messages; save the table of results if due."""
        self._num_ended += 1
        width = len(str(self._total))
        parts = [f"{self._num_ended:>{width}}/{self._total}", job.label or job.folder.name]
        summary, best = outcome.summary, _best(outcome.summary)
        if best is not None:
            parts.append(f"{summary['monitor']} {figure(best)}")
        if outcome.state != FINISHED:
            parts.append(outcome.state)
        if (seconds := as_number(summary.get("seconds"))) is not None:
            parts.append(f"{seconds:.1f} s")
        is_best = outcome.state == FINISHED and self._is_new_best(summary)
        lines = ["  ".join([parts[0], label, *parts[2:], *["* best"] * is_best]) for label in _labels(parts[1])]
        write_line(fitting(lines))
        for problem in outcome.problems:
            write_line(f"train: error: {job.folder.name}: {printable(problem)}", sys.stderr)
        began = time.monotonic()
        if self._saving_took < MAX_TIME_SHARE * (began - self._saved_at):
            with contextlib.suppress(OSError):
                self._save()
            self._saved_at = time.monotonic()
            self._saving_took = self._saved_at - began
        self.refresh(())

    def refresh(self, running: Collection[SweepJob]) -> None:
        """Redraw the progress bar; the progress of each job is read from its last point in metrics.jsonl."""
        now = time.monotonic()
        if self._bar.disable or now < self._refreshed_at + 5 * POLL_SECONDS:
            return
        self._refreshed_at = now
        self._progress = {job.number: self._progress_of(job) for job in running}
        self._bar.n = min(self._total, self._num_ended + sum(share for _, share in self._progress.values()))
        self._bar.set_postfix_str(self._best, refresh=True)

    def close(self) -> None:
        self._bar.close()

    def _progress_of(self, job: SweepJob) -> tuple[PointReader, float]:
        reader, share = self._progress.get(job.number, (PointReader(job.folder), 0.0))
        for point in reader.read_new()[-1:]:
            steps = 0.0 if job.settings.max_steps is None else point["step"] / job.settings.max_steps
            share = min(1.0, max(steps, (point.get("epoch", 1) - 1) / job.settings.epochs))
        return reader, share

    def _is_new_best(self, summary: Mapping[str, Any]) -> bool:
        """Return whether the summary of a finished run has the best value so far, and if so, remember the value."""
        best = _best(summary)
        if best is None:
            return False
        score = -best if summary.get("direction") == "minimize" else best
        if score <= self._score:
            return False
        self._score, self._best = score, f"best {figure(best)}"
        return True


def _labels(label: str) -> list[str]:
    """Return the label of a run, and shorter forms of it for a narrow terminal."""
    return [shortened(label, width) for width in range(len(label), min(len(label), MIN_LETTERS) - 1, -1)]


def _best(summary: Mapping[str, Any]) -> float | None:
    """Return the best value of the monitored metric in a summary, or None if the summary has no such number."""
    best, monitor = summary.get("best"), summary.get("monitor")
    return comparable(best.get(monitor)) if isinstance(best, dict) and isinstance(monitor, str) else None


def write_line(text: str, file: TextIO | None = None) -> None:
    """Write lines above the progress bar; ignore errors of a closed terminal, so that the sweep continues."""
    file = file or sys.stdout
    with contextlib.suppress(OSError, ValueError, AttributeError):
        shown = "\n".join(map(printable, text.split("\n")))  # names may contain control characters
        ProgressBar.write(shown, file=file)
        file.flush()


@contextlib.contextmanager
def lock_folder(folder: Path) -> Iterator[None]:
    """Create the folder of a sweep and hold its lock; release the lock at the end, and remove the folder if empty.

    Raises:
        ConfigError: the folder is a run directory, another command uses the folder, or it cannot be created.
    """
    if (folder / CONFIG).exists():
        raise ConfigError(f"sweep_dir: {folder} is a run directory; name the folder of a sweep, or a new folder")
    lock: FileLock | None = None
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / LOCK)
        lock.acquire(blocking=False)
    except Timeout as error:
        raise ConfigError(f"sweep_dir: another sweep is at work in {folder}; wait for its end, or stop it") from error
    except FileExistsError as error:
        raise ConfigError(f"sweep_dir: {folder} is a file, or is inside a file; name a folder") from error
    except NotImplementedError:  # some network file systems have no locks
        lock = None
    except OSError as error:
        raise ConfigError(f"sweep_dir: cannot make {folder}: {error.strerror}") from error
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            (folder / LOCK).unlink(missing_ok=True)
        if lock is not None:
            lock.release()
        with contextlib.suppress(OSError):  # rmdir fails if the folder is not empty
            folder.rmdir()


def sweep_table(
    folder: Path,
    jobs: Sequence[SweepJob],
    outcomes: Mapping[int, Outcome],
    took: float | None = None,
    options: tuple[str, ...] = (),
) -> SweepTable:
    """Return the table of a sweep: the jobs of this command, and the runs of earlier commands in its folder.

    Args:
        folder: the folder of the sweep.
        jobs: all jobs of this command.
        outcomes: the outcome of each job that ended, by its number.
        took: duration of the command in seconds, or None if unknown.
        options: options of this command that are also needed to repeat a single run, such as ``--config-dir``.
    """
    numbers = {job.number: _leading_number(folder, job.folder, job.number) for job in jobs}
    if len({*numbers.values()}) < len(jobs):  # names chosen by the user may begin with equal numbers
        numbers = {number: number for number in numbers}
    rows = list[SweepRow]()
    for job in jobs:
        outcome = outcomes.get(job.number)
        refused = outcome is not None and outcome.state == REFUSED  # then the directory holds a different run
        run = read_run(job.folder) if is_run(job.folder) and not refused else None
        state = run.state if run is not None else WAITING if outcome is None else outcome.state
        reason = outcome.problems[0] if outcome is not None and outcome.problems else _reason_of(run)
        rows.append(SweepRow(numbers[job.number], tuple(trained_words(job.job.words)), state, job.folder, reason, run))
    ours = {job.folder.resolve() for job in jobs}
    others = [run for run in find_runs(folder) if run.path.resolve() not in ours] if folder.is_dir() else []
    first_free = max((job.number for job in jobs), default=-1) + 1
    for default, run in enumerate(sorted(others, key=lambda run: str(run.path)), first_free):
        number = _leading_number(folder, run.path, default)
        rows.append(SweepRow(number, tuple(run.words), run.state, run.path, _reason_of(run), run))
    return SweepTable(folder, tuple(sorted(rows, key=lambda row: row.number)), took, options)


def _reason_of(run: Run | None) -> str:
    return "" if run is None else str(run.summary.get("reason", ""))


def _leading_number(folder: Path, run: Path, default: int) -> int:
    """Return the number with which the name of a run directory begins, or ``default``.

    ``default`` is for run directories that have no number or are not directly in the sweep's folder.
    """
    found = re.match(r"\d+", run.name) if run.parent == folder else None
    return int(found[0]) if found else default


def conclude(table: SweepTable, lines: Sequence[str] = (), total: int = 0) -> None:
    """Print the results and ``lines``, then write the CSV file and the page; warn if the files cannot be written.

    Args:
        table: the runs so far.
        lines: further lines after the table of results.
        total: the number of runs of the whole sweep.
    """
    from trainer.sweep.page import PAGE, make_page  # imported late, as it is needed only here

    write_line("\n".join(["", *as_text(table), *lines]))
    try:
        write_csv(table)
        atomic_files.write_text(table.folder / PAGE, make_page(table))
    except Exception as error:  # an error while drawing must not end the command, as the results are complete
        write_line(f"train: warning: {table.folder}: {printable(one_line(error))}", sys.stderr)
        return
    write_line(f"page     {table.folder / PAGE}")
    if any((row.folder / "tensorboard").is_dir() for row in table.rows):
        write_line(f"next     tensorboard --logdir {shlex.quote(str(table.folder))}")
    ended = sum(row.state in (FINISHED, PRUNED) or row.value is not None for row in table.rows)  # or out of max_time
    if ended + table.count(FAILED) + table.count(REFUSED) < max(total, len(table.rows)):
        write_line(f"next     train {as_word('sweep', str(table.folder))}")
