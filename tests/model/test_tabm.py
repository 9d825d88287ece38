"""The members of TabM: each of them is a network of its own, and they share their weights."""

from __future__ import annotations

from typing import Any

import torch

from tests.helpers import defaults
from tests.model.test_mlp import table
from trainer.build import build_model
from trainer.loss.cross_entropy import CrossEntropy
from trainer.model import MODELS
from trainer.model.tabm import ADAPTER_RATE, BIAS_RATE, MemberLinear
from trainer.spec import Spec


def build(spec: Spec, **keys: Any) -> Any:
    return MODELS.build(defaults("model", "tabm", **keys), spec).eval()


def test_a_member_is_a_linear_layer_with_adapters_before_and_behind() -> None:
    layer, inputs = MemberLinear(6, 4, 3, [2, 2, 2]), torch.randn(5, 3, 6)
    for member in range(3):
        before, behind = layer.before[member] * ADAPTER_RATE, layer.behind[member] * ADAPTER_RATE
        outputs = ((inputs[:, member] * before) @ layer.weight * layer.factor) * behind + layer.bias[member] * BIAS_RATE
        torch.testing.assert_close(layer(inputs)[:, member], outputs, rtol=1e-4, atol=1e-5)
    first = layer.before.view(3, 3, 2)
    assert torch.equal(first[..., 0], first[..., 1])  # one number for each part
    assert len(first[..., 0].unique()) == 9


def test_members_answer_differently_and_one_does_not_depend_on_another() -> None:
    model, rows = build(table(), members=4), torch.randn(7, 16)
    answers = model(rows).view(7, 4, 2)
    assert len({tuple(answers[:, member].flatten().tolist()) for member in range(4)}) == 4
    with torch.no_grad():
        model.out.weight[1] += 1
    again = model(rows).view(7, 4, 2)
    assert torch.equal(answers[:, [0, 2, 3]], again[:, [0, 2, 3]])
    assert not torch.equal(answers[:, 1], again[:, 1])


def test_the_loss_is_the_mean_of_those_of_the_members_and_the_answer_the_mean_of_their_probabilities() -> None:
    keys = (
        defaults("model", "tabm", members=4),
        defaults("loss", "cross_entropy", label_smoothing=0.1, weight=[1.0, 3.0]),
    )
    model, loss, spec = build_model(*keys, table())
    rows, targets = torch.randn(6, 16), torch.tensor([0, 1, 1, 0, 1, 1])
    outputs = model.eval()(rows)
    assert outputs.shape == (6, spec.num_outputs) == (6, 8)
    alone = CrossEntropy(table(), label_smoothing=0.1, weight=[1.0, 3.0])
    members = outputs.view(6, 4, 2).unbind(1)
    torch.testing.assert_close(loss(outputs, targets), torch.stack([alone(each, targets) for each in members]).mean())
    torch.testing.assert_close(loss.scores(outputs), torch.stack([each.softmax(1) for each in members]).mean(0))
    assert float(loss.size(targets)) == float(alone.size(targets))


def test_values_are_the_means_of_the_members() -> None:
    spec = Spec("csv", "table", (4,), "regression", ("y",), target_mean=(5.0,), target_std=(2.0,))
    model, loss, spec = build_model(defaults("model", "tabm", members=3), defaults("loss", "mse"), spec)
    outputs = model.eval()(torch.randn(6, 4))
    torch.testing.assert_close(loss.scores(outputs), outputs.mean(1, keepdim=True) * 2 + 5)
