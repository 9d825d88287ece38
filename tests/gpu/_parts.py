"""Run the parts of a long check, each in a process of its own, within a number of minutes.

A part is a function that returns cases. Its process writes a line of JSON before and after each case, so that nothing
that was found is lost: if a case crashes or hangs, the process ends, and the part goes on in a new one with the next
case. This module imports nothing but the standard library, as it has to outlive whatever the parts do.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from tests.marked import marked

REPOSITORY = Path(__file__).resolve().parent.parent.parent
MARK = "TRAINER_GPU_MARK"  # in the environment of every process of a part
RESULTS, LOG = "results.jsonl", "log.txt"
PLANNED, BEGUN, OK, FAULT, SKIPPED, NO_TIME = "planned", "begun", "ok", "fault", "skipped", "no time"
FINAL = (OK, FAULT, SKIPPED, NO_TIME)
LEAST = 5  # seconds; a part is not begun with less
MAX_NOTE = 300  # characters


class Part(NamedTuple):
    """A group of cases that share a process.

    Args:
        name: a short name.
        target: ``module:function``, and further arguments of the function, separated by colons. The function gets the
            setting first and returns the cases.
        seconds: the most that the part may take.
        alone: whether nothing else may run at the same time, as its cases are timed.
    """

    name: str
    target: str
    seconds: float
    alone: bool = False


class Case(NamedTuple):
    """A check; it fails by an exception.

    Args:
        name: unique in its part.
        call: returns what it measured, by name, or None; ``note`` is a text for a person.
        seconds: after so long the process of the part is ended.
    """

    name: str
    call: Callable[[], dict[str, Any] | None]
    seconds: float = 60.0


class SkippedError(Exception):
    """A case cannot run here; says why."""


class Results:
    """The lines of JSON of all parts, in one file, appended to by several processes."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def write(self, part: str, case: str, state: str, *, note: str = "", **more: Any) -> None:
        """Append a line in one call of the operating system, so that lines of two processes do not mix."""
        line = {"part": part, "case": case, "state": state, "note": note, **more}
        with self.file.open("ab", buffering=0) as file:
            file.write((json.dumps(line) + "\n").encode())

    def read(self) -> Iterator[dict[str, Any]]:
        """Yield every line; one that was cut short is left out."""
        if not self.file.exists():
            return
        for line in self.file.read_text(errors="replace").splitlines():
            try:
                yield json.loads(line)
            except ValueError:
                continue

    def cases(self, part: str, *states: str) -> dict[str, dict[str, Any]]:
        """Return the lines of a part in these states, by case."""
        return {line["case"]: line for line in self.read() if line["part"] == part and line["state"] in states}

    def unfinished(self, part: str) -> list[str]:
        """Return the cases that have begun and not ended."""
        return [case for case in self.cases(part, BEGUN) if case not in self.cases(part, *FINAL)]

    def planned(self, part: str) -> list[str]:
        """Return all cases of a part; none if its process has not come that far."""
        return [case for line in self.cases(part, PLANNED).values() for case in line["cases"]]


class Runner:
    """Runs parts and collects their results and logs in a folder.

    Args:
        out: gets ``results.jsonl`` and ``log.txt``.
        work: a folder for what need not stay.
        setting: passed on to the parts, as JSON; ``patience`` multiplies the limits of parts and cases.
        seconds: for all parts together.
    """

    def __init__(self, out: Path, work: Path, setting: dict[str, Any], seconds: float) -> None:
        self.results, self._log, self._work, self._setting = Results(out / RESULTS), out / LOG, work, setting
        self._started, self.seconds = time.monotonic(), seconds
        self._lock, self._ended = threading.Lock(), False
        self.mark = uuid.uuid4().hex

    def run(self, parts: Sequence[Part], together: int, share: float = 1.0) -> None:
        """Run the parts, ``together`` at a time; those that must be alone come last.

        Args:
            share: of all seconds, for the parts that run together, if others follow.
        """
        shared, alone = ([part for part in parts if part.alone == kind] for kind in (False, True))
        end = self._started + self.seconds
        try:
            with ThreadPoolExecutor(together) as pool:
                until = self._started + self.seconds * share if alone else end
                for _ in pool.map(lambda part: self._run_part(part, until), shared):
                    pass
            for part in alone:
                self._run_part(part, end)
        finally:
            self._ended = True
            self._kill()

    def _run_part(self, part: Part, end: float) -> None:
        """Run the cases of a part, in as many processes as it takes."""
        started = time.monotonic()
        end = min(end, started + part.seconds * self._setting["patience"])
        file = self._work / f"{part.name}.log"
        while not self._ended and end - time.monotonic() >= LEAST:
            before = len(self.results.cases(part.name, BEGUN))
            code = self._run_process(part, file, end - time.monotonic())
            for case in self.results.unfinished(part.name):
                self._note_end(part, case, code)
            if code == 0 or code is None:
                break
            if len(self.results.cases(part.name, BEGUN)) == before:  # another process would not come further
                self.results.write(part.name, "start", FAULT, note=f"{_how(code)}: {_last_line(file)}")
                break
        self._note_what_is_left(part)
        self._keep_log(part, file)
        self._tell(part, time.monotonic() - started)

    def _run_process(self, part: Part, file: Path, seconds: float) -> int | None:
        """Run a process of a part to its end and kill all that it has left; None if its time was over."""
        environment = {**os.environ, "PYTHONUNBUFFERED": "1", MARK: f"{self.mark}-{part.name}"}
        words = [part.name, part.target, str(self.results.file), json.dumps(self._setting)]
        with file.open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "tests.gpu._child", *words],
                cwd=REPOSITORY,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment,
                start_new_session=True,
            )
        try:
            return process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None
        finally:
            self._kill(part.name)
            process.wait()

    def _note_end(self, part: Part, case: str, code: int | None) -> None:
        """Write how a case ended whose process has not come to its end."""
        line = self.results.cases(part.name, BEGUN)[case]
        seconds = time.time() - line["at"]
        if seconds >= line["limit"]:
            self.results.write(part.name, case, FAULT, note=f"no end within {line['limit']:.0f} s; see the log")
        elif code is None:
            self.results.write(part.name, case, NO_TIME, note=f"cut off after {seconds:.0f} s")
        else:
            self.results.write(part.name, case, FAULT, note=f"{_how(code)}; see the log")

    def _note_what_is_left(self, part: Part) -> None:
        """Write which cases were not begun."""
        done = self.results.cases(part.name, *FINAL)
        if not done and not self.results.planned(part.name):
            self.results.write(part.name, "all", NO_TIME)
        elif "start" not in done:
            for case in self.results.planned(part.name):
                if case not in done:
                    self.results.write(part.name, case, NO_TIME)

    def _keep_log(self, part: Part, file: Path) -> None:
        """Append the log of a part to that of all."""
        if file.exists():
            with self._lock, self._log.open("ab") as log:
                log.write(f"\n======== {part.name}\n".encode() + file.read_bytes())

    def _tell(self, part: Part, seconds: float) -> None:
        """Print a line about a part that has ended."""
        found = self.results.cases(part.name, *FINAL).values()
        counts = {state: sum(line["state"] == state for line in found) for state in FINAL}
        said = ", ".join(f"{count} {state}" for state, count in counts.items() if count)
        with self._lock:
            print(f"{time.monotonic() - self._started:6.1f} s  {part.name}: {said} in {seconds:.1f} s", flush=True)

    def _kill(self, part: str | None = None) -> None:
        """Kill every process of a part, or of all parts, whatever its parents are now."""
        wanted = self.mark if part is None else f"{self.mark}-{part}"
        for number in marked(MARK, wanted, starts=part is None):
            try:
                os.kill(number, signal.SIGKILL)
            except ProcessLookupError:
                continue


def _how(code: int) -> str:
    return f"ended by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"


def _last_line(file: Path) -> str:
    lines = file.read_text(errors="replace").splitlines()
    return next((line for line in reversed(lines) if line.strip()), "")[:MAX_NOTE]
