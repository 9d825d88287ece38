"""How the cost grows with the work: ten times the samples, the epochs, the parameters.

    python -m tests.benchmarks.growth

Whole processes on made data, in turn. With ten times the samples or the epochs a step should take what it took before,
and with ten times the parameters ten times as long at most. The samples and the parameters take memory themselves; ten
times the epochs, with their logs and metrics, should not take more, and a logged point and a checkpoint stay as large
as they were.

``ms a step`` is the median; ``late / early`` compares the last quarter of the steps with the first, and shows what gets
slower within a run. ``s an epoch`` has everything between the first and the last step, with evaluations, logs and
checkpoints. ``ms a checkpoint`` is what a step takes more when one is written before it. The second table has the
quotients, taken within a round.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from tests.benchmarks._process import run
from tests.benchmarks.speed import machine, print_table, spread

SAVE_EVERY = 15  # steps; log_every=50 seldom meets it
FEW = 3  # epochs where there are many samples
SAMPLES, FEW_SAMPLES, EPOCHS, HIDDEN = 8000, 400, 20, 2000
COMMON = ("-m", "cli", "dataset=synthetic", "model=cnn", "model.channels=[4]", "device=cpu", "run_dir=run")


class Case(NamedTuple):
    """A command."""

    samples: int
    epochs: int
    hidden: int  # to which the number of parameters is proportional, but for some 50

    def words(self) -> list[str]:
        """The command line."""
        return [
            *COMMON,
            f"dataset.samples={self.samples}",
            f"epochs={self.epochs}",
            f"model.hidden={self.hidden}",
            f"checkpoint.every_steps={SAVE_EVERY}",
        ]


CASES = {
    "many samples": Case(SAMPLES, FEW, HIDDEN),
    "10 x samples": Case(SAMPLES * 10, FEW, HIDDEN),
    "10 x parameters": Case(SAMPLES, FEW, HIDDEN * 10),
    "few samples": Case(FEW_SAMPLES, EPOCHS, HIDDEN),
    "10 x epochs": Case(FEW_SAMPLES, EPOCHS * 10, HIDDEN),
}
PAIRS = {"10 x samples": "many samples", "10 x epochs": "few samples", "10 x parameters": "many samples"}


class Cost(NamedTuple):
    """Of a run."""

    seconds: float  # of the whole process
    first_step: float  # seconds from the start to its end
    step: float  # milliseconds
    late: float  # of a late step, over that of an early one
    epoch: float  # seconds
    mebibytes: float  # the most memory
    points: float  # logged ones
    point_bytes: float  # of metrics.jsonl
    checkpoint: float  # MiB of last.pt
    saving: float  # milliseconds


HEADER = [
    *("s", "first step s", "ms a step", "late / early", "s an epoch", "memory MiB"),
    *("points", "bytes a point", "checkpoint MiB", "ms a checkpoint"),
]
DIGITS = (1, 2, 2, 2, 2, 0, 0, 0, 2, 1)


def measure(case: Case) -> Cost:
    """Run a case.

    Raises:
        SystemExit: it failed.
    """
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        process = run(case.words(), folder)
        if process.code != 0:
            raise SystemExit(f"failed: {' '.join(case.words())}\n{process.output[-1000:]}")
        points = (folder / "run" / "metrics.jsonl").read_bytes().splitlines(keepends=True)
        checkpoint = (folder / "run" / "checkpoints" / "last.pt").stat().st_size / 2**20
    steps = process.steps
    per_epoch = len(steps) // case.epochs
    # the step after number n of all, begun when n was done
    gaps = {done: 1000 * (steps[done] - steps[done - 1]) for done in range(1, len(steps)) if done % per_epoch != 0}
    plain = [gap for done, gap in gaps.items() if done % SAVE_EVERY != 0]
    after_saving = [gap for done, gap in gaps.items() if done % SAVE_EVERY == 0]
    step, quarter = statistics.median(plain), len(plain) // 4
    return Cost(
        seconds=process.seconds,
        first_step=steps[0],
        step=step,
        late=statistics.median(plain[-quarter:]) / statistics.median(plain[:quarter]),
        epoch=(steps[-1] - steps[0]) / (len(steps) - 1) * per_epoch,
        mebibytes=process.mebibytes,
        points=len(points),
        point_bytes=sum(map(len, points)) / len(points),
        checkpoint=checkpoint,
        saving=statistics.median(after_saving) - step,
    )


def rows(costs: dict[str, list[Cost]]) -> list[list[str]]:
    """The header and a row for each case."""
    table = [["", *HEADER]]
    for name, runs in costs.items():
        table.append(
            [name, *(spread(values, digits) for values, digits in zip(zip(*runs, strict=True), DIGITS, strict=True))]
        )
    return table


def ratio_rows(costs: dict[str, list[Cost]]) -> list[list[str]]:
    """The header and a row for each pair of cases."""
    table = [["", *HEADER]]
    for large, small in PAIRS.items():
        ratios: list[Sequence[float]] = [
            [mine / other for mine, other in zip(one, base, strict=True)]
            for one, base in zip(costs[large], costs[small], strict=True)
        ]
        table.append([f"{large} / {small}", *(spread(values, 2) for values in zip(*ratios, strict=True))])
    return table


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    print(f"{machine()}; {options.rounds} rounds\n", flush=True)
    costs: dict[str, list[Cost]] = {name: [] for name in CASES}
    for number in range(options.rounds):
        for name, case in CASES.items():
            costs[name].append(measure(case))
            print(f"round {number + 1}, {name}: {costs[name][-1].seconds:.1f} s", file=sys.stderr, flush=True)
    print_table(rows(costs))
    print_table(ratio_rows(costs))


if __name__ == "__main__":
    main()
