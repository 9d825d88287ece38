"""Registries: which components there are, what keys each takes, and how one is built.

A component is a class or function under one decorator. Its positional parameters are runtime objects; its
keyword-only parameters, typed, are exactly the keys of its YAML. Names are the files of the group's folder, and only
the file asked for is imported: listing needs no torch, and a broken component cannot break the others.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
import typing
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

ComponentT = TypeVar("ComponentT", bound=Callable[..., Any])


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

    def register(self, component: ComponentT) -> ComponentT:
        """Add a component under its own name in snake case: ``CrossEntropy`` is ``cross_entropy``.

        Raises:
            ValueError: another component has that name.
        """
        name = snake_case(component.__name__)
        known = self._components.setdefault(name, component)
        if known is not component:
            raise ValueError(f"{self.group}={name}: registered twice, in {known.__module__} and {component.__module__}")
        return component

    def names(self) -> list[str]:
        """Every name, sorted; imports nothing."""
        files = (module.name for module in pkgutil.iter_modules(self._path))
        return sorted({name for name in files if not name.startswith("_")} | self._components.keys())

    def get(self, name: str) -> Callable[..., Any]:
        """The component called ``name``; imports its file on first use.

        Raises:
            LookupError: no component has that name, or its file does not register it.
        """
        if name not in self._components:
            if name not in self.names():
                raise KeyError(name)
            module = importlib.import_module(f"trainer.{self.group}.{name}")
            if name not in self._components:
                raise LookupError(f"{module.__file__} registers no component called {name}")
        return self._components[name]

    def keys(self, name: str) -> dict[str, Any]:
        """The keys that a component takes, each with its type: its keyword-only parameters."""
        component = self.get(name)
        hints = typing.get_type_hints(
            component.__init__ if inspect.isclass(component) else component, include_extras=True
        )
        parameters = inspect.signature(component).parameters.values()
        return {p.name: hints.get(p.name, Any) for p in parameters if p.kind is p.KEYWORD_ONLY}

    def build(self, config: Mapping[str, Any], *runtime: Any) -> Any:
        """Build ``config["name"]`` from runtime objects and the other keys of ``config``, already checked."""
        keys = {key: value for key, value in config.items() if key != "name"}
        return self.get(config["name"])(*runtime, **keys)


def snake_case(name: str) -> str:
    """``CrossEntropy`` -> ``cross_entropy``, ``BCEProb`` -> ``bce_prob``, ``GRU`` -> ``gru``."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()
