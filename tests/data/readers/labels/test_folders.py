"""Splits and classes in folders, by names and by what the folders hold."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.data.readers.labels.folder_trees import find, make, refusal, typed
from trainer.data.readers.split_names import SplitName, split_name, words_to_type

NAMES = [
    *[("train", "val", "test"), ("training", "valid", "testing"), ("training_set", "validation_set", "test_set")],
    *[("trainset", "valset", "testset"), ("train_data", "val_data", "test_data"), ("Train", "Dev", "Test")],
    *[
        ("TRAINING", "VALIDATION", "TESTING"),
        ("train2017", "val2017", "test2017"),
        ("Train Set", "Val Set", "Hold-out"),
    ],
    *[("seg_train", "seg_val", "seg_test"), ("my-train", "my-dev", "my-test"), ("TrainingSet", "DevSet", "TestSet")],
    *[
        ("train_images", "validation_images", "holdout"),
        ("asl_alphabet_train", "asl_alphabet_val", "asl_alphabet_test"),
    ],
]


@pytest.mark.parametrize("names", NAMES, ids="-".join)
def test_usual_names_of_splits_are_known(tmp_path: Path, names: tuple[str, str, str]) -> None:
    made = [f"{name}/{label}*{count}" for name, count in zip(names, (4, 3, 2), strict=True) for label in ("cat", "dog")]
    wanted = {"train/cat": 4, "train/dog": 4, "val/cat": 3, "val/dog": 3, "test/cat": 2, "test/dog": 2}
    assert find(str(make(tmp_path / "flat", *made))) == wanted
    nested = [f"archive/DATA/{each.partition('/')[0]}/{each}" for each in made]
    assert find(str(make(tmp_path / "nested", *nested))) == wanted


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("seg_train", SplitName("train", ("seg",))),
        ("trainA", SplitName("train", ("a",))),
        ("train_test", SplitName("", ())),
        ("trainval", SplitName("", ())),
        ("eval", SplitName("", ())),
        *[(name, None) for name in ("trainer", "trains", "contest", "value", "valley", "latest", "dataset", "12", "")],
    ],
)
def test_a_split_is_a_whole_word_of_a_name(name: str, wanted: SplitName | None) -> None:
    assert split_name(name) == wanted


def test_what_lies_beside_splits_is_left_out_and_said(tmp_path: Path) -> None:
    made = ["train/a", "train/b", "test/a", "test/b", "README.md", "models/best.pt", "pred*4", "notes/old/x.txt"]
    root = make(tmp_path, *made, "__MACOSX/train/a", ".git/x", "tiny/train/a", "tiny/test/a", "test-several*3")
    warnings: list[str] = []
    assert find(str(root), warnings) == {"train/a": 2, "train/b": 2, "test/a": 2, "test/b": 2}
    assert warnings == [f"{root}: left out, as no split of train, val and test: models, notes, pred and 2 more"]


def test_classes_may_hold_the_splits(tmp_path: Path) -> None:
    root = make(tmp_path, "cat/train*4", "cat/test", "dog/train*3", "dog/test", "dog/val*1")
    wanted = {"train/cat": 4, "test/cat": 2, "train/dog": 3, "test/dog": 2, "val/dog": 1}
    assert find(str(root)) == wanted


UNLIKE = ("cat/black", "cat/white", "dog/brown", "dog/small", "dog/old")


@pytest.mark.parametrize(
    ("made", "wanted"),
    [
        (("cat/images", "dog/images"), {"/cat": 2, "/dog": 2}),
        (UNLIKE, {"/cat": 4, "/dog": 6}),
        (("train/cat/images", "train/dog/images"), {"train/cat": 2, "train/dog": 2}),
        (("data/train/cat", "data/train/dog", "docs/x.txt"), {"train/cat": 2, "train/dog": 2}),
    ],
)
def test_folders_within_a_class_belong_to_it(tmp_path: Path, made: tuple[str, ...], wanted: dict[str, int]) -> None:
    assert find(str(make(tmp_path, *made)), []) == wanted


@pytest.mark.parametrize("name", ["train", "training"])
def test_train_among_classes_of_files_is_a_class_and_said(tmp_path: Path, name: str) -> None:
    warnings: list[str] = []
    assert find(str(make(tmp_path, "bus", "car", name)), warnings) == {"/bus": 2, "/car": 2, f"/{name}": 2}
    assert warnings == [f"{tmp_path}: {name} is taken for a class, as it holds files as the other folders do"]


@pytest.mark.parametrize(
    ("made", "reason"),
    [
        (("test*3",), "its 3 files are in no folder of a class of train"),
        (("test/test*3",), "its 3 files are in no folder of a class of train"),
        (
            ("test/images*3", "test/names.csv"),
            "its 3 files are in no folder of a class of train (names.csv is not read",
        ),
        (("test*0",), "it holds no samples"),
    ],
)
def test_a_split_without_classes_is_left_out_and_said(tmp_path: Path, made: tuple[str, ...], reason: str) -> None:
    make(tmp_path, "train/cat", "train/dog", *made)
    warnings: list[str] = []
    assert find(str(tmp_path), warnings) == {"train/cat": 2, "train/dog": 2}
    (line,) = warnings
    assert line.startswith(f"{tmp_path / 'test'}: left out, as {reason}")
    assert line.endswith("; test is cut from train")
    given = {split: str(tmp_path / split) for split in ("train", "test")}
    assert "without test in dataset.path, test is cut from train" in refusal(given)
    assert find({"train": given["train"]}) == {"train/cat": 2, "train/dog": 2}


def test_pictures_that_a_table_names_are_read_once_they_lie_in_class_folders(tmp_path: Path) -> None:
    """The layout is that of Tiny ImageNet."""
    root = make(tmp_path, "train/n1/images", "train/n2/images", "val/images", "test/images", "val/val_annotations.txt")
    warnings: list[str] = []
    assert find(str(root), warnings) == {"train/n1": 2, "train/n2": 2}
    how = "val_annotations.txt is not read; move each file into a folder that is called as its class"
    assert [line.rpartition("left out, as ")[2] for line in warnings] == [
        "its 2 files are in no folder of a class of train; test is cut from train",
        f"its 2 files are in no folder of a class of train ({how}); val is cut from train",
    ]
    (root / "val" / "n1").mkdir()
    (root / "val" / "n2").mkdir()
    (root / "val" / "images" / "0.png").rename(root / "val" / "n1" / "0.png")
    (root / "val" / "images" / "1.png").rename(root / "val" / "n2" / "1.png")
    (root / "val" / "images").rmdir()
    assert find(str(root), []) == {"train/n1": 2, "train/n2": 2, "val/n1": 1, "val/n2": 1}


def test_a_split_may_lack_a_class(tmp_path: Path) -> None:
    assert find(str(make(tmp_path, "train/a", "train/b", "test/b"))) == {"train/a": 2, "train/b": 2, "test/b": 2}


def test_files_without_a_class_folder_are_counted(tmp_path: Path) -> None:
    warnings: list[str] = []
    root = make(tmp_path, "train/a", "train/b", "train/unsup*9", "train/x.png", "train/y.PNG", "train/readme.txt")
    assert find(str(root), warnings) == {"train/a": 2, "train/b": 2}
    assert warnings == [
        f"{root / 'train'}: left out, as samples of no class: unsup",
        f"{root / 'train'}: 2 files stand beside class folders and are left out: x.png, y.PNG",
    ]
    assert "train: has no class folders in it" in refusal(str(make(tmp_path / "flat", "train", "test", "about/x.txt")))


def test_names_that_are_hard_to_tell_apart_are_named(tmp_path: Path) -> None:
    warnings: list[str] = []
    assert find(str(make(tmp_path / "one", "cat", "Cat", "dog")), warnings) == {"/Cat": 2, "/cat": 2, "/dog": 2}
    assert len(warnings) == 1
    assert "'Cat' and 'cat' differ only in upper and lower case" in warnings[0]
    line = refusal(str(make(tmp_path / "two", "train/cat", "train/dog", "test/cat ", "test/dog")))
    assert "test/cat : 'cat' and 'cat ' differ only in" in line
    assert "rename one of the folders" in line
    both = make(tmp_path / "three", "train/cat", "train/Cat", "test/cat", "test/Cat")
    assert len(find(str(both), [])) == 4


def test_class_folders_may_be_links_but_no_two_are_one_folder(tmp_path: Path) -> None:
    store, root = make(tmp_path / "store", "cat", "dog"), tmp_path / "data"
    for split, label in (("train", "cat"), ("train", "dog")):
        (root / split).mkdir(parents=True, exist_ok=True)
        (root / split / label).symlink_to(store / label)
    assert find(str(root)) == {"train/cat": 2, "train/dog": 2}
    (root / "test").symlink_to(root / "train")
    assert f"2 bad samples: {root}/train/cat: is the same folder as {root}/test/cat; " in refusal(str(root))
    (root / "test").unlink()
    (root / "train" / "loop").symlink_to(root)
    (root / "train" / "gone").symlink_to(root / "nowhere")
    line = refusal(str(root))
    assert f"{root}/train/loop: is a link to a folder above it" in line
    assert f"{root}/train/gone: is a link to nothing" in line


def test_words_to_type_name_any_path() -> None:
    assert words_to_type(Path("a/b")) == "dataset.path=a/b"
    for name in (
        "Téléchargements/photos (1)",
        "2012",
        "null",
        "a'b",
        'a"b\\',
        'a\\"b',
        "a, b: {c}",
        "${x}",
        "a=b",
        "1e3",
    ):
        assert typed(words_to_type({"train": Path(name), "test": Path("/x")})) == {"train": name, "test": "/x"}
        assert typed(words_to_type(Path(name))) == name


def test_class_folders_may_lie_beside_a_folder_of_tables(tmp_path: Path) -> None:
    warnings: list[str] = []
    found = find(str(make(tmp_path, "images/cat", "images/dog", "annotations/list.txt")), warnings)
    assert found == {"/cat": 2, "/dog": 2}
    assert warnings == [f"{tmp_path}: left out, as no samples of a class are in there: annotations"]
