"""A sweep: the runs it is made of, doing what is left of them, and what they come to. No torch, no Hydra."""

from __future__ import annotations

import contextlib
import json
import re
import shlex
import sys
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from filelock import FileLock, Timeout
from tqdm.auto import tqdm

from trainer.commands.text_table import figure
from trainer.config import ConfigError, Job, Settings
from trainer.config.errors import printable
from trainer.processes.signals import CLOCK, REASONS
from trainer.runs import atomic_files
from trainer.runs.directory import CONFIG, LOCK, OVERRIDES
from trainer.runs.read import (
    FAILED,
    FINISHED,
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
from trainer.sweep.table import SweepRow, SweepTable, as_text, write_csv

REFUSED, WAITING = "refused", "waiting"
PACE = 0.1  # seconds between two looks at the runs under way
MAX_TIME_SHARE = 0.02  # that the table takes, which is saved while runs are under way


@dataclass(frozen=True)
class SweepJob:
    """One run of a sweep.

    Args:
        number: no other of the sweep has it; of a grid the place in it, of a search that of the trial.
        job: with its run directory, ``resume=auto`` and the words that were typed for it alone, one value for each key.
        label: what varies, for a line on the terminal.
    """

    number: int
    job: Job
    label: str

    @property
    def settings(self) -> Settings:
        """Return the settings of the run."""
        return self.job.settings

    @property
    def words(self) -> tuple[str, ...]:
        """Return the words of the run."""
        return self.job.words

    @property
    def folder(self) -> Path:
        """Return the run directory."""
        return Path(self.settings.run_dir)


class Outcome(NamedTuple):
    """How a job has ended.

    Args:
        state: as ``Run.state``, or ``refused``.
        problems: lines to report.
        code: the exit code that it would have ended with alone.
        summary: what summary.json holds, of one that finished.
    """

    state: str
    problems: tuple[str, ...] = ()
    code: int = 0
    summary: Mapping[str, Any] = {}

    @property
    def out_of_time(self) -> bool:
        """Whether it ended as ``max_time`` was over."""
        return self.state == STOPPED and CLOCK is not None and self.summary.get("reason") == REASONS[CLOCK]


class Executor(Protocol):
    """What jobs run in."""

    @property
    def room(self) -> int:
        """How many jobs may be under way at once."""
        ...

    def start(self, job: SweepJob) -> None:
        """Begin a job, or keep it for the next ``wait``."""
        ...

    def wait(self, seconds: float) -> list[tuple[SweepJob, Outcome]]:
        """The jobs that have ended, after at most so many seconds if none has."""
        ...

    def stop(self, job: SweepJob) -> None:
        """Ask a job to save and end."""
        ...

    def close(self) -> None:
        """End all; the runs under way are saved first."""
        ...


class Source(Protocol):
    """Where jobs come from."""

    def next_job(self) -> SweepJob | None:
        """The next one to run; None where there is none now."""
        ...

    def gives_up(self, job: SweepJob) -> bool:
        """Whether a job under way is to be stopped, as it is not worth going on."""
        ...

    def ended(self, job: SweepJob, outcome: Outcome) -> Outcome:
        """Hear how one ended; returns what that means here."""
        ...

    def lines(self) -> Sequence[str]:
        """What there is to say at the end, beside the table."""
        ...


class Grid:
    """Every combination of what was typed, in order."""

    def __init__(self, jobs: Sequence[SweepJob]) -> None:
        self._left = iter(jobs)

    def next_job(self) -> SweepJob | None:
        """The next one."""
        return next(self._left, None)

    def gives_up(self, job: SweepJob) -> bool:
        """Never."""
        return False

    def ended(self, job: SweepJob, outcome: Outcome) -> Outcome:
        """As it is."""
        return outcome

    def lines(self) -> Sequence[str]:
        """Nothing."""
        return ()


def drive(source: Source, executor: Executor, display: Display, outcomes: dict[int, Outcome], *, on_error: str) -> None:
    """Run jobs until there are no more, or, with ``on_error="stop"``, one has failed.

    Args:
        source: where they come from.
        executor: what they run in.
        display: what the user sees.
        outcomes: how each has ended, by its number, is put there.
        on_error: ``continue`` or ``stop``.
    """
    running: dict[int, SweepJob] = {}
    stopping, asked = False, set[int]()
    while True:
        while not stopping and len(running) < executor.room and (job := source.next_job()) is not None:
            running[job.number] = job
            executor.start(job)
        if not running:
            return
        for job, outcome in executor.wait(PACE):
            del running[job.number]
            theirs = job.number in asked and outcome.state == STOPPED  # another's failure has stopped it
            outcomes[job.number] = source.ended(job, outcome._replace(code=0) if theirs else outcome)
            display.ended(job, outcomes[job.number])
            failed = outcomes[job.number].code and outcomes[job.number].state in (FAILED, REFUSED)
            if failed and on_error == "stop" and not stopping:
                stopping = True
                for other in running.values():
                    asked.add(other.number)
                    executor.stop(other)
        for job in running.values():
            if source.gives_up(job):
                executor.stop(job)
        display.refresh(list(running.values()))


class Display:
    """One bar for a sweep, a line for each run that ends, and its mistakes.

    Args:
        total: how many runs there are in all.
        done: those that were finished before.
        save: keeps the table of what has ended, for the case that the command is killed.
    """

    def __init__(self, total: int, done: Sequence[Run], save: Callable[[], None]) -> None:
        self._total, self._ended, self._best = total, len(done), ""
        self._save, self._saved, self._saving = save, float("-inf"), 0.0
        self._score = float("-inf")
        for run in done:
            self._is_best(run.summary)
        self._bar = tqdm(
            total=total,
            initial=len(done),
            desc="sweep",
            unit="run",
            disable=None,
            dynamic_ncols=True,
            leave=False,
            bar_format="{desc}: {percentage:3.0f}%|{bar}| {n:.1f}/{total} [{elapsed}<{remaining}{postfix}]",
        )
        self._looked_at = 0.0
        self._shares: dict[int, tuple[PointReader, float]] = {}  # of the jobs under way, how much is done

    def ended(self, job: SweepJob, outcome: Outcome) -> None:
        """A line for a job, and one for each of its mistakes."""
        self._ended += 1
        width = len(str(self._total))
        parts = [f"{self._ended:>{width}}/{self._total}", job.label or job.folder.name]
        summary, best = outcome.summary, _best(outcome.summary)
        if best is not None:
            parts.append(f"{summary['monitor']} {figure(best)}")
        if outcome.state != FINISHED:
            parts.append(outcome.state)
        if (seconds := as_number(summary.get("seconds"))) is not None:
            parts.append(f"{seconds:.1f} s")
        is_best = outcome.state == FINISHED and self._is_best(summary)
        say("  ".join(parts) + "  * best" * is_best)
        for problem in outcome.problems:
            say(f"train: error: {job.folder.name}: {printable(problem)}", file=sys.stderr)
        began = time.monotonic()
        if self._saving < MAX_TIME_SHARE * (began - self._saved):
            self._save()
            self._saved = time.monotonic()
            self._saving = self._saved - began
        self.refresh(())

    def refresh(self, running: Collection[SweepJob]) -> None:
        """The bar, with the part of each run under way that is done, as far as its last point says."""
        now = time.monotonic()
        if self._bar.disable or now < self._looked_at + 5 * PACE:
            return
        self._looked_at = now
        self._shares = {job.number: self._share_done(job) for job in running}
        self._bar.n = min(self._total, self._ended + sum(share for _, share in self._shares.values()))
        self._bar.set_postfix_str(self._best, refresh=True)

    def close(self) -> None:
        """Take the bar away."""
        self._bar.close()

    def _share_done(self, job: SweepJob) -> tuple[PointReader, float]:
        """How much of a run is done, from 0 to 1."""
        follower, share = self._shares.get(job.number, (PointReader(job.folder), 0.0))
        for point in follower.read_new()[-1:]:
            steps = 0.0 if job.settings.max_steps is None else point["step"] / job.settings.max_steps
            share = min(1.0, max(steps, (point.get("epoch", 1) - 1) / job.settings.epochs))
        return follower, share

    def _is_best(self, summary: Mapping[str, Any]) -> bool:
        """Take a finished run in; whether it is the best so far."""
        best = _best(summary)
        if best is None:
            return False
        score = -best if summary.get("direction") == "minimize" else best
        if score <= self._score:
            return False
        self._score, self._best = score, f"best {figure(best)}"
        return True


def _best(summary: Mapping[str, Any]) -> float | None:
    """The best value of the metric that a run is judged by."""
    best, monitor = summary.get("best"), summary.get("monitor")
    return comparable(best.get(monitor)) if isinstance(best, dict) and isinstance(monitor, str) else None


def say(line: str, file: Any = None) -> None:
    """A line above the bar; a terminal that is closed ends no sweep."""
    file = file or sys.stdout
    with contextlib.suppress(OSError, ValueError, AttributeError):
        tqdm.write("\n".join(map(printable, line.split("\n"))), file=file)  # a file may hold what moves a cursor
        file.flush()


@contextlib.contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """The folder of a sweep for this command alone.

    Raises:
        ConfigError: another command is at work there, or it cannot be made.
    """
    if (folder / CONFIG).exists():
        raise ConfigError(f"sweep_dir: {folder} is a run; name the folder of a sweep, or another one")
    lock: FileLock | None = None
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / LOCK)
        lock.acquire(blocking=False)
    except Timeout as error:
        raise ConfigError(f"sweep_dir: another sweep is at work in {folder}; wait for its end, or stop it") from error
    except FileExistsError as error:
        raise ConfigError(f"sweep_dir: {folder} is a file, or stands below one; name a folder") from error
    except NotImplementedError:  # a disk without locks, as some network file systems are
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
        with contextlib.suppress(OSError):  # nothing came of it
            folder.rmdir()


def save_words(folder: Path, words: Sequence[str]) -> None:
    """Keep the words that go on with a sweep.

    Raises:
        ConfigError: they cannot be written.
    """
    text = json.dumps(list(words), ensure_ascii=False, indent=0)  # which is YAML too
    try:
        atomic_files.write(folder / OVERRIDES, lambda path: path.write_text(text + "\n", encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"sweep_dir: cannot write in {folder}: {error.strerror}") from error


def sweep_table(
    folder: Path,
    jobs: Sequence[SweepJob],
    outcomes: Mapping[int, Outcome],
    took: float | None = None,
    options: tuple[str, ...] = (),
) -> SweepTable:
    """What a sweep has come to: its jobs, and the runs that stand in its folder from another time."""
    rows, places = list[SweepRow](), {job.number: _place(folder, job.folder, job.number) for job in jobs}
    if len({*places.values()}) < len(jobs):  # names of the user's own may begin alike
        places = {number: number for number in places}
    for job in jobs:
        outcome = outcomes.get(job.number)
        refused = outcome is not None and outcome.state == REFUSED  # so what stands there is not its own
        run = read_run(job.folder) if is_run(job.folder) and not refused else None
        state = run.state if run is not None else WAITING if outcome is None else outcome.state
        reason = "" if run is None else str(run.summary.get("reason", ""))
        if outcome is not None and outcome.problems:
            reason = outcome.problems[0]
        words = tuple(trained_words(job.words))
        rows.append(SweepRow(places[job.number], words, state, job.folder, reason, run))
    ours = {job.folder.resolve() for job in jobs}
    others = [run for run in find_runs(folder) if run.path.resolve() not in ours] if folder.is_dir() else []
    above = max((job.number for job in jobs), default=-1) + 1
    for place, run in enumerate(sorted(others, key=lambda run: str(run.path)), above):
        reason = str(run.summary.get("reason", ""))
        rows.append(SweepRow(_place(folder, run.path, place), tuple(run.words), run.state, run.path, reason, run))
    return SweepTable(folder, tuple(sorted(rows, key=lambda row: row.number)), took, options)


def _place(folder: Path, run: Path, otherwise: int) -> int:
    """The number that a run's folder begins with; that of the job where it has a name of the user's own."""
    found = re.match(r"\d+", run.name) if run.parent == folder else None
    return int(found[0]) if found else otherwise


def save_csv(found: SweepTable) -> None:
    """Save the table for a program; a full disk ends no sweep."""
    with contextlib.suppress(OSError):
        write_csv(found)


def conclude(found: SweepTable, lines: Sequence[str] = ()) -> None:
    """Save and print the answer, and ``lines`` after it; a full disk takes the files and not what is printed."""
    from trainer.sweep.page import (
        PAGE,
        page,  # draws pictures
    )

    say("\n".join(["", *as_text(found), *lines]))
    try:
        write_csv(found)
        atomic_files.write(found.folder / PAGE, lambda path: path.write_text(page(found), encoding="utf-8"))
    except Exception as error:  # a picture that cannot be drawn takes nothing of what has been trained
        reason = getattr(error, "strerror", None) or f"{type(error).__name__}: {error}"
        say(f"train: warning: {found.folder}: {printable(reason)}", file=sys.stderr)
        return
    say(f"page     {found.folder / PAGE}")
    if any((row.folder / "tensorboard").is_dir() for row in found.rows):
        say(f"next     tensorboard --logdir {shlex.quote(str(found.folder))}")
