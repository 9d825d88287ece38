"""Metrics of all answers at once, against torchmetrics and scikit-learn."""

from __future__ import annotations

import pytest
import torch

import trainer.data.torchvision_import  # noqa: F401  torchmetrics imports torchvision
from trainer.commands.evaluate.scores import (
    auroc,
    average_precision,
    calibration,
    calibration_error,
    check_names,
    compute_metric,
    per_class,
    top_accuracy,
)
from trainer.config import ConfigError
from trainer.spec import Spec

functional = pytest.importorskip("torchmetrics.functional.classification")


def answers(samples: int, classes: int, *, ties: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
    maker = torch.Generator().manual_seed(samples + classes)
    logits = torch.randn(samples, classes, generator=maker)
    targets = torch.randint(classes, (samples,), generator=maker)
    logits[torch.arange(samples), targets] += 1
    return (logits.round() if ties else logits).softmax(1), targets


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("classes", [2, 3, 11])
def test_the_area_under_the_curve_is_that_of_torchmetrics(classes: int, ties: bool) -> None:
    scores, targets = answers(400, classes, ties=ties)
    expected = functional.multiclass_auroc(scores.double(), targets, classes, average=None)
    torch.testing.assert_close(auroc(scores, targets), expected.double(), atol=2e-6, rtol=0)


def test_a_class_without_a_sample_has_no_area_and_is_left_out_of_the_mean() -> None:
    scores, targets = answers(60, 4)
    targets[targets == 2] = 1
    found = auroc(scores, targets)
    assert found.isnan().tolist() == [False, False, True, False]
    assert compute_metric("auroc", scores, targets) == pytest.approx(float(found[[0, 1, 3]].mean()))


def test_of_two_classes_the_area_is_that_of_the_second() -> None:
    scores, targets = answers(100, 2)
    assert compute_metric("auroc", scores, targets) == pytest.approx(
        float(functional.binary_auroc(scores[:, 1].double(), targets)), abs=1e-6
    )


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("classes", [2, 5])
def test_the_average_precision_is_that_of_scikit_learn(classes: int, ties: bool) -> None:
    oracle = pytest.importorskip("sklearn.metrics").average_precision_score
    scores, targets = answers(500, classes, ties=ties)
    labels = torch.eye(classes)[targets]
    expected = oracle(labels.numpy(), scores.numpy(), average=None)
    assert average_precision(scores, targets).tolist() == pytest.approx(expected.tolist(), abs=1e-14)
    assert average_precision(scores, labels).tolist() == pytest.approx(expected.tolist(), abs=1e-14)
    wanted = expected[1] if classes == 2 else expected.mean()
    assert compute_metric("average_precision", scores, targets) == pytest.approx(wanted, abs=1e-14)
    assert compute_metric("average_precision", scores, labels) == pytest.approx(expected.mean(), abs=1e-14)
    assert per_class(labels.T @ labels, scores, targets).average_precision.tolist() == pytest.approx(expected.tolist())


def test_a_label_without_a_sample_has_no_average_precision_and_one_that_all_have_has_1() -> None:
    scores, labels = torch.rand(30, 3), torch.zeros(30, 3)
    labels[:, 1] = 1
    labels[0, 2], scores[0, 2] = 1, -1  # the only sample of the label has the lowest score
    found = average_precision(scores, labels)
    assert found.isnan().tolist() == [True, False, False]
    assert found[1:].tolist() == [1, pytest.approx(1 / 30)]
    assert compute_metric("average_precision", scores, labels) == pytest.approx((1 + 1 / 30) / 2)


def test_the_calibration_error_is_that_of_torchmetrics() -> None:
    scores, targets = answers(500, 5)
    expected = functional.multiclass_calibration_error(scores, targets, 5, n_bins=15)
    assert calibration_error(scores, targets) == pytest.approx(float(expected), abs=1e-6)
    assert calibration(scores, targets)[:, 0].sum() == 500


def test_answers_as_sure_as_right_have_no_calibration_error() -> None:
    scores = torch.tensor([[0.75, 0.25]] * 4)
    assert calibration_error(scores, torch.tensor([0, 0, 0, 1])) == pytest.approx(0)
    assert calibration_error(scores, torch.tensor([1, 1, 1, 1])) == pytest.approx(0.75)


def test_among_the_k_best_is_counted_as_torchmetrics_does() -> None:
    scores, targets = answers(300, 7)
    for k in (1, 2, 5):
        expected = functional.multiclass_accuracy(scores, targets, 7, top_k=k, average="micro")
        assert top_accuracy(scores, targets, k) == pytest.approx(float(expected), abs=1e-6)


def test_each_class_and_label_has_the_numbers_of_torchmetrics() -> None:
    scores, targets = answers(300, 4)
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
    check_names(["top3", "ece", "auroc", "accuracy"], spec, ["accuracy"])
    with pytest.raises(ConfigError, match="did you mean auroc"):
        check_names(["aurok"], spec, ["accuracy"])
    with pytest.raises(ConfigError, match="top4: needs more than 4 classes, and the run has 4; did you mean"):
        check_names(["top4"], spec, ["accuracy"])
