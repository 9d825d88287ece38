"""The tables of splits in a folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from trainer.config import ConfigError
from trainer.data.readers.files import Problems
from trainer.data.readers.tables.split_files import table_files


def test_short_names_of_splits_are_known_where_all_tables_have_such_names(tmp_path: Path) -> None:
    problems = Problems("csv", "stop")
    for name in ("tr", "va", "te"):
        (tmp_path / f"{name}.csv").touch()
    found = {split: file.name for split, file in table_files({"": tmp_path}, problems).items()}
    assert found == {"train": "tr.csv", "val": "va.csv", "test": "te.csv"}
    (tmp_path / "other.csv").touch()
    with pytest.raises(ConfigError, match="is a folder with "):
        table_files({"": tmp_path}, problems)


def test_tables_beside_those_of_splits_are_left_out_with_a_warning(tmp_path: Path) -> None:
    problems = Problems("csv", "stop")
    for name in ("train", "test", "train_extra", "sample_submission"):
        (tmp_path / f"{name}.csv").touch()
    assert {*table_files({"": tmp_path}, problems)} == {"train", "test"}
    assert problems.warnings == [
        f"{tmp_path}: left out, as no tables of train, val and test: sample_submission.csv, train_extra.csv"
    ]
