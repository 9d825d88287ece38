"""Arrays in .npz files: what they are taken for, splits, and everything that may be wrong."""

from __future__ import annotations

import functools
import zipfile
from pathlib import Path
from typing import Any
from unittest.mock import ANY

import numpy as np
import pytest
import torch

from tests.conftest import Train
from tests.helpers import assert_same_batches, everything, load_data, refused
from trainer.data import Normalise, RaggedSource

GENERATOR = np.random.default_rng(0)
CLASSES = np.arange(40) % 3
NUMBERS = GENERATOR.normal(size=(40, 5, 2))
PIXELS = GENERATOR.integers(0, 256, (40, 6, 5), dtype=np.uint8)


def save(path: Path, **arrays: Any) -> Path:
    np.savez(path, **arrays)
    return path


load = functools.partial(load_data, "npz")
refusal = functools.partial(refused, load)


@pytest.mark.parametrize(
    ("inputs", "keys", "kind", "shape"),
    [
        (NUMBERS[:, :, 0], {}, "table", (5,)),
        (NUMBERS[:, :, 0] > 0, {}, "table", (5,)),
        (PIXELS[:, 0].astype(np.int64), {}, "table", (5,)),
        (NUMBERS[:, :, 0], {"kind": "sequence"}, "sequence", (5, 1)),
        (NUMBERS, {}, "sequence", (5, 2)),
        (NUMBERS.astype(">f4"), {}, "sequence", (5, 2)),
        (PIXELS, {}, "image", (1, 6, 5)),
        (PIXELS, {"kind": "sequence"}, "sequence", (6, 5)),
        (NUMBERS, {"kind": "image"}, "image", (1, 5, 2)),
        (PIXELS[:, None], {}, "image", (1, 6, 5)),
        (PIXELS[..., None].repeat(3, 3), {}, "image", (3, 6, 5)),
        (PIXELS[:, None].repeat(3, 1)[..., :3], {"channels": "first"}, "image", (3, 6, 3)),
        (PIXELS[:, None].repeat(3, 1)[..., :3], {"channels": "last"}, "image", (3, 3, 6)),
    ],
)
def test_axes_and_type_say_what_a_sample_is(
    tmp_path: Path, inputs: Any, keys: dict[str, Any], kind: str, shape: tuple[int, ...]
) -> None:
    data = load(save(tmp_path / "a.npz", x=inputs, y=CLASSES), **keys)
    assert (data.spec.kind, data.spec.shape) == (kind, shape)
    read, targets = everything(data)
    assert read.dtype == (torch.uint8 if kind == "image" and inputs.dtype == np.uint8 else torch.float32)
    wanted = inputs
    if inputs.ndim == 4 and (keys.get("channels") == "last" or inputs.shape[3] == 3 != shape[2]):
        wanted = inputs.transpose(0, 3, 1, 2)
    assert read.flatten().tolist() == wanted.astype(np.float32).flatten().tolist()
    assert targets.tolist() == CLASSES.tolist()


@pytest.mark.parametrize(
    ("targets", "keys", "task", "names", "first"),
    [
        (CLASSES + 3, {}, "classification", ("3", "4", "5"), [0, 1, 2]),
        (CLASSES.astype(np.uint8)[:, None], {}, "classification", ("0", "1", "2"), [0, 1, 2]),
        (CLASSES > 0, {}, "classification", ("False", "True"), [0, 1, 1]),
        (np.array(["b10", "b9", "a"])[CLASSES], {}, "classification", ("a", "b9", "b10"), [2, 1, 0]),
        (np.array([b"u", b"v", b"w"])[CLASSES], {}, "classification", ("u", "v", "w"), [0, 1, 2]),
        (np.eye(3)[CLASSES], {}, "classification", ("0", "1", "2"), [0, 1, 2]),
        (CLASSES.astype(float) * 10, {"task": "classification"}, "classification", ("0", "10", "20"), [0, 1, 2]),
        (CLASSES.astype(float), {}, "classification", ("0", "1", "2"), [0, 1, 2]),
        (CLASSES + 0.5, {}, "regression", ("y",), [[0.5], [1.5], [2.5]]),
        (np.array([[1, 1], [-1, 1], [-1, -1]])[CLASSES], {}, "multilabel", ("y 0", "y 1"), [[1, 1], [0, 1], [0, 0]]),
        (CLASSES, {"task": "regression"}, "regression", ("y",), [[0], [1], [2]]),
        (np.eye(3)[CLASSES], {"task": "multilabel"}, "multilabel", ("y 0", "y 1", "y 2"), np.eye(3).tolist()),
        (np.array([[1, 1], [0, 1], [0, 0]])[CLASSES], {}, "multilabel", ("y 0", "y 1"), [[1, 1], [0, 1], [0, 0]]),
        (np.array([[1, 5], [0, 1], [0, 0.0]])[CLASSES], {}, "regression", ("y 0", "y 1"), [[1, 5], [0, 1], [0, 0]]),
        (
            np.array([[1, 5], [0, 1], [0, 0]])[CLASSES],
            {"task": "regression"},
            "regression",
            ("y 0", "y 1"),
            [[1, 5], [0, 1], [0, 0]],
        ),
        (np.arange(40) * 2**40, {"task": "regression"}, "regression", ("y",), [[0], [2**40], [2**41]]),
        (PIXELS[:, 0] % 2, {"task": "multilabel"}, "multilabel", tuple(f"y {at}" for at in range(5)), ANY),
    ],
    ids=str,
)
def test_the_type_of_the_targets_says_what_the_task_is(
    tmp_path: Path, targets: Any, keys: dict[str, Any], task: str, names: tuple[str, ...], first: list[Any]
) -> None:
    data = load(save(tmp_path / "a.npz", x=NUMBERS, y=targets), **keys)
    assert (data.spec.task, data.spec.classes) == (task, names)
    assert data.train.source.targets[:3].tolist() == first


@pytest.mark.parametrize("form", ["{0}_{1}", "{1}_{0}"])
def test_splits_are_arrays_of_one_file(tmp_path: Path, form: str) -> None:
    arrays: dict[str, Any] = {}
    for name, count in (("train", 20), ("val", 8), ("test", 12)):
        arrays |= {form.format("images", name): PIXELS[:count], form.format("labels", name): CLASSES[:count]}
    data = load(save(tmp_path / "a.npz", **arrays), inputs="images", targets="labels")
    assert {name: len(split) for name, split in data.splits().items()} == {"train": 20, "val": 8, "test": 12}
    assert data.test.head(12).squeeze(1).tolist() == PIXELS[:12].tolist()
    assert data.places is not None
    place = data.places[int(data.test.positions[3])]
    assert place == f"{tmp_path / 'a.npz'}: {form.format('images', 'test')}[3]"


def test_splits_are_files(tmp_path: Path) -> None:
    paths = {
        "train": str(save(tmp_path / "a.npz", x=NUMBERS, y=CLASSES)),
        "test": str(save(tmp_path / "b.npz", x_test=NUMBERS[:7], y_test=CLASSES[:7])),
    }
    data = load(paths)
    assert {name: len(split) for name, split in data.splits().items()} == {"train": 36, "val": 4, "test": 7}


def test_padded_sequences_have_lengths_and_no_padding_is_kept(tmp_path: Path) -> None:
    lengths = np.arange(40) % 5 + 1
    padded = NUMBERS.astype(np.float32)
    padded[np.arange(5) >= lengths[:, None]] = np.nan
    data = load(save(tmp_path / "a.npz", x=padded, y=CLASSES, steps=lengths), lengths="steps")
    assert (data.spec.kind, data.spec.shape, data.spec.varying) == ("sequence", (5, 2), True)
    assert isinstance(data.train.source, RaggedSource)
    inputs, got = data.train.source.fetch(torch.tensor([2, 4]))
    assert got.tolist() == [3, 5]
    assert inputs[0].tolist() == [*padded[2, :3].tolist(), [0, 0], [0, 0]]
    assert inputs[1].tolist() == padded[4].tolist()
    assert isinstance(data.normalise, Normalise)
    trained = np.concatenate([padded[at, : lengths[at]] for at in data.train.positions.tolist()])
    assert data.normalise.mean.tolist() == pytest.approx(trained.mean(0).tolist(), abs=1e-6)


def test_bad_samples_are_named_by_array_and_index(tmp_path: Path) -> None:
    inputs, targets = NUMBERS.copy(), np.arange(40.0)
    inputs[3, 1, 1], inputs[7, 4, 0], inputs[8, 0, 0] = np.nan, -np.inf, 1e50
    targets[[3, 9]] = np.nan
    lengths = np.full(40, 5)
    lengths[[1, 7]] = 0, 2
    file = save(tmp_path / "a.npz", x=inputs, y=targets, n=lengths)
    named = (
        f"{file}: n[1]: 0 steps; must be 1 to 5; {file}: x[3]: nan at [1, 1]; {file}: x[8]: inf at [0, 0]; "
        f"{file}: y[9]: is no finite number"
    )
    assert refusal(file, lengths="n") == f"dataset=npz: 4 bad samples: {named} (dataset.on_error=skip leaves them out)"
    data = load(file, lengths="n", on_error="skip")
    assert data.warnings == (f"4 bad samples left out: {named}",)
    assert data.train.source.targets.flatten().tolist() == [n for n in range(40) if n not in (1, 3, 8, 9)]
    assert data.places is not None
    assert data.places[1] == f"{file}: x[2]"


def test_classes_that_train_does_not_have_are_problems(tmp_path: Path) -> None:
    file = save(tmp_path / "a.npz", x_train=NUMBERS, y_train=CLASSES, x_test=NUMBERS[:4], y_test=[0, 7, 7, 1])
    named = f"{file}: y_test[1]: class 7 is in test (2 samples) but not in train"
    assert refusal(file) == f"dataset=npz: 1 bad sample: {named} (dataset.on_error=skip leaves it out)"
    data = load(file, on_error="skip")
    assert data.test.targets.tolist() == [0, 1]
    assert data.test.head(2).tolist() == NUMBERS[[0, 3]].astype(np.float32).tolist()


SHAPES = (
    "a table is (samples, features), a sequence (samples, steps, width) or (samples, steps), an image (samples, "
    "height, width) or with channels first or last; only sequences have dataset.lengths"
)


@pytest.mark.parametrize(
    ("arrays", "keys", "line"),
    [
        (
            {"images": NUMBERS, "y": CLASSES},
            {"inputs": "image"},
            "dataset.inputs: image: {} has no array image; did you mean images? arrays: images, y",
        ),
        (
            {"x_train": NUMBERS, "y": CLASSES, "x_test": NUMBERS},
            {"targets": "z"},
            "dataset.targets: z: {} has no array z_test; arrays: x_train, y, x_test",
        ),
        (
            {"x": NUMBERS, "y": CLASSES[:39]},
            {},
            "dataset.targets: y of {} has 39 samples, but x of {} has 40",
        ),
        (
            {"x_train": NUMBERS, "y_train": CLASSES, "x_test": NUMBERS[:, :4], "y_test": CLASSES},
            {},
            "dataset.inputs: x_train of {} has samples of (5, 2), but x_test of {} of (4, 2)",
        ),
        (
            {"x_train": NUMBERS, "y_train": CLASSES, "x_test": NUMBERS, "y_test": CLASSES.astype(str)},
            {},
            "dataset.targets: y_train of {} holds int64, but y_test of {} <U21",
        ),
        ({"x": CLASSES, "y": CLASSES}, {}, "dataset.inputs: shape (40,) does not fit: " + SHAPES),
        (
            {"x": NUMBERS, "y": CLASSES},
            {"kind": "table"},
            "dataset.inputs: shape (40, 5, 2) does not fit for dataset.kind=table: " + SHAPES,
        ),
        (
            {"x": PIXELS[:, None], "y": CLASSES},
            {"lengths": "y"},
            "dataset.inputs: shape (40, 1, 6, 5) does not fit: " + SHAPES,
        ),
        ({"x": np.float32(3), "y": CLASSES}, {}, "dataset.inputs: x of {} is a single number"),
        (
            {"x": PIXELS[:, None].repeat(3, 1)[..., :3], "y": CLASSES},
            {},
            "dataset.channels: auto: cannot be told for shape (40, 3, 6, 3); must be first or last",
        ),
        (
            {"x": NUMBERS.astype(str), "y": CLASSES},
            {},
            "dataset.inputs: x of {} must hold numbers, got <U32",
        ),
        (
            {"x": NUMBERS, "y": CLASSES, "n": NUMBERS},
            {"lengths": "n"},
            "dataset.lengths: n of {} must hold whole numbers, got float64",
        ),
        (
            {"x": NUMBERS, "y": CLASSES, "n": PIXELS},
            {"lengths": "n"},
            "dataset.lengths: must be one number for each sample, got shape (40, 6, 5)",
        ),
        (
            {"x": NUMBERS, "y": NUMBERS},
            {},
            "dataset.targets: must be (samples,) or (samples, outputs), got shape (40, 5, 2); one for each step or "
            "pixel of a sample is not supported",
        ),
        (
            {"x": PIXELS, "y": PIXELS % 3},
            {},
            "dataset.targets: must be (samples,) or (samples, outputs), got shape (40, 6, 5); one for each step or "
            "pixel of a sample is not supported",
        ),
        *(
            (
                {"x": inputs, "y": steps},
                {},
                f"dataset.targets: shape {steps.shape} with inputs of shape {inputs.shape} looks like a class for each "
                f"of the {steps.shape[1]} {noun} of a sample, which is not supported{more}",
            )
            for inputs, steps, noun, more in (
                (NUMBERS, PIXELS[:, 0] % 3, "steps", ""),
                (NUMBERS, (PIXELS[:, 0] % 3).astype(float), "steps", ""),
                (
                    NUMBERS,
                    PIXELS[:, 0] % 2,
                    "steps",
                    "; dataset.task=multilabel if they are 5 labels of the whole sample",
                ),
                (PIXELS, PIXELS.reshape(40, 30) % 3, "pixels", ""),
                (np.stack([PIXELS] * 3, axis=3), PIXELS.reshape(40, 30) % 3, "pixels", ""),
                (NUMBERS, (PIXELS[:, 0] % 3).astype(str), "steps", ""),
            )
        ),
        (
            {"x": NUMBERS[:, 0], "y": PIXELS[:, 0] % 7},
            {},
            "dataset.task: auto: cannot be told: each sample has 5 whole numbers as targets, shape (40, 5); "
            "dataset.task=regression if they are amounts; several classes of a sample are labels, which are columns of "
            "0 and 1",
        ),
        (
            {"x": NUMBERS, "y": np.arange(40) // 2 * 2 + np.arange(40) % 3},
            {},
            "dataset.task: auto: cannot be told: the 40 samples have 34 different whole numbers as targets; "
            "dataset.task=regression if they are amounts, dataset.task=classification if each names a class",
        ),
        (
            {"x": NUMBERS, "y": NUMBERS[:, 0]},
            {"task": "classification"},
            "dataset.targets: must be (samples,), or rows of 0 with a single 1, for task=classification, "
            "got shape (40, 2)",
        ),
        (
            {"x": NUMBERS, "y": CLASSES.astype(str)},
            {"task": "regression"},
            "dataset.targets: hold texts, not numbers, which task=regression needs",
        ),
        (
            {"x": NUMBERS, "y": CLASSES * 0},
            {},
            "dataset=npz: only 1 class, 0; there must be at least 2 to tell apart",
        ),
        ({"x": NUMBERS[:0], "y": CLASSES[:0]}, {}, "dataset=npz: no samples in dataset.path"),
        (
            {"x_test": NUMBERS, "y_test": CLASSES},
            {"task": "regression"},
            "dataset=npz: no samples in train",
        ),
    ],
)
def test_what_does_not_fit_is_one_line(tmp_path: Path, arrays: dict[str, Any], keys: dict[str, Any], line: str) -> None:
    file = save(tmp_path / "a.npz", **arrays)
    assert refusal(file, **keys) == line.replace("{}", str(file))


def test_arrays_that_are_not_used_are_said(tmp_path: Path) -> None:
    arrays = {"x_train": NUMBERS, "y_train": CLASSES, "x_test": NUMBERS, "speaker": CLASSES}
    data = load(save(tmp_path / "a.npz", **arrays))  # x_test without y_test, as in a competition
    assert "not used: x_test, speaker" in data.notes
    assert data.test is not None
    assert len(data.train) + len(data.test) < len(NUMBERS)


def test_python_objects_are_never_read(tmp_path: Path) -> None:
    file = save(tmp_path / "a.npz", x=NUMBERS, y=np.array([{"a": 1}] * 40, dtype=object))
    line = f"dataset.targets: y of {file} cannot be read: it holds Python objects, or is damaged; store texts by "
    assert refusal(file) == line + "y.astype(str)"


def test_files_that_are_no_archives_are_one_line(tmp_path: Path) -> None:
    must = "must be a file or folder of arrays: is damaged"
    text = tmp_path / "a.npz"
    text.write_text("x,y\n1,2\n")
    assert refusal(text) == f"dataset.path: {text}: is no .npz, .npy or .mat file"
    assert refusal(tmp_path) == (
        f"dataset.path: {tmp_path}: holds no arrays: .npy files such as X_train.npy and y_train.npy, or another "
        "known form"
    )
    np.save(tmp_path / "b.npy", NUMBERS)
    assert refusal(tmp_path / "b.npy") == f"dataset.path: {tmp_path / 'b.npy'}: holds a single array; " + (
        "the samples and their targets are two: a folder with X_train.npy and y_train.npy, or an .npz file, as "
        "numpy.savez writes it"
    )
    whole = save(tmp_path / "c.npz", x=NUMBERS, y=CLASSES).read_bytes()
    cut = tmp_path / "d.npz"
    cut.write_bytes(whole[: len(whole) // 2])
    assert refusal(cut) == f"dataset.path: {cut}: {must}"
    with zipfile.ZipFile(tmp_path / "c.npz") as archive:
        start = archive.getinfo("x.npy").header_offset + 500
    damaged = tmp_path / "e.npz"
    damaged.write_bytes(whole[:start] + b"????" + whole[start + 4 :])
    assert refusal(damaged).startswith(f"dataset.inputs: x of {damaged} cannot be read: ")


@pytest.mark.parametrize("lengths", [None, "n"])
@pytest.mark.parametrize("workers", [0, 1])
def test_in_memory_and_streamed_give_the_same_batches(tmp_path: Path, lengths: str | None, workers: int) -> None:
    file = save(tmp_path / "a.npz", x=NUMBERS, y=CLASSES, n=np.arange(40) % 5 + 1)
    resident, streamed = (load(file, lengths=lengths, in_memory=here, workers=workers) for here in (True, False))
    assert isinstance(resident.train.source, RaggedSource) == (lengths is not None)
    assert_same_batches(resident, streamed)
    assert resident.fingerprint() == streamed.fingerprint()


@pytest.mark.parametrize("model", ["cnn", "gru", "lstm"])
@pytest.mark.parametrize(
    ("words", "loss"),
    [
        (["dataset.inputs=pixels", "dataset.targets=y"], "cross_entropy"),
        (["dataset.inputs=numbers", "dataset.targets=labels", "dataset.lengths=n"], "bce"),
        (["dataset.inputs=numbers", "dataset.targets=values"], "mse"),
    ],
)
def test_every_model_trains_on_every_task(
    tmp_path: Path, train: Train, model: str, words: list[str], loss: str
) -> None:
    file = save(
        tmp_path / "a.npz",
        pixels=PIXELS,
        numbers=NUMBERS,
        y=CLASSES,
        labels=np.array([[1, 1], [0, 1], [0, 0]])[CLASSES],
        values=NUMBERS[:, 0],
        n=np.arange(40) % 5 + 1,
    )
    extra = ["model.channels=[4]"] if model == "cnn" else ["model.hidden=4"]
    words = [f"dataset.path={file}", *words, f"loss={loss}", f"model={model}", *extra]
    result = train("dataset=npz", *words, "epochs=1", "limit_batches=2", "logger=none")
    assert result.code == 0, result.err
    assert np.isfinite(result.summary["test/loss"])
