"""From the words of a command to checked settings: all their mistakes at once, each with its origin. No torch.

Hydra composes the YAML files. What was typed is then laid over them key by key, here, so that one wrong word does not
hide the next; and before any of it counts, everything that is code instead of data is refused. Only this module and
``cli`` know Hydra and OmegaConf.
"""

from __future__ import annotations

import contextlib
import itertools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.core_plugins.file_config_source import FileConfigSource
from hydra._internal.sources_registry import SourcesRegistry
from hydra._internal.utils import create_config_search_path
from hydra.core.config_search_path import SearchPathQuery
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override
from hydra.core.plugins import Plugins
from hydra.core.utils import setup_globals
from hydra.errors import HydraException
from hydra.plugins.config_source import ConfigResult
from hydra.types import RunMode
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from trainer import plugins, yamlfile
from trainer.config import (
    GROUPS,
    MISSING,
    ConfigError,
    Settings,
    check,
    did_you_mean,
    registries,
    unknown_key,
    unknown_option,
)
from trainer.registry import CannotLoad, Registry
from trainer.yamlfile import config_dir, shown

MOST_CHARACTERS = 10_000  # of a value with its interpolations written out

# What may be said about Hydra itself on the command line; a file may say less, see ``_Hydra``.
HYDRA_KEYS = ("sweep.dir", "sweep.subdir", "sweeper", "launcher", "job.name", "mode", "verbose", "searchpath")
HYDRA_GROUPS = ("hydra/launcher", "hydra/sweeper")
HYDRA_KEYS_IN_FILES = (
    *("sweep.dir", "sweep.subdir", "job.name", "mode", "verbose", "sweeper.max_batch_size", "sweeper.params"),
    *("launcher._target_", "sweeper._target_"),  # of an installed package: no file can bring one of its own
)
REFUSED = {
    "hydra.run.dir": "the run directory is run_dir; write run_dir=…",
    "hydra.output_subdir": "config.yaml and overrides.yaml stand in the run directory itself",
    "hydra.job.chdir": "a run does not change the working directory",
    "hydra.job.env_set": "is set in the shell: NAME=value train …",
    "hydra.job.env_copy": "is set in the shell: NAME=value train …",
    "hydra.callbacks": "callbacks are code, and a config is data",
    "hydra.job_logging": "a run keeps its own log, train.log",
    "hydra.hydra_logging": "a run keeps its own log, train.log",
    "hydra.launcher.setup": "shell commands are code, and a config is data",
    "hydra.launcher.python": "programs are code, and a config is data",
    "hydra.sweeper.custom_search_space": "names code, and a config is data",
}


def compose(*words: str, config_dir: str | Path | None = None) -> Settings:
    """What ``train`` makes of the same words: ``compose("model=cnn", "optimizer.lr=3e-4")``.

    Args:
        words: overrides, as on the command line.
        config_dir: a folder of YAML files of your own, as ``--config-dir``.

    Raises:
        ConfigError: with every mistake, one line each.
    """
    return Composer(None if config_dir is None else str(config_dir)).check(words)[0]


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
            _check_folder(option, folder)
        Plugins.instance()  # registers Hydra's sources
        setup_globals()
        search_path = create_config_search_path(str(Path(main_dir).absolute() if main_dir else config_dir()))
        if extra_dir is not None:
            anchor = SearchPathQuery(provider="schema")
            search_path.prepend("command-line", f"file://{Path(extra_dir).absolute()}", anchor)
        self.name = main_name or "train"
        with _checked_sources(self):
            self.loader = ConfigLoaderImpl(search_path)
        self.own_only = create_config_search_path(str(config_dir()))
        self.foreign: dict[str, Path] = {}  # files of the user's own that were read, by their place in the config
        self.refused: list[str] = []
        self._folders: list[Path] = []  # those of hydra.searchpath
        self._composed: dict[tuple[str, ...], Any] = {}
        if self.file(self.name) is None:
            names = self.loader.get_group_options("")
            raise ConfigError(
                f"--config-name: {self.name}: no such file{did_you_mean(self.name, names) or ';'} files: {', '.join(names)}"
            )

    def check(self, words: Sequence[str], *, multirun: bool = False, load: bool = True) -> list[Settings]:
        """Check a command: the one job of it, or every value of a sweep.

        Args:
            words: what was typed, without options.
            multirun: it is a sweep.
            load: import the plugins now, since they will be needed.

        Returns:
            the settings of every job that was looked at: of a sweep each value once, with the first of the others.

        Raises:
            ConfigError: with every mistake, one line each.
        """
        problems: list[str] = []
        overrides = list(self._parse(words, problems))
        searchpath = self._searchpath(overrides, problems)
        wanted, rest = self._plugins(overrides, load, problems)
        with _checked_sources(self):
            kept = self._without_wrong_options(rest, searchpath, multirun, problems)
            settings = []
            for job in _jobs(kept) if multirun else [kept]:
                try:
                    settings.append(self._job(job, searchpath, wanted))
                except ConfigError as error:
                    problems += error.problems
        if problems:
            raise ConfigError(*dict.fromkeys(problems))
        return [each.replace(overrides=tuple(words), fixed_run_dir=_sets(words, "run_dir")) for each in settings]

    def for_hydra(self, words: Sequence[str]) -> list[str]:
        """Checked words as Hydra takes them: ``++`` before a key that only the component's signature knows."""
        overrides = OverridesParser.create(self.loader).parse_overrides(list(words))
        groups = [each for each in overrides if self.is_group(each)]
        with _checked_sources(self):
            composed = self._compose([str(each.input_line) for each in groups if not each.is_sweep_override()])
        known = _plain(composed)
        return [
            f"++{each.input_line}"
            if each not in groups and str(each.input_line)[0] not in "+~" and not _find(known, each.key_or_group)
            else str(each.input_line)
            for each in overrides
            if each not in groups or each.value() is not None
        ]

    def composed(self, words: Sequence[str]) -> dict[str, Any]:
        """The plain, unresolved config of words that were checked; for a help text."""
        overrides = OverridesParser.create(self.loader).parse_overrides(list(words))
        groups = [str(each.input_line) for each in overrides if self.is_group(each)]
        with _checked_sources(self):
            plain = _plain(self._compose(groups))
        for each in overrides:
            if not self.is_group(each) and not each.is_hydra_override():
                _lay(plain, each, [])
        return plain

    def options(self, group: str) -> list[str]:
        """The options of a group, ours and the user's own."""
        return self.loader.get_group_options(group)

    def file(self, config_path: str) -> Path | None:
        """The YAML file of ``model/cnn``; nothing where a signature stands for it."""
        sources = [source.path for source in self.loader.get_sources() if isinstance(source, FileConfigSource)]
        files = [Path(folder) / f"{config_path}.yaml" for folder in [*sources, *self._folders]]
        return next((file for file in files if file.is_file()), None)

    def _parse(self, words: Sequence[str], problems: list[str]) -> Iterator[Override]:
        """Every word that is an override; a line for each that is not."""
        rest = list(words)
        while rest:
            word = rest.pop(0)
            reasons = ["names code, and a config is data"] if "_target_" in word else yamlfile.refusals(word)
            if reasons:
                key = word.partition("=")[0].lstrip("+~")
                problems += [f"{key}: {reason} (from the command line)" for reason in reasons]
            elif override := self._parsed(word):
                yield override
            else:
                problems.append(self._unreadable(word, rest))

    def _parsed(self, word: str) -> Override | None:
        try:
            (override,) = OverridesParser.create(self.loader).parse_overrides([word])
        except (HydraException, ValueError, RecursionError):
            return None
        return override

    def _unreadable(self, word: str, rest: list[str]) -> str:
        """The line for a word that is no override, with what was probably meant; takes what belongs to it."""
        for count in range(1, min(len(rest), 8) + 1):
            joined = " ".join([word, *rest[:count]])
            mended = re.sub(r"^([\w.]+)\s*[=:\s]\s*", r"\1=", joined)
            if re.search(r"=.", mended) and not re.search(r"\s[\w.]+=", mended) and self._parsed(mended):
                del rest[:count]
                quoted = f"'{mended}'" if " " in mended else mended
                return f"{joined}: cannot be read; write {quoted}"
        key, equals, value = word.partition("=")
        groups = [group for group in GROUPS if word in registries()[group].names()]
        if groups:
            advice = f"did you mean {groups[0]}={word}?"
        elif not equals:
            advice = "write key=value; a value with a space needs quotes: 'key=a b'"
        elif key != key.strip() or not key:
            advice = "write key=value, without a space"
        elif value.startswith("~"):
            advice = f"write {key}=$HOME{value[1:]}, or quote it twice: '{key}=\"{value}\"'"
        elif any(value.count(left) != value.count(right) for left, right in ("[]", "{}", "()")):
            advice = "a bracket is not closed"
        elif value.count("'") % 2 or value.count('"') % 2:
            advice = "a quote is not closed"
        else:
            advice = f"quote the value twice where it is a text: '{key}=\"{value}\"'"
        return f"{word}: cannot be read; {advice}"

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
                    f"plugins: must be a list of files and modules, got {override.input_line} (from the command line);"
                    " write 'plugins=[my_models.py,my_package.models]'"
                )
            else:
                wanted = [str(name) for name in names]  # type: ignore[union-attr]
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
        except CannotLoad as error:
            problems.append(str(error))
        except (OmegaConfBaseException, ValueError) as error:
            problems.append(f"{group}={name}: a default of its signature is no plain value: {_first_line(error)}")
        else:
            package = f"{group}.{name}" if group == "logger" else group
            ConfigStore.instance().store(group=group, name=name, node=node, package=package)

    def _searchpath(self, overrides: Iterable[Override], problems: list[str]) -> list[str]:
        """The words that add folders, where they do."""
        words = []
        for override in overrides:
            if override.key_or_group == "hydra.searchpath":
                folders = override.value()
                if not isinstance(folders, list) or not all(isinstance(folder, str) for folder in folders):
                    problems.append(f"hydra.searchpath: must be a list of folders, got {override.input_line}")
                    continue
                try:
                    for folder in folders:
                        _check_folder("hydra.searchpath", str(folder))
                        self._folders.append(Path(str(folder).removeprefix("file://")))
                    words.append(str(override.input_line))
                except ConfigError as error:
                    problems += error.problems
        return words

    def is_group(self, override: Override) -> bool:
        """Whether a word chooses an option."""
        return "." not in override.key_or_group and bool(
            self.loader.repository.group_exists(override.key_or_group) and override.key_or_group != ""
        )

    def _without_wrong_options(
        self, overrides: Sequence[Override], searchpath: Sequence[str], multirun: bool, problems: list[str]
    ) -> list[Override]:
        """Report choices that do not exist; what is about the keys of such a group cannot be checked."""
        wrong: set[str] = set()
        kept: list[Override] = []
        for override in overrides:
            key, origin = override.key_or_group, "from the command line"
            if override.is_sweep_override() and not multirun:
                problems.append(_needs_multirun(override, self.is_group(override)))
                wrong.add(key)
            elif self.is_group(override):
                line = self._wrong_option(override, searchpath)
                if line is None:
                    kept += [override] * (override.value() is not None)  # experiment=null is the default
                else:
                    problems.append(line)
                    wrong.add(key)
            elif "/" in key or override.package is not None:
                dotted = str(override.input_line).replace("/", ".")
                hint = f" did you mean {dotted}?" if dotted.partition(".")[0] in GROUPS else ""
                problems.append(f"{key}: no such group ({origin});{hint} groups: {', '.join(GROUPS)}, experiment")
            elif key.endswith(".name") and key.count(".") == 1 and key.partition(".")[0] in GROUPS:
                group = key.partition(".")[0]
                problems.append(f"{key}: is chosen with its keys ({origin}); did you mean {group}={override.value()}?")
                wrong.add(group)
            else:
                kept.append(override)
        return [each for each in kept if each.key_or_group.partition(".")[0] not in wrong]

    def _wrong_option(self, override: Override, searchpath: Sequence[str]) -> str | None:
        """The line for a choice that does not exist; nothing for one that does."""
        group, origin = override.key_or_group, "from the command line"
        names = self.loader.get_group_options(group, config_name=self.name, overrides=list(searchpath))
        if group.startswith("hydra") and group not in HYDRA_GROUPS:
            reason = REFUSED.get(group.replace("/", "."), f"choose only {' and '.join(HYDRA_GROUPS)}")
            return f"{group}: {reason} ({origin})"
        if override.is_delete():
            return f"{group}: cannot be taken away ({origin}); options: {', '.join(names)}"
        if override.is_add() or override.is_force_add():
            return f"{override.input_line}: {group} is there already; write {str(override.input_line).lstrip('+')}"
        if override.package is not None:
            return f"{override.input_line}: a group has one place; write {group}={override.value()}"
        for value in _values(override):
            several = value if isinstance(value, list) and group == "logger" else [value]
            for each in several:
                if isinstance(each, bool | float | int):
                    each = str(each).lower()
                if each is None and group == "experiment":
                    continue
                if not isinstance(each, str):
                    shown = "null" if each is None else repr(each)
                    near = "; did you mean logger=none?" if group == "logger" else ";"
                    return f"{group}: must be the name of an option, got {shown} ({origin}){near} options: {', '.join(names)}"
                if each not in names:
                    return unknown_option(group, each, names)
        return None

    def _job(self, overrides: Sequence[Override], searchpath: Sequence[str], wanted: Sequence[str]) -> Settings:
        """Check one job.

        Raises:
            ConfigError: with every mistake.
        """
        problems: list[str] = []
        groups = [*searchpath, *(str(each.input_line) for each in overrides if self.is_group(each))]
        config = self._compose(groups)
        if self.refused:
            raise ConfigError(*self.refused)
        origins = _Origins(self, groups, overrides)
        plain = _plain(config)
        hydra = _Hydra(self, config, origins)
        problems += hydra.from_files() if self.foreign else []
        if plain.get("plugins"):
            problems.append(
                f"plugins: a file cannot name code ({origins('plugins')}); if you trust {plain['plugins']}, name it on "
                f"the command line, plugins=[…], or in {plugins.VARIABLE}"
            )
        plain["plugins"] = []
        for override in overrides:
            if override.is_hydra_override():
                problems += hydra.typed(override)
            elif not self.is_group(override):
                _lay(plain, override, problems)
        plain["plugins"] = list(wanted)
        endless = _too_large(plain)
        if problems or endless:
            raise ConfigError(*problems, *(endless or _also(plain, origins)))
        return settle(plain, origins)

    def _compose(self, words: Sequence[str]) -> Any:
        """Compose the files that ``words`` choose, without what was typed for single keys.

        Raises:
            ConfigError: Hydra cannot.
        """
        key = tuple(words)
        if key not in self._composed:
            try:
                self._composed[key] = self.loader.load_configuration(self.name, list(words), RunMode.RUN)
            except (HydraException, OmegaConfBaseException, ValueError, TypeError, AttributeError) as error:
                raise compose_error(error) from error
        return self._composed[key]


def settle(plain: Mapping[str, Any], origin: Any = lambda key: "") -> Settings:
    """Resolve and check plain containers.

    Raises:
        ConfigError: with every mistake, one line each.
    """
    groups = {group: plain.get(group) for group in GROUPS if group != "logger"}
    nameless = [
        group for group, keys in groups.items() if keys is None or (isinstance(keys, Mapping) and "name" not in keys)
    ]
    if nameless:
        raise ConfigError(*(f"{group}.name: missing; the YAML says which component it is for" for group in nameless))
    try:
        config = OmegaConf.create(dict(plain))
        resolved = OmegaConf.to_container(config, resolve=True, throw_on_missing=False)
    except (OmegaConfBaseException, ValueError, RecursionError) as error:
        raise compose_error(error) from error
    assert isinstance(resolved, dict)
    if isinstance(resolved.get("plugins"), str):
        resolved["plugins"] = [resolved["plugins"]]
    return check(resolved, origin)


def from_hydra(config: Any, words: Sequence[str]) -> Settings:
    """The settings of a job that Hydra composed of checked words.

    Raises:
        ConfigError: with every mistake, one line each.
    """
    return settle(_plain(config)).replace(overrides=tuple(words), fixed_run_dir=_sets(words, "run_dir"))


class _Origins:
    """Where the value of a key comes from, in words."""

    def __init__(self, composer: Composer, groups: Sequence[str], overrides: Sequence[Override]) -> None:
        self._composer, self._groups = composer, groups
        self._typed = {each.key_or_group for each in overrides if not composer.is_group(each)}
        self._files: list[tuple[str, Path]] | None = None

    def __call__(self, key: str) -> str:
        parts = key.split(".")
        prefixes = {".".join(parts[:count]) for count in range(1, len(parts) + 1)}
        place = self._place(key)
        if prefixes & self._typed:
            return f"{place[0]}, overridden on the command line" if place else "from the command line"
        return f"{place[0]}, line {place[1]}" if place else ""

    def _place(self, key: str) -> tuple[str, int] | None:
        """The last file that sets a key, and its line."""
        for package, path in reversed(self._all_files()):
            if package and not f"{key}.".startswith(f"{package}."):
                continue
            local = key[len(package) + 1 :] if package else key
            line = yamlfile.read(path).lines.get(local)
            if line is not None:
                return shown(path), line
        return None

    def _all_files(self) -> list[tuple[str, Path]]:
        if self._files is None:
            self._files = []
            with contextlib.suppress(HydraException, OmegaConfBaseException):
                loader = self._composer.loader
                defaults = loader.compute_defaults_list(self._composer.name, list(self._groups), RunMode.RUN).defaults
                for each in defaults:
                    path = self._composer.file(each.config_path or "")
                    if path is not None:
                        self._files.append((each.package or "", path))
        return self._files


class _Hydra:
    """What may be said about Hydra itself."""

    def __init__(self, composer: Composer, config: Any, origins: _Origins) -> None:
        self._composer, self._config, self._origins = composer, config, origins

    def typed(self, override: Override) -> list[str]:
        """The lines for a word ``hydra.…`` that is not taken."""
        key, origin = override.key_or_group, "from the command line"
        if key == "hydra.searchpath":
            return []
        for refused, reason in REFUSED.items():
            if f"{key}.".startswith(f"{refused}."):
                return [f"{key}: {reason} ({origin})"]
        local = key.removeprefix("hydra.")
        if not any(f"{local}.".startswith(f"{allowed}.") for allowed in HYDRA_KEYS):
            known = [f"hydra.{allowed}" for allowed in HYDRA_KEYS]
            return [f"{key}: no such key ({origin}){did_you_mean(key, known) or ';'} keys: {', '.join(known)}"]
        if override.is_delete():
            return [f"{key}: cannot be taken away ({origin})"]
        try:
            OmegaConf.update(self._config, key, override.value(), force_add=local.startswith("sweeper.params"))
        except (OmegaConfBaseException, ValueError) as error:
            parent, _, leaf = key.rpartition(".")
            node = OmegaConf.select(self._config, parent)
            if isinstance(node, Mapping) and leaf not in node:
                return [unknown_key(key, [str(name) for name in node if name != "_target_"], origin)]
            return [f"{key}: {_first_line(error)} ({origin})"]
        return []

    def from_files(self) -> list[str]:
        """The lines for what the user's files say about Hydra that only the command line may."""
        choices = OmegaConf.to_container(self._config.hydra.runtime.choices)
        assert isinstance(choices, dict)
        words = [f"{group}={choices[group]}" for group in HYDRA_GROUPS]
        try:
            ours = ConfigLoaderImpl(self._composer.own_only).load_configuration("train", words, RunMode.RUN)
        except (HydraException, OmegaConfBaseException):
            return [f"{' '.join(words)}: only what Hydra and installed packages bring is taken, not a file"]
        ours, now = _leaves(_plain(ours, "hydra"), "hydra"), _leaves(_plain(self._config, "hydra"), "hydra")
        problems: dict[str, str] = {}
        for key, value in now.items():
            local = key.removeprefix("hydra.")
            free = ("runtime.", "overrides.", "job.override_dirname", "job.config_name", *HYDRA_KEYS_IN_FILES)
            if (key not in ours or ours[key] != value) and not local.startswith(free):
                top, place = ".".join(key.split(".")[:2]), self._origins(key)
                line = f"{top}: a file cannot set it{f' ({place})' if place else ''}"
                allowed = ", ".join(f"hydra.{name}" for name in HYDRA_KEYS_IN_FILES if "_target_" not in name)
                problems[top] = f"{line}; of Hydra's keys a file sets only {allowed}"
        return list(problems.values())


class _CheckedSource(FileConfigSource):  # type: ignore[misc]
    """Hydra's reader of files, which first looks whether a file is data and nothing else."""

    composer: Composer

    def load_config(self, config_path: str) -> ConfigResult:
        path = Path(self.path) / self._normalize_file_name(config_path)
        if path.is_file():
            found = yamlfile.read(path)
            if not path.resolve().is_relative_to(config_dir()):
                self.composer.foreign[config_path] = path
                self.composer.refused += [line for line in found.refused if line not in self.composer.refused]
                searchpath = [key for key in found.lines if key.rpartition(".")[2] == "searchpath"]
                if searchpath:
                    place = f"{shown(path)}, line {found.lines[searchpath[0]]}"
                    raise ConfigError(f"{searchpath[0]}: a file cannot set it ({place}); write it on the command line")
            elif found.refused:
                raise AssertionError(found.refused)
        return super().load_config(config_path)


@contextlib.contextmanager
def _checked_sources(composer: Composer) -> Iterator[None]:
    """Let Hydra read files through ``_CheckedSource``, here and nowhere else in the process."""
    types = SourcesRegistry.instance().types
    before = types["file"]
    types["file"] = type("_CheckedSource", (_CheckedSource,), {"composer": composer})
    try:
        yield
    finally:
        types["file"] = before


def compose_error(error: Exception) -> ConfigError:
    """What Hydra or OmegaConf has to say, in one line."""
    if isinstance(error, ConfigError):
        return error
    cause = error.__cause__ if isinstance(error.__cause__, OmegaConfBaseException) else error
    key = getattr(cause, "full_key", None)
    if isinstance(cause, OmegaConfBaseException) and key:
        return ConfigError(f"{key}: {_first_line(cause.msg or cause)}")
    options = getattr(error, "options", None)
    if options:
        group, _, name = (getattr(error, "missing_cfg_file", None) or "").rpartition("/")
        return ConfigError(unknown_option(group, name, options))
    return ConfigError(_first_line(error))


def _check_folder(option: str, folder: str | None) -> None:
    """Raises ConfigError unless it is a folder; a package would be imported."""
    if folder is None:
        return
    if "://" in folder and not folder.startswith("file://"):
        raise ConfigError(f"{option}: {folder} is code, and a config is data; name a folder")
    path = Path(folder.removeprefix("file://"))
    if not path.is_dir():
        siblings = (
            [str(path.with_name(each.name)) for each in path.parent.iterdir() if each.is_dir()]
            if path.parent.is_dir()
            else []
        )
        raise ConfigError(f"{option}: {folder}: no such folder{did_you_mean(str(path), siblings)}")


def _jobs(overrides: Sequence[Override]) -> Iterator[list[Override]]:
    """Every value of a sweep once, each with the first ones of the others."""
    variants = [_variants(each) for each in overrides]
    first = [each[0] for each in variants]
    yield first
    for place, others in enumerate(variants):
        for other in others[1:]:
            yield [*first[:place], other, *first[place + 1 :]]


def _variants(override: Override) -> list[Override]:
    if not override.is_sweep_override():
        return [override]
    value = override.value()
    if isinstance(value, IntervalSweep):
        texts = [str(value.start), str(value.end)]
    else:
        texts = list(itertools.islice(override.sweep_string_iterator(), 1000))
    prefix = str(override.input_line).partition("=")[0]
    return list(OverridesParser.create(override.config_loader).parse_overrides([f"{prefix}={text}" for text in texts]))


def _values(override: Override) -> list[Any]:
    """The values that a word gives a key: one, or those of a sweep."""
    return [each.value() for each in _variants(override)]


def _needs_multirun(override: Override, group: bool) -> str:
    word = str(override.input_line)
    key, _, value = word.partition("=")
    as_list = "" if group and key != "logger" else f"; for a list write {key}=[{value}]"
    return f"{word}: several values need --multirun{as_list}"


def _lay(plain: dict[str, Any], override: Override, problems: list[str]) -> None:
    """Lay one typed value over a config; whether the key exists is for ``check`` to say."""
    key, value, origin = override.key_or_group, override.value(), "from the command line"
    *parents, leaf = key.split(".")
    node: Any = plain
    for count, name in enumerate(parents):
        if isinstance(node, list):
            node = node[int(name)] if name.isdecimal() and int(name) < len(node) else None
        else:
            node = node.setdefault(name, {})
        if not isinstance(node, dict | list):
            above = ".".join(parents[: count + 1])
            problems.append(f"{key}: no such key ({origin}); {above} has no keys of its own")
            return
    if isinstance(node, list):
        if leaf.isdecimal() and int(leaf) < len(node):
            node[int(leaf)] = value
        else:
            problems.append(f"{key}: no such item ({origin}); {'.'.join(parents)} has {len(node)} of them")
    elif override.is_delete():
        if leaf in node:
            del node[leaf]
        else:
            problems.append(unknown_key(key, node, origin))
    elif override.is_add() and leaf in node and not isinstance(value, dict | list):
        problems.append(f"+{key}: is there already; write {str(override.input_line).lstrip('+')}")
    elif isinstance(value, dict) and isinstance(node.get(leaf), dict):
        node[leaf] = {**node[leaf], **value}
    else:
        node[leaf] = value


def _too_large(plain: Mapping[str, Any]) -> list[str]:
    """The line for an interpolation that grows without bound, or into itself.

    Each value is measured once, with what it refers to counted in, so the time is that of reading the config.
    """
    leaves = _leaves(plain, "")
    sizes: dict[str, float] = {}

    def size(key: str) -> float:
        if key in sizes:
            return sizes[key]
        sizes[key] = float("inf")  # met again inside itself
        if key not in leaves:
            below = [name for name in leaves if name.startswith(f"{key}.")]
            sizes[key] = sum(size(name) for name in below)
        else:
            text = str(leaves[key])
            references = re.findall(r"\$\{([^${}:]*)\}", text)
            sizes[key] = len(text) + sum(size(_absolute(key, reference)) for reference in references)
        return sizes[key]

    for key in leaves:
        try:
            if size(key) > MOST_CHARACTERS:
                reason = (
                    "refers to itself" if size(key) == float("inf") else f"grows beyond {MOST_CHARACTERS:,} characters"
                )
                return [f"{key}: {reason} through its interpolations"]
        except RecursionError:
            return [f"{key}: its interpolations are nested too deeply"]
    return []


def _absolute(key: str, reference: str) -> str:
    """``${..lr}`` in ``a.b.c`` is ``a.lr``."""
    reference = re.sub(r"\[([^\]]*)\]", r".\1", reference.strip())
    dots = len(reference) - len(reference.lstrip("."))
    if not dots:
        return reference
    base = key.split(".")[:-dots]
    return ".".join([*base, reference[dots:]]) if reference[dots:] else ".".join(base)


def _also(plain: Mapping[str, Any], origins: _Origins) -> tuple[str, ...]:
    """The mistakes that the check finds besides those that are known already."""
    try:
        settle(plain, origins)
    except ConfigError as error:
        return error.problems
    return ()


def _plain(config: Any, part: str | None = None) -> dict[str, Any]:
    """Plain containers, unresolved; without Hydra's own part, or that part alone."""
    if part is not None:
        plain = OmegaConf.to_container(config[part], resolve=False, throw_on_missing=False)
    else:
        plain = OmegaConf.to_container(
            OmegaConf.masked_copy(config, [key for key in config if key != "hydra"]),
            resolve=False,
            throw_on_missing=False,
        )
    assert isinstance(plain, dict)
    return {str(key): value for key, value in plain.items()}


def _leaves(node: Any, path: str) -> dict[str, Any]:
    """Every value of nested containers by its dotted key."""
    items = node.items() if isinstance(node, Mapping) else enumerate(node) if isinstance(node, list) else None
    if items is None:
        return {path: node}
    found: dict[str, Any] = {}
    for key, value in items:
        found |= _leaves(value, f"{path}.{key}" if path else str(key))
    return found


def _find(plain: Mapping[str, Any], key: str) -> bool:
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


def _sets(words: Iterable[str], key: str) -> bool:
    return any(word.partition("=")[0].lstrip("+") == key for word in words)


def _first_line(message: object) -> str:
    """The first line that says something."""
    lines = [line.strip() for line in str(message).splitlines() if line.strip()]
    return lines[0] if lines else type(message).__name__
