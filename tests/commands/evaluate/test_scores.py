"""Metrics of all answers at once, against torchmetrics and scikit-learn."""

from __future__ import annotations

import pytest
import torch

import trainer.data.torchvision_import  # noqa: F401  torchmetrics imports torchvision
from tests.helpers import random_answers
from trainer.commands.evaluate.scores import check_names, per_class, top_accuracy
from trainer.config import ConfigError
from trainer.spec import Spec

functional = pytest.importorskip("torchmetrics.functional.classification")


def test_among_the_k_best_is_counted_as_torchmetrics_does() -> None:
    scores, targets = random_answers(300, 7)
    for k in (1, 2, 5):
        expected = functional.multiclass_accuracy(scores, targets, 7, top_k=k, average="micro")
        assert top_accuracy(scores, targets, k) == pytest.approx(float(expected), abs=1e-6)


def test_each_class_and_label_has_the_numbers_of_torchmetrics() -> None:
    scores, targets = random_answers(300, 4)
    confusion = functional.multiclass_confusion_matrix(scores, targets, 4)
    found = per_class(confusion, scores, targets)
    for name in ("precision", "recall", "f1"):
        function = getattr(functional, f"multiclass_{name}_score" if name == "f1" else f"multiclass_{name}")
        torch.testing.assert_close(getattr(found, name).float(), function(scores, targets, 4, average=None))
    labels = (torch.rand(80, 3, generator=torch.Generator().manual_seed(1)) > 0.5).float()
    said = (labels * 0.6 + torch.rand(80, 3, generator=torch.Generator().manual_seed(2)) * 0.4).clamp(0, 1)
    guessed, true = said > 0.5, labels > 0.5
    sums = torch.stack([(each).sum(0) for each in (guessed & true, guessed & ~true, ~guessed & true, ~guessed & ~true)])
    of_labels = per_class(sums, said, labels)
    expected = functional.multilabel_f1_score(said, labels.long(), 3, average=None)
    torch.testing.assert_close(of_labels.f1.float(), expected)
    assert of_labels.samples.tolist() == labels.sum(0).long().tolist()


def test_a_name_that_is_none_is_refused_with_the_nearest() -> None:
    spec = Spec("x", "image", (1, 8, 8), "classification", ("a", "b", "c", "d"))
    check_names(["top3", "ece", "auroc", "accuracy"], spec, ["accuracy", "auroc", "ece"])
    with pytest.raises(ConfigError, match="did you mean auroc"):
        check_names(["aurok"], spec, ["accuracy", "auroc"])
    with pytest.raises(ConfigError, match="top4: needs more than 4 classes, and the run has 4; did you mean"):
        check_names(["top4"], spec, ["accuracy"])
