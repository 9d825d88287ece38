"""Targets far from zero: they keep their differences, and ordinary ones stay as they were."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.helpers import load_data, table_spec
from trainer.config import ConfigError
from trainer.data.data import Data, ReadOptions
from trainer.data.preprocess import need_float64
from trainer.data.sources import Split, TensorSource
from trainer.data.standardise import standardise
from trainer.loss._values import ValueLoss
from trainer.metrics import METRICS, Sums

NOISE = np.random.default_rng(0).normal(size=(500, 2))
UNIX_TIMES = NOISE * [25, 3] + [1.7e9, 40]


def read(values: Any, normalise: bool = True, run: dict[str, Any] | None = None) -> Data:
    source = TensorSource((torch.zeros(500, 4),), torch.from_numpy(values))
    whole = Split.all(source)
    train, test = whole.take(torch.arange(400)), whole.take(torch.arange(400, 500))
    data = Data(table_spec("regression", 2), train, None, test)
    return standardise(data, ReadOptions(run), normalise=normalise)


def test_targets_far_from_zero_stay_float64_and_have_the_moments_of_numpy() -> None:
    data = read(UNIX_TIMES)
    assert data.spec.needs_float64
    assert data.train.targets.dtype == data.test.targets.dtype == torch.float64
    assert data.train.source is data.test.source
    np.testing.assert_allclose(data.spec.target_mean, UNIX_TIMES[:400].mean(0), rtol=1e-15)
    np.testing.assert_allclose(data.spec.target_std, UNIX_TIMES[:400].std(0), rtol=1e-9)
    data.check()


@pytest.mark.parametrize("values", [NOISE, NOISE * 80_000 + 180_000, NOISE * [10, 1] + [2000, 300]], ids=str)
def test_ordinary_targets_are_float32_with_the_moments_of_float32(values: Any) -> None:
    data = read(values)
    assert not data.spec.needs_float64
    rounded = torch.from_numpy(values[:400]).float()
    assert torch.equal(data.train.targets, rounded)
    assert data.spec.target_mean == tuple(rounded.double().mean(0).tolist())
    assert data.spec.target_std == tuple(rounded.double().std(0, correction=0).tolist())
    data.check()


@pytest.mark.parametrize("scale", [1e-50, 1e-35])
def test_targets_smaller_than_float32_can_hold_are_told_apart(scale: float) -> None:
    data = read(NOISE * scale)
    loss = ValueLoss(data.spec, torch.nn.functional.mse_loss)
    assert loss(torch.zeros(400, 2), data.train.targets).item() == pytest.approx(1, rel=1e-3)


def test_a_constant_target_has_the_scale_1() -> None:
    for constant in (14.62, 1 / 3, 1.7e9 + 1 / 3):
        spec = read(np.full((500, 2), constant)).spec
        assert spec.target_std == (1.0, 1.0)


def test_without_standardisation_such_targets_are_a_warning() -> None:
    data = read(UNIX_TIMES, normalise=False)
    assert (data.spec.target_mean, data.train.targets.dtype) == ((), torch.float32)
    assert data.warnings == (
        "the values of class0 are so close to one another that float32 hardly tells them apart; "
        "dataset.normalise_targets=true subtracts their mean first",
    )
    assert read(NOISE, normalise=False).warnings == ()


def test_a_finished_run_keeps_its_own_mean_and_deviation() -> None:
    run = {"target_mean": [1.7e9, 0.0], "target_std": [25.0, 1.0]}
    data = read(NOISE, run=run)
    assert (data.spec.target_mean, data.test.targets.dtype) == ((1.7e9, 0.0), torch.float64)
    assert read(UNIX_TIMES, run={"target_mean": [0.0, 0.0], "target_std": [1.0, 1.0]}).test.targets.dtype == (
        torch.float32
    )


def test_loss_scores_and_metrics_are_those_of_float64() -> None:
    data = read(UNIX_TIMES)
    loss = ValueLoss(data.spec, torch.nn.functional.mse_loss)
    mean, std = (np.array(each) for each in (data.spec.target_mean, data.spec.target_std))
    outputs = torch.from_numpy((UNIX_TIMES - mean) / std + NOISE[::-1] * 0.1).float()
    found = loss(outputs, torch.from_numpy(UNIX_TIMES))
    assert found.dtype == torch.float32
    assert found.item() == pytest.approx((NOISE**2).mean() * 0.01, rel=1e-5)
    scores = outputs.numpy().astype(np.float64) * std + mean
    assert loss.scores(outputs).numpy() == pytest.approx(scores, rel=1e-15)
    sums = Sums(data.spec, torch.device("cpu"), loss.scores)
    for some, true in zip(outputs.split(64), torch.from_numpy(UNIX_TIMES).split(64), strict=True):
        sums.update(loss(some, true), len(some), some, true)
    values = sums.compute({name: METRICS[name, "regression"] for name in ("mae", "rmse", "r2")})
    error = scores - UNIX_TIMES
    r2 = 1 - (error**2).sum(0) / ((UNIX_TIMES - UNIX_TIMES.mean(0)) ** 2).sum(0)
    assert values["mae"] == pytest.approx(np.abs(error).mean(), rel=1e-6)
    assert values["rmse"] == pytest.approx(np.sqrt((error**2).mean()), rel=1e-6)
    assert values["r2"] == pytest.approx(r2.mean(), rel=1e-9)


def test_values_are_shown_with_the_digits_in_which_they_differ() -> None:
    spec = read(UNIX_TIMES).spec
    assert [spec.value_text(0, 1700000012.345678), spec.value_text(1, 40.5678)] == ["1700000012.35", "40.57"]
    assert float(spec.value_text(0, 1700000012.3456789, 9)) == 1700000012.3456789
    assert table_spec("regression", 2).value_text(0, 1234.5678) == "1235"


def test_a_device_without_float64_is_one_line() -> None:
    need_float64(read(NOISE).spec, torch.device("mps"))
    with pytest.raises(ConfigError, match=r"^device: mps has no float64, which .*; subtract a constant from them, or"):
        need_float64(read(UNIX_TIMES).spec, torch.device("mps"))


@pytest.mark.parametrize(
    ("values", "warning"),
    [
        ([2.5] * 20, "y is 2.5 in every train sample, so that nothing can be learned"),
        (
            [1_600_000_000_000_000_000 + n for n in range(20)],  # nanoseconds since 1970
            "the values of y are so large that float64 hardly tells them apart; subtract the smallest first",
        ),
        ([1_600_000_000_000 + n for n in range(20)], ""),
    ],
)
def test_values_from_which_nothing_can_be_learned_are_a_warning(
    tmp_path: Path, values: list[float], warning: str
) -> None:
    file = tmp_path / "a.csv"
    file.write_text("x,z,y\n" + "".join(f"{0.7 * n},{1.3 * n * n},{value}\n" for n, value in enumerate(values)))
    warnings = load_data("csv", file, target="y", task="regression").warnings
    assert [each for each in warnings if each.startswith(("y ", "the values"))] == ([warning] if warning else [])
