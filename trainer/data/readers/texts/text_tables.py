"""Texts in the columns of tables, and texts without labels for a finished run."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, NamedTuple

from trainer.config import ConfigError
from trainer.config.messages import as_word
from trainer.config.untrusted_files import check_file, need_memory
from trainer.data.readers.encodings import with_hint
from trainer.data.readers.files import Item, Problems
from trainer.data.readers.label_cells import lists_in
from trainer.data.readers.labels.labelling import Labelling
from trainer.data.readers.tables import formats
from trainer.data.readers.tables.columns import holds_flags, is_target_name, may_be_classes
from trainer.data.readers.tables.identifiers import has_id_name, names_rows
from trainer.data.readers.tables.layout import ColumnKey, Layout, listed, table_keys_of
from trainer.data.readers.tables.lines import plain_suffix
from trainer.data.readers.tables.parsing import EMPTY, ColumnsToRead, read_layout, read_table
from trainer.data.readers.tables.split_columns import find_split, meaning_of
from trainer.data.readers.texts.text_files import DOCUMENT, MEMORY_OF_TEXTS, fault_of, read_text
from trainer.data.readers.texts.text_lines import LABEL_NAMES, MARK, TEXT_NAMES, find_form

DELIMITED = (".csv", ".tsv", ".tab")
TABLES = (*DELIMITED, *formats.SUFFIXES)
SUFFIXES = (DOCUMENT, *TABLES)
MIN_RATIO = 3  # a column of texts has cells so many times as long as any other column, unless its name says so
MOSTLY = 0.9  # share of empty cells from which a column is left out


@dataclass
class TextColumns:
    """The columns of tables, as the keys of ``dataset`` describe them, and what was found in the tables.

    Args:
        input, target, header, delimiter, missing_values, group, split: the keys.
        labelling: gets the names of the target columns, and the groups.
        inputs: the names of the columns of the texts that were read, for a finished run.
        id: the name of the column that names the rows; None without one.
        suffix: the suffix of the format in which all tables are read; empty if it is that of their names.
    """

    input: ColumnKey | list[ColumnKey] | None = None
    target: ColumnKey | list[ColumnKey] | None = None
    header: bool | Literal["auto"] = "auto"
    delimiter: str | None = None
    missing_values: list[str | int | float] = field(default_factory=list)
    group: ColumnKey | None = None
    labelling: Labelling = field(default_factory=Labelling)
    inputs: list[str] = field(default_factory=list)
    id: str | None = None
    split: ColumnKey | None = None
    suffix: str = ""

    @property
    def wanted(self) -> list[ColumnKey]:
        """The columns that ``dataset.input`` names."""
        return [self.input] if isinstance(self.input, str | int) else self.input or []

    @property
    def targets(self) -> list[ColumnKey]:
        """The columns that ``dataset.target`` names."""
        return [self.target] if isinstance(self.target, str | int) else self.target or []

    def has_table(self, file: Path) -> bool:
        """Return whether a file is read as a table; if ``dataset.delimiter`` is set, every file is."""
        return plain_suffix(file) in TABLES or self.delimiter is not None or bool(self.suffix)

    def layout(self, file: Path, encoding: str) -> Layout:
        """Return the layout of a table. In tab-separated values, quotes are ordinary characters (IANA).

        Raises:
            ConfigError: as ``read_layout``, or the file needs more memory than is free.
        """
        try:
            need_memory(MEMORY_OF_TEXTS * check_file(file).st_size, file)
        except OSError as error:
            raise ConfigError(f"dataset.path: {file}: cannot be read: {error.strerror}") from error
        named = [*self.wanted, *self.targets, self.group, *self.inputs]
        keys = table_keys_of({"header": self.header, "delimiter": self.delimiter, "encoding": encoding})
        keys["missing_values"] = self.missing_values
        if self.suffix:
            return formats.read_layout(file, keys, self.suffix)
        found = read_layout(file, keys, quotes_in_tabs=False, named=named)
        if found.delimiter == " " and self.delimiter is None:  # the words of a text are no columns
            keys["delimiter"] = ","
            found = read_layout(file, keys, quotes_in_tabs=False, named=named)
        return found


# ---- labelled texts, for a data set


def table_texts(split: str, file: Path, columns: TextColumns, encoding: str, problems: Problems) -> Iterator[Item]:
    """Yield every labelled text of a table.

    Raises:
        ConfigError: the file has no known format, or a column is missing or unclear.
    """
    if not columns.has_table(file):
        raise ConfigError(
            f"dataset.path: {file}: must end in {', '.join(TABLES)}, or be a folder of <class>.txt "
            "with a text a line, or of class folders with a text a file; dataset.delimiter reads any file as a table"
        )
    layout = columns.layout(file, encoding)
    part = find_split(layout, columns.split, [*columns.wanted, *columns.targets, columns.group])
    found = find_text_columns(layout, columns, part)
    labelling = columns.labelling
    names = tuple(layout.names[column] for column in found.targets)
    if labelling.names and len(labelling.names) != len(names):
        raise ConfigError(f"dataset.target: {file}: has {listed(names)}, but train has {listed(labelling.names)}")
    labelling.names = labelling.names or names
    labelling.forms = [layout.forms[at] for at in found.targets]
    columns.inputs[:] = columns.inputs or [layout.names[column] for column in found.inputs]
    problems.notes[:] = dict.fromkeys([*problems.notes, *found.notes, *layout.notes])
    if columns.header == "auto" and not (columns.wanted or columns.targets) and _may_be_sample(layout):
        problems.notes.append("line 1 is read as the names of the columns (dataset.header=false: as a sample)")
    if columns.id is None and (name := _find_id(layout, [*found.inputs, *found.targets])) is not None:
        columns.id = name
        problems.notes.append(f"rows named by {name}")
    group = [] if columns.group is None else [layout.find("group", columns.group)]
    parts = [part] if part is not None and not split else []  # a split of its own file does not need the column
    chosen = [*found.inputs, *found.targets, *parts, *group]
    known: list[dict[str, int]] = [{} for _ in chosen]
    table = read_table(layout, ColumnsToRead((), [*zip(chosen, known, strict=True)], may_be_empty=True))
    texts = [[*each, ""] for each in known]  # the last one is for the code -1
    texts[: len(found.inputs)] = map(_texts_of, known[: len(found.inputs)])
    at_part, meaning = len(found.inputs) + len(names), dict[str, str]()
    if parts:
        meaning = meaning_of(layout, parts[0], known[at_part])
        problems.notes.append(f"splits by {layout.names[parts[0]]}")
    first_target, several = len(found.inputs), labelling.keys["label_separator"] is not None
    for row, (line, codes) in enumerate(zip(table.lines.tolist(), table.texts.T.tolist(), strict=True)):
        place = layout.place(line)
        cells = [texts[at][code] for at, code in enumerate(codes)]
        text = " ".join(cell for cell in cells[:first_target] if cell)
        targets = tuple(cells[first_target : first_target + len(names)])
        fault = table.faults.get(row, "") or ("" if text else "no text")
        if not fault and not several and not all(targets):
            fault = "no label" if len(names) == 1 else f"{names[targets.index('')]}: {EMPTY}"
        if parts and not fault and not cells[at_part]:
            fault = f"{layout.names[parts[0]]}: {EMPTY}"
        if fault:
            problems.add(place, with_hint(fault, encoding))
            continue
        if group:
            labelling.groups[place] = cells[-1]
        yield Item(meaning[cells[at_part]] if parts else split, targets[0], place, text, targets)


def _texts_of(cells: Collection[str]) -> list[str]:
    """Return the text of each cell of an input, with spaces between the tokens of a list, and "" for the code -1."""
    lists = lists_in([*cells])
    return [*(cells if lists is None else map(" ".join, lists)), ""]


class FoundColumns(NamedTuple):
    """The columns of the texts and of the targets, by their numbers from 0, and phrases that say which they are."""

    inputs: list[int]
    targets: list[int]
    notes: tuple[str, ...]


def find_text_columns(layout: Layout, columns: TextColumns, part: int | None = None) -> FoundColumns:
    """Return the columns of the texts and of the targets; find those that no key names.

    Raises:
        ConfigError: a column does not exist, or it is unclear which one is meant.
    """
    inputs = [layout.find("input", each) for each in columns.wanted]
    targets = [layout.find("target", each) for each in columns.targets]
    group = [] if columns.group is None else [layout.find("group", columns.group)]
    empty = [column for column in range(len(layout.names)) if _is_mostly_empty(layout, column)]
    free = [column for column in range(len(layout.names)) if column not in {*inputs, *targets, *group, *empty, part}]
    by_name = {layout.names[column].lower(): column for column in reversed(free) if layout.header}
    if not targets:
        named = next((by_name[name] for name in LABEL_NAMES if name in by_name), None)
        named = next((at for at in free if is_target_name(layout, at)), None) if named is None else named
        targets = [] if named is None else [named]
    if not inputs:
        inputs = _find_input(layout, [column for column in free if column not in targets], by_name)
    if not inputs and len(targets) == 1 and not columns.targets:  # the label may be called like a text
        inputs = [column for column in free if column not in targets]
    if not targets:
        targets = _find_target(layout, [column for column in free if column not in inputs])
    if inputs and targets:
        left = [each for each in empty if each not in {*inputs, *targets}]
        unused = [] if columns.wanted else [at for at in free if at not in {*inputs, *targets}]
        return FoundColumns(inputs, targets, tuple(_notes(layout, inputs, targets, left, unused)))
    if inputs and free and all(at in inputs or _is_id(layout, at) for at in free):
        names = listed(layout.names)
        raise ConfigError(f"dataset.target: null: {layout.file} has no column of labels; columns: {names}")
    key, what = ("target", "label") if inputs else ("input", "text")
    others = [column for column in free if column not in {*inputs, *targets}] or free
    classes = [column for column in reversed(others) if may_be_classes(layout, column)]
    if inputs:
        likely = min(classes, key=lambda column: len({*layout.cells(column)}), default=others[-1])
    else:
        likely = max(others, key=lambda column: _mean_length(layout, column))
    example = f"; such as {as_word(f'dataset.{key}', layout.names[likely])}" if len(layout.names) > 1 else ""
    flags = [layout.names[at] for at in others if holds_flags(layout, at)]
    example += f", or {as_word('dataset.target', flags)} for labels" if inputs and len(flags) > 1 else ""
    hint = "; is the sign between them another one? 'dataset.delimiter=\";\"'" if len(layout.names) == 1 else ""
    asked = f"which column of {layout.file} holds the {what}? columns: {layout.samples()}{example}{hint}"
    raise ConfigError(f"dataset.{key}: null: {asked}")


def _notes(
    layout: Layout, inputs: Sequence[int], targets: Sequence[int], empty: Sequence[int], unused: Sequence[int]
) -> Iterator[str]:
    """Yield phrases that say which columns were found, and which columns that are empty or hold texts are left out."""
    names = layout.names
    yield f"texts {listed([names[at] for at in inputs])}"
    yield f"target {listed([names[at] for at in targets])}"
    if empty:
        yield f"left out {listed([names[at] for at in empty])} (mostly empty)"
    texts = [at for at in unused if layout.holds_text(at) and not may_be_classes(layout, at)]
    if texts := [at for at in texts if not has_id_name(layout, at)]:
        word = as_word("dataset.input", [names[at] for at in sorted({*inputs, *texts})])
        yield f"left out {listed([names[at] for at in texts])} ({word} takes {'it' if len(texts) == 1 else 'them'} in)"


def _may_be_sample(layout: Layout) -> bool:
    """Return whether the names of the columns are unusual, so that they may be the first sample."""
    words = {word for name in layout.names for word in re.findall(r"[a-z]+", name.lower())}
    usual = words & {*TEXT_NAMES, *LABEL_NAMES} or layout.unnamed or layout.rows is not None
    return layout.header and not usual and not any(has_id_name(layout, at) for at in range(len(layout.names)))


def _find_input(layout: Layout, free: Sequence[int], by_name: dict[str, int]) -> list[int]:
    """Return the column of the texts: the one with a usual name, or the only one with long cells; empty if unclear."""
    usual = next((by_name[name] for name in TEXT_NAMES if by_name.get(name) in free), None)
    if usual is None and layout.header:
        words = [(at, re.findall(r"[a-z]+", layout.names[at].lower())) for at in free if layout.holds_text(at)]
        named = [at for at, name in words if {*name} & {*TEXT_NAMES}]
        usual = named[0] if len(named) == 1 else None
    if usual is not None:
        return [usual]
    if len(free) == 1:
        return list(free)
    may_be_texts = [at for at in free if layout.holds_text(at)] or free  # numbers are no texts, however long they are
    lengths = sorted(((_mean_length(layout, at), at) for at in may_be_texts), reverse=True)
    if lengths and (len(lengths) == 1 or lengths[0][0] >= MIN_RATIO * lengths[1][0] or len(layout.names) == 2):
        return [lengths[0][1]]
    return []


def _find_target(layout: Layout, free: Sequence[int]) -> list[int]:
    """Return the column of the labels, or all columns if they hold 0 and 1 alone; empty if unclear."""
    free = [at for at in free if not _is_id(layout, at)]
    if len(free) == 1:
        return list(free)
    free = [at for at in free if not (has_id_name(layout, at) or names_rows(layout, at))]
    if len(free) == 1:
        return list(free)
    if len(free) > 1 and all(holds_flags(layout, at) for at in free):
        return list(free)
    classes = [at for at in free if may_be_classes(layout, at)]
    return classes if len(classes) == 1 else []


def _find_id(layout: Layout, taken: Sequence[int]) -> str | None:
    """Return the name of the column that names the rows by its name and its cells, which all differ; or None."""
    return next((name for at, name in enumerate(layout.names) if at not in taken and _is_id(layout, at)), None)


def _is_id(layout: Layout, column: int) -> bool:
    """Return whether a column names the rows by its name and its cells, which all differ."""
    cells = layout.cells(column)
    return has_id_name(layout, column) and "" not in cells and len({*cells}) == len(cells)


def _mean_length(layout: Layout, column: int) -> float:
    cells = layout.cells(column)
    return sum(map(len, cells)) / max(1, len(cells))


def _is_mostly_empty(layout: Layout, column: int) -> bool:
    cells = layout.cells(column)
    return len(cells) >= 10 and sum(not cell for cell in cells) >= MOSTLY * len(cells)


# ---- texts without labels, for a finished run


class UnlabelledText(NamedTuple):
    """A text without a label; ``error`` says why it cannot be used, and is empty for a good text."""

    place: str
    text: str
    error: str = ""
    id: str = ""


def texts_without_labels(
    file: Path, name: str, columns: TextColumns, encoding: str, *, whole: bool, id: str | None = None
) -> Iterator[UnlabelledText]:
    """Yield the texts of a file.

    Args:
        file: a table, or a text file.
        name: the file as the user named it.
        columns: the columns of the training data.
        encoding: the encoding of the file.
        whole: read a text file as one text; otherwise each of its lines is a text.
        id: the column that names the rows of a table; None without one.

    Raises:
        ConfigError: the file cannot be read.
    """
    form = None if whole or columns.has_table(file) else find_form(file, encoding)
    if form is not None and columns.inputs and form.kind in ("table", "json"):  # as the files of training
        header = form.header or columns.header
        header = False if header == "auto" and all(map(str.isdecimal, columns.inputs)) else header
        columns = replace(
            columns, suffix=".jsonl" if form.kind == "json" else "", delimiter=form.delimiter or None, header=header
        )
    if columns.has_table(file):
        yield from _rows_without_labels(file, name, columns, encoding, id)
        return
    labels = re.compile(rf"(?:{MARK}\S+\s+)+" if form is not None and form.kind == "fastText" else "")
    content = read_text(file, encoding)
    if "\0" in content:
        yield UnlabelledText(name, "", "is no text")
    elif whole:
        yield UnlabelledText(name, content.strip(), fault_of(content, encoding))
    else:
        for number, line in enumerate(content.split("\n"), 1):
            if line.strip():
                text = labels.sub("", line.strip(), count=1)
                yield UnlabelledText(f"{name}:{number}", text, fault_of(text, encoding))


def _rows_without_labels(
    file: Path, name: str, columns: TextColumns, encoding: str, id: str | None
) -> Iterator[UnlabelledText]:
    layout = columns.layout(file, encoding)
    had_none = bool(columns.inputs) and all(map(str.isdecimal, columns.inputs))
    if had_none and columns.header == "auto" and layout.header and not all(map(str.isdecimal, layout.names)):
        layout = replace(columns, header=False).layout(file, encoding)
    inputs = _known_inputs(layout, columns)
    if not inputs:
        listing = listed(layout.names)
        yield UnlabelledText(name, "", f"which column holds the text? dataset.input=NAME says so; columns: {listing}")
        return
    known: list[dict[str, int]] = [{} for _ in inputs]
    ids: dict[str, int] = {}
    names = (layout.names.index(id), ids) if id in layout.names and layout.header else None
    read = ColumnsToRead((), [*zip(inputs, known, strict=True)], may_be_empty=True, names=names)
    table = read_table(layout, read)
    texts, named = [*map(_texts_of, known)], [*ids, ""]
    for row, (line, codes) in enumerate(zip(table.lines.tolist(), table.texts.T.tolist(), strict=True)):
        fault = table.faults.get(row, "")
        text = "" if fault else " ".join(cell for at, code in enumerate(codes) if (cell := texts[at][code]))
        yield UnlabelledText(layout.place(line, name), text, with_hint(fault, encoding), named[table.names[row]])


def _known_inputs(layout: Layout, columns: TextColumns) -> list[int]:
    """Return the columns of the texts: those of the run, of ``dataset.input``, or of a usual name; empty if unknown."""
    if columns.inputs and all(each in layout.names for each in columns.inputs):
        return [layout.names.index(each) for each in columns.inputs]
    if columns.wanted:
        places = [layout.names.index(str(each)) if str(each) in layout.names else each for each in columns.wanted]
        return (
            [at for at in places if isinstance(at, int) and at < len(layout.names)]
            if all(isinstance(at, int) and at < len(layout.names) for at in places)
            else []
        )
    by_name = {name.lower(): at for at, name in reversed([*enumerate(layout.names)])}
    found = [by_name[name] for name in TEXT_NAMES if name in by_name][:1]
    return found or ([0] if len(layout.names) == 1 else [])
