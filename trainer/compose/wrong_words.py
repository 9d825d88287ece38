"""Find the words of a command that choose options, folders or plugins that do not exist."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.types import Override
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from trainer.compose import plugins
from trainer.compose.composer import SEARCHPATH, Composer
from trainer.compose.overrides import TYPED, needs_multirun, variants, without_values
from trainer.compose.safety import HYDRA_GROUPS, REFUSED, check_folder, first_line
from trainer.config import GROUPS, ConfigError
from trainer.config.check import MISSING
from trainer.config.errors import collected
from trainer.config.messages import how_to_install, unknown_option
from trainer.config.registry import LoadError, Registry, registries

# Launcher of Hydra -> the optional extra of this package that installs it.
LAUNCHERS = {"joblib": "joblib", "submitit_slurm": "slurm", "submitit_local": "slurm", "ray": "ray"}


def add_folders(composer: Composer, overrides: Iterable[Override], problems: list[str]) -> list[Override]:
    """Add the folders of ``hydra.searchpath`` to the composer; return the overrides without an invalid searchpath."""
    kept = []
    for override in overrides:
        with collected(problems):
            if override.key_or_group == SEARCHPATH:
                folders = override.value()
                if not isinstance(folders, list) or not all(isinstance(folder, str) for folder in folders):
                    got = f"{override.input_line} ({TYPED})"
                    raise ConfigError(f"{SEARCHPATH}: must be a list of folders, got {got}")
                for folder in folders:
                    check_folder(SEARCHPATH, str(folder))
                    composer.folders.append(Path(str(folder).removeprefix("file://")))
            kept.append(override)
    return kept


def declare_plugins(
    composer: Composer, overrides: Iterable[Override], problems: list[str], *, load: bool
) -> tuple[list[str], list[Override]]:
    """Declare the components of all plugins to the registries and to Hydra.

    Args:
        composer: finds the YAML files of components.
        overrides: the overrides of the command.
        problems: one line is added for each plugin that cannot be used.
        load: import the plugins now.

    Returns:
        the plugins that the command or the environment names, and the overrides of all keys other than ``plugins``.
    """
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
    problems += plugins.declare(wanted, load=load)
    for group, components in registries().items():
        for name in components.own():
            if composer.file(f"{group}/{name}") is None:
                problems += _store_signature(group, name, components)
            else:
                ConfigStore.instance().repo.get(group, {}).pop(f"{name}.yaml", None)
    return [*wanted, *plugins.from_environment()], rest


def _store_signature(group: str, name: str, components: Registry) -> list[str]:
    """Store the defaults of a component without YAML in Hydra's ``ConfigStore``; return one line if this fails."""
    ConfigStore.instance().repo.setdefault(group, {}).pop(f"{name}.yaml", None)
    try:
        keys = components.keys(name)
        defaults = {key: MISSING if each.default is each.empty else each.default for key, each in keys.items()}
        node = OmegaConf.create(defaults if group == "logger" else {"name": name, **defaults})
    except LoadError as error:
        return [str(error)]
    except (OmegaConfBaseException, ValueError) as error:
        return [f"{group}={name}: a default of its signature is no plain value: {first_line(error)}"]
    package = f"{group}.{name}" if group == "logger" else group
    ConfigStore.instance().store(group=group, name=name, node=node, package=package)
    return []


def without_wrong_options(
    composer: Composer, overrides: Sequence[Override], problems: list[str], *, multirun: bool
) -> list[Override]:
    """Return the overrides without invalid choices and without other keys of those groups, which cannot be checked.

    Add one line to ``problems`` for each option or group that does not exist, each sweep that is not possible, and
    each ``group.name=option`` instead of ``group=option``.
    """
    wrong: set[str] = set()
    kept: list[Override] = []
    for override in overrides:
        key = override.key_or_group
        if override.is_sweep_override() and (line := without_values(override)):
            problems.append(line)
            wrong.add(key)
        elif override.is_sweep_override() and not multirun:
            problems.append(needs_multirun(override, composer.is_group(override)))
            wrong.add(key)
        elif composer.is_group(override):
            line = _wrong_option(composer, override)
            if line is None:
                kept += [override] * (override.value() is not None)  # omits experiment=null, the default
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


def _wrong_option(composer: Composer, override: Override) -> str | None:
    """Return the error message for an invalid choice of an option, or None."""
    group = override.key_or_group
    names = composer.options(group)
    if group.startswith("hydra") and group not in HYDRA_GROUPS:
        reason = REFUSED.get(group.replace("/", "."), f"choose only {' and '.join(HYDRA_GROUPS)}")
        return f"{group}: {reason} ({TYPED})"
    if override.is_delete():
        return f"{group}: cannot be taken away ({TYPED}); options: {', '.join(names)}"
    if override.is_add() or override.is_force_add():
        return f"{override.input_line}: {group} is there already; write {str(override.input_line).lstrip('+')}"
    if override.package is not None:
        return f"{override.input_line}: a group has one place; write {group}={override.value()}"
    for value in (each.value() for each in variants(override)):
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
