"""Every option of every folder trains, and reaches a stated accuracy: a new one is tested the moment it is added."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import REPOSITORY, Train
from trainer.config.registry import registry

# Every option must reach this on the bundled digits, ten classes, in eight epochs.
FLOOR = 0.90
EPOCHS = "epochs=8"

# What needs other words to show what it can, with the floor it reaches then.
MODEL_WORDS: dict[str, tuple[list[str], float]] = {
    "gru": (["epochs=12"], 0.90),
    "lstm": (["epochs=12"], 0.90),
    "torchvision": (["epochs=3"], 0.80),
}
TWO_CLASSES = ["dataset=synthetic", "dataset.classes=2", "model.channels=[8]"]
LOSS_WORDS: dict[str, tuple[list[str], float]] = {
    "bce": (TWO_CLASSES, 0.98),
    "bce_prob": (TWO_CLASSES, 0.98),
    "l1": (["epochs=12"], 0.85),
}


def check(train: Train, words: list[str], floor: float) -> None:
    result = train(EPOCHS, "logger=none", *words)
    assert result.code == 0, result.err
    assert result.summary["state"] == "finished"
    assert result.summary["test/accuracy"] >= floor


MODELS = [pytest.param(name, marks=[pytest.mark.slow] * (name == "torchvision")) for name in registry("model").names()]


@pytest.mark.parametrize("model", MODELS)
def test_every_model_learns_digits(train: Train, model: str) -> None:
    words, floor = MODEL_WORDS.get(model, ([], FLOOR))
    check(train, [f"model={model}", *words], floor)


# Optimizers that are calls of torch alone are slow tests; a new one is tested by default.
OPTIMIZERS = [
    pytest.param(name, marks=[pytest.mark.slow] * (name in ("adagrad", "adamw", "nadam", "radam", "rmsprop")))
    for name in registry("optimizer").names()
]


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_every_optimizer_learns_digits(train: Train, optimizer: str) -> None:
    check(train, [f"optimizer={optimizer}"], FLOOR)


@pytest.mark.slow
@pytest.mark.parametrize("scheduler", registry("scheduler").names())
def test_every_schedule_learns_digits(train: Train, scheduler: str) -> None:
    check(train, [f"scheduler={scheduler}"], FLOOR)


@pytest.mark.parametrize("loss", sorted({*registry("loss").names()} - {"quantile"}))  # of values alone
def test_every_loss_learns(train: Train, loss: str) -> None:
    words, floor = LOSS_WORDS.get(loss, ([], FLOOR))
    check(train, [f"loss={loss}", *words], floor)


@pytest.mark.parametrize("logger", registry("logger").names())
def test_every_logger_leaves_training_alone(train: Train, logger: str) -> None:
    result = train("max_steps=5", f"logger={logger}")
    assert result.code == 0
    assert result.summary["steps"] == 5


def test_several_loggers_work_at_once(train: Train) -> None:
    result = train("max_steps=5", "logger=[tensorboard,csv]")
    assert (result.run_dir / "metrics.csv").is_file()
    assert list(result.run_dir.glob("tensorboard/train/events*"))


KINDS = {
    "image": "dataset.shape=[1,8,8]",
    "sequence": "dataset.shape=[8,4]",
    "tokens": "dataset.shape=[12]",
    "table": "dataset.shape=[16]",
}


# Every model and every kind of data once; the other combinations are slow.
MODELS_AND_KINDS = [
    pytest.param(model, kind, marks=[pytest.mark.slow] * ((row + column) % 3 > 0))
    for row, model in enumerate(["cnn", "gru", "lstm"])
    for column, kind in enumerate(KINDS)
]


@pytest.mark.parametrize(("model", "kind"), MODELS_AND_KINDS)
def test_every_model_learns_every_kind_of_data(train: Train, model: str, kind: str) -> None:
    words = ["dataset=synthetic", f"dataset.kind={kind}", KINDS[kind], "dataset.classes=4", "optimizer.lr=5e-3"]
    words += ["model.channels=[16,32]"] if model == "cnn" else []
    check(train, [f"model={model}", *words], 0.90)


@pytest.mark.parametrize("model", ["cnn", "gru", pytest.param("lstm", marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", [pytest.param("sequence", marks=pytest.mark.slow), "tokens"])
def test_every_model_learns_from_steps_of_varying_number(train: Train, model: str, kind: str) -> None:
    words = ["dataset=synthetic", f"dataset.kind={kind}", KINDS[kind], "dataset.classes=4", "optimizer.lr=5e-3"]
    check(train, [f"model={model}", *words, "dataset.min_steps=4"], 0.80)


@pytest.mark.parametrize("loss", ["bce", *(pytest.param(loss, marks=pytest.mark.slow) for loss in ("bce_prob", "mse"))])
def test_labels_are_learned(train: Train, loss: str) -> None:
    words = ["dataset=synthetic", "dataset.task=multilabel", "dataset.classes=4", f"loss={loss}", "epochs=15"]
    result = train("logger=none", *words)
    assert result.code == 0, result.err
    assert result.summary["test/accuracy"] > 0.9
    assert result.summary["test/f1"] > 0.9


@pytest.mark.parametrize("loss", ["mse", *(pytest.param(loss, marks=pytest.mark.slow) for loss in ("l1", "huber"))])
@pytest.mark.parametrize("model", ["cnn", pytest.param("gru", marks=pytest.mark.slow)])
def test_values_are_learned(train: Train, loss: str, model: str) -> None:
    words = ["dataset=synthetic", "dataset.task=regression", "dataset.classes=2", f"loss={loss}", f"model={model}"]
    result = train("logger=none", "epochs=15", "optimizer.lr=3e-3", *words)
    assert result.code == 0, result.err
    assert result.summary["test/r2"] > 0.8
    assert result.summary["monitor"] == "val/loss"


RECIPES = sorted(path.stem for path in (REPOSITORY / "configs" / "experiment").glob("*.yaml"))


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_recipe_says_its_command_and_its_measured_result(recipe: str) -> None:
    text = (REPOSITORY / "configs" / "experiment" / f"{recipe}.yaml").read_text()
    assert text.startswith("# @package _global_\n")
    assert f"#   train experiment={recipe}" in text
    assert "# Measured: " in text
    assert "seeds 0, 1 and 2" in text.replace("\n# ", " ")
    assert "PLACEHOLDER" not in text


@pytest.mark.slow
@pytest.mark.parametrize("recipe", [recipe for recipe in RECIPES if recipe.startswith("synthetic")])
def test_a_recipe_on_made_data_reaches_what_its_header_says(train: Train, recipe: str) -> None:
    result = train(f"experiment={recipe}", "logger=none", "seed=1")
    assert result.code == 0, result.err
    assert result.summary["test/accuracy"] >= 0.95


@pytest.mark.parametrize("recipe", [recipe for recipe in RECIPES if "mnist" in recipe])
def test_a_recipe_on_mnist_starts(train: Train, data_root: Path, recipe: str) -> None:
    words = [f"experiment={recipe}", f"dataset.root={data_root}", "max_steps=2", "limit_batches=2"]
    result = train(*words, "logger=none")
    assert result.code == 0, result.err


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "floor"),
    [
        (["model=cnn", "epochs=1", "batch_size=64", "limit_batches=150"], 0.940),
        (["model=cnn", "epochs=1"], 0.980),
        (["model=cnn", "epochs=5"], 0.990),
        (["model=gru", "epochs=3"], 0.970),
        (["model=lstm", "epochs=3"], 0.970),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else f"{value}",
)
def test_mnist_is_learned(train: Train, data_root: Path, words: list[str], floor: float) -> None:
    result = train("dataset=mnist", f"dataset.root={data_root}", "batch_size=128", "logger=none", *words)
    assert result.summary["test/accuracy"] >= floor


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_defaults_reach_their_accuracy(train: Train, seed: int) -> None:
    assert train(f"seed={seed}").summary["test/accuracy"] >= 0.965
