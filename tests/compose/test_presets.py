"""The settings that a data set brings along."""

from __future__ import annotations

from pathlib import Path

import pytest

import trainer
from tests.forked import forked
from trainer.config import ConfigError

TABLE = ("dataset=csv", "dataset.path=a.csv")


def test_a_table_brings_its_model_loss_optimizer_and_numbers() -> None:
    job = trainer.compose(*TABLE).settings
    assert (job.model["name"], job.loss["name"], job.optimizer["name"]) == ("mlp", "auto", "adamw")
    assert job.loss["label_smoothing"] == 0.1
    assert job.optimizer["weight_decay"] == 0.8
    assert (job.batch_size, job.patience, job.ema, job.monitor) == (128, 20, 0.99, "val/loss")


@pytest.mark.parametrize("words", [("dataset.group_by=id",), ("dataset.shape=[1,8,8]",), ("preset=none",)])
def test_sequences_pictures_and_preset_none_have_the_settings_of_other_data(words: tuple[str, ...]) -> None:
    job, usual = trainer.compose(*TABLE, *words).settings, trainer.compose().settings
    for name in ("model", "loss", "optimizer", "scheduler", "batch_size", "epochs", "patience", "ema", "monitor"):
        assert getattr(job, name) == getattr(usual, name), name


def test_a_key_that_is_null_leaves_a_table_a_table() -> None:
    assert trainer.compose(*TABLE, "dataset.group_by=null", "dataset.shape=null").settings.model["name"] == "mlp"


def test_every_word_of_the_command_line_counts_more_than_the_preset() -> None:
    job = trainer.compose(
        *TABLE, "model=cnn", "optimizer=sgd", "loss=focal", "batch_size=7", "patience=null", "ema=null"
    ).settings
    assert (job.model["name"], job.optimizer["name"], job.loss["name"]) == ("cnn", "sgd", "focal")
    assert (job.batch_size, job.patience, job.ema) == (7, None, None)


def test_a_recipe_counts_more_than_the_preset(tmp_path: Path) -> None:
    recipe = tmp_path / "experiment" / "mine.yaml"
    recipe.parent.mkdir()
    recipe.write_text(
        "# @package _global_\ndefaults:\n  - override /dataset: csv\n  - override /model: gru\nbatch_size: 9\n"
    )
    job = trainer.compose("experiment=mine", "dataset.path=a.csv", config_dir=tmp_path).settings
    assert (job.model["name"], job.optimizer["name"], job.batch_size, job.patience) == ("gru", "adamw", 9, 20)


def test_an_unknown_preset_is_named_with_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="preset=tabel: no such option; did you mean table"):
        trainer.compose(*TABLE, "preset=tabel")


def test_hydra_shows_the_config_that_is_trained(tmp_path: Path) -> None:
    shown = forked([*TABLE, "dataset.group_by=id", "--cfg", "job"], tmp_path)
    assert shown.returncode == 0
    assert "name: cnn" in shown.stdout


@pytest.mark.parametrize("where", ["command line", "recipe"])
def test_without_val_there_is_nothing_to_wait_for(where: str, tmp_path: Path) -> None:
    recipe = tmp_path / "experiment" / "mine.yaml"
    recipe.parent.mkdir()
    lines = "# @package _global_\ndefaults:\n  - override /dataset: csv\ndataset:\n  val_fraction: 0.0\n"
    recipe.write_text(lines)
    words = ["dataset=csv", "dataset.val_fraction=0"] if where == "command line" else ["experiment=mine"]
    job = trainer.compose(*words, "dataset.path=a.csv", config_dir=tmp_path).settings
    assert (job.model["name"], job.patience, job.monitor) == ("mlp", None, None)
