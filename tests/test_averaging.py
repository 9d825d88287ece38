"""The moving average of the weights, against its formula."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from tests.helpers import assert_close
from trainer.averaging import Ema


def make_model() -> nn.Sequential:
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 2)).double()


def train_a_step(model: nn.Module) -> None:
    """Change every weight and every buffer of a model."""
    model.train()
    model(torch.randn(8, 3, dtype=torch.float64))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter))


def copied(model: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


@pytest.mark.parametrize("decay", [0.05, 0.3, 0.9, 0.9999])
def test_average_follows_its_formula(decay: float) -> None:
    model = make_model()
    ema, wanted = Ema(model, decay), copied(model)
    for step in range(30):
        train_a_step(model)
        ema.update(step)
        now = min(decay, (1 + step) / (10 + step))
        for name, weight in model.state_dict().items():
            wanted[name] = now * wanted[name] + (1 - now) * weight if weight.is_floating_point() else weight.clone()
    for name, average in ema.model.state_dict().items():
        assert_close(average, wanted[name])


def test_first_step_keeps_a_tenth_of_the_first_weights() -> None:
    model = nn.Linear(1, 1, bias=False)
    nn.init.constant_(model.weight, 10.0)
    ema = Ema(model, 0.999)
    nn.init.constant_(model.weight, 20.0)
    ema.update(0)
    assert float(ema.model.state_dict()["weight"]) == pytest.approx(19.0)


def test_buffers_are_averaged_or_copied() -> None:
    model = make_model()
    ema = Ema(model, 0.5)
    before = copied(model)
    for _ in range(3):
        train_a_step(model)
    ema.update(1000)
    average, now = ema.model.state_dict(), model.state_dict()
    assert int(average["1.num_batches_tracked"]) == 3
    for name in ("1.running_mean", "1.running_var"):
        assert not torch.equal(now[name], before[name])
        torch.testing.assert_close(average[name], (before[name] + now[name]) / 2)


def test_average_starts_as_the_weights_and_moves_only_when_told() -> None:
    model = make_model()
    ema, start = Ema(model, 0.9), copied(model)
    train_a_step(model)
    assert all(torch.equal(average, start[name]) for name, average in ema.model.state_dict().items())
    assert not torch.equal(model.state_dict()["0.weight"], start["0.weight"])


def test_update_leaves_the_model_as_it_is() -> None:
    model = make_model()
    ema = Ema(model, 0.9)
    train_a_step(model)
    before = copied(model)
    ema.update(5)
    assert all(torch.equal(weight, before[name]) for name, weight in model.state_dict().items())
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert not any(parameter.requires_grad for parameter in ema.model.parameters())


def test_average_goes_on_from_its_state() -> None:
    model = make_model()
    whole = Ema(model, 0.9)
    for step in range(4):
        train_a_step(model)
        whole.update(step)
    state = {name: tensor.clone() for name, tensor in whole.model.state_dict().items()}
    assert list(state) == list(model.state_dict())
    resumed_model = make_model()
    resumed = Ema(resumed_model, 0.9)
    resumed.model.load_state_dict(state)
    for step in range(4, 8):
        train_a_step(model)
        resumed_model.load_state_dict(model.state_dict())
        whole.update(step)
        resumed.update(step)
    for name, average in whole.model.state_dict().items():
        assert torch.equal(average, resumed.model.state_dict()[name])
        assert name == "1.num_batches_tracked" or not torch.equal(average, state[name])


def test_shared_weights_are_averaged_once() -> None:
    first, second = nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False)
    second.weight = first.weight
    nn.init.constant_(first.weight, 0.0)
    ema = Ema(nn.Sequential(first, second), 0.5)
    nn.init.constant_(first.weight, 8.0)
    ema.update(1000)
    assert all((average == 4.0).all() for average in ema.model.state_dict().values())


def test_copied_recurrent_layers_lie_in_one_piece_again(monkeypatch: pytest.MonkeyPatch) -> None:
    model, joined = nn.Sequential(nn.GRU(3, 4), nn.Linear(4, 2)), list[nn.Module]()
    monkeypatch.setattr(nn.GRU, "flatten_parameters", lambda layer: joined.extend([layer]))
    ema = Ema(model, 0.9)
    assert joined[-1] is next(ema.model.children())
