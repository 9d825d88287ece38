"""The run directory: claimed once, never shared, and what every run writes into it."""

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
from trainer.runs import atomic_files

log = logging.getLogger("trainer")

LOG, CONFIG, OVERRIDES, ENVIRONMENT, SUMMARY = (
    *("train.log", "config.yaml", "overrides.yaml"),
    *("environment.json", "summary.json"),
)
CHECKPOINTS, LOCK = "checkpoints", ".lock"
# all that a run leaves which is killed before its config is there
BEGUN = {LOCK, LOG, OVERRIDES, f".{OVERRIDES}.tmp", f".{CONFIG}.tmp"}


class RunDirectory:
    """A folder of its own for one run. Nothing is on the disk before ``claim``.

    What is logged before is kept and written then.

    Args:
        wanted: where it should be; where a run of the same second was faster, ``-2``, ``-3``, … is added.
        fixed: the user chose that very path, so nothing may be added.
        resumes: a run that is there already goes on in it.

    Raises:
        ConfigError: the user's path is taken, or another process is at work in it.
    """

    def __init__(self, wanted: str, *, fixed: bool, resumes: bool = False) -> None:
        self.path = Path(wanted)
        self._fixed, self._lock = fixed, None
        self.claimed = False  # the folder and the log in it are there
        try:
            is_folder = self.path.is_dir()
            names = {path.name for path in self.path.iterdir()} if is_folder else set[str]()
            taken = fixed and (bool(names - {LOCK}) or (self.path.exists() and not is_folder))
        except (OSError, ValueError) as error:  # too long, not to be read, a null byte
            raise ConfigError(f"run_dir: {wanted}: {getattr(error, 'strerror', None) or error}") from error
        if taken and not resumes:
            near = ", or go on with it: resume=auto" if CONFIG in names else ", or leave run_dir out"
            raise ConfigError(f"run_dir: {wanted} is there already; name another{near}")
        if taken and CONFIG not in names and not (is_folder and names <= BEGUN):
            raise ConfigError(f"run_dir: {wanted} holds other things and no run; name another")
        self._resumes = taken
        if taken:
            self._lock = self._locked()
        self.so_far: Mapping[str, Any] = {}  # what summary.json says of a run that does not finish
        self._log = log
        self._log.setLevel(logging.INFO)
        self._log.propagate = False
        logging.raiseExceptions = False  # a log line that cannot be written is no second error
        self._memory = logging.handlers.MemoryHandler(10_000, flushLevel=logging.CRITICAL + 1)
        self._handlers: list[logging.Handler] = [_Console(), self._memory]
        for handler in self._handlers:
            self._log.addHandler(handler)
        self._thread_hook = threading.excepthook
        threading.excepthook = self._keep_thread_error

    def claim(self, config: Mapping[str, Any], overrides: Sequence[str]) -> None:
        """Make the folder, with the config and what the user typed, and let the log go there.

        Raises:
            ConfigError: it cannot be made.
            OSError: it cannot be written.
        """
        try:
            self.path = self._make()
        except OSError as error:
            raise ConfigError(f"run_dir: cannot make {self.path}: {error.strerror}") from error
        self._lock = self._lock or self._locked()
        if not self._resumes and (self.path / CONFIG).exists():  # of two told to use one folder, one came first
            raise ConfigError(f"run_dir: {self.path} is another run's; name another")
        file = _log_file(self.path)
        self.claimed = True
        self._log.removeHandler(self._memory)
        self._memory.setTarget(file)
        self._memory.close()  # hands over what was kept
        self._handlers = [self._handlers[0], file]
        self._log.addHandler(file)
        self.write_yaml(OVERRIDES, list(overrides))
        self.write_yaml(CONFIG, {**config, "run_dir": str(self.path)})
        (self.path / SUMMARY).unlink(missing_ok=True)

    def write_yaml(self, name: str, content: Any) -> None:
        """Write a file of plain containers, whole or not at all."""
        _write(self.path / name, yaml.safe_dump(content, sort_keys=False, allow_unicode=True))

    def write_json(self, name: str, content: Mapping[str, Any]) -> None:
        """Write a file of plain containers, whole or not at all; JSON has no inf and nan, so null."""
        write_json(self.path / name, content)

    def read_json(self, name: str) -> dict[str, Any]:
        """What ``write_json`` has written; nothing where that cannot be read."""
        return read_json(self.path / name)

    def num_evaluations(self, name: str) -> int:
        """How many points of val a file of metrics has."""
        try:
            return (self.path / name).read_bytes().count(b'"val/loss"')
        except OSError:
            return 0

    def fail(self, config: Mapping[str, Any], overrides: Sequence[str], message: str, error: BaseException) -> None:
        """Keep an error with its traceback in the log, as far as the disk allows."""
        with contextlib.suppress(OSError, ConfigError):
            if not self.claimed:
                self.claim(config, overrides)
        self._keep(message, error)
        self.end("failed", message)

    def _keep(self, message: str, error: BaseException) -> None:
        """Into the log and not on the console: there the user gets one line, from the command."""
        where = (type(error), error, error.__traceback__)
        record = self._log.makeRecord("trainer", logging.ERROR, "", 0, message, (), where)
        for handler in self._handlers[1:]:
            handler.handle(record)

    def _keep_thread_error(self, failed: threading.ExceptHookArgs) -> None:
        """A writer's thread has died, as on a full disk; the main thread hears of it when it next writes."""
        if failed.exc_value is not None:
            self._keep("a background thread failed", failed.exc_value)

    def end(self, state: str, reason: str) -> None:
        """Say in summary.json how a run ended that did not finish, as far as the disk allows."""
        if self.claimed:
            with contextlib.suppress(OSError):
                self.write_json(SUMMARY, {"state": state, "reason": reason, **self.so_far})

    def close(self) -> None:
        """Let go of the log."""
        threading.excepthook = self._thread_hook
        for handler in self._handlers:
            self._log.removeHandler(handler)
            with contextlib.suppress(OSError):  # a full disk; reported by what failed first
                handler.close()
        if self._lock is not None:
            with contextlib.suppress(OSError):
                (self.path / LOCK).unlink(missing_ok=True)
            self._lock.release()

    def _locked(self) -> FileLock | None:
        """The right to write here, as long as this process lives; its data workers do not inherit it.

        Raises:
            ConfigError: another process has it.
        """
        lock = FileLock(self.path / LOCK)
        try:
            lock.acquire(timeout=0.5)  # who only looks whether a run is at work has it for a moment
        except Timeout as error:
            raise ConfigError(
                f"run_dir: another run is at work in {self.path}; wait for its end, or stop it"
            ) from error
        except OSError as error:  # read-only, or without locks
            log.debug("no lock in %s: %s", self.path, error)
            return None
        return lock

    def _make(self) -> Path:
        """The folder, made by this run alone: mkdir either makes it or says that it is there."""
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
    """Say in a run directory how and why the run ended, where the process that wrote there cannot, or did not know."""
    with contextlib.suppress(OSError):
        write_json(path / SUMMARY, {**read_json(path / SUMMARY), "state": state, "reason": reason})
        with contextlib.closing(_log_file(path)) as file:
            level = logging.ERROR if state == "failed" else logging.INFO
            file.handle(log.makeRecord("trainer", level, "", 0, f"{state}: {reason}", (), None))


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a file of plain containers, whole or not at all; JSON has no inf and nan, so null."""
    finite = json.loads(json.dumps(content), parse_constant=lambda _: None)
    _write(path, json.dumps(finite, indent=2, ensure_ascii=False) + "\n")


def read_json(path: Path) -> dict[str, Any]:
    """What ``write_json`` has written; nothing where that cannot be read."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):  # RecursionError: thousands of brackets
        return {}
    return content if isinstance(content, dict) else {}


def _write(path: Path, text: str) -> None:
    atomic_files.write(path, lambda file: file.write_text(text, encoding="utf-8"))


def _log_file(path: Path) -> logging.FileHandler:
    """The log of a run directory."""
    file = logging.FileHandler(path / LOG, encoding="utf-8")
    file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    return file


class _Console(logging.Handler):
    """Lines on stdout, above the bar where there is one."""

    def emit(self, record: logging.LogRecord) -> None:
        # a console that is closed, full or cannot write a letter ends no run; the log has it all
        with contextlib.suppress(OSError, ValueError, AttributeError):
            from tqdm.auto import tqdm  # 0.07 s, and who reads only the names above needs none of it

            tqdm.write(self.format(record), file=sys.stdout)
            sys.stdout.flush()


METRICS = "metrics.jsonl"
