"""Check every key of a composed config, its type and its range. Imports neither torch nor Hydra."""

from __future__ import annotations

import enum
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from inspect import Parameter
from typing import Any

import msgspec

from trainer.config.errors import ConfigError
from trainer.config.messages import (
    as_word,
    choices,
    describe,
    did_you_mean,
    from_where,
    shown_value,
    unknown_option,
)
from trainer.config.registry import LoadError, registry
from trainer.config.settings import GROUPS, Settings
from trainer.config.signature import keys_in
from trainer.config.types import MAX_INT
from trainer.config.unknown_keys import help_command, hint_of, unknown_key

MISSING = "???"  # OmegaConf's marker for a mandatory value that has not been set
# What msgspec raises for a value that does not suit a type; UnicodeEncodeError for a path with bytes that are no UTF-8.
NO_MATCH = (msgspec.ValidationError, RecursionError, UnicodeEncodeError)
MAX_MISSING = 3  # more missing keys of a component are reported in one line


def check(
    config: Mapping[str, Any], origin: Callable[[str], str] = lambda key: "", *, partial: bool = False
) -> Settings:
    """Convert a composed and resolved config to ``Settings``.

    Args:
        config: the config as plain containers.
        origin: returns where the value of a dotted key comes from, for error messages.
        partial: accept components with missing keys, as for a help text.

    Raises:
        ConfigError: the config is wrong; one line for each mistake.
    """
    checker = _Checker(origin)
    values = checker.keys(config, keys_in(Settings), "")
    of_components = _Checker(origin, whole=config)
    for group in GROUPS:
        if isinstance(values.get(group), dict):
            values[group] = of_components.group(group, values[group])
    checker.problems += [line for line in of_components.problems if not (partial and ": missing; " in line)]
    accumulate, batch_size = values.get("accumulate"), values.get("batch_size")
    if isinstance(accumulate, int) and isinstance(batch_size, int) and 0 < batch_size < accumulate:
        checker.refuse("accumulate", f"at most batch_size, {batch_size}", accumulate)
    checker.finish()
    return Settings(**values)


def check_values(values: Mapping[str, Any], kind: Any, path: str) -> dict[str, Any]:
    """Check ``values`` against the fields of a dataclass or TypedDict, and return the converted values.

    Args:
        values: the keys and values to check.
        kind: the dataclass or TypedDict.
        path: the dotted key of the parent, for error messages.

    Raises:
        ConfigError: a key or a value is wrong; one line for each mistake.
    """
    checker = _Checker(lambda key: "")
    checked = checker.keys(values, keys_in(kind), path)
    checker.finish()
    return checked


def fits(kind: Any, value: Any) -> bool:
    """Return whether msgspec can convert a value to a type."""
    try:
        msgspec.convert(value, kind)
    except NO_MATCH:
        return False
    return True


@dataclass
class _Checker:
    """Check parts of a config, and collect one line for each mistake in ``problems``."""

    origin: Callable[[str], str]  # returns where the value of a dotted key comes from
    problems: list[str] = field(default_factory=list)
    whole: Mapping[str, Any] = field(default_factory=dict)  # the whole config, of which a part is checked

    def refuse(self, key: str, wanted: str, value: Any, hint: str = "") -> None:
        """Add the problem ``key: must be wanted, got value (origin)``."""
        self.problems.append(f"{key}: must be {wanted}, got {shown_value(value)}{from_where(self.origin(key))}{hint}")

    def finish(self) -> None:
        """Raise ConfigError if there is any problem."""
        if self.problems:
            raise ConfigError(*self.problems)

    def group(self, group: str, config: dict[str, Any]) -> dict[str, Any]:
        """Check the keys of a group's component; for the group ``logger``, check the keys of every logger."""
        if group != "logger":
            return self.component(group, config, group)
        checked = {}
        for name, keys in config.items():
            if keys is None or isinstance(keys, Mapping):
                checked[name] = self.component(group, {"name": name, **(keys or {})}, f"logger.{name}")
            else:
                self.refuse(f"logger.{name}", "a mapping", keys)
        return checked

    def component(self, group: str, config: dict[str, Any], path: str) -> dict[str, Any]:
        """Check the keys of a component against the signature of the component called ``config["name"]``."""
        components, name = registry(group), config.get("name")
        if name is None or name == MISSING:
            self.problems.append(f"{path}.name: missing; the YAML says which component it is for")
            return config
        if name not in components.names():
            place = self.origin(f"{path}.name") or self.origin(path)
            self.problems.append(unknown_option(group, str(name), components.names(), place))
            return config
        try:
            keys = components.keys(str(name))
        except LoadError as error:
            self.problems.append(str(error))
            return config
        before = len(self.problems)
        checked = self.keys(config, {"name": Parameter("name", Parameter.KEYWORD_ONLY, annotation=str), **keys}, path)
        missing = [line for line in self.problems[before:] if ": missing; " in line]
        if len(missing) > MAX_MISSING:  # a YAML of the user's own that chooses the component but not its defaults
            place = from_where(self.origin(f"{path}.name") or self.origin(path))
            self.problems[before:] = [line for line in self.problems[before:] if line not in missing]
            self.problems.append(
                f"{path}: {len(missing)} keys of {name} are missing{place}; begin the YAML with defaults: [{name}]"
            )
        return checked

    def keys(self, config: Mapping[Any, Any], parameters: Mapping[str, Parameter], path: str) -> dict[str, Any]:
        """Check the keys below ``path`` and return their values, with lossless conversions (1 -> 1.0)."""
        values = {}
        for key in [*config, *(key for key in parameters if key not in config)]:
            full = f"{path}.{key}" if path else str(key)
            if key not in parameters:
                hint = hint_of(full, config, self.whole or config)
                self.problems.append(
                    unknown_key(full, parameters, self.origin(full), hint, help_command(full, self.whole))
                )
                continue
            kind, default = parameters[key].annotation, parameters[key].default
            value = config.get(key, MISSING)
            if value == MISSING and default is not Parameter.empty:
                values[key] = default
            elif value == MISSING:
                wanted = f"options: {', '.join(registry(full).names())}" if full in GROUPS else describe(kind)
                self.problems.append(f"{full}: missing; {wanted}")
            elif isinstance(value, Mapping) and (nested := keys_in(kind)):
                values[key] = self.keys(value, nested, full)
            elif isinstance(value, Mapping) and full in GROUPS:
                values[key] = dict(value)
            elif full in GROUPS:
                self.refuse(full, f"one of {', '.join(registry(full).names())}", value)
            elif keys_in(kind):
                self.refuse(full, "a mapping", value)
            else:
                values[key] = self.value(full, value, kind)
        return values

    def value(self, key: str, value: Any, kind: Any) -> Any:
        """Check one value; return the converted value, or None if the value is wrong."""
        try:
            converted = msgspec.convert(value, kind)
        except NO_MATCH:
            parts = [kind, *typing.get_args(kind)]
            names, each = next((typing.get_args(part) for part in parts if typing.get_origin(part) is dict), (Any, Any))
            if isinstance(value, Mapping) and all(fits(names, name) for name in value):
                wrong = {name: one for name, one in value.items() if not fits(each, one)}
                for name, one in wrong.items():
                    self.value(f"{key}.{name}", one, each)
                if wrong:
                    return None
            in_list = f"; did you mean {as_word(key, [str(value)])}?" if fits(kind, [value]) else ""
            too_large = isinstance(value, int) and value > MAX_INT
            hint = in_list or did_you_mean(str(value), choices(kind))
            self.refuse(key, describe(kind) + f" and at most {MAX_INT}" * too_large, value, hint)
            return None
        if msgspec.to_builtins(converted) != converted or isinstance(converted, enum.Enum):
            self.problems.append(f"{key}: a config cannot store {describe(kind)}; use str")
        return converted
