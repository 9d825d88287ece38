"""Values of wrong types in a checkpoint are named, and those of every version are accepted."""

from __future__ import annotations

from typing import Any

import pytest

from trainer.runs.checkpoint_content import fault

DATA = {"kind": "image", "shape": [1, 8, 8], "classes": ["a"], "normalise": {"mean": [0], "std": [1.5], "axis": 1}}

WORDS = ["<padding>", "<unknown>", "a", "b", "ab"]


@pytest.mark.parametrize(
    "state",
    [
        {},
        {"model": {3: object()}, 5: None, "step": 0, "total_steps": 7, "progress": {"batch": 0, "best": {}}},
        {"data": {"vocabulary": WORDS, "merges": [[2, 3]], "token_rules": 2}},
        {"data": {**DATA, "num_tokens": None, "features": None, "of_a_plugin": object()}},
        {"progress": {"last": {"step": 3, "epoch": None, "val/loss": 0.5}}, "fingerprint": {"train": 3, "sha256": "a"}},
    ],
)
def test_a_missing_or_unknown_value_is_no_fault(state: dict[Any, Any]) -> None:
    assert fault(state) == ""


@pytest.mark.parametrize(
    ("state", "said"),
    [
        ({"step": -5}, "step: Expected int >= 0"),
        ({"step": 10**30}, "step: Expected int <= 9223372036854775807"),
        ({"step": "x" * 10**6}, "step: Expected int, got str"),
        ({"progress": [1]}, "progress: Expected object, got array"),
        ({"progress": {"last": 5}}, "progress.last: Expected object, got int"),
        ({"data": 5}, "data: Expected object, got int"),
        ({"data": {**DATA, "classes": 5}}, "data.classes: Expected array, got int"),
        ({"data": {**DATA, "shape": [0]}}, "data.shape[0]: Expected int >= 1"),
        ({"data": {**DATA, "kind": "\x1b[31m"}}, r"data.kind: Invalid enum value '\x1b[31m'"),
        ({"data": {"normalise": {"mean": [0]}}}, "data.normalise: Object missing required field"),
        (
            {"data": {"features": {"name": "logmel", "sample_rate": 8000, "hop": 80, "window": 10**9, "bands": 40}}},
            "data.features.window: Expected int <= 524288",
        ),
        ({"data": {**DATA, "token_rules": 3}}, "data.token_rules: Invalid enum value 3"),
        ({"data": {"vocabulary": WORDS, "merges": [[2, 3, 4]]}}, "data.merges[0]: Expected array of length <= 2"),
        ({"data": {"vocabulary": WORDS, "merges": [[2, -1]]}}, "data.merges[0][1]: Expected int >= 0"),
        ({"data": {"vocabulary": WORDS, "merges": [[2, 9]]}}, "data.merges: [2, 9]: is no subword of the vocabulary"),
        ({"data": {"vocabulary": WORDS, "merges": [[3, 2]]}}, "data.merges: [3, 2]: is no subword of the vocabulary"),
        ({"data": {"vocabulary": [*WORDS, "a"], "merges": []}}, "data.vocabulary: must have different subwords"),
        ({"data": {"vocabulary": [*WORDS, "x" * 101], "merges": []}}, "data.vocabulary: must have different subwords"),
        ({"data": {"merges": []}}, "data.vocabulary: must have different subwords"),
    ],
)
def test_a_value_of_a_wrong_type_or_size_is_named(state: dict[Any, Any], said: str) -> None:
    assert fault(state).startswith(said)
