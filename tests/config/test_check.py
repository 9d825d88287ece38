"""The check of the whole config."""

from __future__ import annotations

from typing import Any

import pytest
from omegaconf import OmegaConf

from tests.conftest import REPOSITORY
from trainer.config import GROUPS, ConfigError, Settings
from trainer.config.check import check


def plain_config() -> dict[str, Any]:
    """Compose configs/train.yaml with its default options without Hydra."""
    configs = REPOSITORY / "configs"
    root = OmegaConf.to_container(OmegaConf.load(configs / "train.yaml"), resolve=False)
    assert isinstance(root, dict)
    chosen = {key: option for default in root.pop("defaults")[1:] for key, option in default.items()}
    del root["hydra"]
    for group in GROUPS:
        option = chosen[group][0] if group == "logger" else chosen[group]
        config = OmegaConf.to_container(OmegaConf.load(configs / group / f"{option}.yaml"))
        root[group] = {option: config} if group == "logger" else config
    return {**root, "run_dir": "somewhere"}


def test_the_default_config_passes_and_comes_back_the_same() -> None:
    settings = check(plain_config())
    assert isinstance(settings, Settings)
    assert settings.optimizer["betas"] == [0.9, 0.999]
    again = check(settings.to_dict())
    assert again.replace(sweep_dir=settings.sweep_dir) == settings  # a run does not keep the keys of its sweep


def test_a_whole_number_serves_as_a_number() -> None:
    config = plain_config()
    config["optimizer"]["lr"] = 1
    assert check(config).optimizer["lr"] == 1.0
    assert isinstance(check(config).optimizer["lr"], float)


def test_a_component_without_its_defaults_is_one_line() -> None:
    config = plain_config()
    config["optimizer"] = {"name": "adam"}
    with pytest.raises(ConfigError) as caught:
        check(config, lambda key: "mine.yaml, line 1" if key == "optimizer.name" else "")
    assert caught.value.problems == (
        "optimizer: 4 keys of adam are missing (mine.yaml, line 1); begin the YAML with defaults: [adam]",
    )


def test_every_mistake_is_found_at_once_and_what_was_typed_is_said() -> None:
    config = plain_config()
    config["epochs"] = "many"
    config["checkpoint"]["kep"] = 2
    config["model"]["hidden"] = -1
    config["dataset"]["augment"]["flip"] = 3
    del config["seed"]
    config["scheduler"]["name"] = "cosin"
    with pytest.raises(ConfigError) as caught:
        check(config, lambda key: "from the command line" if key == "model.hidden" else "")
    assert sorted(caught.value.problems) == sorted(
        [
            "epochs: must be a whole number, at least 1, got 'many'",
            "checkpoint.kep: no such key; did you mean checkpoint.keep? keys: every_steps, keep, on_error, async",
            "model.hidden: must be a whole number, at least 1, got -1 (from the command line)",
            "dataset.augment.flip: must be true or false, got 3",
            "seed: missing; a whole number, at least 0",
            "scheduler=cosin: no such option; did you mean cosine? options: "
            "constant, cosine, exponential, linear, multistep, onecycle, plateau, step",
        ]
    )
