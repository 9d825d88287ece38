"""Files with labels in a table or in their names: right classes, labels, values, splits and groups, or a question."""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from tests.conftest import Train
from tests.helpers import load_data, refused, told
from trainer.data import Data

build = functools.partial(load_data, "image_folder")
refusal = functools.partial(refused, build)


def picture(file: Path, brightness: int = 0) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (3, 3), brightness).save(file)


def pictures(folder: Path, names: Sequence[str]) -> None:
    """Pictures whose brightness is their number."""
    for number, name in enumerate(names):
        picture(folder / name, number)


def table(file: Path, *rows: str) -> str:
    file.write_text("\n".join(rows) + "\n")
    return str(file)


def found(data: Data, split: str = "") -> dict[int, Any]:
    """The target of each picture, a class by its name, by the brightness of the picture."""
    parts = data.splits() if not split else {split: data.splits()[split]}
    answer: dict[int, Any] = {}
    for part in parts.values():
        for image, target in zip(part.source.fetch(part.positions)[0], part.targets, strict=True):
            is_class = data.spec.task == "classification"
            answer[int(image[0, 0, 0])] = data.spec.classes[int(target)] if is_class else target.tolist()
    return dict(sorted(answer.items()))


NAMES = [f"{number:02}.png" for number in range(20)]
WANTED = {number: "ab"[number % 2] for number in range(20)}


@pytest.mark.parametrize(
    ("header", "row"),
    [
        ("filename,label", "{name},{label}"),
        ("id,label", "{stem},{label}"),
        ("label,number,image_path", "{label},7,images/{name}"),
        ("image,class_id,class_name", "{name},{code},{label}"),
        ("", "{name},{label}"),
        ("", "{here}/images/{name};{label}"),
        ("Image ID\tspecies", "{stem}\t{label}"),
    ],
)
def test_a_table_names_files_and_their_classes(tmp_path: Path, header: str, row: str) -> None:
    pictures(tmp_path / "images", NAMES)
    rows = [
        row.format(name=name, stem=name[:-4], label=WANTED[number], code=number % 2, here=tmp_path)
        for number, name in enumerate(NAMES)
    ]
    target: dict[str, Any] = {"target": "label"} if "number" in header else {}
    data = build(tmp_path / "images", labels=table(tmp_path / "a.csv", *[header][: len(header)], *rows), **target)
    assert (data.spec.classes, found(data)) == (("a", "b"), WANTED)
    assert data.places is not None
    assert data.places[0] == str(tmp_path / "images" / "00.png")


def test_the_target_with_names_is_taken_if_another_one_has_their_numbers(tmp_path: Path) -> None:
    pictures(tmp_path, NAMES)
    rows = [f"{name},{number % 5 + 1},{number % 2},{WANTED[number]},{number}" for number, name in enumerate(NAMES)]
    labels = table(tmp_path / "meta.csv", "filename,fold,target,category,src_file", *rows)
    data = build(tmp_path, labels=labels)
    assert data.notes == ("target category (target says the same)", "test is fold 5, val fold 4")
    assert found(data, "test") == {number: WANTED[number] for number in range(4, 20, 5)}
    assert found(data, "val") == {number: WANTED[number] for number in range(3, 20, 5)}
    without = build(tmp_path, labels=labels, val_fraction=0.0)
    assert (without.val, len(without.train), without.notes[-1]) == (None, 16, "test is fold 5")
    random = build(tmp_path, labels=labels, fold="none", target="target")
    assert (len(random.test), random.spec.classes, random.notes) == (2, ("0", "1"), ())


def test_a_table_alone_names_the_files_around_it_and_its_splits(tmp_path: Path) -> None:
    pictures(tmp_path / "x", NAMES)
    names = ["Train"] * 10 + ["validation"] * 4 + ["test"] * 6
    rows = [f"{name},{label},{split}" for name, label, split in zip(NAMES, WANTED.values(), names, strict=True)]
    data = build(table(tmp_path / "labels.csv", "file,label,split", *rows))
    assert {name: [*found(data, name)] for name in data.splits()} == {
        "train": [*range(10)],
        "val": [*range(10, 14)],
        "test": [*range(14, 20)],
    }
    several = {
        "train": table(tmp_path / "one.csv", "file,label", *(row.rpartition(",")[0] for row in rows[:12])),
        "test": table(tmp_path / "two.csv", "file,label", *(row.rpartition(",")[0] for row in rows[12:])),
    }
    data = build(tmp_path, labels=several, val_fraction=0.0)
    assert ([*found(data, "train")], [*found(data, "test")]) == ([*range(12)], [*range(12, 20)])


def test_bad_rows_are_named_by_line_and_files_without_a_row_are_counted(tmp_path: Path) -> None:
    pictures(tmp_path / "p", [*NAMES, "left.png", "q/00.png"])
    (tmp_path / "p" / "q" / "01.png").write_bytes((tmp_path / "p" / "01.png").read_bytes())
    rows = [f"./{name},{WANTED[number]}" for number, name in enumerate(NAMES)]
    bad = ["gone.png,a", "./02.png,a", "./03.png,a", ",a", "00.png,a,x"]
    labels = table(tmp_path / "labels.csv", "file,label", *rows, *bad)
    line = refusal(tmp_path / "p", labels=labels)
    here = tmp_path / "labels.csv"
    for reason in (
        f"{here}:22: gone.png: no such file below {tmp_path}/p",
        f"{here}:23: ./02.png: is in {here}:4 already",
        f"{here}:24: ./03.png: is in {here}:5 already, with b",
        f"{here}:25: file: is empty",
        f"{here}:26: 3 columns instead of 2",
    ):
        assert reason in line
    data = build(tmp_path / "p", labels=labels, on_error="skip")
    assert found(data) == WANTED
    assert data.warnings[0].startswith("3 pictures are in no good row of dataset.labels and left out, such as ")
    assert "5 bad samples left out" in data.warnings[1]


def test_two_files_of_one_name_are_a_question(tmp_path: Path) -> None:
    pictures(tmp_path, ["train/1.png", "test/1.png", "train/2.png", "train/3.png"])
    labels = table(tmp_path / "labels.csv", "id,label", "1,a", "2,b", "3,a")
    line = refusal(tmp_path, labels=labels)
    assert f"labels.csv:2: 1: 2 files have this name: {tmp_path}/test/1.png, {tmp_path}/train/1.png" in line
    assert "write their folders too" in line


def test_several_columns_of_0_and_1_are_labels_and_a_number_is_a_value(tmp_path: Path) -> None:
    pictures(tmp_path, NAMES)
    rows = [f"{name},{number % 2},{int(number < 9)},{number * 0.5 + 1e3}" for number, name in enumerate(NAMES)]
    labels = table(tmp_path / "labels.csv", "file,red,small,size", *rows)
    data = build(tmp_path, labels=labels, target=["red", "small"])
    assert (data.spec.task, data.spec.classes) == ("multilabel", ("red", "small"))
    assert found(data) == {number: [number % 2, number < 9] for number in range(20)}
    data = build(tmp_path, labels=labels, target="size")
    values = torch.tensor([number * 0.5 + 1e3 for number in found(data, "train")], dtype=torch.float64)
    assert found(data) == {number: [number * 0.5 + 1e3] for number in range(20)}
    assert data.spec.task == "regression"
    assert data.spec.target_mean == pytest.approx([float(values.mean())], rel=1e-12)
    assert data.spec.target_std == pytest.approx([float(values.std(correction=0))], rel=1e-6)
    times = [
        f"{name},{1.7e9 + number * 1.5}" for number, name in enumerate(NAMES)
    ]  # float32 holds multiples of 128 there
    far = build(tmp_path, labels=table(tmp_path / "times.csv", "file,time", *times), in_memory=False)
    assert found(far) == {number: [1.7e9 + number * 1.5] for number in range(20)}
    plain = build(tmp_path, labels=labels, target="size", normalise_targets=False)
    assert plain.spec.target_mean == ()


def test_several_names_in_a_cell_are_labels_only_with_a_separator(tmp_path: Path) -> None:
    pictures(tmp_path, NAMES)
    cells = ["a|b", "b", "", "c|a"] * 5
    rows = [f"{name},{cell}" for name, cell in zip(NAMES, cells, strict=True)]
    labels = table(tmp_path / "labels.csv", "file,tags", *rows)
    data = build(tmp_path, labels=labels, label_separator="|")
    assert data.spec.classes == ("a", "b", "c")
    assert [found(data)[number] for number in range(4)] == [[1, 1, 0], [0, 1, 0], [0, 0, 0], [1, 0, 1]]
    sets = ["a", "b", "c", "a|b", "a|c", "b|c", "a|b|c"]
    asks = [f"{name},{sets[number % 7]}" for number, name in enumerate(NAMES)]
    other = table(tmp_path / "other.csv", "file,tags", *asks)
    assert """'dataset.label_separator="|"' reads several labels""" in refusal(tmp_path, labels=other)
    assert build(tmp_path, labels=other, task="classification").spec.classes[1] == "a|b"
    assert "labels.csv:4: tags: is empty" in refusal(tmp_path, labels=labels, task="classification")


def test_a_list_of_texts_in_json_is_always_several_labels(tmp_path: Path) -> None:
    pictures(tmp_path, NAMES)
    lists = [[["a", "b|c"], ["b|c"], [], ["a"]][number % 4] for number in range(len(NAMES))]
    lines = [json.dumps({"file_name": name, "tags": tags}) for name, tags in zip(NAMES, lists, strict=True)]
    (tmp_path / "labels.jsonl").write_text("\n".join(lines))
    data = build(tmp_path, labels=str(tmp_path / "labels.jsonl"))
    assert (data.spec.task, data.spec.classes) == ("multilabel", ("a", "b|c"))
    assert [found(data)[number] for number in range(4)] == [[1, 1], [0, 1], [0, 0], [1, 0]]


QUESTIONS: list[tuple[str, str, dict[str, str], str]] = [
    (
        "file,red,green",
        "{name},{bit},{bit}",
        {},
        "dataset.target: null: which column of {labels} is predicted? red (0, 1), green (0, 1); such as "
        "dataset.target=red; 'dataset.target=[red,green]' takes all as labels",
    ),
    (
        "file,label,class",
        "{name},{label},{number}",
        {},
        "dataset.target: null: which column of {labels} is predicted? label (a, b), class (0, 1, 2, …); such as "
        "dataset.target=label",
    ),
    (
        "file,colour,size",
        "{name},{label},{number}",
        {},
        "which column of {labels} is predicted? colour (a, b), size (0, 1, 2, …)",
    ),
    (
        "thing,label",
        "x{number},{label}",
        {},
        "dataset.input: null: no column of {labels} names pictures below {path}; columns: thing, label; say "
        "dataset.input=COLUMN",
    ),
    (
        "file,label",
        "x{number}.png,{label}",
        {},
        "dataset.input: file: no row of {labels} names one picture below {path}, such as {labels}:2: x0.png: no such "
        "file below {path}; say dataset.path=FOLDER of the pictures",
    ),
    (
        "file,label",
        "{name},{label}",
        {"target": "lable"},
        "dataset.target: lable: {labels} has no such column; did you mean label?",
    ),
    (
        "file,label,split",
        "{name},{label},part{bit}",
        {},
        "dataset.split: split: {labels} has part0, part1 there; must be train, val or test, or true and false in "
        "a column such as is_train; dataset.split=none does "
        "not use the column",
    ),
    (
        "file,label,fold",
        "{name},{label},1",
        {},
        "dataset.fold: fold: {labels} has only the fold 1; dataset.fold=none uses no column of folds",
    ),
    (
        "file,label",
        "{name},{label}",
        {"pattern": "{label}_*"},
        "dataset.pattern: the labels are in dataset.labels; give one of the two",
    ),
    ("file", "{name}", {}, "dataset.target: null: {labels} has no column with labels; columns: file"),
]


@pytest.mark.parametrize(("header", "row", "keys", "line"), QUESTIONS)
def test_what_is_not_clear_is_asked(tmp_path: Path, header: str, row: str, keys: dict[str, str], line: str) -> None:
    pictures(tmp_path / "p", NAMES)
    rows = [row.format(name=n, number=at, bit=at % 2, label="ab"[at % 2]) for at, n in enumerate(NAMES)]
    labels = table(tmp_path / "labels.csv", header, *rows)
    assert line.format_map({"labels": labels, "path": tmp_path / "p", "label": "{label}"}) in refusal(
        tmp_path / "p", labels=labels, **keys
    )


def test_the_words_of_the_answers_work(tmp_path: Path) -> None:
    pictures(tmp_path / "p", NAMES)
    rows = [f"{name},{'ab'[at % 2]},part{at % 2},1" for at, name in enumerate(NAMES)]
    labels = table(tmp_path / "labels.csv", "file,label,split,fold", *rows)
    data = build(tmp_path / "p", labels=labels, split="none", fold="none")
    assert (len(data.test), found(data)) == (2, WANTED)


@pytest.mark.parametrize("key", ["input", "target", "split", "fold", "group"])
def test_a_column_without_a_table_is_refused(tmp_path: Path, key: str) -> None:
    pictures(tmp_path, ["a/1.png", "b/1.png"])
    line = refusal(tmp_path, **{key: "label"})
    assert f"dataset.{key}: label: a column of a table: say dataset.labels=TABLE.csv" in line


def test_a_missing_table_and_a_table_that_is_no_text_are_named(tmp_path: Path) -> None:
    pictures(tmp_path, ["a/1.png", "b/1.png"])
    table(tmp_path / "labels.csv", "file,label", "1.png,é")
    assert "labels.cvs: no such file; did you mean labels.csv?" in refusal(
        tmp_path, labels=str(tmp_path / "labels.cvs")
    )
    (tmp_path / "labels.csv").write_bytes("file,é\n1.png,a\n".encode("latin-1"))
    line = refusal(tmp_path, labels=str(tmp_path / "labels.csv"))
    assert line.startswith("dataset.labels: ") and "save it as UTF-8" in line


# ---- names of files


def test_labels_in_names_below_any_folder(tmp_path: Path) -> None:
    names = [f"{'x/' * (number % 3 == 0)}{WANTED[number]}.{number}.png" for number in range(20)]
    pictures(tmp_path, names)
    assert found(build(tmp_path, pattern="{label}.*")) == WANTED
    picture(tmp_path / "README.png")
    assert "README.png: does not fit dataset.pattern={label}.#.*" in refusal(tmp_path, pattern="{label}.#.*")


def test_labels_in_names_below_split_folders_and_a_test_without_labels(tmp_path: Path) -> None:
    for split in ("train", "test"):
        pictures(tmp_path / split, [f"{WANTED[number]}.{number}.png" for number in range(20)])
    data = build(tmp_path, pattern="{label}.*", val_fraction=0.0)
    assert (len(data.train), len(data.test)) == (20, 20)
    for file in (tmp_path / "test").iterdir():
        file.rename(file.with_name(file.name.removeprefix("a.").removeprefix("b.")))
    data = build(tmp_path, pattern="{label}.#.*")
    assert (len(data.test), "test: left out, as none of its 20 pictures fits" in data.warnings[0]) == (2, True)


def test_files_beside_the_splits_are_a_question_for_a_pattern(tmp_path: Path) -> None:
    for folder in ("train", "test", "extra"):
        pictures(tmp_path / folder, [f"{WANTED[number]}.{number}.png" for number in range(20)])
    line = refusal(tmp_path, pattern="{label}.#.*")
    assert "has test, train and, beside them, extra; for splits type 'dataset.path={" in line
    assert f"one set of all files, 'dataset.path={{train: {tmp_path}}}'" in line
    both = build({"train": tmp_path / "train", "test": tmp_path / "test"}, pattern="{label}.#.*")
    assert (len(both.train) + len(both.val or ()), len(both.test)) == (20, 20)
    assert sum(map(len, build({"train": tmp_path}, pattern="{label}.#.*").splits().values())) == 60


def test_a_class_called_train_is_no_split_without_class_folders(tmp_path: Path) -> None:
    pictures(tmp_path, [f"{name}/{number}.png" for name in ("bus", "plane", "train") for number in range(5)])
    assert build(tmp_path).spec.classes == ("bus", "plane", "train")


def test_a_flat_folder_is_asked_for_its_labels_with_words_that_work(tmp_path: Path) -> None:
    pictures(tmp_path, [f"{WANTED[number]}.{number}.png" for number in range(20)])
    line = refusal(tmp_path)
    assert line == (
        f"dataset.path: {tmp_path}: has pictures but no class folders, such as a.0.png; say where the labels are: in a "
        "table, dataset.labels=TABLE.csv, or in the names, 'dataset.pattern=\"{label}.#.*\"' (a, b)"
    )
    assert found(build(tmp_path, pattern="{label}.#.*")) == WANTED
    rows = [f"{file.name},{file.name[0]}" for file in tmp_path.iterdir()]
    labels = table(tmp_path / "labels.csv", "file,label", *rows)
    assert f"dataset.labels={labels}, or" in refusal(tmp_path)
    assert found(build(tmp_path, labels=labels)) == WANTED


def test_a_number_in_the_names_is_a_value_if_the_task_says_so(tmp_path: Path) -> None:
    pictures(tmp_path, [f"frame{number}_{number / 4}.png" for number in range(20)])
    data = build(tmp_path, pattern="*_{label}.png", task="regression")
    assert (data.spec.task, data.spec.classes) == ("regression", ("label",))
    assert found(data) == {number: [number / 4] for number in range(20)}


# ---- groups


def test_a_group_is_in_one_split_only(tmp_path: Path) -> None:
    names = [f"{number % 2}_{'stuvwxyz'[number // 2 % 8]}_{number}.png" for number in range(64)]
    pictures(tmp_path / "p", names)
    rows = [f"{name},{name[0]},{name[2]}" for name in names]
    labels = table(tmp_path / "labels.csv", "file,label,speaker", *rows)
    several = [
        build(tmp_path / "p", labels=labels, test_fraction=0.25, val_fraction=0.2),
        build(tmp_path / "p", pattern="{label}_{group}_*", test_fraction=0.25, val_fraction=0.2),
        build(tmp_path / "p", labels=labels, group="*_{group}_*", test_fraction=0.25, val_fraction=0.2),
    ]
    assert "groups by speaker" in several[0].notes
    for data in several:
        groups = {name: {names[number][2] for number in found(data, name)} for name in data.splits()}
        assert sum(map(len, groups.values())) == 8
        assert (len(data.test), len(data.val or ())) == (16, 8)
        assert torch.bincount(data.test.targets).tolist() == [8, 8]
    assert found(several[0], "test") == found(several[1], "test") == found(several[2], "test")
    other = build(tmp_path / "p", labels=labels, test_fraction=0.25, val_fraction=0.2, val_seed=5)
    assert found(other, "test") == found(several[0], "test")
    assert len(build(tmp_path / "p", labels=labels, group="none").test) == 6


def test_a_group_in_two_given_splits_is_a_warning(tmp_path: Path) -> None:
    for split, letters in (("train", "stu"), ("test", "uv")):
        for label in "ab":
            pictures(
                tmp_path / split / label,
                [f"{label}_{letter}_{number}.png" for letter in letters for number in range(3)],
            )
    data = build(tmp_path, group="*_{group}_*", val_fraction=0.3)
    assert data.warnings == ("1 group is in train and in test (u), so the test metrics are too good",)


def test_too_few_groups_are_refused_if_they_were_asked_for(tmp_path: Path) -> None:
    pictures(tmp_path / "p", NAMES)
    rows = [f"{name},{WANTED[number]},{number // 10}" for number, name in enumerate(NAMES)]
    labels = table(tmp_path / "labels.csv", "file,label,patient_id", *rows)
    line = refusal(tmp_path / "p", labels=labels, group="patient_id")
    assert line == (
        "dataset.group: 2 groups (0, 1) cannot be divided into train, val and test; dataset.val_fraction=0 trains "
        "without val"
    )
    data = build(tmp_path / "p", labels=labels, group="patient_id", val_fraction=0.0)
    assert {number // 10 for number in found(data, "test")} != {number // 10 for number in found(data, "train")}
    assert build(tmp_path / "p", labels=labels).notes == (
        "target label",
        "patient_id not kept together, as there are only 2",
    )


# ---- whole commands


SMALL = ("dataset=image_folder", "model.channels=[2]", "model.hidden=4", "logger=none", "device=cpu", "batch_size=8")


@pytest.mark.parametrize(("target", "loss", "metric"), [("[red,small]", "bce", "test/f1"), ("size", "mse", "test/mae")])
def test_a_run_on_a_table_is_resumed_evaluated_and_used(
    train: Train, tmp_path: Path, capfd: pytest.CaptureFixture[str], target: str, loss: str, metric: str
) -> None:
    pictures(tmp_path / "p", NAMES)
    rows = [f"{name},{number % 2},{int(number < 9)},{number * 0.5 + 1e3}" for number, name in enumerate(NAMES)]
    labels = table(tmp_path / "labels.csv", "file,red,small,size", *rows)
    words = (f"dataset.path={tmp_path / 'p'}", f"dataset.labels={labels}", f"dataset.target={target}", f"loss={loss}")
    mixed = "dataset.augment.mixup=0.4", "dataset.augment.cutmix=1"
    assert train(*SMALL, *words, *mixed, "epochs=1", f"run_dir={tmp_path / 'run'}").code == 0
    assert train(f"resume={tmp_path / 'run'}", "epochs=2").code == 0
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    code, out, _ = told(capfd, "evaluate", str(tmp_path / "run"), "--json")
    assert (code, json.loads(out)["metrics"][metric]) == (0, summary[metric])
    code, out, _ = told(capfd, "predict", str(tmp_path / "run"), str(tmp_path / "p" / "03.png"))
    assert (code, out.count("\n")) == (0, 2)
    code, out, _ = told(capfd, "data", *SMALL, *words, "--no-page")
    assert "verdict" in out and code in (0, 1)
    moved = Path(labels).rename(tmp_path / "moved.csv")
    code, _, err = told(capfd, "evaluate", str(tmp_path / "run"))
    assert (code, "; if they have moved, dataset.labels=… says where they are" in err) == (2, True)
    assert told(capfd, "evaluate", str(tmp_path / "run"), f"dataset.labels={moved}")[0] == 0
    assert train(f"resume={tmp_path / 'run'}", f"dataset.labels={moved}", "epochs=3").code == 0


def test_balanced_sampling_of_labels_is_refused(train: Train, tmp_path: Path) -> None:
    pictures(tmp_path / "p", NAMES)
    rows = [f"{name},{number % 2},{int(number < 9)}" for number, name in enumerate(NAMES)]
    labels = table(tmp_path / "labels.csv", "file,red,small", *rows)
    words = (f"dataset.path={tmp_path / 'p'}", f"dataset.labels={labels}", "dataset.target=[red,small]", "loss=bce")
    result = train(*SMALL, *words, "dataset.sampler=balanced")
    assert (result.code, "dataset.sampler: balanced needs one class for each sample" in result.err) == (2, True)


def test_names_that_all_folders_share_are_proposed_as_labels_with_words_that_work(train: Train, tmp_path: Path) -> None:
    for speaker in ("anna", "boris", "clara"):
        pictures(tmp_path / speaker, [f"{word}_{number}.png" for word in ("one", "two") for number in range(4)])
    line = "every class folder has the same names of files; {} reads labels in them"
    word = r"""'dataset.pattern="{group}/{label}_#.*"'"""
    assert line.format(word) in build(tmp_path).warnings
    data = build(tmp_path, pattern="{group}/{label}_#.*")
    assert data.spec.classes == ("one", "two")
    assert "groups by the names of the files" in data.notes
    result = train(*SMALL, f"dataset.path={tmp_path}", word.strip("'"), "dry_run=true")
    assert (result.code, "2 classes; train" in result.out) == (0, True), result.err


def test_the_pattern_of_the_question_is_typed(train: Train, tmp_path: Path) -> None:
    pictures(tmp_path, [f"{WANTED[number]}.{number}.png" for number in range(20)])
    result = train(*SMALL, f"dataset.path={tmp_path}", 'dataset.pattern="{label}.#.*"', "dry_run=true")
    assert (result.code, "2 classes; train 16" in result.out) == (0, True), result.err


@pytest.mark.parametrize(
    ("header", "row", "keys", "note"),
    [
        ("id,label,is_train", "{stem},{label},{flag}", {}, "splits by is_train (0 is test, 1 is train)"),
        ("id,label,train", "{stem},{label},{flag}", {"split": "train"}, "splits by train (0 is test, 1 is train)"),
        ("id,label,fold", "{stem},{label},{fold}", {}, "test is fold 2, val fold 1, train has fold -1 too"),
    ],
)
def test_given_splits_are_found_and_said(
    tmp_path: Path, header: str, row: str, keys: dict[str, Any], note: str
) -> None:
    pictures(tmp_path / "p", NAMES)
    rows = [
        row.format(stem=n[:-4], label="ab"[at % 2], flag=int(at < 12), fold=(-1, 0, 1, 2)[at // 2 % 4])
        for at, n in enumerate(NAMES)
    ]
    data = build(tmp_path / "p", labels=table(tmp_path / "labels.csv", header, *rows), **keys)
    assert note in data.notes
    test = {at for at in range(20) if (at >= 12 if "train" in header else at // 2 % 4 == 3)}
    assert {*found(data, "test")} == test


def test_two_columns_of_splits_and_one_coordinate_of_a_point_are_asked_about(tmp_path: Path) -> None:
    pictures(tmp_path / "p", NAMES)
    rows = [f"{name},{at},{at * 0.5},train,{['train', 'test'][at % 2]}" for at, name in enumerate(NAMES)]
    labels = table(tmp_path / "labels.csv", "file,x,y,part,phase", *rows)
    error = refusal(tmp_path / "p", labels=labels)
    assert "dataset.split: null: which column of" in error
    assert "part, phase; such as dataset.split=part, or dataset.split=none" in error
    assert "; 'dataset.target=[x,y]' takes all as values" in refusal(tmp_path / "p", labels=labels, split="phase")


@pytest.mark.parametrize(("cells", "note"), [(("False", "True"), ()), (("-1", "1"), ("labels of -1 and 1 are read",))])
def test_columns_of_true_and_false_or_of_minus_one_and_one_are_labels(
    tmp_path: Path, cells: tuple[str, str], note: tuple[str, ...]
) -> None:
    pictures(tmp_path / "p", NAMES)
    rows = [f"{name},{cells[at % 2]},{cells[at // 2 % 2]}" for at, name in enumerate(NAMES)]
    labels = table(tmp_path / "labels.csv", "file,red,big", *rows)
    assert "; 'dataset.target=[red,big]' takes all as labels" in refusal(tmp_path / "p", labels=labels)
    data = build(tmp_path / "p", labels=labels, target=["red", "big"])
    assert (data.spec.task, found(data)) == ("multilabel", {at: [at % 2, at // 2 % 2] for at in range(20)})
    assert [line for line in data.notes if line.startswith(note)] == [*data.notes]


def test_a_split_whose_names_have_no_label_of_train_is_left_out(tmp_path: Path) -> None:
    pictures(tmp_path / "train", [f"{'ab'[at % 2]}.{at}.png" for at in range(20)])
    pictures(tmp_path / "test", [f"{at}.png" for at in range(4)])
    data = build(tmp_path, pattern="{label}.*")
    assert data.spec.classes == ("a", "b")
    left = "test: left out, as none of its 4 pictures has a label of train (0, 1, 2, …); it is cut from train"
    assert data.warnings == (left,)


def test_files_that_a_table_names_in_another_way_are_found_and_said(tmp_path: Path) -> None:
    pictures(tmp_path / "p", NAMES)
    rows = [f"/kaggle/input/p/{name},{'ab'[at % 2]}" for at, name in enumerate(NAMES)]
    data = build(tmp_path / "p", labels=table(tmp_path / "labels.csv", "path,label", *rows))
    assert found(data) == WANTED
    assert "20 rows name their picture below other folders or in another case, such as /kaggle/" in data.warnings[0]
    assert data.preprocess["id_form"] == "path"


@pytest.mark.parametrize("path", ["~unknown-user.csv", "~unknown-user/x"])
def test_the_home_of_an_unknown_user_is_one_line(path: str) -> None:
    assert "~ stands for a home directory, and there is no user unknown-user" in refusal(path)


@pytest.mark.parametrize(
    ("cells", "separator", "names"),
    [
        (["a;b", "a", "b;c", "c"], '";"', ("a", "b", "c")),
        (["Bark", '"Bark,Meow"', '"Bark,Meow,Run"'], '","', ("Bark", "Meow", "Run")),
        (["['a']", "\"['a', 'b']\""], '","', ("a", "b")),
    ],
)
def test_few_combinations_of_labels_and_lists_of_python_are_asked_about_and_read(
    tmp_path: Path, cells: list[str], separator: str, names: tuple[str, ...]
) -> None:
    pictures(tmp_path / "p", NAMES)
    rows = [f"{name},{cells[at % len(cells)]}" for at, name in enumerate(NAMES)]
    labels = table(tmp_path / "labels.csv", "file,tags", *rows)
    assert f"'dataset.label_separator={separator}' reads several labels" in refusal(tmp_path / "p", labels=labels)
    data = build(tmp_path / "p", labels=labels, label_separator=separator.strip('"'))
    assert (data.spec.task, data.spec.classes) == ("multilabel", names)


@pytest.mark.parametrize("cells", [("New York, NY", "Albany, NY"), ("Smith, J", "Smith, A"), ("red", "red; matt")])
def test_names_with_signs_between_their_words_are_classes(tmp_path: Path, cells: tuple[str, str]) -> None:
    pictures(tmp_path / "p", NAMES)
    rows = [f'{name},"{cells[at % 2]}"' for at, name in enumerate(NAMES)]
    assert build(tmp_path / "p", labels=table(tmp_path / "a.csv", "file,tags", *rows)).spec.task == "classification"
