"""``trainer explain RUN --columns``: a table of importances, JSON, and a page with the effects."""

from __future__ import annotations

import functools
import json
import re
import shutil
import sys
from pathlib import Path

import pytest

from tests.helpers import refusal
from tests.html_page import Page
from tests.made import Made
from trainer import compose, run
from trainer.__main__ import main

HOSTILE = "<script>alert(1)</script>"

refused = functools.partial(refusal, "explain")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on a number that decides between two classes, a category and a date; a name and the levels are HTML."""
    folder = tmp_path_factory.mktemp("hostile")
    lines = [f"{HOSTILE},color,when,kind"]
    for at in range(240):
        number = "" if at % 9 == 0 else f"{at * 37 % 101}"
        color = f"{HOSTILE}{at % 2}"
        lines.append(f"{number},{color},2024-{1 + at % 12:02}-{1 + at % 28:02},{'no' if at * 37 % 101 < 50 else 'yes'}")
    (folder / "rows.csv").write_text("\n".join(lines) + "\n")
    words = [f"dataset.path={folder / 'rows.csv'}", "dataset.target=kind", "model.hidden=[16]", "epochs=4"]
    run(compose("dataset=csv", *words, "batch_size=32", "logger=none", "device=cpu", f"run_dir={folder / 'run'}"))
    return folder / "run"


def told(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[str, str]:
    """What ``trainer explain …`` prints to stdout and stderr."""
    capsys.readouterr()
    assert main(["explain", *map(str, words)]) == 0, capsys.readouterr().err
    captured = capsys.readouterr()
    return captured.out, captured.err


def test_the_table_names_the_metric_and_the_columns_by_importance(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "captum.attr", None)  # columns need no captum
    out, err = told(capsys, folder, "--columns", "-o", tmp_path / "page.html")
    head, *rows = out.partition("\n\n")[2].splitlines()
    assert re.search(r"^data     24 samples of test\naccuracy [01]\.\d{4}; so much worse", out, re.MULTILINE)
    assert head.split() == ["column", "importance", "±"]
    assert rows[0].split()[0] == HOSTILE
    values = [float(row.split()[1]) for row in rows]
    assert values[0] > 0.2 > max(abs(value) for value in values[1:])
    assert values == sorted(values, reverse=True)
    assert err == f"{tmp_path / 'page.html'}: 3 columns explained\n"


def test_the_page_loads_nothing_and_shows_names_as_they_are(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told(capsys, folder, "--columns", "-o", tmp_path / "page.html")
    page = Page((tmp_path / "page.html").read_text(encoding="utf-8"))
    assert page.loaded == []
    assert not {"script", "link", "iframe"} & {tag for tag, _ in page.tags}
    assert page.text.count(HOSTILE) == 4  # in the bars, above its figure, and two levels
    assert len(page.named("figure")) == 3
    assert len(page.named("svg")) == 2  # of the number and the date; the category has bars
    assert "missing" in page.text
    assert "2024-0" in page.text
    assert "of yes" in page.text


def test_json_holds_all_numbers_and_a_page_only_if_it_is_named(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    found = json.loads(told(capsys, folder, "--columns", "--json")[0])
    assert [*tmp_path.iterdir()] == []
    assert main(["evaluate", str(folder), "--json"]) == 0
    measured = json.loads(capsys.readouterr().out)["metrics"]["test/accuracy"]
    assert (found["metric"], found["value"], found["split"]) == ("accuracy", measured, "test")
    number, *others = found["columns"]
    assert (number["name"], number["kind"]) == (HOSTILE, "number")
    cells = [point["cell"] for point in number["effect"]]
    assert cells == [*sorted(cells[:-1]), None]
    answers = [point["answers"] for point in number["effect"]]
    assert all(answer.keys() == {"yes"} for answer in answers)
    assert answers[0]["yes"] < 0.5 < answers[-2]["yes"]
    kinds = {each["kind"]: each["effect"][0] for each in others}
    assert kinds["category"]["cell"].startswith(HOSTILE)
    assert kinds["category"]["samples"] >= 5
    assert kinds["date"]["cell"].startswith("2024-")


def test_named_columns_another_split_metric_and_class(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("--split", "val", "--metric", "loss", "--target", "no", "--json", "-o", tmp_path / "page.html")
    found = json.loads(told(capsys, folder, "--columns", "when,color", *words)[0])
    assert (found["split"], found["metric"]) == ("val", "loss")
    assert {each["name"] for each in found["columns"]} == {"when", "color"}
    assert found["columns"][0]["effect"][0]["answers"].keys() == {"no"}
    assert "of no" in Page((tmp_path / "page.html").read_text(encoding="utf-8")).text


def test_all_samples_of_other_data_are_measured(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = (folder.parent / "rows.csv").read_text().splitlines()
    (tmp_path / "other.csv").write_text("\n".join(lines[:101]) + "\n")
    words = (f"dataset.path={tmp_path / 'other.csv'}", "--columns", "color", "--json")
    found = json.loads(told(capsys, folder, *words)[0])
    assert (found["split"], found["samples"]) == ("all", 100)


@pytest.mark.parametrize("words", [("labels",), ("sequence",)])
def test_labels_and_sequences_have_a_page(
    made: Made, tmp_path: Path, words: tuple[str], capsys: pytest.CaptureFixture[str]
) -> None:
    out, _ = told(capsys, made.run("gru", *words), "--columns", "-o", tmp_path / "page.html")
    assert ("f1 " if words == ("labels",) else "accuracy ") in out
    page = Page((tmp_path / "page.html").read_text(encoding="utf-8"))
    assert len(page.named("svg")) == (6 if words == ("labels",) else 4)
    assert page.loaded == []


WRONG = {
    "RUN photo.png --columns": "--columns: explains the columns of the data and no files; leave out photo.png, or",
    "RUN --columns color when": "--columns: names are separated by commas: --columns color,when",
    "RUN --columns colour": "--columns: colour: no such column; did you mean color? the run learned from ",
    "RUN --columns device=cpu": "--columns: device=cpu: no such column; write device=cpu before --columns;",
    "RUN --columns --metric acuracy": "--metric: acuracy: no such metric for classification; did you mean accuracy?",
    "RUN --columns --split tests": "--split: must be one of train, val, test, all, got tests",
    "RUN --columns --steps 4": "--steps: is for files; leave it out with --columns",
    "RUN --columns --target maybe": "--target: maybe: no such class; the run has no, yes",
    "RUN --columns -o photo.png": "photo.png: is there already, and no page of this command",
    "RUN photo.png --split val": "--split: is for columns; leave it out, or write --columns in place of the files",
    "RUN photo.png --metric loss": "--metric: is for columns;",
    "--columns RUN": "explain: needs a RUN before --columns, as in trainer explain RUN --columns",
    "--columns color": "explain: needs a RUN before --columns, as in trainer explain last --columns color",
}


@pytest.mark.parametrize("words", WRONG)
def test_a_wrong_command_is_refused_in_a_line_and_writes_nothing(
    folder: Path, tmp_path: Path, words: str, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(folder, tmp_path / "RUN")
    (tmp_path / "photo.png").write_text("none")
    monkeypatch.chdir(tmp_path)
    assert WRONG[words] in refused(capfd, *words.split())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["RUN", "photo.png"]


def test_a_run_on_pictures_is_told_what_works(made: Made, capfd: pytest.CaptureFixture[str]) -> None:
    said = refused(capfd, made.run("cnn", "image"), "--columns")
    assert "which has no columns; trainer explain RUN FILE explains the answer for a file" in said
