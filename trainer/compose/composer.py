"""From the words of a command to checked settings: all their mistakes at once, each with its origin. No torch.

Hydra composes the YAML files. What was typed is then laid over them key by key, here, so that one wrong word does not
hide the next; and before any of it counts, everything that is code instead of data is refused (``guard``).
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra._internal.core_plugins.file_config_source import FileConfigSource
from hydra._internal.utils import create_config_search_path
from hydra.core.config_search_path import SearchPathQuery
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.types import Override
from hydra.core.plugins import Plugins
from hydra.core.utils import setup_globals
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from trainer.compose import plugins
from trainer.compose.overrides import TYPED, jobs, lay, needs_multirun, parse, values, variants, without_values
from trainer.compose.safety import (
    HYDRA_GROUPS,
    REFUSED,
    Loader,
    OfHydra,
    Reading,
    check_folder,
    checked_sources,
    compose_error,
    first_line,
    is_data,
    leaves,
    plain_config,
    too_large,
)
from trainer.config import GROUPS, ConfigError, Job, Settings, yaml_file
from trainer.config.check import MISSING, check
from trainer.config.messages import did_you_mean, from_where, how_to_install, unknown_option
from trainer.config.registry import LoadError, Registry, registries
from trainer.config.search_keys import SearchKeys
from trainer.config.settings import OF_SWEEPS
from trainer.config.yaml_file import config_dir as our_dir
from trainer.config.yaml_file import shown

# What Hydra and OmegaConf raise about a config.
FAULTS = (HydraException, OmegaConfBaseException, ValueError, TypeError, AttributeError, RecursionError)


SEARCHPATH = "hydra.searchpath"
# Hydra's launchers that an extra of ours installs.
LAUNCHERS = {"joblib": "joblib", "submitit_slurm": "slurm", "submitit_local": "slurm", "ray": "ray"}


class _FileError(ConfigError):
    """The files that a command chose cannot be composed."""


def compose(*words: str, config_dir: str | Path | None = None) -> Job:
    """Return the job that words stand for; see ``trainer.compose``."""
    if any(word.startswith("--") for word in words):
        raise ConfigError("compose: takes no options; a folder of YAML files is compose(…, config_dir=…)")
    return Composer(None if config_dir is None else str(config_dir)).check(with_earlier_words(words))[0]


def with_earlier_words(words: Sequence[str], *, multirun: bool = False) -> list[str]:
    """Before the words of ``resume=last`` or ``resume=RUN`` those of that run; of ``sweep=last`` those of that sweep.

    Raises:
        ConfigError: there is no such run or sweep.
    """
    if is_sweep_again(words):
        from trainer.runs.resume import with_earlier_sweep_words

        return with_earlier_sweep_words(words, is_data)
    if not any(word.lstrip("+").startswith("resume=") for word in words):
        return list(words)
    from trainer.runs import resume

    return resume.with_earlier_words(words, multirun=multirun)


def is_sweep_again(words: Sequence[str]) -> bool:
    """Whether a command goes on with an earlier sweep."""
    return any(word.startswith("sweep=") for word in words)


class Composer:
    """Composes and checks configs.

    Args:
        extra_dir: a folder of YAML files beside ours.
        main_dir, main_name: what stands for our folder and ``train``.

    Raises:
        ConfigError: there is no such folder or file.
    """

    def __init__(self, extra_dir: str | None = None, main_dir: str | None = None, main_name: str | None = None) -> None:
        for option, folder in (("--config-dir", extra_dir), ("--config-path", main_dir)):
            check_folder(option, folder)
        Plugins.instance()  # registers Hydra's sources
        _store_sweepers()
        setup_globals()
        search_path = create_config_search_path(str(Path(main_dir).absolute() if main_dir else our_dir()))
        if extra_dir is not None:
            anchor = SearchPathQuery(provider="schema")
            search_path.prepend("command-line", f"file://{Path(extra_dir).absolute()}", anchor)
        self.name = main_name or "train"
        if extra_dir is not None and main_name is None:
            _check_layout(Path(extra_dir))
        with checked_sources(self):
            self.loader = Loader(search_path)
        self.reading = Reading()
        self._folders: list[Path] = []  # those of hydra.searchpath
        self.sweep_dir, self.is_sweep = "", False
        self._composed: dict[tuple[str, ...], tuple[Any, Reading]] = {}
        if self.file(self.name) is None:
            names = [name for name in self.loader.get_group_options("") if not name.startswith("_")]
            near = did_you_mean(self.name, names) or ";"
            raise ConfigError(f"--config-name: {self.name}: no such file{near} files: {', '.join(names)}")

    def check(self, words: Sequence[str], *, multirun: bool = False, trains: bool = True) -> list[Job]:
        """Check a command: the one job of it, or every value of a sweep.

        Args:
            words: what was typed, without options.
            multirun: it is a sweep.
            trains: a run follows, so nothing may be missing and the plugins are imported now.

        Returns:
            every job that was looked at: of a sweep each value once, with the first of the others.

        Raises:
            ConfigError: with every mistake, one line each.
        """
        problems: list[str] = []
        overrides = self._with_folders(parse(words, self.loader, problems), problems)
        right = len(problems)
        wanted, rest = self._plugins(overrides, trains, problems)
        found, options = list[Job](), list[str]()
        with checked_sources(self):
            kept = self._without_wrong_options(rest, multirun, options)
            if len(problems) == right:  # else they may be those of a plugin that cannot be used
                problems += options
            try:
                self.is_sweep = multirun or self._sweeps(kept)
                if self.is_sweep:
                    swept = self._swept_in_files(kept, problems)
                    kept += self._without_wrong_options(swept, True, problems)
                for job in jobs(kept):
                    try:
                        found.append(self._job(job, wanted, partial=not trains))
                    except _FileError:
                        raise
                    except ConfigError as error:
                        problems += error.problems
            except _FileError as error:
                problems += [*error.problems, *self._without_files(kept, wanted)]
        if len(found) > 1 and found[0].fixed_run_dir and len({job.settings.run_dir for job in found}) == 1:
            problems.append(f"run_dir: every run of a sweep has its own ({TYPED}); did you mean sweep_dir?")
        fixed = [word for word in words if word.startswith("hydra.sweep.subdir=") and "${" not in word]
        if len(found) > 1 and fixed:
            problems.append(f"{fixed[0]}: every run of a sweep has its own ({TYPED}), such as ${{hydra.job.num}}")
        problems += [
            f"{each.key_or_group}: has one value for all runs of a sweep ({TYPED})"
            for each in rest
            if each.is_sweep_override() and each.key_or_group.partition(".")[0] in OF_SWEEPS
        ]
        problems += self._cannot_go_on(found, multirun)
        if problems:
            raise ConfigError(*dict.fromkeys(problems))
        return [dataclasses.replace(job, words=tuple(words)) for job in found]

    def _cannot_go_on(self, found: Sequence[Job], multirun: bool) -> list[str]:
        """A line for each reason why ``resume`` cannot do what it says."""
        wanted = [job for job in found if job.settings.resume is not None]
        if not wanted:
            return []
        from trainer.runs import resume

        if multirun:
            key, place, same = "sweep_dir", self.sweep_dir, not is_new_each_time(self.sweep_dir)
        else:
            key, place, same = "run_dir", wanted[0].settings.run_dir, wanted[0].fixed_run_dir
        if not same:
            what = wanted[0].settings.resume
            return [f"resume: {what}: needs a {key} that is the same each time, not {place}; add {key}=…"]
        problems: list[str] = []
        for each in [] if multirun else wanted:
            try:
                resume.check_changes(each.settings)
            except ConfigError as error:
                problems += error.problems
        return problems

    def for_hydra(self, words: Sequence[str]) -> list[str]:
        """Checked words as Hydra takes them: ``++`` before a key that only the component's signature knows."""
        overrides = list(parse(words, self.loader, []))
        with checked_sources(self):
            config, _ = self._compose(self._choices(overrides))
        known, found = plain_config(config), []
        for each in overrides:
            word = str(each.input_line)
            if not self.is_group(each):
                known_to_hydra = word[0] in "+~" or each.is_hydra_override() or _has(known, each.key_or_group)
                found.append(word if known_to_hydra else f"++{word}")
            elif each.value() is not None:
                found.append(word)
        return found

    def composed(self, words: Sequence[str]) -> dict[str, Any]:
        """The plain, unresolved config of checked words; for a help text."""
        overrides = [variants(each)[0] for each in parse(words, self.loader, [])]
        with checked_sources(self):
            config, _ = self._compose(self._choices(overrides))
        plain = plain_config(config)
        for each in overrides:
            if not self.is_group(each) and not each.is_hydra_override():
                lay(plain, each, [])
        return plain

    def has(self, package: str, words: Sequence[str]) -> bool:
        """Whether the config of checked words has a part, which may be one of Hydra's."""
        return package in ("_global_", "") or package.startswith("hydra") or _has(self.composed(words), package)

    def _sweeps(self, overrides: Sequence[Override]) -> bool:
        """Whether a file makes a sweep of the command."""
        config, reading = self._compose(self._choices(overrides))
        return reading.foreign and config.hydra.mode == RunMode.MULTIRUN

    def _choices(self, overrides: Iterable[Override]) -> list[str]:
        """The words that choose options, of a sweep the first value, and those that add folders."""
        chosen = [variants(each)[0] for each in overrides if self.is_group(each) or each.key_or_group == SEARCHPATH]
        return [str(each.input_line) for each in chosen if each.value() is not None]

    def _swept_in_files(self, overrides: Sequence[Override], problems: list[str]) -> list[Override]:
        """The words that files add to every job of a sweep; they are checked as what is typed."""
        config, _ = self._compose(self._choices(overrides))
        params = plain_config(config, "hydra")["sweeper"].get("params") or {}
        typed = {each.key_or_group for each in overrides}
        words = [f"{key}={value}" for key, value in params.items() if key not in typed]
        found = [(word.partition("=")[0], line) for word in words for line in _not_for_jobs(word)]
        problems += [f"hydra.sweeper.params.{key}: {line}" for key, line in found[:1]]
        return [] if found else list(parse(words, self.loader, problems))

    def _without_files(self, overrides: Sequence[Override], wanted: Sequence[str]) -> list[str]:
        """What is wrong with the run's own keys, where the files that were chosen cannot be read."""
        config, _ = self._compose([])
        plain, problems = plain_config(config), list[str]()
        simple = [each for each in overrides if not self.is_group(each) and "." not in each.key_or_group]
        for override in simple:
            lay(plain, variants(override)[0], problems)
        plain["plugins"] = list(wanted)
        return [*problems, *_also(plain, _Origins([], {each.key_or_group for each in simple}))]

    def options(self, group: str) -> list[str]:
        """The options of a group, ours and the user's own."""
        more = {file.stem for folder in self._folders for file in (folder / group).glob("*.yaml")}
        return sorted({*self.loader.repository.get_group_options(group), *more})

    def file(self, config_path: str) -> Path | None:
        """The YAML file of ``model/cnn``; nothing where a signature stands for it."""
        sources = [str(source.path) for source in self.loader.get_sources() if isinstance(source, FileConfigSource)]
        files = [Path(str(folder)) / f"{config_path}.yaml" for folder in [*sources, *self._folders]]
        return next((file for file in files if file.is_file()), None)

    def _plugins(
        self, overrides: Iterable[Override], load: bool, problems: list[str]
    ) -> tuple[list[str], list[Override]]:
        """Make the plugins' components known; returns the plugins and the other overrides."""
        wanted, rest = [], []
        for override in overrides:
            if override.key_or_group.partition(".")[0] != "plugins":
                rest.append(override)
                continue
            value = override.value()
            names = [value] if isinstance(value, str) else value
            plain = isinstance(names, list) and all(isinstance(name, str) and "${" not in name for name in names)
            if override.is_sweep_override() or override.key_or_group != "plugins" or not plain:
                problems.append(
                    f"plugins: must be a list of files and modules, got {override.input_line} ({TYPED});"
                    " write 'plugins=[my_models.py,my_package.models]'"
                )
            else:
                assert isinstance(names, list)
                wanted = [str(name) for name in names]
        known = registries()
        problems += plugins.declare(wanted, known, load=load)
        for group, components in known.items():
            for name in components.own():
                self._offer(group, name, components, problems)
        return [*wanted, *plugins.from_environment()], rest

    def _offer(self, group: str, name: str, components: Registry, problems: list[str]) -> None:
        """Let the defaults of a signature stand where a component of the user's own has no YAML."""
        known = ConfigStore.instance().repo.setdefault(group, {})
        known.pop(f"{name}.yaml", None)
        if self.file(f"{group}/{name}") is not None:
            return
        try:
            keys = components.keys(name)
            values = {key: MISSING if each.default is each.empty else each.default for key, each in keys.items()}
            node = OmegaConf.create(values if group == "logger" else {"name": name, **values})
        except LoadError as error:
            problems.append(str(error))
        except (OmegaConfBaseException, ValueError) as error:
            problems.append(f"{group}={name}: a default of its signature is no plain value: {first_line(error)}")
        else:
            package = f"{group}.{name}" if group == "logger" else group
            ConfigStore.instance().store(group=group, name=name, node=node, package=package)

    def _with_folders(self, overrides: Iterable[Override], problems: list[str]) -> list[Override]:
        """Note the folders that words add; returns the overrides without those that add what is no folder."""
        kept = []
        for override in overrides:
            if override.key_or_group == SEARCHPATH:
                folders = override.value()
                try:
                    if not isinstance(folders, list) or not all(isinstance(folder, str) for folder in folders):
                        got = f"{override.input_line} ({TYPED})"
                        raise ConfigError(f"{SEARCHPATH}: must be a list of folders, got {got}")
                    for folder in folders:
                        check_folder(SEARCHPATH, str(folder))
                        self._folders.append(Path(str(folder).removeprefix("file://")))
                except ConfigError as error:
                    problems += error.problems
                    continue
            kept.append(override)
        return kept

    def is_group(self, override: Override) -> bool:
        """Whether a word chooses an option."""
        key = override.key_or_group
        return key != "" and "." not in key and self.loader.repository.group_exists(key)

    def _without_wrong_options(
        self, overrides: Sequence[Override], multirun: bool, problems: list[str]
    ) -> list[Override]:
        """Report choices that do not exist; what is about the keys of such a group cannot be checked."""
        wrong: set[str] = set()
        kept: list[Override] = []
        for override in overrides:
            key = override.key_or_group
            if override.is_sweep_override() and (line := without_values(override)):
                problems.append(line)
                wrong.add(key)
            elif override.is_sweep_override() and not multirun:
                problems.append(needs_multirun(override, self.is_group(override)))
                wrong.add(key)
            elif self.is_group(override):
                line = self._wrong_option(override)
                if line is None:
                    kept += [override] * (override.value() is not None)  # experiment=null is the default
                else:
                    problems.append(line)
                    wrong.add(key)
            elif "/" in key or override.package is not None:
                dotted = str(override.input_line).replace("/", ".")
                hint = f" did you mean {dotted}?" if dotted.partition(".")[0] in GROUPS else ""
                problems.append(f"{key}: no such group ({TYPED});{hint} groups: {', '.join(GROUPS)}, experiment")
            elif key.endswith(".name") and key.count(".") == 1 and key.partition(".")[0] in GROUPS:
                group = key.partition(".")[0]
                problems.append(f"{key}: is chosen with its keys ({TYPED}); did you mean {group}={override.value()}?")
                wrong.add(group)
            else:
                kept.append(override)
        return [each for each in kept if each.key_or_group.partition(".")[0] not in wrong]

    def _wrong_option(self, override: Override) -> str | None:
        """The line for a choice that does not exist; nothing for one that does."""
        group = override.key_or_group
        names = self.options(group)
        if group.startswith("hydra") and group not in HYDRA_GROUPS:
            reason = REFUSED.get(group.replace("/", "."), f"choose only {' and '.join(HYDRA_GROUPS)}")
            return f"{group}: {reason} ({TYPED})"
        if override.is_delete():
            return f"{group}: cannot be taken away ({TYPED}); options: {', '.join(names)}"
        if override.is_add() or override.is_force_add():
            return f"{override.input_line}: {group} is there already; write {str(override.input_line).lstrip('+')}"
        if override.package is not None:
            return f"{override.input_line}: a group has one place; write {group}={override.value()}"
        for value in values(override):
            several = value if isinstance(value, list) and group == "logger" else [value]
            for option in several:
                name = str(option).lower() if isinstance(option, bool | float | int) else option
                if isinstance(name, str) and name not in names:
                    line = unknown_option(group, name, names)
                    return f"{line}; it needs {how_to_install(LAUNCHERS[name])}" if name in LAUNCHERS else line
                if not isinstance(name, str) and (name is not None or group != "experiment"):
                    got = "null" if name is None else repr(name)
                    near = "; did you mean logger=none?" if group == "logger" else ";"
                    line = f"{group}: must be the name of an option, got {got} ({TYPED}){near}"
                    return f"{line} options: {', '.join(names)}"
        return None

    def _job(self, overrides: Sequence[Override], wanted: Sequence[str], *, partial: bool) -> Job:
        """Check one job.

        Raises:
            ConfigError: with every mistake.
        """
        problems: list[str] = []
        config, reading = self._compose(self._choices(overrides))
        if reading.refused:
            raise ConfigError(*reading.refused)
        files = [(package, file) for path, package in reading.places if (file := self.file(path)) is not None]
        origins = _Origins(files, {each.key_or_group for each in overrides if not self.is_group(each)})
        plain = plain_config(config)
        hydra = OfHydra(config, origins)
        if reading.foreign:
            problems += [*hydra.from_files(), *too_large({**plain, "hydra": plain_config(config, "hydra")})]
        if "experiment" in plain:
            recipes = [shown(path) for _, path in files if path.parent.name == "experiment"]
            raise ConfigError(f"{', '.join(recipes)}: a recipe has to begin with the line # @package _global_")
        if plain.get("plugins"):
            problems.append(
                f"plugins: a file cannot name code ({origins('plugins')}); if you trust {plain['plugins']}, name it on "
                f"the command line, plugins=[…], or in {plugins.VARIABLE}"
            )
        plain["plugins"] = []
        for override in overrides:
            if self.is_group(override):
                continue  # composed above
            if override.is_hydra_override():
                problems += hydra.typed(override)
            else:
                lay(plain, override, problems)
        plain["plugins"] = list(wanted)
        self.sweep_dir = str(plain_config(config, "hydra")["sweep"]["dir"]).replace(
            "${sweep_dir}", str(plain["sweep_dir"])
        )
        endless = too_large(plain)
        if problems or endless:
            raise ConfigError(*problems, *(endless or _also(plain, origins)))
        settings = settle(plain, origins, partial=partial)
        return Job(settings, fixed_run_dir=not is_new_each_time(plain["run_dir"]))

    def _compose(self, words: Sequence[str]) -> tuple[Any, Reading]:
        """Compose the files that ``words`` choose, without what was typed for single keys.

        Returns:
            the DictConfig, and what was noted about the files.

        Raises:
            ConfigError: Hydra cannot.
        """
        key = tuple(words)
        if key not in self._composed:
            self.reading = Reading()
            try:
                config = self.loader.load_configuration(self.name, list(words), RunMode.RUN)
                self.reading.places = [(each.config_path or "", each.package or "") for each in self.loader.defaults]
            except ConfigError as error:
                raise _FileError(*error.problems) from error
            except FAULTS as error:
                raise _FileError(*(self.reading.refused or [self._in_file(error, words)])) from error
            self._composed[key] = config, self.reading
        return self._composed[key]

    def _in_file(self, error: Exception, words: Sequence[str]) -> str:
        """What Hydra has to say about a file, with the file."""
        options = getattr(error, "options", None)
        if options:
            group, _, name = (getattr(error, "missing_cfg_file", None) or "").rpartition("/")
            line = unknown_option(group, name, options, self._chosen_in(group, words))
            return f"{line}; of a plugin? name it: plugins=[…]" if group in GROUPS else line
        found = re.match(r"In '(?P<file>[^']+)': (?:.* raised while composing config:\n)?(?P<reason>.+)", str(error))
        found = found or re.match(r"(?P<reason>.+) in '(?P<file>[^']+)', (?P<more>.+)", str(error))
        file = self.file(found["file"]) if found else None
        if found is None or file is None:
            return compose_error(error).problems[0]
        line = f"{shown(file)}: {found['reason'].strip()}"
        if "hydra/launcher/submitit" in line:
            return f"{line.rstrip('.')}; it needs {how_to_install('slurm')}"
        group = re.match(r"Could not find 'experiment/(\w+)/(\S+)'", found["reason"])
        return f"{line}; did you mean override /{group[1]}: {group[2]}?" if group else line

    def _chosen_in(self, group: str, words: Sequence[str]) -> str:
        """The file and line of a defaults list that chooses an option of a group."""
        place, pattern = "", rf"defaults\.\d+\.(override )?/?{re.escape(group)}"
        for file in (self.file(word.replace("=", "/")) for word in [self.name, *words]):
            lines = yaml_file.read(file).lines if file is not None else {}
            for key, line in lines.items():
                if file is not None and re.fullmatch(pattern, key):
                    place = f"{shown(file)}, line {line}"
        return place


def _store_sweepers() -> None:
    """Store the keys of our sweepers in Hydra's ``ConfigStore``, ours as ``basic`` in the place of Hydra's own."""
    keys: dict[str, dict[str, Any]] = {
        "GridSweeper": {"max_batch_size": None},
        "OptunaSweeper": dataclasses.asdict(SearchKeys()),
    }
    for name, sweeper in (("basic", "GridSweeper"), ("optuna", "OptunaSweeper")):
        node = {"_target_": f"hydra_plugins.trainer_sweeps.{sweeper}", **keys[sweeper], "params": None}
        ConfigStore.instance().store(group="hydra/sweeper", name=name, node=node, provider="trainer")


def _check_layout(folder: Path) -> None:
    """Raises ConfigError where no group's folder stands in a config folder, so that nothing in it could be chosen."""
    groups = (*GROUPS, "experiment", "hydra")
    if not any((folder / group).is_dir() for group in groups):
        above = folder.absolute().name in groups
        near = f"; did you mean {folder.parent}?" if above else ";"
        raise ConfigError(f"--config-dir: {folder}: holds no folder of a group{near} groups: {', '.join(groups[:-1])}")


def settle(
    plain: Mapping[str, Any], origin: Callable[[str], str] = lambda key: "", *, partial: bool = False
) -> Settings:
    """Resolve and check plain containers.

    Raises:
        ConfigError: with every mistake, one line each.
    """
    problems: dict[str, str] = {}  # by their key, about which the check then need not say more
    plain = dict(plain)
    for group in (group for group in GROUPS if group != "logger"):
        keys, place = plain.get(group), from_where(origin(group))
        if keys is None or (isinstance(keys, Mapping) and "name" not in keys):
            problems[f"{group}.name"] = f"{group}.name: missing; the YAML says which component it is for{place}"
            plain[group] = {"name": MISSING}
        elif not isinstance(keys, Mapping):
            choice = f"a file chooses with - override /{group}: {keys}"
            problems[group] = f"{group}: is a group, not a key{place}; {choice}"
            plain[group] = {"name": MISSING}
    config = OmegaConf.create(plain)
    for key, value in leaves(plain).items():
        if "${" in str(value):
            try:
                OmegaConf.select(config, key, throw_on_resolution_failure=True)
            except Exception as error:  # whatever stands in an interpolation
                about_known = any(f"{group}.name" in str(error) for group in GROUPS if group in plain)
                if not (problems and about_known):
                    reason = compose_error(error).problems[0].removeprefix(f"{key}: ")
                    problems[key] = f"{key}: {reason}{from_where(origin(key))}"
                OmegaConf.update(config, key, MISSING)
    resolved = OmegaConf.to_container(config, resolve=True, throw_on_missing=False)
    assert isinstance(resolved, dict)
    try:
        settings = check({str(key): value for key, value in resolved.items()}, origin, partial=partial)
    except ConfigError as error:
        silent = [key.removesuffix(".name") for key in problems]
        more = [line for line in error.problems if not (problems and _about(line, silent))]
        raise ConfigError(*problems.values(), *more) from error
    if problems:
        raise ConfigError(*problems.values())
    return settings


def is_new_each_time(path: Any) -> bool:
    """Whether a path has the time in it."""
    return "${now:" in str(path)


def _about(line: str, keys: Sequence[str]) -> bool:
    """Whether a line only says that a key is missing which something is said about already."""
    key = line.partition(":")[0]
    return ": missing" in line and any(key == each or key.startswith(f"{each}.") or key == "run_dir" for each in keys)


def _not_for_jobs(word: str) -> list[str]:
    """What a file's sweep may not change."""
    key, _, value = word.partition("=")
    if not re.fullmatch(r"[\w.]+", key) or key.startswith("hydra"):
        return ["it names no key of a run"]
    return ["an interpolation is not taken there"] if "${" in value else []


def from_hydra(config: Any, words: Sequence[str]) -> Job:
    """The settings of a job that Hydra composed of checked words; perhaps in another process than the check's.

    Raises:
        ConfigError: with every mistake, one line each.
    """
    plain = plain_config(config)
    wanted = [plain["plugins"]] if isinstance(plain["plugins"], str) else plain["plugins"]
    plugins.require(wanted)
    plain["plugins"] = [*wanted, *plugins.from_environment()]
    return Job(settle(plain), tuple(words), fixed_run_dir=not is_new_each_time(plain["run_dir"]))


def _also(plain: Mapping[str, Any], origins: _Origins) -> tuple[str, ...]:
    """The mistakes that the check finds besides those that are known already."""
    try:
        settle(plain, origins)
    except ConfigError as error:
        return error.problems
    return ()


class _Origins:
    """Where the value of a key comes from, in words.

    Args:
        files: the files of the config, later ones overriding earlier ones, each with the place of its keys.
        typed: the keys of the command line.
    """

    def __init__(self, files: Sequence[tuple[str, Path]], typed: set[str]) -> None:
        self._files, self._typed = files, typed

    def __call__(self, key: str) -> str:
        parts = key.split(".")
        prefixes = {".".join(parts[:count]) for count in range(1, len(parts) + 1)}
        place = self._place(key)
        whole = self.file_of(key)
        if prefixes & self._typed or any(typed.startswith(f"{key}.") for typed in self._typed):
            return f"{place[0]}, overridden on the command line" if place else "from the command line"
        return f"{place[0]}, line {place[1]}" if place else whole

    def _place(self, key: str) -> tuple[str, int] | None:
        """The last file that sets a key, and its line."""
        for package, path in reversed(self._files):
            if package and not f"{key}.".startswith(f"{package}."):
                continue
            local = key[len(package) + 1 :] if package else key
            line = yaml_file.read(path).lines.get(local)
            if line is not None:
                return shown(path), line
        return None

    def file_of(self, place: str) -> str:
        """The last file whose keys stand at ``place``."""
        return next((shown(path) for package, path in reversed(self._files) if package == place and package), "")


def _has(plain: Mapping[str, Any], key: str) -> bool:
    """Whether a config has a key."""
    node: Any = plain
    for name in key.split("."):
        if isinstance(node, list) and name.isdecimal() and int(name) < len(node):
            node = node[int(name)]
        elif isinstance(node, Mapping) and name in node:
            node = node[name]
        else:
            return False
    return True
