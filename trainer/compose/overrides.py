"""Parse the words of a command line as Hydra overrides, split a sweep into jobs, and set values in a config."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import math
import re
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from fractions import Fraction
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.types import (
    ChoiceSweep,
    Glob,
    IntervalSweep,
    Override,
    RangeSweep,
    Sweep,
    Transformer,
    ValueType,
)
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from trainer.compose.read_word import chosen_by, flaw_of, read
from trainer.config import GROUPS, ConfigError, Settings, yaml_file
from trainer.config.key_types import NONE_CHOSEN, key_types, takes
from trainer.config.messages import as_word, describe
from trainer.config.registry import LoadError, registries
from trainer.config.settings import key_of
from trainer.config.signature import keys_in
from trainer.config.unknown_keys import help_command, unknown_key

TYPED = "from the command line"
MAX_JOBS = 256  # largest sweep of which every job is checked; in a larger sweep, every value is checked once
MAX_VALUES = 256  # largest number of values of one key that are checked
MAX_RUNS = 10_000  # largest grid
MAX_SHOWN = 80  # characters of a word in the message that it has too many values
# Largest size of a word. Hydra's parser takes 3 s for 2,000 of these signs, and four times as long for twice as many.
MAX_LETTERS, MAX_SIGNS = 100_000, 2_000
SIGNS = re.compile(r"[\[\]{}(),:]")
KEY = re.compile(r"[+~]{0,2}[\w./@$-]+", re.ASCII)
TARGET = re.compile(r"(?<!\w)_target_(?!\w)")


def parse(words: Sequence[str], loader: ConfigLoader, problems: list[str]) -> Iterator[Override]:
    """Yield the words that are valid overrides; add one line to ``problems`` for each mistake in the other words."""
    rest, chosen = list(words), chosen_by(words)
    while rest:
        word = rest.pop(0)
        reasons = _refusals(word)
        if reasons:
            key = key_of(word)
            problems += [f"{key}: {reason} ({TYPED})" for reason in reasons]
        elif not (override := _parsed(word, loader, chosen)) or (
            override.key_or_group not in GROUPS and _goes_on(rest)
        ):
            problems.append(_unreadable(word, rest, loader))
        elif _has_function(override.value()):
            key, _, value = word.partition("=")
            problems.append(f"{key}: range, choice and their like cannot be part of a value, got {value} ({TYPED})")
        else:
            yield override


def _refusals(word: str) -> list[str]:
    """Return why a word is not parsed; an empty list if it may be."""
    if too_long := _too_long(word):
        return [f"the word has {too_long}; a long value is written in a YAML file, for --config-dir"]
    if TARGET.search(word):
        return ["names code, and a config is data"]
    return yaml_file.refusals(word) or ["an interpolation is written ${key}"] * (not _can_interpolate(word))


def _can_interpolate(word: str) -> bool:
    """Return whether OmegaConf can read the interpolations of a word, of which ``${`` alone is none."""
    try:
        OmegaConf.create([word] if "${" in word else [])
    except OmegaConfBaseException:
        return False
    return True


def _too_long(word: str) -> str:
    """Return how much longer a word is than the parser can read in a few seconds; empty if it is not."""
    if len(word) > MAX_LETTERS:
        return f"{len(word):,} characters, and at most {MAX_LETTERS:,} are read"
    signs = len(SIGNS.findall(word))
    return f"{signs:,} commas, colons and brackets, and at most {MAX_SIGNS:,} are read" if signs > MAX_SIGNS else ""


def _parsed(word: str, loader: ConfigLoader, chosen: Mapping[str, str] = NONE_CHOSEN) -> Override | None:
    return None if _too_long(word) else read(word, loader, chosen)


def _has_function(value: Any, *, is_part: bool = False) -> bool:
    """Return whether a part of a value, or of one of the values of a sweep, stands for several values."""
    if is_part and isinstance(value, Sweep | Glob):
        return True
    parts = value.list if isinstance(value, ChoiceSweep) else value.values() if isinstance(value, dict) else value
    return isinstance(value, ChoiceSweep | dict | list) and any(_has_function(each, is_part=True) for each in parts)


def _goes_on(rest: Sequence[str]) -> bool:
    """Return whether the next word seems to continue the current one: it is no override, key or option."""
    if not rest or "=" in rest[0] or rest[0].startswith("~"):
        return False
    names = set(keys_in(Settings))
    for registry in registries().values():
        for name in registry.names():
            names.add(name)
            with contextlib.suppress(LoadError):  # a broken plugin, which is reported elsewhere
                names |= registry.keys(name).keys()
    return rest[0] not in names


def _unreadable(word: str, rest: list[str], loader: ConfigLoader) -> str:
    """Return the error message for a word that cannot be parsed; remove its continuation, if any, from ``rest``."""
    for count in range(1, min(len(rest), 8) + 1):
        joined = " ".join([word, *rest[:count]])
        mended = re.sub(r"^([\w.]+)\s*[=:\s]\s*", r"\1=", joined)
        if re.search(r"=.", mended) and not re.search(r"\s[\w.]+=", mended) and _parsed(mended, loader):
            del rest[:count]
            return f"{joined}: cannot be read; write {shlex.quote(mended)}"
    key, equals, value = word.partition("=")
    group = next((group for group in GROUPS if word in registries()[group].names()), None)
    of_group, _, leaf = word.partition(".")
    components = registries().get(of_group)
    is_key = components is not None and any(leaf in components.keys(name) for name in components.names())
    flaw = flaw_of(word)
    may_be_text = takes(key, value) or next(key_types(key), None) is None
    advices = (
        (group is not None, f"did you mean {group}={word}?"),
        (is_key, f"write {word}=VALUE; train --help explains the key"),
        (not equals, "write key=value; a value with a space needs quotes: 'key=a b'"),
        (key != key.strip() or not key, "write key=value, without a space"),
        (not KEY.fullmatch(key), "a key has letters from a to z, digits, _ and dots"),
        (value.startswith("log("), f"write {key}=tag(log,{value.removeprefix('log(')}"),
        (flaw != "", f"{flaw}; for one text write {as_word(key, value)}" if may_be_text else flaw),
        (True, _what_is_allowed(key.lstrip("+~"))),
    )
    advice = next(advice for applies, advice in advices if applies)
    return f"{word}: cannot be read; {advice}"


def _what_is_allowed(key: str) -> str:
    """Describe the values of a key of known type; of any other key, how a list and a mapping are written."""
    kind = next(key_types(key), None)
    return "a list is written [a,b], a mapping {a: b}" if kind is None else f"must be {describe(kind)}"


def jobs(overrides: Sequence[Override]) -> Iterator[list[Override]]:
    """Yield the overrides of every job of a sweep.

    For a sweep of more than ``MAX_JOBS`` jobs, yield only enough jobs to contain every value of every key once: each
    value is combined with the first value of all other keys.
    """
    choices = [variants(each) for each in overrides]
    if math.prod(map(len, choices)) <= MAX_JOBS:
        yield from map(list, itertools.product(*choices))
        return
    first = [each[0] for each in choices]
    yield first
    for place, others in enumerate(choices):
        for other in others[1:]:
            yield [*first[:place], other, *first[place + 1 :]]


def sweep_words(overrides: Sequence[Override]) -> list[list[str]]:
    """Return the words of every run of a grid sweep: one value for each key, without Hydra's own keys."""
    ours = [each for each in overrides if not each.is_hydra_override()]
    ((*combinations,),) = BasicSweeper.split_arguments(ours, None)
    return [list(words) for words in combinations]


def variants(override: Override) -> list[Override]:
    """Split a sweep override into one override for each value.

    At most ``MAX_VALUES`` values are returned, always including the last value. An interval is represented by its ends.
    """
    if not override.is_sweep_override():
        return [override]
    value = override.value()
    found: list[Any]
    if isinstance(value, IntervalSweep):
        found = [value.start, value.end]
    elif isinstance(value, RangeSweep):
        numbers = RangeValues(value)
        places = [*range(min(len(numbers), MAX_VALUES - 1)), *[len(numbers) - 1] * (len(numbers) >= MAX_VALUES)]
        found = [numbers[place] for place in places]
    else:
        found = list(override.sweep_iterator())
        found = [*found[: MAX_VALUES - 1], *found[MAX_VALUES - 1 :][-1:]]
    prefix = str(override.input_line).partition("=")[0]
    return [
        dataclasses.replace(
            override, _value=each, value_type=ValueType.ELEMENT, input_line=f"{prefix}={Transformer.str(each)}"
        )
        for each in found
    ]


class RangeValues(Sequence[float]):
    """The numbers of a range; those of a long range, such as ``range(0,1e9)``, are not listed but computed.

    Hydra adds up the steps, so that the numbers that it lists can differ in the last digit from computed ones.

    Raises:
        ValueError: the range has no end, or more than 2**63 - 1 numbers.
    """

    def __init__(self, sweep: RangeSweep) -> None:
        numbers = start, stop, step = sweep.start, sweep.stop, sweep.step
        if step == 0 or not all(isinstance(each, int) or math.isfinite(each) for each in numbers):  # type: ignore[arg-type]
            raise ValueError(f"a range needs finite numbers and a step other than 0, got {start}, {stop}, {step}")
        self._whole = all(isinstance(each, int) for each in numbers)
        kind = int if self._whole else Decimal  # as in Hydra's own range
        self._start, self._step = kind(start), kind(step)  # type: ignore[arg-type]
        count = math.ceil((Fraction(stop) - Fraction(start)) / Fraction(step))  # type: ignore[arg-type]
        self._count = max(0, count)
        if self._count > sys.maxsize:
            raise ValueError(f"a range of {Decimal(count):.3g} numbers")
        self._listed = [*sweep.range()] if count <= MAX_RUNS else []
        self._count = len(self._listed) or self._count

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, at: Any) -> Any:
        if not -self._count <= at < self._count:
            raise IndexError(at)
        if self._listed:
            return self._listed[at]
        value: Any = self._start + at % self._count * self._step
        return int(value) if self._whole else float(value)


def num_values(override: Override) -> int:
    """Return how many values an override has, without listing those of a range; an interval has two, its ends."""
    value = override.value()
    if isinstance(value, RangeSweep):
        return len(RangeValues(value))
    return len(list(override.sweep_iterator())) if override.is_choice_sweep() else 1 + override.is_sweep_override()


def too_many_runs(overrides: Sequence[Override]) -> list[str]:
    """Return one line if a grid has more than ``MAX_RUNS`` runs, else an empty list."""
    counts = {str(each.input_line): num_values(each) for each in overrides if each.is_sweep_override()}
    total = math.prod(counts.values())
    if total <= MAX_RUNS:
        return []
    largest = max(counts, key=counts.__getitem__)
    shown = largest if len(largest) <= MAX_SHOWN else f"{largest[:MAX_SHOWN]}…"
    of_one = f", of which {shown} gives {counts[largest]:,}" if len(counts) > 1 else ""
    return [
        f"{largest.partition('=')[0]}: a sweep of {total:,} runs{of_one} ({TYPED}); at most {MAX_RUNS:,}: "
        "give fewer values, split the sweep, or search the values: hydra/sweeper=optuna"
    ]


def without_values(override: Override) -> str | None:
    """Return the error message for a sweep override that has no values or is invalid, or None."""
    try:
        return None if variants(override) else f"{override.input_line}: gives no values ({TYPED})"
    except (HydraException, ValueError, TypeError, IndexError, AttributeError) as error:
        return f"{override.input_line}: cannot be swept ({TYPED}): {str(error).splitlines()[0]}"


def needs_multirun(override: Override, group: bool) -> str:
    """Return the error message for several values of one key in a command that is not a sweep."""
    word = str(override.input_line)
    if isinstance(override.value(), IntervalSweep):
        return f"{word}: is searched with --multirun hydra/sweeper=optuna"
    key, _, typed = word.partition("=")
    advice = ""
    if getattr(override.value(), "simple_form", False):
        values = [each.value() for each in variants(override)]
        if key == "logger" or (not group and takes(key, values)):
            advice += f"; for a list write {shlex.quote(f'{key}=[{typed}]')}"
        if takes(key, typed) and typed[:1] not in ("'", '"'):
            advice += f"; for one text write {as_word(key, typed)}"
    return f"{word}: several values need --multirun{advice}"


@contextlib.contextmanager
def single_values(reason: str) -> Iterator[None]:
    """Let errors about several values of one key name a reason, for a command to which --multirun does not apply."""
    try:
        yield
    except ConfigError as error:
        hint, instead = "several values need --multirun", f"several values, but {reason}"
        raise ConfigError(*(line.replace(hint, instead) for line in error.problems)) from error


def lay(plain: dict[str, Any], override: Override, problems: list[str]) -> None:
    """Apply one override to a config. ``config.check`` reports later if the key does not exist."""
    key, value = override.key_or_group, override.value()
    *parents, leaf = key.split(".")
    node: Any = plain
    for count, name in enumerate(parents):
        if isinstance(node, list):
            node = node[int(name)] if name.isdecimal() and int(name) < len(node) else None
        else:
            node = node.setdefault(name, {})
        if not isinstance(node, dict | list):
            above = ".".join(parents[: count + 1])
            problems.append(f"{key}: no such key ({TYPED}); {above} has no keys of its own")
            return
    if isinstance(node, list):
        if leaf.isdecimal() and int(leaf) < len(node):
            node[int(leaf)] = value
        else:
            problems.append(f"{key}: no such item ({TYPED}); {'.'.join(parents)} has {len(node)} of them")
    elif override.is_delete():
        if leaf in node:
            del node[leaf]
        else:
            problems.append(unknown_key(key, node, TYPED, command=help_command(key, plain)))
    elif override.is_add() and leaf in node and not isinstance(value, dict | list):
        problems.append(f"+{key}: is there already; write {str(override.input_line).lstrip('+')}")
    elif isinstance(value, dict) and isinstance(node.get(leaf), dict):
        node[leaf] = {**node[leaf], **value}
    else:
        node[leaf] = value
