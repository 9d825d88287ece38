"""Several labels in one cell: as a list of JSON, or as names with a separator between them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence

from trainer.config import ConfigError
from trainer.config.messages import as_word

WORDS = {"space": " ", "tab": "\t"}  # of signs that are hard to type
SEPARATORS = ("|", ";", ",", " ")  # what may stand between the labels of a sample in one cell, the clearest first


def lists_in(texts: Sequence[str]) -> list[list[str]] | None:
    """Return the texts or whole numbers in each cell if all cells are lists of JSON, as those of Parquet become too."""
    if not texts or not all(text[:1] + text[-1:] == "[]" for text in texts):
        return None
    try:
        found = [json.loads(text) for text in texts]
    except (ValueError, RecursionError):
        return None
    if not all(type(each) in (str, int) for some in found for each in some):
        return None
    return [[each if isinstance(each, str) else str(each) for each in some] for some in found]


def parts_of(text: str, separator: str) -> list[str]:
    """Return the labels in a cell, which may be written as a list of Python: ``['a', 'b']``."""
    if is_list := text.startswith("[") and text.endswith("]"):
        text = text[1:-1]
    parts = [part.strip() for part in text.split(separator)]
    return [each for part in parts if (each := part.strip("'\"") if is_list else part)]


def ask_for_separator(name: str, texts: Sequence[str], *, sure: bool = False) -> None:
    """Raise ConfigError if the texts of a column look like several labels each, or if ``sure`` says that they are."""
    for separator in SEPARATORS:
        split = [parts_of(text, separator) for text in texts]
        several = sum(len(parts) > 1 for parts in split)
        labels = {part for parts in split for part in parts}
        are_few = several * 2 >= len(texts) and len(labels) * 2 <= len(texts) and len(texts) > 2
        are_lists = several and all(text[:1] + text[-1:] == "[]" for text in texts)
        if are_few or (separator != " " and (are_lists or _are_nested(split))):
            raise ConfigError(
                f"dataset.label_separator: null: {name} has {len(texts):,} different texts, made of {len(labels):,} "
                f"names with {separator!r} between them; {_typed(separator)} reads several labels a sample, "
                "dataset.task=classification one class for each text"
            )
    if sure:
        raise ConfigError(
            f"dataset.label_separator: null: what stands between the labels of {name}? for example "
            "'dataset.label_separator=\";\"'; the cells are such as " + ", ".join(texts[:3])
        )


def _are_nested(split: Sequence[Sequence[str]]) -> bool:
    """Return whether most labels of several in a cell occur in another cell too, and one of them alone."""
    counts = Counter(label for parts in split for label in {*parts})
    within = {label for parts in split if len(parts) > 1 for label in parts}
    alone = {parts[0] for parts in split if len(parts) == 1}
    return bool(within & alone) and sum(counts[label] > 1 for label in within) * 2 > len(within)


def _typed(separator: str) -> str:
    return as_word("dataset.label_separator", "space" if separator == " " else separator)
