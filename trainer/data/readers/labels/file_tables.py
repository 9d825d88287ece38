"""Tables that name files: read the file, the labels, the split and the group of each row."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from trainer.config import ConfigError
from trainer.config.messages import did_you_mean
from trainer.config.untrusted_files import at_home
from trainer.data.readers.encodings import with_hint
from trainer.data.readers.files import Item, Problems, natural_key
from trainer.data.readers.labels.file_columns import ColumnFinder, FileTableKeys
from trainer.data.readers.labels.file_ids import LOOKED_AT, id_form
from trainer.data.readers.labels.file_index import FileIndex, NotOneFileError
from trainer.data.readers.labels.labelling import Labelling, TableRow
from trainer.data.readers.tables.layout import ColumnKey, Layout, listed, table_keys_of
from trainer.data.readers.tables.lines import plain_suffix
from trainer.data.readers.tables.number_cells import to_float
from trainer.data.readers.tables.parsing import ColumnsToRead, read_layout, read_table
from trainer.data.readers.tables.split_columns import NO_COLUMN, meaning_of, said
from trainer.data.readers.tables.split_files import SUFFIXES

MIN_GROUPS = 3  # groups of a column that is found by its name


def table_named(place: str, key: str) -> Path:
    """Return the table that a key names.

    Raises:
        ConfigError: there is no such file.
    """
    file = at_home(place, f"dataset.{key}")
    if not file.exists():
        near = did_you_mean(file.name, [each.name for each in file.parent.glob("*")])
        raise ConfigError(f"dataset.{key}: {file}: no such file{near}")
    return file


@contextlib.contextmanager
def _about_labels() -> Iterator[None]:
    """Within this context, a ConfigError about a table names ``dataset.labels``, or the key of its encoding."""
    try:
        yield
    except ConfigError as error:
        parted = [line.partition(": ") for line in error.problems]
        keys = [key if key == "dataset.encoding" else "dataset.labels" for key, _, _ in parted]
        raise ConfigError(*(f"{key}: {rest}" for key, (_, _, rest) in zip(keys, parted, strict=True))) from error


def is_table(file: Path) -> bool:
    """Return whether a path is a file with the ending of a table."""
    return plain_suffix(file) in SUFFIXES and file.is_file()


def layout_of(file: Path, index: FileIndex, named: Sequence[ColumnKey | None], encoding: str) -> Layout:
    """Return the layout of a table; a first line that names a file is no header."""
    with _about_labels():
        layout = read_layout(file, table_keys_of({"encoding": encoding}), named=named)
        if layout.header and any(name.lower().endswith(index.suffixes) for name in layout.names):
            return read_layout(file, table_keys_of({"header": False, "encoding": encoding}))
        return layout


@dataclass
class _Cells:
    """The rows of a table, read by columns.

    Args:
        layout: the layout of the table.
        lines: (rows,) the line of each row.
        texts: the different texts of each column that was read, by the number of the column.
        codes: (rows,) for each column that was read, the index in ``texts``; -1 for a missing cell.
        faults: why a row cannot be used, by the number of the row.
    """

    layout: Layout
    lines: NDArray[np.int64]
    texts: dict[int, list[str]]
    codes: dict[int, NDArray[np.int64]]
    faults: dict[int, str]

    def column(self, number: int) -> list[str]:
        """Return the text of each row; empty for a missing cell."""
        texts = [*self.texts[number], ""]  # the code -1 is that of the last text
        return [texts[code] for code in self.codes[number].tolist()]

    def place(self, row: int) -> str:
        return self.layout.place(int(self.lines[row]))


class FileTable:
    """A table that names files below a folder.

    Args:
        file: the table.
        index: the files.
        keys: the keys that name its columns.
        noun: what a file holds, for messages.
        has_val: whether one of several folds becomes val.

    Attributes:
        notes: what was found by itself, for the user.

    Raises:
        ConfigError: the table cannot be read, or a column cannot be found.
    """

    def __init__(self, file: Path, index: FileIndex, keys: FileTableKeys, noun: str, *, has_val: bool) -> None:
        self.file, self.index, self.keys, self.noun, self.has_val = file, index, keys, noun, has_val
        self.notes: list[str] = []
        target = keys["target"] if isinstance(keys["target"], list) else [keys["target"]]
        named = [keys["input"], keys["split"], keys["fold"], keys["group"], *target]
        self.layout = layout_of(file, index, named, keys["encoding"])
        self._finder = ColumnFinder(self.layout, index, keys, noun)
        self.columns = self._finder.find()
        self.cells = self._read()

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the target columns."""
        return tuple(self.layout.names[column] for column in self.columns.targets)

    def _read(self) -> _Cells:
        """Read the columns, and choose one of several candidates for the target."""
        columns, layout = self.columns, self.layout
        optional = (columns.split, columns.fold, columns.group)
        numbers = [columns.file, *(at for at in optional if at is not None), *columns.targets]
        known: list[dict[str, int]] = [{} for _ in numbers]
        with _about_labels():
            table = read_table(layout, ColumnsToRead((), [*zip(numbers, known, strict=True)], may_be_empty=True))
        texts = {at: list(some) for at, some in zip(numbers, known, strict=True)}
        codes = dict(zip(numbers, table.texts, strict=True))
        for at in numbers[: len(numbers) - len(columns.targets)]:  # an empty target may mean: no label
            for row in np.flatnonzero(codes[at] < 0).tolist():
                table.faults.setdefault(row, f"{layout.names[at]}: is empty")
        cells = _Cells(layout, table.lines, texts, codes, table.faults)
        if self.keys["target"] is None:
            self.columns = columns._replace(targets=[self._one_target(cells)])
            others = [layout.names[at] for at in columns.targets if at not in self.columns.targets]
            same = f" ({', '.join(others)} {'says' if len(others) == 1 else 'say'} the same)" if others else ""
            self.notes.append(f"target {self.names[0]}{same}")
        return cells

    def _one_target(self, cells: _Cells) -> int:
        """Return the target, of candidates that say the same one that holds names and not numbers."""
        candidates = self.columns.targets
        first = cells.codes[candidates[0]]
        for other in candidates[1:]:
            pairs = len(np.unique(np.stack([first, cells.codes[other]]), axis=1).T)
            if not pairs == len(np.unique(first)) == len(np.unique(cells.codes[other])):
                raise self._finder.question(candidates)
        return min(candidates, key=lambda at: not self.layout.holds_text(at))

    # ---- rows

    def items(self, split: str, earlier: Mapping[str, TableRow], problems: Problems) -> tuple[list[Item], Labelling]:
        """Return the files of all good rows in the order of the rows, with their labels and groups.

        Args:
            split: the split of all rows; empty if the table may have a column for it.
            earlier: the rows of other tables by their files, which may not occur again.
            problems: collects the bad rows.

        Raises:
            ConfigError: no row names a file, or the values of the split or fold column are unknown.
        """
        cells, columns = self.cells, self.columns
        splits = self._splits() if not split else [split] * len(cells.lines)
        targets = [*zip(*(cells.column(at) for at in columns.targets), strict=True)]
        groups = [""] * len(targets) if columns.group is None else cells.column(columns.group)
        items, rows = list[Item](), dict[str, TableRow]()
        grouped, named = dict[str, str](), list[tuple[str, str]]()
        cells.texts[columns.file] = self.index.as_written(cells.texts[columns.file])
        for row, cell in enumerate(cells.column(columns.file)):
            if row in cells.faults:
                problems.add(cells.place(row), with_hint(cells.faults[row], self.layout.encoding))
                continue
            try:
                path = self.index.find(cell)
            except NotOneFileError as error:
                problems.add(cells.place(row), str(error))
                continue
            before = rows.get(path) or earlier.get(path)
            if before is not None:
                other = "" if before.cells == targets[row] else f", with {', '.join(before.cells) or 'no label'}"
                problems.add(cells.place(row), f"{cell}: is in {before.place} already{other}")
                continue
            rows[path] = TableRow(self.layout, int(cells.lines[row]), targets[row])
            if len(named) < LOOKED_AT:
                named.append((cell, path))
            grouped[path] = groups[row]
            items.append(Item(splits[row], " ".join(targets[row]), path, Path(path)))
        if not items:
            raise self._no_file(problems)
        labelling = Labelling(
            names=self.names,
            rows=rows,
            groups=self._groups(grouped),
            file_column=self.layout.names[self.columns.file],
            id_form=id_form(named),
            forms=[self.layout.forms[column] for column in self.columns.targets],
        )
        problems.notes += self.notes
        return items, labelling

    def _groups(self, grouped: dict[str, str]) -> dict[str, str]:
        """Return the group of each file; none if there are too few in a column that was found by its name."""
        if self.columns.group is None:
            return {}
        name, count = self.layout.names[self.columns.group], len({*grouped.values()})
        if self.keys["group"] is None and count < MIN_GROUPS:
            self.notes.append(f"{name} not kept together, as there are only {count}")
            return {}
        self.notes.append(f"groups by {name}")
        return grouped

    def _no_file(self, problems: Problems) -> ConfigError:
        name = self.layout.names[self.columns.file]
        return ConfigError(
            f"dataset.input: {name}: no row of {self.file} names one {self.noun} below {self.index.root}, such as "
            f"{problems.found[0]}; say dataset.path=FOLDER of the {self.noun}s"
        )

    def _splits(self) -> list[str]:
        """Return the split of each row, from the column of splits or of folds; empty without such a column."""
        cells, columns = self.cells, self.columns
        if columns.split is not None:
            name = self.layout.names[columns.split]
            texts = cells.texts[columns.split]
            meaning = meaning_of(self.layout, columns.split, texts)
            self.notes.append(f"splits by {name}{said(meaning)}")
            meaning |= {"": ""}
            return [meaning[text] for text in cells.column(columns.split)]
        if columns.fold is None:
            return [""] * len(cells.lines)
        return self._splits_of_folds(columns.fold, cells.column(columns.fold))

    def _splits_of_folds(self, column: int, folds: Sequence[str]) -> list[str]:
        """Return the split of each row: test is the last fold, and val the fold before it."""
        name = self.layout.names[column]
        outside = [fold for fold in {*folds} if to_float(fold) < 0]  # -1 is no fold, or always train (scikit-learn)
        order = sorted({*folds} - {"", *outside}, key=natural_key)
        if len(order) < 2:
            raise ConfigError(
                f"dataset.fold: {name}: {self.file} has only the fold {listed(order)}; "
                f"dataset.fold={NO_COLUMN} uses no column of folds"
            )
        meaning = dict.fromkeys([*order, *outside, ""], "train") | {order[-1]: "test"}
        note = f"test is {name} {order[-1]}"
        if len(order) > 2 and self.has_val:
            meaning[order[-2]] = "val"
            note += f", val {name} {order[-2]}"
        self.notes.append(note + "".join(f", train has {name} {fold} too" for fold in sorted(outside)))
        return [meaning[fold] for fold in folds]
