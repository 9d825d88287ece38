"""Tables in every format give the same samples, and bad rows of each are named."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import feather, parquet

from tests.helpers import everything, load_data, refused
from trainer.config import ConfigError
from trainer.data import Data

HEADER = "a,b,kind"
ROWS: list[tuple[float, int, str]] = [(n / 4, n * n, "xyz"[n % 3]) for n in range(60)]
CSV = "\n".join([HEADER, *(",".join(map(str, row)) for row in ROWS)]) + "\n"
RECORDS = [dict(zip(HEADER.split(","), row, strict=True)) for row in ROWS]
ARFF = (
    "% a comment\n@relation r\n@attribute a numeric\n@attribute 'b' integer\n@attribute kind {x,y,z}\n@data\n"
    + CSV.partition("\n")[2]
)


def load(path: object, **keys: Any) -> Data:
    return load_data("csv", path, **keys)


def arrow() -> Any:
    return pa.Table.from_pylist(RECORDS)


def zipped(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.csv", CSV)


WRITERS: dict[str, Callable[[Path], Any]] = {
    "a.csv": lambda path: path.write_text(CSV),
    "a.tsv": lambda path: path.write_text(CSV.replace(",", "\t")),
    "a.txt": lambda path: path.write_text(CSV.replace(",", "   ")),
    "b.csv": lambda path: path.write_text("sep=;\n" + CSV.replace(",", ";").replace(".", ",")),
    "c.csv": lambda path: path.write_text("# made by a device\n#\n" + CSV),
    "d.csv": lambda path: path.write_text("# " + CSV),
    "e.csv": lambda path: path.write_text(CSV.replace("\n", "\r")),
    "f.csv": lambda path: path.write_bytes(CSV.encode("utf-8-sig").replace(b"\n", b"\r\n")),
    "a.csv.gz": lambda path: path.write_bytes(gzip.compress(CSV.encode())),
    "a.csv.bz2": lambda path: path.write_bytes(bz2.compress(CSV.encode())),
    "a.csv.xz": lambda path: path.write_bytes(lzma.compress(CSV.encode())),
    "a.csv.zip": zipped,
    "a.parquet": lambda path: parquet.write_table(arrow(), path),
    "b.parquet": lambda path: parquet.write_table(
        arrow().set_column(2, "kind", arrow()["kind"].dictionary_encode()), path
    ),
    "c.parquet": lambda path: parquet.write_table(
        arrow().set_column(2, "kind", arrow()["kind"].cast("large_string")), path
    ),
    "d.parquet": lambda path: parquet.write_table(
        arrow().set_column(2, "kind", arrow()["kind"].cast("string_view")), path
    ),
    "a.feather": lambda path: feather.write_feather(arrow(), path),
    "a.json": lambda path: path.write_text(json.dumps(RECORDS)),
    "b.json": lambda path: path.write_text(json.dumps({name: [row[name] for row in RECORDS] for name in RECORDS[0]})),
    "c.json": lambda path: path.write_text(
        json.dumps({name: {str(n): row[name] for n, row in enumerate(RECORDS)} for name in RECORDS[0]})
    ),
    "d.json": lambda path: path.write_text(json.dumps({f"row {n}": row for n, row in enumerate(RECORDS)})),
    "e.json": lambda path: path.write_text(
        json.dumps({"columns": [*RECORDS[0]], "index": [*range(60)], "data": [[*row.values()] for row in RECORDS]})
    ),
    "f.json": lambda path: path.write_text(json.dumps({"count": 60, "data": RECORDS})),
    "a.jsonl": lambda path: path.write_text("".join(json.dumps(row) + "\n" for row in RECORDS)),
    "g.json": lambda path: path.write_text("".join(json.dumps(row) + "\n" for row in RECORDS)),
    "b.jsonl": lambda path: path.write_text(json.dumps(RECORDS, indent=1)),
    "a.arff": lambda path: path.write_text(ARFF),
    "b.arff": lambda path: path.write_text(
        ARFF.partition("@data\n")[0]
        + "@data\n"
        + "".join(
            f"{{{'' if n == 0 else f'0 {a}, 1 {b}'}{'' if k == 'x' else f', 2 {k}'}}}\n"
            for n, (a, b, k) in enumerate(ROWS)
        )
    ),
    "r.txt": lambda path: path.write_text(  # as R writes it, with names of rows below no name
        '"a" "b" "kind"\n' + "".join(f'"row {n}" {a} {b} "{kind}"\n' for n, (a, b, kind) in enumerate(ROWS))
    ),
    "g.csv": lambda path: path.write_text(CSV.replace("\n", ",\n").replace("kind,", "kind", 1)),
    "h.txt": lambda path: path.write_text(  # as CelebA writes it, with the number of rows above
        "60\na b kind \n" + "".join(f"{n}.jpg  {a}  {b} {kind}\n" for n, (a, b, kind) in enumerate(ROWS))
    ),
}


@pytest.mark.parametrize("name", WRITERS)
def test_every_format_gives_the_same_samples(tmp_path: Path, name: str) -> None:
    WRITERS[name](tmp_path / name)
    data = load(tmp_path / name, target="kind")
    inputs, targets = everything(data)
    assert data.preprocess["columns"] == ["a", "b"]
    assert data.spec.classes == ("x", "y", "z")
    assert inputs.tolist() == [[a, b] for a, b, _ in ROWS]
    assert targets.tolist() == [n % 3 for n in range(60)]


def test_an_index_that_pandas_keeps_in_parquet_is_no_column(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(RECORDS, index=[f"row {n}" for n in range(60)])
    frame.to_parquet(tmp_path / "a.parquet")
    assert load(tmp_path / "a.parquet", target="kind").preprocess["columns"] == ["a", "b"]


def test_types_that_are_no_text_become_numbers(tmp_path: Path) -> None:
    nanoseconds = [n * 86_400_000_000_000 for n in range(60)]
    table = arrow().append_column("flag", pa.array([n % 4 == 0 for n in range(60)]))
    kinds = {"moment": pa.timestamp("ns"), "there": pa.timestamp("ns", "Europe/Zurich"), "length": pa.duration("ns")}
    for name, kind in kinds.items():
        table = table.append_column(name, pa.array(nanoseconds, kind))
    table = table.append_column("cost", pa.array([f"{n},5 €" for n in range(60)], pa.large_string()))
    parquet.write_table(table, tmp_path / "a.parquet")
    inputs, _ = everything(load(tmp_path / "a.parquet", target="kind", features=["flag", *kinds, "cost"]))
    assert inputs.tolist() == [[n % 4 == 0, n, n, n, n + 0.5] for n in range(60)]


@pytest.mark.parametrize(
    ("name", "content", "place"),
    [
        (
            "a.jsonl",
            "".join(f"{json.dumps(row)}\n" for row in RECORDS) + '\n{"a": "oops", "b": 1, "kind": "x"}\n',
            ":62",
        ),
        ("a.json", json.dumps([*RECORDS, {"a": "oops", "b": 1, "kind": "x"}]), " row 61"),
        ("a.arff", ARFF + "oops,1,x\n", ":67"),
    ],
)
def test_a_bad_row_is_named(tmp_path: Path, name: str, content: str, place: str) -> None:
    file = tmp_path / name
    file.write_text(content)
    assert refused(load, file, target="kind").startswith(
        f"dataset=csv: 1 bad sample: {file}{place}: a: oops is no number"
    )
    assert len(everything(load(file, target="kind", on_error="skip"))[1]) == 60


SERIES = "#comment\n@problemName p\n@timeStamps false\n@univariate {}\n@classLabel true a b\n@data\n"


def test_a_table_whose_first_cell_is_a_sign_of_another_format_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(CSV.replace("a", "PAR1", 1))
    assert load(tmp_path / "a.csv", target="kind").preprocess["columns"] == ["PAR1", "b"]


def test_columns_that_are_no_numbers_in_parquet_are_noted(tmp_path: Path) -> None:
    table = arrow().append_column("when", pa.array([*range(60)], pa.date32()))
    parquet.write_table(table.append_column("flag", pa.array([n % 4 == 0 for n in range(60)])), tmp_path / "a.parquet")
    notes = load(tmp_path / "a.parquet", target="kind").notes
    assert "dates when" in notes
    assert "yes or no flag" in notes


def test_the_series_of_ucr_are_sequences(tmp_path: Path) -> None:
    lines = [f"{n},{n + 1},{n + 2}:{-n},{-n - 1},{-n - 2}:{'ab'[n % 2]}" for n in range(20)]
    (tmp_path / "a.ts").write_text(SERIES.format("false") + "\n".join(lines) + "\n")
    data = load(tmp_path / "a.ts")
    assert (data.spec.kind, data.spec.shape, data.spec.classes) == ("sequence", (3, 2), ("a", "b"))
    assert everything(data)[0][4].tolist() == [[4, -4], [5, -5], [6, -6]]
    (tmp_path / "b.ts").write_text(SERIES.format("true") + "1,2:a\n1,2,3:b\n")
    assert "series of different lengths" in refused(load, tmp_path / "b.ts")


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.parquet", b"PAR1 torn", "cannot be read"),
        ("a.feather", b"torn", "cannot be read"),
        ("a.json", b'[{"a": 1}\n{"a": 2}]', "no JSON: "),
        (
            "a.arff",
            b"@attribute a real\n@attribute k {x,y}\n@data\n{0 1,7 y}\n{1 y}\n",
            "7 y: names no column from 0 to 1",
        ),
        ("a.xlsx", b"PK", "is a spreadsheet, which is not read; save its sheet as CSV"),
        ("a.tar.gz", b"torn", "is an archive, which is not read; unpack it"),
        ("a.pkl.gz", b"torn", "is a pickle, which can run code"),
        ("a.csv", gzip.compress(bytes(20), mtime=0), "is packed with gzip; let the name end in .gz"),
        ("a.csv", b"PAR1\0", "is a Parquet file; let the name end in .parquet"),
        ("a.json", b"[1, 2]", "must be an object with keys, got int"),
        ("a.arff", b"@relation r\n", "has no line @data"),
        ("a.csv.gz", b"torn", "cannot be read"),
        ("a.csv.zip", b"torn", "cannot be read"),
        ("a.csv.gz", gzip.compress(b"a,b\n", mtime=0)[:-5], "cannot be read"),
    ],
)
def test_a_damaged_file_is_one_line(tmp_path: Path, name: str, content: bytes, reason: str) -> None:
    (tmp_path / name).write_bytes(content)
    assert reason in refused(load, tmp_path / name)


def test_a_packed_file_that_would_fill_the_memory_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trainer.config.untrusted_files.FREELY_UNPACKED", 1 << 16)
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(b"0,1\n" * 1_000_000))
    assert "more than 200 times its size" in refused(load, tmp_path / "a.csv.gz")


@pytest.mark.parametrize("kind", [pa.string(), pa.int64()])
@pytest.mark.parametrize("name", ["a.parquet", "a.feather", "a.jsonl"])
def test_a_list_in_a_cell_is_several_labels(tmp_path: Path, name: str, kind: pa.DataType) -> None:
    labels = [[["3", "2"], ["2"], []][n % 3] for n in range(60)]
    cells = [[int(each) for each in some] if kind == pa.int64() else some for some in labels]
    rows = pa.table({"x": [n / 7 for n in range(60)], "tags": pa.array(cells, pa.list_(kind))})
    if name.endswith("jsonl"):
        (tmp_path / name).write_text("\n".join(map(json.dumps, rows.to_pylist())))
    else:
        (parquet.write_table if name == "a.parquet" else feather.write_feather)(rows, tmp_path / name)
    data = load(tmp_path / name, target="tags")
    assert (data.spec.task, data.spec.classes) == ("multilabel", ("2", "3"))
    assert everything(data)[1][:3].tolist() == [[1, 1], [1, 0], [0, 0]]
    names = load(tmp_path / name, target="tags", task="classification", on_error="skip").spec.classes
    assert {*names} <= {"", "2", "3|2"}


def test_lists_of_0_and_1_are_labels_of_their_own(tmp_path: Path) -> None:
    lines = [json.dumps({"x": n / 7, "tags": [n % 2, 1, n // 2 % 2]}) for n in range(60)]
    (tmp_path / "a.jsonl").write_text("\n".join(lines))
    data = load(tmp_path / "a.jsonl", target="tags")
    assert (data.spec.task, data.spec.classes) == ("multilabel", ("tags.0", "tags.1", "tags.2"))
    assert everything(data)[1][:2].tolist() == [[0, 1, 0], [1, 1, 0]]


def test_a_list_with_a_label_twice_is_refused(tmp_path: Path) -> None:
    lines = [json.dumps({"x": n / 7, "tags": [n % 2, 1, 1 - n % 2][: 2 + n % 2]}) for n in range(60)]
    (tmp_path / "a.jsonl").write_text("\n".join(lines))
    with pytest.raises(ConfigError, match="0 and 1 for each label are columns of their own"):
        load(tmp_path / "a.jsonl", target="tags")
