"""The configuration: its typed settings, and the check that every key, type and range is right. No torch.

Only this module and ``cli`` know Hydra and OmegaConf. What passes the check is a frozen ``Settings``.
"""

from __future__ import annotations

import dataclasses
import difflib
import importlib
import re
import traceback
import types
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt, Le, Len, Lt

from trainer.registry import Registry

# The vocabulary of types for keys; a component may use any type that pydantic knows.
PositiveInt = Annotated[int, Ge(1)]
NonNegativeInt = Annotated[int, Ge(0)]
PositiveFloat = Annotated[float, Gt(0), Lt(float("inf"))]
NonNegativeFloat = Annotated[float, Ge(0), Lt(float("inf"))]
Fraction = Annotated[float, Ge(0), Lt(1)]
UnitInterval = Annotated[float, Ge(0), Le(1)]
Betas = Annotated[list[Fraction], Len(2, 2)]

GROUPS = ("model", "dataset", "loss", "optimizer", "scheduler", "device", "logger")
Component = dict[str, Any]


class ConfigError(Exception):
    """The command or the config is wrong: one line for each mistake."""

    def __init__(self, *problems: str) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class RunError(Exception):
    """A run cannot start or go on, though its config is right: damaged data, a full disk, a loss that is not finite.

    One line that says what to do.
    """


@dataclass(frozen=True)
class CheckpointSettings:
    """The keys under ``checkpoint``; their meaning stands in configs/train.yaml."""

    every_steps: PositiveInt | None
    keep: PositiveInt


@dataclass(frozen=True)
class Settings:
    """A whole checked config. The meaning and default of each key stand in configs/train.yaml."""

    seed: Annotated[int, Ge(0), Lt(2**63)]
    epochs: PositiveInt
    max_steps: PositiveInt | None
    batch_size: PositiveInt
    accumulate: PositiveInt
    precision: Literal["auto", "fp32", "bf16", "fp16"]
    compile: bool
    clip_norm: PositiveFloat | None
    ema: Annotated[float, Gt(0), Lt(1)] | None
    deterministic: bool
    metrics: list[str] | None
    monitor: str | None
    patience: PositiveInt | None
    log_every: PositiveInt
    limit_batches: PositiveInt | None
    overfit_batches: PositiveInt | None
    dry_run: bool
    run_dir: str
    checkpoint: CheckpointSettings
    model: Component
    dataset: Component
    loss: Component
    optimizer: Component
    scheduler: Component
    device: Component
    logger: dict[str, Component]

    def to_dict(self) -> dict[str, Any]:
        """Plain containers, as in config.yaml."""
        return dataclasses.asdict(self)

    def replace(self, **changes: Any) -> Settings:
        """The same with some keys changed."""
        return dataclasses.replace(self, **changes)


def check(config: Mapping[str, Any], typed: Iterable[str] = ()) -> Settings:
    """Turn a composed, resolved config into ``Settings``.

    Args:
        config: plain containers.
        typed: the keys that were given on the command line, to say so in a message.

    Raises:
        ConfigError: with every mistake found, one line each.
    """
    problems: list[str] = []
    typed = set(typed)
    hints = typing.get_type_hints(Settings, include_extras=True)
    values = _check_keys(config, hints, "", typed, problems)
    for group in GROUPS:
        if isinstance(values.get(group), dict):
            values[group] = _check_group(group, values[group], typed, problems)
    if problems:
        raise ConfigError(*problems)
    if values["accumulate"] > values["batch_size"]:
        line = f"accumulate: must be at most batch_size, {values['batch_size']}, got {values['accumulate']}"
        raise ConfigError(line)
    return Settings(**{**values, "checkpoint": CheckpointSettings(**values["checkpoint"])})


def registry(group: str) -> Registry:
    """The registry of a group; needs no torch."""
    module = importlib.import_module(f"trainer.{group}")
    return next(value for value in vars(module).values() if isinstance(value, Registry))


def did_you_mean(word: str, known: Iterable[str], prefix: str = "") -> str:
    """``; did you mean optimizer.lr?`` where something known is near, else nothing."""
    near = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f"; did you mean {prefix}{near[0]}?" if near else ""


def unknown_key(key: str, known: Iterable[str], origin: str = "", hint: str | None = None) -> str:
    """The line for a key that does not exist; ``hint`` stands for the nearest one where it is known better."""
    parent, _, leaf = key.rpartition(".")
    known = [str(name) for name in known if name not in ("name", "hydra")]
    near = hint or did_you_mean(leaf, known, f"{parent}." if parent else "")
    return f"{key}: no such key{origin}{near or ';'} keys: {', '.join(known) or 'none'}"


def unknown_option(group: str, name: str, options: Iterable[str]) -> str:
    """The line for an option that a group does not have."""
    options = list(options)
    return f"{group}={name}: no such option{did_you_mean(name, options) or ';'} options: {', '.join(options)}"


def _check_group(group: str, config: dict[str, Any], typed: set[str], problems: list[str]) -> dict[str, Any]:
    """Check a group's keys against the signature of its component; the logger group holds several of them."""
    if group == "logger":
        return {
            name: _check_component(group, {"name": name, **(keys or {})}, f"logger.{name}", typed, problems)
            for name, keys in config.items()
        }
    return _check_component(group, config, group, typed, problems)


def _check_component(
    group: str, config: dict[str, Any], path: str, typed: set[str], problems: list[str]
) -> dict[str, Any]:
    name = config.get("name")
    components = registry(group)
    if name not in components.names():
        problems.append(unknown_option(group, str(name), components.names()))
        return config
    try:
        keys = {"name": str, **components.keys(str(name))}
    except Exception as error:  # whatever a component's file does when it is imported
        last = traceback.extract_tb(error.__traceback__)[-1]
        place = f"{last.filename}, line {last.lineno}"
        problems.append(f"{group}={name}: cannot be loaded: {type(error).__name__}: {error} ({place})")
        return config
    return _check_keys(config, keys, path, typed, problems)


def _check_keys(
    config: Mapping[str, Any], types_of: Mapping[str, Any], path: str, typed: set[str], problems: list[str]
) -> dict[str, Any]:
    """Check the keys at ``path``; returns the values, converted where that loses nothing (1 -> 1.0)."""
    values = {}
    for key in [*config, *(key for key in types_of if key not in config)]:
        full = f"{path}.{key}" if path else str(key)
        origin = " (from the command line)" if full in typed else ""
        if key not in types_of:
            problems.append(unknown_key(full, types_of, origin))
        elif key not in config:
            wanted = f"options: {', '.join(registry(key).names())}" if full in GROUPS else describe(types_of[key])
            problems.append(f"{full}: missing; {wanted}")
        elif nested := _nested_keys(types_of[key]):
            if isinstance(config[key], Mapping):
                values[key] = _check_keys(config[key], nested, full, typed, problems)
            else:
                problems.append(f"{full}: must be a mapping, got {config[key]!r}{origin}")
        else:
            try:
                values[key] = _convert(types_of[key], config[key])
            except ValueError:
                problems.append(f"{full}: must be {describe(types_of[key])}, got {_shown(config[key])}{origin}")
    return values


def _nested_keys(annotation: Any) -> dict[str, Any]:
    """The keys of a dataclass or TypedDict; nothing for other types."""
    if dataclasses.is_dataclass(annotation) or typing.is_typeddict(annotation):
        return typing.get_type_hints(annotation, include_extras=True)
    return {}


def _convert(annotation: Any, value: Any) -> Any:
    """``value`` as ``annotation`` wants it.

    Raises:
        ValueError: it is of another type or out of range.
    """
    from pydantic import TypeAdapter  # 0.1 s, so only once there is a config to check

    return TypeAdapter(annotation).validate_python(value, strict=True)


def _shown(value: Any) -> str:
    return "null" if value is None else repr(value)


_NAMES = {int: "a whole number", float: "a number", str: "a text", bool: "true or false", type(None): "null"}
_BOUNDS = {Ge: ("ge", "at least"), Gt: ("gt", "greater than"), Le: ("le", "at most"), Lt: ("lt", "less than")}


def describe(annotation: Any) -> str:
    """A type in words: ``a number, at least 0 and less than 1, or null``."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Annotated:
        bounds = [
            f"{_BOUNDS[type(bound)][1]} {getattr(bound, _BOUNDS[type(bound)][0])}"
            for bound in arguments[1:]
            if type(bound) in _BOUNDS
        ]
        lengths = [bound for bound in arguments[1:] if isinstance(bound, Len)]
        bounds += [
            f"{'' if length.max_length == length.min_length else 'at least '}{length.min_length} of them"
            for length in lengths
        ]
        limits = " and ".join(bounds).replace("less than inf", "finite")
        return f"{describe(arguments[0])}, {limits}" if limits else describe(arguments[0])
    if origin in (typing.Union, types.UnionType):
        return ", or ".join(describe(argument) for argument in arguments)
    if origin is Literal:
        return "one of " + ", ".join(map(str, arguments))
    if origin is list:
        return f"a list, each item {describe(arguments[0])}"
    return _NAMES.get(annotation, getattr(annotation, "__name__", str(annotation)))


def from_hydra(config: Any, overrides: Iterable[str]) -> tuple[Settings, set[str]]:
    """Resolve and check what Hydra composed.

    Args:
        config: the DictConfig.
        overrides: the words of the command line.

    Returns:
        the settings, and the keys that were typed.

    Raises:
        ConfigError: with every mistake found, one line each.
    """
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    typed = {word.partition("=")[0].lstrip("+~") for word in overrides}
    nameless = [group for group in GROUPS if group != "logger" and "name" not in (config.get(group) or {"name": None})]
    if nameless:
        raise ConfigError(*(f"{group}.name: missing; the YAML says which component it is for" for group in nameless))
    try:
        plain = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        raise compose_error(error) from error
    assert isinstance(plain, dict)
    return check({str(key): value for key, value in plain.items()}, typed), typed


def compose_error(error: Exception) -> ConfigError:
    """What Hydra or OmegaConf has to say, in our words: one line with the key and the nearest right one."""
    from hydra.errors import MissingConfigException, OverrideParseException
    from omegaconf.errors import OmegaConfBaseException
    from yaml import MarkedYAMLError

    if isinstance(error, MarkedYAMLError) and error.problem_mark is not None:
        mark = error.problem_mark
        return ConfigError(f"{mark.name}, line {mark.line + 1}: no YAML: {error.problem}")
    if isinstance(error, MissingConfigException) and error.options:
        group, _, name = (error.missing_cfg_file or "").rpartition("/")
        return ConfigError(unknown_option(group, name, error.options))
    if isinstance(error, OverrideParseException):
        return ConfigError(f"{error.override}: cannot be read; write key=value, and quote what the shell may change")
    cause = error.__cause__ if isinstance(error.__cause__, OmegaConfBaseException) else error
    key = getattr(cause, "full_key", None)
    if isinstance(cause, OmegaConfBaseException) and key:
        parent: Any = cause.parent_node
        known = [str(name) for name in parent] if isinstance(parent, Mapping) else []
        if known and str(cause.key) not in known:
            below = [name for name in known if name in GROUPS and str(cause.key) in (parent[name] or {})]
            hint = f"; did you mean {below[0]}.{cause.key}?" if below and "." not in key else None
            return ConfigError(unknown_key(key, known, " (from the command line)", hint))
        return ConfigError(f"{key}: {_first_line(cause.msg or cause)}")
    ambiguous = re.match(r"Ambiguous value for argument '(.+?)'", str(error))
    if ambiguous:
        word = ambiguous.group(1)
        group, _, options = word.partition("=")
        return ConfigError(f"{word}: several values need --multirun; for a list write {group}=[{options}]")
    return ConfigError(_first_line(error))


def _first_line(message: object) -> str:
    """The first line that says something, without Hydra's advice to add the key with ``+``."""
    lines = [line.strip() for line in str(message).splitlines() if line.strip()]
    return lines[0] if lines else type(message).__name__
