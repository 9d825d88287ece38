"""The picture of a confusion matrix: its shades, numbers and names."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from trainer.logger._confusion import MARGIN, draw_confusion


def corner_of_cell(drawn: Tensor, true: int, guess: int, classes: int) -> int:
    """The brightness near the corner of a cell, beside its number."""
    cell = (drawn.shape[1] - MARGIN - 10) // classes
    return int(drawn[:, MARGIN + true * cell + 2, MARGIN + guess * cell + 2].sum())


@pytest.mark.parametrize("classes", [2, 10, 40, 41, 100])
def test_confusion_picture_of_right_answers_has_a_dark_diagonal(classes: int) -> None:
    drawn = draw_confusion(5 * torch.eye(classes, dtype=torch.int64), [f"name {number}" for number in range(classes)])
    assert drawn.dtype == torch.uint8 and drawn.ndim == 3 and drawn.shape[0] == 3
    assert drawn.shape[1] == drawn.shape[2] <= 1600
    shades = [[corner_of_cell(drawn, true, guess, classes) for guess in range(classes)] for true in range(classes)]
    for true in range(classes):
        for guess in range(classes):
            assert shades[true][guess] == (8 + 64 + 129 if true == guess else 3 * 255)


def test_confusion_picture_has_true_classes_as_rows_and_shades_each_over_its_sum() -> None:
    drawn = draw_confusion(torch.tensor([[100, 300, 0], [0, 0, 0], [1, 0, 1]]), ["a", "b", "c"])
    shades = [[corner_of_cell(drawn, true, guess, 3) for guess in range(3)] for true in range(3)]
    white = 3 * 255
    assert shades[0][1] < shades[0][0] < white  # three quarters, a quarter
    assert shades[0][0] == pytest.approx(white - (white - 201) / 4, abs=2)
    assert shades[1] == [white] * 3  # a class without a sample
    assert shades[2][0] == shades[2][2] == pytest.approx(white - (white - 201) / 2, abs=2)
    assert shades[0][2] == shades[2][1] == white


def test_confusion_picture_names_its_classes_and_counts() -> None:
    counts = torch.eye(3, dtype=torch.int64)
    unnamed, named = draw_confusion(counts, ["", "", ""]), draw_confusion(counts, ["cat", "dog", "a very long name"])
    assert unnamed.shape == named.shape
    different = (unnamed != named).any(0)
    assert different[MARGIN:, :MARGIN].any() and different[:MARGIN, MARGIN:].any()  # rows and columns
    assert not different[MARGIN:, MARGIN:].any()
    more = draw_confusion(7 * counts, ["", "", ""])
    assert (unnamed != more).any()  # the same shades, other numbers
