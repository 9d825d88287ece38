"""Read one word of a command line as Hydra does, and otherwise as it was typed, where a key takes a text.

Hydra's grammar knows ASCII letters and a few signs. A value that it cannot read, or reads as something that the type of
the key does not allow, is a list, a mapping, or several values of a sweep, of which each text stands as it was typed,
or else the text that was typed. Quotes and escapes keep the meaning that Hydra gives them.
"""

from __future__ import annotations

import dataclasses
import os
import re
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, Glob, Override, Quote, QuotedString, Sweep, ValueType
from hydra.errors import HydraException

from trainer.config import GROUPS
from trainer.config.check import fits
from trainer.config.key_types import NONE_CHOSEN, key_types, parts_of

CLOSING = {"(": ")", "[": "]", "{": "}"}
QUOTED = re.compile(r"""\s*("(\\.|[^"\\])*"|'(\\.|[^'\\])*')\s*""", re.DOTALL)
PAIR = re.compile(rf"({QUOTED.pattern}|[^:]*):\s*(.*)", re.DOTALL)
Leaf = Callable[[str], Any]


class UnreadableError(Exception):
    """A value has no reading; the message says what the value lacks, and is empty if that is not known."""


def chosen_by(words: Iterable[str]) -> dict[str, str]:
    """Return the component that words such as ``dataset=csv`` choose in each group."""
    typed = [word.partition("=") for word in words]
    return {group: name for group, _, name in typed if group in GROUPS}


def read(word: str, loader: ConfigLoader | None, chosen: Mapping[str, str] = NONE_CHOSEN) -> Override | None:
    """Return the override that a word stands for, or None if the word has no reading; ``flaw_of`` says why.

    Args:
        word: the word.
        loader: loads the options that a glob stands for.
        chosen: the components that the command chooses, if known: they say which type a key has.
    """
    found = _by_hydra(word, loader)
    prefix, equals, typed = word.partition("=")
    frame = found or (_by_hydra(f"{prefix}=x", loader) if equals else None)
    if frame is None or (found is not None and (found.is_delete() or found.value() == typed)):
        return found
    key = frame.key_or_group
    if found is not None and _is_meant(found, typed, key_types(key, chosen)):
        return found
    try:
        value = _Value(key_types(key, chosen)).read(typed, must_suit=found is not None)
    except (UnreadableError, RecursionError):
        return found
    several = isinstance(value, ChoiceSweep)
    kind = ValueType.SIMPLE_CHOICE_SWEEP if several else ValueType.ELEMENT
    return dataclasses.replace(frame, _value=value, value_type=kind, input_line=word)


def flaw_of(word: str) -> str:
    """Return what a value without a reading lacks; empty if that is not known."""
    prefix, _, typed = word.partition("=")
    try:
        _Value(key_types(prefix.lstrip("+~"))).read(typed)
    except UnreadableError as flaw:
        return str(flaw)
    except RecursionError:
        return "nested too deeply"
    return ""


def in_grammar(override: Override) -> str:
    """Return an override as a word that Hydra's grammar reads."""
    value, typed = override.value(), str(override.input_line)
    by_hydra = _by_hydra(typed, None)
    if by_hydra is not None and by_hydra._value == override._value:
        return typed
    if override.is_delete() or (isinstance(value, Sweep | Glob) and not getattr(value, "simple_form", False)):
        return typed
    several = override.is_sweep_override()
    texts = override.sweep_string_iterator() if several else [override.get_value_element_as_str()]
    return f"{override.get_key_element()}={','.join(texts)}"


def text_of(word: str) -> str | None:
    """Return the value of a word as a text, or None if the value is null or several values."""
    override = read(word, None)
    value = "" if override is None else override.value()
    if value is None or isinstance(value, Sweep | Glob):
        return None
    return value if isinstance(value, str) and override is not None else word.partition("=")[2]


def _by_hydra(word: str, loader: ConfigLoader | None) -> Override | None:
    try:
        (override,) = OverridesParser.create(loader).parse_overrides([word])
    except (HydraException, ValueError, RecursionError):
        return None
    return override if override.key_or_group else None


def _is_meant(override: Override, typed: str, types: Iterable[Any]) -> bool:
    """Return whether Hydra's reading of a value fits the type of the key; True if the type is unknown.

    A text that lost its blanks (``a.csv ``), or was taken for a call (``str (1)``), is not what was meant.
    """
    value = override.value()
    kinds = list[Any]()
    for kind in types:
        kinds.append(kind)
        if isinstance(value, ChoiceSweep):
            plain = [Override._convert_value(each) for each in value.list]
            if not value.simple_form or all(each is None or fits(kind, each) for each in plain):
                return True
        elif isinstance(value, Sweep | Glob):
            if isinstance(value, Glob) or fits(kind, 1) or fits(kind, 0.5):
                return True
        elif value is None or (fits(kind, value) and not isinstance(value, str)):
            return True
        elif isinstance(value, str) and fits(kind, value):
            return bool(re.search(r"['\"\\]", typed) or re.match(r"\w+\(", typed)) or not fits(kind, typed)
    return not kinds


class _Value:
    """Reads a value that Hydra's grammar does not read, by the types of its key."""

    def __init__(self, kinds: Iterable[Any]) -> None:
        self._kinds = [*kinds]
        parts = {typing.get_origin(part) or part for kind in self._kinds for part in parts_of(kind)}
        self._takes_only_text = str in parts and not parts & {list, dict, Any}

    def read(self, typed: str, *, must_suit: bool = False) -> Any:
        """Return the value: a text, a list, a mapping, or a ``ChoiceSweep``.

        Args:
            typed: the part of the word after the equals sign.
            must_suit: whether a text has no reading if the type of the key excludes it.

        Raises:
            UnreadableError: the value has no reading.
        """
        begin = typed.lstrip()[:1]
        if begin in ("'", '"') and not QUOTED.match(typed):
            raise UnreadableError("a quote is not closed")
        parts = _split(typed)
        may_be_text = self._takes_only_text or (self._allows(typed) and begin not in ("[", "{"))
        if parts is None and not may_be_text:
            raise UnreadableError("a bracket is not closed")
        parts = parts or _split(typed, [""]) or []
        if len(parts) > 1 and all(parts):
            values = [self._single(part, is_part=True) for part in parts]
            if must_suit and not all(map(self._allows, values)):
                raise UnreadableError
            return ChoiceSweep(list=values, simple_form=True)
        if len(parts) > 1 and any(parts):
            raise UnreadableError(
                "a comma is left over at its end" if not parts[-1] else "a value between two commas is missing"
            )
        value = self._single(typed)
        if must_suit and not self._allows(value):
            raise UnreadableError
        return value

    def _single(self, typed: str, *, is_part: bool = False) -> Any:
        found = _by_hydra(f"x={typed}", None) if is_part else None
        if found is not None and self._allows(found.value()):
            return _as_hydra(typed)
        leaves: tuple[Leaf, Leaf] = (_as_hydra, _as_typed)
        for leaf in leaves:
            value = _container(typed.strip(), leaf)
            if value is not None and self._allows(value):
                return value
        text, bare = _as_typed(typed), typed.strip()
        is_container = bare[:1] in ("[", "{") and bare.endswith(CLOSING[bare[0]])
        is_call = re.match(r"\w+\(", bare) and not (self._kinds and self._allows(text))
        if (is_container and not self._takes_only_text) or is_call:
            raise UnreadableError
        return _as_hydra(typed) if is_part and not self._allows(text) else text  # which is refused by its type later

    def _allows(self, value: Any) -> bool:
        plain = Override._convert_value(value)
        return not self._kinds or any(fits(kind, plain) for kind in self._kinds)


def _container(typed: str, leaf: Leaf) -> list[Any] | dict[Any, Any] | None:
    """Return the list or the mapping that a value writes in brackets, its texts read by ``leaf``, or None."""
    if len(typed) < 2 or typed[0] not in "[{" or typed[-1] != CLOSING[typed[0]]:
        return None
    parts = _split(typed[1:-1])
    if parts is None or (not all(parts) and parts != [""]):
        return None
    parts = [part for part in parts if part]

    def read(part: str) -> Any:
        inner = _container(part, leaf)
        return leaf(part) if inner is None else inner

    if typed[0] == "[":
        return [*map(read, parts)]
    pairs = [PAIR.fullmatch(part) for part in parts]
    return {_plain(leaf(pair[1].strip())): read(pair[5]) for pair in pairs if pair} if all(pairs) else None


def _plain(key: Any) -> Any:
    """Return the key of a mapping without quotes, which Hydra's grammar does not read there."""
    return key.text if isinstance(key, QuotedString) and re.fullmatch(r"[A-Za-z_]\w*", key.text, re.ASCII) else key


def _as_hydra(typed: str) -> Any:
    """Return Hydra's reading of one value, or the text that was typed if Hydra has none."""
    found = _by_hydra(f"x={typed}", None)
    if found is None:
        return _as_typed(typed)
    value = found._value
    return QuotedString(value, Quote.double) if isinstance(value, str) else value


def _as_typed(typed: str) -> Any:
    """Return a text as it was typed, except for quotes around it and for ``~/``, which is the home directory."""
    if QUOTED.fullmatch(typed):
        return _as_hydra(typed)
    home = typed.startswith("~/")
    return QuotedString(os.path.expanduser(typed) if home else typed, Quote.double)  # noqa: PTH111  # keeps a/ and a//b


def _split(text: str, opening: Sequence[str] = ("([{", "[{")) -> list[str] | None:
    """Split a text at the commas outside brackets and quotes; None if the brackets do not match.

    Parentheses that do not match are letters like any other.
    """
    found = (_split_outside(text, brackets) for brackets in opening)
    return next((parts for parts in found if parts is not None), None)


def _split_outside(text: str, opening: str) -> list[str] | None:
    closing = [CLOSING[sign] for sign in opening]
    parts, waiting = list[str](), list[str]()
    start = at = 0
    begins = True  # whether a quote here would open a text, as ' in it's does not
    while at < len(text):
        if begins and (quoted := QUOTED.match(text, at)):
            at, begins = quoted.end(), False
            continue
        sign = text[at]
        if sign in opening:
            waiting.append(CLOSING[sign])
        elif waiting and sign == waiting[-1]:
            waiting.pop()
        elif sign in closing:
            return None
        elif sign == "," and not waiting:
            parts.append(text[start:at].strip())
            start = at + 1
        begins = sign in ",:([{" or (begins and sign.isspace())
        at += 1
    return None if waiting else [*parts, text[start:].strip()]
