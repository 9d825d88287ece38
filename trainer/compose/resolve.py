"""Turn a composed config into checked settings: resolve the interpolations, then check every key."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from omegaconf import OmegaConf

from trainer.compose.safety import compose_error, leaves
from trainer.config import GROUPS, ConfigError, Job, Settings
from trainer.config.check import MISSING, check
from trainer.config.messages import from_where


def resolve_job(
    plain: Mapping[str, Any],
    words: Sequence[str] = (),
    origin: Callable[[str], str] = lambda key: "",
    *,
    partial: bool = False,
) -> Job:
    """Return the job of a composed config; it stores ``words``. The other arguments are as in ``resolve_settings``."""
    settings = resolve_settings(plain, origin, partial=partial)
    return Job(settings, tuple(words), fixed_run_dir=not is_new_each_time(plain["run_dir"]))


def resolve_settings(
    plain: Mapping[str, Any],
    origin: Callable[[str], str] = lambda key: "",
    *,
    partial: bool = False,
    is_stored: bool = False,
) -> Settings:
    """Resolve the interpolations of a config and check it.

    Args:
        plain: the composed config as plain containers, with unresolved interpolations.
        origin: returns where the value of a dotted key comes from, for error messages.
        partial: accept components with missing keys, as for a help text.
        is_stored: whether a run has stored the config. A run stores resolved values, so that ``${`` in one of them is
            text, and a run directory of unknown origin cannot read the environment.

    Raises:
        ConfigError: the config is wrong; one line for each mistake.
    """
    problems: dict[str, str] = {}  # key -> error message; the check does not report these keys again
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
    resolved = plain if is_stored else _resolved(plain, problems, origin)
    try:
        settings = check({str(key): value for key, value in resolved.items()}, origin, partial=partial)
    except ConfigError as error:
        silent = [key.removesuffix(".name") for key in problems]
        more = [line for line in error.problems if not (problems and _about(line, silent))]
        raise ConfigError(*problems.values(), *more) from error
    if problems:
        raise ConfigError(*problems.values())
    return settings


def _resolved(plain: Mapping[str, Any], problems: dict[str, str], origin: Callable[[str], str]) -> dict[Any, Any]:
    """Return a config with its interpolations resolved; add an error message by key for each that cannot be."""
    config = OmegaConf.create(dict(plain))
    for key, value in leaves(plain).items():
        if "${" in str(value):
            try:
                OmegaConf.select(config, key, throw_on_resolution_failure=True)
            except Exception as error:  # a resolver may raise anything
                about_known = any(f"{group}.name" in str(error) for group in GROUPS if group in plain)
                if not (problems and about_known):
                    reason = compose_error(error).problems[0].removeprefix(f"{key}: ")
                    problems[key] = f"{key}: {reason}{from_where(origin(key))}"
                OmegaConf.update(config, key, MISSING)
    resolved = OmegaConf.to_container(config, resolve=True, throw_on_missing=False)
    assert isinstance(resolved, dict)
    return resolved


def resolve_value(plain: Mapping[str, Any], key: str) -> Any:
    """Return the value of one key of a config, with its interpolations resolved.

    Raises:
        ConfigError: an interpolation cannot be resolved.
    """
    try:
        return OmegaConf.select(OmegaConf.create(dict(plain)), key, throw_on_resolution_failure=True)
    except Exception as error:  # a resolver may raise anything
        raise compose_error(error) from error


def is_new_each_time(path: Any) -> bool:
    """Return whether a path contains the time, so that every command gets a different path."""
    return "${now:" in str(path)


def _about(line: str, keys: Sequence[str]) -> bool:
    """Return whether a line reports a missing key that follows from another problem, reported for one of ``keys``."""
    key = line.partition(":")[0]
    return ": missing" in line and any(key == each or key.startswith(f"{each}.") or key == "run_dir" for each in keys)
