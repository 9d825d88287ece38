"""The tables of splits in a folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from trainer.config import ConfigError
from trainer.data.readers.tables.split_files import table_files


def test_short_names_of_splits_are_known_where_all_tables_have_such_names(tmp_path: Path) -> None:
    for name in ("tr", "va", "te"):
        (tmp_path / f"{name}.csv").touch()
    found = {split: file.name for split, file in table_files({"": tmp_path}).items()}
    assert found == {"train": "tr.csv", "val": "va.csv", "test": "te.csv"}
    (tmp_path / "other.csv").touch()
    with pytest.raises(ConfigError, match="is a folder with "):
        table_files({"": tmp_path})
