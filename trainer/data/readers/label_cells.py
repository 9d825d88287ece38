"""Several labels in one cell: as a list of JSON, or as names with a separator between them."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence

from trainer.config import ConfigError
from trainer.config.messages import as_word
from trainer.data.readers.separators import SEPARATORS, are_lists_of_numbers, may_be_labels

WORDS = {"space": " ", "tab": "\t"}  # of signs that are hard to type
LEAST_RISING = 2  # cells such as 10,25, whose second number is the larger one, from which they may be labels
LOSS_OF_LABELS = "with loss=bce"  # what a message about labels adds, as the usual loss is that of classes


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


def ask_for_separator(name: str, texts: Sequence[str], *, are_numbers: bool, sure: bool) -> None:
    """Raise ConfigError if the texts of a column look like several labels each, or if ``sure`` says that they are.

    Args:
        name: the name of the column.
        texts: its different texts.
        are_numbers: whether most cells are numbers, so that the others are labels only if they are lists of numbers.
        sure: whether the task is multilabel.
    """
    for separator in [each for each in SEPARATORS if any(each in text for text in texts)]:
        split = [parts_of(text, separator) for text in texts]
        if are_lists_of_numbers(split) if are_numbers else may_be_labels(texts, split, separator, name):
            count = len({part for parts in split for part in parts})
            raise ConfigError(
                f"dataset.label_separator: null: {name} has {len(texts):,} different texts, made of {count:,} "
                f"names with {separator!r} between them; {_typed(separator)} reads several labels a sample "
                f"({LOSS_OF_LABELS}), dataset.task=classification one class for each text"
            )
    if sure and not are_numbers:
        raise ConfigError(
            f"dataset.label_separator: null: what stands between the labels of {name}? for example "
            f"'dataset.label_separator=\";\"' ({LOSS_OF_LABELS}); the cells are such as {', '.join(texts[:3])}"
        )


def ask_about_commas(name: str, texts: Sequence[str]) -> None:
    """Raise ConfigError if numbers with decimal commas may be labels, such as 4 and 10,25: rising whole numbers."""
    split = [parts_of(text, ",") for text in texts]
    several = [parts for parts in split if len(parts) > 1]
    is_rising = all(part.isdecimal() and part == str(int(part)) for parts in split for part in parts) and all(
        int(before) < int(after) for parts in several for before, after in itertools.pairwise(parts)
    )
    if len(several) >= LEAST_RISING and is_rising and 4 * (len(split) - len(several)) >= len(split):
        raise ConfigError(
            f"dataset.task: auto: is {','.join(several[0])} in {name} a number with a decimal comma, or two labels? "
            f"dataset.task=regression or {_typed(',')} ({LOSS_OF_LABELS}) says so"
        )


def _typed(separator: str) -> str:
    return as_word("dataset.label_separator", "space" if separator == " " else separator)
