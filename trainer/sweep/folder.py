"""The folder of a sweep: which run stands where in it, and the words that go on with it. No torch, no Hydra."""

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

LENGTH = ("epochs", "max_steps", "patience")  # a finished run that is now to be of another length goes on
FREE = (*resume.MAY_CHANGE, *resume.CHANGES_ROUNDING)  # keys that may be others when a run goes on
NUMBER = "{number}"  # in a name that the user has for the folders of runs
MAX_BYTES = 100  # of the name of a run's folder; a disk takes 255, and a file in it has a longer name


def place_jobs(jobs: Sequence[Job], folder: Path, subdir: str | None = None) -> list[SweepJob]:
    """Give every job of a sweep its run directory; one that was begun before has it already.

    Which that is, its config says: a sweep that is typed again may have more values, in another order.

    Args:
        jobs: with the words of each, one value for each key.
        folder: of the sweep.
        subdir: the user's own name for a run's folder, with ``NUMBER``; None for ours, which tells what varies.

    Raises:
        ConfigError: two have one run directory, or one of the folder's leads out of it.
    """
    if folder.is_dir() and (link := resume.link_out_of(folder)) is not None:  # it may be a stranger's
        raise ConfigError(f"sweep_dir: {link}: a link out of the folder; a sweep writes only inside")
    keys = varied_keys([job.words for job in jobs])
    configs = [_plain(job.settings.to_dict()) for job in jobs]
    standing = _Standing(folder, _different(configs))
    width = len(str(max(len(jobs) - 1, 0)))
    found = []
    for number, (job, config) in enumerate(zip(jobs, configs, strict=True)):
        path = standing.take(config)
        if path is None and job.fixed_run_dir:  # each has a run_dir= of its own
            path = Path(job.settings.run_dir)
        if path is None:
            names = (
                subdir.replace(NUMBER, str(place)) if subdir else name_of(place, width, keys, job.words)
                for place in standing.places(number)
            )
            path = next(folder / name for name in names if standing.is_free(folder / name))
        values = values_of(job.words)
        label = " ".join(f"{key}={values[key]}" for key in keys if key in values)
        found.append(SweepJob(number, with_run_directory(job, path, tuple(keys)), label))
    owners: dict[Path, SweepJob] = {}
    for each in found:
        other = owners.setdefault(each.folder, each)
        if other is not each:
            raise ConfigError(
                f"run_dir: {each.folder} is that of {other.label} and of {each.label}; every run has its own"
            )
    return found


class _Standing:
    """The runs that stand in a sweep's folder from another time; a job finds its own by what it learns.

    Args:
        folder: of the sweep.
        varied: the keys of a config in which the jobs of now differ; they tell runs apart, whatever they are.
    """

    def __init__(self, folder: Path, varied: Sequence[str]) -> None:
        self._varied = varied
        paths = sorted(run_folders(folder))
        self._taken, self._numbers = set(paths), {int(found[0]) for p in paths if (found := re.match(r"\d+", p.name))}
        self._left: dict[str, list[tuple[Path, dict[str, Any]]]] = {}
        for path in paths:
            config = _plain(read_config(path))
            self._left.setdefault(self._told_apart(config), []).append((path, config))

    def take(self, config: Mapping[str, Any]) -> Path | None:
        """The run that learns the same and is nobody else's yet; None where there is none, or which is not clear.

        Keys that only one of the two has are those of another version of this program.
        """
        left = self._left.get(self._told_apart(config), [])
        found = [(path, other) for path, other in left if _same(config, other, free=FREE, but=self._varied)]
        equal = [each for each in found if _same(config, each[1])]
        if not equal and any(not _same(found[0][1], other) for _, other in found):
            return None  # of several lengths, say, and this one is of none of them
        for each in [*equal, *found][:1]:
            left.remove(each)
            return each[0]
        return None

    def places(self, first: int) -> Iterator[int]:
        """Numbers for a folder that is not there yet."""
        place = first if first not in self._numbers else max(self._numbers) + 1
        while True:
            self._numbers.add(place)
            yield place
            place = max(self._numbers) + 1

    def is_free(self, path: Path) -> bool:
        """Whether no run has a folder; from now on one has."""
        free = path not in self._taken
        self._taken.add(path)
        return free

    def _told_apart(self, config: Mapping[str, Any]) -> str:
        return json.dumps([config.get(key) for key in self._varied])


def _plain(config: Mapping[str, Any]) -> dict[str, Any]:
    """A config by dotted keys, as YAML and JSON have the values, without what says nothing of the training."""
    values = {key: value for key, value in flatten(config).items() if not resume.is_under(key, NOT_TRAINED)}
    found: dict[str, Any] = for_json(values)
    return found


def _different(configs: Sequence[Mapping[str, Any]]) -> list[str]:
    """The keys that not all have, or not with the same value."""
    first = configs[0] if configs else {}
    keys = dict.fromkeys(key for config in configs for key in config)
    return [key for key in keys if any(key not in each or each[key] != first.get(key) for each in configs)]


def _same(
    one: Mapping[str, Any], other: Mapping[str, Any], *, free: Sequence[str] = (), but: Sequence[str] = ()
) -> bool:
    """Whether the keys that both have are the same, where they are not ``free``; ``but`` some of these are not."""
    return all(
        value == other[key]
        for key, value in one.items()
        if key in other and (key in but or not resume.is_under(key, free))
    )


def stays_inside(name: str) -> bool:
    """Whether a name of a run's folder is one below that of its sweep."""
    return not Path(name).is_absolute() and ".." not in Path(name).parts


def name_of(place: int, width: int, keys: Sequence[str], words: Sequence[str]) -> str:
    """``03-lr=0.001-seed=1``: the number, and what varies, in letters that no shell minds."""
    values = values_of(words)
    leaves = [key.rpartition(".")[2] for key in keys]
    short = [leaf if leaves.count(leaf) == 1 else key for leaf, key in zip(leaves, keys, strict=True)]
    plain = {key: re.sub(r"[^\w.+-]+", "_", value).strip("_") for key, value in values.items()}
    parts = [f"{name}={plain[key]}" for name, key in zip(short, keys, strict=True) if key in plain]
    name = "-".join([f"{place:0{width}d}", *parts]).encode()[:MAX_BYTES]
    return name.decode(errors="ignore").rstrip(".-_")


def with_run_directory(job: Job, folder: Path, varied: tuple[str, ...]) -> Job:
    """The settings of a job whose run directory is ``folder``, where it goes on if something is there."""
    job = job.replace(run_dir=str(folder), resume="auto")
    return dataclasses.replace(job, fixed_run_dir=True, varied=varied)


def check_lengths(jobs: Sequence[SweepJob]) -> None:
    """Raises ConfigError where a run that finished has made more than it is to make now."""
    for job in jobs:
        run = read_run(job.folder) if is_run(job.folder) else None
        if run is None or run.state != FINISHED:
            continue
        for key, name, limit in (
            ("epochs", "epochs", job.settings.epochs),
            ("max_steps", "steps", job.settings.max_steps),
        ):
            made = as_number(run.summary.get(name))
            if made is not None and limit is not None and made > limit:
                raise ConfigError(
                    f"{key}: the run {job.folder} has made {made:.0f} and cannot become {limit}; another sweep needs "
                    "another sweep_dir"
                )


def varied_in(folder: Path, words: Sequence[str]) -> tuple[str, ...]:
    """The keys that vary in the sweep of a folder, as seen from the words of one of its jobs."""
    own, typed = values_of(words), values_of(trained_words(resume.read_overrides(folder)))
    return tuple(key for key, values in typed.items() if own.get(key, values) != values)


def finished_run(job: SweepJob) -> Run | None:
    """A run that is finished, or was given up, and that nothing typed now would lengthen; None for any other."""
    if not is_run(job.folder):
        return None
    run, config, wanted = read_run(job.folder), _plain(read_config(job.folder)), _plain(job.settings.to_dict())
    same = all(config.get(key) == wanted[key] for key in LENGTH) and _same(wanted, config, free=FREE)
    return run if run.state in (FINISHED, PRUNED) and same else None
