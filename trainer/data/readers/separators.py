"""Tell several labels in a cell, such as ``haze primary``, from the name of one class, such as ``Golden Retriever``."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

SEPARATORS = ("|", ";", ",", " ")  # what may stand between the labels of a sample in one cell, the clearest first
OF_LISTS = ("tag", "attribute", "keyword", "genre", "topic", "finding")  # columns that hold several labels a sample
LOOSE = re.compile(r"[,;](\s|_|$)")  # a sign as in ``New York, NY``, which a name may have; not as in ``Bark,Dog``
RARE = 50  # what less than one of so many texts shows is an exception
# Words of names and sentences, in languages that many class names are in.
PHRASE = {"of", "the", "and", "or", "to", "in", "on", "at", "with", "for", "from", "by", "de", "la", "et", "und"}
GROUPED = re.compile(r"[0-9],[0-9]{3}(?![0-9])")  # a comma within a number, such as 1,000


class _Parts(NamedTuple):
    """What stands between the separators of the different texts of a column.

    Args:
        split: the parts of each text.
        several: the texts of several parts.
        texts: for each part, the number of the texts that have it.
        alone: the parts that are a whole text.
        within: the parts of texts with several parts.
    """

    split: Sequence[Sequence[str]]
    several: list[Sequence[str]]
    texts: Counter[str]
    alone: set[str]
    within: set[str]

    @classmethod
    def of(cls, split: Sequence[Sequence[str]]) -> _Parts:
        several = [parts for parts in split if len(parts) > 1]
        return cls(
            split,
            several,
            texts=Counter(part for parts in split for part in {*parts}),
            alone={parts[0] for parts in split if len(parts) == 1},
            within={part for parts in several for part in parts},
        )

    @property
    def are_few(self) -> bool:
        """Whether most texts have several parts, of which there are far fewer than texts."""
        count = len(self.split)
        return count > 2 and len(self.several) * 2 >= count and len(self.texts) * 2 <= count

    @property
    def are_nested(self) -> bool:
        """Whether most parts within texts occur in another text too, and one of them alone."""
        shared = sum(self.texts[part] > 1 for part in self.within)
        return bool(self.within & self.alone) and shared * 2 > len(self.within)

    @property
    def are_frequent(self) -> bool:
        """Whether a quarter of the texts have several parts, or a part occurs in several texts."""
        return len(self.several) * 4 >= len(self.split) or any(self.texts[part] > 1 for part in self.within)


def may_be_labels(texts: Sequence[str], split: Sequence[Sequence[str]], separator: str, column: str) -> bool:
    """Return whether the texts of a column may hold several labels each.

    Args:
        texts: the different texts of the column.
        split: the parts of each text.
        separator: what stands between the parts; one of ``SEPARATORS``.
        column: the name of the column.
    """
    parts = _Parts.of(split)
    if not parts.several:
        return False
    if separator == " ":
        return _are_numbers(parts) or _are_sets(parts, column)
    if all(text[:1] + text[-1:] == "[]" for text in texts) or parts.are_few or parts.are_nested:
        return True
    is_clear = separator == "|" or not any(LOOSE.search(text) or GROUPED.search(text) for text in texts)
    return (is_clear and parts.are_frequent) or _are_numbers(parts)


def are_lists_of_numbers(split: Sequence[Sequence[str]]) -> bool:
    """Return whether texts are lists of whole numbers, as ``16 0`` among 5 and 7, and not one number each."""
    return _are_numbers(_Parts.of(split))


def _are_numbers(parts: _Parts) -> bool:
    """Return whether all parts are whole numbers, which do not repeat within a text and are no groups of digits."""
    if len(parts.several) * 10 < len(parts.split) or not all(part.isdecimal() for part in parts.texts):
        return False
    are_groups = all(len(part) == 3 for some in parts.several for part in some[1:])
    return not are_groups and not _repeat(parts)


def _repeat(parts: _Parts) -> bool:
    """Return whether some texts have a part twice, as the names of species do and labels do not."""
    repeated = sum(len({part.lower() for part in some}) < len(some) for some in parts.several)
    return repeated * RARE > len(parts.several)


def _are_sets(parts: _Parts, column: str) -> bool:
    """Return whether words with spaces between them look like sets of labels, and not like names of several words.

    A word of a name has its place: Retriever ends the names of dogs, and the make of a car comes first. A label stands
    alone, before some labels and behind others, as often as it occurs.
    """
    phrases = sum(any(part in PHRASE or LOOSE.search(part) for part in some) for some in parts.several)
    if _repeat(parts) or phrases * RARE > len(parts.several):
        return False
    again = len(parts.several) - len({frozenset(some) for some in parts.several})  # the same words in another order
    signs = sum(any("_" in part.strip("_") for part in some) for some in parts.several)  # instead of spaces in names
    if max(again, signs) * RARE > len(parts.several):
        return True
    is_of_lists = any(re.search(rf"(?<![a-z]){word}(s|_?ids?)?(?![a-z])", column.lower()) for word in OF_LISTS)
    if is_of_lists and any(parts.texts[part] > 1 for part in parts.within):
        return True
    moved = _moved(parts)
    if moved is None:
        return False
    others = parts.within - parts.alone
    stand_alone = len(others) * 3 <= len(parts.within) and len(parts.texts) <= len(parts.split)
    occurrences = sum(parts.texts[part] for part in parts.within)
    move = len(moved) > 1 and sum(parts.texts[part] for part in moved) * 2 > occurrences
    return parts.are_few or stand_alone or (move and len(parts.several) * 2 >= len(parts.split))


def _moved(parts: _Parts) -> set[str] | None:
    """Return the parts whose place differs from text to text; None if no part moves, counted from one of the ends."""
    first: dict[str, set[int]] = {}
    last: dict[str, set[int]] = {}
    for some in parts.split:
        for at, part in enumerate(some):
            first.setdefault(part, set()).add(at)
            last.setdefault(part, set()).add(len(some) - at)
    move = [{part for part, places in found.items() if len(places) > 1} for found in (first, last)]
    return move[0] & move[1] if all(move) else None
