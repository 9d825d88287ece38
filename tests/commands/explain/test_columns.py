"""The importance of columns and their effects, against their definitions and against scikit-learn."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tests.made import Made
from trainer import compose, run
from trainer.commands.evaluate.measure import measure
from trainer.commands.explain import columns
from trainer.commands.explain.columns import (
    Column,
    ExplainedColumn,
    Samples,
    choose_samples,
    choose_score,
    columns_of,
    draw_orders,
    exchange_cells,
    explain_columns,
    find_columns,
    measure_effect,
    measure_importance,
)
from trainer.commands.opened_run import OpenedRun, load
from trainer.config import ConfigError
from trainer.data.table_encoding import EncodedColumn

SHORT = ("epochs=1", "limit_batches=1", "logger=none", "device=cpu")


def trained_on(folder: Path, *words: str) -> OpenedRun:
    """Return a run that has been trained for one step in a folder."""
    run(compose(*words, *SHORT, f"run_dir={folder / 'run'}"))
    return load(str(folder / "run"))


@pytest.fixture(scope="module")
def numbers(tmp_path_factory: pytest.TempPathFactory) -> OpenedRun:
    """A run whose model is linear: the value is 3 times the first of four columns minus the second."""
    folder = tmp_path_factory.mktemp("numbers")
    rows = np.random.default_rng(0).normal([5, 0, -2, 0], [1, 2, 3, 1], size=(300, 4)).astype("f4")
    noise = np.random.default_rng(1).normal(size=300)
    np.savez(folder / "rows.npz", x=rows, y=(3 * rows[:, 0] - rows[:, 1] + 0.1 * noise).astype("f4"))
    words = ["dataset=npz", f"dataset.path={folder / 'rows.npz'}", "dataset.test_fraction=0.5"]
    trained = trained_on(folder, *words, "dataset.normalise_targets=false", "model=mlp", "loss=mse")
    return with_weights(trained, [3, -1, 0, 0])


def with_weights(trained: OpenedRun, weights: list[float]) -> OpenedRun:
    """Return a run with a linear model that has these weights for raw numbers."""
    std: Tensor = trained.normalise.std  # type: ignore[union-attr]
    mean: Tensor = trained.normalise.mean  # type: ignore[union-attr]
    model = nn.Linear(len(weights), 1).requires_grad_(False)
    model.weight.copy_(torch.tensor(weights) * std)
    model.bias.copy_((torch.tensor(weights) * mean).sum())
    return dataclasses.replace(trained, model=model)


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> OpenedRun:
    """A run on a number with missing cells, a category with a rare and a missing level, and a date."""
    folder = tmp_path_factory.mktemp("mixed")
    lines = ["size,color,when,kind"]
    for at in range(120):
        size = "" if at % 7 == 0 else f"{at * 37 % 101 / 10}"
        color = "" if at % 11 == 0 else f"rare{at}" if at % 13 == 0 else ("red", "blue", "green")[at % 3]
        lines.append(f"{size},{color},2024-{1 + at % 12:02}-{1 + at % 28:02},{'xyz'[at * 37 % 101 // 34]}")
    (folder / "rows.csv").write_text("\n".join(lines) + "\n")
    words = [f"dataset.path={folder / 'rows.csv'}", "dataset.target=kind", "dataset.test_fraction=0.4"]
    return trained_on(folder, "dataset=csv", *words, "model.hidden=[8]")


def explained(trained: OpenedRun, **options: Any) -> dict[str, ExplainedColumn]:
    """Explain all columns on the test split of a run."""
    found = explain_columns(trained, trained.data().test, columns_of(trained), choose_score(trained), **options)
    return {each.column.name: each for each in found.columns}


# ---- importance


def test_the_importance_equals_that_of_scikit_learn_for_the_same_exchanges(numbers: OpenedRun) -> None:
    inspection = pytest.importorskip("sklearn.inspection")
    samples = choose_samples(numbers, numbers.data().test)
    rows, targets = samples.inputs[0].numpy(), samples.targets.numpy()

    class Model:
        def fit(self, *_: Any) -> None: ...

        def predict(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
            return numbers.scores(rows).numpy()

    def rmse(model: Model, rows: NDArray[np.float32], targets: NDArray[np.float32]) -> float:
        return -math.sqrt(((model.predict(rows) - targets).astype("f8") ** 2).mean())

    found = inspection.permutation_importance(Model(), rows, targets, scoring=rmse, n_repeats=3, random_state=7)
    seed = np.random.RandomState(7).randint(np.iinfo(np.int32).max + 1)
    draw, shuffled, order, orders = np.random.RandomState(seed), np.arange(len(rows)), np.arange(len(rows)), []
    for _ in range(3):  # scikit-learn shuffles cells that it has shuffled before
        draw.shuffle(shuffled)
        order = order[shuffled]
        orders.append(torch.from_numpy(order.copy()))
    score = choose_score(numbers)
    for column, wanted in zip(columns_of(numbers), found.importances, strict=True):
        ours = measure_importance(numbers, samples, column, score, -rmse(Model(), rows, targets), torch.stack(orders))
        assert ours.tolist() == pytest.approx(wanted, rel=1e-5, abs=1e-6)


def test_a_column_that_decides_is_important_and_one_that_the_model_ignores_is_not(numbers: OpenedRun) -> None:
    found = explained(numbers)
    assert [*found][:2] == ["column 1", "column 2"]
    # the error of a column with weight w and variance v that is exchanged: its mean square is 2 w² v
    assert found["column 1"].importance == pytest.approx(math.sqrt(2 * 9), rel=0.15)
    assert found["column 2"].importance == pytest.approx(math.sqrt(2 * 4), rel=0.15)
    assert 0 < found["column 1"].deviation < 0.5
    assert found["column 3"].worse.tolist() == found["column 4"].worse.tolist() == [0] * 5


def test_the_numbers_are_the_same_each_time(mixed: OpenedRun) -> None:
    one, two = explained(mixed), explained(mixed)
    assert all(torch.equal(one[name].worse, two[name].worse) for name in one)
    assert not torch.equal(draw_orders(30)[0], draw_orders(30)[1])


def test_a_loss_that_gets_worse_gets_higher(numbers: OpenedRun) -> None:
    test = numbers.data().test
    for name in ("loss", "rmse", "r2"):
        found = explain_columns(numbers, test, columns_of(numbers), choose_score(numbers, name), max_effects=0)
        assert found.columns[0].column.name == "column 1"
        assert found.columns[0].importance > 0.1


def test_a_metric_of_scores_is_that_of_evaluate(mixed: OpenedRun) -> None:
    data = mixed.data()
    for name in ("log_loss", "auroc"):
        found = explain_columns(mixed, data.test, columns_of(mixed), choose_score(mixed, name), max_effects=0)
        wanted = measure([load(str(mixed.run.path), words=["limit_batches=null"])], "test", [name]).values[name]
        assert found.value == pytest.approx(wanted, rel=1e-5)
        assert found.score.sign == (1 if name == "auroc" else -1)


def test_of_many_samples_and_columns_some_are_measured(numbers: OpenedRun, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(columns, "MAX_COLUMNS", 3)
    test = numbers.data().test
    found = explain_columns(numbers, test, columns_of(numbers), choose_score(numbers), max_samples=40)
    assert (found.num_samples, found.num_in_split, found.num_left_out, len(found.columns)) == (40, 150, 1, 3)
    assert found.measured("test") == "40 samples of test, drawn from 150"
    some = choose_samples(numbers, test, 40)
    assert torch.equal(some.targets, choose_samples(numbers, test, 40).targets)
    assert not torch.equal(some.targets, test.targets[:40])


def test_a_sequence_is_given_the_whole_series_of_another_one() -> None:
    values = torch.zeros(3, 4, 2)
    values[0, :4] = torch.tensor([[1.0, 10], [2, 20], [3, 30], [4, 40]])
    values[1, :2] = torch.tensor([[5.0, 50], [6, 60]])
    values[2, :1] = torch.tensor([[7.0, 70]])
    changed, lengths = exchange_cells((values, torch.tensor([4, 2, 1])), slice(0, 1), torch.tensor([1, 0, 2]))
    assert changed[:, :, 0].tolist() == [[5, 5, 6, 6], [1, 3, 0, 0], [7, 0, 0, 0]]
    assert torch.equal(changed[:, :, 1], values[:, :, 1])
    assert lengths.tolist() == [4, 2, 1]


# ---- effect


def test_the_effect_in_a_linear_model_is_a_line_with_its_slope(numbers: OpenedRun) -> None:
    found = explained(numbers)
    for name, slope in {"column 1": 3, "column 2": -1, "column 4": 0}.items():
        effect = found[name].effect
        assert effect is not None
        assert effect.counts is None
        cells, answers = effect.cells.double(), effect.answers[:, 0]
        assert len(cells) == 20
        assert torch.equal(cells.sort().values, cells)
        assert (answers.diff() / cells.diff()).tolist() == pytest.approx([slope] * 19, abs=1e-3)


def test_the_effect_is_the_mean_answer_with_the_cell_in_every_sample(mixed: OpenedRun) -> None:
    rows = mixed.data().test.source.fetch(mixed.data().test.positions)[0]
    for at, name in enumerate(("size", "color", "when")):
        effect = explained(mixed)[name].effect
        assert effect is not None
        for cell, answers in zip(effect.cells, effect.answers, strict=True):
            changed = rows.clone()
            changed[:, at] = cell
            assert mixed.scores(changed).double().mean(0).tolist() == pytest.approx(answers.tolist(), abs=1e-6)
        assert effect.shown == [0, 1, 2]


def test_levels_rare_levels_and_missing_cells_have_an_effect(mixed: OpenedRun) -> None:
    effects = {name: each.effect for name, each in explained(mixed).items()}
    levels = dict(enumerate(columns_of(mixed)[1].encoded.levels))
    color, size, when = effects["color"], effects["size"], effects["when"]
    assert color is not None
    assert size is not None
    assert when is not None
    assert {levels.get(int(cell), cell) for cell in color.cells.nan_to_num(-9).tolist()} == {
        "red",
        "blue",
        "green",
        -1,
        -9,
    }
    rows = mixed.data().test.source.fetch(mixed.data().test.positions)[0]
    wanted = [int((rows[:, 1].nan_to_num(-9) == cell).sum()) for cell in color.cells.nan_to_num(-9)]
    assert color.counts == wanted
    assert size.cells.isnan().tolist() == [False] * (len(size.cells) - 1) + [True]
    assert not when.cells.isnan().any()


def test_the_class_that_is_asked_for_is_shown(mixed: OpenedRun) -> None:
    assert all(each.effect is not None and each.effect.shown == [2] for each in explained(mixed, target=2).values())


def test_few_columns_have_an_effect_and_a_text_and_an_empty_column_have_none(mixed: OpenedRun) -> None:
    assert [each.effect is not None for each in explained(mixed, max_effects=1).values()] == [True, False, False]
    rows = Samples((torch.full((5, 3), math.nan),), torch.zeros(5, dtype=torch.int64))
    for kind in ("text", "number"):
        column = Column(EncodedColumn("x", kind, levels=("a",) * (kind == "text")), slice(0, 1))
        assert measure_effect(mixed, rows, rows, column) is None


def test_the_columns_of_sequences_are_explained(made: Made) -> None:
    trained = load(str(made.run("gru", "sequence")))
    found = explained(trained)
    assert {*found} == {"a", "b", "c", "d"}
    inputs, lengths = trained.data().test.source.fetch(trained.data().test.positions)
    effect = found["c"].effect
    assert effect is not None
    inputs[..., 2] = effect.cells[3]
    assert trained.scores((inputs, lengths)).double().mean(0).tolist() == pytest.approx(
        effect.answers[3].tolist(), abs=1e-6
    )


# ---- choices


def test_the_metric_is_the_monitor_or_one_that_a_reader_knows(mixed: OpenedRun, numbers: OpenedRun) -> None:
    assert mixed.settings.monitor == "val/loss"
    assert choose_score(mixed).name == "accuracy"
    assert choose_score(numbers).name == "rmse"
    monitored = dataclasses.replace(mixed, settings=dataclasses.replace(mixed.settings, monitor="val/f1"))
    assert choose_score(monitored).name == "f1"
    values = dataclasses.replace(mixed, loss=numbers.loss, spec=dataclasses.replace(mixed.spec, classes=("x", "y")))
    with pytest.raises(
        ConfigError, match=r"--metric: brier: needs probabilities, and .*; --metric accuracy needs none"
    ):
        choose_score(values, "brier")
    with pytest.raises(
        ConfigError, match="--metric: acuracy: no such metric for classification; did you mean accuracy"
    ):
        choose_score(mixed, "acuracy")


def test_columns_are_found_by_name_even_with_a_comma() -> None:
    known = [Column(EncodedColumn(name), slice(at, at + 1)) for at, name in enumerate(("a", "b,c", "d"))]
    assert find_columns(known, "") == known
    assert [each.name for each in find_columns(known, "d, a")] == ["d", "a"]
    assert [each.name for each in find_columns(known, "b,c")] == ["b,c"]
    with pytest.raises(ConfigError, match="--columns: device=cpu: no such column; write device=cpu before --columns;"):
        find_columns(known, "device=cpu")


def test_a_run_on_pictures_has_no_columns(made: Made) -> None:
    trained = load(str(made.run("cnn", "image")))
    with pytest.raises(ConfigError, match="which has no columns; trainer explain RUN FILE explains"):
        columns_of(trained)
