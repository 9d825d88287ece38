"""Rows of tables that are equal by chance or by copying, columns that tell the target, and rows sorted by class."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from tests.data.test_checks import data_of, settings
from trainer.data import Data, TensorSource
from trainer.data.checks import at_start, survey
from trainer.data.findings import Finding
from trainer.spec import Task

NUM_ROWS = 400


def draws(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def table(values: Tensor, targets: Tensor, task: Task = "classification", *, columns: Sequence[str] = ()) -> Data:
    """A table of which three quarters, at random, are train, and the others test."""
    order = torch.randperm(len(values), generator=torch.Generator().manual_seed(1)).tolist()
    num_train = 3 * len(values) // 4
    source = TensorSource((values,), targets)
    classes = int(targets.max()) + 1 if task == "classification" else targets.shape[1]
    return data_of(
        source,
        train=sorted(order[:num_train]),
        test=order[num_train:],
        task=task,
        classes=classes,
        preprocess={"columns": [*columns]},
    )


def found_in(data: Data, *checks: str, words: tuple[str, ...] = ()) -> list[Finding]:
    return [finding for finding in survey(data, settings(*words)).findings if finding.check in checks]


def coarse(kind: str) -> Tensor:
    """Rows of few different values: three levels in each of six columns, their one-hot codes, or rounded numbers."""
    levels = torch.randint(0, 3, (NUM_ROWS, 6), generator=torch.Generator().manual_seed(0))
    if kind == "levels":
        return levels.float()
    if kind == "one-hot":
        return torch.nn.functional.one_hot(levels[:, :4], 3).flatten(1).float()
    return (draws(NUM_ROWS, 1) + draws(NUM_ROWS, 4, seed=1) / 4).mul(
        10
    ).round() / 10  # columns that depend on one another


@pytest.mark.parametrize("kind", ["levels", "one-hot", "rounded"])
def test_equal_rows_of_few_values_are_a_note_that_advises_nothing(kind: str) -> None:
    data = table(coarse(kind), torch.arange(NUM_ROWS) % 2)
    found = found_in(data, "leak", "contradiction")
    assert {finding.check for finding in found} == {"leak", "contradiction"}
    for finding in found:
        assert finding.level == "note"
        assert ", by chance, as the columns have few different values: " in finding.text
        assert "remove" not in finding.text
        assert "right" not in finding.text
    assert not [line for line in at_start(data, settings()) if "same content" in line]


@pytest.mark.parametrize("kind", ["continuous", "rounded"])
def test_a_block_of_rows_that_was_copied_is_a_leak(kind: str) -> None:
    values = draws(NUM_ROWS, 5)
    if kind == "rounded":
        values = values.mul(10).round() / 10
    values = torch.cat([values, values[:200]])
    data = table(values, torch.arange(len(values)) % 2)
    (leak,) = found_in(data, "leak")
    assert leak.level == "warning"
    assert "remove them from train" in leak.text
    assert leak.text in at_start(data, settings())


def test_a_column_that_tells_the_class_alone_is_named() -> None:
    values, targets = draws(NUM_ROWS, 3), torch.arange(NUM_ROWS) % 3
    names = ["age", "code", "height"]
    assert found_in(table(values, targets, columns=names), "target_column") == []
    for copy in (7.0 - 3 * targets, targets + draws(NUM_ROWS).abs().clamp(max=1) / 2, (targets + 1) % 3 + 10.0):
        told = values.clone()
        told[:, 1] = copy
        (finding,) = found_in(
            table(told, targets, columns=names), "target_column", words=("dataset=csv", "dataset.path=a.csv")
        )
        assert (finding.level, finding.text) == (
            "note",
            "column code tells the class of every train sample alone; leave out (dataset.ignore) what is known only "
            "with the answer",
        )
    values[:, 1] = torch.where(torch.arange(NUM_ROWS) < 10, 9, 7.0 - 3 * targets)  # the first rows are of all classes
    assert found_in(table(values, targets, columns=names), "target_column") == []


def test_a_column_that_is_nearly_a_copy_of_a_value_is_named() -> None:
    values = draws(NUM_ROWS, 3)
    price = 1e6 + 3 * values[:, :1] + draws(NUM_ROWS, 1, seed=2)
    values[:, 2] = price[:, 0] * -0.19 + 0.001 * draws(NUM_ROWS, seed=3)
    (finding,) = found_in(table(values, price, "regression"), "target_column", words=("loss=mse",))
    assert finding.level == "note"
    assert finding.text.startswith("column 2 is nearly a copy of class0 (correlation -0.99")


def test_rows_sorted_by_class_are_a_note_and_a_column_that_counts_them_a_warning() -> None:
    targets = torch.arange(NUM_ROWS) * 3 // NUM_ROWS
    values = draws(NUM_ROWS, 3)
    (note,) = found_in(table(values, targets), "order")
    assert (note.level, note.text) == ("note", "the rows are sorted by class; training shuffles them")
    values[:, 1] = torch.arange(NUM_ROWS) * 1.5 + draws(NUM_ROWS)  # such as the time of each row
    data = table(values, targets, columns=["age", "time", "height"])
    (warning,) = found_in(data, "order")
    assert (warning.level, warning.text) == (
        "warning",
        "the rows are sorted by class, and column time runs with their order, so it may give the class away; leave it "
        "out",
    )
    assert warning.text in at_start(data, settings())
    mixed = targets[torch.randperm(NUM_ROWS, generator=torch.Generator().manual_seed(0))]
    assert found_in(table(values, mixed), "order") == []
