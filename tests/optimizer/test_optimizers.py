"""Every optimizer takes the steps of torch's class, bit for bit: of its fused kernel, where it has one."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.helpers import defaults
from trainer.config import ConfigError
from trainer.optimizer import OPTIMIZERS

Parameters = Iterable[nn.Parameter]

# The optimizers that the defaults in configs/optimizer have to build.
BY_HAND: dict[str, Callable[[Parameters], torch.optim.Optimizer]] = {
    "adagrad": lambda p: torch.optim.Adagrad(p, lr=0.02, lr_decay=0.0, eps=1e-10, weight_decay=0.0),
    "adam": lambda p: torch.optim.Adam(p, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0, fused=True),
    "adamw": lambda p: torch.optim.AdamW(p, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01, fused=True),
    "nadam": lambda p: torch.optim.NAdam(p, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0),
    "radam": lambda p: torch.optim.RAdam(p, lr=2e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0),
    "rmsprop": lambda p: torch.optim.RMSprop(p, lr=1e-3, alpha=0.99, eps=1e-8, momentum=0.0, weight_decay=0.0),
    "sgd": lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9, nesterov=False, weight_decay=0.0, fused=True),
}
# The same classes with another value for every key.
CHANGED: dict[str, tuple[dict[str, Any], Callable[[Parameters], torch.optim.Optimizer]]] = {
    "adagrad": (
        {"lr": 0.1, "lr_decay": 0.5, "eps": 1e-3, "weight_decay": 0.2},
        lambda p: torch.optim.Adagrad(p, lr=0.1, lr_decay=0.5, eps=1e-3, weight_decay=0.2),
    ),
    "adam": (
        {"lr": 0.1, "betas": [0.5, 0.7], "eps": 1e-3, "weight_decay": 0.2},
        lambda p: torch.optim.Adam(p, lr=0.1, betas=(0.5, 0.7), eps=1e-3, weight_decay=0.2, fused=True),
    ),
    "adamw": (
        {"lr": 0.1, "betas": [0.5, 0.7], "eps": 1e-3, "weight_decay": 0.2},
        lambda p: torch.optim.AdamW(p, lr=0.1, betas=(0.5, 0.7), eps=1e-3, weight_decay=0.2, fused=True),
    ),
    "nadam": (
        {"lr": 0.1, "betas": [0.5, 0.7], "eps": 1e-3, "weight_decay": 0.2},
        lambda p: torch.optim.NAdam(p, lr=0.1, betas=(0.5, 0.7), eps=1e-3, weight_decay=0.2),
    ),
    "radam": (
        {"lr": 0.1, "betas": [0.5, 0.7], "eps": 1e-3, "weight_decay": 0.2},
        lambda p: torch.optim.RAdam(p, lr=0.1, betas=(0.5, 0.7), eps=1e-3, weight_decay=0.2),
    ),
    "rmsprop": (
        {"lr": 0.1, "alpha": 0.5, "eps": 1e-3, "momentum": 0.3, "weight_decay": 0.2},
        lambda p: torch.optim.RMSprop(p, lr=0.1, alpha=0.5, eps=1e-3, momentum=0.3, weight_decay=0.2),
    ),
    "sgd": (
        {"lr": 0.1, "momentum": 0.3, "nesterov": True, "weight_decay": 0.2},
        lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.3, nesterov=True, weight_decay=0.2, fused=True),
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


@pytest.mark.parametrize("name", OPTIMIZERS.names())
def test_steps_with_the_defaults_are_torchs_bit_for_bit(name: str) -> None:
    ours = weights_after_steps(lambda parameters: OPTIMIZERS.build(defaults("optimizer", name), parameters))
    assert same(ours, weights_after_steps(BY_HAND[name]))
    assert not same(ours, weights_after_steps(BY_HAND[name], steps=7))  # the last step moved something


@pytest.mark.parametrize("name", OPTIMIZERS.names())
def test_steps_with_every_key_changed_are_torchs_bit_for_bit(name: str) -> None:
    changes, by_hand = CHANGED[name]
    keys = defaults("optimizer", name, **changes)
    assert changes.keys() == keys.keys() - {"name"}
    ours = weights_after_steps(lambda parameters: OPTIMIZERS.build(keys, parameters))
    assert same(ours, weights_after_steps(by_hand))


@pytest.mark.parametrize(("name", "key"), [(name, key) for name, (changes, _) in CHANGED.items() for key in changes])
def test_every_key_changes_the_steps(name: str, key: str) -> None:
    keys = defaults("optimizer", name, **{key: CHANGED[name][0][key]})
    ours = weights_after_steps(lambda parameters: OPTIMIZERS.build(keys, parameters))
    assert not same(ours, weights_after_steps(BY_HAND[name]))


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
