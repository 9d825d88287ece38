"""The metrics against torchmetrics, the sums of parts against those of the whole, and the choice of metrics."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

import trainer.data.torchvision_import  # noqa: F401  torchmetrics imports torchvision, which this makes importable
from tests.helpers import table_spec
from trainer.config import ConfigError
from trainer.metrics import (
    DEFAULTS,
    METRICS,
    Metric,
    Sums,
    choose_metrics,
    choose_thresholds,
    fixed_thresholds,
    shown_thresholds,
)
from trainer.metrics import sums as sums_of_split
from trainer.runs.read import more_is_better
from trainer.spec import Spec, Task

# isort: split
from torchmetrics import functional as oracle

CPU = torch.device("cpu")
WIDTH = 4
Oracle = Callable[[Tensor, Tensor], Tensor]  # scores, targets -> value


def recall_of_occurring_classes(scores: Tensor, targets: Tensor) -> Tensor:
    """Compute balanced accuracy: torchmetrics' macro recall also counts predicted classes without a sample."""
    recalls: Tensor = oracle.classification.multiclass_recall(scores, targets, WIDTH, average="none")
    return recalls[targets.unique()].mean()


ORACLES: dict[tuple[str, Task], Oracle] = {
    ("accuracy", "classification"): lambda s, t: oracle.classification.multiclass_accuracy(
        s, t, WIDTH, average="micro"
    ),
    ("balanced_accuracy", "classification"): recall_of_occurring_classes,
    ("precision", "classification"): lambda s, t: oracle.classification.multiclass_precision(s, t, WIDTH),
    ("recall", "classification"): lambda s, t: oracle.classification.multiclass_recall(s, t, WIDTH),
    ("f1", "classification"): lambda s, t: oracle.classification.multiclass_f1_score(s, t, WIDTH),
    ("accuracy", "multilabel"): lambda s, t: oracle.classification.multilabel_accuracy(
        s, t.long(), WIDTH, average="micro"
    ),
    ("precision", "multilabel"): lambda s, t: oracle.classification.multilabel_precision(s, t.long(), WIDTH),
    ("recall", "multilabel"): lambda s, t: oracle.classification.multilabel_recall(s, t.long(), WIDTH),
    ("f1", "multilabel"): lambda s, t: oracle.classification.multilabel_f1_score(s, t.long(), WIDTH),
    ("mae", "regression"): lambda s, t: oracle.mean_absolute_error(s.double(), t.double()),
    ("rmse", "regression"): lambda s, t: oracle.mean_squared_error(s.double(), t.double(), squared=False),
    ("r2", "regression"): lambda s, t: oracle.r2_score(s.double(), t.double()),
}
OF_SUMS = sorted(key for key, each in METRICS.items() if each.of == "sums")
every_metric = pytest.mark.parametrize(("name", "task"), OF_SUMS)


def make_spec(task: Task) -> Spec:
    return table_spec(task, WIDTH)


def draw(task: Task, samples: int) -> tuple[Tensor, Tensor]:
    """Return random scores, some of them right, and targets."""
    if task == "classification":
        targets = torch.randint(0, WIDTH, (samples,))
        return (torch.randn(samples, WIDTH) + 2 * torch.eye(WIDTH)[targets]).softmax(1), targets
    if task == "multilabel":
        labels = (torch.rand(samples, WIDTH) < torch.tensor([0.1, 0.3, 0.5, 0.9])).float()
        return (torch.randn(samples, WIDTH) + labels).sigmoid(), labels
    values = torch.randn(samples, WIDTH) * torch.tensor([0.1, 1.0, 10.0, 3.0]) + 2
    return values + torch.randn(samples, WIDTH), values


def as_they_are(outputs: Tensor) -> Tensor:
    return outputs


def summed(task: Task, *batches: tuple[Tensor, Tensor]) -> Sums:
    sums = Sums(make_spec(task), CPU, as_they_are)
    for scores, targets in batches:
        sums.update(torch.zeros(()), len(targets), scores, targets)
    return sums


def measure(name: str, task: Task, scores: Tensor, targets: Tensor) -> float:
    return summed(task, (scores, targets)).compute({name: METRICS[name, task]})[name]


def test_every_metric_of_sums_has_an_oracle() -> None:
    assert {*OF_SUMS} == {*ORACLES}


@every_metric
@pytest.mark.parametrize("samples", [2, 7, 50, 1000])
def test_metric_is_torchmetrics_on_random_data(name: str, task: Task, samples: int) -> None:
    scores, targets = draw(task, samples)
    wanted = float(ORACLES[name, task](scores, targets))
    assert measure(name, task, scores, targets) == pytest.approx(wanted, rel=1e-5)  # torchmetrics counts in float32


def one_hot(classes: list[int]) -> Tensor:
    return torch.eye(WIDTH)[torch.tensor(classes)]


DEGENERATE_CLASSES = {
    "one class is nowhere": ([0, 1, 1, 3], [0, 1, 3, 3]),
    "one class is only predicted": ([0, 2, 1, 3], [0, 1, 1, 3]),
    "one class is never predicted": ([0, 0, 1, 3], [0, 2, 1, 3]),
    "only one class": ([1, 1, 1], [1, 1, 1]),
    "one class, all wrong": ([1, 1, 1], [2, 2, 2]),
    "everything wrong": ([1, 2, 3, 0], [0, 1, 2, 3]),
    "one sample": ([3], [3]),
}


@pytest.mark.parametrize("name", [name for name, task in OF_SUMS if task == "classification"])
@pytest.mark.parametrize("case", DEGENERATE_CLASSES)
def test_metric_of_classes_is_torchmetrics_where_classes_are_absent(name: str, case: str) -> None:
    predicted, true = DEGENERATE_CLASSES[case]
    scores, targets = one_hot(predicted), torch.tensor(true)
    wanted = float(ORACLES[name, "classification"](scores, targets))
    assert measure(name, "classification", scores, targets) == pytest.approx(wanted, rel=1e-6, abs=1e-12)


DEGENERATE_LABELS = {
    "a label never true": ([[1, 0, 0, 0], [0, 1, 1, 0]], [[1, 0, 0, 0], [1, 1, 0, 0]]),
    "a label never predicted": ([[0, 0, 1, 1], [0, 1, 1, 0]], [[1, 0, 1, 0], [1, 1, 0, 0]]),
    "no label at all": ([[0, 0, 0, 0]] * 3, [[0, 0, 0, 0]] * 3),
    "every label": ([[1, 1, 1, 1]] * 3, [[1, 1, 1, 1]] * 3),
    "everything wrong": ([[1, 1, 0, 0]] * 3, [[0, 0, 1, 1]] * 3),
}


@pytest.mark.parametrize("name", [name for name, task in OF_SUMS if task == "multilabel"])
@pytest.mark.parametrize("case", DEGENERATE_LABELS)
def test_metric_of_labels_is_torchmetrics_where_labels_are_absent(name: str, case: str) -> None:
    scores, targets = (torch.tensor(each).float() for each in DEGENERATE_LABELS[case])
    wanted = float(ORACLES[name, "multilabel"](scores, targets))
    assert measure(name, "multilabel", scores, targets) == pytest.approx(wanted, rel=1e-6, abs=1e-12)


def test_score_of_exactly_half_is_no_label_as_in_torchmetrics() -> None:
    scores, targets = torch.full((2, WIDTH), 0.5), torch.tensor([[1.0] * WIDTH, [0.0] * WIDTH])
    for name in ("accuracy", "recall"):
        wanted = float(ORACLES[name, "multilabel"](scores, targets))
        assert measure(name, "multilabel", scores, targets) == wanted
    assert measure("recall", "multilabel", scores, targets) == 0.0


@pytest.mark.parametrize("name", [name for name, task in OF_SUMS if task == "regression"])
@pytest.mark.parametrize("error", [0.0, 0.5])
def test_metric_of_values_is_torchmetrics_where_a_value_never_changes(name: str, error: float) -> None:
    targets = torch.tensor([[1.0, 2.0, 3.0, 4.0], [1.0, 0.0, 3.5, 5.0], [1.0, 1.0, 0.0, 2.0]])
    scores = targets + error
    wanted = float(ORACLES[name, "regression"](scores, targets))
    assert math.isfinite(wanted)
    assert measure(name, "regression", scores, targets) == pytest.approx(wanted, rel=1e-6, abs=1e-12)


@pytest.mark.parametrize("offset", [0.0, 100.0, 10_000.0])
@pytest.mark.parametrize("name", [name for name, task in OF_SUMS if task == "regression"])
def test_metric_of_values_does_not_care_for_an_offset(name: str, offset: float) -> None:
    values = torch.randn(512, WIDTH) + offset
    scores = values + 0.5 * torch.randn(512, WIDTH)
    wanted = float(ORACLES[name, "regression"](scores, values))
    sums = summed("regression", *zip(scores.split(64), values.split(64), strict=True))
    measured = sums.compute({name: METRICS[name, "regression"]})[name]
    assert measured == pytest.approx(wanted, rel=1e-4)


@every_metric
def test_sums_of_parts_are_the_sums_of_the_whole(name: str, task: Task) -> None:
    scores, targets = draw(task, 100)
    chosen = {name: METRICS[name, task]}
    parts = list(zip(scores.split([33, 1, 40, 26]), targets.split([33, 1, 40, 26]), strict=True))
    whole = summed(task, (scores, targets)).compute(chosen)[name]
    one_after_another = summed(task, *parts).compute(chosen)[name]
    added = summed(task, *parts[:2])
    added.add(summed(task, *parts[2:]))
    if task != "regression":
        assert whole == one_after_another == added.compute(chosen)[name]
    assert one_after_another == pytest.approx(whole, rel=1e-6)
    assert added.compute(chosen)[name] == pytest.approx(whole, rel=1e-6)


@pytest.mark.parametrize("task", ["classification", "multilabel", "regression"])
def test_loss_is_the_mean_over_sizes(task: Task) -> None:
    scores, targets = draw(task, 8)
    sums, more = Sums(make_spec(task), CPU, as_they_are), Sums(make_spec(task), CPU, as_they_are)
    sums.update(torch.tensor(2.0), 5, scores[:5], targets[:5])
    sums.update(torch.tensor(4.0), torch.tensor(0.5), scores[5:7], targets[5:7])
    more.update(torch.tensor(1.0), 1, scores[7:], targets[7:])
    assert sums.compute({})["loss"] == pytest.approx((2 * 5 + 4 * 0.5) / 5.5)
    sums.add(more)
    assert sums.compute({})["loss"] == pytest.approx((2 * 5 + 4 * 0.5 + 1) / 6.5)


def test_sizes_can_be_numbers_and_counts_and_stay_exact() -> None:
    sums = Sums(make_spec("classification"), CPU, as_they_are)
    scores, targets = draw("classification", 2)
    sums.update(torch.tensor(2.0, dtype=torch.bfloat16), 2**24 + 1, scores, targets)
    sums.update(torch.tensor(4.0, dtype=torch.bfloat16), torch.tensor(3), scores, targets)
    assert sums.loss.tolist() == [2 * (2**24 + 1) + 12, 2**24 + 4]


@pytest.mark.parametrize("task", ["classification", "multilabel", "regression"])
def test_reset_sums_start_again(task: Task) -> None:
    first, second = draw(task, 30), draw(task, 20)
    sums = summed(task, first)
    before = sums.compute(choose_metrics(None, make_spec(task)))
    sums.reset()
    sums.update(torch.ones(()), 20, *second)
    fresh = Sums(make_spec(task), CPU, as_they_are)
    fresh.update(torch.ones(()), 20, *second)
    assert (
        sums.compute(choose_metrics(None, make_spec(task)))
        == fresh.compute(choose_metrics(None, make_spec(task)))
        != before
    )


@pytest.mark.parametrize("task", ["classification", "multilabel", "regression"])
def test_sums_that_are_looked_at_in_between_end_in_the_same_bits(task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    batches = [draw(task, 7) for _ in range(40)]
    losses = torch.rand(40)
    ends = []
    for every, most in ((1, 2**17), (3, 2**17), (100, 2**17), (100, 11), (100, 60)):
        monkeypatch.setattr(sums_of_split, "MAX_WAITING", most)
        sums = Sums(make_spec(task), CPU, as_they_are)
        for number, (loss, batch) in enumerate(zip(losses, batches, strict=True)):
            sums.update(loss, 7, *batch)
            if number % every == 0:
                sums.state_dict()
        ends.append((sums.total.tolist(), sums.loss.tolist()))
    assert all(end == ends[0] for end in ends)
    assert ends[0][1][1] == 280


def test_confusion_has_a_row_for_each_true_class() -> None:
    sums = summed("classification", (one_hot([0, 2, 2, 1]), torch.tensor([0, 2, 1, 1])))
    wanted = [[1, 0, 0, 0], [0, 1, 1, 0], [0, 0, 1, 0], [0, 0, 0, 0]]
    assert sums.total.tolist() == wanted and sums.total.dtype == torch.int64


@every_metric
def test_better_side_of_a_metric_is_where_right_answers_are(name: str, task: Task) -> None:
    _, targets = draw(task, 60)
    right = torch.eye(WIDTH)[targets] if task == "classification" else targets
    wrong = right.roll(1, dims=1) if task != "multilabel" else 1 - targets
    good, bad = (measure(name, task, scores, targets) for scores in (right, wrong))
    assert (good > bad) is METRICS[name, task].higher_is_better
    assert good == (1.0 if METRICS[name, task].higher_is_better else 0.0)


@pytest.mark.parametrize(("name", "task"), sorted(METRICS))
def test_name_of_a_metric_tells_which_side_is_better_where_only_the_name_is_known(name: str, task: Task) -> None:
    assert more_is_better(f"val/{name}") is METRICS[name, task].higher_is_better


# The choice


@pytest.mark.parametrize("task", ["classification", "multilabel", "regression"])
def test_default_metrics_are_chosen_in_their_order(task: Task) -> None:
    chosen = choose_metrics(None, make_spec(task))
    assert list(chosen) == DEFAULTS[task] and chosen
    assert all(isinstance(metric, Metric) and metric.task == task for metric in chosen.values())


def test_named_metrics_are_chosen_in_the_order_given() -> None:
    chosen = choose_metrics(["recall", "accuracy"], make_spec("classification"))
    assert list(chosen.items()) == [(name, METRICS[name, "classification"]) for name in ("recall", "accuracy")]
    assert choose_metrics([], make_spec("classification")) == {}


def test_same_name_means_the_metric_of_the_task() -> None:
    classes, labels = (choose_metrics(["f1"], make_spec(task))["f1"] for task in ("classification", "multilabel"))
    assert classes is METRICS["f1", "classification"] and labels is METRICS["f1", "multilabel"]
    assert classes is not labels


def test_unknown_metric_is_refused_with_the_nearest_name_and_all_there_are() -> None:
    with pytest.raises(ConfigError) as refused:
        choose_metrics(["acuracy"], make_spec("classification"))
    message = str(refused.value)
    assert message.startswith("metrics: acuracy: no such metric for classification")
    assert "did you mean accuracy?" in message
    assert all(name in message for name, task in METRICS if task == "classification")


def test_metric_of_another_task_is_refused() -> None:
    with pytest.raises(ConfigError, match="metrics: r2: no such metric for classification"):
        choose_metrics(["r2"], make_spec("classification"))
    with pytest.raises(ConfigError, match="metrics: accuracy: no such metric for regression"):
        choose_metrics(["accuracy"], make_spec("regression"))


def test_every_unknown_metric_gets_a_line() -> None:
    with pytest.raises(ConfigError) as refused:
        choose_metrics(["nonsense", "recall", "gibberish"], make_spec("classification"))
    assert [line.split(": ")[1] for line in refused.value.problems] == ["nonsense", "gibberish"]


def chosen(scores: list[float], true: list[int]) -> float:
    """The threshold of a single label."""
    (threshold,) = choose_thresholds(torch.tensor(scores)[:, None], torch.tensor(true)[:, None])
    return threshold


@pytest.mark.parametrize("digits", [1, 2, 6])
def test_no_threshold_has_a_higher_f1_than_the_chosen_one(digits: int) -> None:
    scores, targets = draw("multilabel", 60)
    scores = scores.double().round(decimals=digits).float()  # with few digits, many scores are equal
    for column, true, threshold in zip(scores.T, targets.T, choose_thresholds(scores, targets), strict=True):
        ends = [0.0, *column.unique().tolist()]
        middles = [(low + high) / 2 for low, high in itertools.pairwise(ends)]
        assert threshold in torch.tensor(middles).tolist()
        f1 = [float(oracle.classification.binary_f1_score(column, true.long(), each)) for each in [threshold, *middles]]
        assert f1[0] == max(f1)
        equal = [abs(each - 0.5) for each, value in zip(middles, f1[1:], strict=True) if value == f1[0]]
        assert abs(threshold - 0.5) == pytest.approx(min(equal), abs=1e-7)


def test_a_threshold_lies_in_the_middle_between_the_scores_that_it_separates() -> None:
    assert chosen([0.1, 0.2, 0.3, 0.4], [0, 0, 1, 1]) == pytest.approx(0.25)
    assert chosen([0.2, 0.4], [1, 1]) == pytest.approx(0.1)  # every sample has the label: half the lowest score
    assert chosen([0.2, 0.4, 0.8], [1, 0, 0]) == pytest.approx(0.1)
    assert chosen([0.1, 0.9, 0.3, 0.7], [0, 1, 1, 0]) == pytest.approx(0.2)  # the f1 of 0.2 is 4/5, of 0.8 2/3
    assert chosen([0.3, 0.7, 0.7], [1, 1, 0]) == pytest.approx(0.15)  # equal scores are on the same side


def test_of_thresholds_with_the_same_f1_the_nearest_to_a_half_is_chosen() -> None:
    # above the first score 2 * 1 / (1 + 2), above the second last 2 * 2 / (4 + 2)
    assert chosen([0.98, 0.6, 0.58, 0.56, 0.02], [1, 0, 0, 1, 0]) == pytest.approx(0.29)  # and not 0.79
    assert chosen([0.6, 0.5, 0.48, 0.1, 0.02], [1, 0, 0, 1, 0]) == pytest.approx(0.55)  # and not 0.06


def test_a_label_that_no_sample_has_keeps_a_half_and_so_does_one_of_scores_of_0() -> None:
    assert chosen([0.1, 0.9], [0, 0]) == 0.5
    assert chosen([0.0, 0.0], [1, 0]) == 0.5


def test_a_threshold_separates_scores_that_are_neighbours_in_float32() -> None:
    low = torch.tensor(0.3)
    high = torch.nextafter(low, torch.tensor(1.0))
    threshold = chosen([float(low), float(high)], [0, 1])
    assert float(low) <= threshold < float(high)


def test_sums_keep_outputs_and_count_above_thresholds() -> None:
    scores, targets = draw("multilabel", 50)
    thresholds = [0.2, 0.4, 0.6, 0.8]
    sums = Sums(make_spec("multilabel"), CPU, as_they_are, thresholds, keeps_outputs=True)
    for some, true in zip(scores.split(20), targets.split(20), strict=True):
        sums.update(torch.zeros(()), len(true), some, true)
        assert [each[-1].tolist() for each in sums.kept] == [some[-1].tolist(), true[-1].tolist()]
    kept, answers = sums.scored(torch.float32)
    assert torch.equal(kept, scores) and torch.equal(answers, targets)
    predicted, true = scores > torch.tensor(thresholds), targets > 0.5
    assert sums.total[0].tolist() == (predicted & true).sum(0).tolist()
    assert sums.total.sum(0).tolist() == [50] * WIDTH


def test_thresholds_are_for_labels_alone() -> None:
    labels, classes = make_spec("multilabel"), make_spec("classification")
    assert fixed_thresholds("auto", labels) == (0.5,) * WIDTH
    assert fixed_thresholds(0.4, labels) == pytest.approx((0.4,) * WIDTH)
    assert fixed_thresholds("auto", classes) == fixed_thresholds(0.5, classes) == ()
    with pytest.raises(ConfigError, match=r"thresholds: needs labels; .*; leave thresholds out"):
        fixed_thresholds(0.4, classes)


def test_a_line_shows_a_few_thresholds_and_how_many_more_there_are() -> None:
    assert shown_thresholds(["a", "b"], [0.5, 0.5]) == "0.5"
    assert shown_thresholds(["a", "b"], [0.5, 0.25]) == "a 0.5000, b 0.2500"
    many = shown_thresholds([*map(str, range(20))], [each / 20 for each in range(20)])
    assert many.endswith("7 0.3500 and 12 more")
