"""The types of a key are known from its name, and from the chosen component if there is one."""

from __future__ import annotations

from typing import Any, Literal

import pytest

from trainer.config.key_types import key_types, parts_of, takes
from trainer.config.types import PositiveInt


@pytest.mark.parametrize(
    ("key", "kinds"),
    [
        ("run_dir", [str]),
        ("resume", [str | None]),
        ("metrics.0", [str]),
        ("checkpoint.keep", [PositiveInt]),
        ("dataset", []),
        ("logger", []),
        ("unknown", []),
        ("run_dir.below", []),
        ("dataset.unknown", []),
        ("logger.unknown.file", []),
    ],
)
def test_the_type_of_a_key_follows_from_its_name(key: str, kinds: list[Any]) -> None:
    assert [*key_types(key)] == kinds


def test_the_chosen_component_has_one_type_and_all_components_have_several() -> None:
    assert [*key_types("dataset.features", {"dataset": "audio_folder"})] == [Literal["logmel", "raw"]]
    assert len([*key_types("dataset.features")]) > 1
    assert [*key_types("dataset.root", {"dataset": "csv"})] == [*key_types("dataset.root")] != []


def test_parts_of_unions_and_values_that_a_key_takes() -> None:
    assert parts_of(str | list[str] | None) == [str, list[str], type(None)]
    assert parts_of(PositiveInt) == [int]
    assert takes("dataset.path", "x")
    assert takes("dataset.path", {"train": "x"})
    assert not takes("dataset.path", {"other": "x"})
    assert not takes("epochs", "x")
    assert not takes("unknown", "x")
