"""Precision and kernels of a device."""

from __future__ import annotations

from tests.conftest import Train


def test_tf32_is_refused_where_there_is_none(train: Train) -> None:
    result = train("precision=tf32", "device=cpu")
    assert (result.code, result.err) == (
        2,
        "train: error: precision: tf32 is how NVIDIA's GPUs since Ampere multiply float32; use fp32\n",
    )
