"""Columns of lists of numbers are that many columns, in every format, and bad lists are named by their line."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import feather, parquet

from tests.helpers import everything, load_data, refused
from trainer.data import Data
from trainer.data.readers.tables.list_cells import ListForm, find_list, read_lists
from trainer.data.readers.tables.number_cells import MISSING
from trainer.data.table_encoding import TableEncoding

COUNT, SIZE = 40, 4
LISTS = [[n / 4, -n, n * 7 % 5 + 0.5, 1e-3 * n] for n in range(COUNT)]
KINDS = ["ab"[n % 2] for n in range(COUNT)]
PAIRS = [[some[:2], some[2:]] for some in LISTS]
FIXED = pa.FixedSizeListArray.from_arrays(pa.array([number for some in LISTS for number in some]), SIZE)
COLUMNS = ["z.x", *(f"vec.{at}" for at in range(SIZE))]


def load(path: object, **keys: Any) -> Data:
    return load_data("csv", path, **keys)


def csv_of(cell: Callable[[int], str], header: str = "z.x,vec,kind") -> str:
    return header + "\n" + "".join(f'{n % 7}.5,"{cell(n)}",{KINDS[n]}\n' for n in range(COUNT))


def joined(sign: str) -> Callable[[int], str]:
    return lambda n: sign.join(map(str, LISTS[n]))


def table(lists: Any) -> Any:
    return pa.table({"z.x": [n % 7 + 0.5 for n in range(COUNT)], "vec": lists, "kind": KINDS})


def records(lists: Sequence[Any]) -> list[dict[str, Any]]:
    return [{"z.x": n % 7 + 0.5, "vec": some, "kind": KINDS[n]} for n, some in enumerate(lists)]


WRITERS: dict[str, Callable[[Path], Any]] = {
    "blanks.csv": lambda path: path.write_text(csv_of(joined(" "))),
    "commas.csv": lambda path: path.write_text(csv_of(joined(","))),
    "commas.tsv": lambda path: path.write_text(
        "z.x\tvec\tkind\n" + "".join(f"{n % 7}.5\t{joined(', ')(n)}\t{KINDS[n]}\n" for n in range(COUNT))
    ),
    "brackets.csv": lambda path: path.write_text(csv_of(lambda n: str(LISTS[n]))),
    "tuples.csv": lambda path: path.write_text(csv_of(lambda n: str((*LISTS[n],)))),
    "numpy.csv": lambda path: path.write_text(csv_of(lambda n: f"[ {'  '.join(map(str, LISTS[n]))} ]")),
    "lines.jsonl": lambda path: path.write_text("".join(json.dumps(row) + "\n" for row in records(LISTS))),
    "array.json": lambda path: path.write_text(json.dumps(records(LISTS))),
    "nested.json": lambda path: path.write_text(json.dumps(records(PAIRS))),
    "list.parquet": lambda path: parquet.write_table(table(LISTS), path),
    "large.parquet": lambda path: parquet.write_table(table(pa.array(LISTS, pa.large_list(pa.float64()))), path),
    "texts.parquet": lambda path: parquet.write_table(
        table(pa.array([str(some) for some in LISTS], pa.large_string())), path
    ),
    "dictionary.parquet": lambda path: parquet.write_table(
        table(pa.array([str(some) for some in LISTS]).dictionary_encode()), path
    ),
    "fixed.feather": lambda path: feather.write_feather(table(FIXED), path),
    "nested.parquet": lambda path: parquet.write_table(table(PAIRS), path),
}


@pytest.mark.parametrize("name", WRITERS)
def test_every_format_gives_the_same_numbers(tmp_path: Path, name: str) -> None:
    WRITERS[name](tmp_path / name)
    data = load(tmp_path / name)
    inputs, targets = everything(data)
    assert data.preprocess["columns"] == COLUMNS
    assert data.notes == ("target kind (the last column)", "vec is read as 4 numbers")
    np.testing.assert_array_equal(inputs[:, 1:], np.array(LISTS, dtype=np.float32))
    assert targets.tolist() == [n % 2 for n in range(COUNT)]


def test_pixels_in_a_cell_are_pictures_and_keep_their_split(tmp_path: Path) -> None:
    splits = ["Training"] * 24 + ["PublicTest"] * 8 + ["PrivateTest"] * 8
    lines = [f"{n % 3},{n} {n + 1} {n + 2} 255,{splits[n]}" for n in range(COUNT)]
    (tmp_path / "fer.csv").write_text("\n".join(["emotion,pixels,Usage", *lines]) + "\n")
    data = load(tmp_path / "fer.csv", shape=[1, 2, 2])
    assert (data.spec.shape, data.spec.classes) == ((1, 2, 2), ("0", "1", "2"))
    assert data.val is not None
    assert data.test is not None
    assert [len(data.train), len(data.val), len(data.test)] == [24, 8, 8]
    assert everything(data)[0][0].tolist() == [[[0, 1], [2, 255]]]


@pytest.mark.parametrize(
    ("cell", "reason"),
    [
        ("1 2 3", "vec: has 3 numbers instead of 4"),
        ("1 x 2 3", "vec.1: x is no number"),
        ("", "vec: is empty"),
        ("nan", "vec: is empty"),
        ("oops", "vec: oops is no list of 4 numbers as in other rows"),
        ("[1 2 3 4]", "vec: [1 2 3 4] is no list of 4 numbers as in other rows"),
        ("1 2 inf 3", "vec.2: inf is not finite"),
        ("1 2 1e39 3", "vec.2: 1e+39 is too large"),
        ("1 nan 3 4", "vec.1: is empty"),
    ],
)
def test_a_bad_list_is_named(tmp_path: Path, cell: str, reason: str) -> None:
    file = tmp_path / "a.csv"
    file.write_text(csv_of(lambda n: cell if n == 30 else joined(" ")(n)))
    assert refused(load, file, missing="bad").startswith(f"dataset=csv: 1 bad sample: {file}:32: {reason} (")
    assert len(everything(load(file, on_error="skip", missing="bad"))[1]) == COUNT - 1


def test_missing_lists_and_numbers_become_means(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(csv_of(lambda n: {3: "", 4: "1 nan 3 4"}.get(n, "2 2 2 2")))
    data = load(tmp_path / "a.csv", missing="mean")
    inputs, _ = everything(data)
    raw = inputs[3:5, 1:].nan_to_num(-1).tolist()
    assert raw == [[-1, -1, -1, -1], [1, -1, 3, 4]]
    assert isinstance(data.normalise, TableEncoding)
    assert data.normalise.fill.tolist()[1:] == [pytest.approx(2, abs=0.2)] * 4


def test_a_key_names_all_numbers_of_a_list_or_one_of_them(tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    file.write_text(csv_of(joined(" ")))

    def columns(**keys: Any) -> Any:
        return load(file, **keys).preprocess["columns"]

    assert columns(features=["vec"]) == columns(ignore=["z.x"]) == columns(ignore=[0], target=2) == COLUMNS[1:]
    assert columns(ignore=["vec"]) == columns(ignore=[1]) == ["z.x"]
    assert columns(features=["vec.2", "z.x"]) == ["vec.2", "z.x"]
    assert load(file, target="vec", features=["z.x"]).spec.classes == (*COLUMNS[1:],)
    assert "holds lists of 4 numbers, and must be one column" in refused(load, file, group="vec")


def test_a_list_called_y_is_the_target(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(csv_of(joined(" "), "z.x,y,kind"))
    data = load(tmp_path / "a.csv", ignore=["kind"])
    assert data.preprocess["target"] == [f"y.{at}" for at in range(SIZE)]


def test_a_name_that_is_taken_is_not_given_to_a_number(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(csv_of(joined(" "), "vec.1,vec,kind"))
    columns = load(tmp_path / "a.csv").preprocess["columns"]
    assert columns == ["vec.1", *(f"vec[{at}]" for at in range(SIZE))]


@pytest.mark.parametrize("cell", [lambda n: str([1] * (n % 7 + 1)), lambda n: " ".join("1" * (n % 17 + 1))])
def test_lists_of_different_lengths_are_said_not_to_be_read(tmp_path: Path, cell: Callable[[int], str]) -> None:
    (tmp_path / "a.csv").write_text(csv_of(cell))
    reason = refused(load, tmp_path / "a.csv")
    assert "lists of different lengths are not read; 'dataset.ignore=[vec]' leaves it out" in reason
    assert load(tmp_path / "a.csv", ignore=["vec"]).preprocess["columns"] == ["z.x"]


def test_lists_of_different_lengths_that_are_called_labels_are_labels(tmp_path: Path) -> None:
    rows = [{"x": n % 7 + 0.5, "labels": [*range(n % 3 + 1)]} for n in range(COUNT)]
    (tmp_path / "a.json").write_text(json.dumps(rows))
    data = load(tmp_path / "a.json")
    assert (data.spec.task, data.spec.classes) == ("multilabel", ("0", "1", "2"))


def test_labels_in_a_cell_stay_labels(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(csv_of(lambda n: f"{n % 3} {n % 3 + 1}"))
    data = load(tmp_path / "a.csv", target="vec", label_separator=" ", ignore=["kind"])
    assert data.spec.classes == ("0", "1", "2", "3")


def test_a_table_that_needs_too_much_memory_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.csv").write_text(csv_of(joined(" ")))
    monkeypatch.setattr("trainer.config.untrusted_files.UNCHECKED", 0)
    monkeypatch.setattr("trainer.config.untrusted_files.free_memory", lambda: 500)
    assert "a.csv: needs about 2.06 kB of memory, 500 bytes are free" in refused(load, tmp_path / "a.csv")


# ---- cells


@pytest.mark.parametrize(
    ("cells", "form"),
    [
        (["1 2 3", "4  5\n6"], ListForm(3, 0, False)),
        (["[1, 2]", "[3,4]"], ListForm(2, 1, True)),
        (["52.5, 13.4", "48.1, 11.6"], ListForm(2, 0, True)),
        (["[[1, 2], [3, 4]]"] * 2, ListForm(4, 3, True)),
        (["[0.5]", "[1]"], ListForm(1, 1, False)),
        (["030 123456", "089 54321"], None),
        (["one 2", "two 3"], None),
        (["0,5 0,7", "0,1 0,2"], None),
        (["2020-01-01 10:00", "2020-01-02 11:00"], None),
        (["[[1], [2, 3]]"] * 2, "lists of lists of 1 to 2 numbers"),
        (["[1]", "[1, 2]", "[]"], "lists of 0 to 2 numbers"),
        (["", "NA"], None),
    ],
)
def test_lists_are_found(cells: list[str], form: ListForm | str | None) -> None:
    assert find_list(cells, MISSING) == form


def test_the_size_of_a_finished_run_decides_where_the_cells_do_not() -> None:
    assert find_list(["1 2 3", "4 5"], MISSING, 2) == ListForm(2, 0, False)


def test_lists_of_arrow_may_be_null_or_slices() -> None:
    form, names = ListForm(2, 1, True), ["v", "v.0", "v.1"]
    for kind in (pa.list_(pa.int8()), pa.list_(pa.int8(), 2), pa.large_list(pa.float32())):
        cells = pa.array([[9, 9], [1, 2], None, [3, None]], kind).slice(1)
        matrix, faults = read_lists(cells, form, names, missing=False)
        assert faults == {1: "v: is empty", 2: "v.1: is empty"}
        assert matrix[0].tolist() == [1, 2]
        matrix, faults = read_lists(cells, form, names, missing=True)
        assert not faults
        np.testing.assert_array_equal(matrix, [[1, 2], [np.nan, np.nan], [3, np.nan]])
