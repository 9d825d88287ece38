"""The numbers of a data set and what is found wrong with it, from samples made by hand and from real ones."""

from __future__ import annotations

import functools
import hashlib
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.conftest import Train
from tests.helpers import defaults, make_spec
from trainer.compose.check_command import compose
from trainer.config import RunError, Settings
from trainer.data import Data, Normalise, RaggedSource, Source, Split, TensorSource, checks
from trainer.data.checks import Survey, at_start, survey
from trainer.data.sources import Inputs
from trainer.data.statistics import Lengths, Values
from trainer.dataset import DATASETS
from trainer.spec import Kind, Task


@functools.cache
def settings(*words: str) -> Settings:
    return compose("batch_size=2", *words).settings


def data_of(
    source: Source,
    *,
    kind: Kind = "table",
    train: list[int],
    val: list[int] | None = None,
    test: list[int],
    task: Task = "classification",
    classes: int = 2,
    **keys: Any,
) -> Data:
    """A data set of a source's samples at these positions."""
    inputs = source.fetch(torch.arange(1))
    spec = make_spec(kind, tuple(inputs[0].shape[1:]), task=task, classes=classes)
    splits = [
        None if some is None else Split(source, torch.tensor(some, dtype=torch.int64)) for some in (train, val, test)
    ]
    assert splits[0] is not None
    assert splits[2] is not None
    return Data(spec, splits[0], splits[1], splits[2], **keys)


def rows(*values: list[float], targets: list[int]) -> TensorSource:
    return TensorSource((torch.tensor(values),), torch.tensor(targets))


def texts(found: Survey, check: str) -> list[str]:
    return [finding.text for finding in found.findings if finding.check == check]


# a and b are of train, val has c and test has d
CLEAN = rows([0, 1], [1, 2], [2, 3], [3, 4], [4, 5], [5, 6], targets=[0, 1, 0, 1, 0, 1])
WHOLE: dict[str, Any] = {"train": [0, 1], "val": [2, 3], "test": [4, 5]}


def test_nothing_is_found_where_nothing_is_wrong() -> None:
    data = data_of(CLEAN, **WHOLE)
    assert survey(data, settings()).findings == ()
    assert at_start(data, settings()) == []


def test_samples_of_test_that_train_has_too_are_counted_and_named() -> None:
    source = rows([0, 1], [1, 2], [2, 3], [1, 2], [9, 9], [0, 1], targets=[0, 1, 0, 1, 1, 0])
    data = data_of(source, train=[0, 1], val=[2, 4], test=[3, 5, 4])
    found = survey(data, settings())
    assert texts(found, "leak") == [
        "2 test samples have the same content as one of train (66.7 %), so the test metrics are too good; remove "
        "them from train: test 0 = train 1, test 1 = train 0",
        "1 test sample has the same content as one of val (33.3 %), so they influence which weights are best; "
        "remove them from val: test 2 = val 1",
    ]
    assert texts(found, "contradiction") == []
    assert [line for line in at_start(data, settings()) if "same content" in line] == texts(found, "leak")


def test_places_are_named_where_they_are_known() -> None:
    source = rows([0, 1], [1, 2], [1, 2], targets=[0, 1, 1])
    found = survey(data_of(source, train=[0, 1], test=[2], places=["a.png", "b.png", "c.png"]), settings())
    assert texts(found, "leak")[0].endswith("from train: c.png = b.png")


def test_the_same_content_with_two_classes_is_a_warning_and_twice_in_a_split_a_note() -> None:
    source = rows([0, 1], [1, 2], [0, 1], [0, 1], [7, 7], [1, 2], targets=[0, 1, 1, 0, 0, 1])
    found = survey(data_of(source, train=[0, 1, 2, 3, 5], test=[4]), settings())
    assert texts(found, "contradiction") == [
        "1 content occurs with different classes, of which at most one is right: train 0 (class0) and train 2 (class1)"
    ]
    assert texts(found, "repeated") == [
        "3 train samples have the same content as an earlier one (60.0 %): train 2 = train 0, train 3 = train 0, "
        "train 4 = train 1"
    ]
    assert {(finding.check, finding.level) for finding in found.findings} >= {
        ("contradiction", "warning"),
        ("repeated", "note"),
    }
    assert found.parts["train"].repeated == 3


def test_labels_may_contradict_too_and_different_values_are_only_a_note() -> None:
    inputs = torch.tensor([[1.0, 2.0], [1.0, 2.0], [3.0, 3.0]])
    targets = torch.tensor([[1.0, 0.0], [1.0, 1.0], [0.0, 0.0]])
    both: dict[str, Any] = {"train": [0, 1], "test": [2]}
    labels = survey(data_of(TensorSource((inputs,), targets), task="multilabel", **both), settings("loss=bce"))
    (text,) = texts(labels, "contradiction")
    assert text.endswith("train 0 (class0) and train 1 (class0, class1)")
    values = survey(data_of(TensorSource((inputs,), targets), task="regression", **both), settings("loss=mse"))
    assert [(finding.check, finding.level) for finding in values.findings if finding.check == "contradiction"] == [
        ("contradiction", "note")
    ]


def test_a_class_without_a_sample_is_named_with_its_split() -> None:
    source = rows([0, 1], [1, 2], [2, 3], [3, 4], targets=[0, 2, 0, 3])
    data = data_of(source, train=[0, 1], val=[2], test=[3], classes=4)
    found = survey(data, settings())
    assert texts(found, "missing_class") == [
        "2 classes (class1, class3) have no train sample: the model cannot learn them; add samples, or remove them",
        "3 classes (class1, class2, class3) have no val sample: no metric covers them; a larger dataset.val_fraction "
        "may help",
        "3 classes (class0, class1, class2) have no test sample: no metric covers them",
    ]
    assert at_start(data, settings()) == texts(found, "missing_class")[:1]


@pytest.mark.parametrize(
    ("words", "balanced", "advice"),
    [
        ([], False, "; loss.weight=balanced or dataset.sampler=balanced makes them count equally"),
        (["loss=focal"], False, "; loss.weight=balanced or dataset.sampler=balanced makes them count equally"),
        (["loss=mse"], False, "; dataset.sampler=balanced makes them count equally"),
        (["loss.weight=balanced"], False, None),
        ([], True, None),
    ],
)
def test_very_unequal_classes_come_with_the_advice_that_fits(
    words: list[str], balanced: bool, advice: str | None
) -> None:
    source = TensorSource((torch.rand(42, 2),), torch.tensor([0] * 40 + [1] * 2))
    data = data_of(source, train=list(range(41)), test=[41], balanced=balanced)
    lines = [line for line in at_start(data, settings(*words)) if "unequal" in line]
    says = "the classes are very unequal: 40 train samples of class0, 1 of class1 (1:40)"
    assert lines == ([] if advice is None else [says + advice])
    found = survey(data, settings(*words))
    assert found.imbalance == 40
    assert [finding.level for finding in found.findings if finding.check == "imbalance"] == [
        "note" if advice is None else "warning"
    ]


def test_classes_that_are_balanced_twice_are_a_warning() -> None:
    source = TensorSource((torch.rand(6, 2),), torch.tensor([0, 0, 0, 1, 1, 0]))
    line = (
        "loss.weight=balanced and dataset.sampler=balanced balance the classes twice, so that the rarest class counts "
        "most; one of the two is enough"
    )
    for words, balanced, told in (
        ("loss.weight=balanced", True, 1),
        ("loss.weight=[1,2]", True, 0),
        ("loss.weight=balanced", False, 0),
    ):
        data = data_of(source, train=list(range(5)), test=[5], balanced=balanced)
        assert at_start(data, settings(words, "batch_size=4")).count(line) == told
        assert [each.text for each in survey(data, settings(words)).findings].count(line) == told


def test_a_start_does_not_stumble_over_a_split_without_a_sample() -> None:
    source = RaggedSource.join([torch.rand(2, 2), torch.rand(3, 2)], torch.tensor([0, 1]))
    assert at_start(data_of(source, kind="sequence", train=[0, 1], test=[]), settings()) == []


def test_less_unequal_classes_are_not_spoken_of() -> None:
    source = TensorSource((torch.rand(21, 2),), torch.tensor([0] * 19 + [1, 1]))
    assert at_start(data_of(source, train=list(range(20)), test=[20]), settings()) == []


def test_less_samples_than_a_batch_are_named() -> None:
    assert at_start(data_of(CLEAN, **WHOLE), settings("batch_size=3")) == [
        "train has 2 samples, less than batch_size=3, so an epoch is one step; a smaller batch_size makes more steps"
    ]


@pytest.mark.parametrize(
    ("kind", "samples", "wanted"),
    [
        ("table", torch.tensor([[7.0, 1.0], [7.0, 2.0], [7.0, 3.0]]), "1 column is"),
        ("image", torch.stack([torch.full((3, 3), 7.0), torch.rand(3, 3)])[None].repeat(3, 1, 1, 1), "1 channel is"),
        ("sequence", torch.stack([torch.full((3, 4), 7.0), torch.rand(3, 4)], 2), "1 column is"),
        ("spectrogram", torch.stack([torch.full((3, 4), 7.0), torch.rand(3, 4)], 2)[:, None], "1 band is"),
    ],
)
def test_what_is_the_same_in_every_training_sample_is_named(kind: Kind, samples: Tensor, wanted: str) -> None:
    samples = samples.clone()
    samples[2] += 1  # of test, where it may differ
    keys: dict[str, Any] = {"preprocess": {"columns": ["age", "height"]}} if kind == "table" else {}
    data = data_of(TensorSource((samples,), torch.tensor([0, 1, 0])), kind=kind, train=[0, 1], test=[2], **keys)
    line = f"{wanted} the same in every train sample, so it carries no information; leave it out: "
    line += "age is 7" if kind == "table" else "0 is 7"
    assert texts(survey(data, settings()), "constant") == [line]
    assert line in at_start(data, settings())


def test_a_constant_column_without_a_name_is_named_by_its_number() -> None:
    samples = torch.tensor([[7.0, 1.0], [7.0, 2.0], [7.0, 3.0]])
    source = TensorSource((samples,), torch.tensor([0, 1, 0]))
    data = data_of(source, kind="table", train=[0, 1], test=[2], preprocess={"columns": []})
    (line,) = texts(survey(data, settings()), "constant")
    assert line.endswith("leave it out: 0 is 7")


def test_padding_does_not_make_a_column_vary_nor_change_a_range() -> None:
    samples = [torch.tensor([[7.0, 3.0]]), torch.tensor([[7.0, 4.0], [7.0, 5.0]]), torch.tensor([[7.0, 6.0]])]
    source = RaggedSource.join(samples, torch.tensor([0, 1, 0]))
    found = survey(data_of(source, kind="sequence", train=[0, 1], test=[2]), settings())
    assert len(texts(found, "constant")) == 1
    assert (found.least, found.most) == (3, 7)
    assert found.num_bytes == 4 * 2 * 4
    assert found.parts["train"].lengths == Lengths(least=1, median=1, most=1, longest=2)


def test_numbers_that_are_none_are_named_and_left_out_of_the_range() -> None:
    source = rows([0, 1], [1, float("nan")], [2, 3], targets=[0, 1, 0])
    found = survey(data_of(source, train=[0, 1], test=[2]), settings())
    assert texts(found, "not_finite") == ["1 train sample has NaN or infinite values: train 1"]
    assert (found.least, found.most) == (0, 3)


def test_values_to_predict_are_described() -> None:
    source = TensorSource((torch.rand(5, 2),), torch.tensor([[1.0], [2.0], [6.0], [4.0], [0.0]]))
    found = survey(data_of(source, task="regression", classes=1, train=[0, 1, 2], test=[3, 4]), settings("loss=mse"))
    (train,), (test,) = found.parts["train"].targets, found.parts["test"].targets
    assert test == Values(least=0, mean=2, deviation=2, most=4)
    assert (train.least, train.mean, train.most) == (1, 3, 6)
    assert train.deviation == pytest.approx((14 / 3) ** 0.5)
    assert found.imbalance is None


def test_tokens_are_quoted_and_unknown_ones_counted() -> None:
    samples = [torch.tensor(each) for each in ([2, 3], [1, 1, 2], [2, 3], [3])]
    source = RaggedSource.join(samples, torch.tensor([0, 1, 0, 1]))
    words = ["<padding>", "<unknown>", "good", "film"]
    data = data_of(source, kind="tokens", train=[0, 1], test=[2, 3], preprocess={"vocabulary": words})
    found = survey(data, settings())
    assert found.parts["train"].unknown == pytest.approx(2 / 5)
    assert found.parts["test"].unknown == 0
    assert texts(found, "leak")[0].endswith('test 0 "good film" = train 0 "good film"')


class Damaged:
    """Samples read one by one, of which some cannot be; counts how often it was asked."""

    def __init__(self) -> None:
        self.targets, self.asked = torch.tensor([0, 1] * 5), 0

    def fetch(self, positions: Tensor) -> Inputs:
        self.asked += 1
        for position in positions.tolist():
            if position in (1, 2):
                raise RunError(f"{position}.png: cut off")
        return (positions.float()[:, None].repeat(1, 2),)


def test_every_sample_that_cannot_be_read_is_named_and_the_others_are_looked_at() -> None:
    data = data_of(Damaged(), train=[0, 1, 2, 3, 4, 5], val=[6, 7], test=[8, 9], in_memory=False)
    found = survey(data, settings())
    assert texts(found, "bad_sample") == ["bad sample: 1.png: cut off", "bad sample: 2.png: cut off"]
    assert (found.least, found.most) == (0, 9)
    assert found.parts["train"].samples == 6


def test_a_start_reads_nothing_that_is_streamed() -> None:
    source = Damaged()
    data = data_of(source, train=[0, 3, 4, 5], val=[6, 7], test=[8, 9], in_memory=False)
    source.asked = 0
    assert at_start(data, settings()) == []
    assert source.asked == 0


def test_the_numbers_of_digits_are_those_of_its_file() -> None:
    data: Data = DATASETS.build(defaults("dataset", "digits"), 0)
    found = survey(data, settings())
    images = torch.cat([split.head(len(split)) for split in data.splits().values()])
    assert [part.samples for part in found.parts.values()] == [1298, 229, 270]
    assert (found.dtype, found.shape, found.least, found.most, found.num_bytes) == (
        *("uint8", (1, 8, 8), int(images.min()), int(images.max()), 1797 * 64),
    )
    assert found.mean == pytest.approx([data.train.head(1298).double().mean().item()])
    for name, split in data.splits().items():
        assert Counter(split.targets.tolist()) == Counter(dict(enumerate(found.parts[name].counts)))
    assert found.findings == ()
    assert found.in_memory


@pytest.mark.parametrize("in_memory", [True, False])
def test_copies_in_mnist_are_those_that_a_hash_of_each_picture_finds(
    data_root: Path, in_memory: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checks, "MAX_PICTURES", 0)  # the search for nearly equal pictures has tests of its own
    keys = defaults("dataset", "mnist", root=str(data_root), in_memory=in_memory)
    data: Data = DATASETS.build(keys, 0)
    # the file has no copies, so some are made
    source = data.train.source
    assert isinstance(source, TensorSource)
    some, test = data.train.positions[:12], data.test.source
    assert isinstance(test, TensorSource)
    source.inputs[0][some[5:9]] = source.inputs[0][some[:4]]
    test.inputs[0][:3] = source.inputs[0][some[:3]]
    found = survey(data, settings())
    digests = {
        name: [hashlib.sha256(picture.numpy().tobytes()).digest() for picture in split.head(len(split))]
        for name, split in data.splits().items()
    }
    known = {*digests["train"]}
    for name, each in digests.items():
        assert found.parts[name].repeated == len(each) - len({*each})
    assert found.parts["train"].repeated >= 4
    for name in ("val", "test"):
        shared = sum(digest in known for digest in digests[name])
        assert sum(f"{shared} {name} sample" in text for text in texts(found, "leak")) == (shared > 0)
    assert not found.in_memory or in_memory


def test_the_checks_of_a_start_cost_a_fraction_of_it(data_root: Path) -> None:
    data: Data = DATASETS.build(defaults("dataset", "mnist", root=str(data_root)), 0)
    at_start(data, settings())
    times = []
    for _ in range(3):
        started = time.process_time()
        at_start(data, settings())
        times.append(time.process_time() - started)
    assert min(times) < 0.3  # 0.04 s of a core of its own; a start takes seconds


def test_a_run_warns_behind_its_first_lines(train: Train) -> None:
    small = ["dataset=synthetic", "dataset.kind=table", "dataset.shape=[4]", "dataset.samples=40", "logger=none"]
    result = train(*small, "max_steps=1", "dataset.classes=2", "model=gru")
    assert result.code == 0, result.err
    (warning,) = [line for line in (result.out + result.err).splitlines() if "less than batch_size" in line]
    assert warning.endswith("a smaller batch_size makes more steps")


def test_normalisation_is_told_for_each_channel() -> None:
    norm = Normalise(torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0]), torch.ones(5))
    source = TensorSource((torch.rand(6, 5),), CLEAN.targets)
    found = survey(data_of(source, normalise=norm, **WHOLE), settings())
    assert found.scaled == "mean 1 2 3 4 … (5 channels), deviation 1 1 1 1 … (5 channels)"
    assert found.to_dict()["normalise"] == {"mean": (1, 2, 3, 4, 5), "deviation": (1, 1, 1, 1, 1)}
