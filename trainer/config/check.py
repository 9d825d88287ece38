"""Check a composed config: every key, type and range. No torch, no Hydra."""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from inspect import Parameter
from typing import Any

import msgspec

from trainer.config.errors import ConfigError
from trainer.config.messages import (
    KEYS_ELSEWHERE,
    describe,
    from_where,
    nearest,
    shown_value,
    unknown_key,
    unknown_option,
)
from trainer.config.registry import LoadError, Registry, registry
from trainer.config.settings import GROUPS, Settings
from trainer.config.signature import keys_in
from trainer.config.types import LARGEST


def check(
    config: Mapping[str, Any], origin: Callable[[str], str] = lambda key: "", *, partial: bool = False
) -> Settings:
    """Turn a composed, resolved config into ``Settings``.

    Args:
        config: plain containers.
        origin: from a full key to where its value comes from, for a message.
        partial: a component's keys may be missing, as for a help text.

    Raises:
        ConfigError: with every mistake found, one line each.
    """
    problems: list[str] = []
    values = _check_keys(config, keys_in(Settings), "", origin, problems)
    found: list[str] = []
    for group in GROUPS:
        if isinstance(values.get(group), dict):
            values[group] = _check_group(group, values[group], origin, found)
    problems += [line for line in found if not (partial and ": missing; " in line)]
    accumulate, batch_size = values.get("accumulate"), values.get("batch_size")
    if isinstance(accumulate, int) and isinstance(batch_size, int) and 0 < batch_size < accumulate:
        line = f"accumulate: must be at most batch_size, {batch_size}, got {accumulate}"
        problems.append(line + from_where(origin("accumulate")))
    if problems:
        raise ConfigError(*problems)
    return Settings(**values)


def check_values(values: Mapping[str, Any], kind: Any, path: str) -> dict[str, Any]:
    """Check the keys at ``path`` against those of a dataclass or TypedDict; returns their values.

    Raises:
        ConfigError: with every mistake found, one line each.
    """
    problems: list[str] = []
    checked = _check_keys(values, keys_in(kind), path, lambda _: "", problems)
    if problems:
        raise ConfigError(*problems)
    return checked


def _check_group(
    group: str, config: dict[str, Any], origin: Callable[[str], str], problems: list[str]
) -> dict[str, Any]:
    """Check a group's keys against the signature of its component; the logger group holds several of them."""
    if group != "logger":
        return _check_component(group, config, group, origin, problems)
    checked = {}
    for name, keys in config.items():
        if keys is not None and not isinstance(keys, Mapping):
            problems.append(
                f"logger.{name}: must be a mapping, got {shown_value(keys)}{from_where(origin(f'logger.{name}'))}"
            )
            continue
        component = {"name": name, **(keys or {})}
        checked[name] = _check_component(group, component, f"logger.{name}", origin, problems)
    return checked


def _check_component(
    group: str, config: dict[str, Any], path: str, origin: Callable[[str], str], problems: list[str]
) -> dict[str, Any]:
    components, name = registry(group), config.get("name")
    if name is None or name == MISSING:
        problems.append(f"{path}.name: missing; the YAML says which component it is for")
        return config
    if name not in components.names():
        place = origin(f"{path}.name") or origin(path)
        problems.append(unknown_option(group, str(name), components.names(), place))
        return config
    try:
        keys = components.keys(str(name))
    except LoadError as error:
        problems.append(str(error))
        return config
    named = {"name": Parameter("name", Parameter.KEYWORD_ONLY, annotation=str), **keys}
    return _check_keys(config, named, path, origin, problems)


MISSING = "???"  # OmegaConf's mark for a value that has to be given


def _check_keys(
    config: Mapping[Any, Any],
    parameters: Mapping[str, Parameter],
    path: str,
    origin: Callable[[str], str],
    problems: list[str],
) -> dict[str, Any]:
    """Check the keys at ``path``; returns the values, converted where that loses nothing (1 -> 1.0)."""
    values = {}
    for key in [*config, *(key for key in parameters if key not in config)]:
        full = f"{path}.{key}" if path else str(key)
        if key not in parameters:
            problems.append(unknown_key(full, parameters, origin(full), _hint(full, config)))
            continue
        kind, default = parameters[key].annotation, parameters[key].default
        if config.get(key, MISSING) == MISSING:
            if default is not Parameter.empty:
                values[key] = default
            else:
                wanted = f"options: {', '.join(registry(full).names())}" if full in GROUPS else describe(kind)
                problems.append(f"{full}: missing; {wanted}")
        elif nested := keys_in(kind):
            if isinstance(config[key], Mapping):
                values[key] = _check_keys(config[key], nested, full, origin, problems)
            else:
                problems.append(f"{full}: must be a mapping, got {shown_value(config[key])}{from_where(origin(full))}")
        elif full in GROUPS:
            if isinstance(config[key], Mapping):
                values[key] = dict(config[key])
            else:
                options = ", ".join(registry(full).names())
                problems.append(
                    f"{full}: must be one of {options}, got {shown_value(config[key])}{from_where(origin(full))}"
                )
        else:
            try:
                values[key] = msgspec.convert(config[key], kind)
                if msgspec.to_builtins(values[key]) != values[key] or isinstance(values[key], enum.Enum):
                    problems.append(f"{full}: {describe(kind)} is no plain value, which a config can hold; use str")
            except (msgspec.ValidationError, RecursionError):
                listed = f"; did you mean {full}=[{config[key]}]?" if fits(kind, [config[key]]) else ""
                too_large = isinstance(config[key], int) and config[key] > LARGEST
                wanted = describe(kind) + f" and at most {LARGEST}" * too_large
                problems.append(
                    f"{full}: must be {wanted}, got {shown_value(config[key])}{from_where(origin(full))}{listed}"
                )
    return values


def fits(kind: Any, value: Any) -> bool:
    """Whether a value is of a type."""
    try:
        msgspec.convert(value, kind)
    except (msgspec.ValidationError, RecursionError):
        return False
    return True


def _hint(full: str, config: Mapping[Any, Any]) -> str | None:
    """Where a key that is unknown here is known: in a group (``lr``), or with another option (``dataset.root``)."""
    parent, _, leaf = full.rpartition(".")
    elsewhere = KEYS_ELSEWHERE.get(leaf, "")
    if elsewhere and (not parent or elsewhere.startswith(f"{parent}.")) and elsewhere != full:
        return f"; did you mean {elsewhere}?"
    if not parent:
        below = [name for name in GROUPS if isinstance(config.get(name), Mapping) and leaf in config[name]]
        return f"; did you mean {below[0]}.{leaf}?" if below else None
    if parent not in GROUPS or nearest(leaf, (str(key) for key in config if key != leaf)):
        return None
    components = registry(parent)
    having = [name for name in components.names() if name != config.get("name") and _has(components, name, leaf)]
    return (
        f"; {', '.join(f'{parent}={name}' for name in having)} ha{'ve' if having[1:] else 's'} it;" if having else None
    )


def _has(components: Registry, name: str, key: str) -> bool:
    """Whether a component has a key, as far as that can be read."""
    try:
        return key in components.keys(name)
    except LoadError:
        return False
