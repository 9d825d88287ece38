"""The run directory, which belongs to one run, and the files that every run writes to it. No torch."""

from __future__ import annotations

import contextlib
import json
import logging
import logging.handlers
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from filelock import FileLock, Timeout

from trainer.config import ConfigError
from trainer.config.errors import printable, reason_of
from trainer.config.terminal import ESCAPED, escaped, fitting
from trainer.config.untrusted_files import read_stored
from trainer.runs import atomic_files

log = logging.getLogger("trainer")

LOG, CONFIG, OVERRIDES = "train.log", "config.yaml", "overrides.yaml"
ENVIRONMENT, SUMMARY, METRICS = "environment.json", "summary.json", "metrics.jsonl"
TEMPERATURE = "temperature"  # the entry of summary.json with the number that logits are divided by
THRESHOLDS = "thresholds"  # the entry of summary.json with the threshold of each label
CHECKPOINTS, LOCK = "checkpoints", ".lock"
# The files that a run can leave behind if it is killed before it has written its config.
BEGUN = {LOCK, LOG, OVERRIDES, f".{OVERRIDES}.tmp", f".{CONFIG}.tmp"}


class RunDirectory:
    """The folder of one run. Nothing is written to a new folder before ``claim``; log lines are kept in memory.

    Args:
        wanted: the path; ``-2``, ``-3``, … is appended if the path exists.
        fixed: whether the user chose the path, in which case nothing is appended.
        resumes: whether an existing run in the folder is resumed.

    Raises:
        ConfigError: the path is invalid, the user's path is taken, or another process holds the lock of the folder.
    """

    def __init__(self, wanted: str, *, fixed: bool, resumes: bool = False) -> None:
        self.path = Path(wanted)
        self._fixed, self._lock = fixed, None
        self.claimed = False  # whether the folder and its log file have been created
        taken = check_run_dir(wanted, fixed=fixed, resumes=resumes)
        self._resumes = taken
        if taken:
            self._lock = self._acquire_lock()
        self.so_far: Mapping[str, Any] = {}  # the results so far, for the summary of a run that does not finish
        self._log = log
        self._log.setLevel(logging.INFO)
        self._log.propagate = False
        logging.raiseExceptions = False  # a full disk must not raise a second error
        self._memory = logging.handlers.MemoryHandler(10_000, flushLevel=logging.CRITICAL + 1)
        self._handlers: list[logging.Handler] = [_Console(), self._memory]
        for handler in self._handlers:
            self._log.addHandler(handler)
        self._thread_hook = threading.excepthook
        threading.excepthook = self._log_thread_error

    def claim(self, config: Mapping[str, Any], overrides: Sequence[str]) -> None:
        """Create the folder, start the log in it, and write the config and the overrides.

        Raises:
            ConfigError: the folder cannot be created, or belongs to another run.
            OSError: a file cannot be written.
        """
        try:
            self.path = self._create()
        except OSError as error:
            raise ConfigError(f"run_dir: cannot make {self.path}: {error.strerror}") from error
        self._lock = self._lock or self._acquire_lock()
        if not self._resumes and (self.path / CONFIG).exists():  # two runs have the same run_dir
            raise ConfigError(f"run_dir: {self.path} belongs to another run; name another")
        file = _log_file(self.path)
        self.claimed = True
        self._log.removeHandler(self._memory)
        self._memory.setTarget(file)
        self._memory.close()  # writes the lines kept in memory
        self._handlers = [self._handlers[0], file]
        self._log.addHandler(file)
        for name, content in ((OVERRIDES, list(overrides)), (CONFIG, {**config, "run_dir": str(self.path)})):
            atomic_files.write_text(self.path / name, yaml.safe_dump(content, sort_keys=False, allow_unicode=True))
        (self.path / SUMMARY).unlink(missing_ok=True)

    def num_evaluations(self, name: str) -> int:
        """Return the number of validation points in a metrics file; 0 if the file cannot be read."""
        try:
            with (self.path / name).open("rb") as file:
                return sum(b'"val/loss"' in line for line in file)
        except OSError:
            return 0

    def fail(self, config: Mapping[str, Any], overrides: Sequence[str], message: str, error: BaseException) -> None:
        """Write an error with traceback to the log, and ``failed`` to summary.json, as far as the disk allows it."""
        with contextlib.suppress(OSError, ConfigError):
            if not self.claimed:
                self.claim(config, overrides)
        self._log_error(message, error)
        self.end("failed", message)

    def _log_error(self, message: str, error: BaseException) -> None:
        """Write an error only to the log; the command itself prints one line about it on the console."""
        details = (type(error), error, error.__traceback__)
        record = self._log.makeRecord("trainer", logging.ERROR, "", 0, message, (), details)
        for handler in self._handlers[1:]:
            handler.handle(record)

    def _log_thread_error(self, failed: threading.ExceptHookArgs) -> None:
        """Log an error in a background thread, such as a writer thread on a full disk; the main thread fails later."""
        if failed.exc_value is not None:
            self._log_error("a background thread failed", failed.exc_value)

    def end(self, state: str, reason: str) -> None:
        """Write to summary.json how an unfinished run ended, if the disk allows it."""
        if self.claimed:
            with contextlib.suppress(OSError):
                write_json(self.path / SUMMARY, {"state": state, "reason": reason, **self.so_far})

    def close(self) -> None:
        """Close the log and release the lock."""
        threading.excepthook = self._thread_hook
        for handler in self._handlers:
            self._log.removeHandler(handler)
            with contextlib.suppress(OSError):  # the disk is full; the first failed write has reported it
                handler.close()
        if self._lock is not None:
            with contextlib.suppress(OSError):
                (self.path / LOCK).unlink(missing_ok=True)
            self._lock.release()

    def _acquire_lock(self) -> FileLock | None:
        """Lock the directory while this process runs, and return the lock; data loader workers do not inherit the lock.

        Return None if the file system has no locks or is read-only.

        Raises:
            ConfigError: another process holds the lock.
        """
        lock = FileLock(self.path / LOCK)
        try:
            lock.acquire(timeout=0.5)  # is_at_work() holds the lock for a moment
        except Timeout as error:
            raise ConfigError(
                f"run_dir: another run is at work in {self.path}; wait for its end, or stop it"
            ) from error
        except OSError as error:  # the file system is read-only or has no locks
            log.debug("no lock in %s: %s", self.path, error)
            return None
        return lock

    def _create(self) -> Path:
        """Create the folder and return its path; append a number if the path exists, unless it is fixed or resumed."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if self._fixed or self._resumes:
            self.path.mkdir(exist_ok=True)
            return self.path
        number, path = 1, self.path
        while True:
            try:
                path.mkdir()
            except FileExistsError:
                number += 1
                path = self.path.with_name(f"{self.path.name}-{number}")
            else:
                return path


def note_end(path: Path, state: str, reason: str) -> None:
    """Write how and why a run ended, for a run whose own process died or could not determine it."""
    with contextlib.suppress(OSError):
        write_json(path / SUMMARY, {**read_json(path / SUMMARY), "state": state, "reason": reason})
        with contextlib.closing(_log_file(path)) as file:
            level = logging.ERROR if state == "failed" else logging.INFO
            file.handle(log.makeRecord("trainer", level, "", 0, f"{state}: {reason}", (), None))


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write plain containers to a JSON file atomically; inf and NaN, which JSON does not have, become null."""
    finite = json.loads(json.dumps(content), parse_constant=lambda _: None)
    atomic_files.write_text(path, json.dumps(finite, indent=2, ensure_ascii=False) + "\n")


def check_run_dir(wanted: str, *, fixed: bool, resumes: bool) -> bool:
    """Return whether a run directory exists that the run continues; the arguments are those of ``RunDirectory``.

    Raises:
        ConfigError: the path is invalid, or the user's path is taken.
    """
    path = Path(wanted)
    try:
        with contextlib.suppress(FileNotFoundError):
            path.stat()  # raises an error if the parent is a file, as in /dev/null/x
        is_folder = path.is_dir()
        names = {each.name for each in path.iterdir()} if is_folder else set[str]()
        taken = fixed and (bool(names - {LOCK}) or (path.exists() and not is_folder))
    except (OSError, ValueError) as error:  # the path is too long, unreadable, or contains a null byte
        raise ConfigError(f"run_dir: {wanted}: {reason_of(error)}") from error
    if escaped(wanted) != wanted:
        raise ConfigError(f"run_dir: {wanted}: is not UTF-8, in which TensorBoard writes; name another folder")
    if taken and not resumes:
        near = ", or go on with it: resume=auto" if CONFIG in names else ", or leave run_dir out"
        raise ConfigError(f"run_dir: {wanted} is there already; name another{near}")
    if taken and CONFIG not in names and not (is_folder and names <= BEGUN):
        raise ConfigError(f"run_dir: {wanted} holds other files and no run; name another")
    return taken


def read_json(path: Path) -> dict[str, Any]:
    """Return the content of a JSON file; an empty dict if the file cannot be read or is not a mapping."""
    try:
        return load_json(path)
    except (OSError, ValueError):
        return {}


def load_json(path: Path) -> dict[str, Any]:
    """Return the content of a JSON file.

    Raises:
        OSError: the file cannot be read.
        ValueError: the content is no JSON, or no mapping.
    """
    try:
        content = json.loads(read_stored(path))
    except RecursionError as error:  # thousands of nested brackets
        raise ValueError(str(error)) from error
    if not isinstance(content, dict):
        raise ValueError("is no mapping")
    return content


def _log_file(path: Path) -> logging.FileHandler:
    file = logging.FileHandler(path / LOG, encoding="utf-8", errors=ESCAPED)
    file.setFormatter(_OneLine("%(asctime)s %(levelname)s %(message)s"))
    return file


class _OneLine(logging.Formatter):
    """Format a message without the control characters that it may quote; a traceback keeps its lines."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  # the name is that of logging
        return printable(super().formatMessage(record))


class _Console(logging.Handler):
    """Print log lines on stdout, above the progress bar.

    A record may have shorter forms of its message, ``log.info(…, extra={"shorter": […]})``, for a narrow terminal.
    """

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(_OneLine())

    def emit(self, record: logging.LogRecord) -> None:
        # A console error (closed, full, unsupported character) must not end the run; the log file has every line.
        with contextlib.suppress(OSError, ValueError, AttributeError):
            from tqdm.auto import tqdm  # the import takes 0.07 s, and only the console needs it

            tqdm.write(fitting([self.format(record), *getattr(record, "shorter", ())]), file=sys.stdout)
            sys.stdout.flush()
