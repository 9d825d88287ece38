"""What stands in run directories: one run, all below a folder, and where each of them stands. No torch."""

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
from typing import Any

import yaml
from filelock import FileLock, Timeout

from trainer.config import ConfigError
from trainer.runs.directory import CONFIG, ENVIRONMENT, LOCK, METRICS, OVERRIDES, SUMMARY, read_json

OUTPUTS = Path("outputs")
# What a word of these says belongs to the command and not to what is trained.
NOT_TRAINED = ("run_dir", "resume", "sweep_dir", "sweep", "dry_run", "hydra")

# How a run can stand. One that was killed is at work no more and has not said how it ended.
FINISHED, PRUNED, STOPPED, FAILED, RUNNING, KILLED = "finished", "pruned", "stopped", "failed", "running", "killed"


@dataclass(frozen=True)
class Run:
    """A run directory, as far as it can be read.

    Args:
        path: the directory.
        state: finished, pruned, stopped, failed, running or killed.
        words: what was typed for it, without what says nothing of the training.
        summary: what summary.json holds; nothing before the end.
        started: when it began, in local time; a run that went on began when it first did.
    """

    path: Path
    state: str
    words: Sequence[str]
    summary: Mapping[str, Any]
    started: datetime

    @functools.cached_property
    def config(self) -> dict[str, Any]:
        """Each key of its config, dotted, and the value; ``model`` is the name of the model."""
        try:
            return {key.removesuffix(".name"): value for key, value in flatten(read_config(self.path)).items()}
        except RecursionError:  # an alias of YAML that holds itself
            return {}

    @property
    def monitor(self) -> str | None:
        """The metric that says which run is better, such as ``val/accuracy``; None where it did not come that far."""
        monitor = self.summary.get("monitor")
        return monitor if isinstance(monitor, str) else None

    @property
    def maximizes(self) -> bool:
        """Whether more of it is better."""
        direction = self.summary.get("direction")
        if direction in ("minimize", "maximize"):
            return bool(direction == "maximize")
        return more_is_better(self.monitor or "")  # written by an earlier version

    @property
    def best(self) -> float | None:
        """The best value of it."""
        return as_number(self.metrics.get(self.monitor or ""))

    @property
    def score(self) -> float:
        """Larger for a better run, whichever way is better; minus infinity for one without a value."""
        best = self.best
        return float("-inf") if best is None else best if self.maximizes else -best

    @property
    def metrics(self) -> dict[str, float]:
        """The best val and the final test metrics by name, such as ``val/loss`` and ``test/accuracy``."""
        best = self.summary.get("best")
        runs_named = {**(best if isinstance(best, dict) else {}), **self.summary}
        return {name: value for name, value in runs_named.items() if "/" in name and as_number(value) is not None}

    def points(self) -> list[dict[str, Any]]:
        """The lines of metrics.jsonl: ``{"step": …, "epoch": …, "train/loss": …}``; half a line is left out."""
        return Follower(self.path).more()

    def curve(self, name: str) -> list[tuple[int, float]]:
        """(step, value) of every point of a curve such as ``val/loss``."""
        points = ((point["step"], as_number(point.get(name))) for point in self.points())
        return [(step, value) for step, value in points if value is not None]


class Follower:
    """The points of a run under way, as they come.

    Args:
        folder: the run directory, whether it is there yet or not.
    """

    def __init__(self, folder: Path) -> None:
        self._path, self._place = folder / METRICS, 0

    def more(self) -> list[dict[str, Any]]:
        """Those that were written since this was last asked."""
        try:
            if self._path.stat().st_size < self._place:  # a run that goes on cuts off what came after its checkpoint
                self._place = 0
            with self._path.open("rb") as file:
                file.seek(self._place)
                content = file.read()
        except OSError:
            return []
        whole = content[: content.rfind(b"\n") + 1]
        self._place += len(whole)
        return _points(whole)


def is_run(folder: Path) -> bool:
    """Whether a run stands in a folder."""
    return (folder / CONFIG).is_file() and (folder / OVERRIDES).is_file()


def read_run(folder: Path) -> Run:
    """The run in a folder; what cannot be read counts as not there."""
    summary = read_json(folder / SUMMARY)
    state = summary.get("state")
    if state not in (FINISHED, PRUNED, STOPPED, FAILED):
        state = RUNNING if is_at_work(folder) else KILLED
    return Run(folder, state, trained_words(_words(folder)), summary, _started(folder))


def find_runs(folder: Path) -> list[Run]:
    """Every run in a folder and below it, the newest first."""
    return sorted(map(read_run, run_folders(folder)), key=lambda run: (run.started, str(run.path)), reverse=True)


def runs_named(names: Sequence[str]) -> list[Run]:
    """The runs that are meant by names: a run directory, a folder of runs such as a sweep's, or ``last``.

    Raises:
        ConfigError: one means no run.
    """
    found: list[Run] = []
    for name in names:
        if name == "last":
            runs = find_runs(OUTPUTS)[:1]
            missing = f"last: no run under {OUTPUTS}"
        else:
            runs = find_runs(Path(name))
            missing = f"{name}: {'no run in it' if Path(name).is_dir() else 'no such folder'}"
        if not runs:
            raise ConfigError(missing)
        found += runs
    return list({run.path.resolve(): run for run in found}.values())


def run_named(name: str) -> Run:
    """The one run that a name means.

    Raises:
        ConfigError: it means none, or several.
    """
    found = runs_named([name])
    if len(found) > 1:
        raise ConfigError(f"{name}: holds {len(found)} runs; name one of them, such as {found[0].path}")
    return found[0]


def is_at_work(folder: Path) -> bool:
    """Whether a process writes in a run directory now."""
    lock = folder / LOCK
    if not lock.exists():
        return False
    try:
        with FileLock(lock, blocking=False):
            return False
    except Timeout:
        return True
    except (OSError, NotImplementedError):  # read-only, or without locks
        return False


def trained_words(words: Sequence[str]) -> list[str]:
    """Words without those that say nothing of what is trained."""
    firsts = (re.split("[./=]", word.lstrip("+~"), maxsplit=1)[0] for word in words)
    return [word for word, first in zip(words, firsts, strict=True) if first not in NOT_TRAINED]


def values_of(words: Sequence[str]) -> dict[str, str]:
    """Words by their keys: ``{"optimizer.lr": "1e-3"}``; where a key is there twice, the last one."""
    parts = (word.lstrip("+~").partition("=") for word in words)
    return {key: value for key, _, value in parts}


def varied_keys(words: Sequence[Sequence[str]]) -> list[str]:
    """The keys whose values are not the same in the words of every run, in the order in which they were typed."""
    values = [values_of(each) for each in words]
    keys = dict.fromkeys(key for each in values for key in each)
    return [key for key in keys if len({each.get(key) for each in values}) > 1]


def read_config(folder: Path) -> dict[str, Any]:
    """The config that a run has left, as plain containers; nothing where it cannot be read."""
    found = _yaml(folder / CONFIG)
    try:
        json.dumps(found, default=str, skipkeys=True)
    except (RecursionError, ValueError):  # an alias of YAML that holds itself
        return {}
    return found if isinstance(found, dict) else {}


def flatten(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """``{"optimizer": {"lr": 0.1}}`` -> ``{"optimizer.lr": 0.1}``."""
    found: dict[str, Any] = {}
    for key, value in config.items():
        found |= flatten(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return found


def as_number(value: Any) -> float | None:
    """A value of a file that others may have written, where it is a number."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return None
    try:
        return float(value)
    except OverflowError:  # hundreds of digits
        return None


def comparable(value: Any) -> float | None:
    """The same, where it can be said to be more or less than another, which NaN cannot."""
    found = as_number(value)
    return None if found is None or math.isnan(found) else found


def as_typed(value: Any) -> str:
    """A value of a config as a word has it."""
    if value is None or isinstance(value, bool):
        return str(value).lower().replace("none", "null")
    return f"[{', '.join(map(as_typed, value))}]" if isinstance(value, list) else str(value)


def more_is_better(metric: str) -> bool:
    """Whether more of a metric is better, by its name alone."""
    return not metric.endswith(("loss", "mae", "mse"))


def test_metrics_of(monitor: str) -> str:
    """The metric of the test that stands beside one of the validation."""
    return monitor.replace("val/", "test/", 1)


def metric_names(found: Iterable[Run], first: Collection[str | None]) -> list[str]:
    """The names of all metrics that runs have: those of ``first``, then those of the validation, then of the test."""
    names = dict.fromkeys(name for run in found for name in run.metrics)
    return sorted(names, key=lambda name: (name not in first, name.startswith("test/"), name))


def for_json(value: Any) -> Any:
    """What JSON can hold of a value: it has no inf and nan, so null, and no dates, so their text."""
    if isinstance(value, Mapping):
        return {str(key): for_json(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [for_json(each) for each in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if value is None or isinstance(value, str | int | float) else str(value)


def _points(content: bytes) -> list[dict[str, Any]]:
    """The lines that are points."""
    found = []
    for line in content.splitlines():
        with contextlib.suppress(ValueError, RecursionError):
            point = json.loads(line)
            if isinstance(point, dict) and isinstance(point.get("step"), int):
                found.append(point)
    return found


def run_folders(folder: Path) -> Iterator[Path]:
    """The run directories in a folder; what stands inside one is no run."""
    for path, below, names in os.walk(folder):
        if CONFIG in names and OVERRIDES in names:
            below.clear()
            yield Path(path)


def _started(folder: Path) -> datetime:
    """When a run began, in local time."""
    with contextlib.suppress(ValueError, OverflowError):
        when = datetime.fromisoformat(str(read_json(folder / ENVIRONMENT).get("started")))
        return when.astimezone().replace(tzinfo=None) if when.tzinfo else when  # the two kinds cannot be compared
    try:  # killed before it was written, or written by an earlier version
        return datetime.fromtimestamp((folder / CONFIG).stat().st_mtime)
    except OSError:  # deleted just now
        return datetime.min


def _words(folder: Path) -> list[str]:
    found = _yaml(folder / OVERRIDES)
    return [word for word in found if isinstance(word, str)] if isinstance(found, list) else []


def _yaml(path: Path) -> Any:
    """What a file of ours holds; libyaml reads a thousand of them in a second."""
    loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        return yaml.load(path.read_text(encoding="utf-8"), loader)  # a safe one, of C where there is one
    except Exception:  # not YAMLError alone: a tag such as !!int with nothing behind it is an IndexError
        return None
