"""Every schedule against torch's own scheduler over a whole run, warm-up, plateau and runs of few steps."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.optim import lr_scheduler

from tests.helpers import defaults
from trainer.scheduler import SCHEDULERS, Horizon

EPOCH = 6
RUNS = [Horizon(5 * EPOCH, EPOCH), Horizon(5 * EPOCH + 3, EPOCH), Horizon(4, EPOCH), Horizon(200, 1)]
WITH_WARMUP = [name for name in SCHEDULERS.names() if "warmup_epochs" in SCHEDULERS.keys(name)]

runs = pytest.mark.parametrize("horizon", RUNS, ids=str)


def build(horizon: Horizon, name: str, **keys: Any) -> Any:
    return SCHEDULERS.build(defaults("scheduler", name, **keys), horizon)


def factors(horizon: Horizon, name: str, **keys: Any) -> list[float]:
    schedule = build(horizon, name, **keys)
    return [schedule.factor(step) for step in range(horizon.total_steps)]


def torchs(
    make: Callable[[torch.optim.Optimizer], lr_scheduler.LRScheduler], horizon: Horizon, *, each: int = 1
) -> list[float]:
    """Return the learning rates of torch's scheduler, from 1 and stepped after every ``each`` steps."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler, rates = make(optimizer), []
    for step in range(1, horizon.total_steps + 1):
        rates.append(float(optimizer.param_groups[0]["lr"]))
        optimizer.step()
        if step % each == 0 and step < horizon.total_steps:
            scheduler.step()
    return rates


def same(rates: list[float]) -> Any:
    """Return rates that equal others up to the rounding errors of torch, which multiplies from step to step."""
    return pytest.approx(rates, rel=1e-9, abs=1e-12)


@runs
def test_constant_stays_1(horizon: Horizon) -> None:
    assert factors(horizon, "constant") == [1.0] * horizon.total_steps


@runs
@pytest.mark.parametrize("end", [0.0, 0.1, 1.0])
def test_cosine_is_torchs(horizon: Horizon, end: float) -> None:
    theirs = torchs(lambda o: lr_scheduler.CosineAnnealingLR(o, horizon.total_steps, eta_min=end), horizon)
    assert factors(horizon, "cosine", end_factor=end) == same(theirs)


@runs
@pytest.mark.parametrize("end", [0.0, 0.1, 1.0])
def test_linear_is_torchs(horizon: Horizon, end: float) -> None:
    theirs = torchs(
        lambda o: lr_scheduler.LinearLR(o, start_factor=1, end_factor=end, total_iters=horizon.total_steps), horizon
    )
    assert factors(horizon, "linear", end_factor=end) == same(theirs)


@runs
@pytest.mark.parametrize("epochs", [1, 2, 7])
@pytest.mark.parametrize("gamma", [0.1, 1.5])
def test_step_is_torchs(horizon: Horizon, epochs: int, gamma: float) -> None:
    theirs = torchs(lambda o: lr_scheduler.StepLR(o, epochs, gamma), horizon, each=horizon.steps_per_epoch)
    assert factors(horizon, "step", step_epochs=epochs, gamma=gamma) == same(theirs)


@runs
@pytest.mark.parametrize("milestones", [[], [1], [2, 3], [3, 1, 1], [100]], ids=str)
def test_multistep_is_torchs(horizon: Horizon, milestones: list[int]) -> None:
    theirs = torchs(lambda o: lr_scheduler.MultiStepLR(o, milestones, 0.3), horizon, each=horizon.steps_per_epoch)
    assert factors(horizon, "multistep", milestones=milestones, gamma=0.3) == same(theirs)


@runs
@pytest.mark.parametrize("gamma", [0.9, 1.1])
def test_exponential_is_torchs(horizon: Horizon, gamma: float) -> None:
    theirs = torchs(lambda o: lr_scheduler.ExponentialLR(o, gamma), horizon, each=horizon.steps_per_epoch)
    assert factors(horizon, "exponential", gamma=gamma) == same(theirs)


@pytest.mark.parametrize("total", [1, 2, 3, 7, 30, 33, 200])
@pytest.mark.parametrize(("pct_start", "div", "final"), [(0.3, 25.0, 1e4), (0.6, 2.0, 3.0), (0.05, 1.0, 1.0)])
def test_onecycle_is_torchs(total: int, pct_start: float, div: float, final: float) -> None:
    horizon = Horizon(total, EPOCH)
    theirs = torchs(
        lambda o: lr_scheduler.OneCycleLR(
            o,
            max_lr=1.0,
            total_steps=total,
            pct_start=pct_start,
            div_factor=div,
            final_div_factor=final,
            cycle_momentum=False,
        ),
        horizon,
    )
    keys = {"pct_start": pct_start, "div_factor": div, "final_div_factor": final}
    assert factors(horizon, "onecycle", **keys) == same(theirs)


def test_onecycle_begins_peaks_and_ends_where_it_says() -> None:
    rates = factors(Horizon(101, EPOCH), "onecycle", pct_start=0.5, div_factor=10.0, final_div_factor=100.0)
    assert rates[0] == pytest.approx(1 / 10)
    assert max(rates) == pytest.approx(1.0, abs=1e-3) and 49 <= rates.index(max(rates)) <= 50
    assert rates[-1] == pytest.approx(1 / 1000)


# Warm-up


def test_every_schedule_but_onecycle_and_plateau_has_a_warmup() -> None:
    assert set(SCHEDULERS.names()) - set(WITH_WARMUP) == {"onecycle", "plateau"}


@pytest.mark.parametrize("name", WITH_WARMUP)
@pytest.mark.parametrize(("epochs", "steps"), [(2.0, 10), (0.5, 2), (1.0, 5), (0.01, 0)])
def test_warmup_rises_linearly_to_1_and_the_schedule_follows(name: str, epochs: float, steps: int) -> None:
    whole = factors(Horizon(40, 5), name, warmup_epochs=epochs)
    assert whole[:steps] == pytest.approx([(step + 1) / steps for step in range(steps)])
    if name in ("cosine", "linear"):  # they fill what the warm-up leaves
        assert whole[steps:] == pytest.approx(factors(Horizon(40 - steps, 5), name))
    else:  # the epochs of the others are those of the run
        assert whole[steps:] == pytest.approx(factors(Horizon(40, 5), name)[steps:])


# Plateau


@pytest.mark.parametrize("higher_is_better", [False, True], ids=["lower", "higher"])
@pytest.mark.parametrize("patience", [0, 1, 3])
@pytest.mark.parametrize("threshold", [0.0, 1e-4, 0.2])
@pytest.mark.parametrize("least", [0.0, 0.05])
@pytest.mark.parametrize("shift", [0.0, -3.0], ids=["positive", "negative"])
def test_plateau_is_torchs(higher_is_better: bool, patience: int, threshold: float, least: float, shift: float) -> None:
    values = (torch.rand(60, generator=torch.Generator().manual_seed(0)) + shift).tolist()
    values[20:24] = [values[19]] * 4  # standing still exactly
    assert follow_plateau(values, higher_is_better, patience, threshold, least) == same(
        torchs_plateau(values, higher_is_better, patience, threshold, least)
    )


@pytest.mark.parametrize("higher_is_better", [False, True], ids=["lower", "higher"])
@pytest.mark.parametrize("where", [0, 3])
def test_plateau_takes_a_value_that_is_no_number_for_no_improvement(higher_is_better: bool, where: int) -> None:
    values = [float(number if higher_is_better else -number) for number in range(1, 12)]
    values[where] = math.nan
    ours = follow_plateau(values, higher_is_better, 2, 1e-4, 0.0)
    assert ours == same(torchs_plateau(values, higher_is_better, 2, 1e-4, 0.0))
    assert ours[-1] == 1.0  # the others get better all the time


def follow_plateau(
    values: list[float], higher_is_better: bool, patience: int, threshold: float, least: float
) -> list[float]:
    schedule = build(
        Horizon(100, EPOCH), "plateau", factor=0.5, patience=patience, threshold=threshold, min_factor=least
    )
    rates = []
    for step, value in enumerate(values):
        schedule.observe(value, higher_is_better)
        rates.append(schedule.factor(step))
    return rates


def torchs_plateau(
    values: list[float], higher_is_better: bool, patience: int, threshold: float, least: float
) -> list[float]:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = lr_scheduler.ReduceLROnPlateau(
        optimizer,
        mode="max" if higher_is_better else "min",
        factor=0.5,
        patience=patience,
        threshold=threshold,
        min_lr=least,
        eps=0.0,
    )
    rates = []
    for value in values:
        scheduler.step(value)
        rates.append(float(optimizer.param_groups[0]["lr"]))
    return rates


def test_plateau_starts_at_1_and_does_not_follow_the_steps() -> None:
    schedule = build(Horizon(100, EPOCH), "plateau")
    assert [schedule.factor(step) for step in (0, 50, 99)] == [1.0] * 3


@pytest.mark.parametrize("cut", [0, 1, 5, 9])
def test_plateau_goes_on_from_its_state(cut: int) -> None:
    values = [1.0, 0.9, 0.95, 0.96, 0.97, 0.8, 0.85, 0.9, 0.9, 0.9, 0.7, 0.9, 0.9, 0.9]
    whole = build(Horizon(100, EPOCH), "plateau", patience=1, factor=0.5)
    before = build(Horizon(100, EPOCH), "plateau", patience=1, factor=0.5)
    for value in values[:cut]:
        whole.observe(value, False)
        before.observe(value, False)
    after = build(Horizon(100, EPOCH), "plateau", patience=1, factor=0.5)
    after.load_state_dict(before.state_dict())
    for step, value in enumerate(values[cut:]):
        whole.observe(value, False)
        after.observe(value, False)
        assert after.factor(step) == whole.factor(step)
    assert whole.state_dict() == after.state_dict()
    assert whole.factor(0) < 0.5  # it dropped more than once


@pytest.mark.parametrize("name", [name for name in SCHEDULERS.names() if name != "plateau"])
def test_other_schedules_are_functions_of_the_step_without_state(name: str) -> None:
    horizon = Horizon(5 * EPOCH, EPOCH)
    schedule, wanted = build(horizon, name), factors(horizon, name)
    assert schedule.state_dict() == {}
    schedule.load_state_dict({})
    schedule.observe(0.5, True)
    assert [schedule.factor(step) for step in reversed(range(horizon.total_steps))] == wanted[::-1]


# Runs of few steps


@pytest.mark.parametrize("name", SCHEDULERS.names())
@pytest.mark.parametrize("horizon", [Horizon(1, 1), Horizon(1, 10), Horizon(2, 1), Horizon(3, 2)], ids=str)
def test_shortest_runs_have_a_learning_rate(name: str, horizon: Horizon) -> None:
    assert all(0 <= factor <= 1 for factor in factors(horizon, name))
    assert 0 <= build(horizon, name).factor(horizon.total_steps) <= 1  # one step beyond the end


@pytest.mark.parametrize("name", ["constant", "cosine", "linear", "step", "multistep", "exponential"])
def test_a_run_of_one_step_takes_it_at_the_full_rate(name: str) -> None:
    assert factors(Horizon(1, 10), name) == [1.0]


@pytest.mark.parametrize("pct_start", [0.25, 0.5])
def test_onecycle_whose_peak_is_its_first_step_starts_there(pct_start: float) -> None:
    total = round(1 / pct_start)  # the rise has one step, where torch divides by zero
    rates = factors(Horizon(total, EPOCH), "onecycle", pct_start=pct_start)
    assert rates[0] == pytest.approx(1.0) and rates[-1] == pytest.approx(1 / 25e4)


@pytest.mark.parametrize("name", WITH_WARMUP)
@pytest.mark.parametrize("horizon", [Horizon(1, 1), Horizon(3, 10), Horizon(20, 10), Horizon(50, 10)], ids=str)
def test_warmup_of_the_whole_run_or_longer_keeps_rising(name: str, horizon: Horizon) -> None:
    steps = 5 * horizon.steps_per_epoch
    rates = factors(horizon, name, warmup_epochs=5.0)
    assert rates == pytest.approx([(step + 1) / steps for step in range(horizon.total_steps)])
