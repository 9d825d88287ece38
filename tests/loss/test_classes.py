"""The losses over classes against torch and their formulas, and class weights."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tests.helpers import assert_close, defaults, table_spec
from tests.loss.cases import (
    COUNTS,
    SAMPLES,
    SPECS,
    WEIGHTS,
    build,
    make_outputs,
    make_shares,
    make_targets,
)
from trainer.config import ConfigError
from trainer.loss import LOSSES
from trainer.spec import Spec


@pytest.mark.parametrize("label_smoothing", [0.0, 0.1, 0.6])
@pytest.mark.parametrize("weight", [None, WEIGHTS])
def test_cross_entropy_is_torchs(label_smoothing: float, weight: list[float] | None) -> None:
    spec = SPECS["four classes"]
    loss = build("cross_entropy", spec, label_smoothing=label_smoothing, weight=weight)
    outputs, targets = make_outputs(loss), make_targets(spec)
    weights = None if weight is None else torch.tensor(weight, dtype=torch.float64)
    theirs = torch.nn.CrossEntropyLoss(weight=weights, label_smoothing=label_smoothing)
    assert_close(loss(outputs, targets), theirs(outputs, targets))


def test_cross_entropy_is_minus_the_log_of_the_smoothed_softmax() -> None:
    spec = SPECS["four classes"]
    loss = build("cross_entropy", spec, label_smoothing=0.2)
    outputs, targets = make_outputs(loss), make_targets(spec)
    log_p = (outputs.exp() / outputs.exp().sum(1, keepdim=True)).log()
    wanted = 0.8 * F.one_hot(targets, 4).double() + 0.2 / 4
    assert_close(loss(outputs, targets), -(wanted * log_p).sum(1).mean())


@pytest.mark.parametrize("label_smoothing", [0.0, 0.3])
def test_cross_entropy_of_shares_is_torchs(label_smoothing: float) -> None:
    spec = SPECS["four classes"]
    loss = build("cross_entropy", spec, label_smoothing=label_smoothing)
    outputs, shares = make_outputs(loss), make_shares(spec).double()
    assert_close(loss(outputs, shares), F.cross_entropy(outputs, shares, label_smoothing=label_smoothing))
    assert loss.size(shares) == SAMPLES


@pytest.mark.parametrize("name", ["cross_entropy", "focal"])
def test_smoothing_keeps_the_sizes_of_the_weights(name: str) -> None:
    smooth = {"label_smoothing": 0.3} if name == "cross_entropy" else {"gamma": 3.0}
    loss = build(name, SPECS["four classes"], weight=WEIGHTS, **smooth)
    targets = make_targets(SPECS["four classes"])
    assert float(loss.size(targets)) == pytest.approx(sum(WEIGHTS[target] for target in targets.tolist()))
    outputs, order = make_outputs(loss), targets.argsort()
    halves = order[::2], order[1::2]  # each half has every class
    total = sum(float(loss(outputs[half], targets[half]) * loss.size(targets[half])) for half in halves)
    assert total / float(loss.size(targets)) == pytest.approx(float(loss(outputs, targets)), rel=1e-9)


@pytest.mark.parametrize("name", ["cross_entropy", "focal"])
def test_balanced_weights_are_samples_over_classes_times_samples_of_the_class(name: str) -> None:
    spec = SPECS["four classes"]
    balanced = build(name, spec, weight="balanced")
    weights = [sum(COUNTS) / (len(COUNTS) * count) for count in COUNTS]
    listed = build(name, spec, weight=weights)
    outputs, targets = make_outputs(balanced), make_targets(spec)
    # both keep their weights as float32
    torch.testing.assert_close(balanced(outputs, targets), listed(outputs, targets), rtol=1e-7, atol=0)
    # a common factor would not show in the mean
    wanted = sum(weights[target] for target in targets.tolist())
    assert float(balanced.size(targets)) == pytest.approx(wanted, rel=1e-6)
    assert abs(float(balanced(outputs, targets)) - float(build(name, spec)(outputs, targets))) > 1e-3


@pytest.mark.parametrize("name", ["cross_entropy", "focal"])
def test_class_without_a_sample_cannot_be_balanced(name: str) -> None:
    spec = table_spec("classification", 3, counts=(5, 0, 5))
    with pytest.raises(ConfigError, match=r"loss\.weight: class class1 has no training sample"):
        build(name, spec, weight="balanced")


@pytest.mark.parametrize("counts", [(), (5, 5)])
def test_weights_cannot_be_balanced_without_a_count_for_each_class(counts: tuple[int, ...]) -> None:
    with pytest.raises(ConfigError, match=r"loss\.weight: dataset=\w+ gives \d counts for its 3 classes"):
        build("focal", table_spec("classification", 3, counts=counts), weight="balanced")


@pytest.mark.parametrize("name", ["cross_entropy", "focal"])
@pytest.mark.parametrize("weight", [[], [1.0], [1.0] * 3, [1.0] * 5])
def test_wrong_number_of_weights_is_refused(name: str, weight: list[float]) -> None:
    with pytest.raises(ConfigError, match=rf"loss\.weight: must have 4 numbers.*got {len(weight)}"):
        build(name, SPECS["four classes"], weight=weight)


@pytest.mark.parametrize("name", ["cross_entropy", "focal"])
def test_scores_over_classes_are_the_softmax(name: str) -> None:
    loss = build(name, SPECS["four classes"])
    outputs = make_outputs(loss)
    wanted = outputs.exp() / outputs.exp().sum(1, keepdim=True)
    assert_close(loss.scores(outputs), wanted)


@pytest.mark.parametrize("gamma", [0.5, 1.0, 2.0, 5.0])
@pytest.mark.parametrize("weight", [None, WEIGHTS])
def test_focal_follows_its_formula(gamma: float, weight: list[float] | None) -> None:
    spec = SPECS["four classes"]
    loss = build("focal", spec, gamma=gamma, weight=weight)
    outputs, targets = make_outputs(loss), make_targets(spec)
    p = outputs.softmax(1)[torch.arange(SAMPLES), targets]
    alpha = torch.tensor(weight or [1.0] * 4, dtype=torch.float64)[targets]
    wanted = (-alpha * (1 - p) ** gamma * p.log()).sum() / alpha.sum()
    # 1 - p loses digits where p is near 1; the loss itself does not
    torch.testing.assert_close(loss(outputs, targets), wanted, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("weight", [None, WEIGHTS, "balanced"])
def test_focal_without_focus_is_cross_entropy(weight: list[float] | str | None) -> None:
    spec = SPECS["four classes"]
    focal = build("focal", spec, gamma=0.0, weight=weight)
    cross_entropy = build("cross_entropy", spec, weight=weight)
    outputs, targets = make_outputs(focal), make_targets(spec)
    assert_close(focal(outputs, targets), cross_entropy(outputs, targets))


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0])
@pytest.mark.parametrize("logit", [-200.0, 0.0, 200.0])
def test_focal_and_its_gradient_are_finite_for_sure_answers(gamma: float, logit: float) -> None:
    loss = LOSSES.build(defaults("loss", "focal", gamma=gamma), SPECS["two classes"])  # in float32, as in a run
    outputs = torch.tensor([[logit, -logit]], requires_grad=True)
    value = loss(outputs, torch.tensor([0]))
    value.backward()
    assert outputs.grad is not None
    assert value.isfinite() and outputs.grad.isfinite().all()
    if logit < 0:
        torch.testing.assert_close(value.detach(), torch.tensor(400.0))  # -log p, nothing taken off


@pytest.mark.parametrize("name", ["cross_entropy", "focal"])
@pytest.mark.parametrize("make", [make_targets, lambda spec: make_shares(spec).double()], ids=["classes", "shares"])
def test_gradients_are_those_of_the_differences(name: str, make: Callable[[Spec], Tensor]) -> None:
    loss = build(name, SPECS["four classes"], weight=[0.5, 2.0, 1.0, 1.25])
    outputs, targets = make_outputs(loss).requires_grad_(), make(SPECS["four classes"])
    assert torch.autograd.gradcheck(lambda each: loss(each, targets), (outputs,))
