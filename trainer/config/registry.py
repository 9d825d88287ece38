"""Registries: which components there are, what keys each takes, and how one is built.

A component is a class or function under one decorator. Its positional parameters are runtime objects; its
keyword-only parameters, typed, are exactly the keys of its YAML. Names are the files of the group's folder, and only
the file asked for is imported: listing needs no torch, and a broken component cannot break the others. What a plugin
registers is declared with its file, and imported when it is asked for.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import traceback
from collections.abc import Callable, Iterable, Mapping
from inspect import Parameter
from pathlib import Path
from typing import Any, TypeVar

from trainer.config import signature
from trainer.config.settings import GROUPS
from trainer.config.signature import Found, MisplacedError, UnreadableError, snake_case


def registry(group: str) -> Registry:
    """The registry of a group; needs no torch."""
    module = importlib.import_module(f"trainer.{group}")
    return next(value for value in vars(module).values() if isinstance(value, Registry))


def registries() -> dict[str, Registry]:
    """The registry of every group."""
    return {group: registry(group) for group in GROUPS}


ComponentT = TypeVar("ComponentT", bound=Callable[..., Any])


class ClashError(ValueError):
    """Two components have one name."""


class LoadError(Exception):
    """A component's file fails when it is imported; one line with its own error and where."""


class Registry:
    """The components of one group.

    Args:
        group: name of the folder under ``configs/`` and under ``trainer/``.
        path: where the files of the components are, a package's ``__path__``.
    """

    def __init__(self, group: str, path: Iterable[str]) -> None:
        self.group = group
        self._path = path
        self._components: dict[str, Callable[..., Any]] = {}
        self._declared: dict[str, tuple[Found, Callable[[], object]]] = {}

    def register(self, component: ComponentT) -> ComponentT:
        """Add a component under its own name in snake case: ``CrossEntropy`` is ``cross_entropy``.

        The same definition again, as when a notebook's cell or a plugin's file runs twice, takes the place of the
        earlier one.

        Raises:
            ClashError: another component has that name.
        """
        if not hasattr(component, "__name__"):
            raise TypeError("write @….register without a name: a component is called as its class, in snake case")
        name = snake_case(component.__name__)
        known = self._components.get(name)
        if known is not None and identity(known) != identity(component):
            places = f"{known.__module__} and {component.__module__}"
            raise ClashError(f"{self.group}={name}: registered twice, in {places}")
        if known is None and name in self._files() and component.__module__ != self._module(name):
            raise ClashError(f"{self.group}={name}: {component.__module__} registers a name of {self._module(name)}")
        self._components[name] = component
        return component

    def declare(self, found: Found, load: Callable[[], object]) -> None:
        """Make a plugin's component known before it is imported; ``load`` imports it.

        Raises:
            ClashError: another component has that name.
        """
        known = self._declared.get(found.name)
        if known is not None and known[0].file != found.file:
            places = f"{known[0].file}, line {known[0].line}, and {found.file}, line {found.line}"
            raise ClashError(f"{self.group}={found.name}: registered twice, in {places}")
        if found.name in self._files():
            place = f"{found.file}, line {found.line}"
            raise ClashError(f"{self.group}={found.name}: registered twice, in {self._module(found.name)} and {place}")
        self._declared[found.name] = found, load

    def names(self) -> list[str]:
        """Every name, sorted; imports nothing."""
        return sorted(self._files().keys() | self._components.keys() | self._declared.keys())

    def own(self) -> list[str]:
        """The names of what plugins and notebooks added, sorted."""
        return sorted((self._components.keys() | self._declared.keys()) - self._files().keys())

    def get(self, name: str) -> Callable[..., Any]:
        """The component called ``name``; imports its file on first use.

        Raises:
            KeyError: no component has that name.
            LoadError: its file fails, or does not register it.
        """
        if name not in self._components:
            if name not in self.names():
                raise KeyError(name)
            try:
                self._load(name)
            except LoadError:
                raise
            except (Exception, SystemExit) as error:  # whatever a component's file does when it is imported
                raise LoadError(f"{self.group}={name}: cannot be loaded: {where(error)}") from error
            if name not in self._components:
                raise LoadError(f"{self.group}={name}: {self.file(name)} registers no component called {name}")
        return self._components[name]

    def file(self, name: str) -> Path | None:
        """Where a component stands; nothing for one that was registered in a notebook."""
        if name in self._declared:
            return self._declared[name][0].file
        return self._files().get(name)

    def keys(self, name: str) -> dict[str, Parameter]:
        """The keys that a component takes, with their types and defaults; imports it only where it cannot be read.

        Raises:
            KeyError, LoadError: as ``get``.
        """
        keys = self._read(name)
        if "name" in keys:
            raise LoadError(f"{self.group}={name}: a key cannot be called name, which chooses the component")
        return keys

    def doc(self, name: str) -> str:
        """The docstring of a plugin's component."""
        if name in self._components:
            return self._components[name].__doc__ or ""
        return self._declared[name][0].doc if name in self._declared else ""

    def build(self, config: Mapping[str, Any], *runtime: Any, **optional: Any) -> Any:
        """Build ``config["name"]`` from runtime objects and the other keys of ``config``, already checked.

        Args:
            config: the component's name and keys.
            runtime: what every component of the group takes, in order.
            optional: more runtime objects by name; a component gets those for which it has a positional parameter.
        """
        component = self.get(config["name"])
        keys = {key: value for key, value in config.items() if key != "name"}
        known = inspect.signature(component).parameters if optional else {}
        taken = [
            value
            for name, value in optional.items()
            if name in known and known[name].kind is not Parameter.KEYWORD_ONLY
        ]
        return component(*runtime, *taken, **keys)

    def _read(self, name: str) -> dict[str, Parameter]:
        file = self.file(name)
        if file is not None:
            try:
                return signature.keys(file, name)
            except (UnreadableError, SyntaxError, OSError):
                pass
            except MisplacedError as error:
                raise LoadError(f"{self.group}={name}: {error} ({file})") from error
        try:
            return signature.keys_of(self.get(name))
        except (MisplacedError, NameError, TypeError) as error:
            raise LoadError(f"{self.group}={name}: its keys cannot be read: {error} ({file})") from error

    def _files(self) -> dict[str, Path]:
        """The files of the group's folder, by the name of their component."""
        found = (
            (module.name, Path(getattr(module.module_finder, "path", "")) / f"{module.name}.py")
            for module in pkgutil.iter_modules(self._path)
        )
        return {name: file for name, file in found if not name.startswith("_")}

    def _module(self, name: str) -> str:
        return f"trainer.{self.group}.{name}"

    def _load(self, name: str) -> None:
        if name in self._declared:
            self._declared[name][1]()
        else:
            importlib.import_module(self._module(name))


def where(error: BaseException) -> str:
    """``ModuleNotFoundError: No module named 'timm' (my_models.py, line 3)``: an error of an import, in one line."""
    text = " ".join(str(error).split())
    if isinstance(error, SyntaxError):
        return f"{type(error).__name__}: {error.msg} ({error.filename}, line {error.lineno})"
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith("<frozen")]
    place = f" ({frames[-1].filename}, line {frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {text}{place}"


def identity(component: Callable[..., Any]) -> tuple[str, str]:
    """What tells a definition that runs twice from two definitions of one name: its module and its place there."""
    return component.__module__, component.__qualname__
