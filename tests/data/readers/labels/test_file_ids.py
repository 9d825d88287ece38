"""Identifiers of files in the form in which a table names files."""

from __future__ import annotations

from pathlib import Path

import pytest

from trainer.data.readers.labels.file_ids import id_form, id_of


@pytest.mark.parametrize(
    ("cell", "form", "identifier"),
    [
        ("1", "stem", "7.b"),
        ("1.PNG", "name", "7.b.png"),
        ("img/1.png", "path", "test/7.b.png"),
        ("img\\1", "path_stem", "test/7.b"),
    ],
)
def test_a_file_is_named_as_the_table_names_files(cell: str, form: str, identifier: str) -> None:
    found = id_form([(cell, "p/img/1.png"), (cell, "p/img/1.png"), ("other", "p/other.png")])
    assert found == form
    assert id_of(Path("p/test/7.b.png"), found, [Path("q"), Path("p"), Path("p/test")]) == identifier
