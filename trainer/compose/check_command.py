"""Check the words (overrides) of a command, and report all mistakes at once, each with the origin of the wrong value.

Hydra composes the YAML files. The typed values are then set in the config one key at a time, so that one wrong word
does not hide the next. Content that is code instead of data is refused (see ``safety``).
"""

from __future__ import annotations

import copy
import functools
import itertools
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.core.override_parser.types import Override
from hydra.types import RunMode

from trainer.compose import plugins
from trainer.compose.composer import GRID, Composer, FileError, FilesRead
from trainer.compose.overrides import TYPED, jobs, lay, parse, sweep_words, too_many_runs, variants
from trainer.compose.read_word import chosen_by, read, text_of
from trainer.compose.resolve import is_new_each_time, resolve_job, resolve_value
from trainer.compose.safety import hydra_keys_in_files, is_data, plain_config, set_hydra_key, too_large
from trainer.compose.wrong_words import add_folders, declare_plugins, without_wrong_options
from trainer.config import ConfigError, Job
from trainer.config.errors import collected
from trainer.config.settings import OF_SWEEPS
from trainer.config.yaml_file import shown
from trainer.runs import resume

MAX_LINES = 20  # largest number of mistakes that are reported: a long range can have a mistake in each value


@dataclass(frozen=True)
class Checked:
    """A command without mistakes.

    Args:
        words: the overrides of the command.
        jobs: the single run, or every run of a sweep. For a sweep of more than ``MAX_JOBS`` runs, only enough of them
            to contain every value of every key once.
        is_sweep: whether the command is a sweep.
        overrides: for a sweep, its overrides with all values of each key; those from files come first. Otherwise empty.
        hydra: of a sweep, the part ``hydra`` of the config as plain containers, with the overrides applied.
        sweep_dir: the folder of the sweep; the working directory if the command is not a sweep.
        check: the check that produced this result; composes further jobs of the sweep.
    """

    words: tuple[str, ...]
    jobs: list[Job]
    is_sweep: bool
    overrides: list[Override]
    hydra: Mapping[str, Any]
    sweep_dir: Path
    check: CommandCheck

    def all_jobs(self) -> list[Job]:
        """Return the job of every run of a grid sweep, including those that ``jobs`` omits."""
        combinations = sweep_words(self.overrides)
        return self.jobs if len(combinations) == len(self.jobs) else [*map(self.check.job, combinations)]


def compose(*words: str, config_dir: str | Path | None = None) -> Job:
    """Compose and check a single run; this is the function ``trainer.compose``."""
    if any(word.startswith("--") for word in words):
        raise ConfigError("compose: takes no options; a folder of YAML files is compose(…, config_dir=…)")
    composer = Composer(None if config_dir is None else str(config_dir))
    return check_words(composer, with_earlier_words(words)).jobs[0]


def with_earlier_words(words: Sequence[str], *, multirun: bool = False) -> list[str]:
    """Prepend the overrides that the run of ``resume=RUN`` or the sweep of ``sweep=FOLDER`` has stored.

    Return ``words`` unchanged if they contain neither.

    Raises:
        ConfigError: the run or the sweep does not exist.
    """
    if resumes_a_sweep(words):
        return resume.with_earlier_sweep_words(words, text_of, is_data)
    if not any(word.lstrip("+").startswith("resume=") for word in words):
        return list(words)
    return resume.with_earlier_words(words, text_of, multirun=multirun)


def resumes_a_sweep(words: Sequence[str]) -> bool:
    """Return whether a command resumes a sweep."""
    return any(word.startswith("sweep=") for word in words)


def check_words(composer: Composer, words: Sequence[str], *, multirun: bool = False, trains: bool = True) -> Checked:
    """Check a command.

    Args:
        composer: composes the files that the words choose.
        words: the overrides.
        multirun: whether the command line asks for a sweep; a config file may also do so (``hydra.mode``).
        trains: whether a run follows, in which case no key may be missing and the plugins are imported now.

    Raises:
        ConfigError: the command is wrong; one line for each mistake.
    """
    return CommandCheck(composer, trains=trains).run(words, multirun=multirun)


class CommandCheck:
    """The check of one command; ``check_words`` describes the arguments."""

    def __init__(self, composer: Composer, *, trains: bool) -> None:
        self.composer, self._trains = composer, trains
        self._problems: list[str] = []
        self._plugins: list[str] = []  # that the command or the environment names
        self._last: tuple[Any, dict[str, Any]] = (None, {})  # the DictConfig of the job checked last, and its values

    def run(self, words: Sequence[str], *, multirun: bool) -> Checked:
        """Check all words; raises the error of ``check_words``."""
        composer, problems = self.composer, self._problems
        overrides = add_folders(composer, parse(words, composer.loader, problems), problems)
        num_problems = len(problems)
        self._plugins, rest = declare_plugins(composer, overrides, problems, load=self._trains)
        if self._plugins:  # the types of their keys are known only now
            chosen = chosen_by(words)
            again = {id(each): read(str(each.input_line), composer.loader, chosen) or each for each in overrides}
            overrides, rest = ([again[id(each)] for each in some] for some in (overrides, rest))
        found, wrong_options = list[Job](), list[str]()
        is_sweep, swept = multirun, list[Override]()
        kept = without_wrong_options(composer, rest, wrong_options, multirun=multirun)
        if len(problems) == num_problems:  # otherwise an unknown option may belong to a plugin that failed to load
            problems += wrong_options
        try:
            config, files_read = composer.compose_files(composer.choices(kept))
            is_sweep = multirun or (files_read.foreign and config.hydra.mode == RunMode.MULTIRUN)
            if is_sweep:
                swept_in_files = self._swept_in_files(plain_config(config, "hydra"), kept)
                from_files = without_wrong_options(composer, swept_in_files, problems, multirun=True)
                right = {*map(id, kept)}  # the plugins are checked already, and are words of every run too
                typed = [each for each in overrides if id(each) in right or each.key_or_group == "plugins"]
                kept = swept = [*{each.key_or_group: each for each in [*from_files, *typed]}.values()]
            too_many = too_many_runs(kept) if is_sweep and config.hydra.sweeper._target_ == GRID else []
            problems += too_many
            for job in itertools.islice(jobs(kept), 1 if too_many else None):
                try:
                    found.append(self._job(job, words if not is_sweep else None))
                except FileError:
                    raise
                except ConfigError as error:
                    problems += error.problems
        except FileError as error:
            problems += [*error.problems, *self._problems_without_files(kept)]
        problems += _shared_by_all_runs(words, rest, found)
        problems += self._cannot_resume(found, is_sweep)
        if problems:
            lines = [*dict.fromkeys(problems)]
            more = [f"and {len(lines) - MAX_LINES} more mistakes"] * (len(lines) > MAX_LINES)
            raise ConfigError(*lines[:MAX_LINES], *more)
        hydra, sweep_dir = {}, Path()
        if is_sweep:
            whole = self._config_of_last_job()
            hydra, sweep_dir = whole["hydra"], Path(str(resolve_value(whole, "hydra.sweep.dir")))
        return Checked(tuple(words), found, is_sweep, swept, hydra, sweep_dir, self)

    def _config_of_last_job(self) -> dict[str, Any]:
        config, plain = self._last
        return {**plain, "hydra": plain_config(config, "hydra")}

    def job(self, words: Sequence[str]) -> Job:
        """Return the job of one combination of a sweep; raises the error of ``check_words``."""
        problems: list[str] = []
        found = self._job([*parse(words, self.composer.loader, problems)], words)
        if problems:
            raise ConfigError(*problems)
        return found

    def _job(self, overrides: Sequence[Override], words: Sequence[str] | None) -> Job:
        """Compose and check one job.

        Args:
            overrides: the overrides of the job, with one value for each key.
            words: the words that the job stores; None to take them from ``overrides``, as for a job of a sweep.
        """
        problems: list[str] = []
        composer = self.composer
        config, files_read = composer.compose_files(composer.choices(overrides))
        if files_read.refused:
            raise ConfigError(*files_read.refused)
        typed = {each.key_or_group for each in overrides if not composer.is_group(each)}
        origin = functools.partial(files_read.origin, typed=typed)
        plain = copy.deepcopy(files_read.plain)
        if files_read.foreign:
            problems += hydra_keys_in_files(config, origin)
            problems += too_large({**plain, "hydra": plain_config(config, "hydra")})
        if "experiment" in plain:
            recipes = [shown(path) for _, path in files_read.files if path.parent.name == "experiment"]
            raise ConfigError(f"{', '.join(recipes)}: a recipe has to begin with the line # @package _global_")
        if plain.get("plugins"):
            problems.append(
                f"plugins: a file cannot name code ({origin('plugins')}); if you trust {plain['plugins']}, name it on "
                f"the command line, 'plugins=[{','.join(map(str, plain['plugins']))}]', or in {plugins.VARIABLE}"
            )
        for override in overrides:
            if composer.is_group(override):
                continue  # compose_files has applied it
            if override.is_hydra_override():
                problems += set_hydra_key(config, override)
            else:
                lay(plain, override, problems)
        plain["plugins"] = list(self._plugins)
        self._last = config, plain
        endless = too_large(plain)
        if problems or endless:
            raise ConfigError(*problems, *(endless or _problems_of(plain, origin)))
        if words is None:
            (words,) = sweep_words(overrides)
        return resolve_job(plain, words, origin, partial=not self._trains)

    def _swept_in_files(self, hydra: Mapping[str, Any], overrides: Sequence[Override]) -> list[Override]:
        """Return the overrides that config files add to a sweep (``hydra.sweeper.params``), except for keys typed."""
        params = hydra["sweeper"].get("params") or {}
        typed = {each.key_or_group for each in overrides}
        words = [f"{key}={value}" for key, value in params.items() if key not in typed]
        wrong = [(word.partition("=")[0], line) for word in words for line in _not_for_jobs(word)]
        self._problems += [f"hydra.sweeper.params.{key}: {line}" for key, line in wrong[:1]]
        return [] if wrong else list(parse(words, self.composer.loader, self._problems))

    def _problems_without_files(self, overrides: Sequence[Override]) -> list[str]:
        """Return the mistakes in top-level keys, for the case that the chosen files cannot be composed."""
        _, files_read = self.composer.compose_files([])
        plain, problems = copy.deepcopy(files_read.plain), list[str]()
        simple = [each for each in overrides if not self.composer.is_group(each) and "." not in each.key_or_group]
        for override in simple:
            lay(plain, variants(override)[0], problems)
        plain["plugins"] = list(self._plugins)
        origin = functools.partial(FilesRead().origin, typed={each.key_or_group for each in simple})
        return [*problems, *_problems_of(plain, origin)]

    def _cannot_resume(self, found: Sequence[Job], is_sweep: bool) -> list[str]:
        """Return one line for each reason why the run or sweep cannot be resumed as ``resume`` says."""
        wanted = [job for job in found if job.settings.resume is not None]
        if not wanted:
            return []
        what = wanted[0].settings.resume
        if is_sweep:
            whole = self._config_of_last_job()
            place = str(whole["hydra"]["sweep"]["dir"]).replace("${sweep_dir}", str(whole["sweep_dir"]))
            key, same = "sweep_dir", not is_new_each_time(place)
        else:
            key, place, same = "run_dir", wanted[0].settings.run_dir, wanted[0].fixed_run_dir
        if not same:
            return [f"resume: {what}: needs a {key} that is the same each time, not {place}; add {key}=…"]
        problems: list[str] = []
        for job in [] if is_sweep else wanted:
            with collected(problems):
                resume.check_changes(job.settings)
        return problems


def _shared_by_all_runs(words: Sequence[str], overrides: Sequence[Override], found: Sequence[Job]) -> list[str]:
    """Return one line for each override that gives all runs one folder, or sweeps over a key of the whole sweep."""
    problems: list[str] = []
    if len(found) > 1 and found[0].fixed_run_dir and len({job.settings.run_dir for job in found}) == 1:
        problems.append(f"run_dir: every run of a sweep has its own ({TYPED}); did you mean sweep_dir?")
    fixed = [word for word in words if word.startswith("hydra.sweep.subdir=") and "${" not in word]
    if len(found) > 1 and fixed:
        problems.append(f"{fixed[0]}: every run of a sweep has its own ({TYPED}), such as ${{hydra.job.num}}")
    problems += [
        f"{each.key_or_group}: has one value for all runs of a sweep ({TYPED})"
        for each in overrides
        if each.is_sweep_override() and each.key_or_group.partition(".")[0] in OF_SWEEPS
    ]
    return problems


def _not_for_jobs(word: str) -> list[str]:
    """Return why ``hydra.sweeper.params`` in a file must not contain an override; an empty list if it may."""
    key, _, value = word.partition("=")
    if not re.fullmatch(r"[\w.]+", key) or key.startswith("hydra"):
        return ["it names no key of a run"]
    return ["an interpolation is not taken there"] if "${" in value else []


def _problems_of(plain: Mapping[str, Any], origin: Callable[[str], str]) -> list[str]:
    """Resolve and check a config; return one line for each mistake."""
    problems: list[str] = []
    with collected(problems):
        resolve_job(plain, (), origin)
    return problems
