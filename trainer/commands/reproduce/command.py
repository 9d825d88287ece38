"""The command ``trainer reproduce``: train a run again, and report whether the result is the same.

This module does not import torch at import time.
"""

from __future__ import annotations

import argparse
import contextlib
import math
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from trainer.commands._arguments import describe, tolerance_of
from trainer.commands.reproduce.comparison import (
    ComparedNumber,
    ComparedWeights,
    Comparison,
    Difference,
    Recorded,
    compare,
    config_differences,
    environment_differences,
    recorded,
)
from trainer.commands.text_table import fitted, print_json, print_lines
from trainer.config import ConfigError, Job, RunError, Settings
from trainer.config.settings import key_of
from trainer.processes.launch import needs_launch
from trainer.processes.signals import Interrupts
from trainer.processes.world import current_world
from trainer.runs import resume
from trainer.runs.directory import CONFIG
from trainer.runs.read import FINISHED, RUNNING, Run, as_number, read_run, run_named
from trainer.worker import train_job

KEYS = ("plugins", "device", "dataset.path", "dataset.root")  # overridable: they do not change the training

EPILOG = """\
RUN is a run directory, or last for the newest one under outputs. A WORD says what has changed since the training:
  plugins=[FILE]                the code of the run's own components, which is only loaded if it is named here
  dataset.path=, dataset.root=  where the data is now
  device=                       the device to train on, such as device=cpu or device=ddp device.processes=2
The command compares the points of the curves, the best, last and test metrics, and the best weights. It does not
compare times and memory.
examples:
  trainer reproduce last
  trainer reproduce outputs/2026-11-24/10-39-34-cnn-digits --tolerance 1e-5
exit code: 0 the result is the same; 1 it differs, or the new run failed; 2 the command or the run cannot be used."""

NO_REASON = (
    "perhaps  nothing that is recorded differs: possible reasons are files that git does not track, environment "
    "variables, system libraries, and sums whose order no seed fixes (deterministic=false, some operations of a GPU)"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command to its parser."""
    describe(parser, "Train a run again, in a directory of its own, and say whether the result is the same.", EPILOG)
    parser.add_argument("run", nargs="?", metavar="RUN", help="a finished run; nothing is written to it")
    parser.add_argument("words", nargs="*", metavar="WORD", help="where its code, data and device are now, see below")
    parser.add_argument("--run-dir", metavar="DIR", help="the directory of the new run (RUN-again)")
    parser.add_argument(
        "--tolerance", metavar="REL", default="0", help="the relative difference up to which numbers are the same (0)"
    )
    parser.add_argument("--json", action="store_true", help="print the result as JSON, and all else to stderr")


def run(arguments: argparse.Namespace) -> int:
    """Train the run again, print the comparison, and return the exit code: 0 for the same result, else 1.

    Raises:
        ConfigError: the run does not exist, has not finished, or cannot be trained again.
        RunError: the new run failed.
        Stopped: a signal ended the new run.
    """
    tolerance = tolerance_of(arguments.tolerance, " such as 1e-6")
    if current_world() is not None:
        raise ConfigError("reproduce: starts the processes of a run itself; leave torchrun out")
    if arguments.run is None:
        raise ConfigError("reproduce: needs a run: its directory, or last")
    found = run_named(arguments.run)
    _check_finished(found)
    job = _job(found, arguments.words, arguments.run_dir)
    before = recorded(found)
    with _stdout_to_stderr() if arguments.json else contextlib.nullcontext(), Interrupts() as interrupts:
        try:
            changed = config_differences(resume.load_config(found.path / CONFIG), job.settings.to_dict())
            print_lines(_opening(before, changed, _environment(job.settings)))
            folder = Path(train_job(job)["run_dir"])
        except RunError:
            raise
        except Exception:
            interrupts.check()  # after a signal raise Stopped, as the error is a consequence of the signal
            raise
    comparison = compare(before, recorded(read_run(folder)), changed, tolerance)
    if arguments.json:
        print_json({"run": str(found.path), "again": str(folder), **comparison.to_dict()})
    else:
        print_lines(_verdict(comparison))
    return int(not comparison.same)


def _check_finished(found: Run) -> None:
    only = "only a run that has finished can be reproduced"
    if found.state == RUNNING:
        raise ConfigError(f"{found.path}: is at work now, and {only}; wait for its end")
    if found.state != FINISHED:
        reason = found.summary.get("reason")
        raise ConfigError(f"{found.path}: {found.state}{f' ({reason})' if reason else ''}; {only}")


def _job(found: Run, words: Sequence[str], run_dir: str | None) -> Job:
    """Return the job of the new run.

    Raises:
        ConfigError: there are mistakes; the error has one line for each.
    """
    from trainer.compose.reopen import settings_of_run

    settings = settings_of_run(found.path, words, KEYS)
    settings = settings.replace(run_dir=_directory(found.path, run_dir), resume=None, dry_run=False)
    return Job(settings, _overrides(found.path, words), fixed_run_dir=run_dir is not None)


def _directory(folder: Path, wanted: str | None) -> str:
    """Return the directory of the new run: ``wanted``, or by default ``RUN-again`` next to the old run.

    Raises:
        ConfigError: ``wanted`` is not an empty folder or a free name, or is inside the old run.
    """
    inside = folder.resolve()
    if wanted is None:
        named = folder if folder.name not in ("", "..") else Path(os.path.relpath(inside.parent)) / inside.name
        return f"{named}-again"
    if not wanted:
        raise ConfigError("--run-dir: must be a folder, got nothing")
    place = Path(wanted)
    if place.resolve().is_relative_to(inside):
        raise ConfigError(f"--run-dir: {wanted}: is inside the run {folder}, which stays as it is")
    with contextlib.suppress(OSError):  # the new run will report that the folder cannot be read
        if place.exists() and not (place.is_dir() and not any(place.iterdir())):
            raise ConfigError(f"--run-dir: {wanted}: exists already; name another, or leave --run-dir out")
    return wanted


def _overrides(folder: Path, words: Sequence[str]) -> tuple[str, ...]:
    """Return the overrides of the new run: those of the old run whose keys are not in ``words``, then ``words``."""
    typed = {key_of(word) for word in words}
    exchanged = ("device.",) if "device" in typed else ()  # keys of the old device are invalid for the new one
    earlier = (word for word in resume.read_overrides(folder) if key_of(word) not in typed)
    return (*(word for word in earlier if not key_of(word).startswith(exchanged)), *words)


def _environment(settings: Settings) -> dict[str, Any]:
    """Return the environment of the new run; the device is None if processes that are still to start will choose it."""
    from torch import device

    from trainer.runs.environment import environment

    if needs_launch(settings):
        return {**environment(device("cpu"), Path(settings.run_dir)), "device": None}
    from trainer.build import build_placement

    return environment(build_placement(settings.device).device, Path(settings.run_dir))


@contextlib.contextmanager
def _stdout_to_stderr() -> Iterator[None]:
    """Redirect the output of the run and of its processes to stderr, so that stdout contains only the JSON."""
    sys.stdout.flush()
    before = os.dup(1)
    os.dup2(2, 1)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        os.dup2(before, 1)
        os.close(before)


def _opening(before: Recorded, changed: Sequence[Difference], now: Mapping[str, Any]) -> list[str]:
    """Return the lines printed before the new run starts: what has changed since the old run."""
    different = [*changed, *environment_differences(before.environment, now)]
    lines = [f"again    {before.path}", *(f"{each.kind:<8} {each}" for each in different)]
    parts = [name for name in ("versions", "platform", "device") if before.environment.get(name) and now.get(name)]
    if not isinstance(before.environment.get("git"), Mapping):
        lines.append("code     not compared: the run recorded no commit, as it was not started in a git repository")
    elif now.get("git") is not None:
        parts = ["code", *parts]
    if not different:
        lines.append(f"now      {', '.join(parts)}: as recorded" if parts else "now      no environment was recorded")
    return lines


def _verdict(found: Comparison) -> list[str]:
    """Return the lines printed at the end."""
    compared = (("points", found.points.reason), ("weights", found.weights.reason))
    notes = [f"{name:<8} not compared: {reason}" for name, reason in compared if reason]
    if not found.same:
        reasons = [f"perhaps  {each.kind}: {each}" for each in found.differences] or [NO_REASON]
        return [f"differs  {_first(found)}", *_table(found.finals), *notes, *_weights(found.weights), *reasons]
    how = "bit for bit"
    if not found.exact:
        how = f"to within {found.tolerance:g}; the largest relative difference is {found.largest:.1e}"
    others = [f"although {each.kind}: {each}" for each in found.differences if each.kind != "resumed"]
    return [f"same     {_counted(found)} are equal {how}", *notes, *others]


def _counted(found: Comparison) -> str:
    """Return the numbers of compared items, such as ``5 points, 2 test metrics and 53,002 weights``."""
    tested = sum(number.name.startswith("test/") for number in found.finals)
    counts = {} if found.points.reason else {"point": found.points.now}
    counts |= {"test metric": tested} | ({} if found.weights.reason else {"weight": found.weights.numbers})
    *most, last = (f"{count:,} {name}{'s' * (count != 1)}" for name, count in counts.items())
    return f"{', '.join(most)} and {last}" if most else last


def _first(found: Comparison) -> str:
    """Return a description of the first number that differs, with its step."""
    number = found.first
    if number is None:
        return f"the weights alone: {_counted(found).rpartition(' and ')[0]} are equal"
    before, now = _digits(number)
    relative = f" (by {number.relative:.1e} of it)" if math.isfinite(number.relative) else ""
    where = "at the end" if number.step is None else f"from step {number.step} on"
    return f"{where}: {number.name} {before} before, {now} now{relative}"


def _table(finals: Sequence[ComparedNumber]) -> list[str]:
    """Return a table of the best and test metrics, and of all other final numbers that differ."""
    rows = [
        (number.name.replace(".", " ", 1), *_digits(number), _relative(number.relative))
        for number in finals
        if number.relative > 0 or ("/" in number.name and not number.name.startswith("last."))
    ]
    return fitted(("", "before", "now", "difference"), rows, {0}, elastic={0: 16}) if rows else []


def _weights(weights: ComparedWeights) -> list[str]:
    """Return a line about the differences of the weights; no line if they were not compared."""
    if weights.reason:
        return []
    if not weights.different:
        return [f"weights  all {weights.numbers:,} are equal bit for bit"]
    size = f", by up to {weights.largest:.1e} of the largest weight" if math.isfinite(weights.largest) else ""
    where = f", most in {weights.worst}" if weights.worst else ""
    return [f"weights  differ in {weights.different} of {weights.tensors} tensors{size}{where}"]


def _relative(relative: float) -> str:
    return "0" if relative == 0 else f"{relative:.1e}" if math.isfinite(relative) else ""


def _digits(number: ComparedNumber) -> tuple[str, str]:
    """Format both values with as many significant digits as are needed to distinguish them, but at least four."""
    before, now = as_number(number.before), as_number(number.now)
    if before is None or now is None or (isinstance(number.before, int) and isinstance(number.now, int)):
        one, other = ("none" if value is None else str(value) for value in (number.before, number.now))
        return one, other
    digits = next((count for count in range(4, 17) if f"{before:.{count}g}" != f"{now:.{count}g}"), 17)
    digits = 4 if before == now else digits
    return f"{before:.{digits}g}", f"{now:.{digits}g}"
