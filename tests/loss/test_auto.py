"""The loss that follows from the target."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.helpers import defaults
from trainer.config import ConfigError
from trainer.loss import LOSSES
from trainer.loss.bce import bce
from trainer.loss.cross_entropy import CrossEntropy
from trainer.loss.mse import mse
from trainer.spec import Spec, Task


def spec_of(task: Task) -> Spec:
    return Spec("csv", "table", (3,), task, ("a", "b"), counts=(3, 1))


def build(task: Task, **keys: Any) -> Any:
    return LOSSES.build(defaults("loss", "auto", **keys), spec_of(task))


def test_each_task_has_its_loss() -> None:
    outputs, targets = torch.randn(4, 2), torch.tensor([0, 1, 1, 0])
    alone = CrossEntropy(spec_of("classification"), label_smoothing=0.2, weight="balanced")
    found = build("classification", label_smoothing=0.2, weight="balanced")
    assert torch.equal(found(outputs, targets), alone(outputs, targets))
    labels = torch.rand(4, 2).round()
    assert torch.equal(build("multilabel")(outputs, labels), bce(spec_of("multilabel"), weight=None)(outputs, labels))
    values = torch.randn(4, 2)
    assert torch.equal(build("regression")(outputs, values), mse(spec_of("regression"))(outputs, values))


def test_labels_may_be_weighted_and_values_may_not() -> None:
    outputs, labels = torch.randn(4, 2), torch.rand(4, 2).round()
    weighted = bce(spec_of("multilabel"), weight=[1.0, 3.0])(outputs, labels)
    assert torch.equal(build("multilabel", weight=[1.0, 3.0])(outputs, labels), weighted)
    with pytest.raises(ConfigError, match=r"loss\.weight: needs classes or labels"):
        build("regression", weight=[1.0, 3.0])


@pytest.mark.parametrize("task", ["multilabel", "regression"])
def test_smoothing_leaves_labels_and_values_as_they_are(task: Task) -> None:
    outputs, targets = torch.randn(4, 2), torch.rand(4, 2).round()
    assert torch.equal(build(task, label_smoothing=0.3)(outputs, targets), build(task)(outputs, targets))
