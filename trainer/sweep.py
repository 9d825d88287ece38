"""A sweep: the runs it is made of, where each stands, and doing what is left of them. No torch, no Hydra."""

from __future__ import annotations

import contextlib
import json
import re
import sys
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from filelock import FileLock, Timeout
from tqdm.auto import tqdm

from trainer import files, resume, rundir, runs
from trainer.config import ConfigError, Settings, did_you_mean, key_of, on_one_line
from trainer.runs import FINISHED, PRUNED, Run, number
from trainer.sweep_table import Row, Table, as_text, figure, write_csv

SWEEPS = runs.OUTPUTS / "sweeps"
LENGTH = ("epochs", "max_steps", "patience")  # a finished run that is now to be of another length goes on
REFUSED, WAITING = "refused", "waiting"
PACE = 0.1  # seconds between two looks at the runs under way
MOST_LETTERS = 100  # of a run directory's name


@dataclass(frozen=True)
class Job:
    """One run of a sweep.

    Args:
        number: in the sweep, from 0.
        words: what was typed for it alone, one value for each key.
        settings: with its run directory, and ``resume=auto``.
        label: what varies, for a line on the terminal.
    """

    number: int
    words: tuple[str, ...]
    settings: Settings
    label: str

    @property
    def folder(self) -> Path:
        """Its run directory."""
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


class Executor(Protocol):
    """What jobs run in."""

    @property
    def room(self) -> int:
        """How many jobs may be under way at once."""
        ...

    def start(self, job: Job) -> None:
        """Begin a job, or keep it for the next ``wait``."""
        ...

    def wait(self, seconds: float) -> list[tuple[Job, Outcome]]:
        """The jobs that have ended, after at most so many seconds if none has."""
        ...

    def stop(self, job: Job) -> None:
        """Ask a job to save and end."""
        ...


class Source(Protocol):
    """Where jobs come from."""

    def next_job(self) -> Job | None:
        """The next one to run; None where there is none now."""
        ...

    def gives_up(self, job: Job) -> bool:
        """Whether a job under way is to be stopped, as it is not worth going on."""
        ...

    def ended(self, job: Job, outcome: Outcome) -> Outcome:
        """Hear how one ended; returns what that means here."""
        ...

    def lines(self) -> Sequence[str]:
        """What there is to say at the end, beside the table."""
        ...


class Grid:
    """Every combination of what was typed, in order."""

    def __init__(self, jobs: Sequence[Job]) -> None:
        self._left = iter(jobs)

    def next_job(self) -> Job | None:
        """The next one."""
        return next(self._left, None)

    def gives_up(self, job: Job) -> bool:
        """Never."""
        return False

    def ended(self, job: Job, outcome: Outcome) -> Outcome:
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
    running: dict[int, Job] = {}
    stopping = False
    while True:
        while not stopping and len(running) < executor.room and (job := source.next_job()) is not None:
            running[job.number] = job
            executor.start(job)
        if not running:
            return
        for job, outcome in executor.wait(PACE):
            del running[job.number]
            outcomes[job.number] = source.ended(job, outcome)
            display.ended(job, outcomes[job.number])
            if outcomes[job.number].code and on_error == "stop" and not stopping:
                stopping = True
                for other in running.values():
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
    """

    def __init__(self, total: int, done: Sequence[Run]) -> None:
        self._total, self._ended, self._best = total, len(done), ""
        self._score = float("-inf")
        for run in done:
            self._is_best(run.summary, run.path.name)
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
        self._shares: dict[int, tuple[runs.Follower, float]] = {}  # of the jobs under way, how much is done

    def ended(self, job: Job, outcome: Outcome) -> None:
        """A line for a job, and one for each of its mistakes."""
        self._ended += 1
        width = len(str(self._total))
        parts = [f"{self._ended:>{width}}/{self._total}", job.label or job.folder.name]
        summary, best = outcome.summary, _best(outcome.summary)
        if best is not None:
            parts.append(f"{summary['monitor']} {figure(best)}")
        if outcome.state != FINISHED:
            parts.append(outcome.state)
        if (seconds := number(summary.get("seconds"))) is not None:
            parts.append(f"{seconds:.1f} s")
        is_best = outcome.state == FINISHED and self._is_best(summary, job.folder.name)
        say("  ".join(parts) + "  * best" * is_best)
        for problem in outcome.problems:
            say(f"train: error: {job.folder.name}: {on_one_line(problem)}", file=sys.stderr)
        self.refresh(())

    def refresh(self, running: Collection[Job]) -> None:
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

    def _share_done(self, job: Job) -> tuple[runs.Follower, float]:
        """How much of a run is done, from 0 to 1."""
        follower, share = self._shares.get(job.number, (runs.Follower(job.folder), 0.0))
        for point in follower.more()[-1:]:
            steps = 0.0 if job.settings.max_steps is None else point["step"] / job.settings.max_steps
            share = min(1.0, max(steps, (point.get("epoch", 1) - 1) / job.settings.epochs))
        return follower, share

    def _is_best(self, summary: Mapping[str, Any], name: str) -> bool:
        """Take a finished run in; whether it is the best so far."""
        best = _best(summary)
        if best is None:
            return False
        score = -best if summary.get("direction") == "minimize" else best
        if score <= self._score:
            return False
        self._score, self._best = score, f"best {summary['monitor']} {figure(best)} ({name})"
        return True


def _best(summary: Mapping[str, Any]) -> float | None:
    """The best value of the metric that a run is judged by."""
    return number(summary.get("best", {}).get(summary.get("monitor")))


def say(line: str, file: Any = None) -> None:
    """A line above the bar; a terminal that is closed ends no sweep."""
    file = file or sys.stdout
    with contextlib.suppress(OSError, ValueError, AttributeError):
        tqdm.write(line, file=file)
        file.flush()


@contextlib.contextmanager
def claimed(folder: Path, words: Sequence[str]) -> Iterator[None]:
    """The folder of a sweep for this command alone, with the words that go on with it.

    Raises:
        ConfigError: another command is at work there, or it cannot be made.
    """
    try:
        if (folder / rundir.CONFIG).exists():
            raise ConfigError(f"sweep_dir: {folder} is a run; name the folder of a sweep, or another one")
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / rundir.LOCK)
        lock.acquire(blocking=False)
    except Timeout as error:
        raise ConfigError(f"sweep_dir: another sweep is at work in {folder}; wait for its end, or stop it") from error
    except OSError as error:
        raise ConfigError(f"sweep_dir: cannot make {folder}: {error.strerror}") from error
    try:
        text = json.dumps(list(words), ensure_ascii=False, indent=0)  # which is YAML too
        files.write(folder / rundir.OVERRIDES, lambda path: path.write_text(text + "\n", encoding="utf-8"))
        yield
    finally:
        (folder / rundir.LOCK).unlink(missing_ok=True)
        lock.release()


def placed(jobs: Sequence[tuple[Sequence[str], Settings]], folder: Path, subdir: str | None = None) -> list[Job]:
    """Give every job of a sweep its run directory; one that was begun before has it already.

    Which that is, its config says: a sweep that is typed again may have more values, in another order.

    Args:
        jobs: the words of each, with one value for each key, and its settings.
        folder: of the sweep.
        subdir: the user's own name for a run's folder, with ``{number}``; None for ours, which tells what varies.
    """
    keys = runs.varied([words for words, _ in jobs])
    children = sorted(path for path in folder.iterdir() if runs.is_run(path)) if folder.is_dir() else []
    known: dict[str, list[Path]] = {}  # of what is typed twice there are two
    for child in children:
        known.setdefault(_identity(runs.read_config(child), keys), []).append(child)
    taken = {number for path in children if (number := _number(path)) is not None}
    width = len(str(max(len(jobs) - 1, 0)))
    found = []
    for position, (words, settings) in enumerate(jobs):
        there = known.get(_identity(settings.to_dict(), keys))
        path = there.pop(0) if there else None
        if path is None and settings.fixed_run_dir:  # each has a run_dir= of its own
            path = Path(settings.run_dir)
        if path is None:
            place = position if position not in taken else max(taken) + 1
            taken.add(place)
            name = subdir.format(number=place) if subdir else name_of(place, width, keys, words)
            path = folder / name
        own, values = _number(path), runs.values_of(words)
        label = " ".join(f"{key}={values[key]}" for key in keys if key in values)
        number = position if own is None else own
        found.append(Job(number, tuple(words), at_home(settings, path, tuple(keys)), label))
    return found


def at_home(settings: Settings, folder: Path, varied: tuple[str, ...]) -> Settings:
    """The settings of a job whose run directory is ``folder``, where it goes on if something is there."""
    return settings.replace(run_dir=str(folder), fixed_run_dir=True, resume="auto", varied=varied)


def done(job: Job) -> Run | None:
    """A run that is finished, or was given up, and that nothing typed now would lengthen; None for any other."""
    if not runs.is_run(job.folder):
        return None
    run, config = runs.read(job.folder), runs.read_config(job.folder)
    same = all(config.get(key) == getattr(job.settings, key) for key in LENGTH)
    return run if run.state in (FINISHED, PRUNED) and same else None


def table(
    folder: Path,
    jobs: Sequence[Job],
    outcomes: Mapping[int, Outcome],
    took: float | None = None,
    options: tuple[str, ...] = (),
) -> Table:
    """What a sweep has come to: its jobs, and the runs that stand in its folder from another time."""
    rows = []
    for job in jobs:
        run = runs.read(job.folder) if runs.is_run(job.folder) else None
        outcome = outcomes.get(job.number)
        state = run.state if run is not None else WAITING if outcome is None else outcome.state
        reason = "" if run is None else str(run.summary.get("reason", ""))
        if outcome is not None and outcome.problems:
            reason = outcome.problems[0]
        rows.append(Row(job.number, tuple(runs.trained_words(job.words)), state, job.folder, reason, run))
    ours = {job.folder.resolve() for job in jobs}
    others = [run for run in runs.find(folder) if run.path.resolve() not in ours] if folder.is_dir() else []
    for run in sorted(others, key=lambda run: str(run.path)):
        reason = str(run.summary.get("reason", ""))
        rows.append(Row(_number(run.path) or 0, tuple(run.words), run.state, run.path, reason, run))
    return Table(folder, tuple(sorted(rows, key=lambda row: row.number)), took, options)


def conclude(found: Table, lines: Sequence[str] = ()) -> None:
    """Save and print the answer, and ``lines`` after it; a full disk takes the files and not what is printed."""
    from trainer.sweep_page import PAGE, page  # draws pictures

    say("\n".join(["", *as_text(found), *lines]))
    try:
        write_csv(found)
        files.write(found.folder / PAGE, lambda path: path.write_text(page(found), encoding="utf-8"))
    except OSError as error:
        say(f"train: warning: {found.folder}: {error.strerror}", file=sys.stderr)
        return
    say(f"page     {found.folder / PAGE}")
    if any((row.folder / "tensorboard").is_dir() for row in found.rows):
        say(f"next     tensorboard --logdir {found.folder}")


def with_earlier_words(words: Sequence[str]) -> list[str]:
    """The words of the sweep that ``sweep=last`` or ``sweep=FOLDER`` goes on with, and after them those typed now.

    Raises:
        ConfigError: there is no such sweep.
    """
    wanted = [word.partition("=")[2].strip("'\"") for word in words if word.startswith("sweep=")]
    if any(word.partition("=")[0] in ("sweep_dir", "hydra.sweep.dir") for word in words):
        raise ConfigError("sweep_dir: a sweep goes on in its own folder; leave sweep_dir out, or sweep=")
    folder = _find(wanted[-1])
    earlier = resume.words_in(folder)
    typed = {key_of(word) for word in words}
    code = [word for word in earlier if word.startswith("plugins=")]
    if code and "plugins" not in typed:
        raise ConfigError(f"sweep: {folder} has components of {code[0]}; if you trust them, name them again")
    kept = [word for word in earlier if key_of(word) not in {*typed, "plugins"}]
    now = [word for word in words if not word.startswith("sweep=")]
    return [*kept, *now, f"sweep_dir={resume.quoted(str(folder))}"]


def _find(name: str) -> Path:
    """The folder that ``sweep=NAME`` means.

    Raises:
        ConfigError: there is none.
    """
    if name == "last":
        folders = [path.parent for path in SWEEPS.glob(f"*/*/{rundir.OVERRIDES}")]
        if not folders:
            raise ConfigError(f"sweep=last: no sweep under {SWEEPS}")
        return max(folders, key=lambda folder: (folder / rundir.OVERRIDES).stat().st_mtime)
    folder = Path(name)
    if not (folder / rundir.OVERRIDES).is_file() or runs.is_run(folder):
        near = f"; did you mean {folder.parent}?" if (folder.parent / rundir.OVERRIDES).is_file() else ""
        near = near or did_you_mean(name, ["last"])
        keys = "; keys: sweep.parallel, sweep.devices_per_job, sweep.on_error"
        raise ConfigError(f"sweep: {name}: no folder of a sweep{near or keys}")
    return folder


def _identity(config: Mapping[str, Any], varied: Sequence[str]) -> str:
    """What a run learns, so that one that goes on is known again: its config without what may change meanwhile."""
    free = [key for key in (*resume.TAKEN, *resume.TO_ROUNDING) if key not in varied]
    kept = {key: value for key, value in runs.flat(config).items() if not resume.is_in(key, free)}
    return json.dumps(kept, sort_keys=True, default=str)


def _number(path: Path) -> int | None:
    found = re.match(r"\d+", path.name)
    return int(found[0]) if found else None


def name_of(place: int, width: int, keys: Sequence[str], words: Sequence[str]) -> str:
    """``03-lr=0.001-seed=1``: the number, and what varies, in letters that no shell minds."""
    values = runs.values_of(words)
    leaves = [key.rpartition(".")[2] for key in keys]
    short = [leaf if leaves.count(leaf) == 1 else key for leaf, key in zip(leaves, keys, strict=True)]
    plain = {key: re.sub(r"[^\w.+-]+", "_", value).strip("_") for key, value in values.items()}
    parts = [f"{name}={plain[key]}" for name, key in zip(short, keys, strict=True) if key in plain]
    return "-".join([f"{place:0{width}d}", *parts])[:MOST_LETTERS].rstrip(".-_")
