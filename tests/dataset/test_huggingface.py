from __future__ import annotations

import csv
import dataclasses
import functools
import io
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tests.conftest import Train
from tests.helpers import assert_same_batches, defaults, everything, load_data, refused
from trainer.config import ConfigError, untrusted_files

datasets = pytest.importorskip("datasets", reason="pip install datasets")


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is left in the user's cache, and nothing asks a network."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


build = functools.partial(load_data, "huggingface")
refusal = functools.partial(refused, build)


def write_pictures(file: Path, count: int, **columns: Any) -> np.ndarray[Any, Any]:
    pixels = np.random.default_rng(count).integers(0, 256, (count, 6, 8, 3), dtype=np.uint8)
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["cat", "dog"])})
    features.update({name: datasets.Value("int64") for name in columns})
    rows = {"image": [Image.fromarray(each) for each in pixels], "label": [n % 2 for n in range(count)], **columns}
    datasets.Dataset.from_dict(rows, features=features).to_parquet(file)
    return pixels


def write_tones(folder: Path) -> list[Path]:
    """Class folders of low and high tones of 300 to 1,002 samples; the files by class and then by name."""
    files = []
    for label, frequency in (("high", 2000), ("low", 300)):
        (folder / label).mkdir(parents=True)
        for at in range(10):
            files.append(folder / label / f"{at}{('.wav', '.flac')[at % 2]}")
            wave = 0.3 * np.sin(2 * np.pi * (frequency + 10 * at) * np.arange(300 + 78 * at) / 8000)
            pytest.importorskip("soundfile").write(files[-1], wave, 16000 if at == 3 else 8000)
    return files


def write_sounds(file: Path, contents: list[dict[str, Any] | None], labels: list[int]) -> Path:
    """Into a file, without what the library decodes and encodes sounds with."""
    rows = datasets.Dataset.from_dict({"audio": contents, "label": labels})
    rows = rows.cast_column("audio", datasets.Audio()).cast_column("label", datasets.ClassLabel(names=["high", "low"]))
    if file.suffix == ".parquet":
        rows.to_parquet(file)
    else:
        rows.save_to_disk(str(file))
    return file


def inside(files: list[Path]) -> list[dict[str, Any] | None]:
    return [{"bytes": file.read_bytes(), "path": None} for file in files]


def beside(files: list[Path]) -> list[dict[str, Any] | None]:
    return [{"bytes": None, "path": str(file)} for file in files]


def write_csv(file: Path, rows: list[Any]) -> Path:
    with file.open("w", newline="") as opened:
        csv.writer(opened).writerows(rows)
    return file


def write_lines(file: Path, rows: list[dict[str, Any]]) -> Path:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def test_pictures_in_a_file_are_found_by_themselves(tmp_path: Path) -> None:
    pixels = write_pictures(tmp_path / "a.parquet", 20, number=list(range(20)))
    data = build(tmp_path / "a.parquet")
    assert (data.spec.kind, data.spec.shape, data.spec.classes) == ("image", (3, 6, 8), ("cat", "dog"))
    assert torch.equal(everything(data)[0], torch.from_numpy(pixels).permute(0, 3, 1, 2))
    assert data.train.source.targets.tolist() == [0, 1] * 10
    assert {name: len(part) for name, part in data.splits().items()} == {"train": 16, "val": 2, "test": 2}


@pytest.mark.parametrize("workers", [0, 1])
def test_streamed_pictures_give_the_same_batches(tmp_path: Path, workers: int) -> None:
    write_pictures(tmp_path / "train.parquet", 20)
    write_pictures(tmp_path / "test.parquet", 6)
    path = {split: tmp_path / f"{split}.parquet" for split in ("train", "test")}
    resident, streamed = build(path, in_memory=True), build(path, in_memory=False, workers=workers)
    assert resident.fingerprint() == streamed.fingerprint()
    assert {name: len(part) for name, part in resident.splits().items()} == {"train": 18, "val": 2, "test": 6}
    assert_same_batches(resident, streamed)


def test_a_folder_of_pictures_and_a_saved_set_are_read(tmp_path: Path) -> None:
    for split, count in (("train", 6), ("validation", 3), ("test", 2)):
        for name in ("a", "b"):
            folder = tmp_path / "folder" / split / name
            folder.mkdir(parents=True)
            for number in range(count):
                Image.new("L", (5, 4), number).save(folder / f"{number}.png")
    data = build(tmp_path / "folder")
    assert {name: len(part) for name, part in data.splits().items()} == {"train": 12, "val": 6, "test": 4}
    assert (data.spec.shape, data.spec.classes) == ((1, 4, 5), ("a", "b"))
    datasets.load_dataset(str(tmp_path / "folder")).save_to_disk(str(tmp_path / "saved"))
    assert torch.equal(everything(build(tmp_path / "saved"))[0], everything(data)[0])


@pytest.mark.parametrize("in_memory", [True, False])
def test_a_bad_picture_is_named_by_its_row(tmp_path: Path, in_memory: bool) -> None:
    file = io.BytesIO()
    Image.new("L", (4, 4)).save(file, "png")
    stored = [{"bytes": file.getvalue(), "path": None}] * 10
    stored[3] = {"bytes": b"no picture", "path": None}
    rows = {"image": [*stored[:7], None, *stored[8:]], "label": ["a", "b"] * 5}
    features = datasets.Features({"image": datasets.Image(), "label": datasets.Value("string")})
    datasets.Dataset.from_dict(rows, features=features).to_parquet(tmp_path / "a.parquet")
    line = refusal(tmp_path / "a.parquet", in_memory=in_memory)
    assert f"1 bad sample: {tmp_path / 'a.parquet'}: row 7: image: is empty" in line
    data = build(tmp_path / "a.parquet", in_memory=in_memory, on_error="skip", test_fraction=0.2, val_fraction=0.0)
    assert everything(data)[0].shape == (8, 1, 4, 4)
    assert data.warnings[1:] == (
        f"1 bad sample left out: {tmp_path / 'a.parquet'}: row 3: cannot be read: no picture of a known form",
    )


@pytest.mark.parametrize("stored", ["inside.parquet", "beside.parquet", "saved"])
@pytest.mark.parametrize("features", ["logmel", "raw"])
def test_sounds_are_those_of_the_class_folders(tmp_path: Path, stored: str, features: str) -> None:
    files = write_tones(tmp_path / "sounds")
    contents = beside(files) if stored == "beside.parquet" else inside(files)
    path = write_sounds(tmp_path / stored, contents, [0] * 10 + [1] * 10)
    keys: dict[str, Any] = {"features": features, "max_seconds": 0.1, "bands": 20, "val_fraction": 0.2}
    folders, data = load_data("audio_folder", tmp_path / "sounds", **keys), build(path, **keys)
    assert data.spec == dataclasses.replace(folders.spec, dataset="huggingface")
    assert data.fingerprint() == folders.fingerprint()
    assert data.preprocessing() == folders.preprocessing()
    assert [int(length) for length in data.train.source.fetch(torch.tensor([0, 3, 9]))[1]] == [300, 267, 800]
    assert data.places is not None
    assert data.places[3] == f"{path}: row 3"
    assert_same_batches(data, folders)


@pytest.mark.parametrize("workers", [0, 1])
def test_streamed_sounds_give_the_same_batches(tmp_path: Path, workers: int) -> None:
    files = write_tones(tmp_path / "sounds")
    write_sounds(tmp_path / "train.parquet", inside(files[:8] + files[10:18]), [0] * 8 + [1] * 8)
    write_sounds(tmp_path / "test.parquet", inside(files[8:10] + files[18:]), [0, 0, 1, 1])
    path = {split: tmp_path / f"{split}.parquet" for split in ("train", "test")}
    augment = {**defaults("dataset", "huggingface")["augment"], "shift": 0.01, "noise": 0.1, "time_mask": 3}
    resident, streamed = (
        build(path, augment=augment, val_fraction=0.25, in_memory=in_memory, workers=workers)
        for in_memory in (True, False)
    )
    assert (resident.in_memory, streamed.in_memory) == (True, False)
    assert {name: len(part) for name, part in streamed.splits().items()} == {"train": 12, "val": 4, "test": 4}
    assert resident.fingerprint() == streamed.fingerprint()
    assert resident.preprocessing() == streamed.preprocessing()
    assert_same_batches(resident, streamed)


@pytest.mark.parametrize("in_memory", [True, False])
def test_a_bad_sound_is_named_by_its_row(tmp_path: Path, in_memory: bool) -> None:
    files = write_tones(tmp_path / "sounds")
    labels = [0] * 10 + [1] * 10
    contents = inside(files)
    contents[2] = {"bytes": b"no sound", "path": "2.wav"}
    contents[4] = {"bytes": files[4].read_bytes()[:600], "path": None}
    contents[5] = None
    contents[6:7] = beside(files[6:7])
    path = write_sounds(tmp_path / "a.parquet", contents, labels)
    files[6].rename(tmp_path / "elsewhere.wav")
    named = (
        f"4 bad samples{{}}: {path}: row 5: audio: is empty; {path}: row 6: audio: is empty; "
        f"{path}: row 2: no sound that can be read (Format not recognised); {path}: row 4: cut off: 600 of 1268 bytes"
    )
    wanted = f"dataset=huggingface: {named.format('')} (dataset.on_error=skip leaves them out)"
    assert refusal(path, in_memory=in_memory) == wanted
    data = build(path, in_memory=in_memory, on_error="skip")
    assert data.warnings == (named.format(" left out"),)
    good = [row for row in range(20) if row not in (2, 4, 5, 6)]
    clean = write_sounds(tmp_path / "b.parquet", inside([files[n] for n in good]), [labels[n] for n in good])
    assert data.fingerprint() == build(clean).fingerprint()


def test_keys_that_do_nothing_to_sounds_are_named(tmp_path: Path) -> None:
    files = write_tones(tmp_path / "sounds")
    path = write_sounds(tmp_path / "a.parquet", inside(files), [0] * 10 + [1] * 10)
    augment = {**defaults("dataset", "huggingface")["augment"], "flip": True, "noise": 0.1}
    with pytest.raises(ConfigError) as caught:
        build(path, augment=augment, task="regression")
    assert caught.value.problems == (
        "dataset.augment.flip: does nothing to sounds, which the set has",
        "dataset.task: must be classification for sounds, got regression",
    )


def test_without_what_reads_sounds_it_says_how_to_install_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_sounds(tmp_path / "a.parquet", inside(write_tones(tmp_path / "sounds")), [0] * 10 + [1] * 10)
    monkeypatch.setitem(sys.modules, "soundfile", None)
    with pytest.raises(ConfigError, match=r"dataset=huggingface: needs soundfile .*pip install 'trainer-cli\[audio\]'"):
        build(path)


def test_texts_become_tokens(tmp_path: Path) -> None:
    rows = [["text", "id", "label"], *[[f"good word{n % 3}" if n % 2 else "bad film", n, n % 2] for n in range(20)]]
    data = build(write_csv(tmp_path / "a.csv", rows), min_count=1)
    assert (data.spec.kind, data.spec.classes, data.spec.shape) == ("tokens", ("0", "1"), (2,))
    assert set(data.preprocess["vocabulary"][2:]) == {"good", "bad", "film", "word0", "word1", "word2"}
    first = everything(data)[0][0].tolist()
    assert [data.preprocess["vocabulary"][token] for token in first] == ["bad", "film"]


def test_an_empty_text_and_a_missing_class_are_named_by_their_rows(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [{"text": f"w{n}", "label": "ab"[n % 2]} for n in range(10)]
    rows[2]["text"], rows[5]["label"], rows[6]["text"] = " ", None, "after them"
    file = write_lines(tmp_path / "a.jsonl", rows)
    assert f"2 bad samples: {file}: row 2: text: is empty; {file}: row 5: label: is empty" in refusal(file)
    data = build(file, on_error="skip", val_fraction=0.0, test_fraction=0.2)
    assert data.train.source.fetch(torch.arange(8))[1].tolist() == [1, 1, 1, 1, 2, 1, 1, 1]  # the fifth is row 6


def test_columns_of_numbers_are_a_table(tmp_path: Path) -> None:
    rows = [["a", "b", "kind"], *[[n, n / 2, "xy"[n % 2]] for n in range(20)]]
    data = build(write_csv(tmp_path / "a.csv", rows), target="kind")
    assert (data.spec.kind, data.spec.task, data.spec.shape, data.spec.classes) == (
        *("table", "classification", (2,)),
        ("x", "y"),
    )
    assert everything(data)[0].tolist() == [[n, n / 2] for n in range(20)]
    values = build(tmp_path / "a.csv", input="a", target="b")
    assert (values.spec.task, values.spec.shape, values.spec.classes) == ("regression", (1,), ("b",))
    assert values.train.source.targets.tolist() == [[n / 2] for n in range(20)]


def test_several_targets_are_labels_or_values(tmp_path: Path) -> None:
    rows = [["a", "p", "q", "r"], *[[n, n % 2, n % 3 == 0, n * 3] for n in range(20)]]
    file = write_csv(tmp_path / "a.csv", rows)
    found = build(file, input="a", target=["p", "q"])
    assert (found.spec.task, found.spec.classes) == ("multilabel", ("p", "q"))
    assert found.train.source.targets[:4].tolist() == [[0, 1], [1, 0], [0, 0], [1, 1]]
    assert build(file, input="a", target=["p", "r"]).spec.task == "regression"
    line = refusal(file, input="a", target=["p", "r"], task="multilabel")
    assert line.endswith("must hold 0 and 1 alone for task=multilabel")


@pytest.mark.parametrize(
    ("make", "kind", "shape", "varying", "second"),
    [
        (lambda n: [n, n + 1, n + 2], "table", (3,), False, [1, 2, 3]),
        (lambda n: [n] * (n + 1), "sequence", (20, 1), True, [[1], [1]]),
        (lambda n: [[n, 2], [3, 4], [5, 6]], "sequence", (3, 2), False, [[1, 2], [3, 4], [5, 6]]),
        (lambda n: [[n, 0.5]] * (n + 1), "sequence", (20, 2), True, [[1, 0.5], [1, 0.5]]),
    ],
)
def test_lists_are_tables_or_sequences(
    tmp_path: Path, make: Any, kind: str, shape: tuple[int, ...], varying: bool, second: list[Any]
) -> None:
    rows = [{"x": make(n), "label": "ab"[n % 2]} for n in range(20)]
    data = build(write_lines(tmp_path / "a.jsonl", rows), val_fraction=0.0)
    assert (data.spec.kind, data.spec.varying) == (kind, varying)
    assert data.train.source.fetch(torch.tensor([1]))[0][0].tolist() == second
    assert data.spec.shape == shape


def test_a_fixed_array_is_a_sequence(tmp_path: Path) -> None:
    features = datasets.Features({"x": datasets.Array2D((3, 2), "float32"), "label": datasets.Value("int64")})
    values = np.arange(60, dtype=np.float32).reshape(10, 3, 2)
    rows = {"x": list(values), "label": [0, 1] * 5}
    datasets.Dataset.from_dict(rows, features=features).save_to_disk(str(tmp_path / "saved"))
    data = build(tmp_path / "saved")
    assert (data.spec.kind, data.spec.shape) == ("sequence", (3, 2))
    assert torch.equal(everything(data)[0], torch.from_numpy(values))


def test_bad_numbers_are_named_by_their_rows(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [{"a": float(n), "b": [n, 1.0], "label": "xy"[n % 2]} for n in range(10)]
    rows[3]["a"] = None
    rows[4]["b"] = [1.0, None]
    rows[5]["b"] = []
    file = write_lines(tmp_path / "a.jsonl", rows)
    assert f"1 bad sample: {file}: row 3: a: is no finite number" in refusal(file, input="a")
    named = f"2 bad samples: {file}: row 5: b: is empty; {file}: row 4: b: is not of finite numbers"
    assert named in refusal(file, input="b")
    data = build(file, input="b", on_error="skip")
    assert everything(data)[0].tolist() == [[n, 1.0] for n in (0, 1, 2, 3, 6, 7, 8, 9)]


@pytest.mark.parametrize(
    ("keys", "line"),
    [
        ({"path": "nobody/nothing"}, "dataset.path: nobody/nothing: cannot be loaded: "),
        ({"path": "./nothing"}, "dataset.path: nothing: no such file or folder"),
        ({"path": "a.csv"}, "dataset.path: a.csv: no such file or folder"),
        ({"target": "lable"}, "dataset.target: lable: no such column; did you mean label? columns: a, b, text, label"),
        ({"input": ["a", "c"]}, "dataset.input: c: no such column; columns: a, b, text, label"),
        ({"input": "label"}, "dataset.input: label: is the target"),
        (
            {"input": ["a", "text"]},
            "dataset.input: must be one column of pictures, sounds, texts or lists of numbers, or ",
        ),
        ({"input": "text", "task": "regression"}, "dataset.task: must be classification for texts, got regression"),
        ({"input": "text", "target": "b"}, "dataset.target: must be one column of classes for texts, got b"),
        ({"config": "x"}, "dataset.config: files have no configurations, got x"),
        ({"input": "a", "target": "label", "task": "regression"}, "dataset.target: label: holds text, not numbers"),
        ({"augment": {"flip": True}}, "dataset.augment.flip: does nothing to texts, which the set has"),
        ({"input": "a", "augment": {"drop": 0.5}}, "dataset.augment.drop: does nothing to numbers, which the set has"),
    ],
)
def test_what_is_wrong_is_one_line(tmp_path: Path, keys: dict[str, Any], line: str) -> None:
    rows = [["a", "b", "text", "label"], *[[n, n / 2, f"word {n}", "xy"[n % 2]] for n in range(10)]]
    file = write_csv(tmp_path / "t.csv", rows)
    augment = {**defaults("dataset", "huggingface")["augment"], **keys.get("augment", {})}
    assert refusal(**{"path": file, **keys, "augment": augment}).startswith(line)


def test_a_damaged_file_and_a_foreign_one_are_named(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_bytes(b"PAR1 nothing")
    damaged = f"dataset.path: {tmp_path}/a.parquet: cannot be loaded: "
    assert refusal(tmp_path / "a.parquet").startswith(damaged)
    (tmp_path / "a.pkl").write_bytes(b"x")
    assert "a.pkl: must be a folder, or files of one kind: .parquet, " in refusal(tmp_path / "a.pkl")


def test_code_in_a_folder_is_not_run(tmp_path: Path) -> None:
    folder = tmp_path / "evil"
    folder.mkdir()
    (folder / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    assert refusal(folder).startswith(f"dataset.path: {folder}: cannot be loaded: ")
    assert not (tmp_path / "ran").exists()


def test_without_the_library_it_says_how_to_install_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(ConfigError, match=r"needs datasets .*: pip install 'trainer-cli\[huggingface\]'"):
        build("any")


@pytest.mark.parametrize("in_memory", ["true", "false"])
def test_a_run_trains_on_pictures(tmp_path: Path, train: Train, in_memory: str) -> None:
    write_pictures(tmp_path / "a.parquet", 40)
    words = ("dataset=huggingface", f"dataset.path={tmp_path / 'a.parquet'}", f"dataset.in_memory={in_memory}")
    result = train(*words, "model.channels=[4]", "epochs=1", "batch_size=8", "dataset.augment.flip=true")
    assert result.code == 0, result.err
    assert result.summary["state"] == "finished"
    assert "image 3×6×8, 2 classes; train 32, val 4, test 4" in result.out + result.err


def test_a_run_trains_on_sounds(tmp_path: Path, train: Train) -> None:
    path = write_sounds(tmp_path / "a.parquet", inside(write_tones(tmp_path / "sounds")), [0] * 10 + [1] * 10)
    words = ("dataset=huggingface", f"dataset.path={path}", "dataset.in_memory=false", "dataset.val_fraction=0.2")
    result = train(*words, "model.channels=[4]", "max_steps=2", "batch_size=4", "dataset.augment.noise=0.1")
    assert result.code == 0, result.err
    assert result.summary["state"] == "finished"
    # frames of 200 samples that begin every 80: 1 + ⌈(1002 - 200) / 80⌉
    assert "spectrogram 1×≤12×40, 2 classes; train 14, val 4, test 2" in result.out + result.err


def test_a_parquet_file_that_unpacks_to_many_times_its_size_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(untrusted_files, "FREELY_UNPACKED", 1 << 20)
    datasets.Dataset.from_dict({"a": [0.0] * 200_000, "label": [0] * 200_000}).to_parquet(tmp_path / "x.parquet")
    for path in (tmp_path / "x.parquet", tmp_path):
        said = refusal(path)
        assert "x.parquet: unpacks from " in said
        assert said.endswith("to 3.2 MB, more than 200 times its size; if it is meant, save it as .arrow")
