"""Compose the YAML files that a command chooses, with Hydra. No torch."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra import version
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_repository import IConfigRepository
from hydra._internal.core_plugins.file_config_source import FileConfigSource
from hydra._internal.sources_registry import SourcesRegistry
from hydra._internal.utils import create_config_search_path
from hydra.core.config_search_path import SearchPathQuery
from hydra.core.config_store import ConfigStore
from hydra.core.default_element import ResultDefault
from hydra.core.override_parser.types import Override
from hydra.core.plugins import Plugins
from hydra.core.utils import setup_globals
from hydra.errors import HydraException
from hydra.plugins.config_source import ConfigResult
from hydra.types import RunMode
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from trainer.compose.overrides import lay, parse, variants
from trainer.compose.read_word import in_grammar
from trainer.compose.safety import check_folder, compose_error, plain_config
from trainer.config import GROUPS, ConfigError, yaml_file
from trainer.config.messages import did_you_mean, how_to_install, unknown_option
from trainer.config.search_keys import SearchKeys
from trainer.config.yaml_file import config_dir, shown

# The exceptions that Hydra and OmegaConf raise for a faulty config.
FAULTS = (HydraException, OmegaConfBaseException, ValueError, TypeError, AttributeError, RecursionError)
SEARCHPATH = "hydra.searchpath"
PRESET_KEYS = ("group_by", "shape", "val_fraction")  # keys of a data set on which its preset depends
# The values of ``hydra.sweeper._target_`` for this package's sweepers; Hydra never instantiates them.
GRID, SEARCH = "trainer.sweep.GridSweeper", "trainer.sweep.OptunaSweeper"


class FileError(ConfigError):
    """The YAML files that a command chooses cannot be composed."""


@dataclasses.dataclass
class FilesRead:
    """Information about the YAML files of one composition, collected while they are read.

    Args:
        foreign: whether a file outside this package's ``configs`` was read.
        refused: one line for each refused part of such a file.
        files: the composed files as pairs of package and path; later files override earlier ones. The package, such as
            ``model``, is the dotted prefix of the file's keys.
        plain: the composed config as plain containers, without the part ``hydra``.
    """

    foreign: bool = False
    refused: list[str] = dataclasses.field(default_factory=list)
    files: list[tuple[str, Path]] = dataclasses.field(default_factory=list)
    plain: dict[str, Any] = dataclasses.field(default_factory=dict)

    def origin(self, key: str, typed: Iterable[str]) -> str:
        """Return where the value of a key comes from: a file and line, the command line, or both; or an empty string.

        Args:
            key: a dotted key.
            typed: the keys on the command line.
        """
        places = (
            (shown(path), line)
            for package, path in reversed(self.files)
            if not package or f"{key}.".startswith(f"{package}.")
            if (line := yaml_file.read(path).lines.get(key.removeprefix(package).removeprefix("."))) is not None
        )
        file, line = next(places, ("", 0))
        if any(f"{key}.".startswith(f"{word}.") or word.startswith(f"{key}.") for word in typed):
            return f"{file}, overridden on the command line" if file else "from the command line"
        if file:
            return f"{file}, line {line}"
        return next((shown(path) for package, path in reversed(self.files) if package == key), "")


class RecordingLoader(ConfigLoaderImpl):
    """Hydra's config loader, which also keeps the defaults list of the last composition in ``defaults``."""

    defaults: Sequence[ResultDefault] = ()

    def _compose_config_from_defaults_list(self, defaults: list[ResultDefault], repo: IConfigRepository) -> DictConfig:
        self.defaults = defaults
        return super()._compose_config_from_defaults_list(defaults, repo)


class CheckedSource(FileConfigSource):
    """Hydra's config source for files, with a check that a file contains only data."""

    owner: Composer

    def load_config(self, config_path: str) -> ConfigResult:
        """Read a file such as ``model/cnn``; add its refused parts to ``files_read`` of the owner.

        Raises:
            ConfigError: the file is not valid YAML, or sets ``hydra.searchpath``.
        """
        path = Path(self.path) / self._normalize_file_name(config_path)
        if path.is_file():
            found = yaml_file.read(path)
            if not path.resolve().is_relative_to(config_dir()):
                self.owner.files_read.foreign = True
                self.owner.files_read.refused += found.refused
                searchpath = [key for key in found.lines if key.rpartition(".")[2] == "searchpath"]
                if searchpath:
                    place = f"{shown(path)}, line {found.lines[searchpath[0]]}"
                    raise ConfigError(f"{searchpath[0]}: a file cannot set it ({place}); write it on the command line")
            elif found.refused:
                raise AssertionError(found.refused)
        return super().load_config(config_path)


class Composer:
    """Compose the YAML files that the words (overrides) of a command choose; results are cached.

    Args:
        extra_dir: a folder of YAML files in addition to the main folder (``--config-dir``).
        main_dir: the main folder instead of this package's (``--config-path``).
        main_name: the main file instead of ``train`` (``--config-name``).

    Raises:
        ConfigError: a folder or the file does not exist.
    """

    def __init__(self, extra_dir: str | None = None, main_dir: str | None = None, main_name: str | None = None) -> None:
        for option, folder in (("--config-dir", extra_dir), ("--config-path", main_dir)):
            check_folder(option, folder)
        Plugins.instance()  # registers Hydra's config sources
        _store_sweepers()
        setup_globals()
        version.setbase("1.3")  # launched jobs stay in the working directory
        self.extra_dir = extra_dir
        self.search_path = search_path = create_config_search_path(
            str(Path(main_dir).absolute() if main_dir else config_dir())
        )
        if extra_dir is not None:
            anchor = SearchPathQuery(provider="schema")
            search_path.prepend("command-line", f"file://{Path(extra_dir).absolute()}", anchor)
        self.name = main_name or "train"
        if extra_dir is not None and main_name is None:
            _check_layout(Path(extra_dir))
        with _checked_sources(self):
            self.loader = RecordingLoader(search_path)
        self.files_read = FilesRead()
        self.folders: list[Path] = []  # the folders in hydra.searchpath
        self._composed: dict[tuple[str, ...], tuple[Any, FilesRead]] = {}
        if self.file(self.name) is None:
            names = [name for name in self.loader.get_group_options("") if not name.startswith("_")]
            near = did_you_mean(self.name, names) or ";"
            raise ConfigError(f"--config-name: {self.name}: no such file{near} files: {', '.join(names)}")

    def for_hydra(self, words: Sequence[str]) -> list[str]:
        """Return checked words as Hydra accepts them.

        A key that is in a component's signature but in no YAML file gets the prefix ``++``. A group without an
        option (``experiment=null``) is omitted.
        """
        overrides = list(parse(words, self.loader, []))
        choices = self.choices(overrides)
        _, files = self.compose_files(choices)
        found = [word for word in choices if word.startswith("preset=") and word not in words]
        for each in overrides:
            word = in_grammar(each)
            if not self.is_group(each):
                known_to_hydra = word[0] in "+~" or each.is_hydra_override() or has_key(files.plain, each.key_or_group)
                found.append(word if known_to_hydra else f"++{word}")
            elif each.value() is not None:
                found.append(word)
        return found

    def composed(self, words: Sequence[str]) -> dict[str, Any]:
        """Return the config of checked words as plain containers, with unresolved interpolations."""
        overrides = [variants(each)[0] for each in parse(words, self.loader, [])]
        _, files = self.compose_files(self.choices(overrides))
        plain = copy.deepcopy(files.plain)
        for each in overrides:
            if not self.is_group(each) and not each.is_hydra_override():
                lay(plain, each, [])
        return plain

    def has(self, package: str, words: Sequence[str]) -> bool:
        """Return whether ``--package`` may name ``package``: a key of the composed config, or any part of Hydra's."""
        return package in ("_global_", "") or package.startswith("hydra") or has_key(self.composed(words), package)

    def choices(self, overrides: Iterable[Override]) -> list[str]:
        """Return the words that choose options or add folders; for a sweep over options, choose the first option."""
        typed = {each.key_or_group: variants(each)[0] for each in overrides}
        chosen = [each for key, each in typed.items() if self.is_group(each) or key == SEARCHPATH]
        words = [in_grammar(each) for each in chosen if each.value() is not None]
        return [*words, *self._other_preset(words, typed)]

    def _other_preset(self, words: Sequence[str], typed: Mapping[str, Override]) -> list[str]:
        """Return the word for another preset if the keys of the data set do not suit the one that it chooses.

        Args:
            words: the words that choose options or add folders.
            typed: all overrides by key.
        """
        if "preset" in typed or not any(key.startswith("dataset") or key == "experiment" for key in typed):
            return []
        _, files = self.compose_files(words)
        if not any(file.parent.name == "preset" and file.stem == "table" for _, file in files.files):
            return []
        values = {key: typed[f"dataset.{key}"].value() for key in PRESET_KEYS if f"dataset.{key}" in typed}
        values = {**files.plain["dataset"], **values}
        if values.get("group_by") is not None or values.get("shape") is not None:  # no table, but sequences or pictures
            return ["preset=none"]
        return ["preset=table_without_val"] if values.get("val_fraction") == 0 else []

    def options(self, group: str) -> list[str]:
        """Return the options of a group, including those in the user's folders."""
        more = {file.stem for folder in self.folders for file in (folder / group).glob("*.yaml")}
        return sorted({*self.loader.repository.get_group_options(group), *more})

    def file(self, config_path: str) -> Path | None:
        """Return the YAML file of a config path such as ``model/cnn``, or None if there is no such file."""
        sources = [str(source.path) for source in self.loader.get_sources() if isinstance(source, FileConfigSource)]
        files = [Path(str(folder)) / f"{config_path}.yaml" for folder in [*sources, *self.folders]]
        return next((file for file in files if file.is_file()), None)

    def is_group(self, override: Override) -> bool:
        """Return whether an override chooses an option of a group."""
        key = override.key_or_group
        return key != "" and "." not in key and self.loader.repository.group_exists(key)

    def compose_files(self, words: Sequence[str]) -> tuple[Any, FilesRead]:
        """Compose the YAML files that ``words`` choose, without the values typed for single keys.

        Args:
            words: the result of ``choices``.

        Returns:
            the DictConfig, and the information collected while the files were read.

        Raises:
            FileError: Hydra cannot compose the files.
        """
        key = tuple(words)
        if key not in self._composed:
            self.files_read = FilesRead()
            try:
                with _checked_sources(self):
                    config = self.loader.load_configuration(self.name, list(words), RunMode.RUN)
                found = [(each.package or "", self.file(each.config_path or "")) for each in self.loader.defaults]
                self.files_read.files = [(package, file) for package, file in found if file is not None]
                self.files_read.plain = plain_config(config)
            except ConfigError as error:
                raise FileError(*error.problems) from error
            except FAULTS as error:
                raise FileError(*(self.files_read.refused or [self._in_file(error, words)])) from error
            self._composed[key] = config, self.files_read
        return self._composed[key]

    def _in_file(self, error: Exception, words: Sequence[str]) -> str:
        """Return the message of an exception from Hydra as one line, which names the faulty file if it is known."""
        options = getattr(error, "options", None)
        if options:
            group, _, name = (getattr(error, "missing_cfg_file", None) or "").rpartition("/")
            line = unknown_option(group, name, options, self._chosen_in(group, words))
            return f"{line}; of a plugin? name its file: 'plugins=[FILE.py]'" if group in GROUPS else line
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
        """Return the file and line of the defaults list entry that chooses an option of a group, or an empty string."""
        place, pattern = "", rf"defaults\.\d+\.(override )?/?{re.escape(group)}"
        for file in (self.file(word.replace("=", "/")) for word in [self.name, *words]):
            lines = yaml_file.read(file).lines if file is not None else {}
            for key, line in lines.items():
                if file is not None and re.fullmatch(pattern, key):
                    place = f"{shown(file)}, line {line}"
        return place


@contextlib.contextmanager
def _checked_sources(owner: Composer) -> Iterator[None]:
    """Provide a context in which Hydra reads files through ``CheckedSource``, and ``owner`` collects the results."""
    types = SourcesRegistry.instance().types
    before = types["file"]
    types["file"] = type("CheckedSource", (CheckedSource,), {"owner": owner})
    try:
        yield
    finally:
        types["file"] = before


def _store_sweepers() -> None:
    """Store the configs of this package's sweepers in Hydra's ``ConfigStore``; ``basic`` replaces Hydra's sweeper."""
    keys: dict[str, dict[str, Any]] = {GRID: {"max_batch_size": None}, SEARCH: dataclasses.asdict(SearchKeys())}
    for name, target in (("basic", GRID), ("optuna", SEARCH)):
        node = {"_target_": target, **keys[target], "params": None}
        ConfigStore.instance().store(group="hydra/sweeper", name=name, node=node, provider="trainer")


def _check_layout(folder: Path) -> None:
    """Raise ConfigError if a config folder has no subfolder for any group, so that none of its files can be chosen."""
    groups = (*GROUPS, "experiment", "hydra")
    if not any((folder / group).is_dir() for group in groups):
        above = folder.absolute().name in groups
        near = f"; did you mean {folder.parent}?" if above else ";"
        raise ConfigError(f"--config-dir: {folder}: holds no folder of a group{near} groups: {', '.join(groups[:-1])}")


def has_key(plain: Mapping[str, Any], key: str) -> bool:
    """Return whether a config has a key, such as ``optimizer.lr`` or ``metrics.0``."""
    node: Any = plain
    for name in key.split("."):
        if isinstance(node, list) and name.isdecimal() and int(name) < len(node):
            node = node[int(name)]
        elif isinstance(node, Mapping) and name in node:
            node = node[name]
        else:
            return False
    return True
