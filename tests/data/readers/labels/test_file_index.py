"""Files that the cells of a table name."""

from __future__ import annotations

from pathlib import Path

import pytest

from trainer.data.readers.labels.file_index import FileIndex, NotOneFileError


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FileIndex:
    monkeypatch.chdir(tmp_path)
    for name in ("data/images/a/1.png", "data/images/b/1.png", "data/images/2.x.PNG", "data/images/.hidden.png"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).touch()
    for name in ("other/3.png", "data/images/2.txt", "data/images/Ünique name.png"):
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).touch()
    return FileIndex(Path("data/images"), (".png",), (Path("data"), Path("other")))


@pytest.mark.parametrize(
    ("cell", "file"),
    [
        ("2.x.PNG", "data/images/2.x.PNG"),
        ("2.x", "data/images/2.x.PNG"),
        ("a/1.png", "data/images/a/1.png"),
        ("a/1", "data/images/a/1.png"),
        ("./b/../a/1.png", "data/images/a/1.png"),
        ("images/b/1.png", "data/images/b/1.png"),
        ("data\\images\\b\\1.png", "data/images/b/1.png"),
        ("3.png", "other/3.png"),
        ("{here}/data/images/b/1.png", "data/images/b/1.png"),
        ("{here}/other/3.png", "{here}/other/3.png"),
        ("Ünique name", "data/images/Ünique name.png"),
    ],
)
def test_a_file_is_found_by_path_name_or_name_without_ending(
    index: FileIndex, tmp_path: Path, cell: str, file: str
) -> None:
    assert index.find(cell.format(here=tmp_path)) == file.format(here=tmp_path)


@pytest.mark.parametrize(
    ("cell", "file"),
    [
        ("/kaggle/input/x/a/1.png", "data/images/a/1.png"),
        ("C:\\Users\\me\\images\\b\\1", "data/images/b/1.png"),
        ("https://host/images/2.X.png", "data/images/2.x.PNG"),
        ("2.X.png", "data/images/2.x.PNG"),
        ("IMAGES/A/1", "data/images/a/1.png"),
    ],
)
def test_the_end_of_a_path_of_another_machine_counts_and_the_case_does_not_and_both_are_said(
    index: FileIndex, cell: str, file: str
) -> None:
    assert index.find(cell) == file
    assert index.guessed == {cell: file}
    assert index.find(file) == file
    assert len(index.guessed) == 1


def test_whole_numbers_that_pandas_wrote_as_floats_name_files_if_all_are_such(tmp_path: Path) -> None:
    for name in ("0.png", "1.png", "2.0.png"):
        (tmp_path / name).touch()
    index = FileIndex(tmp_path, (".png",))
    assert index.as_written(["0.0", "", "1.0"]) == ["0", "", "1"]
    for cells in (["0.0", "1"], ["0.0", "1.5"], ["0.0", "2.0"]):
        assert index.as_written(cells) == cells


def test_two_files_of_one_name_are_not_chosen_between(index: FileIndex) -> None:
    with pytest.raises(NotOneFileError) as caught:
        index.find("1.png")
    named = "data/images/a/1.png, data/images/b/1.png"
    assert str(caught.value) == f"1.png: 2 files have this name: {named}; write their folders too"


@pytest.mark.parametrize(
    "cell",
    [
        "4.png",
        "c/1.png",
        "2.txt/1.png",
        "/nowhere/a/4.png",
        "{here}/data/images/c/2.x.PNG",
        "",
        "other",
    ],
)
def test_a_file_that_is_not_there_is_not_found(index: FileIndex, tmp_path: Path, cell: str) -> None:
    with pytest.raises(NotOneFileError, match="no such file below data/images"):
        index.find(cell.format(here=tmp_path))
