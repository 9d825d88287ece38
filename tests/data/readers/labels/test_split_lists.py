"""Lists of the files of a split beside class folders."""

from __future__ import annotations

import functools
from pathlib import Path

import pytest
from PIL import Image

from tests.helpers import defaults, load_data, refused
from trainer.data import Data, ReadOptions
from trainer.dataset import DATASETS

build = functools.partial(load_data, "image_folder")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number in range(20):
        file = tmp_path / "p" / "ab"[number % 2] / f"{number:02}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (3, 3), number).save(file)
    return tmp_path / "p"


def numbers(data: Data, split: str) -> set[int]:
    part = data.splits()[split]
    return {int(image[0, 0, 0]) for image in part.source.fetch(part.positions)[0]}


def test_files_in_lists_are_those_of_their_split_and_all_others_train(folder: Path) -> None:
    (folder / "testing_list.txt").write_text("a/00.png\nb/01.png\ngone/1.png\n")
    (folder / "validation_list.txt").write_text("a/02.png\nb/03.png\n")
    data = build(folder)
    assert data.notes == ("splits by testing_list.txt, validation_list.txt",)
    assert (numbers(data, "test"), numbers(data, "val")) == ({0, 1}, {2, 3})
    assert numbers(data, "train") == {*range(4, 20)}
    assert data.preprocess["lists"] is True


def test_files_in_no_list_are_left_out_if_train_has_a_list(folder: Path) -> None:
    (folder.parent / "meta").mkdir()
    (folder.parent / "meta" / "train.txt").write_text("".join(f"{'ab'[at % 2]}/{at:02}\n" for at in range(4, 16)))
    (folder.parent / "meta" / "test.txt").write_text("a/00\nb/01\n")
    data = build(folder, val_fraction=0)
    assert (numbers(data, "test"), numbers(data, "train")) == ({0, 1}, {*range(4, 16)})
    assert data.warnings == ("6 files are in no list of a split and left out",)


def test_a_file_in_two_lists_is_a_bad_sample(folder: Path) -> None:
    (folder / "test.txt").write_text("a/00.png\nb/01.png\n")
    (folder / "val.txt").write_text("a/00.png\n")
    assert "00.png: is in test.txt and in val.txt" in refused(build, folder)


def test_other_texts_and_a_run_without_lists_do_not_change_the_splits(folder: Path) -> None:
    (folder / "test_notes.txt").write_text("a/00.png\n")
    (folder / "train.txt").write_text("to do\n")
    before = build(folder)
    assert before.notes == ()
    (folder / "testing_list.txt").write_text("a/00.png\nb/01.png\n")
    keys = {**defaults("dataset", "image_folder", path=str(folder))}
    again = DATASETS.build(keys, 0, options=ReadOptions(before.preprocessing()))
    assert numbers(again, "test") == numbers(before, "test")


def test_a_folder_with_a_leading_underscore_that_no_list_names_is_no_class(folder: Path) -> None:
    for number in (0, 1):
        (folder / "_background_noise_").mkdir(exist_ok=True)
        Image.new("L", (3, 3), 99).save(folder / "_background_noise_" / f"{number}.png")
    assert build(folder).spec.classes == ("_background_noise_", "a", "b")
    (folder / "testing_list.txt").write_text("a/00.png\nb/01.png\n")
    (folder / "validation_list.txt").write_text("a/02.png\nb/03.png\n")
    data = build(folder)
    assert data.spec.classes == ("a", "b")
    assert (numbers(data, "test"), numbers(data, "val"), numbers(data, "train")) == ({0, 1}, {2, 3}, {*range(4, 20)})
    assert data.warnings == (f"{folder / '_background_noise_'}: left out, as no list names a file of it",)


def test_lists_hold_within_a_folder_train_beside_files_without_labels(folder: Path) -> None:
    root = folder.parent / "set"
    (root / "test").mkdir(parents=True)
    Image.new("L", (3, 3), 50).save(root / "test" / "x.png")
    folder.rename(root / "train")
    (root / "train" / "testing_list.txt").write_text("a/00.png\nb/01.png\n")
    data = build(root)
    assert numbers(data, "test") == {0, 1}
    assert "splits by testing_list.txt" in data.notes
