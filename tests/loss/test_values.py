"""The losses over values against their formulas, and standardised targets."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from tests.helpers import assert_close, table_spec
from tests.loss.cases import (
    SAMPLES,
    SPECS,
    build,
    make_outputs,
    make_targets,
)

VALUE_FORMULAS: dict[str, Callable[[Tensor], Tensor]] = {
    "mse": lambda error: error**2,
    "l1": lambda error: error.abs(),
    "huber": lambda error: torch.where(error.abs() <= 1, error**2 / 2, error.abs() - 0.5),
}


@pytest.mark.parametrize("name", VALUE_FORMULAS)
@pytest.mark.parametrize("data", ["values", "one value", "labels"])
def test_loss_over_values_follows_its_formula(name: str, data: str) -> None:
    loss = build(name, SPECS[data])
    outputs, targets = make_outputs(loss), make_targets(SPECS[data])
    wanted = VALUE_FORMULAS[name](outputs - targets.double()).mean()
    assert_close(loss(outputs, targets), wanted)


@pytest.mark.parametrize("name", VALUE_FORMULAS)
@pytest.mark.parametrize("data", ["two classes", "four classes"])
def test_loss_over_values_takes_classes_as_one_hot(name: str, data: str) -> None:
    loss = build(name, SPECS[data])
    outputs, targets = make_outputs(loss), make_targets(SPECS[data])
    one_hot = torch.zeros_like(outputs)
    for sample, target in enumerate(targets):
        one_hot[sample, target] = 1
    wanted = VALUE_FORMULAS[name](outputs - one_hot).mean()
    assert_close(loss(outputs, targets), wanted)


@pytest.mark.parametrize("delta", [0.25, 1.0, 4.0])
def test_huber_bends_at_delta(delta: float) -> None:
    loss = build("huber", SPECS["one value"], delta=delta)
    errors = torch.tensor([[0.2], [-1.0], [3.0], [-5.0]], dtype=torch.float64)
    wanted = [e**2 / 2 if abs(e) <= delta else delta * (abs(e) - delta / 2) for e in errors.flatten().tolist()]
    got = [float(loss(error[None], torch.zeros(1, 1))) for error in errors]
    assert got == pytest.approx(wanted, rel=1e-12)


@pytest.mark.parametrize("name", ["mse", "l1", "huber"])
def test_a_loss_sees_values_in_units_of_their_deviation_and_its_scores_are_in_their_own(name: str) -> None:
    mean, std = torch.tensor([1000.0, -2.0]), torch.tensor([250.0, 0.5])
    spec = dataclasses.replace(
        table_spec("regression", 2, dataset="prices"), target_mean=tuple(mean.tolist()), target_std=tuple(std.tolist())
    )
    plain, loss = build(name, table_spec("regression", 2, dataset="prices")), build(name, spec)
    outputs, targets = torch.randn(SAMPLES, 2).double(), torch.randn(SAMPLES, 2)
    assert_close(loss(outputs, targets * std + mean), plain(outputs, targets), tolerance=1e-4)
    assert_close(loss.scores(outputs), outputs * std + mean)
    assert loss.state_dict() == {}
