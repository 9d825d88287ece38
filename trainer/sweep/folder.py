"""The folder of a sweep: the run directory of each job, and the runs of earlier commands.

This module imports neither torch nor Hydra.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from trainer.config import ConfigError, Job
from trainer.runs import resume
from trainer.runs.read import (
    FINISHED,
    NOT_TRAINED,
    PRUNED,
    Run,
    as_number,
    flatten,
    for_json,
    is_run,
    read_config,
    read_run,
    run_folders,
    trained_words,
    values_of,
    varied_keys,
)
from trainer.sweep.drive import SweepJob

LENGTH = ("epochs", "max_steps", "patience")  # a finished run is continued if one of these keys changes
MAY_DIFFER = (*resume.MAY_CHANGE, *resume.CHANGES_ROUNDING)  # keys that may change when a run is resumed
NUMBER = "{number}"  # placeholder for the number of the job in the user's pattern for names of run directories
MAX_BYTES = 100  # of the name of a run directory; file systems allow 255, but names derived from it are longer


def place_jobs(jobs: Sequence[Job], folder: Path, subdir: str | None = None) -> list[SweepJob]:
    """Choose the run directory of each job: that of an earlier run with the same config, or else a new directory.

    Runs are matched by config because a repeated sweep may have more values, or the values in another order.

    Args:
        jobs: the jobs, with one value for each key of their overrides.
        folder: the folder of the sweep.
        subdir: the user's pattern for names of run directories, with ``NUMBER``; None for names with the values that
            vary.

    Raises:
        ConfigError: two jobs have the same run directory, or the folder has a link out of it or a named pipe.
    """
    if folder.is_dir():  # the folder may be of unknown origin
        if (link := resume.link_out_of(folder)) is not None:
            raise ConfigError(f"sweep_dir: {link}: a link out of the folder; a sweep writes only inside")
        resume.check_files_below(folder, "sweep_dir")
    keys = varied_keys([job.words for job in jobs])
    configs = [_training_config(job.settings.to_dict()) for job in jobs]
    existing = ExistingRuns(folder, _varied_config_keys(configs))
    width = len(str(max(len(jobs) - 1, 0)))
    placed = []
    for number, (job, config) in enumerate(zip(jobs, configs, strict=True)):
        path = existing.claim(config)
        if path is None and job.fixed_run_dir:  # the user typed run_dir
            path = Path(job.settings.run_dir)
        if path is None:
            names = (name_of(free, width, keys, job.words, subdir) for free in existing.free_numbers(number))
            path = next(folder / name for name in names if existing.reserve(folder / name))
        values = values_of(job.words)
        label = " ".join(f"{key}={values[key]}" for key in keys if key in values)
        placed.append(SweepJob(number, with_run_directory(job, path, tuple(keys)), label))
    owners: dict[Path, SweepJob] = {}
    for each in placed:
        other = owners.setdefault(each.folder, each)
        if other is not each:
            raise ConfigError(
                f"run_dir: {each.folder} is used by {other.label} and by {each.label}; every run needs its own"
            )
    return placed


class ExistingRuns:
    """The runs of earlier commands in the folder of a sweep; a job may claim one run, and a run belongs to one job.

    Args:
        folder: the folder of the sweep.
        varied: the config keys that differ between the jobs; a run can be claimed by a job with the same values.
    """

    def __init__(self, folder: Path, varied: Sequence[str]) -> None:
        self._varied = varied
        paths = sorted(run_folders(folder))
        self._reserved = set(paths)
        self._numbers = {int(found[0]) for path in paths if (found := re.match(r"\d+", path.name))}
        self._unclaimed: dict[str, list[tuple[Path, dict[str, Any]]]] = {}
        for path in paths:
            config = _training_config(read_config(path))
            self._unclaimed.setdefault(self._varied_values(config), []).append((path, config))

    def claim(self, config: Mapping[str, Any]) -> Path | None:
        """Return the directory of the unclaimed run that can be resumed with a config.

        Return None if there is no such run, or if there are several with different configs and none of them equals
        ``config``. A key that is in only one of two configs comes from another version of this program and is ignored.
        """
        unclaimed = self._unclaimed.get(self._varied_values(config), [])
        candidates = [
            (path, other) for path, other in unclaimed if _same(config, other, free=MAY_DIFFER, but=self._varied)
        ]
        equal = [candidate for candidate in candidates if _same(config, candidate[1])]
        if not equal and any(not _same(candidates[0][1], other) for _, other in candidates):
            return None  # for example, runs with several values of epochs, none of which equals that of ``config``
        for claimed in [*equal, *candidates][:1]:
            unclaimed.remove(claimed)
            return claimed[0]
        return None

    def free_numbers(self, first: int) -> Iterator[int]:
        """Yield numbers with which no run directory begins: ``first`` if it is free, then the next free numbers."""
        number = first if first not in self._numbers else max(self._numbers) + 1
        while True:
            self._numbers.add(number)
            yield number
            number = max(self._numbers) + 1

    def reserve(self, path: Path) -> bool:
        """Reserve a run directory, and return whether the directory was free."""
        free = path not in self._reserved
        self._reserved.add(path)
        return free

    def _varied_values(self, config: Mapping[str, Any]) -> str:
        return json.dumps([config.get(key) for key in self._varied])


def _training_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the dotted keys of a config that affect training, with values that JSON can represent."""
    values = {key: value for key, value in flatten(config).items() if not resume.is_under(key, NOT_TRAINED)}
    plain: dict[str, Any] = for_json(values)
    return plain


def _varied_config_keys(configs: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the keys that are missing in at least one config or whose values are not the same in all configs."""
    first = configs[0] if configs else {}
    keys = dict.fromkeys(key for config in configs for key in config)
    return [key for key in keys if any(key not in config or config[key] != first.get(key) for config in configs)]


def _same(
    one: Mapping[str, Any], other: Mapping[str, Any], *, free: Sequence[str] = (), but: Sequence[str] = ()
) -> bool:
    """Return whether two configs have equal values for all shared keys; ignore keys in ``free`` but not in ``but``."""
    return all(
        value == other[key]
        for key, value in one.items()
        if key in other and (key in but or not resume.is_under(key, free))
    )


def stays_inside(name: str) -> bool:
    """Return whether the name of a run directory, relative to the sweep's folder, stays inside this folder."""
    return not Path(name).is_absolute() and ".." not in Path(name).parts


def name_of(number: int, width: int, keys: Sequence[str], words: Sequence[str], subdir: str | None = None) -> str:
    """Return the name of a run directory, such as ``03-lr=0.001-seed=1``, without characters special to a shell.

    Args:
        number: the number of the job.
        width: the minimum number of digits.
        keys: the keys that vary.
        words: the overrides of the job.
        subdir: the user's pattern, with ``NUMBER``; None for a name with the number and the values that vary.
    """
    if subdir:
        return subdir.replace(NUMBER, str(number))
    values = values_of(words)
    leaves = [key.rpartition(".")[2] for key in keys]
    short = [leaf if leaves.count(leaf) == 1 else key for leaf, key in zip(leaves, keys, strict=True)]
    plain = {key: re.sub(r"[^\w.+-]+", "_", value).strip("_") for key, value in values.items()}
    parts = [f"{name}={plain[key]}" for name, key in zip(short, keys, strict=True) if key in plain]
    name = "-".join([f"{number:0{width}d}", *parts]).encode()[:MAX_BYTES]
    return name.decode(errors="ignore").rstrip(".-_")


def with_run_directory(job: Job, folder: Path, varied: tuple[str, ...]) -> Job:
    """Return the job with the run directory ``folder`` and ``resume=auto``, so that an interrupted run is resumed."""
    job = job.replace(run_dir=str(folder), resume="auto")
    return dataclasses.replace(job, fixed_run_dir=True, varied=varied)


def check_lengths(jobs: Sequence[SweepJob]) -> None:
    """Raise ConfigError if a finished run has trained for more epochs or steps than its job now requests."""
    for job in jobs:
        run = read_run(job.folder) if is_run(job.folder) else None
        if run is None or run.state != FINISHED:
            continue
        lengths = {"epochs": ("epochs", job.settings.epochs), "max_steps": ("steps", job.settings.max_steps)}
        for key, (name, limit) in lengths.items():
            done = as_number(run.summary.get(name))
            if done is not None and limit is not None and done > limit:
                raise ConfigError(
                    f"{key}: the run {job.folder} has made {done:.0f} and cannot become {limit}; another sweep needs "
                    "another sweep_dir"
                )


def varied_in(folder: Path, words: Sequence[str]) -> tuple[str, ...]:
    """Return the keys for which one job of a sweep has another value than the overrides stored in the sweep's folder.

    These are the keys that the sweep varies.
    """
    own, typed = values_of(words), values_of(trained_words(resume.read_overrides(folder)))
    return tuple(key for key, values in typed.items() if own.get(key, values) != values)


def finished_run(job: SweepJob) -> Run | None:
    """Return the run of a job if there is nothing left to train, else None.

    Nothing is left if the run finished or was pruned, and the job has the same training keys as the run, ``LENGTH``
    (how long to train) included.
    """
    if not is_run(job.folder):
        return None
    run, config = read_run(job.folder), _training_config(read_config(job.folder))
    wanted = _training_config(job.settings.to_dict())
    same = all(config.get(key) == wanted[key] for key in LENGTH) and _same(wanted, config, free=MAY_DIFFER)
    return run if run.state in (FINISHED, PRUNED) and same else None
