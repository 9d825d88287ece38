"""Read a large CSV file beside pandas and polars: ``python -m tests.benchmarks.big_tables [ROWS] [ROUNDS]``.

Each reading is a process of its own, and the readers take turns. The figures are the median seconds of the reading
alone, without the imports, and the peak memory of the process less that of the imports. What pandas and polars return
are columns of float64; ours is what a training holds: float32 features, class numbers and the lines of the rows. The
peers are not among the requirements: ``pip install pandas polars``.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

COLUMNS = 20
READERS = {
    "ours": (
        "from pathlib import Path\n"
        "from trainer.data.readers.tables.parsing import ColumnsToRead, read_layout, read_table\n"
        "from trainer.data.readers.tables.layout import table_keys_of\nimport pyarrow, pyarrow.csv, pyarrow.compute",
        "read_table(read_layout(Path(FILE), table_keys_of({})), "
        f"ColumnsToRead(range({COLUMNS}), [({COLUMNS}, {{}})]))",
    ),
    "pandas": ("import pandas", "pandas.read_csv(FILE)"),
    "polars": ("import polars", "polars.read_csv(FILE)"),
}
PROGRAM = """
import json, resource, sys, time
FILE = sys.argv[1]
{imports}
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
before, started = peak(), time.perf_counter()
found = {read}
print(json.dumps([time.perf_counter() - started, peak() - before]))
"""


def write(path: Path, rows: int) -> None:
    """Write a table of normally distributed numbers with six decimals, and a class of three."""
    draw = np.random.default_rng(0)
    with path.open("w") as file:
        file.write(",".join([*(f"x{at}" for at in range(COLUMNS)), "label"]) + "\n")
        for start in range(0, rows, 10_000):
            count = min(10_000, rows - start)
            numbers, labels = draw.normal(size=(count, COLUMNS)), draw.integers(0, 3, count)
            np.savetxt(file, np.column_stack([numbers, labels]), fmt=["%.6f"] * COLUMNS + ["%d"], delimiter=",")


def measured(name: str, file: Path) -> tuple[float, float]:
    """Return the seconds and the MiB that a reader takes in a process of its own."""
    imports, read = READERS[name]
    program = PROGRAM.format(imports=imports, read=read)
    done = subprocess.run([sys.executable, "-c", program, str(file)], capture_output=True, text=True, check=True)
    seconds, mebibytes = json.loads(done.stdout)
    return seconds, mebibytes


def main() -> None:
    rows, rounds = (int(each) for each in (*sys.argv[1:], *("1000000", "5")[len(sys.argv) - 1 :]))
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "table.csv"
        write(file, rows)
        found: dict[str, list[tuple[float, float]]] = {name: [] for name in READERS}
        for _ in range(rounds):
            for name, some in found.items():
                some.append(measured(name, file))
        print(f"{rows:,} rows of {COLUMNS} numbers and a class, {file.stat().st_size / 2**20:.0f} MiB, {rounds} rounds")
        medians = {
            name: [statistics.median(column) for column in zip(*some, strict=True)] for name, some in found.items()
        }
        for name, (seconds, mebibytes) in medians.items():
            ratio, memory = (ours / theirs for ours, theirs in zip(medians["ours"], (seconds, mebibytes), strict=True))
            figures = f"{name:7} {seconds:6.2f} s {mebibytes:6.0f} MiB"
            print(f"{figures}   ours takes {ratio:.2f} of its time, {memory:.2f} of its memory")


if __name__ == "__main__":
    main()
