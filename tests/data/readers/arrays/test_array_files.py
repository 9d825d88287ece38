"""Arrays of a file as a finished run reads them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trainer.config import RunError
from trainer.data.readers.arrays.array_files import inputs_of_run
from trainer.spec import Kind, Spec


@pytest.mark.parametrize(
    ("kind", "shape", "stored", "raw"),
    [
        ("image", (1, 6, 5), np.zeros((4, 6, 5), np.uint8), ("uint8", (4, 1, 6, 5))),
        ("image", (3, 6, 5), np.zeros((4, 6, 5, 3)), ("float32", (4, 3, 6, 5))),
        ("sequence", (7, 1), np.zeros((4, 7), np.int64), ("float32", (4, 7, 1))),
        ("table", (3,), np.zeros((4, 3), bool), ("float32", (4, 3))),
        ("tokens", (9,), np.zeros((4, 9), np.uint8), ("int64", (4, 9))),
    ],
)
def test_the_axes_and_types_are_those_of_the_run(
    tmp_path: Path, kind: Kind, shape: tuple[int, ...], stored: Any, raw: tuple[str, tuple[int, ...]]
) -> None:
    np.savez(tmp_path / "some.npz", x_test=stored, n=np.arange(4))
    name, values, lengths = inputs_of_run(
        tmp_path / "some.npz", "x", "n", Spec("npz", kind, shape, "regression", ("y",))
    )
    assert (name, (str(values.dtype), values.shape)) == ("x_test", raw)
    assert lengths is not None
    assert lengths.tolist() == [0, 1, 2, 3]


def test_an_only_array_may_have_any_name_and_others_are_refused(tmp_path: Path) -> None:
    spec = Spec("npz", "table", (2,), "regression", ("y",))
    np.save(tmp_path / "one.npy", np.ones((3, 2)))
    np.savez(tmp_path / "two.npz", a=np.ones(2), b=np.ones(2))
    np.savez(tmp_path / "texts.npz", x=np.array(["a"]))
    (tmp_path / "no.npz").write_text("x")
    assert inputs_of_run(tmp_path / "one.npy", "x", "n", spec)[0] == "one"
    for file, reason in {
        "two.npz": "has no array x; arrays: a, b",
        "texts.npz": "x must hold numbers, got <U1",
        "no.npz": r"is no \.npz, \.npy or \.mat file",
    }.items():
        with pytest.raises(RunError, match=f"^{reason}$"):
            inputs_of_run(tmp_path / file, "x", "n", spec)
