"""The user's own components: files and modules named with ``plugins``, and entry points of installed packages.

A plugin is read first, so that its components are known without importing it, and imported when one is needed. An
installed package names its module in its metadata, under any name:

    [project.entry-points."trainer.plugins"]
    my_package = "my_package.components"
"""

from __future__ import annotations

import functools
import importlib
import importlib.metadata
import importlib.util
import os
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from trainer import signature
from trainer.registry import Registry, where
from trainer.signature import Found

VARIABLE = "TRAINER_PLUGINS"
ENTRY_POINTS = "trainer.plugins"

# The metrics that plugins bring, by name; what imports their file.
_metrics: dict[str, tuple[Found, Callable[[], object]]] = {}


def declare(
    wanted: Iterable[str], registries: Mapping[str, Registry], *, load: bool, entry_points: bool = True
) -> list[str]:
    """Make the components of plugins known: those ``wanted``, of the environment and of installed packages.

    Args:
        wanted: files (``my_models.py``) and modules (``my_package.models``).
        registries: the registry of each group.
        load: import what is wanted or in the environment now; what installed packages have waits until it is used.

    Returns:
        a line for each plugin that cannot be used.
    """
    problems: list[str] = []
    named = [(word, "plugins", load) for word in wanted] + [(word, VARIABLE, load) for word in from_environment()]
    if entry_points:
        named += [
            (point.value.partition(":")[0], f"the package {point.dist.name if point.dist else point.name}", False)
            for point in importlib.metadata.entry_points(group=ENTRY_POINTS)
        ]
    for word, origin, now in named:
        try:
            _declare(word, registries, now)
        except _NotFoundError as error:
            problems.append(f"{origin}: {error}")
        except ValueError as error:  # a name that is taken
            problems.append(str(error))
        except (Exception, SystemExit) as error:  # whatever the user's code does when it is imported
            problems.append(f"{origin}: {word}: {where(error)}")
    return problems


def from_environment() -> list[str]:
    """The plugins that the environment names, separated as PATH is."""
    return [word for word in os.environ.get(VARIABLE, "").split(os.pathsep) if word]


def load_metrics(names: Iterable[str]) -> None:
    """Import the plugins that register these metrics."""
    for name in names:
        found = _metrics.get(name.rpartition("/")[2])
        if found is not None:
            found[1]()


class _NotFoundError(Exception):
    """There is no such file or module."""


def _declare(word: str, registries: Mapping[str, Registry], now: bool) -> None:
    file, load = _locate(word)
    load = functools.cache(load)
    symbols = {_symbol(registry): group for group, registry in registries.items()}
    files = sorted(file.parent.rglob("*.py")) if file.name == "__init__.py" else [file]
    found = [component for path in files for component in signature.components(path, symbols)]
    for component in found:
        if component.group == "metric":
            _metrics[component.name] = component, load
        else:
            registries[component.group].declare(component, load)
    if now or not found:
        load()


def _symbol(registry: Registry) -> str:
    """What a group's package calls its registry: ``MODELS``."""
    module = importlib.import_module(f"trainer.{registry.group}")
    return next(name for name, value in vars(module).items() if value is registry)


def _locate(word: str) -> tuple[Path, Callable[[], object]]:
    """The file of a plugin and what imports it."""
    if word.endswith(".py") or os.sep in word:
        file = Path(word).expanduser()
        if not file.is_file():
            raise _NotFoundError(f"{word}: no such file")
        return file, lambda: _import_file(file)
    if str(Path.cwd()) not in sys.path:
        sys.path.append(str(Path.cwd()))  # as python -m does; last, so that nothing is shadowed
    importlib.invalidate_caches()
    try:
        return signature.find_module(word), lambda: importlib.import_module(word)
    except (ImportError, ValueError, AttributeError):
        near = f"; did you mean {word}.py?" if Path(f"{word}.py").is_file() else ""
        raise _NotFoundError(f"{word}: no such module, and no file that ends in .py{near}") from None


def _import_file(file: Path) -> None:
    """Import a file under its own name, so that its classes can be pickled; its neighbours can be imported by it."""
    name, place = file.stem, file.resolve()
    known = sys.modules.get(name)
    if known is not None:
        if getattr(known, "__file__", None) and Path(str(known.__file__)).resolve() == place:
            return
        raise _NotFoundError(f"{file}: a module called {name} is there already; rename the file")
    if str(place.parent) not in sys.path:
        sys.path.append(str(place.parent))
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
