"""How long commands last that run at once on the same cores, with several ways in which idle threads may wait.

    python -m tests.benchmarks.side_by_side --rounds 5 --ways GOMP_SPINCOUNT=300000 -- epochs=10

Each way is an environment variable; the first way is the command as it is. All ways and numbers of commands take turns,
and ratios are taken within a round, so that a machine that is busy for a while is busy for all of them.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from tests.benchmarks.speed import machine, print_table, spread

TRAIN = [sys.executable, str(Path(__file__).resolve().parents[2] / "cli.py")]
AS_IT_IS = "as it is"


def seconds(way: str, words: Sequence[str], at_once: int) -> float:
    """Return how long ``at_once`` commands last that start together, until the last one ends."""
    name, _, value = way.partition("=")
    environment = {**os.environ, **({} if way == AS_IT_IS else {name: value})}
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        command = [*TRAIN, *words]
        running = [
            subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment)
            for _ in range(at_once)
        ]
        codes = [process.wait() for process in running]  # of all of them, before one ends this
        if any(codes):
            raise SystemExit("a run has failed")
        return time.perf_counter() - started


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--at-once", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--ways", nargs="*", default=[], help="environment variables to compare with")
    parser.add_argument("words", nargs="*", help="more words of the command")
    options = parser.parse_args()
    print(f"{machine()}; train {' '.join(options.words)}; {options.rounds} rounds\n")
    ways = [AS_IT_IS, *options.ways]
    times: dict[tuple[str, int], list[float]] = {(way, count): [] for way in ways for count in options.at_once}
    for _ in range(options.rounds):
        for way, count in times:
            times[way, count].append(seconds(way, options.words, count))
    rows = [["threads wait", "at once", "seconds", "over one alone", "over one alone, as it is"]]
    for (way, count), taken in times.items():
        bases = [times[way, options.at_once[0]], times[AS_IT_IS, options.at_once[0]]]
        ratios = [[mine / other for mine, other in zip(taken, base, strict=True)] for base in bases]
        rows.append([way, str(count), spread(taken, 1), *(spread(ratio, 2) for ratio in ratios)])
    print_table(rows)


if __name__ == "__main__":
    main()
