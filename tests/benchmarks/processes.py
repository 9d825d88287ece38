"""How fast two processes of one thread train, beside one process of two threads.

    python -m tests.benchmarks.processes --data data --rounds 5

The same batches of 128 MNIST images through ``device=ddp device.processes=2`` and ``device=cpu device.threads=2``, in
turn, so many steps of each. Rates are the medians over the points of the training curve, the first one left out, and
the ratio is taken within a round. It says what the exchange of the gradients costs, and nothing about more cores.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from pathlib import Path

from tests.benchmarks._process import run
from tests.benchmarks.speed import BATCH, JOBS, machine, print_table, spread

DEVICES = {
    "1 process of 2 threads": ["device=cpu", "device.threads=2"],
    "2 processes of 1 thread": ["device=ddp", "device.processes=2", "device.threads=1"],
}


def rate(words: list[str], data: Path, steps: int) -> float:
    """Images a second of one run."""
    common = ["-m", "cli", "dataset=mnist", f"dataset.root={data}", "dataset.val_fraction=0", f"batch_size={BATCH}"]
    with tempfile.TemporaryDirectory() as folder:
        done = run([*common, f"max_steps={steps}", "log_every=20", "run_dir=run", *words], Path(folder))
        if done.code != 0:
            raise SystemExit(f"{' '.join(words)}: exit code {done.code}\n{done.output[-1000:]}")
        points = [json.loads(line) for line in (Path(folder) / "run" / "metrics.jsonl").read_text().splitlines()]
    rates = [point["samples_per_second"] for point in points if "samples_per_second" in point]
    return float(statistics.median(rates[1:]))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the folder that holds MNIST/raw")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=200)
    options = parser.parse_args()
    print(f"{machine()}; {options.rounds} rounds of {options.steps} steps\n")
    rows = [["job", *(f"{name}, images/s" for name in DEVICES), "ratio"]]
    for job in ("cnn", "gru", "lstm"):
        rates: dict[str, list[float]] = {name: [] for name in DEVICES}
        for _ in range(options.rounds):
            for name, words in DEVICES.items():
                rates[name].append(rate([*JOBS[job], *words], options.data.resolve(), options.steps))
        one, two = rates.values()
        ratios = [many / single for single, many in zip(one, two, strict=True)]
        rows.append([job, spread(one, 0), spread(two, 0), spread(ratios, 2)])
    print_table(rows)


if __name__ == "__main__":
    main()
