"""Batches that a caller of ``trainer.load`` passes: converted to tensors, or refused with the shape that is right."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from tests.helpers import image_spec, make_spec
from trainer.commands.raw_inputs import as_tensors
from trainer.spec import Spec

IMAGE, TABLE, TOKENS = image_spec(1, 8, 8), make_spec("table", (3,)), make_spec("tokens", (6,), vocabulary=9)
STEPS = Spec("made_up", "sequence", (6, 2), "classification", ("a", "b"), varying=True)
SOUNDS = Spec("made_up", "spectrogram", (1, 20, 40), "classification", ("a", "b"), varying=True)


@pytest.mark.parametrize(
    ("spec", "given", "dtype"),
    [
        (IMAGE, np.zeros((2, 1, 8, 8)), torch.float32),
        (IMAGE, np.zeros((2, 1, 8, 8), np.uint8), torch.uint8),
        (IMAGE, torch.zeros(2, 1, 8, 8).tolist(), torch.float32),
        (TABLE, [[1, 2, 3], [4, 5, 6]], torch.float32),
        (TOKENS, [[1, 2, 3, 4, 5, 6]] * 2, torch.int64),
        (STEPS, (np.zeros((2, 4, 2)), [4, 1]), torch.float32),
        (SOUNDS, (np.zeros((2, 900), np.int16), np.array([900, 3])), torch.int16),
    ],
)
def test_arrays_and_lists_become_tensors(spec: Spec, given: Any, dtype: torch.dtype) -> None:
    values, *lengths = as_tensors(given, spec, spec.shape, waves=spec is SOUNDS)
    assert values.dtype == dtype and len(values) == 2
    assert [each.dtype for each in lengths] == [torch.int64] * spec.varying


@pytest.mark.parametrize(
    ("spec", "given", "message"),
    [
        (IMAGE, torch.zeros(1, 8, 8), r"must have the shape \(batch, 1, 8, 8\), got \(1, 8, 8\)"),
        (IMAGE, torch.zeros(2, 1, 8, 9), r"must have the shape \(batch, 1, 8, 8\), got \(2, 1, 8, 9\)"),
        (IMAGE, (torch.zeros(2, 1, 8, 8), [1, 2]), r"got \(2, 1, 8, 8\) and \(2,\)"),
        (TABLE, [[1, 2], [3]], r"must be numbers of shape \(batch, 3\)"),
        (TABLE, "abc", r"must be numbers of shape \(batch, 3\)"),
        (TABLE, None, r"must be numbers of shape \(batch, 3\)"),
        (TABLE, (), r"must be numbers of shape \(batch, 3\)"),
        (TOKENS, torch.zeros(2, 6), "must be whole numbers, got torch.float32"),
        (TOKENS, [[1, 2, 3, 4, 5, 9]], "must be tokens from 0 to 8"),
        (STEPS, torch.zeros(2, 4, 2), r"\(batch, steps, 2\) and lengths \(batch,\), got \(2, 4, 2\)"),
        (STEPS, (torch.zeros(2, 4, 2), [4, 5]), r"lengths: must be from 1 to 4, .* got \[4, 5\]"),
        (STEPS, (torch.zeros(2, 4, 2), [4]), r"got \(2, 4, 2\) and \(1,\)"),
    ],
)
def test_another_shape_is_refused_with_the_right_one(spec: Spec, given: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        as_tensors(given, spec, spec.shape, waves=False)
