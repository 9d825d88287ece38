"""Plugins: users' components, in files and modules that ``plugins`` or TRAINER_PLUGINS names, or in installed packages.

The source of a plugin is parsed first, so that its components can be listed without an import. The plugin is imported
when one of its components is needed. An installed package declares its module as an entry point with any name:

    [project.entry-points."trainer.plugins"]
    my_package = "my_package.components"
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import importlib.metadata
import importlib.util
import os
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

from trainer.config import GROUPS, ConfigError, signature
from trainer.config.errors import printable
from trainer.config.registry import ClashError, Registry, describe_import_error, registries, registry
from trainer.config.signature import Declaration
from trainer.config.untrusted_files import check_file

VARIABLE = "TRAINER_PLUGINS"
ENTRY_POINTS = "trainer.plugins"

# Name of a plugin's metric -> its declaration, and the function that imports the plugin.
_metrics: dict[str, tuple[Declaration, Callable[[], object]]] = {}


def declare(wanted: Iterable[str], *, load: bool) -> list[str]:
    """Declare the components of the plugins in ``wanted``, in the environment variable and in installed packages.

    Args:
        wanted: files (``my_models.py``) and modules (``my_package.models``).
        load: import the plugins in ``wanted`` and in the environment variable now. Installed packages are imported
            when a component is needed.

    Returns:
        one line for each plugin that cannot be used.
    """
    problems: list[str] = []
    named = [(word, "plugins", load) for word in wanted] + [(word, VARIABLE, load) for word in from_environment()]
    installed = _installed()
    for word, origin, now in [*named, *((word, origin, False) for word, origin in installed)]:
        try:
            _declare(word, now)
        except _NotFoundError as error:
            if (word, origin) in installed:
                _warn(f"{origin}: {error}")
            else:
                problems.append(f"{origin}: {error}")
        except ClashError as error:
            problems.append(str(error))
        except (Exception, SystemExit) as error:  # an import may raise anything
            problems.append(f"{origin}: {word}: {describe_import_error(error)}")
    return problems


def require(wanted: Iterable[str]) -> None:
    """Import the plugins of a run, in the process that trains it.

    Raises:
        ConfigError: a plugin cannot be used; one line for each.
    """
    problems = declare(wanted, load=True)
    if problems:
        raise ConfigError(*problems)


@functools.cache
def _installed() -> list[tuple[str, str]]:
    """Return the plugin module of each installed package, and the package's name for messages. Cached."""
    points = importlib.metadata.entry_points(group=ENTRY_POINTS)
    return [
        (point.value.partition(":")[0], f"the package {point.dist.name if point.dist else point.name}")
        for point in points
    ]


@functools.cache
def _warn(line: str) -> None:
    """Warn once about a broken package; it is no error, because the command may not need the package."""
    print(f"train: warning: {printable(line)}", file=sys.stderr)


def from_environment() -> list[str]:
    """Return the plugins in the environment variable TRAINER_PLUGINS, which are separated as in PATH."""
    return [word for word in os.environ.get(VARIABLE, "").split(os.pathsep) if word]


def load_metrics(names: Iterable[str]) -> None:
    """Import the plugins that register the metrics in ``names``, such as ``val/accuracy``."""
    for name in names:
        found = _metrics.get(name.rpartition("/")[2])
        if found is not None:
            found[1]()


_used: set[str] = set()  # plugins whose import registered a component


class _NotFoundError(Exception):
    """A plugin's file or module does not exist, or registers nothing."""


def _declare(word: str, now: bool) -> None:
    file, load = _locate(word)
    load = functools.cache(load)
    files = sorted(file.parent.rglob("*.py")) if file.name == "__init__.py" else [file]
    symbols = _symbols()
    found = [component for path in files for component in signature.components(path, symbols)]
    # a metric may be registered once for each task
    names = [(each.group, each.name) for each in found if each.group != "metric"]
    twice = [each for each in found if names.count((each.group, each.name)) > 1]
    if twice:
        places = ", ".join(f"line {each.line}" for each in twice)
        raise ClashError(f"{twice[0].group}={twice[0].name}: registered twice, in {twice[0].file}, {places}")
    for component in found:
        if component.group == "metric":
            _metrics[component.name] = component, load
        else:
            registry(component.group).declare(component, load)
    if not found:
        _load_unread(word, load)
    elif now or any("register(" in path.read_text(encoding="utf-8") for path in files):
        load()


def _load_unread(word: str, load: Callable[[], object]) -> None:
    """Import a plugin whose source shows no component, because it may register components dynamically.

    Raises:
        _NotFoundError: the import registered no component.
    """
    from_before = [each.own() for each in registries().values()]
    load()
    if word not in _used and from_before == [each.own() for each in registries().values()]:
        raise _NotFoundError(f"{word}: registers nothing; a component stands under a decorator, @MODELS.register")
    _used.add(word)


def _symbols() -> dict[str, str]:
    """Map the variable name of each registry, such as ``MODELS``, to its group."""
    return {
        name: group
        for group in GROUPS
        for name, value in vars(importlib.import_module(f"trainer.{group}")).items()
        if isinstance(value, Registry)
    }


def _locate(word: str) -> tuple[Path, Callable[[], object]]:
    """Return the file of a plugin, and the function that imports it."""
    if word.endswith(".py") or os.sep in word:
        file = Path(word).expanduser()
        try:
            check_file(file)
        except (FileNotFoundError, NotADirectoryError) as error:
            raise _NotFoundError(f"{word}: no such file") from error
        except OSError as error:
            raise _NotFoundError(f"{word}: {error.strerror}") from error
        return file, lambda: _import_file(file)
    if str(Path.cwd()) not in sys.path:
        sys.path.append(str(Path.cwd()))  # as python -m does, but at the end, so that it shadows no other module
    importlib.invalidate_caches()
    try:
        return signature.find_module(word), lambda: importlib.import_module(word)
    except (ImportError, ValueError, AttributeError):
        near = f"; did you mean {word}.py?" if Path(f"{word}.py").is_file() else ""
        raise _NotFoundError(f"{word}: no such module, and no file that ends in .py{near}") from None


def _import_file(file: Path) -> None:
    """Import a file as a module with its name, so that its classes can be pickled and it can import its neighbours."""
    name, place = file.stem, file.resolve()
    known = sys.modules.get(name)
    if known is not None and Path(getattr(known, "__file__", None) or "").resolve() == place:
        return
    with contextlib.suppress(ImportError):
        if known is not None or signature.find_module(name).resolve() != place:
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
