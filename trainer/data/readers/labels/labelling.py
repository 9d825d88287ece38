"""What the files of a data set are labelled with: the names of folders and files, or the rows of a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np

from trainer.data.data import Data, ReadOptions
from trainer.data.readers.candidates import Candidates
from trainer.data.readers.files import Item, Problems, classify, warn_of_leaks
from trainer.data.readers.labels.file_ids import IdForm
from trainer.data.readers.tables.layout import Layout
from trainer.data.readers.tables.number_cells import NumberForm
from trainer.data.readers.targets import TargetCells, TargetKeys, Targets, find_targets
from trainer.data.standardise import standardise

CLASSES = TargetKeys(task="classification", normalise_targets=True, label_separator=None)


class TableRow(NamedTuple):
    """The row of a table that names a file.

    Args:
        table: the layout of the table.
        line: the number of its line.
        cells: the texts of the target columns; empty where one is missing.
    """

    table: Layout
    line: int
    cells: tuple[str, ...]

    @property
    def place(self) -> str:
        return self.table.place(self.line)


@dataclass
class Labelling:
    """The labels and groups of files.

    Args:
        keys: the keys that say what is predicted.
        names: the names of the target columns; empty if the labels of the items are names of folders or files.
        rows: the row of each file, by the place of its item; empty where the items hold their cells themselves.
        groups: the group of each file, by the place of its item; empty without groups.
        file_column: the name of the column that names the files; None without a table.
        id_form: how that column names the files; None without a table.
        forms: how each target column writes numbers, as in ``TargetCells``.
        has_lists: whether lists beside class folders say the splits.
    """

    keys: TargetKeys = field(default_factory=CLASSES.copy)
    names: tuple[str, ...] = ()
    rows: Mapping[str, TableRow] = field(default_factory=dict)
    groups: dict[str, str] = field(default_factory=dict)
    file_column: str | None = None
    id_form: IdForm | None = None
    forms: Sequence[NumberForm | None] = ()
    has_lists: bool = False

    def targets(self, items: Sequence[Item], options: ReadOptions, problems: Problems) -> tuple[list[Item], Targets]:
        """Return the items with good targets, and their targets.

        Raises:
            ConfigError: as ``classify`` and ``find_targets``.
        """
        task = self.keys["task"] if options.preprocessing is None else options.preprocessing["task"]
        are_classes = task in ("auto", "classification") and self.keys["label_separator"] is None
        if not items or (not self.names and are_classes):
            kept, classes, numbers = classify(items, options, problems)
            return kept, Targets("classification", classes, numbers)
        if self.names:
            cells = [item.cells or self.rows[item.place].cells for item in items]
            places = [item.place if item.cells else self.rows[item.place].place for item in items]
        else:
            cells, places = [(item.label,) for item in items], [item.place for item in items]
        samples = Candidates(np.array([item.split for item in items]), places.__getitem__, problems)
        columns = TargetCells.of(self.names or ("label",), [*zip(*cells, strict=True)])._replace(forms=self.forms)
        targets = find_targets(columns, samples, self.keys, options)
        return [items[at] for at in np.flatnonzero(samples.good).tolist()], targets

    def groups_of(self, items: Sequence[Item], problems: Problems) -> list[str] | None:
        """Return the group of each item, or None without groups; warn about groups that two given splits share."""
        if not self.groups:
            return None
        found = [self.groups[item.place] for item in items]
        warn_of_leaks([item.split for item in items], found, problems)
        return found

    def completed(self, data: Data, options: ReadOptions, problems: Problems) -> Data:
        """Return the data with the notes about how the files were read and, for values, with their scale."""
        data = replace(data, notes=(*data.notes, *problems.notes))
        if self.names and self.rows:  # a table names the files, and a submission names them in the same way
            about = {"target": [*self.names], "id": self.file_column, "id_form": self.id_form}
            data = replace(data, preprocess={**data.preprocess, **about})
        if self.has_lists:
            data = replace(data, preprocess={**data.preprocess, "lists": True})
        normalise = self.keys["normalise_targets"]
        return standardise(data, options, normalise=normalise) if data.spec.task == "regression" else data
