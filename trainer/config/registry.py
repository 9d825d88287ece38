"""The registries, one for each group: list the components, read the keys of a component, and build a component.

A component is a class or function with a decorator such as ``@MODELS.register``. Its positional parameters are runtime
objects; its typed keyword-only parameters are exactly the keys of its YAML. The names of a group's components are the
names of the files in the group's folder. A file is imported only when its component is needed, so that listing needs
no torch and a broken file affects no other component. A plugin's component is declared first, and its file is imported
when the component is needed.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
import traceback
from collections.abc import Callable, Iterable, Mapping
from inspect import Parameter
from pathlib import Path
from typing import Any, TypeVar

from trainer.config import signature
from trainer.config.errors import ConfigError, one_line
from trainer.config.settings import GROUPS
from trainer.config.signature import Declaration, MisplacedError, UnreadableError, snake_case


def registry(group: str) -> Registry:
    """Return the registry of a group without importing torch."""
    module = importlib.import_module(f"trainer.{group}")
    return next(value for value in vars(module).values() if isinstance(value, Registry))


def registries() -> dict[str, Registry]:
    return {group: registry(group) for group in GROUPS}


ComponentT = TypeVar("ComponentT", bound=Callable[..., Any])


class ClashError(ValueError):
    """Two components of a group have the same name."""


class LoadError(ConfigError):
    """A component cannot be loaded or its keys cannot be read; the message is one line with the cause and place."""


class Registry:
    """The components of one group.

    Args:
        group: the name of the group's folder in ``configs/`` and in ``trainer/``.
        path: the ``__path__`` of the group's package: the folders that contain the files of the components.
    """

    def __init__(self, group: str, path: Iterable[str]) -> None:
        self.group = group
        self._path = path
        self._components: dict[str, Callable[..., Any]] = {}
        self._declared: dict[str, tuple[Declaration, Callable[[], object]]] = {}

    def register(self, component: ComponentT) -> ComponentT:
        """Add a component under its own name in snake case: ``CrossEntropy`` becomes ``cross_entropy``.

        If a definition is executed again, such as in a notebook cell or a plugin's file, the new component replaces
        the old one.

        Raises:
            ClashError: another component has the same name.
        """
        if not hasattr(component, "__name__"):
            raise TypeError("write @….register without a name: a component has the name of its class in snake case")
        name = snake_case(component.__name__)
        known, module = self._components.get(name), component.__module__
        if known is not None and identity(known) != identity(component):
            raise ClashError(f"{self.group}={name}: registered twice, in {known.__module__} and {module}")
        if known is None and name in self._files() and module != self._module(name):
            raise ClashError(f"{self.group}={name}: registered twice, in {self._module(name)} and {module}")
        self._components[name] = component
        return component

    def declare(self, new: Declaration, load: Callable[[], object]) -> None:
        """Add a plugin's component without importing its file.

        Args:
            new: what the plugin's source says about the component.
            load: imports the file.

        Raises:
            ClashError: another component has the same name.
        """
        known, _ = self._declared.get(new.name, (new, None))
        place = f"{new.file}, line {new.line}"
        if known.file != new.file:
            places = f"{known.file}, line {known.line}, and {place}"
            raise ClashError(f"{self.group}={new.name}: registered twice, in {places}")
        if new.name in self._files():
            raise ClashError(f"{self.group}={new.name}: registered twice, in {self._module(new.name)} and {place}")
        self._declared[new.name] = new, load

    def names(self) -> list[str]:
        """Return the names of all components in alphabetical order, without importing any of them."""
        return sorted(self._files().keys() | self._components.keys() | self._declared.keys())

    def own(self) -> list[str]:
        """Return the names of the components that plugins and notebooks added, in alphabetical order."""
        return sorted((self._components.keys() | self._declared.keys()) - self._files().keys())

    def get(self, name: str) -> Callable[..., Any]:
        """Return the component called ``name``; import its file at the first call.

        Raises:
            KeyError: there is no component with this name.
            LoadError: the file cannot be imported or does not register the component.
        """
        if name not in self._components:
            if name not in self.names():
                raise KeyError(name)
            try:
                if name in self._declared:
                    self._declared[name][1]()
                else:
                    importlib.import_module(self._module(name))
            except LoadError:
                raise
            except (Exception, SystemExit) as error:  # a file may raise anything when it is imported
                raise LoadError(f"{self.group}={name}: cannot be loaded: {describe_import_error(error)}") from error
            if name not in self._components:
                raise LoadError(f"{self.group}={name}: {self.file(name)} registers no component called {name}")
        return self._components[name]

    def file(self, name: str) -> Path | None:
        """Return the file of a component, or None if it has no file because it was defined in a notebook."""
        if name in self._declared:
            return self._declared[name][0].file
        return self._files().get(name)

    def keys(self, name: str) -> dict[str, Parameter]:
        """Return the keys of a component with their types and defaults.

        The keys are read from the source; the component is imported only if this fails.

        Raises:
            KeyError: there is no component with this name.
            LoadError: the file cannot be imported, or a parameter cannot be a key.
        """
        keys = self._read(name)
        if "name" in keys:
            raise LoadError(f"{self.group}={name}: a key cannot be called name, which chooses the component")
        return keys

    def doc(self, name: str) -> str:
        """Return the docstring of a component that is imported or that a plugin declares, otherwise an empty string."""
        if name in self._components:
            return self._components[name].__doc__ or ""
        return self._declared[name][0].doc if name in self._declared else ""

    def build(self, config: Mapping[str, Any], *runtime: Any, **optional: Any) -> Any:
        """Build the component ``config["name"]`` from a checked config.

        Args:
            config: the name of the component and the values of its keys.
            runtime: the positional arguments that every component of the group takes.
            optional: further runtime objects; those whose name is a positional parameter of the component are passed
                after ``runtime``, in the order given here.

        Raises:
            ConfigError: the component cannot be loaded, raises a ValueError, or does not fit into memory.
        """
        try:
            component = self.get(config["name"])
            known = inspect.signature(component).parameters if optional else {}
            taken = [
                value
                for each, value in optional.items()
                if each in known and known[each].kind is not Parameter.KEYWORD_ONLY
            ]
            return component(*runtime, *taken, **{key: value for key, value in config.items() if key != "name"})
        except ValueError as error:
            raise ConfigError(f"{self.group}={config['name']}: {error}") from error
        except (RuntimeError, MemoryError, OverflowError, TypeError) as error:
            if not re.search("memory|overflow|too large|must be less than", str(error), flags=re.IGNORECASE):
                raise
            line = str(error).strip().splitlines()[0]
            raise ConfigError(f"{self.group}={config['name']}: its keys make it too large: {line}") from error

    def _read(self, name: str) -> dict[str, Parameter]:
        file = self.file(name)
        if file is not None:
            try:
                return signature.keys(file, name)
            except UnreadableError:
                pass
            except MisplacedError as error:
                raise LoadError(f"{self.group}={name}: {error} ({file})") from error
        try:
            return signature.keys_of(self.get(name))
        except (MisplacedError, NameError, TypeError) as error:
            raise LoadError(f"{self.group}={name}: its keys cannot be read: {error} ({file})") from error

    def _files(self) -> dict[str, Path]:
        """Map the name of each component in the group's folder to its file."""
        found = (
            (module.name, Path(getattr(module.module_finder, "path", "")) / f"{module.name}.py")
            for module in pkgutil.iter_modules(self._path)
        )
        return {name: file for name, file in found if not name.startswith("_")}

    def _module(self, name: str) -> str:
        return f"trainer.{self.group}.{name}"


def describe_import_error(error: BaseException) -> str:
    """Return an error and its place on one line: ``ModuleNotFoundError: No module named 'timm' (my.py, line 3)``."""
    if isinstance(error, SyntaxError):
        return f"{type(error).__name__}: {error.msg} ({error.filename}, line {error.lineno})"
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith("<frozen")]
    place = f" ({frames[-1].filename}, line {frames[-1].lineno})" if frames else ""
    return one_line(error) + place


def identity(component: Callable[..., Any]) -> tuple[str, str]:
    """Return the module and qualified name of a component, which tell apart two components with the same name."""
    return component.__module__, component.__qualname__
