"""Every optimizer takes the steps of torch's class, bit for bit: of its fused kernel, where it has one."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.helpers import defaults
from trainer.config import ConfigError
from trainer.optimizer import OPTIMIZERS

Parameters = Iterable[nn.Parameter]

# For each optimizer: torch's class, the values of the defaults in configs/optimizer, and another value for every key.
ADAM = {"betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0.0}
CHANGED_ADAM = {"lr": 0.1, "betas": (0.5, 0.7), "eps": 1e-3, "weight_decay": 0.2}
CASES: dict[str, tuple[Callable[..., torch.optim.Optimizer], dict[str, Any], dict[str, Any]]] = {
    "adagrad": (
        torch.optim.Adagrad,
        {"lr": 0.02, "lr_decay": 0.0, "eps": 1e-10, "weight_decay": 0.0},
        {"lr": 0.1, "lr_decay": 0.5, "eps": 1e-3, "weight_decay": 0.2},
    ),
    "adam": (partial(torch.optim.Adam, fused=True), {"lr": 1e-3, **ADAM}, CHANGED_ADAM),
    "adamw": (partial(torch.optim.AdamW, fused=True), {"lr": 1e-3, **ADAM, "weight_decay": 0.01}, CHANGED_ADAM),
    "nadam": (torch.optim.NAdam, {"lr": 1e-3, **ADAM}, CHANGED_ADAM),
    "radam": (torch.optim.RAdam, {"lr": 2e-3, **ADAM}, CHANGED_ADAM),
    "rmsprop": (
        torch.optim.RMSprop,
        {"lr": 1e-3, "alpha": 0.99, "eps": 1e-8, "momentum": 0.0, "weight_decay": 0.0},
        {"lr": 0.1, "alpha": 0.5, "eps": 1e-3, "momentum": 0.3, "weight_decay": 0.2},
    ),
    "sgd": (
        partial(torch.optim.SGD, fused=True),
        {"lr": 0.05, "momentum": 0.9, "nesterov": False, "weight_decay": 0.0},
        {"lr": 0.1, "momentum": 0.3, "nesterov": True, "weight_decay": 0.2},
    ),
}


def weights_after_steps(make: Callable[[Parameters], torch.optim.Optimizer], steps: int = 8) -> list[Tensor]:
    """Return the weights of a small network after some steps; the network and the data are always the same.

    RAdam changes its rule at the sixth step, so there are eight steps by default.
    """
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3))
    optimizer = make(model.parameters())
    for _ in range(steps):
        loss = nn.functional.cross_entropy(model(torch.randn(16, 4)), torch.randint(0, 3, (16,)))
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return [parameter.detach() for parameter in model.parameters()]


def same(ones: list[Tensor], others: list[Tensor]) -> bool:
    return all(torch.equal(one, other) for one, other in zip(ones, others, strict=True))


def ours(name: str, **changes: Any) -> Callable[[Parameters], torch.optim.Optimizer]:
    return lambda parameters: OPTIMIZERS.build(defaults("optimizer", name, **changes), parameters)


def by_hand(name: str, **changes: Any) -> Callable[[Parameters], torch.optim.Optimizer]:
    make, values, _ = CASES[name]
    return lambda parameters: make(parameters, **{**values, **changes})


@pytest.mark.parametrize("name", OPTIMIZERS.names())
def test_steps_with_the_defaults_are_torchs_bit_for_bit(name: str) -> None:
    weights = weights_after_steps(ours(name))
    assert same(weights, weights_after_steps(by_hand(name)))
    assert not same(weights, weights_after_steps(by_hand(name), steps=7))  # the last step moved something


@pytest.mark.parametrize("name", OPTIMIZERS.names())
def test_steps_with_every_key_changed_are_torchs_bit_for_bit(name: str) -> None:
    changes = CASES[name][2]
    assert changes.keys() == defaults("optimizer", name).keys() - {"name"}
    assert same(weights_after_steps(ours(name, **changes)), weights_after_steps(by_hand(name, **changes)))


@pytest.mark.parametrize(("name", "key"), [(name, key) for name, (*_, changes) in CASES.items() for key in changes])
def test_every_key_changes_the_steps(name: str, key: str) -> None:
    changed = ours(name, **{key: CASES[name][2][key]})
    assert not same(weights_after_steps(changed), weights_after_steps(by_hand(name)))


@pytest.mark.parametrize("name", OPTIMIZERS.names())
def test_default_learning_rate_makes_the_loss_smaller(name: str) -> None:
    weight = nn.Parameter(torch.tensor([1.0, -2.0]))
    optimizer = OPTIMIZERS.build(defaults("optimizer", name), [weight])
    for _ in range(20):
        weight.square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()
    assert float(weight.detach().square().sum()) < 5.0


def test_nesterov_without_momentum_is_refused() -> None:
    with pytest.raises(ConfigError, match="optimizer=sgd: Nesterov"):
        OPTIMIZERS.build(defaults("optimizer", "sgd", nesterov=True, momentum=0.0), [nn.Parameter(torch.ones(1))])
