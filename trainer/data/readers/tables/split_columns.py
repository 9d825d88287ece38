"""Find the column of a table that says which split a row belongs to, and what its values mean."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence

from trainer.config import ConfigError
from trainer.config.messages import as_word
from trainer.data.readers.split_names import split_name
from trainer.data.readers.tables.columns import is_target_name
from trainer.data.readers.tables.layout import ColumnKey, Layout, listed
from trainer.data.readers.tables.number_cells import NO, YES, to_float

NO_COLUMN = "none"  # the value of a key that keeps a column from being found by its name

# Kaggle scores a competition on a public and, at the end, on a private part of the test data (FER2013).
PARTS_OF_TEST = {"publictest": "val", "privatetest": "test"}
NUMBERED = {0.0: "train", 1.0: "val", 2.0: "test"}  # of the columns of CelebA, Waterbirds and others
PART_NAME = re.compile(r"partition|^(?:sub)?set$|^split")  # names of columns of 0, 1 and 2 that are splits
MAX_SPLITS = 50  # different cells of a column of splits
FLAG_WORDS = {"is", "in", "for", "use", "flag", "mask", "row", "sample"}  # words that stand beside train in is_train


def splits_of_values(name: str, values: Iterable[str]) -> dict[str, str] | None:
    """Return the split that each value of a column means; None if a value means none. An empty value has no split.

    The values are names of splits, true and false (or 1 and 0) below a name such as ``is_train``, or the numbers 0, 1
    and 2 of train, val and test.

    Args:
        name: the name of the column.
        values: its different values.
    """
    texts = [value for value in values if value]
    named = {text: _split_named(text) for text in texts}
    if all(named.values()):
        return named
    flag, answers = flag_of(name), {text: _answer(text) for text in texts}
    if flag and None not in answers.values():
        other = "test" if flag == "train" else "train"
        return {text: flag if answer else other for text, answer in answers.items()}
    numbers = {text: NUMBERED.get(to_float(text), "") for text in texts}
    return numbers if {*numbers.values()} == {*NUMBERED.values()} else None


def said(meaning: Mapping[str, str]) -> str:
    """Return what the values of a column mean, in brackets; empty if they are the names of splits themselves."""
    strange = {text: split for text, split in meaning.items() if text and split_name(text) != (split, ())}
    return f" ({', '.join(f'{text} is {split}' for text, split in sorted(strange.items()))})" if strange else ""


def find_split(layout: Layout, split: ColumnKey | None, taken: Collection[ColumnKey | None]) -> int | None:
    """Return the column of a table that says the split of each row; None without one.

    Args:
        layout: the layout of the table.
        split: the key ``dataset.split``; None to find the column, ``none`` if there is none.
        taken: the columns that other keys name.

    Raises:
        ConfigError: the column does not exist, or several may be meant.
    """
    names = layout.names
    if split is not None:
        return None if split == NO_COLUMN and split not in names else layout.find("split", split)
    if not layout.header:
        return None
    keys, in_lists, places = {*taken}, layout.in_lists(), layout.places()
    free = [at for at, name in enumerate(names) if at not in in_lists and not {name, places[at]} & keys]
    return find_split_by_cells(layout, free, [at for at in free if is_target_name(layout, at)])


def find_split_by_cells(layout: Layout, columns: Sequence[int], targets: Collection[int]) -> int | None:
    """Return the column whose cells say the split; None if there is none.

    Args:
        layout: the layout of the table.
        columns: the columns to look at.
        targets: the columns whose names are usual for labels.

    Raises:
        ConfigError: several columns may be meant.
    """
    names = layout.names
    found = find_split_columns(names, {at: layout.cells(at) for at in columns}, columns, targets)
    if len(found) > 1:
        listing = listed([names[at] for at in found])
        advice = f"such as {as_word('dataset.split', names[found[0]])}, or dataset.split={NO_COLUMN}"
        raise ConfigError(f"dataset.split: null: which column of {layout.file} holds the splits? {listing}; {advice}")
    return found[0] if found else None


def meaning_of(layout: Layout, column: int, values: Iterable[str]) -> dict[str, str]:
    """Return the split that each value of a column means.

    Raises:
        ConfigError: a value means none.
    """
    values = list(values)
    found = splits_of_values(layout.names[column], values)
    if found is None:
        must = "must be train, val or test, or true and false in a column such as is_train"
        raise ConfigError(
            f"dataset.split: {layout.names[column]}: {layout.file} has {listed(values[:5])} there; {must}; "
            f"dataset.split={NO_COLUMN} does not use the column"
        )
    return found


def flag_of(name: str) -> str:
    """Return the split that a column such as ``is_train`` tells from all others by its name; empty if there is none."""
    found = split_name(name)
    return found.split if found is not None and {*found.rest} <= FLAG_WORDS else ""


def find_split_columns(
    names: Sequence[str],
    cells: Mapping[int, Sequence[str]] | Sequence[Sequence[str]],
    columns: Sequence[int],
    targets: Collection[int],
) -> list[int]:
    """Return the columns that hold the split by their cells, and by their name where cells are 0 and 1.

    A column ``train`` of 0 and 1 may be a label if there are other columns of 0 and 1, whereas ``is_train`` is none.

    Args:
        names: the names of all columns.
        cells: some cells of each column, by its number.
        columns: the columns to look at.
        targets: the columns whose names are usual for labels, which need cells of two splits.
    """
    filled = {at: [cell for cell in cells[at] if cell] for at in columns}
    binary = [at for at in columns if filled[at] and all(_answer(cell) is not None for cell in filled[at])]
    found = []
    for at in columns:
        different = {*filled[at]}
        splits = {_split_named(cell) for cell in different} if len(different) <= MAX_SPLITS else {""}
        is_numbered = PART_NAME.search(names[at].lower()) and {*map(to_float, different)} == {*NUMBERED}
        if at in binary:
            name = split_name(names[at])
            others = [each for each in binary if each != at and _are_words(filled[each]) == _are_words(filled[at])]
            if name is not None and flag_of(names[at]) and (name.rest or (name.split == "train" and not others)):
                found.append(at)
        elif is_numbered or (splits and "" not in splits and (len(splits) > 1 or at not in targets)):
            found.append(at)
    return found


def _are_words(cells: Sequence[str]) -> bool:
    """Return whether some cells are words, such as true and T, and not 0 and 1."""
    return any(cell.isalpha() for cell in cells)


def _split_named(text: str) -> str:
    """Return the split that a text names; empty if it names none."""
    found = split_name(text)
    of_part = PARTS_OF_TEST.get(text.lower().replace(" ", ""), "")
    return of_part if found is None or found.rest else found.split


def are_labels(cells: Iterable[str]) -> bool:
    """Return whether all cells are 0 and 1, true and false, yes and no, or -1 and 1."""
    return all(_answer(cell) is not None or to_float(cell) == -1 for cell in cells)


def _answer(text: str) -> bool | None:
    """Return what 0, 1, true, false, yes or no says; None for another text."""
    lower = text.lower()
    if lower in (*YES, "t") or lower in (*NO, "f"):
        return lower in (*YES, "t")
    return {0.0: False, 1.0: True}.get(to_float(text))
