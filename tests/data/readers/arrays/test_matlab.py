"""MATLAB's files, as scipy writes them."""

from __future__ import annotations

import functools
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.helpers import load_data, refused
from trainer.config import untrusted_files
from trainer.data.readers.arrays.matlab import MatFile
from trainer.data.readers.arrays.stores import TooLargeError, WrongFormError

GENERATOR = np.random.default_rng(0)


def element(kind: int, content: bytes) -> bytes:
    return struct.pack("<II", kind, len(content)) + content + bytes(-len(content) % 8)


def matrix(name: str, shape: tuple[int, ...], numbers: bytes, kind: int = 6) -> bytes:
    """Return an element with an array of class ``kind``, whose numbers are stored as doubles."""
    flags = element(6, struct.pack("<II", kind, 0))
    axes = element(5, struct.pack(f"<{len(shape)}i", *shape))
    return element(14, flags + axes + element(1, name.encode()) + element(9, numbers))


def mat(path: Path, *elements: bytes) -> Path:
    path.write_bytes(b"MATLAB 5.0 MAT-file".ljust(124) + b"\x00\x01IM" + b"".join(elements))
    return path


@pytest.mark.parametrize("compressed", [False, True])
def test_arrays_are_those_that_scipy_wrote(tmp_path: Path, compressed: bool) -> None:
    io = pytest.importorskip("scipy.io")
    arrays: dict[str, Any] = {
        "x": GENERATOR.normal(size=(4, 3, 2)),
        "single": GENERATOR.normal(size=(5, 2)).astype(np.float32),
        "pixels": GENERATOR.integers(0, 256, (4, 3, 2, 5), dtype=np.uint8),
        "whole": np.arange(6, dtype=np.int32).reshape(1, 6),
        "large": np.array([[2**60, -1]]),
        "yes": np.array([[True, False]]),
        "a_name_longer_than_four": np.ones((1, 1)),
        "words": np.array(["cat", "a", "mouse"]),
        "none": np.zeros((0, 3)),
    }
    io.savemat(tmp_path / "a.mat", arrays, do_compression=compressed)
    store = MatFile(tmp_path / "a.mat")
    assert store.names == [*arrays]
    for name, wanted in arrays.items():
        found, header = store.read(name), store.header(name)
        assert found.tolist() == wanted.tolist()
        if name != "words":
            assert (found.dtype, found.shape) == (header.dtype, header.shape) == (wanted.dtype, wanted.shape)


def test_big_endian_files_and_what_is_no_array_of_numbers(tmp_path: Path) -> None:
    io = pytest.importorskip("scipy.io")
    sparse = pytest.importorskip("scipy.sparse")
    io.savemat(
        tmp_path / "a.mat",
        {"cell": np.array([[1, "a"]], dtype=object), "struct": {"a": 1}, "z": np.array([1j]), "s": sparse.eye(3)},
    )
    store = MatFile(tmp_path / "a.mat")
    for name, reason in {
        "cell": "is a cell array",
        "struct": "is a struct",
        "z": "holds complex",
        "s": "is a sparse",
    }.items():
        with pytest.raises(WrongFormError, match=reason):
            store.read(name)
    big = element(6, struct.pack("<II", 6, 0))
    assert big  # the little one above; the big one swaps every number
    swapped = struct.pack(">II", 6, 8) + struct.pack(">II", 6, 0) + struct.pack(">IIii", 5, 8, 1, 2)
    swapped += struct.pack(">HH", 1, 1) + b"x\0\0\0" + struct.pack(">IIdd", 9, 16, 1.5, -2)
    content = b"MATLAB 5.0 MAT-file".ljust(124) + b"\x01\x00MI" + struct.pack(">II", 14, len(swapped)) + swapped
    (tmp_path / "b.mat").write_bytes(content)
    assert MatFile(tmp_path / "b.mat").read("x").tolist() == [[1.5, -2]]


def test_samples_may_be_along_the_last_axis_and_doubles_may_name_classes(tmp_path: Path) -> None:
    io = pytest.importorskip("scipy.io")
    pixels = GENERATOR.integers(0, 256, (6, 5, 3, 40), dtype=np.uint8)
    io.savemat(tmp_path / "a.mat", {"X": pixels, "y": np.arange(40.0) % 2 + 1})
    data = load_data("npz", tmp_path / "a.mat")
    assert (data.spec.kind, data.spec.shape, data.spec.classes) == ("image", (3, 6, 5), ("1", "2"))
    assert data.train.source.fetch(data.train.positions)[0].tolist() == [
        pixels[..., at].transpose(2, 0, 1).tolist() for at in data.train.positions.tolist()
    ]
    io.savemat(tmp_path / "b.mat", {"X": np.eye(40), "y": np.arange(40.0) % 2})
    assert "may be along its first or its last axis" in refused(lambda path: load_data("npz", path), tmp_path / "b.mat")


def test_version_7_3_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "a.mat").write_bytes(b"MATLAB 7.3 MAT-file".ljust(126) + b"IM" + bytes(400))
    line = refused(lambda path: load_data("npz", path), tmp_path / "a.mat")
    assert line.endswith(
        "is a MATLAB file of version 7.3, which is HDF5; save it with save('file.mat', '-v7') in MATLAB"
    )


def test_a_size_that_the_file_does_not_have_takes_no_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lying = mat(tmp_path / "a.mat", matrix("x", (2**30, 2**30), bytes(16)), matrix("y", (5, 1), bytes(16)))
    store = MatFile(lying)
    with pytest.raises(TooLargeError, match="of memory"):
        store.read("x")
    with pytest.raises(ValueError, match="does not fit"):
        store.read("y")
    monkeypatch.setattr(untrusted_files, "FREELY_UNPACKED", 1 << 20)
    packed = zlib.compress(matrix("z", (1 << 18, 1), bytes(1 << 21)), 9)
    bomb = mat(tmp_path / "b.mat", struct.pack("<II", 15, len(packed)) + packed)
    with pytest.raises(TooLargeError, match=r"unpacks from .*; if it is meant, save it with -v6"):
        MatFile(bomb).read("z")
    small = zlib.compress(matrix("z", (1, 1), bytes(1 << 26)), 9)  # its shape hides its size
    with pytest.raises(ValueError, match="does not fit"):
        MatFile(mat(tmp_path / "c.mat", struct.pack("<II", 15, len(small)) + small)).read("z")


@pytest.mark.parametrize("length", range(0, 330, 10))
def test_a_file_that_is_cut_off_is_refused(length: int, tmp_path: Path) -> None:
    whole = mat(tmp_path / "a.mat", matrix("x", (3, 2), bytes(48)), matrix("y", (3, 1), bytes(24))).read_bytes()
    (tmp_path / "b.mat").write_bytes(whole[:length])
    line = refused(lambda path: load_data("npz", path), tmp_path / "b.mat")
    assert line.startswith("dataset.")


@pytest.mark.parametrize("order", "<>")
def test_a_file_of_version_4_is_named_with_the_words_that_save_another(tmp_path: Path, order: str) -> None:
    head = struct.pack(f"{order}5i", 1000 * (order == ">"), 2, 1, 0, 2)
    (tmp_path / "a.mat").write_bytes(head + b"X\0" + struct.pack(f"{order}2d", 1, 2))
    assert "a.mat: is a MATLAB file of version 4; save it with save(" in refused(
        functools.partial(load_data, "npz"), tmp_path / "a.mat"
    )


def test_a_struct_is_told_how_to_save_its_fields(tmp_path: Path) -> None:
    file = mat(tmp_path / "a.mat", matrix("data", (1, 1), b"", kind=2))
    assert "save('new.mat', '-struct', 'data', '-v7') saves each field as an array" in refused(
        functools.partial(load_data, "npz"), file
    )
