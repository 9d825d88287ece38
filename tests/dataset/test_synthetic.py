from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.helpers import defaults
from trainer.config import ConfigError
from trainer.data import Data
from trainer.dataset import DATASETS

SHAPES = {"image": [2, 6, 5], "sequence": [7, 3], "tokens": [9], "table": [4]}


def make(seed: int = 0, **keys: Any) -> Data:
    small = {
        "kind": "table",
        "shape": [4],
        "classes": 3,
        "samples": 50,
        "test_samples": 10,
        "val_fraction": 0.2,
        "val_seed": None,
    }
    data: Data = DATASETS.build(defaults("dataset", "synthetic", **{**small, "vocabulary": 30, **keys}), seed)
    return data


@pytest.mark.parametrize("kind", SHAPES)
@pytest.mark.parametrize("task", ["classification", "multilabel", "regression"])
def test_every_kind_and_task_has_the_shape_it_says(kind: Any, task: Any) -> None:
    if (kind, task) == ("tokens", "regression"):
        with pytest.raises(ConfigError, match=r"dataset\.task: "):
            make(kind=kind, shape=SHAPES[kind], task=task)
        return
    data = make(kind=kind, shape=SHAPES[kind], task=task)
    inputs, targets = data.train.head(40), data.train.targets
    assert inputs.shape == (40, *SHAPES[kind])
    assert inputs.dtype == (torch.int64 if kind == "tokens" else torch.float32)
    assert targets.shape == ((40,) if task == "classification" else (40, 3))
    assert data.spec.shape == tuple(SHAPES[kind])
    assert (data.spec.vocabulary == 30) == (kind == "tokens")
    if task != "regression":
        assert set(targets.unique().tolist()) <= {0, 1, 2}
        assert len(data.spec.counts) == 3


def test_the_seed_moves_val_and_nothing_else() -> None:
    one, two = make(0), make(1)
    assert torch.equal(one.test.head(10), two.test.head(10))
    assert torch.equal(one.train.source.targets, two.train.source.targets)
    assert one.val is not None
    assert two.val is not None
    assert not torch.equal(one.val.positions, two.val.positions)


@pytest.mark.parametrize("kind", ["sequence", "tokens"])
def test_lengths_vary_between_min_steps_and_the_shape_and_the_rest_is_zero(kind: Any) -> None:
    source = make(kind=kind, shape=SHAPES[kind], min_steps=2, samples=200).train.source
    inputs, lengths = source.fetch(torch.arange(200))
    assert set(lengths.tolist()) == set(range(2, SHAPES[kind][0] + 1))
    beyond = torch.arange(SHAPES[kind][0]) >= lengths[:, None]
    assert inputs[beyond].abs().sum() == 0
    if kind == "tokens":
        assert inputs[~beyond].min() > 0


@pytest.mark.parametrize(
    ("keys", "line"),
    [
        ({"kind": "image", "shape": [8, 8]}, "dataset.shape: must have 3 numbers for kind=image, got [8, 8]"),
        ({"classes": 1}, "dataset.classes: must be at least 2 for task=classification, got 1"),
        (
            {"min_steps": 2},
            "dataset.min_steps: only kind=sequence and kind=tokens have steps that vary, not kind=table",
        ),
        (
            {"kind": "tokens", "min_steps": 5},
            "dataset.min_steps: must be at most 4, the steps of dataset.shape, got 5",
        ),
    ],
    ids=str,
)
def test_keys_that_do_not_fit_each_other_are_named(keys: dict[str, Any], line: str) -> None:
    with pytest.raises(ConfigError) as caught:
        make(**keys)
    assert caught.value.problems == (line,)
