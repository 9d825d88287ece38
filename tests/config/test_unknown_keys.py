"""A key that does not exist is answered with the nearest keys, by spelling and by meaning."""

from __future__ import annotations

from typing import Any

import pytest

from trainer.config.check import check
from trainer.config.errors import ConfigError
from trainer.config.registry import registries
from trainer.config.settings import GROUPS, Settings
from trainer.config.signature import keys_in
from trainer.config.unknown_keys import KEY_SYNONYMS, MAX_NEAREST, unknown_key

MANY = ["target", "features", "test_fraction", "test_seed", "test_samples", "task", "val_fraction", "path", "header"]
MANY += ["delimiter", "encoding", "ignore"]


def line_about(key: str, **groups: str) -> str:
    """Return the message for a key that does not exist in a config without other keys."""
    chosen = {"model": "cnn", "dataset": "digits", "optimizer": "adam", **groups}
    config: dict[str, Any] = {group: {"name": name} for group, name in chosen.items()}
    parent, _, leaf = key.rpartition(".")
    (config[parent] if parent else config)[leaf] = 1
    with pytest.raises(ConfigError) as caught:
        check(config)
    (line,) = (line for line in caught.value.problems if line.startswith(f"{key}: no such key"))
    return line.removeprefix(f"{key}: no such key; ")


def test_of_many_keys_the_nearest_are_listed_and_the_command_that_lists_all() -> None:
    assert unknown_key("dataset.test_fracton", MANY, command="train dataset=csv --help") == (
        "dataset.test_fracton: no such key; did you mean dataset.test_fraction? nearest keys: val_fraction; "
        "train dataset=csv --help lists all 12 keys"
    )
    assert unknown_key("dataset.test", MANY) == (
        "dataset.test: no such key; did you mean dataset.test_seed? nearest keys: target, test_fraction, test_samples; "
        "train --help lists all 12 keys"
    )
    assert unknown_key("dataset.zzz", MANY) == "dataset.zzz: no such key; train --help lists all 12 keys"
    line = unknown_key("a.key", [f"key{number}" for number in range(99)])
    assert line.count("key") - line.count("keys") <= MAX_NEAREST + 3


@pytest.mark.parametrize(
    ("key", "dataset", "meant"),
    [
        ("dataset.label", "csv", "dataset.target"),
        ("dataset.label", "npz", "dataset.targets"),
        ("dataset.label", "image_folder", "dataset.labels"),
        ("dataset.column", "text", "dataset.target"),
        ("dataset.test_size", "csv", "dataset.test_fraction"),
        ("dataset.lr", "csv", "optimizer.lr"),
        ("dataset.batch_size", "csv", "batch_size"),
        ("label", "csv", "dataset.target"),
        ("test_size", "digits", "dataset.test_fraction"),
        ("learning_rate", "csv", "optimizer.lr"),
        ("momentum", "csv", "optimizer.momentum"),
        ("val_fracton", "csv", "dataset.val_fraction"),
        ("gpu", "csv", "device=cuda"),
    ],
)
def test_a_key_that_another_program_has_is_answered_with_the_key_of_this_one(
    key: str, dataset: str, meant: str
) -> None:
    assert line_about(key, dataset=dataset).startswith(f"did you mean {meant}? ")


def test_a_synonym_of_a_key_that_the_component_lacks_is_not_suggested() -> None:
    assert "did you mean" not in line_about("dataset.na_values", dataset="digits")


def test_the_unknown_key_itself_is_never_suggested() -> None:
    line = line_about("dataset.trust_remote_code", dataset="huggingface")
    assert line.startswith("train dataset=huggingface --help lists all ")


def test_every_synonym_stands_for_a_key_or_an_option() -> None:
    known = {*keys_in(Settings), *GROUPS}
    for group, components in registries().items():
        known |= {f"{group}.{key}" for name in components.names() for key in components.keys(name)}
        known |= {f"{group}={name}" for name in components.names()}
    names = {name for each in KEY_SYNONYMS.values() for name in ((each,) if isinstance(each, str) else each)}
    assert names <= known
