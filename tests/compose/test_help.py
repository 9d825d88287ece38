"""The help text: every group, option and key with a sentence."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from tests.config.test_registry import COMPONENTS
from tests.conftest import REPOSITORY, Train
from trainer.config import GROUPS, Settings, yaml_file
from trainer.config.registry import registry
from trainer.config.signature import keys_in

CONFIGS = REPOSITORY / "configs"


@pytest.mark.parametrize(("group", "name"), COMPONENTS)
def test_every_key_of_an_option_has_a_sentence(group: str, name: str) -> None:
    comments = yaml_file.read(CONFIGS / group / f"{name}.yaml").comments
    for key, parameter in registry(group).keys(name).items():
        assert comments.get(key), f"{group}={name}: {key}"
        for nested in keys_in(parameter.annotation):
            assert comments.get(f"{key}.{nested}"), f"{group}={name}: {key}.{nested}"


def test_every_key_of_a_run_has_a_sentence_and_stands_in_the_help(train: Train) -> None:
    comments = yaml_file.read(CONFIGS / "train.yaml").comments
    text = train("--help").out
    for key, parameter in keys_in(Settings).items():
        for full in [f"{key}.{name}" for name in keys_in(parameter.annotation)] or [key]:
            if key not in GROUPS:
                assert comments[full]
                assert f"\n  {full} " in text
    for group, name in COMPONENTS:
        assert f" {name} " in text, (group, name)
    assert text.count("\n  train") == 7, "seven examples"


@pytest.mark.parametrize(("group", "name"), COMPONENTS)
def test_the_help_of_an_option_has_its_keys_with_defaults_types_and_sentences(
    train: Train, group: str, name: str
) -> None:
    result = train(f"{group}={name}", "--help")
    assert (result.code, result.err) == (0, "")
    file = yaml_file.read(CONFIGS / group / f"{name}.yaml")
    text = " ".join(result.out.split())
    assert result.out.startswith(f"{group}={name}  (configs/{group}/{name}.yaml)\n")
    assert " ".join(file.header.split()) in text
    for sentence in file.comments.values():
        assert " ".join(sentence.split()) in text or "augment" in str(file.comments)
    path = f"logger.{name}" if group == "logger" else group
    for key, parameter in registry(group).keys(name).items():
        if not keys_in(parameter.annotation):
            assert f"  {path}.{key} " in result.out


def test_the_values_shown_are_those_of_the_command(train: Train) -> None:
    assert "model.hidden       7  " in train("model=cnn", "model.hidden=7", "model.channels=[3]", "--help").out
    text = train("experiment=mnist_cnn", "optimizer=adam", "--help").out
    assert "Measured: 0.9958 test accuracy" in text
    assert "optimizer.lr            0.005" in text


def test_the_help_of_a_users_option_shows_its_own_sentences(train: Train, tmp_path: Path) -> None:
    (tmp_path / "mine" / "model").mkdir(parents=True)
    (tmp_path / "mine" / "model" / "wide.yaml").write_text(
        "# Wide.\ndefaults: [cnn]\nhidden: 999  # more than enough\n"
    )
    text = train("--config-dir", str(tmp_path / "mine"), "model=wide", "--help").out
    assert "\n  Wide.\n" in text
    assert "999       more than enough" in text
    assert "feature maps of each block" in text


def test_the_command_that_the_help_of_a_users_recipe_shows_works(train: Train, tmp_path: Path) -> None:
    (tmp_path / "my own" / "experiment").mkdir(parents=True)
    (tmp_path / "my own" / "experiment" / "short.yaml").write_text("# @package _global_\n# Short.\nepochs: 1\n")
    text = train("--config-dir", str(tmp_path / "my own"), "experiment=short", "--help").out
    command = text.partition("its config: train ")[2].splitlines()[0]
    assert train(*shlex.split(command)).code == 0


def test_it_fits_a_narrow_terminal(train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    lines = train("--help").out.splitlines()
    assert max(len(line) for line in lines if "run_dir" not in line and "  train" not in line) <= 80
