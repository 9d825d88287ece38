"""The metrics of scores against torchmetrics and scikit-learn, and the same number from any parts in any order."""

from __future__ import annotations

import math

import pytest
import torch

import trainer.data.torchvision_import  # noqa: F401  torchmetrics imports torchvision
from tests.helpers import random_answers, table_spec
from trainer.commands.evaluate.scores import per_class
from trainer.metrics import METRICS, Sums, choose_metrics
from trainer.metrics.of_scores import (
    EPSILON,
    auroc,
    auroc_of_each,
    average_precision,
    average_precision_of_each,
    brier,
    calibration,
    calibration_error,
    log_loss,
)

functional = pytest.importorskip("torchmetrics.functional.classification")
CPU = torch.device("cpu")


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("classes", [2, 3, 11])
def test_the_area_under_the_curve_is_that_of_torchmetrics(classes: int, ties: bool) -> None:
    scores, targets = random_answers(400, classes, ties=ties)
    expected = functional.multiclass_auroc(scores.double(), targets, classes, average=None)
    torch.testing.assert_close(auroc_of_each(scores, targets), expected.double(), atol=2e-6, rtol=0)


def test_a_class_without_a_sample_has_no_area_and_is_left_out_of_the_mean() -> None:
    scores, targets = random_answers(60, 4)
    targets[targets == 2] = 1
    found = auroc_of_each(scores, targets)
    assert found.isnan().tolist() == [False, False, True, False]
    assert auroc(scores, targets) == pytest.approx(float(found[[0, 1, 3]].mean()))


def test_of_two_classes_the_area_is_that_of_the_second() -> None:
    scores, targets = random_answers(100, 2)
    assert auroc(scores, targets) == pytest.approx(
        float(functional.binary_auroc(scores[:, 1].double(), targets)), abs=1e-6
    )


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("classes", [2, 5])
def test_the_average_precision_is_that_of_scikit_learn(classes: int, ties: bool) -> None:
    oracle = pytest.importorskip("sklearn.metrics").average_precision_score
    scores, targets = random_answers(500, classes, ties=ties)
    labels = torch.eye(classes)[targets]
    expected = oracle(labels.numpy(), scores.numpy(), average=None)
    assert average_precision_of_each(scores, targets).tolist() == pytest.approx(expected.tolist(), abs=1e-14)
    assert average_precision_of_each(scores, labels).tolist() == pytest.approx(expected.tolist(), abs=1e-14)
    wanted = expected[1] if classes == 2 else expected.mean()
    assert average_precision(scores, targets) == pytest.approx(wanted, abs=1e-14)
    assert average_precision(scores, labels) == pytest.approx(expected.mean(), abs=1e-14)
    assert per_class(labels.T @ labels, scores, targets).average_precision.tolist() == pytest.approx(expected.tolist())


def test_a_label_without_a_sample_has_no_average_precision_and_one_that_all_have_has_1() -> None:
    scores, labels = torch.rand(30, 3), torch.zeros(30, 3)
    labels[:, 1] = 1
    labels[0, 2], scores[0, 2] = 1, -1  # the only sample of the label has the lowest score
    found = average_precision_of_each(scores, labels)
    assert found.isnan().tolist() == [True, False, False]
    assert found[1:].tolist() == [1, pytest.approx(1 / 30)]
    assert average_precision(scores, labels) == pytest.approx((1 + 1 / 30) / 2)


def test_the_calibration_error_is_that_of_torchmetrics() -> None:
    scores, targets = random_answers(500, 5)
    expected = functional.multiclass_calibration_error(scores, targets, 5, n_bins=15)
    assert calibration_error(scores, targets) == pytest.approx(float(expected), abs=1e-6)
    assert calibration(scores, targets)[:, 0].sum() == 500


def test_answers_as_sure_as_right_have_no_calibration_error() -> None:
    scores = torch.tensor([[0.75, 0.25]] * 4)
    assert calibration_error(scores, torch.tensor([0, 0, 0, 1])) == pytest.approx(0)
    assert calibration_error(scores, torch.tensor([1, 1, 1, 1])) == pytest.approx(0.75)


@pytest.mark.parametrize("classes", [2, 5])
def test_the_log_loss_and_the_brier_score_are_those_of_scikit_learn(classes: int) -> None:
    oracle = pytest.importorskip("sklearn.metrics")
    scores, targets = random_answers(300, classes)
    scores = scores.double() / scores.double().sum(1, keepdim=True)  # sums to 1 in float64, too
    assert log_loss(scores, targets) == pytest.approx(oracle.log_loss(targets, scores), abs=1e-12)
    squares = ((scores - torch.eye(classes)[targets]) ** 2).sum(1).mean()  # of two classes both are equal
    assert brier(scores, targets) == pytest.approx(float(squares) / (2 if classes == 2 else 1), abs=1e-12)
    if classes == 2:
        assert brier(scores, targets) == pytest.approx(oracle.brier_score_loss(targets, scores[:, 1]), abs=1e-12)
    labels = torch.eye(classes)[targets]
    each = [oracle.log_loss(labels[:, at], scores[:, at]) for at in range(classes)]
    assert log_loss(scores, labels) == pytest.approx(sum(each) / classes, abs=1e-12)
    each = [oracle.brier_score_loss(labels[:, at], scores[:, at]) for at in range(classes)]
    assert brier(scores, labels) == pytest.approx(sum(each) / classes, abs=1e-12)


def test_a_certain_mistake_costs_no_more_than_in_scikit_learn() -> None:
    scores, wrong = torch.tensor([[1.0, 0.0]], dtype=torch.float64), torch.tensor([1])
    assert log_loss(scores, wrong) == pytest.approx(-math.log(EPSILON)) == pytest.approx(36.04, abs=0.01)
    assert log_loss(scores, 1 - wrong) == 0


def outputs_of(task: str, samples: int) -> tuple[torch.Tensor, torch.Tensor]:
    maker = torch.Generator().manual_seed(samples)
    outputs = torch.randn(samples, 4, generator=maker) * 6
    targets = torch.randint(4, (samples,), generator=maker)
    return outputs, targets if task == "classification" else torch.eye(4)[targets]


@pytest.mark.parametrize("task", ["classification", "multilabel"])
def test_samples_in_any_order_and_from_any_parts_give_the_same_bits(task: str) -> None:
    outputs, targets = outputs_of(task, 997)
    outputs = outputs.round(decimals=1)  # with ties
    chosen = {name: each for (name, of), each in METRICS.items() if of == task and each.of != "sums"}
    assert {*chosen} == {"auroc", "average_precision", "log_loss", "brier", "ece"}
    found = []
    for order in (torch.arange(997), torch.randperm(997, generator=torch.Generator().manual_seed(1))):
        spec = table_spec(task, 4)  # type: ignore[arg-type]
        sums = Sums(spec, CPU, lambda each: each.softmax(1), keeps_outputs=True)
        for part in order.split([100, 1, 396, 500]):
            sums.update(torch.zeros(()), len(part), outputs[part], targets[part])
            sums.settle(sums.total)
        found.append(sums.compute(chosen))
    assert found[0] == found[1] and all(math.isfinite(value) for value in found[0].values())
    other = Sums(table_spec(task, 4), CPU, lambda each: each.softmax(1), keeps_outputs=True)  # type: ignore[arg-type]
    other.kept = tuple(torch.cat([each[500:], each[:500]]) for each in sums.kept)  # type: ignore[assignment]
    assert {name: other.compute(chosen)[name] for name in chosen} == {name: found[0][name] for name in chosen}


def test_certain_probabilities_differ_in_float64_so_that_the_log_loss_is_that_of_the_outputs() -> None:
    outputs, targets = torch.tensor([[20.0, 0.0], [0.0, 25.0]]), torch.tensor([1, 0])
    sums = Sums(table_spec("classification", 2), CPU, lambda each: each.softmax(1), keeps_outputs=True)
    sums.update(torch.zeros(()), 2, outputs, targets)
    assert sums.compute({"log_loss": METRICS["log_loss", "classification"]})["log_loss"] == pytest.approx(22.5)


def test_sums_of_training_keep_no_outputs_and_have_no_metric_of_scores() -> None:
    sums = Sums(table_spec("classification", 4), CPU, lambda each: each.softmax(1))
    sums.update(torch.ones(()), 50, *outputs_of("classification", 50))
    chosen = choose_metrics(["accuracy", "auroc", "log_loss"], table_spec("classification", 4))
    assert [*sums.compute(chosen)] == ["loss", "accuracy"] and {*sums.state_dict()} == {"total", "loss"}


def test_a_process_without_a_sample_has_rows_of_the_same_form() -> None:
    for task, width in (("classification", ()), ("multilabel", (4,))):
        spec = table_spec(task, 4)  # type: ignore[arg-type]
        none, some = (Sums(spec, CPU, lambda each: each, keeps_outputs=True) for _ in range(2))
        some.update(torch.ones(()), 5, *outputs_of(task, 5))
        assert [each.dtype for each in none.kept] == [each.dtype for each in some.kept]
        assert none.kept[1].shape == (0, *width)
