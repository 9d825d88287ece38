"""Every loss against torch's own or its formula, its sizes and scores, and the data it refuses."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tests.helpers import assert_close, defaults, table_spec
from trainer.config import ConfigError
from trainer.loss import LOSSES
from trainer.spec import Spec

SAMPLES = 12
COUNTS = (3, 40, 7, 50)  # training samples of four classes
WEIGHTS = [0.5, 2.0, 0.0, 1.25]

SPECS: dict[str, Spec] = {
    "two classes": table_spec("classification", 2, counts=(6, 2), dataset="coins"),
    "four classes": table_spec("classification", 4, counts=COUNTS, dataset="suits"),
    "labels": table_spec("multilabel", 3, counts=(5, 4, 1), dataset="tags"),
    "one label": table_spec("multilabel", 1, counts=(5,), dataset="tags"),
    "values": table_spec("regression", 3, dataset="prices"),
    "one value": table_spec("regression", 1, dataset="prices"),
}
EVERYTHING = set(SPECS)
FITS: dict[str, set[str]] = {
    "cross_entropy": {"two classes", "four classes"},
    "focal": {"two classes", "four classes"},
    "bce": {"two classes", "labels", "one label"},
    "bce_prob": {"two classes", "labels", "one label"},
    "mse": EVERYTHING,
    "l1": EVERYTHING,
    "huber": EVERYTHING,
}
FITTING = [(name, data) for name, fits in FITS.items() for data in sorted(fits)]
MISFITS = [(name, data) for name, fits in FITS.items() for data in sorted(EVERYTHING - fits)]


@pytest.fixture(autouse=True)
def same_numbers_every_time() -> None:
    torch.manual_seed(0)


def build(name: str, spec: Spec, **keys: Any) -> Any:
    return LOSSES.build(defaults("loss", name, **keys), spec).double()


def make_targets(spec: Spec, samples: int = SAMPLES) -> Tensor:
    """Random ones, in which every class occurs."""
    width = len(spec.classes)
    if spec.task == "classification":
        return torch.arange(samples).remainder(width)[torch.randperm(samples)]
    if spec.task == "multilabel":
        return (torch.rand(samples, width) < 0.5).float()
    return torch.randn(samples, width)


def make_outputs(loss: Any, samples: int = SAMPLES) -> Tensor:
    """What a model may return: probabilities where the loss wants these."""
    outputs = 3 * torch.randn(samples, loss.num_outputs, dtype=torch.float64)
    return outputs.sigmoid() if loss.sigmoid else outputs


def test_every_loss_is_tested() -> None:
    assert set(LOSSES.names()) == set(FITS)


# Cross entropy


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


@pytest.mark.parametrize("name", ["cross_entropy", "focal"])
@pytest.mark.parametrize("weight", [[], [1.0], [1.0] * 3, [1.0] * 5])
def test_wrong_number_of_weights_is_refused(name: str, weight: list[float]) -> None:
    with pytest.raises(ConfigError, match=rf"loss\.weight: must have 4 numbers.*got {len(weight)}"):
        build(name, SPECS["four classes"], weight=weight)


# Focal loss


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


def test_focal_gradients_are_those_of_its_differences() -> None:
    loss = build("focal", SPECS["four classes"], gamma=2.0, weight=[0.5, 2.0, 1.0, 1.25])
    outputs, targets = make_outputs(loss).requires_grad_(), make_targets(SPECS["four classes"])
    assert torch.autograd.gradcheck(lambda each: loss(each, targets), (outputs,))


# Binary cross entropy


@pytest.mark.parametrize("data", ["two classes", "labels", "one label"])
def test_bce_is_torchs_on_logits(data: str) -> None:
    loss = LOSSES.build(defaults("loss", "bce"), SPECS[data])
    outputs, targets = make_outputs(loss).float(), make_targets(SPECS[data])
    wanted = torch.nn.BCEWithLogitsLoss()(outputs.double(), targets.double().view(SAMPLES, -1))
    torch.testing.assert_close(loss(outputs, targets).double(), wanted, rtol=1e-6, atol=0)  # float32, as in a run


@pytest.mark.parametrize("data", ["two classes", "labels", "one label"])
def test_bce_prob_is_torchs_on_probabilities(data: str) -> None:
    loss = LOSSES.build(defaults("loss", "bce_prob"), SPECS[data])
    outputs, targets = make_outputs(loss).float(), make_targets(SPECS[data])
    wanted = torch.nn.BCELoss()(outputs.double(), targets.double().view(SAMPLES, -1))
    torch.testing.assert_close(loss(outputs, targets).double(), wanted, rtol=1e-6, atol=0)  # float32, as in a run


@pytest.mark.parametrize("name", ["bce", "bce_prob"])
def test_binary_cross_entropy_follows_its_formula(name: str) -> None:
    loss = LOSSES.build(defaults("loss", name), SPECS["two classes"])
    outputs, targets = make_outputs(loss).float(), make_targets(SPECS["two classes"])
    p = outputs.double() if loss.sigmoid else 1 / (1 + (-outputs.double()).exp())
    of_the_right_one = torch.where(targets[:, None] == 1, p, 1 - p)
    torch.testing.assert_close(loss(outputs, targets).double(), -of_the_right_one.log().mean(), rtol=1e-6, atol=0)


@pytest.mark.parametrize("data", ["two classes", "labels"])
def test_bce_prob_of_probabilities_is_bce_of_logits(data: str) -> None:
    on_logits, on_probabilities = (LOSSES.build(defaults("loss", name), SPECS[data]) for name in ("bce", "bce_prob"))
    outputs, targets = make_outputs(on_logits).float(), make_targets(SPECS[data])
    # probabilities near 1 have about six digits left of their distance to 1
    torch.testing.assert_close(
        on_probabilities(outputs.sigmoid(), targets), on_logits(outputs, targets), rtol=1e-5, atol=0
    )


@pytest.mark.parametrize("name", ["bce", "bce_prob"])
def test_only_the_loss_on_probabilities_asks_for_a_sigmoid(name: str) -> None:
    assert build(name, SPECS["two classes"]).sigmoid is (name == "bce_prob")


# Losses over values

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


# Mixed samples: shares of the classes

MIXED = [(name, data) for name, data in FITTING if SPECS[data].task == "classification"]


def make_shares(spec: Spec, samples: int = SAMPLES) -> Tensor:
    """Of two classes each, as mixing makes them; some of one class alone."""
    share = torch.rand(samples, 1).round(decimals=1)
    ones, others = (F.one_hot(make_targets(spec, samples), len(spec.classes)) for _ in range(2))
    return share * ones + (1 - share) * others


@pytest.mark.parametrize(("name", "data"), MIXED)
@pytest.mark.parametrize("keys", [{}, {"weight": WEIGHTS}, {"weight": WEIGHTS, "label_smoothing": 0.2}], ids=" ".join)
def test_of_samples_that_are_not_mixed_shares_are_class_numbers(name: str, data: str, keys: dict[str, Any]) -> None:
    known = {key: value for key, value in keys.items() if key in defaults("loss", name)}
    if "weight" in known:
        known["weight"] = WEIGHTS[: len(SPECS[data].classes)]
    loss = LOSSES.build(defaults("loss", name, **known), SPECS[data])
    outputs, targets = make_outputs(loss).float(), make_targets(SPECS[data])
    shares = F.one_hot(targets, len(SPECS[data].classes)).float()
    torch.testing.assert_close(loss(outputs, shares), loss(outputs, targets), rtol=1e-6, atol=0)
    assert float(loss.size(shares)) == pytest.approx(float(loss.size(targets)), rel=1e-6)


@pytest.mark.parametrize("label_smoothing", [0.0, 0.3])
def test_cross_entropy_of_shares_is_torchs(label_smoothing: float) -> None:
    spec = SPECS["four classes"]
    loss = build("cross_entropy", spec, label_smoothing=label_smoothing)
    outputs, shares = make_outputs(loss), make_shares(spec).double()
    assert_close(loss(outputs, shares), F.cross_entropy(outputs, shares, label_smoothing=label_smoothing))
    assert loss.size(shares) == SAMPLES


@pytest.mark.parametrize(
    ("name", "keys"), [("cross_entropy", {}), ("focal", {"gamma": 2.0}), ("focal", {"gamma": 0.5})]
)
@pytest.mark.parametrize("weight", [None, WEIGHTS])
def test_loss_of_shares_is_that_of_every_class_by_its_share(
    name: str, keys: dict[str, Any], weight: list[float] | None
) -> None:
    spec = SPECS["four classes"]
    loss = build(name, spec, weight=weight, **keys)
    outputs, shares = make_outputs(loss), make_shares(spec)
    weights = torch.tensor(weight or [1.0] * 4, dtype=torch.float64)
    plain = build(name, spec, **keys)
    total = size = 0.0
    for output, share in zip(outputs, shares.double(), strict=True):
        for number in range(4):
            counted = float(share[number] * weights[number])
            total += counted * float(plain(output[None], torch.tensor([number])))
            size += counted
    # shares are float32, so that those of a sample add up to 1 within 1e-7
    assert float(loss(outputs, shares)) == pytest.approx(total / size, rel=1e-6)
    assert float(loss.size(shares)) == pytest.approx(size, rel=1e-6)


@pytest.mark.parametrize("name", ["bce", "bce_prob"])
def test_binary_loss_of_shares_is_that_of_both_classes_by_their_share(name: str) -> None:
    loss = LOSSES.build(defaults("loss", name), SPECS["two classes"])
    outputs, shares = make_outputs(loss).float(), make_shares(SPECS["two classes"])
    both = [loss(outputs[[n]], torch.tensor([0])) * share[0] + loss(outputs[[n]], torch.tensor([1])) * share[1]
            for n, share in enumerate(shares)]  # fmt: skip
    torch.testing.assert_close(loss(outputs, shares), torch.stack(both).mean(), rtol=1e-5, atol=0)


@pytest.mark.parametrize(("name", "data"), MIXED)
@pytest.mark.parametrize("parts", [[1] * SAMPLES, [5, 5, 2]], ids=str)
def test_losses_of_mixed_micro_batches_add_up_by_their_sizes(name: str, data: str, parts: list[int]) -> None:
    weighted = {"weight": [0.5, 2.0, 0.75, 1.25][: len(SPECS[data].classes)]}
    loss = LOSSES.build(defaults("loss", name, **(weighted if name in ("cross_entropy", "focal") else {})), SPECS[data])
    outputs, shares = make_outputs(loss).float(), make_shares(SPECS[data])
    pairs = list(zip(outputs.split(parts), shares.split(parts), strict=True))
    total = sum(float(loss(some, those)) * float(loss.size(those)) for some, those in pairs)
    assert total / float(loss.size(shares)) == pytest.approx(float(loss(outputs, shares)), rel=1e-5)


def test_gradients_of_shares_are_those_of_the_differences() -> None:
    for name in ("cross_entropy", "focal"):
        loss = build(name, SPECS["four classes"], weight=[0.5, 2.0, 1.0, 1.25])
        outputs, shares = make_outputs(loss).requires_grad_(), make_shares(SPECS["four classes"]).double()
        assert torch.autograd.gradcheck(lambda each, loss=loss, shares=shares: loss(each, shares), (outputs,))


# Sizes and scores


@pytest.mark.parametrize(("name", "data"), FITTING)
@pytest.mark.parametrize("parts", [[1] * SAMPLES, [5, 5, 2], [SAMPLES]], ids=str)
def test_losses_of_micro_batches_add_up_by_their_sizes(name: str, data: str, parts: list[int]) -> None:
    weighted = {"weight": [0.5, 2.0, 0.75, 1.25][: len(SPECS[data].classes)]}
    loss = LOSSES.build(defaults("loss", name, **(weighted if name in ("cross_entropy", "focal") else {})), SPECS[data])
    outputs, targets = make_outputs(loss).float(), make_targets(SPECS[data])
    total = sum(
        float(loss(some, those)) * float(loss.size(those))
        for some, those in zip(outputs.split(parts), targets.split(parts), strict=True)
    )
    assert total / float(loss.size(targets)) == pytest.approx(float(loss(outputs, targets)), rel=1e-5)
    assert sum(float(loss.size(those)) for those in targets.split(parts)) == pytest.approx(float(loss.size(targets)))


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


@pytest.mark.parametrize(("name", "data"), FITTING)
def test_loss_says_how_many_outputs_it_needs(name: str, data: str) -> None:
    one_logit = name in ("bce", "bce_prob") and data == "two classes"
    assert build(name, SPECS[data]).num_outputs == (1 if one_logit else len(SPECS[data].classes))


@pytest.mark.parametrize(("name", "data"), FITTING)
def test_scores_have_a_column_for_each_class_label_or_value(name: str, data: str) -> None:
    loss = build(name, SPECS[data])
    outputs = make_outputs(loss)
    scores = loss.scores(outputs)
    assert scores.shape == (SAMPLES, len(SPECS[data].classes))
    if name in VALUE_FORMULAS:
        assert torch.equal(scores, outputs)
        return
    assert (scores >= 0).all() and (scores <= 1).all()
    if SPECS[data].task == "classification":
        assert_close(scores.sum(1), torch.ones(SAMPLES, dtype=torch.float64))


@pytest.mark.parametrize("name", ["cross_entropy", "focal"])
def test_scores_over_classes_are_the_softmax(name: str) -> None:
    loss = build(name, SPECS["four classes"])
    outputs = make_outputs(loss)
    wanted = outputs.exp() / outputs.exp().sum(1, keepdim=True)
    assert_close(loss.scores(outputs), wanted)


@pytest.mark.parametrize("name", ["bce", "bce_prob"])
def test_score_of_the_second_of_two_classes_is_the_models_probability(name: str) -> None:
    loss = build(name, SPECS["two classes"])
    outputs = make_outputs(loss)
    probabilities = outputs if name == "bce_prob" else 1 / (1 + (-outputs).exp())
    assert_close(loss.scores(outputs)[:, 1:], probabilities)
    labels = build(name, SPECS["labels"])
    outputs = make_outputs(labels)
    probabilities = outputs if name == "bce_prob" else 1 / (1 + (-outputs).exp())
    assert_close(labels.scores(outputs), probabilities)


# Misfits


@pytest.mark.parametrize(("name", "data"), MISFITS)
def test_misfit_is_refused_with_loss_and_dataset(name: str, data: str) -> None:
    with pytest.raises(ConfigError) as refused:
        build(name, SPECS[data])
    message = str(refused.value)
    assert f"loss={name}:" in message and f"dataset={SPECS[data].dataset}" in message
    advice = message.rpartition("use ")[2].replace(" or ", ", ").split(", ")
    assert advice and all(data in FITS[other] for other in advice)  # what it says to use instead does fit


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
