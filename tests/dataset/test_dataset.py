"""The registry of data sets: which components are given ``ReadOptions``."""

from __future__ import annotations

from typing import Any

from trainer.config.registry import Registry
from trainer.data import ReadOptions


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
