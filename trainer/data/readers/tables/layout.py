"""The layout of a table in a text file: its delimiter, its header, and how its columns write numbers."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, NamedTuple, TypedDict

from trainer.config import ConfigError
from trainer.config.messages import as_word, did_you_mean
from trainer.data.readers.tables.column_names import column_names
from trainer.data.readers.tables.delimiters import find_delimiter, one_character, quote_of
from trainer.data.readers.tables.header import Header, find_header, num_titles, with_row_names
from trainer.data.readers.tables.lines import PACKED, blocks, plain_suffix
from trainer.data.readers.tables.list_cells import ListForm
from trainer.data.readers.tables.number_cells import MISSING, PLAIN_FORM, Decimal, FoundForm, NumberForm, find_form
from trainer.data.readers.tables.rows import split_rows

ColumnKey = str | int  # a column by its name, or by its number from 0
LOOKED_AT = 1000  # rows from which the layout of a file is detected
PLACES, AROUND = 8, 1 << 16  # places of a large file from which further rows are taken, and bytes that are read there
MAX_LISTED = 30  # maximum number of columns that a message lists
UTF16 = (b"\xff\xfe", b"\xfe\xff")  # the byte order marks of UTF-16
COMMENTS = ("#", "%", "//")  # the beginnings of comments above a table
GROUPS_OF_POINTS = re.compile(r"[+-]?(?:[1-9][0-9]{0,2}(?:\.[0-9]{3})*|0)")
POINT = re.compile(
    r"[+-]?(?:0[0-9]*\.[0-9]+|[0-9]*\.(?:[0-9]{0,2}|[0-9]{4,})(?:[eE][+-]?[0-9]+)?)"
)  # not a group of digits
PLACE = re.compile(
    r"[0-9]+(?:\.[0-9]+|\[[0-9]+\])?"
)  # a name that a column, or a number of a list, has without a header
SEPARATOR = re.compile(r"\"?sep=(.)\"?", re.IGNORECASE)  # the first line that a spreadsheet program writes for itself


class TableKeys(TypedDict):
    """The keys that say how a table in a text file is read."""

    header: bool | Literal["auto"]
    delimiter: str | None
    decimal: Decimal | None
    missing_values: list[str | int | float]
    encoding: str


def table_keys_of(config: Mapping[str, Any]) -> TableKeys:
    """Return the keys of a component's config; one that an earlier version did not have is null."""
    return TableKeys(
        header=config.get("header", "auto"),
        delimiter=config.get("delimiter"),
        decimal=config.get("decimal"),
        missing_values=config.get("missing_values", []),
        encoding=str(config.get("encoding", "utf-8")),
    )


class ListColumn(NamedTuple):
    """A column of a file whose cells are lists of numbers, each of which is a column of the layout.

    Args:
        name: the name of the column in the file.
        number: its number in the file.
        columns: the numbers of its columns in the layout.
        form: how the cells hold lists.
    """

    name: str
    number: int
    columns: range
    form: ListForm

    @property
    def note(self) -> str:
        """A phrase that says how the column is read."""
        return f"{self.name} is read as {len(self.columns):,} numbers"


class Layout(NamedTuple):
    """The layout of a table in a file.

    Args:
        header: whether a line names the columns.
        names: the names of the columns; a column without a name has its number, from 0.
        unnamed: the numbers of the columns whose names in the header are empty.
        skip: the number of lines above the first row.
        quote: the sign around cells that hold delimiters or line breaks; empty if there is none.
        first: some rows, which show what the columns hold: the first ones, and of a large file others below.
        forms: how each column writes numbers; None for a column of texts.
        missing: the cells that mean a missing number, in lower case.
        blank: the cells of ``dataset.missing_values``, in lower case, which mean a missing cell in a text column too.
        notes: short phrases about what was detected and could be read in another way.
        unclear: by the number of a column, a cell whose comma may stand before a fraction or between groups of digits.
        comment: the beginning of lines between the rows that are comments; empty if no line is.
        rows: the rows of a file that is no text, as an arrow table of texts and numbers; else None.
        lines: of such a file, the number of the line of each row, if it has lines; else None.
        faults: of such a file, why a row cannot be used, by its number from 0.
        shape: of a file of series, the steps and the width of each; else None.
        lists: the columns of the file whose cells are lists of numbers.
        in_file: the layout with the columns as the file has them; None if no column holds lists.
        uneven: by the number of a column whose cells are lists of different lengths, what they are.
    """

    file: Path
    encoding: str
    delimiter: str
    header: bool
    names: list[str]
    unnamed: frozenset[int]
    skip: int
    quote: str
    first: list[list[str]]
    forms: list[NumberForm | None]
    missing: frozenset[str] = MISSING
    blank: frozenset[str] = frozenset()
    notes: tuple[str, ...] = ()
    unclear: Mapping[int, str] = MappingProxyType({})
    comment: str = ""
    rows: Any = None
    lines: Any = None
    faults: Mapping[int, str] = MappingProxyType({})
    shape: tuple[int, int] | None = None
    lists: tuple[ListColumn, ...] = ()
    in_file: Any = None
    uneven: Mapping[int, str] = MappingProxyType({})

    def numbers(self) -> dict[str, int]:
        """Return the number of each column by its name."""
        return {name: number for number, name in enumerate(self.names)}

    def find(self, key: str, column: ColumnKey) -> int:
        """Return the number of the column that ``dataset.<key>`` names.

        Raises:
            ConfigError: there is no such column, or it holds lists.
        """
        if str(column) in self.names:
            return self.names.index(str(column))
        column = _number_in(column)
        if (several := self._list_of(column)) is not None:
            size = len(several.columns)
            raise ConfigError(f"dataset.{key}: {column}: holds lists of {size:,} numbers, and must be one column")
        places = self.places()
        count = places[-1] + 1 if places else 0
        if isinstance(column, int):
            if 0 <= column < count:
                return places.index(column)
            raise ConfigError(f"dataset.{key}: {column}: {self.file} has the columns 0 to {count - 1}")
        if not self.header:
            raise ConfigError(f"dataset.{key}: {column}: {self.file} names no columns; say a number, 0 to {count - 1}")
        near = next(
            (name for name in self.names if name.strip("[](){} ").lower() == column.strip("[](){} ").lower()), ""
        )
        hint = f"; type {as_word(f'dataset.{key}', near)};" if near else did_you_mean(column, self.names) or ";"
        there = listed((self.in_file or self).names)
        raise ConfigError(f"dataset.{key}: {column}: {self.file} has no such column{hint} columns: {there}")

    def find_all(self, key: str, column: ColumnKey) -> list[int]:
        """Return the number of the column that ``dataset.<key>`` names, or all numbers of one that holds lists.

        Raises:
            ConfigError: there is no such column.
        """
        found = None if str(column) in self.names else self._list_of(_number_in(column))
        return [self.find(key, column)] if found is None else [*found.columns]

    def _list_of(self, column: ColumnKey) -> ListColumn | None:
        return next((each for each in self.lists if column in (each.name, each.number)), None)

    def places(self) -> list[int]:
        """Return the number in the file of each column."""
        if not self.lists:
            return [*range(len(self.names))]
        sizes = {each.number: len(each.columns) for each in self.lists}
        return [number for number in range(len(self.in_file.names)) for _ in range(sizes.get(number, 1))]

    def in_lists(self) -> frozenset[int]:
        """Return the numbers of the columns that come from lists."""
        return frozenset(column for each in self.lists for column in each.columns)

    def check_lists(self, columns: Iterable[int]) -> None:
        """Raise ConfigError if one of some columns holds lists of different lengths."""
        for column in columns:
            if column in self.uneven:
                raise ConfigError(
                    f"dataset.features: {self.names[column]} of {self.file} holds {self.uneven[column]}, and lists of "
                    f"different lengths are not read; {as_word('dataset.ignore', [self.names[column]])} leaves it out"
                )

    def check_decimals(self, columns: Iterable[int]) -> None:
        """Raise ConfigError if the numbers of one of some columns can be read in two ways."""
        for column in columns:
            if cell := self.unclear.get(column):
                both = f"{cell.replace(',', '').replace('.', '')} or {cell.replace(',', '.')}"
                question = f"is {cell} in {self.names[column]} of {self.file} {both}?"
                words = f"{as_word('dataset.decimal', '.')} or {as_word('dataset.decimal', ',')} says so"
                raise ConfigError(f"dataset.decimal: null: {question} {words}")

    def check_points(self, column: int, form: NumberForm | None) -> None:
        """Raise ConfigError if a column has points here, between commas, and decimal commas in the form of training."""
        if form is None or form.kind != "number" or form.decimal == "." or self.delimiter != ",":
            return
        cell = next((cell for cell in self.cells(column) if "." in cell and "," not in cell), None)
        if cell is not None:
            raise ConfigError(
                f"dataset.decimal: null: {self.names[column]} of {self.file} has points, such as {cell}, and decimal "
                "commas in the training data; save both in one form, or give the file alone with dataset.decimal=."
            )

    def filled(self, column: int) -> list[str]:
        """Return the cells of a column in ``first`` that are not missing."""
        return [cell for cell in self.cells(column) if cell.lower() not in self.missing]

    def holds_text(self, column: int) -> bool:
        """Return whether most cells of a column, apart from missing ones, are not numbers."""
        return self.forms[column] is None

    def cells(self, column: int) -> list[str]:
        """Return the cells of a column in ``first``, without outer space."""
        return [row[column].strip() for row in self.first]

    def samples(self) -> str:
        """Return each column with one of its cells, for a question about the columns."""
        row = self.first[0] if self.first else [""] * len(self.names)
        cut = [cell.strip() if len(cell.strip()) <= 24 else f"{cell.strip()[:24]}…" for cell in row]
        return listed([f"{name} ({cell})" if cell else name for name, cell in zip(self.names, cut, strict=True)])

    def place(self, line: int, name: str = "") -> str:
        """Return the place of a row, given its entry in ``ParsedTable.lines``, in the file or what it is called."""
        between = ":" if self.rows is None or self.lines is not None else " row "
        return f"{name or self.file}{between}{line}"


def _number_in(column: ColumnKey) -> ColumnKey:
    """Return the number in a text, such as the last part of the key ``dataset.columns.3``; other keys as they are."""
    return int(column) if isinstance(column, str) and column.isdecimal() else column


def listed(names: Sequence[str]) -> str:
    """Return the names as one text, ``a, b, c``, which is shortened if there are many."""
    more = f", … ({len(names)} in all)" if len(names) > MAX_LISTED else ""
    return ", ".join(names[:MAX_LISTED]) + more


def text_layout(
    file: Path, keys: TableKeys, *, quotes_in_tabs: bool = True, named: Sequence[ColumnKey | None] = ()
) -> Layout:
    """Return the layout of a table in a text file; what ``keys`` leave open is detected from some of its rows.

    Args:
        file: the file, which may be packed.
        keys: the keys of the data set.
        quotes_in_tabs: whether quotes are more than ordinary characters where a tab separates the columns.
        named: the columns that other keys name; if the first line has one of them, it is the header.

    Raises:
        ConfigError: the file cannot be read as text, or has no rows; or a key does not fit it.
    """
    some = _first_lines(file, keys["encoding"])
    skip = _num_comments(some)
    delimiter = keys["delimiter"]
    if delimiter is None and skip and (separator := SEPARATOR.fullmatch(some[0].rstrip("\r\n"))):
        delimiter = separator[1]
    if delimiter is None:
        is_tabbed = plain_suffix(file) in (".tsv", ".tab") and any("\t" in line for line in some[skip:])
        delimiter = "\t" if is_tabbed else find_delimiter(some[skip:])
    delimiter = one_character(delimiter)
    quote = quote_of(some[skip:], delimiter) if quotes_in_tabs or delimiter != "\t" else ""
    comment = next((sign for sign in COMMENTS if skip and some[skip - 1].strip().startswith(sign)), "")
    numbered = [row for row in split_rows(some[skip:], delimiter, quote, start=skip + 1) if not row.fault]
    titles = num_titles([row.cells for row in numbered]) if keys["header"] == "auto" else 0
    rows = [row.cells for row in numbered[titles:]]
    if not rows:
        raise ConfigError(f"dataset.path: {file}: has no rows")
    if keys["header"]:
        rows = with_row_names(rows)
    notes = []
    if titles:
        skip = numbered[titles].first_line - 1
        notes.append(f"left out the lines above line {skip + 1}")
    found, above = _header(rows, some[:skip], keys["header"], delimiter, quote, named)
    if above is not None:  # the comment above the rows is one of them, or names the columns
        rows.insert(0, above)
        skip -= 1
    names, unnamed, renamed = column_names(file, rows[0], keys["encoding"], header=found.header)
    first = [row for row in rows[found.header :] if len(row) == len(names)]
    skip += found.header
    layout = Layout(file, keys["encoding"], delimiter, found.header, names, unnamed, skip, quote, first, [])
    first += _rows_below(layout)
    return with_forms(layout._replace(comment=comment), keys, notes=(*notes, *filter(None, (found.note, renamed))))


def _header(
    rows: Sequence[Sequence[str]],
    comments: Sequence[str],
    header: bool | Literal["auto"],
    delimiter: str,
    quote: str,
    named: Sequence[ColumnKey | None],
) -> tuple[Header, list[str] | None]:
    """Return whether the first row is a header, and the row in the last comment, if it has as many cells as the rows.

    NumPy writes the names of columns behind a ``#``; but a text may also begin with this sign.
    """
    if header != "auto":
        return Header(header), None
    wanted = {key for key in named if isinstance(key, str) and not PLACE.fullmatch(key)}
    below = find_header(rows)
    if wanted & {cell.strip() for cell in rows[0]}:
        return Header(True), None
    if below.header and not below.note:
        return below, None
    for marked in comments[-1:]:
        for line in (marked, marked.lstrip("".join(COMMENTS))):
            above = next((row.cells for row in split_rows([line], delimiter, quote)), [])
            if len(above) == len(rows[0]) > 1:
                names = [cell.lstrip("# ") for cell in above]
                found = find_header([names, *rows])
                return found, names if found.header else above
    return below, None


def with_forms(layout: Layout, keys: TableKeys, notes: tuple[str, ...] = ()) -> Layout:
    """Return a layout with the forms of its columns, as ``layout.first`` shows them.

    If the numbers of one column have decimal commas for sure, those of others that are open have them too.
    """
    blank = frozenset(str(cell).strip().lower() for cell in keys["missing_values"])
    missing, decimal = MISSING | blank, keys["decimal"]
    found = [find_form(layout.cells(column), missing, decimal) for column in range(len(layout.names))]
    has_commas = any(form is not None and form.decimal == "," and not unclear for form, unclear in found)
    plain = [column for column, (form, _) in enumerate(found) if form == PLAIN_FORM]
    has_points = any(POINT.fullmatch(cell) for column in plain for cell in layout.cells(column))
    for column, (form, unclear) in enumerate(found):
        is_open = form == PLAIN_FORM and any("." in cell for cell in layout.cells(column))
        if has_commas and not has_points and decimal is None and (unclear or is_open):
            found[column] = find_form(layout.cells(column), missing, ",")
        elif has_points or layout.delimiter == ",":
            found[column] = FoundForm(form)
        elif is_open and layout.delimiter == ";" and decimal is None:  # as spreadsheets write where commas are decimal
            found[column] = FoundForm(form, _group_in(layout.cells(column)))
    forms = [form for form, _ in found]
    return layout._replace(
        forms=forms,
        missing=missing,
        blank=blank,
        notes=notes,
        unclear={column: unclear for column, (_, unclear) in enumerate(found) if unclear},
    )


def _group_in(cells: Sequence[str]) -> str:
    """Return a cell such as 1.234 if all cells could be whole numbers with points between groups of digits."""
    there = [cell for cell in cells if cell]
    if not all(GROUPS_OF_POINTS.fullmatch(cell) for cell in there):
        return ""
    return next((cell for cell in there if "." in cell), "")


def _first_lines(file: Path, encoding: str) -> list[str]:
    """Return the first lines of a file: whole rows, about ``LOOKED_AT`` of them.

    Raises:
        ConfigError: the file cannot be read, or is no text in its encoding.
    """
    found: list[str] = []
    for block in blocks(file, encoding, size=AROUND):
        found += block.lines()
        if len(found) > LOOKED_AT:
            break
    if any("\0" in line for line in found):
        start = "".join(found[:1]).encode("utf-8", "surrogateescape")
        half = next((name for name, at in (("utf-16-le", 1), ("utf-16-be", 0)) if {*start[at:40:2]} == {0}), "")
        utf16 = "utf-16" if start[:2] in UTF16 else half
        utf16 = f"; dataset.encoding={utf16} may be right" if utf16 else ""
        raise ConfigError(f"dataset.path: {file}: is no text in {encoding}{utf16}; must be a table")
    return found


def _rows_below(layout: Layout) -> Iterator[list[str]]:
    """Yield rows from some places of a large file, so that a file in the order of its classes shows all of them."""
    if layout.file.suffix.lower() in PACKED or layout.encoding.lower() not in ("utf-8", "utf8"):
        return
    with contextlib.suppress(OSError), layout.file.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        for place in range(1, PLACES + 1) if size > 2 * PLACES * AROUND else ():
            file.seek(place * (size - AROUND) // PLACES)
            lines = file.read(AROUND).decode("utf-8", "surrogateescape").replace("\r", "").split("\n")[1:-1]
            for row in split_rows([f"{line}\n" for line in lines], layout.delimiter, layout.quote):
                if len(row.cells) == len(layout.names):
                    yield row.cells


def _num_comments(lines: Sequence[str]) -> int:
    """Return the number of lines above the table: blank ones, comments, and the line ``sep=;``."""
    for number, line in enumerate(lines):
        text = line.strip()
        is_separator = number == 0 and SEPARATOR.fullmatch(line.rstrip("\r\n"))
        if text and not text.startswith(COMMENTS) and not is_separator:
            return number
    return 0
