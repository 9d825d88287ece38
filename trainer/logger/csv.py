"""The CSV logger: a table with one row for each logged point."""

from __future__ import annotations

import csv
import itertools
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from msgspec import Meta

from trainer.logger import LOGGERS, Logger
from trainer.runs import atomic_files

log = logging.getLogger("trainer")

FileName = Annotated[
    str,
    Meta(
        pattern=r"^[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}\.csv$",
        description="a file name that ends in .csv: letters, digits, . _ and -",
    ),
]


Point = dict[str, float | str]  # values that were read from an existing file are strings


@LOGGERS.register
class CSV(Logger):
    """Append a row for each point; rewrite the file if a point has a new column.

    Args:
        run_dir: the folder of the file.
        file: the name of the file.
    """

    def __init__(self, run_dir: Path, *, file: FileName) -> None:
        self._path = run_dir / file
        self._columns = ["step", "epoch"]
        self._rows: list[Point] = []
        self._complete = True  # whether the file has every row; False after a failed write

    def log(self, values: Mapping[str, float], step: int, epoch: int) -> None:
        """Append a row; leave the cells of missing values empty."""
        row: Point = {"step": step, "epoch": epoch, **values}
        new = [name for name in row if name not in self._columns]
        self._columns += new
        self._rows.append(row)
        if new or not self._complete:
            self._rewrite()
        else:
            self._complete = False
            with self._path.open("a", newline="", encoding="utf-8") as file:
                csv.DictWriter(file, self._columns).writerow(row)
            self._complete = True

    def state_dict(self) -> dict[str, Any]:
        """Rewrite the file if rows are missing, and return the number of rows."""
        if not self._complete:
            self._rewrite()
        return {"rows": len(self._rows)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Read the rows that the file had at the checkpoint, and remove later rows from the file."""
        wanted, rows, columns = state.get("rows", 0), list[dict[str, str]](), list(self._columns)
        if self._path.is_file():
            try:
                with self._path.open(newline="", encoding="utf-8") as file:
                    reader = csv.DictReader(file)
                    columns = list(reader.fieldnames or columns)
                    rows = [row for row in itertools.islice(reader, wanted) if None not in row]
            except (UnicodeError, csv.Error):
                rows = []
        if len(rows) < wanted:
            log.warning("warning  %s was changed since then: points are missing", self._path)
        self._rows = [{name: text for name, text in row.items() if text} for row in rows]
        present = {name for row in self._rows for name in row}
        self._columns = [name for name in columns if name in present] or self._columns
        if self._rows or self._path.exists():
            self._rewrite()

    def paths(self) -> list[Path]:
        return [self._path] if self._rows else []

    def _rewrite(self) -> None:
        """Write the whole file atomically, so that no rows are lost if the process is killed."""
        self._complete = False

        def fill(path: Path) -> None:
            with path.open("w", newline="", encoding="utf-8") as file:
                writer = csv.DictWriter(file, self._columns)
                writer.writeheader()
                writer.writerows(self._rows)

        atomic_files.write(self._path, fill)
        self._complete = True
