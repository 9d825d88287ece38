"""Texts without labels, as a finished run reads them."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.helpers import load_data
from trainer.config import ConfigError
from trainer.data.readers.texts.text_tables import TextColumns, UnlabelledText, texts_without_labels


@pytest.mark.parametrize(
    ("name", "content", "columns", "found"),
    [
        ("a.csv", 'id,text\n1,"a, b"\n2,c\n', TextColumns(None, None, "auto", None), [("2", "a, b"), ("3", "c")]),
        ("a.csv", "x,y\n1,b\n", TextColumns("y", None, "auto", None), [("2", "b")]),
        ("a.csv", "p,q\n1,b\n", TextColumns(1, "z", "auto", None), [("2", "b")]),
        ("a.csv", "x,y\n1,b\n", TextColumns([1, 0], None, True, None), [("2", "b 1")]),
        ("a.tsv", 'say "x\t1\n', TextColumns(0, None, False, None), [("1", 'say "x')]),
        ("a.txt", "id|text\n1|b\n", TextColumns("text", None, "auto", "|"), [("2", "b")]),
        ("a.jsonl", '{"text": "b"}\n\n{"text": 3}\n', TextColumns(None, None, "auto", None), [("1", "b"), ("3", "3")]),
        ("a.txt", " one\n\ntwo \n", TextColumns(None, None, "auto", None), [("1", "one"), ("3", "two")]),
        ("a.txt", "a b\tx\nc d\ty\n" * 2, TextColumns(inputs=["0"]), [*zip("1234", ["a b", "c d"] * 2, strict=True)]),
        ("a.txt", "text,label\na b,x\nc d,x\n", TextColumns(inputs=["text"]), [("2", "a b"), ("3", "c d")]),
        ("a.txt", '{"text": "a b", "label": 1}\n', TextColumns(inputs=["text"]), [("1", "a b")]),
        ("a.txt", "__label__x a b\n", TextColumns(), [("1", "a b")]),
    ],
)
def test_a_text_has_its_line(
    tmp_path: Path, name: str, content: str, columns: TextColumns, found: list[tuple[str, str]]
) -> None:
    file = tmp_path / name
    file.write_text(content)
    read = list(texts_without_labels(file, str(file), columns, "utf-8", whole=False))
    assert read == [UnlabelledText(f"{file}:{line}", text) for line, text in found]


def test_what_is_no_text_has_a_reason(tmp_path: Path) -> None:
    columns = TextColumns(None, None, "auto", None)
    (tmp_path / "bytes.txt").write_bytes(b"caf\xe9\n\n")
    (tmp_path / "null.txt").write_bytes(b"a\0b")
    (tmp_path / "odd.csv").write_text("p,q\n1,2\n")
    for name, whole, reason in [
        ("bytes.txt", False, "byte 0xe9 is no utf-8; dataset.encoding=latin-1 or cp1252 may be right"),
        ("bytes.txt", True, "byte 0xe9 is no utf-8; dataset.encoding=latin-1 or cp1252 may be right"),
        ("null.txt", False, "is no text"),
        ("odd.csv", False, "which column holds the text? dataset.input=NAME says so; columns: p, q"),
    ]:
        read = list(texts_without_labels(tmp_path / name, name, columns, "utf-8", whole=whole))
        assert [text.error for text in read] == [reason]


load = functools.partial(load_data, "text")
REVIEWS = [f"a film about number {n}, seen {'twice' if n % 3 else 'once, and not liked'}" for n in range(60)]


def table_of(*columns: Any, header: str = "") -> str:
    lines = [",".join(f'"{cell}"' for cell in row) for row in zip(REVIEWS, *columns, strict=True)]
    return "\n".join([header, *lines] if header else lines) + "\n"


def test_numbers_as_targets_of_texts_are_values(tmp_path: Path) -> None:
    (tmp_path / "d.csv").write_text(table_of([n / 7 for n in range(60)], header="text,score"))
    data = load(tmp_path / "d.csv")
    assert (data.spec.task, data.spec.classes) == ("regression", ("score",))
    assert data.notes == ("texts text", "target score")
    train = np.array([n / 7 for n in range(60)])[data.train.positions]
    assert data.spec.target_mean[0] == pytest.approx(train.mean(), rel=1e-6)


def test_several_columns_of_0_and_1_are_labels_of_texts(tmp_path: Path) -> None:
    toxic, rude = [n % 2 for n in range(60)], [n % 3 // 2 for n in range(60)]
    (tmp_path / "d.csv").write_text(table_of(range(60), toxic, rude, header="comment_text,id,toxic,rude"))
    data = load(tmp_path / "d.csv")
    assert (data.spec.task, data.spec.classes) == ("multilabel", ("toxic", "rude"))
    assert data.train.source.targets.tolist() == [list(pair) for pair in zip(toxic, rude, strict=True)]


def test_labels_of_texts_may_stand_in_one_cell_or_in_a_list(tmp_path: Path) -> None:
    (tmp_path / "d.csv").write_text(table_of(["sad;old", "", "old"] * 20, header="text,tags"))
    lines = [json.dumps({"text": text, "tags": [["sad", "old"], [], ["old"]][n % 3]}) for n, text in enumerate(REVIEWS)]
    (tmp_path / "d.jsonl").write_text("\n".join(lines))
    for name, separator in (("d.csv", ";"), ("d.jsonl", "|"), ("d.jsonl", None)):
        data = load(tmp_path / name, label_separator=separator)
        assert (data.spec.task, data.spec.classes) == ("multilabel", ("old", "sad"))
        assert data.train.source.targets[:3].tolist() == [[1, 1], [0, 0], [1, 0]]


def test_columns_of_true_and_false_or_of_yes_and_no_are_labels_of_texts(tmp_path: Path) -> None:
    toxic, rude = [n % 2 for n in range(60)], [n % 3 // 2 for n in range(60)]
    for at, words in enumerate((("False", "True"), ("no", "yes"))):
        cells = [[words[each] for each in column] for column in (toxic, rude)]
        (tmp_path / f"{at}.csv").write_text(table_of(*cells, header="comment_text,toxic,rude"))
        data = load(tmp_path / f"{at}.csv")
        assert (data.spec.task, data.spec.classes) == ("multilabel", ("toxic", "rude"))
        assert data.train.source.targets.tolist() == [list(pair) for pair in zip(toxic, rude, strict=True)]


def test_columns_of_labels_are_proposed_beside_another_column(tmp_path: Path) -> None:
    table = table_of([n * 0.5 for n in range(60)], ["True", "False"] * 30, ["no", "yes"] * 30, header="text,x,a,b")
    (tmp_path / "d.csv").write_text(table)
    with pytest.raises(ConfigError, match=r"or 'dataset\.target=\[a,b\]' for labels"):
        load(tmp_path / "d.csv")
    assert load(tmp_path / "d.csv", target=["a", "b"]).spec.classes == ("a", "b")


def test_tokens_in_a_list_are_a_text(tmp_path: Path) -> None:
    lines = [json.dumps({"text": text.split(), "label": n % 2}) for n, text in enumerate(REVIEWS)]
    (tmp_path / "list.jsonl").write_text("\n".join(lines))
    (tmp_path / "text.csv").write_text(table_of([0, 1] * 30, header="text,label"))
    found = [load(tmp_path / name).preprocess["vocabulary"] for name in ("list.jsonl", "text.csv")]
    assert found[0] == found[1]


def test_columns_of_texts_that_are_left_out_are_named(tmp_path: Path) -> None:
    (tmp_path / "d.csv").write_text(table_of(REVIEWS[::-1], ["x", "y"] * 30, header="title,abstract,label"))
    data = load(tmp_path / "d.csv")
    left = "left out abstract ('dataset.input=[title,abstract]' takes it in)"
    assert data.notes == ("texts title", "target label", left)
    assert load(tmp_path / "d.csv", input=["title", "abstract"]).notes == ("texts title, abstract", "target label")
    assert load(tmp_path / "d.csv", input="title").notes == ("texts title", "target label")


def test_a_first_row_that_may_be_a_sample_is_said(tmp_path: Path) -> None:
    (tmp_path / "d.csv").write_text("hello you,greeting\n" + table_of(["x", "y"] * 30))
    note = "line 1 is read as the names of the columns (dataset.header=false: as a sample)"
    assert load(tmp_path / "d.csv").notes[-1] == note
    data = load(tmp_path / "d.csv", header=False)
    assert (data.spec.classes, note in data.notes) == (("greeting", "x", "y"), False)
    (tmp_path / "d.csv").write_text(table_of(["x", "y"] * 30, header="review,what"))
    assert note not in load(tmp_path / "d.csv").notes


@pytest.mark.parametrize("label", ["y", "tag", "class", "title"])
def test_a_label_that_is_a_usual_name_of_a_column_is_no_header(tmp_path: Path, label: str) -> None:
    (tmp_path / "d.csv").write_text(table_of([label, "n"] * 30))
    data = load(tmp_path / "d.csv")
    assert len(data.train.source.targets) == 60
    assert data.spec.classes == tuple(sorted((label, "n")))


def test_tables_that_everybody_has_are_read(tmp_path: Path) -> None:
    spam = "v1,v2,,,\r\n" + "".join(
        f'{"ham" if n % 4 else "spam"},"caf\xe9, {text}",,,\r\n' for n, text in enumerate(REVIEWS)
    )
    (tmp_path / "spam.csv").write_bytes(spam.encode("latin-1"))
    with pytest.raises(ConfigError, match=r"byte 0xe9 is no text; dataset\.encoding=latin-1 or cp1252 may be right"):
        load(tmp_path / "spam.csv")
    data = load(tmp_path / "spam.csv", encoding="latin-1")
    assert data.spec.classes == ("ham", "spam")
    assert data.notes == ("texts v2", "target v1", "left out 2, 3, 4 (mostly empty)")
    news = "".join(f'"{n % 4 + 1}","Title of {n}","{text} {text} {text}"\n' for n, text in enumerate(REVIEWS))
    (tmp_path / "news.csv").write_text(news)
    data = load(tmp_path / "news.csv")
    assert (data.spec.classes, data.notes) == (
        ("1", "2", "3", "4"),
        ("texts 2", "target 0", "left out 1 ('dataset.input=[1,2]' takes it in)"),
    )
    assert load(tmp_path / "news.csv", input=[1, 2]).notes == ("texts 1, 2", "target 0")


def test_an_author_stands_in_one_split(tmp_path: Path) -> None:
    authors = [f"author {n % 10}" for n in range(60)]
    (tmp_path / "d.csv").write_text(table_of(["good", "bad", "bad"] * 20, authors, header="text,label,author"))
    data = load(tmp_path / "d.csv", group="author")
    found = [{authors[at] for at in split.positions.tolist()} for split in data.splits().values()]
    assert sum(map(len, found)) == len(set.union(*found)) == 10


@pytest.mark.parametrize(
    ("header", "first", "wanted"), [("id,text,sentiment", "{at}", "id"), ("topic_id,text,sentiment", "{half}", None)]
)
def test_the_column_that_names_the_rows_is_kept_for_submissions(
    tmp_path: Path, header: str, first: str, wanted: str | None
) -> None:
    rows = [f"{first.format(at=at, half=at // 2)},some words {at},{'ab'[at % 2]}" for at in range(20)]
    (tmp_path / "a.csv").write_text("\n".join([header, *rows]) + "\n")
    data = load(tmp_path / "a.csv")
    assert data.preprocess["id"] == wanted
    assert (f"rows named by {wanted}" in data.notes) == (wanted is not None)


def test_a_column_says_the_split_of_a_text(tmp_path: Path) -> None:
    splits, labels = ["train", "train", "dev", "test"] * 15, ["good", "bad", "bad", "good", "good"] * 12
    (tmp_path / "d.csv").write_text(table_of(labels, splits, header="text,label,subset"))
    data = load(tmp_path / "d.csv")
    assert [len(split) for split in data.splits().values()] == [30, 15, 15]
    assert "splits by subset" in data.notes


def test_an_identifier_is_no_target(tmp_path: Path) -> None:
    (tmp_path / "d.csv").write_text(table_of(range(60), header="text,id"))
    with pytest.raises(
        ConfigError, match=r"dataset\.target: null: .*d\.csv has no column of labels; columns: text, id"
    ):
        load(tmp_path / "d.csv")
