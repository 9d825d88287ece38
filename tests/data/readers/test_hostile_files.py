"""Files of data that would block, or fill the memory: each is refused in one line, before it is read."""

from __future__ import annotations

import io
import os
import struct
import warnings
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.helpers import image_spec, load_data
from trainer.config import ConfigError, RunError, untrusted_files
from trainer.data.readers import pictures
from trainer.data.readers.arrays.array_files import inputs_of_run
from trainer.data.readers.files import Problems, files_below, natural_key
from trainer.data.readers.pictures import Form
from trainer.data.readers.tables import lines as table_lines
from trainer.data.readers.texts.text_files import read_text
from trainer.data.readers.texts.text_folders import find_texts
from trainer.data.readers.texts.text_tables import TextColumns
from trainer.runs.read import run_folders


def header(shape: tuple[int, ...], dtype: str = "<f4") -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": dtype, "fortran_order": False, "shape": shape})
    return file.getvalue()


def bomb(file: Path, rows: int) -> None:
    """Write an .npz file whose array ``x`` of (rows, 4) zeros is deflated."""
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("x.npy", "w") as member:
        member.write(header((rows, 4)))
        for _ in range(rows * 16 >> 20):
            member.write(bytes(1 << 20))


def write_array(file: Path, content: bytes) -> None:
    """Write the content of an .npy file, for a name that ends in .npz as the array ``x``."""
    if file.suffix == ".npy":
        file.write_bytes(content)
        return
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("x.npy", content)


def png(width: int, height: int, claimed: int | None = None) -> bytes:
    """Return a grey picture of zeros, which claims another height."""
    packer = zlib.compressobj()
    rows = b"".join([packer.compress(bytes((width + 1) * 100)) for _ in range(height // 100)]) + packer.flush()
    size = struct.pack(">IIBBBBB", width, claimed or height, 8, 0, 0, 0, 0)
    chunks = ((b"IHDR", size), (b"IDAT", rows), (b"IEND", b""))
    parts = [struct.pack(">I", len(c)) + k + c + struct.pack(">I", zlib.crc32(k + c)) for k, c in chunks]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


@pytest.mark.parametrize("kind", ["csv", "text", "npz", "image_folder", "audio_folder"])
def test_a_named_pipe_is_no_data(kind: str, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "data.csv")
    with pytest.raises(ConfigError, match=r"dataset.path: .*data.csv: is a named pipe, not a file"):
        load_data(kind, tmp_path / "data.csv")


@pytest.mark.parametrize("name", ["X_train.npy", "train/X_train.txt", "data_batch_1", "X_train.mat"])
def test_a_named_pipe_is_no_array_of_a_folder(name: str, tmp_path: Path) -> None:
    (tmp_path / "train").mkdir()
    os.mkfifo(tmp_path / name)
    np.save(tmp_path / "y_train.npy", np.arange(40) % 2)
    (tmp_path / "train" / "y_train.txt").write_text("1\n2\n")
    with pytest.raises(ConfigError, match=r"is a named pipe, not a file|which array of|holds a single array"):
        load_data("npz", tmp_path)


@pytest.mark.parametrize(("kind", "suffix"), [("image_folder", ".png"), ("audio_folder", ".wav"), ("text", ".txt")])
def test_a_named_pipe_in_a_class_folder_is_a_bad_sample(kind: str, suffix: str, tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        os.mkfifo(tmp_path / name / f"x{suffix}")
    with pytest.raises(ConfigError, match="is a named pipe, not a file"):
        load_data(kind, tmp_path)


@pytest.fixture
def small_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the bounds begin at 1 MiB, so that small files exceed them."""
    monkeypatch.setattr(untrusted_files, "FREELY_UNPACKED", 1 << 20)
    monkeypatch.setattr(untrusted_files, "UNCHECKED", 1 << 20)
    monkeypatch.setattr(pictures, "UNCHECKED", 1 << 20)


@pytest.mark.usefixtures("small_bounds")
def test_an_array_that_unpacks_to_many_times_its_size_is_refused(tmp_path: Path) -> None:
    bomb(tmp_path / "x.npz", 3 << 16)
    with pytest.raises(RunError, match=r"x unpacks from .* to 3.15 MB, more than 200 times its size"):
        inputs_of_run(tmp_path / "x.npz", "x", "None", image_spec(1, 2, 2))
    with pytest.raises(ConfigError, match=r"if it is meant, save it with numpy\.savez"):
        load_data("npz", tmp_path / "x.npz", targets="x")


@pytest.mark.parametrize("name", ["x.npy", "x.npz"])
def test_a_header_that_claims_more_than_the_file_has_takes_no_memory(name: str, tmp_path: Path) -> None:
    write_array(tmp_path / name, header((10**12, 4)) + bytes(16))
    with pytest.raises(RunError, match=r"it holds Python objects, or is damaged"):
        inputs_of_run(tmp_path / name, "x", "None", image_spec(1, 2, 2))


def test_a_second_array_of_the_same_name_is_refused(tmp_path: Path) -> None:
    for names in (["x.npy", "x.npy"], ["x.npy", "x"]):
        with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # zipfile warns of the second name
            for name in names:
                archive.writestr(name, header((1, 4)) + bytes(16))
        with pytest.raises(RunError, match=r"no file of arrays"):
            inputs_of_run(tmp_path / "x.npz", "x", "None", image_spec(1, 2, 2))


@pytest.mark.parametrize("name", ["x.npy", "x.npz"])
@pytest.mark.parametrize("version", [1, 2, 3])
def test_a_long_header_is_not_read(name: str, version: int, tmp_path: Path) -> None:
    length = struct.pack("<H" if version == 1 else "<I", 60_000)
    write_array(tmp_path / name, b"\x93NUMPY" + bytes([version, 0]) + length + b" " * 60_000 + bytes(16))
    with pytest.raises(RunError, match=r"it holds Python objects, or is damaged"):
        inputs_of_run(tmp_path / name, "x", "None", image_spec(1, 2, 2))


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"x": np.float32(3)}, "x must hold samples along its first axis, got a single number"),
        ({"x": np.zeros((5, 1, 2, 2)), "n": np.full(5, 1.5)}, "n must hold 5 whole numbers, got float64"),
        ({"x": np.zeros((5, 1, 2, 2)), "n": np.full(2, 1)}, "n must hold 5 whole numbers, got int64 of shape"),
    ],
)
def test_arrays_that_do_not_fit_each_other_are_named(arrays: dict[str, Any], said: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", **arrays)
    with pytest.raises(RunError, match=said):
        inputs_of_run(tmp_path / "x.npz", "x", "n", image_spec(1, 2, 2))


@pytest.mark.usefixtures("small_bounds")
def test_a_picture_that_is_a_bomb_is_not_decoded(tmp_path: Path) -> None:
    (tmp_path / "x.png").write_bytes(png(900, 900))
    with pytest.raises(OSError, match=r"to 3.24 MB, .* the picture has 900×900 pixels; save it smaller"):
        Form(1, 8, 8)(tmp_path / "x.png")
    assert pictures.read_info(tmp_path / "x.png") is None


@pytest.mark.usefixtures("small_bounds")
def test_a_picture_that_needs_more_memory_than_is_free_is_not_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(untrusted_files, "FREELY_UNPACKED", 1 << 30)
    (tmp_path / "x.png").write_bytes(png(600, 600))
    assert Form(1, 8, 8)(tmp_path / "x.png").shape == (1, 8, 8)
    monkeypatch.setattr(untrusted_files, "free_memory", lambda: 3_000_000)
    with pytest.raises(OSError, match=r"600×600 pixels, which needs about 5.76 MB of memory, 3 MB are free"):
        Form(1, 8, 8)(tmp_path / "x.png")


def test_a_picture_beyond_the_limit_of_pillow_says_what_helps(tmp_path: Path) -> None:
    (tmp_path / "x.png").write_bytes(png(20_000, 100, claimed=20_000))
    with pytest.raises(OSError, match=r"has more than 178,956,970 pixels; save it smaller"):
        Form(1, 8, 8)(tmp_path / "x.png")


@pytest.mark.usefixtures("small_bounds")
def test_a_tile_of_a_picture_counts_even_if_the_picture_is_small(tmp_path: Path) -> None:
    entries = {256: 9, 257: 9, 258: 8, 259: 5, 262: 1, 277: 1, 322: 40_000, 323: 40_000, 324: 8, 325: 1}
    directory = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in entries.items())
    (tmp_path / "x.tif").write_bytes(b"II*\0" + struct.pack("<IH", 8, len(entries)) + directory + bytes(4))
    with pytest.raises(OSError, match=r"to 6.4 GB, more than 200 times its size"):
        Form(1, 8, 8)(tmp_path / "x.tif")


def test_a_ppm_without_a_size_is_not_searched_for_one(tmp_path: Path) -> None:
    for start in (b"P6", b"P3 3", b"P1\n# a comment\n"):
        (tmp_path / "x.ppm").write_bytes(start + b" " * 5_000 + b" 1 1 255 " + bytes(3))
        with pytest.raises(OSError, match="no size in its header"):
            Form(1, 8, 8)(tmp_path / "x.ppm")
    (tmp_path / "x.ppm").write_bytes(b"P6 # a comment\n# and another\n1\t1 255 " + bytes(3))
    assert Form(3, 1, 1)(tmp_path / "x.ppm").tolist() == [[[0]]] * 3


def test_texts_of_an_array_are_unicode(tmp_path: Path) -> None:
    for code in (0xD800, 0x110000):
        labels = np.array(["a", "b"] * 20)
        labels.view(np.uint32)[3] = code
        np.savez(tmp_path / "x.npz", x=np.random.default_rng(0).random((40, 3)), y=labels)
        with pytest.raises(ConfigError, match=r"y of .* holds texts that are no Unicode"):
            load_data("npz", tmp_path / "x.npz")


def test_half_a_character_in_a_json_text_is_named(tmp_path: Path) -> None:
    problems = Problems("text", on_error="skip")
    (tmp_path / "x.jsonl").write_text('{"text": "a", "label": "b"}\n{"text": "\\ud800", "label": "b"}\n')
    columns = TextColumns(None, None, "auto", None)
    assert [item.content for item in find_texts("text", str(tmp_path / "x.jsonl"), columns, "utf-8", problems)] == ["a"]
    assert "x.jsonl:2: text: holds a lone surrogate" in str(problems.found)


def test_a_picture_has_a_largest_size_in_bytes(tmp_path: Path) -> None:
    with (tmp_path / "x.avif").open("wb") as file:
        file.write(b"\0\0\0\x20ftypavif")
        file.truncate(3 << 30)
    with pytest.raises(OSError, match=r"has 3.22 GB, and pictures of at most 268 MB are read; save it smaller"):
        Form(1, 8, 8)(tmp_path / "x.avif")


def test_folders_may_be_deeper_than_functions_can_call_each_other(tmp_path: Path) -> None:
    folders = [tmp_path]
    for _ in range(1200):
        folders.append(folders[-1] / "a")
        folders[-1].mkdir()
    (tmp_path / "a" / "z").touch()
    assert [*files_below(tmp_path)] == [tmp_path / "a" / "z"]
    assert [*run_folders(tmp_path)] == []
    (tmp_path / "a" / "z").unlink()
    for folder in folders[:0:-1]:  # pytest cannot delete them
        folder.rmdir()


def test_numbers_in_names_may_have_any_number_of_digits() -> None:
    assert sorted(["9" * 5000, "10", "2"], key=natural_key) == ["2", "10", "9" * 5000]


@pytest.mark.parametrize("encoding", ["undefined", "idna"])
def test_an_encoding_that_reads_nothing_is_named(encoding: str, tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_bytes(b"text,label\n\xff\xfe.a,b\n")
    with pytest.raises(ConfigError, match=rf"dataset.encoding: {encoding}: does not fit .*x.csv: "):
        read_text(tmp_path / "x.csv", encoding)


def test_a_row_has_a_largest_length(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table_lines, "MAX_ROW", 100)
    (tmp_path / "line.csv").write_text(f"a,b,y\n1,2,0\n{'1' * 200},2,1\n")
    (tmp_path / "quote.csv").write_text("a,b,y\n1,2,0\n" + '"1,2,0\n' + "1,2,1\n" * 50)
    with pytest.raises(ConfigError, match=r"line.csv:3: a line of more than"):
        load_data("csv", tmp_path / "line.csv")
    with pytest.raises(ConfigError, match=r"1 bad sample: .*quote.csv:3: a quote is not closed"):
        load_data("csv", tmp_path / "quote.csv")


@pytest.mark.parametrize("reader", ["text", "table"])
def test_a_pipe_without_an_end_is_bounded(reader: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table_lines, "MAX_ROW", 100)
    monkeypatch.setattr(untrusted_files, "UNCHECKED", 100)
    monkeypatch.setattr(untrusted_files, "free_memory", lambda: 300)
    read_end, write_end = os.pipe()
    os.write(write_end, b"0" * 200)
    os.close(write_end)
    pipe = Path(f"/dev/fd/{read_end}")
    try:
        if reader == "text":
            with pytest.raises(ConfigError, match="needs about 600 bytes of memory, 300 bytes are free"):
                read_text(pipe, "utf-8")
        else:
            with pytest.raises(ConfigError, match="1: a line of more than"):
                list(table_lines.blocks(pipe, "utf-8"))
    finally:
        os.close(read_end)


def test_json_with_too_many_brackets_or_digits_is_a_bad_sample(tmp_path: Path) -> None:
    lines = [
        '{"text":' + "[" * 100_000 + "]" * 100_000 + "}",
        '{"text":' + "1" * 5000 + "}",
        '{"text":"a","label":"b"}',
    ]
    (tmp_path / "train.jsonl").write_text("\n".join(lines))
    problems = Problems("text", "stop")
    assert len([*find_texts("text", str(tmp_path), TextColumns(None, None, "auto", None), "utf-8", problems)]) == 1
    assert [found.split("train.jsonl")[1][:11] for found in problems.found] == [":1: no JSON", ":2: no JSON"]
