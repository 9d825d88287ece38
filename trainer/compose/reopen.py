"""Read the settings of a finished run from its config.yaml, and apply overrides that are allowed afterwards."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from trainer.compose import plugins
from trainer.compose.check_command import check_words
from trainer.compose.composer import Composer
from trainer.compose.overrides import single_values
from trainer.compose.resolve import resolve_settings
from trainer.config import GROUPS, ConfigError, Settings, yaml_file
from trainer.config.registry import registry
from trainer.config.settings import key_of
from trainer.runs import resume
from trainer.runs.directory import CONFIG

# The keys that may change when a finished run is used, because the trained model does not depend on their new values.
AFTERWARDS = ("dataset", "device", "batch_size", "limit_batches", "precision", "thresholds", "calibrate", "plugins")


def settings_for_use(folder: Path, words: Sequence[str]) -> Settings:
    """Return the settings of a finished run with the overrides ``words`` applied, for use on one device.

    ``device=ddp``, ``device=fsdp`` and ``device=dp`` become ``device=auto``.

    Raises:
        ConfigError: for the same reasons as in ``settings_of_run``.
    """
    plain = _with_words(folder, words, AFTERWARDS)
    if plain.get("device", {}).get("name") in ("ddp", "fsdp", "dp"):
        plain["device"] = {"name": "auto"}
    return resolve_settings(plain, lambda key: str(folder / CONFIG), is_stored=True)


def settings_of_run(folder: Path, words: Sequence[str], allowed: Sequence[str]) -> Settings:
    """Return the settings with which a run was trained, with the overrides ``words`` applied.

    Args:
        folder: the run directory.
        words: overrides.
        allowed: the keys that ``words`` may change; they include all keys below them.

    Raises:
        ConfigError: the config is invalid, an override is invalid or changes a key that is not allowed, or the run uses
            plugins that neither ``words`` nor the environment names; one line for each mistake.
    """
    return resolve_settings(_with_words(folder, words, allowed), lambda key: str(folder / CONFIG), is_stored=True)


def _with_newer_keys(stored: dict[str, Any]) -> dict[str, Any]:
    """Return the config of a run with the keys that a later version has added, at the defaults of their YAML.

    A key whose default in ``Settings`` is what earlier versions did keeps that default.
    """
    known = yaml_file.load(yaml_file.config_dir() / "train.yaml")
    kept = {each.name for each in dataclasses.fields(Settings) if each.default is not dataclasses.MISSING}
    plain = _filled({key: known[key] for key in known.keys() - {*GROUPS, "defaults", "hydra", *kept}}, stored)
    for group in (group for group in GROUPS if group != "logger"):
        name = plain.get(group, {}).get("name")
        file = yaml_file.config_dir() / group / f"{name}.yaml"
        if name in registry(group).names() and name not in registry(group).own() and file.is_file():
            keys = {key: value for key, value in yaml_file.load(file).items() if key != "defaults"}
            plain[group] = _filled(keys, plain[group])
    return plain


def _filled(defaults: Mapping[str, Any], stored: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``stored`` with the keys that it lacks, also below its keys, from ``defaults``."""
    new = {key: value for key, value in defaults.items() if key not in stored and "${" not in str(value)}
    filled = {**stored, **new}
    for key in defaults.keys() & stored.keys():
        if isinstance(defaults[key], Mapping) and isinstance(stored[key], Mapping):
            filled[key] = _filled(defaults[key], stored[key])
    return filled


def _with_words(folder: Path, words: Sequence[str], allowed: Sequence[str]) -> dict[str, Any]:
    """Return the config of a run as plain containers, with the overrides ``words`` applied, and import plugins.

    Only the plugins that ``words`` or the environment names are imported, not those that the config names: a run
    directory may come from a stranger.
    """
    foreign = [word for word in words if not resume.is_under(key_of(word).replace("/", "."), allowed)]
    if foreign:
        keys = ", ".join(f"{key}=" for key in allowed)
        raise ConfigError(
            *(f"{word}: would be another run; only these words may follow RUN: {keys}" for word in foreign)
        )
    plain = _with_newer_keys(resume.load_config(folder / CONFIG))
    typed = {key_of(word) for word in words}
    needed = [str(name) for name in plain.get("plugins") or []]
    if needed and "plugins" not in typed and not {*needed} <= {*plugins.from_environment()}:
        code = ",".join(needed)
        raise ConfigError(
            f"the run {folder} has components of {code}; if you trust it, name it again: 'plugins=[{code}]'"
        )
    plain["plugins"] = plugins.from_environment()
    if not words:
        plugins.require([])
        return plain
    below = {key.partition(".")[0] for key in typed if "." in key} - typed
    names = {group: plain.get(group, {}).get("name") for group in ("dataset", "device") if group in below}
    choices = [f"{group}={name}" for group, name in names.items() if name is not None]
    with single_values("this command takes one"):
        now = check_words(Composer(), [*choices, *words]).jobs[0].settings.to_dict()
    for key in typed:
        node, there, (*parents, leaf) = plain, now, key.split(".")
        for name in parents:
            node, there = node.setdefault(name, {}), there[name]
        node[leaf] = there[leaf]
    return plain
