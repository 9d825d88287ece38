"""Rules for every loss: sizes, scores, shares of classes, and the data that a loss refuses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tests.helpers import assert_close, defaults
from tests.loss.cases import (
    FITS,
    FITTING,
    MISFITS,
    MIXED,
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


def test_every_loss_is_tested() -> None:
    assert set(LOSSES.names()) == set(FITS)


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


@pytest.mark.parametrize(
    ("name", "data", "make"), [*((*case, make_targets) for case in FITTING), *((*case, make_shares) for case in MIXED)]
)
@pytest.mark.parametrize("parts", [[1] * SAMPLES, [5, 5, 2], [SAMPLES]], ids=str)
def test_losses_of_micro_batches_add_up_by_their_sizes(
    name: str, data: str, make: Callable[[Spec], Tensor], parts: list[int]
) -> None:
    weighted = {"weight": [0.5, 2.0, 0.75, 1.25][: len(SPECS[data].classes)]}
    loss = LOSSES.build(defaults("loss", name, **(weighted if name in ("cross_entropy", "focal") else {})), SPECS[data])
    outputs, targets = make_outputs(loss).float(), make(SPECS[data])
    total = sum(
        float(loss(some, those)) * float(loss.size(those))
        for some, those in zip(outputs.split(parts), targets.split(parts), strict=True)
    )
    assert total / float(loss.size(targets)) == pytest.approx(float(loss(outputs, targets)), rel=1e-5)
    assert sum(float(loss.size(those)) for those in targets.split(parts)) == pytest.approx(float(loss.size(targets)))


@pytest.mark.parametrize(("name", "data"), FITTING)
def test_loss_says_how_many_outputs_it_needs(name: str, data: str) -> None:
    one_logit = name in ("bce", "bce_prob") and data == "two classes"
    of_each = 3 if name == "quantile" else 1
    assert build(name, SPECS[data]).num_outputs == (1 if one_logit else of_each * len(SPECS[data].classes))


@pytest.mark.parametrize(("name", "data"), FITTING)
def test_scores_have_a_column_for_each_class_label_or_value(name: str, data: str) -> None:
    loss = build(name, SPECS[data])
    outputs = make_outputs(loss)
    scores = loss.scores(outputs)
    assert scores.shape == (SAMPLES, len(SPECS[data].classes))
    if name == "quantile":
        assert torch.equal(scores, outputs.unflatten(1, (-1, 3)).median(dim=2).values)
        return
    if name in ("mse", "l1", "huber") or (name == "auto" and SPECS[data].task == "regression"):
        assert torch.equal(scores, outputs)
        return
    assert (scores >= 0).all() and (scores <= 1).all()
    if SPECS[data].task == "classification":
        assert_close(scores.sum(1), torch.ones(SAMPLES, dtype=torch.float64))


@pytest.mark.parametrize(("name", "data"), MISFITS)
def test_misfit_is_refused_with_loss_and_dataset(name: str, data: str) -> None:
    with pytest.raises(ConfigError) as refused:
        build(name, SPECS[data])
    message = str(refused.value)
    assert f"loss={name}:" in message and f"dataset={SPECS[data].dataset}" in message
    advice = message.rpartition("use loss=")[2].replace(" or ", ", ").split(", ")
    assert advice and all(data in FITS[other] for other in advice)  # what it says to use instead does fit
