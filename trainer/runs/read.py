"""Read run directories: one run or all runs below a folder, with their states, configs and metrics. No torch."""

from __future__ import annotations

import contextlib
import functools
import json
import math
import os
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

from filelock import FileLock, Timeout

from trainer.config import ConfigError, yaml_file
from trainer.config.errors import reason_of
from trainer.config.messages import did_you_mean
from trainer.config.terminal import escaped
from trainer.config.untrusted_files import check_file, need_memory
from trainer.runs.directory import CONFIG, ENVIRONMENT, LOCK, METRICS, OVERRIDES, SUMMARY, load_json, read_json

Key = TypeVar("Key")

OUTPUTS = Path("outputs")
# Keys that do not affect the training.
NOT_TRAINED = ("run_dir", "resume", "sweep_dir", "sweep", "dry_run", "hydra")

MAX_LINE = 1_000_000  # longest line of metrics.jsonl in bytes
MEMORY_OF_POINTS = 24  # memory that a byte of metrics.jsonl takes when it is read
MAX_STEPS = 2**63

# Run states. KILLED: summary.json contains no final state, and no process holds the lock. UNREADABLE: it is damaged.
FINISHED, PRUNED, STOPPED, FAILED, RUNNING, KILLED = "finished", "pruned", "stopped", "failed", "running", "killed"
UNREADABLE = "unreadable"
STATES = (FINISHED, PRUNED, STOPPED, FAILED, RUNNING, KILLED, UNREADABLE)


@dataclass(frozen=True)
class Run:
    """The readable content of a run directory.

    Args:
        path: the directory.
        state: finished, pruned, stopped, failed, running, killed or unreadable.
        words: those typed overrides of the run that affect the training.
        summary: the content of summary.json; empty before the run ends.
        started: local time at which the run was first started; resuming the run does not change it.
    """

    path: Path
    state: str
    words: Sequence[str]
    summary: Mapping[str, Any]
    started: datetime

    @functools.cached_property
    def config(self) -> dict[str, Any]:
        """The values of the config by dotted key; the key ``model`` contains the name of the model."""
        return {key.removesuffix(".name"): value for key, value in flatten(read_config(self.path)).items()}

    @property
    def monitor(self) -> str | None:
        """The metric by which runs are compared, such as ``val/accuracy``; None if summary.json does not name it."""
        monitor = self.summary.get("monitor")
        return monitor if isinstance(monitor, str) else None

    @property
    def maximizes(self) -> bool:
        """Whether a larger value of the monitored metric is better."""
        direction = self.summary.get("direction")
        if direction in ("minimize", "maximize"):
            return bool(direction == "maximize")
        return more_is_better(self.monitor or "")  # an earlier version wrote the summary

    @property
    def best(self) -> float | None:
        """The best value of the monitored metric; None if there is no value."""
        return as_number(self.metrics.get(self.monitor or ""))

    @property
    def score(self) -> float:
        """The best value, negated if the metric is minimized; minus infinity if there is no value."""
        best = self.best
        return float("-inf") if best is None else best if self.maximizes else -best

    @property
    def metrics(self) -> dict[str, float]:
        """The best validation and final test metrics by name, such as ``val/loss`` and ``test/accuracy``."""
        best = self.summary.get("best")
        values = {**(best if isinstance(best, dict) else {}), **self.summary}
        return {name: value for name, value in values.items() if "/" in name and as_number(value) is not None}

    def points(self) -> list[dict[str, Any]]:
        """Return the complete lines of metrics.jsonl: ``{"step": …, "epoch": …, "train/loss": …}``."""
        return PointReader(self.path).read_new()

    def curve(self, name: str) -> list[tuple[int, float]]:
        """Return (step, value) for every point of a curve such as ``val/loss``."""
        points = ((point["step"], as_number(point.get(name))) for point in self.points())
        return [(step, value) for step, value in points if value is not None]


class PointReader:
    """Read the logged points of a run while the run writes them.

    Args:
        folder: the run directory; it may not exist yet.
    """

    def __init__(self, folder: Path) -> None:
        self._path, self._position = folder / METRICS, 0

    def read_new(self) -> list[dict[str, Any]]:
        """Return the points that were written since the last call, without the lines that are not points.

        Raises:
            ConfigError: the points need more memory than is free.
        """
        found: list[dict[str, Any]] = []
        try:
            size = check_file(self._path).st_size
            if size < self._position:  # a resumed run removes the lines after its checkpoint
                self._position = 0
            self._need_memory(size - self._position)
            with self._path.open("rb") as file:
                file.seek(self._position)
                for line in iter(lambda: file.readline(MAX_LINE), b""):
                    if line.endswith(b"\n"):
                        found += _points(line)
                        self._position = file.tell()
        except OSError:
            return []
        return found

    def _need_memory(self, num_bytes: int) -> None:
        try:
            need_memory(MEMORY_OF_POINTS * num_bytes, self._path)
        except OSError as error:
            raise ConfigError(f"{self._path}: {error.strerror}") from error


def is_run(folder: Path) -> bool:
    """Return whether a folder is a run directory."""
    return (folder / CONFIG).is_file() and (folder / OVERRIDES).is_file()


def read_run(folder: Path) -> Run:
    """Return the run in a folder; treat files that cannot be read as missing."""
    summary = _summary(folder / SUMMARY)
    state = summary.get("state")
    if state not in (FINISHED, PRUNED, STOPPED, FAILED, UNREADABLE):
        state = RUNNING if is_at_work(folder) else KILLED
    return Run(folder, state, trained_words(_words(folder)), summary, _started(folder))


def _summary(path: Path) -> dict[str, Any]:
    """Return the content of summary.json, which is empty before a run ends; of a file that is damaged, why."""
    try:
        return load_json(path)
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        return {"state": UNREADABLE, "reason": f"{path.name}: {reason_of(error)}"}


def find_runs(folder: Path) -> list[Run]:
    """Return every run in and below a folder, newest first."""
    return sorted(map(read_run, run_folders(folder)), key=lambda run: (run.started, str(run.path)), reverse=True)


def runs_named(names: Sequence[str]) -> list[Run]:
    """Return the runs that ``names`` refer to, each run once.

    Args:
        names: run directories, folders of runs such as a sweep, or ``last`` for the newest run under ``outputs``.

    Raises:
        ConfigError: a name refers to no run.
    """
    found: list[Run] = []
    for name in names:
        if name == "last":
            runs = find_runs(OUTPUTS)[:1]
            missing = f"last: no run under {OUTPUTS}"
        else:
            runs = find_runs(Path(name))
            missing = f"{name}: {_why_no_run(Path(name))}"
        if not runs:
            raise ConfigError(missing)
        found += runs
    return list({run.path.resolve(): run for run in found}.values())


def _why_no_run(folder: Path) -> str:
    """Return why no run was found in a folder: it does not exist, cannot be read, or holds no run."""
    try:
        (folder / CONFIG).stat()
        next(folder.iterdir(), None)
    except FileNotFoundError:
        return "no run in it" if folder.is_dir() else f"no such folder{_near(folder)}"
    except OSError as error:
        return reason_of(error)
    return "no run in it"


def _near(folder: Path) -> str:
    """Return a suggestion for a folder that does not exist, or an empty string."""
    parent = folder.parent
    beside = [each.name for each in parent.glob("*") if each.is_dir()] if parent.is_dir() else []
    if parent == Path():
        return did_you_mean(str(folder), ["last", *beside])
    return did_you_mean(folder.name, beside, f"{parent}/")


def run_named(name: str) -> Run:
    """Return the single run that a name refers to, as in ``runs_named``.

    Raises:
        ConfigError: the name refers to no run or to several.
    """
    found = runs_named([name])
    if len(found) > 1:
        raise ConfigError(f"{name}: holds {len(found)} runs; name one of them, such as {found[0].path}")
    return found[0]


def is_at_work(folder: Path) -> bool:
    """Return whether a process holds the lock of a run directory."""
    lock = folder / LOCK
    if not lock.exists():
        return False
    try:
        with FileLock(lock, blocking=False):
            return False
    except Timeout:
        return True
    except (OSError, NotImplementedError):  # the file system is read-only or has no locks
        return False


def trained_words(words: Sequence[str]) -> list[str]:
    """Return the overrides that affect the training."""
    firsts = (re.split("[./=]", word.lstrip("+~"), maxsplit=1)[0] for word in words)
    return [word for word, first in zip(words, firsts, strict=True) if first not in NOT_TRAINED]


def values_of(words: Sequence[str]) -> dict[str, str]:
    """Map each key to its value, such as ``{"optimizer.lr": "1e-3"}``; the last override of a key counts."""
    parts = (word.lstrip("+~").partition("=") for word in words)
    return {key: value for key, _, value in parts}


def varied_keys(words: Sequence[Sequence[str]]) -> list[str]:
    """Return the keys whose values differ between the overrides of several runs, in the order of the overrides."""
    return list(differing([values_of(each) for each in words]))


def differing(mappings: Sequence[Mapping[Key, Any]]) -> dict[Key, tuple[Any, ...]]:
    """Map each key whose values are not all equal to its values, one per mapping; a missing key counts as None."""
    keys = dict.fromkeys(key for each in mappings for key in each)
    rows = {key: tuple(each.get(key) for each in mappings) for key in keys}
    return {key: row for key, row in rows.items() if any(value != row[0] for value in row)}


def read_config(folder: Path) -> dict[str, Any]:
    """Return the config of a run as plain containers; an empty dict if it cannot be read."""
    found = _yaml(folder / CONFIG)
    return found if isinstance(found, dict) else {}


def flatten(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flatten nested mappings: ``{"optimizer": {"lr": 0.1}}`` becomes ``{"optimizer.lr": 0.1}``."""
    found: dict[str, Any] = {}
    for key, value in config.items():
        found |= flatten(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return found


def as_number(value: Any) -> float | None:
    """Return a value from a file as a float, or None if it is not a number."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return None
    try:
        return float(value)
    except OverflowError:  # an integer with hundreds of digits
        return None


def comparable(value: Any) -> float | None:
    """Return a value as a float, or None if it is NaN or not a number, so that the results can be sorted."""
    found = as_number(value)
    return None if found is None or math.isnan(found) else found


def format_value(value: Any) -> str:
    """Return a config value as it would be typed on the command line."""
    if value is None or isinstance(value, bool):
        return str(value).lower().replace("none", "null")
    return f"[{', '.join(map(format_value, value))}]" if isinstance(value, list) else str(value)


def more_is_better(metric: str) -> bool:
    """Return whether a larger value of a metric is better, according to the metric's name."""
    return not metric.endswith(("loss", "mae", "mse", "brier", "ece"))


def test_metrics_of(monitor: str) -> str:
    """Return the test metric that corresponds to a validation metric."""
    return monitor.replace("val/", "test/", 1)


def metric_names(found: Iterable[Run], first: Collection[str | None]) -> list[str]:
    """Return the names of all metrics of the runs: first those in ``first``, then validation and test metrics."""
    names = dict.fromkeys(name for run in found for name in run.metrics)
    return sorted(names, key=lambda name: (name not in first, name.startswith("test/"), name))


def for_json(value: Any) -> Any:
    """Convert a value to what JSON can represent: inf and NaN become null, dates become strings; see ``escaped``."""
    if isinstance(value, Mapping):
        return {escaped(str(key)): for_json(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [for_json(each) for each in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if value is None or isinstance(value, int | float) else escaped(str(value))


def _points(line: bytes) -> list[dict[str, Any]]:
    """Parse a line of metrics.jsonl; return an empty list if the line is not a point."""
    with contextlib.suppress(ValueError, RecursionError):
        point = json.loads(line)
        if isinstance(point, dict) and isinstance(step := point.get("step"), int) and abs(step) < MAX_STEPS:
            return [point]
    return []


def run_folders(folder: Path) -> Iterator[Path]:
    """Yield the run directories in and below a folder; do not search inside a run directory for further runs."""
    left = [os.fspath(folder)]  # os.walk calls itself for every level, before Python 3.12
    while left:
        path, entries = left.pop(), list[os.DirEntry[str]]()
        with contextlib.suppress(OSError):
            entries = list(os.scandir(path))
        if {CONFIG, OVERRIDES} <= {each.name for each in entries if not each.is_dir()}:
            yield Path(path)
        else:
            left += [each.path for each in entries if each.is_dir(follow_symlinks=False)]


def _started(folder: Path) -> datetime:
    """Return the local time at which a run started."""
    with contextlib.suppress(ValueError, OverflowError):
        when = datetime.fromisoformat(str(read_json(folder / ENVIRONMENT).get("started")))
        # Drop the time zone, because times with and without a zone cannot be compared.
        return when.astimezone().replace(tzinfo=None) if when.tzinfo else when
    try:  # environment.json is missing, or an earlier version wrote it
        return datetime.fromtimestamp((folder / CONFIG).stat().st_mtime)
    except OSError:  # the run has just been deleted
        return datetime.min


def _words(folder: Path) -> list[str]:
    found = _yaml(folder / OVERRIDES)
    return [word for word in found if isinstance(word, str)] if isinstance(found, list) else []


def _yaml(path: Path) -> Any:
    """Return the content of a YAML file, or None if the file is missing, damaged, or too large."""
    try:
        return yaml_file.load(path)
    except ConfigError:
        return None
