"""Find the types that a dotted key may have before a config is composed. Imports neither torch nor Hydra."""

from __future__ import annotations

import contextlib
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from inspect import Parameter
from typing import Annotated, Any

from trainer.config.check import fits
from trainer.config.registry import LoadError, registries
from trainer.config.settings import Settings
from trainer.config.signature import keys_in

NONE_CHOSEN: Mapping[str, str] = types.MappingProxyType({})


def key_types(key: str, chosen: Mapping[str, str] = NONE_CHOSEN) -> Iterator[Any]:
    """Yield the type of a key in each component that has the key; nothing if the key, or its type, is unknown.

    Args:
        key: a dotted key, such as ``dataset.path``, ``checkpoint.keep``, ``logger.csv.file`` or ``metrics.0``.
        chosen: the component that a command chooses in a group, such as ``csv`` in ``dataset``. Only its type is
            yielded if it is known to have the key.
    """
    first, *names = key.split(".")
    name = names.pop(0) if first == "logger" and names else chosen.get(first)
    is_group = first in registries()
    if is_group and not names:
        return
    for keys in _keys_of(first, name, names[:1]) if is_group else [keys_in(Settings)]:
        found: list[Any] = [keys]
        for name in names if is_group else [first, *names]:
            found = [below for each in found for below in _below(each, name)]
        yield from found


def takes(key: str, value: Any) -> bool:
    """Return whether a value suits one of the types that a key may have; False if the key is unknown."""
    return any(fits(kind, value) for kind in key_types(key))


def parts_of(kind: Any) -> list[Any]:
    """Return the types that a union consists of, without annotations; of any other type, the type itself."""
    if typing.get_origin(kind) is Annotated:
        return parts_of(typing.get_args(kind)[0])
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        return [part for each in typing.get_args(kind) for part in parts_of(each)]
    return [kind]


def _keys_of(group: str, chosen: str | None, names: Sequence[str]) -> Iterator[Mapping[str, Parameter]]:
    """Yield the keys of the chosen component if it has those in ``names``, else of all; of loggers, of one only."""
    components = registries()[group]
    is_known = chosen is not None and chosen in components.names()
    for name in [chosen] if is_known and chosen is not None else []:
        with contextlib.suppress(LoadError):  # a broken plugin, which is reported elsewhere
            keys = components.keys(name)
            if {*names} <= {*keys}:
                yield keys
                return
    for name in components.names() if group != "logger" else []:
        with contextlib.suppress(LoadError):
            yield components.keys(name)


def _below(kind: Any, name: str) -> Iterator[Any]:
    """Yield the types that the key ``name`` below a key of a type may have."""
    if isinstance(kind, Mapping):
        if name in kind and kind[name].annotation is not Parameter.empty:
            yield kind[name].annotation
        return
    for part in parts_of(kind):
        arguments = typing.get_args(part)
        if keys := keys_in(part):
            yield from _below(keys, name)
        elif typing.get_origin(part) in (dict, list) and arguments:
            yield arguments[-1]
