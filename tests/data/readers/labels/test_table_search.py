"""Tables near pictures without class folders: proposed by words that read them, and none that names other files."""

from __future__ import annotations

import functools
from pathlib import Path

import pytest

from tests.data.readers.labels.test_labelled_files import NAMES, WANTED, build, found, picture, pictures, table
from tests.helpers import refused
from trainer.config.messages import as_word
from trainer.data.readers.split_names import words_to_type

refusal = functools.partial(refused, build)
ROWS = [f"{name},{WANTED[number]}" for number, name in enumerate(NAMES)]


@pytest.mark.parametrize("folder", ["images", "Bilder", "My été (2025)"])
def test_a_table_beside_the_only_folder_is_proposed(tmp_path: Path, folder: str) -> None:
    root = tmp_path / "a set"
    pictures(root / folder, NAMES)
    labels = table(root / "meta.csv", "Datei,Art", *ROWS)
    line = refusal(root)
    assert line.startswith(f"dataset.path: {root}: has all pictures in one folder, {folder}, and a table names them: ")
    assert as_word("dataset.labels", labels) in line
    assert found(build(root, labels=labels)) == WANTED
    assert found(build(root / folder, labels=labels)) == WANTED


def test_one_class_folder_without_such_a_table_has_one_class(tmp_path: Path) -> None:
    pictures(tmp_path / "images", NAMES)
    table(tmp_path / "others.csv", "file,label", *(f"x{row}" for row in ROWS))
    table(tmp_path / "names.csv", "file", *NAMES)
    assert "only 1 class, images" in refusal(tmp_path)


def test_the_table_of_train_is_proposed_and_the_unnamed_folder_is_told(tmp_path: Path) -> None:
    pictures(tmp_path / "train_images", NAMES)
    for number in range(5):
        picture(tmp_path / "test_images" / f"t{number}.png")
    labels = table(tmp_path / "train.csv", "id,label", *ROWS)
    table(tmp_path / "test.csv", "id,site", *(f"t{number},x" for number in range(5)))
    line = refusal(tmp_path)
    assert f"in a table, {as_word('dataset.labels', labels)}, or in the names" in line
    data = build(tmp_path, labels=labels)
    assert found(data) == WANTED
    assert data.warnings[0].endswith(f"no row names a file in {tmp_path / 'test_images'} (5)")


def test_the_folder_is_named_too_where_another_has_the_same_names(tmp_path: Path) -> None:
    pictures(tmp_path / "train", NAMES)
    pictures(tmp_path / "test", NAMES[:4])
    labels = table(tmp_path / "train.csv", "id,label", *ROWS)
    table(tmp_path / "sample_submission.csv", "id,label", *ROWS[:4])
    words = [as_word("dataset.path", str(tmp_path / "train")), as_word("dataset.labels", labels)]
    assert f"in a table, {' '.join(words)}, or in the names" in refusal(tmp_path)


def test_tables_in_the_folders_of_splits_are_proposed_together(tmp_path: Path) -> None:
    for split in ("train", "test"):
        pictures(tmp_path / split, NAMES)
        table(tmp_path / split / "metadata.csv", "file_name,label", *ROWS)
    folders = {split: str(tmp_path / split) for split in ("train", "test")}
    tables = {split: f"{folder}/metadata.csv" for split, folder in folders.items()}
    line = refusal(tmp_path)
    for key, value in (("path", folders), ("labels", tables)):
        assert f"dataset.{key}={{train: {value['train']}, test: {value['test']}}}" in line.replace('"', "")
    assert build(folders, labels=tables).spec.classes == ("a", "b")


@pytest.mark.parametrize("folders", [("part_1", "part_2"), ("X_images_001", "X_images_002"), ("images", "masks")])
def test_folders_that_are_parts_of_a_set_are_a_question(tmp_path: Path, folders: tuple[str, str]) -> None:
    for number, name in enumerate(NAMES):
        picture(tmp_path / folders[number // 10] / name, number)
    labels = table(tmp_path / "labels.csv", "image,dx", *(ROWS[:10] if "masks" in folders else ROWS))
    line = refusal(tmp_path)
    assert as_word("dataset.labels", labels) in line
    assert words_to_type({"train": tmp_path}) in line
    assert build({"train": str(tmp_path)}).spec.classes == folders
    assert build(tmp_path, labels=labels).spec.classes == ("a", "b")


def test_class_folders_stay_classes_beside_a_table(tmp_path: Path) -> None:
    for number, name in enumerate(NAMES):
        picture(tmp_path / f"class_{number % 2}" / name, number)
    table(tmp_path / "labels.csv", "file,label", *ROWS)
    assert build(tmp_path).spec.classes == ("class_0", "class_1")


def test_masks_of_the_same_names_are_not_proposed(tmp_path: Path) -> None:
    pictures(tmp_path / "images", NAMES)
    pictures(tmp_path / "masks", NAMES)
    labels = table(tmp_path / "labels.csv", "image,label", *(row.replace(".png", "") for row in ROWS))
    words = [as_word("dataset.path", str(tmp_path / "images")), as_word("dataset.labels", labels)]
    assert " ".join(words) in refusal(tmp_path)


def test_one_folder_with_labels_in_the_names_is_asked_about_with_a_pattern_that_works(tmp_path: Path) -> None:
    pictures(tmp_path / "recordings", [f"{'ab'[number % 2]}_{number}.png" for number in range(20)])
    line = refusal(tmp_path)
    assert line.startswith(
        f"dataset.path: {tmp_path / 'recordings'}: has pictures but no class folders, such as a_0.png"
    )
    assert """or in the names, 'dataset.pattern="{label}_#.*"' (a, b)""" in line
    assert build(tmp_path, pattern="{label}_#.*").spec.classes == ("a", "b")


def test_a_table_beside_class_folders_that_names_their_files_is_said(tmp_path: Path) -> None:
    names = [f"{'ab'[number % 2]}/{number}.png" for number in range(20)]
    pictures(tmp_path, names)
    labels = table(tmp_path / "train.csv", "path,kind", *(f"{name},{number % 3}" for number, name in enumerate(names)))
    table(tmp_path / "partition.csv", "path,partition", *(f"{name},{number % 3}" for number, name in enumerate(names)))
    word = as_word("dataset.labels", labels)
    assert build(tmp_path).warnings == (f"a table names the pictures too, and is not used: {word} reads it",)
    assert len(build(tmp_path, labels=labels).spec.classes) == 3
