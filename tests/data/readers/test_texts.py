"""Texts without labels, as a finished run reads them."""

from __future__ import annotations

from pathlib import Path

import pytest

from trainer.data.readers.texts import TextColumns, texts_without_labels


@pytest.mark.parametrize(
    ("name", "content", "columns", "found"),
    [
        ("a.csv", 'id,text\n1,"a, b"\n2,c\n', TextColumns(None, None, "auto", None), [("2", "a, b"), ("3", "c")]),
        ("a.csv", "x,y\n1,b\n", TextColumns("y", None, "auto", None), [("2", "b")]),
        ("a.csv", "p,q\n1,b\n", TextColumns(1, "z", "auto", None), [("1", "q"), ("2", "b")]),
        ("a.csv", "x,y\n1,b\n", TextColumns([1, 0], None, True, None), [("2", "b 1")]),
        ("a.tsv", 'say "x\t1\n', TextColumns(0, None, False, None), [("1", 'say "x')]),
        ("a.txt", "id|text\n1|b\n", TextColumns("text", None, "auto", "|"), [("2", "b")]),
        ("a.jsonl", '{"text": "b"}\n\n{"text": 3}\n', TextColumns(None, None, "auto", None), [("1", "b"), ("3", "3")]),
        ("a.txt", " one\n\ntwo \n", TextColumns(None, None, "auto", None), [("1", "one"), ("3", "two")]),
    ],
)
def test_a_text_has_its_line(
    tmp_path: Path, name: str, content: str, columns: TextColumns, found: list[tuple[str, str]]
) -> None:
    file = tmp_path / name
    file.write_text(content)
    read = list(texts_without_labels(file, str(file), columns, "utf-8", whole=False))
    assert read == [(f"{file}:{line}", text, "") for line, text in found]


def test_what_is_no_text_has_a_reason(tmp_path: Path) -> None:
    columns = TextColumns(None, None, "auto", None)
    (tmp_path / "bytes.txt").write_bytes(b"caf\xe9\n\n")
    (tmp_path / "null.txt").write_bytes(b"a\0b")
    (tmp_path / "odd.csv").write_text("p,q\n1,2\n")
    for name, whole, reason in [
        ("bytes.txt", False, "byte 0xe9 is no utf-8; dataset.encoding=latin-1 or cp1252 may be right"),
        ("bytes.txt", True, "byte 0xe9 is no utf-8; dataset.encoding=latin-1 or cp1252 may be right"),
        ("null.txt", False, "is no text"),
        ("odd.csv", False, "which column holds the text? dataset.input=NAME says so; columns: 0, 1"),
    ]:
        read = list(texts_without_labels(tmp_path / name, name, columns, "utf-8", whole=whole))
        assert [error for _, _, error in read] == [reason]
