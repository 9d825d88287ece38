"""Tables that name files: find the columns of the file, its labels, split, fold and group, and read the rows."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple, TypedDict

import numpy as np
from numpy.typing import NDArray

from trainer.config import ConfigError
from trainer.config.messages import did_you_mean
from trainer.data.readers import table_formats
from trainer.data.readers.file_index import FileIndex, NotOneFileError
from trainer.data.readers.files import Item, Problems, natural_key
from trainer.data.readers.labelling import Labelling, TableRow
from trainer.data.readers.split_names import split_name
from trainer.data.readers.table_layout import ColumnKey, Layout, listed, table_keys_of
from trainer.data.readers.table_lines import plain_suffix
from trainer.data.readers.tables import ColumnsToRead, read_layout, read_table

# The usual names of columns, in lower case and without signs between their words.
FILES = ("file", "path", "filepath", "imagepath", "image", "img", "picture", "audio", "wav", "recording", "id")
SPLIT_COLUMNS = ("split", "subset", "partition", "set")
FOLDS = ("fold", "kfold", "cvfold")
GROUPS = ("group", "speaker", "patient", "subject", "participant", "person", "lesion")
TARGETS = ("label", "class", "category", "target", "y", "species", "breed", "tag", "diagnosis", "dx", "emotion")
ENDINGS = ("", "s", "es", "id", "name", "number")  # of the usual names
MIN_GROUPS = 3  # groups of a column that is found by its name
MAX_SHOWN = 3  # values of a column that a question shows
NO_COLUMN = "none"  # the value of a key that keeps a column from being found by its name
TABLE_SUFFIXES = (".csv", ".tsv", ".tab", ".txt", ".data", *table_formats.SUFFIXES)


class FileTableKeys(TypedDict):
    """The keys of a table that names files."""

    labels: str | dict[Literal["train", "val", "test"], str] | None
    input: ColumnKey | None
    target: ColumnKey | list[ColumnKey] | None
    split: ColumnKey | None
    fold: ColumnKey | None
    group: ColumnKey | None


class _Columns(NamedTuple):
    """The numbers of the columns of a table; several targets may be candidates of which one is taken."""

    file: int
    targets: list[int]
    split: int | None
    fold: int | None
    group: int | None


def _split_of(text: str) -> str:
    """Return the split that a cell names; empty if it names none."""
    found = split_name(text)
    return "" if found is None or found.rest else found.split


def _usual(name: str, known: Collection[str]) -> bool:
    plain = re.sub(r"[\W_]", "", name).lower()
    return any(plain == word + ending for word in known for ending in ENDINGS)


def table_named(place: str, key: str) -> Path:
    """Return the table that a key names.

    Raises:
        ConfigError: there is no such file.
    """
    file = Path(place).expanduser()
    if not file.exists():
        near = did_you_mean(file.name, [each.name for each in file.parent.glob("*")])
        raise ConfigError(f"dataset.{key}: {file}: no such file{near}")
    return file


@contextlib.contextmanager
def _about_labels(file: Path) -> Iterator[None]:
    """Within this context, a ConfigError about a table names ``dataset.labels``."""
    try:
        yield
    except ConfigError as error:
        lines = []
        for line in error.problems:
            key, _, rest = line.partition(": ")
            lines.append(f"dataset.labels: {rest}")
            if key == "dataset.encoding":
                lines[-1] = f"dataset.labels: {file}: is not in UTF-8; save it as UTF-8 ({rest})"
        raise ConfigError(*lines) from error


def is_table(file: Path) -> bool:
    """Return whether a path is a file with the ending of a table."""
    return plain_suffix(file) in TABLE_SUFFIXES and file.is_file()


def _layout(file: Path, index: FileIndex, named: Sequence[ColumnKey | None]) -> Layout:
    """Return the layout of a table; a first line that names a file is no header."""
    with _about_labels(file):
        layout = read_layout(file, table_keys_of({}), named=named)
        if layout.header and any(name.lower().endswith(index.suffixes) for name in layout.names):
            return read_layout(file, table_keys_of({"header": False}))
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
        self.layout = _layout(file, index, [keys["input"], keys["split"], keys["fold"], keys["group"], *target])
        self.columns = self._find_columns()
        self.cells = self._read()

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the target columns."""
        return tuple(self.layout.names[column] for column in self.columns.targets)

    def _find_columns(self) -> _Columns:
        keys, names, taken = self.keys, self.layout.names, set[int]()
        targets = self._given_targets()
        taken |= {*targets}
        given = {key: self._given(key) for key in ("input", "split", "fold", "group")}
        taken |= {column for column in given.values() if column is not None}
        file = given["input"] if given["input"] is not None else self._find_file(taken)
        taken.add(file)
        found: dict[str, int | None] = {}
        for key, known in (("split", SPLIT_COLUMNS), ("fold", FOLDS), ("group", GROUPS)):
            column = given[key]
            rest = [at for at in range(len(names)) if at not in taken]
            if column is None and keys[key] is None and (targets or len(rest) > 1):  # type: ignore[literal-required]
                column = next((at for at in rest if _usual(names[at], known)), None)
            found[key] = column
            taken |= set() if column is None else {column}
        return _Columns(file, targets or self._find_targets(taken), **found)

    def _given(self, key: str) -> int | None:
        value = self.keys[key]  # type: ignore[literal-required]
        if value is None or (value == NO_COLUMN and NO_COLUMN not in self.layout.names):
            return None
        if key == "group" and "{group}" in str(value):  # a pattern for the names of the files
            return None
        return self._named(key, value)

    def _named(self, key: str, column: ColumnKey) -> int:
        return self.layout.find(key, column)

    def _given_targets(self) -> list[int]:
        target = self.keys["target"]
        if target is None:
            return []
        return [self._named("target", column) for column in (target if isinstance(target, list) else [target])]

    def _find_file(self, taken: Collection[int]) -> int:
        """Return the column whose cells name files; of several, the one with a usual name, or the first."""
        found = []
        for at, name in enumerate(self.layout.names):
            cells = self.layout.cells(at)
            hits = sum(bool(cell) and bool(self.index.matches(cell)) for cell in cells)
            if at not in taken and hits * 2 > len(cells) and len({*cells}) * 2 > len(cells):
                found.append((not _usual(name, FILES), at))
        if found:
            return min(found)[1]
        usual = [at for at, name in enumerate(self.layout.names) if at not in taken and _usual(name, FILES)]
        if not usual:
            raise ConfigError(
                f"dataset.input: null: no column of {self.file} names {self.noun}s below {self.index.root}; columns: "
                f"{listed(self.layout.names)}; say dataset.input=COLUMN, or dataset.path=FOLDER of the {self.noun}s"
            )
        return usual[0]

    def _find_targets(self, taken: Collection[int]) -> list[int]:
        """Return the column with the labels, or several candidates with usual names.

        Raises:
            ConfigError: no column is left, or it is not clear which one has the labels.
        """
        rest = [at for at in range(len(self.layout.names)) if at not in taken]
        named = [at for at in rest if _usual(self.layout.names[at], TARGETS)]
        if not rest:
            raise ConfigError(
                f"dataset.target: null: {self.file} has no column with labels; columns: {listed(self.layout.names)}"
            )
        if len(rest) > 1 and not named:
            raise self._question(rest)
        return named or rest

    def _question(self, candidates: Sequence[int]) -> ConfigError:
        names, shown = [self.layout.names[at] for at in candidates], []
        binary = True
        for at, name in zip(candidates, names, strict=True):
            values = [*dict.fromkeys(self.layout.cells(at))]
            binary &= {*values} <= {"0", "1", "0.0", "1.0"}
            shown.append(f"{name} ({', '.join(values[:MAX_SHOWN])}{', …' * (len(values) > MAX_SHOWN)})")
        several = f"; 'dataset.target=[{','.join(names)}]' takes all as labels" if binary else ""
        return ConfigError(
            f"dataset.target: null: which column of {self.file} is predicted? {listed(shown)}; such as "
            f"dataset.target={names[0]}{several}"
        )

    def _read(self) -> _Cells:
        """Read the columns, and choose one of several candidates for the target."""
        columns, layout = self.columns, self.layout
        optional = (columns.split, columns.fold, columns.group)
        numbers = [columns.file, *(at for at in optional if at is not None), *columns.targets]
        known: list[dict[str, int]] = [{} for _ in numbers]
        with _about_labels(self.file):
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
                raise self._question(candidates)
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
        grouped = dict[str, str]()
        for row, cell in enumerate(cells.column(columns.file)):
            if row in cells.faults:
                problems.add(cells.place(row), cells.faults[row])
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
            grouped[path] = groups[row]
            items.append(Item(splits[row], " ".join(targets[row]), path, Path(path)))
        if not items:
            raise self._no_file(problems)
        labelling = Labelling(names=self.names, rows=rows, groups=self._groups(grouped))
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
            meaning = {text: _split_of(text) for text in cells.texts[columns.split]} | {"": ""}
            unknown = [text for text, split in meaning.items() if text and not split]
            if unknown:
                raise ConfigError(
                    f"dataset.split: {name}: {self.file} has {listed(unknown)} there; must be train, val or test; "
                    f"dataset.split={NO_COLUMN} does not use the column"
                )
            self.notes.append(f"splits by {name}")
            return [meaning[text] for text in cells.column(columns.split)]
        if columns.fold is None:
            return [""] * len(cells.lines)
        return self._splits_of_folds(columns.fold, cells.column(columns.fold))

    def _splits_of_folds(self, column: int, folds: Sequence[str]) -> list[str]:
        """Return the split of each row: test is the last fold, and val the fold before it."""
        name, order = self.layout.names[column], sorted({*folds} - {""}, key=natural_key)
        if len(order) < 2:
            raise ConfigError(
                f"dataset.fold: {name}: {self.file} has only the fold {listed(order)}; "
                f"dataset.fold={NO_COLUMN} uses no column of folds"
            )
        meaning = dict.fromkeys([*order, ""], "train") | {order[-1]: "test"}
        note = f"test is {name} {order[-1]}"
        if len(order) > 2 and self.has_val:
            meaning[order[-2]] = "val"
            note += f", val {name} {order[-2]}"
        self.notes.append(note)
        return [meaning[fold] for fold in folds]
