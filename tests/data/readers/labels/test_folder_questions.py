"""Questions about folders that may be classes, splits or parts of the data, and their answers as typed."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.data.readers.labels.folder_trees import answers, find, make, refusal, trees
from trainer.config import ConfigError
from trainer.data.readers.files import Problems
from trainer.data.readers.labels.folders import class_folders

QUESTIONS: dict[str, tuple[tuple[str, ...], str, list[dict[str, int]]]] = {
    "unnamed splits": (
        ("one/a*5", "one/b*5", "two/a*1", "two/b*1", "three/a", "three/b"),
        "one, three, two hold the same folders (a, b)",
        [
            {"/a": 5, "/b": 5},
            {"train/a": 5, "train/b": 5, "val/a": 2, "val/b": 2, "test/a": 1, "test/b": 1},
            {"one": 10, "two": 2},
        ],
    ),
    "splits in other languages": (
        ("Entraînement/a*5", "Entraînement/b*5", "Validierung/a", "Validierung/b", "prueba/a*3", "prueba/b*3"),
        "Entraînement, Validierung, prueba hold the same folders (a, b)",
        [
            {"train/a": 5, "train/b": 5, "val/a": 2, "val/b": 2, "test/a": 3, "test/b": 3},
            {"Entraînement": 10, "Validierung": 4, "prueba": 6},
        ],
    ),
    "eval": (
        ("train/a", "train/b", "eval/a*3", "eval/b"),
        "beside train, eval holds the same folders as train",
        [{"train/a": 2, "train/b": 2, "test/a": 3, "test/b": 2}, {"train": 4, "eval": 5}],
    ),
    "other words": (
        ("seg_train/a", "seg_train/b", "test/a", "test/b"),
        "seg_train, test may be splits by their names, or classes",
        [{"train/a": 2, "train/b": 2, "test/a": 2, "test/b": 2}, {"seg_train": 4, "test": 4}],
    ),
    "two for train": (
        ("train/a", "train/b", "training/a", "training/b", "test/a", "test/b"),
        "train, training may each be train",
        [{"train/a": 2, "train/b": 2, "test/a": 2, "test/b": 2}, {"train": 4, "training": 4, "test": 4}],
    ),
    "without train": (
        ("test/a*1", "test/b*1", "val/a", "val/b"),
        "test, val may be splits by their names, or classes",
        [{"train/a": 2, "train/b": 2, "test/a": 1, "test/b": 1}, {"test": 2, "val": 4}],
    ),
    "vehicles": (
        ("bus*3", "train/steam", "train/electric"),
        "beside train, bus holds files that may be samples",
        [{"train/electric": 2, "train/steam": 2}, {"bus": 3, "train": 4}],
    ),
    "odd letters": (
        ('für "dich" (1)/ä/a*3', 'für "dich" (1)/ä/b', 'für "dich" (1)/o\'b\\/a', 'für "dich" (1)/o\'b\\/b'),
        "hold the same folders (a, b)",
        [{"/a": 2, "/b": 2}, {"train/a": 3, "train/b": 2, "test/a": 2, "test/b": 2}, {"ä": 5, "o'b\\": 4}],
    ),
    "test is flat": (("cat", "dog", "test*3"), "test may be a split by its name, or a class", [{"cat": 2, "test": 3}]),
    "segments": (("seg_train", "seg_pred", "x"), "seg_train may be a split", [{"seg_train": 2, "seg_pred": 2}]),
    "two sets": (
        tuple(f"{name}/{split}/{label}" for name in ("x", "y") for split in ("train", "test") for label in ("a", "b")),
        "x, y hold the same folders (test, train)",
        [{"train/a": 2, "train/b": 2, "test/a": 2, "test/b": 2}, {"x": 8, "y": 8}],
    ),
    "copies at the end of chains": (
        trees("Original/Original|Augmented/Augmented", "a|b"),
        "Augmented, Original hold the same folders (a, b)",
        [{"/a": 2, "/b": 2}, {"Original": 4, "Augmented": 4}],
    ),
    "a chain beside a folder": (
        trees("Original/Original|Augmented", "a|b"),
        "Augmented, Original hold the same folders (a, b)",
        [{"/a": 2, "/b": 2}, {"Original": 4, "Augmented": 4}],
    ),
    "the same folders further down": (
        (
            *trees("A Images/A Images|B Images/B Images", "a|b"),
            *trees("B Images/FOLDS/fold1|B Images/FOLDS/fold2", "a|b"),
        ),
        "A Images, B Images hold the same folders (a, b)",
        [
            {"/a": 2, "/b": 2},
            {"train/a": 2, "train/b": 2, "test/a": 2, "test/b": 2},
            {"A Images": 4, "B Images": 12},
        ],
    ),
    "names in another form": (
        (*trees("Site A", "Red Cat|dog"), *trees("Site B", "red_cat|Dog")),
        "Site A, Site B hold the same folders (Red Cat, dog)",
        [{"/Red Cat": 2, "/dog": 2}, {}, {"Site A": 4, "Site B": 4}],
    ),
    "a third of the folders": (
        (*trees("one", "a|b|c|d|e"), *trees("two", "a|b|x|y|z")),
        "one, two hold the same folders (a, b)",
        [{f"/{label}": 2 for label in "abcde"}, {}, {"one": 10, "two": 10}],
    ),
    "masks in splits": (
        trees("train|test", "images|masks", "a|b"),
        "train: images, masks hold the same folders (a, b): they may be parts of each split, or classes",
        [{"train/a": 2, "train/b": 2, "test/a": 2, "test/b": 2}, {"images": 4, "masks": 4}],
    ),
    "parts of splits": (
        trees("training_set|test_set/data", "part1|part2", "a|b"),
        "training_set: part1, part2 hold the same folders (a, b)",
        [{"train/a": 2, "train/b": 2, "test/a": 2, "test/b": 2}, {"part1": 4, "part2": 4}],
    ),
    "splits in a split": (
        (*trees("train", "train|val", "a|b"), *trees("test", "a|b")),
        "train: train, val may be splits by their names, or classes",
        [{f"{split}/{label}": 2 for split in ("train", "val", "test") for label in "ab"}, {}],
    ),
    "a copy beside classes": (
        (*trees("no|yes"), *trees("brain/brain", "no|yes")),
        "brain holds the same folders as are beside it (no, yes)",
        [{"/no": 2, "/yes": 2}, {"brain": 4, "no": 2, "yes": 2}],
    ),
    "data beside data": (
        (*trees("two/images", "train|test", "a|b"), "one/one/pictures*5"),
        "two holds splits and classes",
        [{"train/a": 2, "train/b": 2, "test/a": 2, "test/b": 2}, {"one": 5, "two": 8}],
    ),
    "two of one name": (
        (*trees("Train|train", "a|b"), "Test*3", "test*3"),
        "Test, test may each be test",
        [{"train/a": 2, "train/b": 2}, {"Train": 4, "train": 4, "Test": 3, "test": 3}],
    ),
    "train and val in one": (
        trees("Train_Val|Test", "a|b"),
        "Test, Train_Val may be splits by their names",
        [{"train/a": 2, "train/b": 2, "test/a": 2, "test/b": 2}, {"Train_Val": 4, "Test": 4}],
    ),
    "masks": (("train", "masks", "images"), "train may be a split", [{"train": 2, "masks": 2}]),
    "pairs": (("train_cat", "train_dog"), "train_cat, train_dog may be splits", [{"train_cat": 2, "train_dog": 2}]),
}


@pytest.mark.parametrize("case", QUESTIONS)
def test_what_can_be_read_in_two_ways_is_asked_and_both_answers_work(tmp_path: Path, case: str) -> None:
    made, seen, wanted = QUESTIONS[case]
    line = refusal(str(make(tmp_path, *made)))
    assert seen in line
    paths = answers(line)
    assert len(paths) == len(wanted)
    for path, each in zip(paths[:-1], wanted[:-1], strict=True):
        if each:
            assert find(path, []) == each
    if len(wanted) == 1:
        assert "move a folder that is no class elsewhere" in line
    warnings: list[str] = []
    found = find(paths[-1], warnings)
    assert found.items() >= {f"train/{label}": count for label, count in wanted[-1].items()}.items()
    assert any("taken for classes: " in line for line in warnings)


MOVES: dict[str, tuple[tuple[str, ...], str, dict[str, str], dict[str, int]]] = {
    "test beside classes": (
        (*trees("a|b|c"), *trees("test", "a|b|c")),
        "test may be a split by its name, or a class; for splits move the other folders into {root}/train; ",
        {"a": "train/a", "b": "train/b", "c": "train/c"},
        {f"{split}/{label}": 2 for split in ("train", "test") for label in "abc"},
    ),
    "val within train": (
        (*trees("train|test", "a|b"), *trees("train/val", "a|b")),
        "val may be a split by its name, or a class; for splits move {root}/train/val into {root}; ",
        {"train/val": "val"},
        {f"{split}/{label}": 2 for split in ("train", "val", "test") for label in "ab"},
    ),
    "a class without splits": (
        (*trees("a|b", "train|test"), "c*3"),
        "a, b hold folders of splits, but c does not; for splits move the files of c into {root}/c/train; ",
        {"c/0.png": "c/train/0.png", "c/1.png": "c/train/1.png", "c/2.png": "c/train/2.png"},
        {"train/a": 2, "test/a": 2, "train/b": 2, "test/b": 2, "train/c": 3},
    ),
    "a class with more than splits": (
        (*trees("a|b", "data", "train|test"), "a/data/misc*4"),
        "a, b hold folders of splits, and beside them misc; for splits move elsewhere: {root}/a/data/misc; ",
        {"a/data/misc": "../misc"},
        {"train/a": 2, "test/a": 2, "train/b": 2, "test/b": 2},
    ),
    "masks of each class": (
        trees("a|b", "images|masks"),
        "a, b hold the same folders (images, masks): each of these may hold samples of a class, or something else; "
        "move folders that hold no samples of a class, such as masks, elsewhere; ",
        {"a/masks": "../1", "b/masks": "../2"},
        {"/a": 2, "/b": 2},
    ),
    "names of splits and classes": (
        ("train_a", "train_b", "test_a", "test_b*3"),
        "; if each name has a split and a class, move each folder, such as train_a to {root}/train/a",
        {"train_a": "train/a", "train_b": "train/b", "test_a": "test/a", "test_b": "test/b"},
        {"train/a": 2, "train/b": 2, "test/a": 2, "test/b": 3},
    ),
    "a copy": (
        (*trees("a|b"), *trees("copy", "a|b")),
        "if it is a copy or no class, move it elsewhere; ",
        {"copy": "../copy"},
        {"/a": 2, "/b": 2},
    ),
}


@pytest.mark.parametrize("case", MOVES)
def test_the_moves_that_a_question_names_answer_it(tmp_path: Path, case: str) -> None:
    made, seen, moves, wanted = MOVES[case]
    root = make(tmp_path / "data", *made)
    assert seen.format(root=root) in refusal(str(root))
    for old, new in moves.items():
        (root / new).parent.mkdir(exist_ok=True)
        (root / old).rename(root / new)
    assert find(str(root)) == wanted


@pytest.mark.parametrize(
    ("made", "wanted"),
    [
        (trees("a|b", "data", "train|test"), {"train/a": 2, "test/a": 2, "train/b": 2, "test/b": 2}),
        (("a/x/train", "a/x/test", "b/train"), {"train/a": 2, "test/a": 2, "train/b": 2}),
        (
            trees("animals|plants", "data/train|data/val/images"),
            {f"{s}/{c}": 2 for s in ("train", "val") for c in ("animals", "plants")},
        ),
    ],
)
def test_splits_within_classes_are_known_at_the_end_of_chains(
    tmp_path: Path, made: tuple[str, ...], wanted: dict[str, int]
) -> None:
    assert find(str(make(tmp_path, *made))) == wanted


@pytest.mark.parametrize(
    "names", [("tr", "va", "te"), ("trn", "vld", "tst"), ("data_tr", "data_val", "data_te"), ("TR", "TE")]
)
def test_short_names_of_splits_are_known_where_all_names_are_splits(tmp_path: Path, names: tuple[str, ...]) -> None:
    warnings: list[str] = []
    parts = dict(zip(names, ("train", "val", "test") if len(names) > 2 else ("train", "test"), strict=True))
    root = make(tmp_path / "all", *(f"{name}/{label}" for name in names for label in ("a", "b")))
    assert find(str(root), warnings) == {f"{split}/{label}": 2 for split in parts.values() for label in ("a", "b")}
    assert len(warnings) == 1
    assert f"{root}: taken for splits: {names[0]} is train" in warnings[0]
    assert find(str(make(tmp_path / "languages", "tr", "te", "en"))) == {"/en": 2, "/te": 2, "/tr": 2}
    line = refusal(str(make(tmp_path / "flat", "tr", "te")))
    assert "has no class folders in it; if each folder (te, tr) is a class with all that it holds" in line
    assert find(answers(line)[-1], []) == {"train/te": 2, "train/tr": 2}


PARTS = [
    *[("fold1", "fold2", "fold10"), ("images_001/images", "images_002/images"), ("images", "masks")],
    ("HAM10000_images_part_1", "HAM10000_images_part_2"),
]


@pytest.mark.parametrize("names", PARTS, ids=lambda names: str(names[0]))
def test_parts_of_the_data_are_no_classes_without_a_question(tmp_path: Path, names: tuple[str, ...]) -> None:
    line = refusal(str(make(tmp_path / "whole", *names)))
    assert "has no class folders in it; if each folder (" in line
    assert find(answers(line)[0], []) == {f"train/{name.partition('/')[0]}": 2 for name in names}
    line = refusal(str(make(tmp_path / "split", *(f"{split}/{name}" for split in ("train", "test") for name in names))))
    assert find(answers(line)[0], []).keys() == {
        f"{split}/{name.partition('/')[0]}" for split in ("train", "test") for name in names
    }


@pytest.mark.parametrize(
    "names", [("0", "1"), ("s1", "s2"), ("class_1", "class_2"), ("Actor_01", "Actor_02"), ("photo", "sketch")]
)
def test_numbered_classes_are_classes(tmp_path: Path, names: tuple[str, ...]) -> None:
    assert find(str(make(tmp_path, *names))) == {f"/{name}": 2 for name in names}


def test_classes_of_files_may_have_names_of_splits_within_splits(tmp_path: Path) -> None:
    warnings: list[str] = []
    root = make(tmp_path, *trees("train|test", "control|test"))
    wanted = {f"{split}/{label}": 2 for split in ("train", "test") for label in ("control", "test")}
    assert find(str(root), warnings) == wanted
    assert warnings == [f"{root}/train: test is taken for a class, as it holds files as the other folders do"]


def test_folders_within_a_class_are_named_once_in_a_warning(tmp_path: Path) -> None:
    warnings: list[str] = []
    root = make(tmp_path, *trees("lung_sets", "lung_a|lung_n"), *trees("colon_sets", "colon_a|colon_n"))
    assert find(str(root), warnings) == {"/lung_sets": 4, "/colon_sets": 4}
    assert warnings == [f"{root}: a class has all that its folder holds, such as colon_sets with colon_a, colon_n"]


@pytest.mark.parametrize(
    ("made", "wanted", "left"),
    [
        (trees("train|test", "images", "a|b"), {f"{s}/{c}": 2 for s in ("train", "test") for c in "ab"}, "train"),
        (trees("images/Images", "a|b"), {"/a": 2, "/b": 2}, ""),
    ],
)
def test_folders_of_tables_beside_the_classes_are_left_out(
    tmp_path: Path, made: tuple[str, ...], wanted: dict[str, int], left: str
) -> None:
    warnings: list[str] = []
    root = make(tmp_path, *made, *(f"{each}annotations/a/x.txt" for each in (("train/", "test/") if left else ("",))))
    assert find(str(root), warnings) == wanted
    assert warnings == [f"{root / left}: left out, as no samples of a class are in there: annotations"]


def test_an_unlabelled_folder_beside_the_folder_of_classes_is_left_out(tmp_path: Path) -> None:
    warnings: list[str] = []
    assert find(str(make(tmp_path, *trees("labeled", "a|b"), "unlabeled*9")), warnings) == {"/a": 2, "/b": 2}
    assert warnings == [f"{tmp_path}: left out, as no samples of a class are in there: unlabeled"]


def test_a_finished_run_is_asked_nothing_about_its_classes(tmp_path: Path) -> None:
    root = make(tmp_path, *trees("one|two", "a|b"))
    found = class_folders("image_folder", str(root), Problems("image_folder", "stop"), (".png",), ("one", "two"))
    assert {item.label for item in found} == {"one", "two"}
    with pytest.raises(ConfigError, match="hold the same folders"):
        [*class_folders("image_folder", str(root), Problems("image_folder", "stop"), (".png",), ("a", "b"))]


def test_the_words_for_splits_follow_the_names(tmp_path: Path) -> None:
    root = make(tmp_path, *(f"{name}/{label}" for name in ("xtrain", "xtest", "extra") for label in ("cat", "dog")))
    line = refusal(str(root))
    assert f"train: {root}/xtrain" in line
    assert f"test: {root}/xtest" in line
