"""Refuse configs that name code, read forbidden environment variables, grow without bound, or change Hydra itself.

``composer.CheckedSource`` checks a file before Hydra reads it.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.utils import create_config_search_path
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from trainer.compose.overrides import TYPED
from trainer.config import ConfigError, PositiveInt
from trainer.config.check import fits
from trainer.config.messages import describe, did_you_mean, from_where
from trainer.config.search_keys import SearchKeys
from trainer.config.signature import keys_in
from trainer.config.unknown_keys import unknown_key
from trainer.config.yaml_file import config_dir

MAX_CHARACTERS = 10_000  # largest length of a value after its interpolations are expanded

# The keys under ``hydra`` that the command line may set; HYDRA_KEYS_IN_FILES are those that a file may set.
HYDRA_KEYS = ("sweep.dir", "sweep.subdir", "sweeper", "launcher", "job.name", "mode", "verbose", "searchpath")
HYDRA_TYPES: dict[str, Any] = {
    **dict.fromkeys(("sweep.dir", "sweep.subdir", "job.name", "mode"), str),
    "sweeper.max_batch_size": PositiveInt | None,
    "verbose": bool | str | list[str],
    **{f"sweeper.{name}": key.annotation for name, key in keys_in(SearchKeys).items()},
    "sweeper": Literal["hydra/sweeper=…"],
    "launcher": Literal["hydra/launcher=…"],
}
HYDRA_GROUPS = ("hydra/launcher", "hydra/sweeper")
# Not storage and study_name, which choose where a study is written. A _target_ comes from the options of Hydra and of
# installed packages, because yaml_file refuses it in a file.
HYDRA_KEYS_IN_FILES = (
    *("sweep.dir", "sweep.subdir", "job.name", "mode", "verbose", "sweeper.max_batch_size", "sweeper.params"),
    *(f"sweeper.{key}" for key in keys_in(SearchKeys) if key not in ("storage", "study_name")),
    *("launcher._target_", "sweeper._target_"),
)
NOTED_BY_HYDRA = ("searchpath", "runtime.", "overrides.", "job.override_dirname", "job.config_name")
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


def is_data(key: str) -> bool:
    """Return whether a file may set a key under ``hydra``, such as ``hydra.sweeper.n_trials``."""
    local = key.removeprefix("hydra.")
    return key in HYDRA_GROUPS or any(f"{local}.".startswith(f"{allowed}.") for allowed in HYDRA_KEYS_IN_FILES)


def set_hydra_key(config: Any, override: Override) -> list[str]:
    """Set the value of an override ``hydra.…=…`` in a composed config, or return the mistakes in the override."""
    key = override.key_or_group
    if key == "hydra.searchpath":
        return []
    for refused, reason in REFUSED.items():
        if f"{key}.".startswith(f"{refused}."):
            return [f"{key}: {reason} ({TYPED})"]
    local = key.removeprefix("hydra.")
    if not any(f"{local}.".startswith(f"{allowed}.") for allowed in HYDRA_KEYS):
        known = [f"hydra.{allowed}" for allowed in HYDRA_KEYS]
        return [f"{key}: no such key ({TYPED}){did_you_mean(key, known) or ';'} keys: {', '.join(known)}"]
    if override.is_delete():
        return [f"{key}: cannot be taken away ({TYPED})"]
    if local.startswith("sweeper.params"):
        return [f"{key}: values to sweep over are typed as they are, {key.removeprefix('hydra.sweeper.params.')}=1,2"]
    if local in HYDRA_TYPES and not fits(HYDRA_TYPES[local], override.value()):
        return [f"{key}: must be {describe(HYDRA_TYPES[local])}, got {override.value()!r} ({TYPED})"]
    try:
        OmegaConf.update(config, key, override.value())
    except (OmegaConfBaseException, ValueError) as error:
        parent, _, leaf = key.rpartition(".")
        node = OmegaConf.select(config, parent)
        if local.removeprefix("sweeper.") in keys_in(SearchKeys):
            return [f"{key}: is a key of a search ({TYPED}); add hydra/sweeper=optuna"]
        if isinstance(node, Mapping) and leaf not in node:
            return [unknown_key(key, [str(name) for name in node if name != "_target_"], TYPED)]
        return [f"{key}: {first_line(error)} ({TYPED})"]
    return []


def hydra_keys_in_files(config: Any, origin: Callable[[str], str]) -> list[str]:
    """Return one line for each key under ``hydra`` that a user's file sets although a file must not set it."""
    choices = OmegaConf.to_container(config.hydra.runtime.choices)
    assert isinstance(choices, dict)
    words = tuple(f"{group}={choices[group]}" for group in HYDRA_GROUPS)
    try:
        ours = _without_files(words)
    except (HydraException, OmegaConfBaseException):
        return [f"{' '.join(words)}: only what Hydra and installed packages bring is taken, not a file"]
    now = leaves(plain_config(config, "hydra"), "hydra")
    problems: dict[str, str] = {}
    for key, value in now.items():
        allowed = is_data(key) or key.removeprefix("hydra.").startswith(NOTED_BY_HYDRA)
        if (key not in ours or ours[key] != value) and not allowed:
            top = ".".join(key.split(".")[:2])
            line = f"{top}: a file cannot set it{from_where(origin(key))}"
            names = ", ".join(f"hydra.{name}" for name in HYDRA_KEYS_IN_FILES if "_target_" not in name)
            problems[top] = f"{line}; of Hydra's keys a file sets only {names}"
    return list(problems.values())


@functools.cache
def _without_files(words: tuple[str, ...]) -> dict[str, Any]:
    """Return the part ``hydra`` of the config without the user's files. Cached, as each job of a sweep needs it."""
    loader = ConfigLoaderImpl(create_config_search_path(str(config_dir())))
    return leaves(plain_config(loader.load_configuration("train", list(words), RunMode.RUN), "hydra"), "hydra")


def check_folder(option: str, folder: str | None) -> None:
    """Raise ConfigError unless ``folder`` is None or an existing folder; Hydra would import a package (``pkg://``)."""
    if folder is None:
        return
    if "://" in folder and not folder.startswith("file://"):
        raise ConfigError(f"{option}: {folder} is code, and a config is data; name a folder")
    path = Path(folder.removeprefix("file://"))
    if not path.is_dir():
        above = path.parent.iterdir() if path.parent.is_dir() else ()
        siblings = [str(path.with_name(each.name)) for each in above if each.is_dir()]
        raise ConfigError(f"{option}: {folder}: no such folder{did_you_mean(str(path), siblings)}")


def too_large(plain: Mapping[str, Any]) -> list[str]:
    """Return one line for the first value whose interpolations expand too far or refer to itself, or an empty list.

    Each value is measured only once, so that nested references do not make the time grow exponentially.
    """
    texts = leaves(plain)
    sizes: dict[str, float] = {}

    def size(key: str) -> float:
        if key in sizes:
            return sizes[key]
        sizes[key] = float("inf")  # the recursion meets this size if the value refers to itself
        if key not in texts:
            below = [name for name in texts if name.startswith(f"{key}.")]
            sizes[key] = sum(size(name) for name in below)
        else:
            text = str(texts[key])
            references = re.findall(r"\$\{([^${}:]*)\}", text)
            sizes[key] = len(text) + sum(size(_absolute(key, reference)) for reference in references)
        return sizes[key]

    for key in texts:
        try:
            if size(key) > MAX_CHARACTERS:
                endless = size(key) == float("inf")
                reason = "refers to itself" if endless else f"grows beyond {MAX_CHARACTERS:,} characters"
                return [f"{key}: {reason} through its interpolations"]
        except RecursionError:
            return [f"{key}: its interpolations are nested too deeply"]
    return []


def _absolute(key: str, reference: str) -> str:
    """Return the absolute key of an interpolation's reference: ``${..lr}`` in ``a.b.c`` refers to ``a.lr``."""
    reference = re.sub(r"\[([^\]]*)\]", r".\1", reference.strip())
    dots = len(reference) - len(reference.lstrip("."))
    if not dots:
        return reference
    base = key.split(".")[:-dots]
    return ".".join([*base, reference[dots:]]) if reference[dots:] else ".".join(base)


def compose_error(error: Exception) -> ConfigError:
    """Convert an exception of Hydra or OmegaConf to a ConfigError with a message of one line."""
    if isinstance(error, ConfigError):
        return error
    cause = error.__cause__ if isinstance(error.__cause__, OmegaConfBaseException) else error
    key = getattr(cause, "full_key", None)
    if isinstance(cause, OmegaConfBaseException) and key:
        return ConfigError(f"{key}: {first_line(cause.msg or cause)}")
    if isinstance(error, OSError) and error.filename:
        return ConfigError(f"{error.filename}: {error.strerror}")
    if isinstance(error, RecursionError):
        return ConfigError("a config is nested too deeply, or refers to itself")
    return ConfigError(first_line(error))


def plain_config(config: Any, part: str | None = None) -> dict[str, Any]:
    """Return ``part`` of a config, or all except ``hydra``, as plain containers with unresolved interpolations."""
    chosen = config[part] if part else OmegaConf.masked_copy(config, [key for key in config if key != "hydra"])
    plain = OmegaConf.to_container(chosen, resolve=False, throw_on_missing=False)
    assert isinstance(plain, dict)
    if part is None:
        plain.setdefault("logger", {})  # ``logger=[]`` leaves out the key
    return {str(key): value for key, value in plain.items()}


def leaves(node: Any, path: str = "") -> dict[str, Any]:
    """Flatten nested containers: map each dotted key to its value."""
    items = node.items() if isinstance(node, Mapping) else enumerate(node) if isinstance(node, list) else None
    if items is None:
        return {path: node}
    found: dict[str, Any] = {}
    for key, value in items:
        found |= leaves(value, f"{path}.{key}" if path else str(key))
    return found


def first_line(message: object) -> str:
    """Return the first non-empty line of a message, or the name of its class if all lines are empty."""
    lines = [line.strip() for line in str(message).splitlines() if line.strip()]
    return lines[0] if lines else type(message).__name__
