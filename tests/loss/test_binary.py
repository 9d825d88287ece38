"""The binary cross entropies against torch and their formula."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.helpers import assert_close, defaults, table_spec
from tests.loss.cases import (
    SAMPLES,
    SPECS,
    build,
    make_outputs,
    make_shares,
    make_targets,
)
from trainer.config import ConfigError
from trainer.loss import LOSSES


@pytest.mark.parametrize(("name", "theirs"), [("bce", torch.nn.BCEWithLogitsLoss()), ("bce_prob", torch.nn.BCELoss())])
@pytest.mark.parametrize("data", ["two classes", "labels", "one label"])
def test_binary_cross_entropy_is_torchs(name: str, theirs: torch.nn.Module, data: str) -> None:
    loss = LOSSES.build(defaults("loss", name), SPECS[data])
    outputs, targets = make_outputs(loss).float(), make_targets(SPECS[data])
    wanted = theirs(outputs.double(), targets.double().view(SAMPLES, -1))
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


@pytest.mark.parametrize("name", ["bce", "bce_prob"])
def test_binary_loss_of_shares_is_that_of_both_classes_by_their_share(name: str) -> None:
    loss = LOSSES.build(defaults("loss", name), SPECS["two classes"])
    outputs, shares = make_outputs(loss).float(), make_shares(SPECS["two classes"])
    both = [loss(outputs[[n]], torch.tensor([0])) * share[0] + loss(outputs[[n]], torch.tensor([1])) * share[1]
            for n, share in enumerate(shares)]  # fmt: skip
    torch.testing.assert_close(loss(outputs, shares), torch.stack(both).mean(), rtol=1e-5, atol=0)


@pytest.mark.parametrize("name", ["bce", "bce_prob"])
@pytest.mark.parametrize("data", ["two classes", "labels"])
def test_scores_of_labels_and_of_the_second_class_are_the_models_probabilities(name: str, data: str) -> None:
    loss = build(name, SPECS[data])
    outputs = make_outputs(loss)
    probabilities = outputs if name == "bce_prob" else 1 / (1 + (-outputs).exp())
    assert_close(loss.scores(outputs)[:, -outputs.shape[1] :], probabilities)


@pytest.mark.parametrize("name", ["bce", "bce_prob"])
@pytest.mark.parametrize("weight", [[0.5, 3.0], "balanced"])
@pytest.mark.parametrize("mixed", [False, True])
def test_weights_of_two_classes_are_those_of_cross_entropy(name: str, weight: object, mixed: bool) -> None:
    spec = SPECS["two classes"]
    loss, cross_entropy = (build(each, spec, weight=weight) for each in (name, "cross_entropy"))
    logits = torch.randn(SAMPLES, 1, dtype=torch.float64)
    targets = make_shares(spec).double() if mixed else make_targets(spec)
    both = torch.cat([torch.zeros_like(logits), logits], 1)
    outputs = logits.sigmoid() if loss.sigmoid else logits
    torch.testing.assert_close(loss(outputs, targets), cross_entropy(both, targets), rtol=1e-6, atol=0)
    torch.testing.assert_close(
        torch.as_tensor(loss.size(targets)).double(), cross_entropy.size(targets).double(), rtol=1e-6, atol=0
    )


@pytest.mark.parametrize("name", ["bce", "bce_prob"])
def test_weights_of_labels_are_the_pos_weight_of_torch(name: str) -> None:
    spec, weight = SPECS["labels"], [1.0, 1.5, 9.0]  # of 10 samples 5, 4 and 1 have the labels
    logits, targets = torch.randn(SAMPLES, 3, dtype=torch.float64), make_targets(spec).double()
    wanted = torch.nn.BCEWithLogitsLoss(pos_weight=torch.tensor(weight).double())(logits, targets)
    for given in (weight, "balanced"):
        loss = build(name, spec, weight=given)
        found = loss(logits.sigmoid() if loss.sigmoid else logits, targets)
        torch.testing.assert_close(found, wanted, rtol=1e-6, atol=0)
        assert loss.size(targets) == SAMPLES


@pytest.mark.parametrize(
    ("keys", "weight", "message"),
    [
        ({"counts": (5, 4, 1), "num_samples": 10}, [1.0, 2.0], "must have 3 numbers, one for each label, got 2"),
        ({"counts": (5, 0, 1), "num_samples": 10}, "balanced", "label .* has no training sample to balance"),
        ({"counts": (5, 10, 1), "num_samples": 10}, "balanced", "every training sample has label"),
        ({"counts": (), "num_samples": 10}, "balanced", "gives 0 counts for its 3 labels"),
    ],
)
def test_weights_that_do_not_fit_the_labels_are_refused(keys: dict[str, Any], weight: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=rf"loss\.weight: .*{message}"):
        build("bce", table_spec("multilabel", 3, **keys), weight=weight)
