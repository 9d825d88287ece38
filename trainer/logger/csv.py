"""A table of every logged point."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

from msgspec import Meta

from trainer.logger import LOGGERS, Logger

FileName = Annotated[
    str,
    Meta(
        pattern=r"^[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}\.csv$",
        description="a file name that ends in .csv: letters, digits, . _ and -",
    ),
]


@LOGGERS.register
class CSV(Logger):
    """A row for each point; a new column, which a later kind of point brings, rewrites the file with it.

    Args:
        run_dir: where the file goes.
        file: its name.
    """

    def __init__(self, run_dir: Path, *, file: FileName) -> None:
        self._path = run_dir / file
        self._columns = ["step", "epoch"]
        self._rows: list[dict[str, float]] = []

    def log(self, values: Mapping[str, float], step: int, epoch: int) -> None:
        """Append a row; what a point does not have stays empty."""
        row = {"step": step, "epoch": epoch, **values}
        new = [name for name in row if name not in self._columns]
        self._rows.append(row)
        if new:
            self._columns += new
            self._write(self._rows, "w")
        else:
            self._write([row], "a")

    def _write(self, rows: list[dict[str, float]], mode: str) -> None:
        with self._path.open(mode, newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, self._columns)
            if mode == "w":
                writer.writeheader()
            writer.writerows(rows)
