"""Mean and standard deviation against numpy's two passes in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from trainer.data.data import Normalise
from trainer.data.moments import Moments
from trainer.data.sources import Split, TensorSource

GENERATOR = np.random.default_rng(0)
NOISE = GENERATOR.normal(size=(2, 20_000))
ONE_OFF = np.full((2, 20_000), 255, np.uint8)
ONE_OFF[0, 17], ONE_OFF[1, :3] = 254, 0


def measured(values: Any, chunk: int) -> tuple[Any, Any]:
    found = Moments()
    for part in torch.from_numpy(values).split(chunk, dim=1):
        found.add(part)
    mean, std = found.result()
    return mean.numpy(), std.numpy()


@pytest.mark.parametrize("chunk", [1, 700, 20_000])
@pytest.mark.parametrize(
    "values",
    [
        NOISE.astype(np.float32),
        (NOISE * 25 + 1.7e9),
        (NOISE * 1e-3 + 300).astype(np.float32),
        np.where(np.arange(20_000) == 0, 0, NOISE + 1e8),  # the first value is far from all others
        (NOISE * 9_000).astype(np.int16),
        (NOISE * 5 + 2**30).astype(np.int32),
        GENERATOR.integers(0, 256, (3, 20_000), dtype=np.uint8),
        ONE_OFF,
    ],
    ids=["float32", "unix times", "kelvin", "outlier first", "int16", "int32", "uint8", "one byte off"],
)
def test_the_moments_are_those_of_two_passes_in_float64(values: Any, chunk: int) -> None:
    if chunk == 1:
        values = values[:, :300]
    mean, std = measured(values, chunk)
    np.testing.assert_allclose(mean, values.astype(np.float64).mean(1), rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(std, values.astype(np.float64).std(1), rtol=1e-7)


@pytest.mark.parametrize("constant", [14.62, 0.7, 1 / 3, -1e9 / 7, 1e-40, 3e38, 7, 2**24 + 1])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64])
def test_a_constant_has_its_value_as_mean_and_no_deviation(constant: float, dtype: Any) -> None:
    if dtype == np.int64:
        constant = int(min(constant, 2**53))
    values = np.full((1, 20_000), constant, dtype=dtype)
    mean, std = measured(values, 512)
    assert (mean.tolist(), std.tolist()) == ([float(values[0, 0])], [0.0])


@pytest.mark.parametrize("constant", range(0, 256, 15))
def test_a_constant_pixel_has_no_deviation(constant: int) -> None:
    mean, std = measured(np.full((1, 30_001), constant, dtype=np.uint8), 10_000)
    assert (mean.tolist(), std.tolist()) == ([constant], [0.0])


def measured_normalise(values: torch.Tensor) -> Normalise:
    return Normalise.measure(Split.all(TensorSource((values,), torch.zeros(len(values)))))


def test_a_column_that_is_constant_in_train_is_left_as_it_is_in_new_data() -> None:
    normalise = measured_normalise(torch.full((20_000, 1), 14.62))
    assert normalise(torch.tensor([[14.62], [14.63]])).flatten().tolist() == pytest.approx([0, 0.01], abs=1e-6)


def test_a_deviation_that_float32_cannot_hold_is_none() -> None:
    values = torch.zeros(10_000, 1)
    values[0] = 1e-45
    assert measured_normalise(values)(values).isfinite().all()
