"""Find the columns of a table that names files: the file, its labels, its split, its fold and its group."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from typing import Literal, NamedTuple, TypedDict

from trainer.config import ConfigError
from trainer.config.messages import as_word
from trainer.data.readers.label_cells import LOSS_OF_LABELS
from trainer.data.readers.labels.file_index import FileIndex
from trainer.data.readers.tables.layout import ColumnKey, Layout, listed
from trainer.data.readers.tables.split_columns import NO_COLUMN, are_labels, find_split_by_cells

# The usual names of columns, in lower case and without signs between their words.
FILES = ("file", "path", "filepath", "imagepath", "image", "img", "picture", "audio", "wav", "recording", "id")
SPLIT_COLUMNS = ("split", "subset", "partition", "set", "datasplit")
FOLDS = ("fold", "kfold", "cvfold")
GROUPS = ("group", "speaker", "patient", "subject", "participant", "person", "lesion")
TARGETS = ("label", "class", "category", "target", "y", "species", "breed", "tag", "diagnosis", "dx", "emotion")
ENDINGS = ("", "s", "es", "id", "name", "number")  # of the usual names
LOOKED_AT = 100  # cells of each column that are looked for among the files
MAX_SHOWN = 3  # values of a column that a question shows


class FileTableKeys(TypedDict):
    """The keys of a table that names files."""

    labels: str | dict[Literal["train", "val", "test"], str] | None
    input: ColumnKey | None
    target: ColumnKey | list[ColumnKey] | None
    split: ColumnKey | None
    fold: ColumnKey | None
    group: ColumnKey | None
    encoding: str


class FileColumns(NamedTuple):
    """The numbers of the columns of a table; several targets may be candidates of which one is taken."""

    file: int
    targets: list[int]
    split: int | None
    fold: int | None
    group: int | None


def _usual(name: str, known: Collection[str]) -> bool:
    plain = re.sub(r"[\W_]", "", name).lower()
    return any(plain == word + ending for word in known for ending in ENDINGS)


class ColumnFinder:
    """Finds the columns that the keys name or, where a key is None, those with usual names or cells.

    Args:
        layout: the layout of the table.
        index: the files that the table names.
        keys: the keys that name columns.
        noun: what a file holds, for messages.
    """

    def __init__(self, layout: Layout, index: FileIndex, keys: FileTableKeys, noun: str) -> None:
        self.layout, self.index, self.keys, self.noun = layout, index, keys, noun

    def find(self) -> FileColumns:
        """Return the columns.

        Raises:
            ConfigError: a column does not exist, or it is not clear which one it is.
        """
        keys, names, taken = self.keys, self.layout.names, set[int]()
        targets = self._given_targets()
        taken |= {*targets}
        given = {key: self._given(key) for key in ("input", "split", "fold", "group")}
        taken |= {column for column in given.values() if column is not None}
        file = given["input"] if given["input"] is not None else self.find_file(taken)
        taken.add(file)
        found: dict[str, int | None] = {}
        for key, known in (("split", SPLIT_COLUMNS), ("fold", FOLDS), ("group", GROUPS)):
            column = given[key]
            rest = [at for at in range(len(names)) if at not in taken]
            if column is None and keys[key] is None and (targets or len(rest) > 1):  # type: ignore[literal-required]
                usual_targets = [at for at in rest if _usual(names[at], TARGETS)]
                column = find_split_by_cells(self.layout, rest, usual_targets) if key == "split" else None
                column = next((at for at in rest if _usual(names[at], known)), None) if column is None else column
            found[key] = column
            taken |= set() if column is None else {column}
        return FileColumns(file, targets or self._find_targets(taken), **found)

    def _given(self, key: str) -> int | None:
        value = self.keys[key]  # type: ignore[literal-required]
        if value is None or (value == NO_COLUMN and NO_COLUMN not in self.layout.names):
            return None
        if key == "group" and "{group}" in str(value):  # a pattern for the names of the files
            return None
        return self.layout.find(key, value)

    def _given_targets(self) -> list[int]:
        target = self.keys["target"]
        if target is None:
            return []
        return [self.layout.find("target", column) for column in (target if isinstance(target, list) else [target])]

    def find_file(self, taken: Collection[int] = ()) -> int:
        """Return the column whose cells name files; of several, the one with a usual name, or the first."""
        found = []
        for at, name in enumerate(self.layout.names):
            cells = self.index.as_written(self.layout.cells(at)[:LOOKED_AT])
            hits = sum(bool(cell) and bool(self.index.matches(cell)) for cell in cells)
            if at not in taken and hits * 2 > len(cells) and len({*cells}) * 2 > len(cells):
                found.append((not _usual(name, FILES), at))
        if found:
            return min(found)[1]
        usual = [at for at, name in enumerate(self.layout.names) if at not in taken and _usual(name, FILES)]
        if not usual:
            raise ConfigError(
                f"dataset.input: null: no column of {self.layout.file} names {self.noun}s below {self.index.root}; "
                f"columns: {listed(self.layout.names)}; say dataset.input=COLUMN, or dataset.path=FOLDER of the "
                f"{self.noun}s"
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
            columns = listed(self.layout.names)
            raise ConfigError(f"dataset.target: null: {self.layout.file} has no column with labels; columns: {columns}")
        if len(rest) > 1 and not named:
            raise self.question(rest)
        if len(named) == 1 and len(point := self._point(named[0], rest)) > 1:
            raise self.question(point)
        return named or rest

    def _point(self, target: int, rest: Sequence[int]) -> list[int]:
        """Return the columns of all coordinates if the target is one, such as y beside x, or left_eye_y."""
        names = {self.layout.names[at].lower(): at for at in rest}
        start, last = self.layout.names[target].lower()[:-1], self.layout.names[target].lower()[-1:]
        return sorted(names[start + each] for each in "xyz" if start + each in names) if last in "xyz" else []

    def question(self, candidates: Sequence[int]) -> ConfigError:
        """Return the error that asks which of some columns is the target."""
        names, shown = [self.layout.names[at] for at in candidates], []
        binary = numbers = True
        for at, name in zip(candidates, names, strict=True):
            values = [*dict.fromkeys(self.layout.cells(at))]
            binary &= are_labels(values)
            numbers &= not self.layout.holds_text(at)
            shown.append(f"{name} ({', '.join(values[:MAX_SHOWN])}{', …' * (len(values) > MAX_SHOWN)})")
        as_what = f"labels ({LOSS_OF_LABELS})" if binary else "values (with loss=mse)" if numbers else ""
        several = f"; {as_word('dataset.target', names)} takes all as {as_what}" if as_what and len(names) > 1 else ""
        word = as_word("dataset.target", names[0])
        return ConfigError(
            f"dataset.target: null: which column of {self.layout.file} is predicted? {listed(shown)}; such as "
            f"{word}{several}"
        )
