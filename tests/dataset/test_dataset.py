"""The registry of data sets: which components are given ``ReadOptions``, and the keys of all data sets."""

from __future__ import annotations

from typing import Any

import pytest

from tests.helpers import defaults
from trainer.config.registry import Registry
from trainer.data import ReadOptions
from trainer.dataset import DATASETS


def test_only_a_component_with_a_positional_parameter_for_the_options_is_given_them() -> None:
    datasets = Registry("dataset", [])

    @datasets.register
    def plain(seed: int, *, size: int) -> Any:
        return seed, size

    @datasets.register
    def with_options(seed: int, options: ReadOptions, *, size: int) -> Any:
        return seed, options, size

    @datasets.register
    def with_a_key_of_that_name(seed: int, *, options: str) -> Any:
        return seed, options

    options = ReadOptions(report_all=True)
    assert datasets.build({"name": "plain", "size": 3}, 1, options=options) == (1, 3)
    assert datasets.build({"name": "with_options", "size": 3}, 1, options=options) == (1, options, 3)
    assert datasets.build({"name": "with_a_key_of_that_name", "options": "a"}, 1, options=options) == (1, "a")


@pytest.mark.parametrize("name", ["digits", "synthetic"])
def test_val_seed_chooses_val_apart_from_the_seed_of_the_run(name: str) -> None:
    def val(seed: int, val_seed: int | None) -> list[int]:
        found = DATASETS.build(defaults("dataset", name, val_seed=val_seed), seed).val
        assert found is not None
        positions: list[int] = found.positions.tolist()
        return positions

    assert val(0, 7) == val(1, 7) == val(7, None)
    assert val(0, None) == val(5, 0) != val(0, 7)


def test_every_data_set_with_a_val_fraction_has_a_val_seed() -> None:
    for name in DATASETS.names():
        keys = defaults("dataset", name)
        assert ("val_seed" in keys) == ("val_fraction" in keys)
        assert keys.get("val_seed") is None
