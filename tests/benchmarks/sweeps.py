"""What a sweep costs: eight short runs as a sweep, two at once, each as a command of its own, and two of those at once.

    python -m tests.benchmarks.sweeps --rounds 5 epochs=10

The four ways are tried in turn, and ratios are taken within a round, so that a machine that is busy for a while is busy
for all of them. All have the whole command: start, training, test, TensorBoard, checkpoints; a sweep has its table and
its page besides.
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

REPOSITORY = Path(__file__).resolve().parents[2]
TRAIN = [sys.executable, str(REPOSITORY / "cli.py")]
RUNS = 8
WAYS = ("sweep", "sweep.parallel=2", "commands, one after the other", "commands, two at once")


def seconds(way: str, words: Sequence[str], folder: Path) -> float:
    """How long the runs take in one way."""
    seeds = [str(number) for number in range(RUNS)]
    started = time.perf_counter()
    if way.startswith("sweep"):
        more = [] if way == "sweep" else [way]
        _wait(_begin([*words, "-m", f"seed={','.join(seeds)}", *more], folder))
    elif way == WAYS[2]:
        for seed in seeds:
            _wait(_begin([*words, f"seed={seed}"], folder))
    else:  # as xargs -P 2 does, each with its share of the cores
        for one, two in zip(seeds[::2], seeds[1::2], strict=True):
            both = [_begin([*words, f"seed={seed}"], folder, OMP_NUM_THREADS="1") for seed in (one, two)]
            for process in both:
                _wait(process)
    return time.perf_counter() - started


def _begin(words: Sequence[str], folder: Path, **environment: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([*TRAIN, *words], cwd=folder, stdout=subprocess.DEVNULL, env={**os.environ, **environment})


def _wait(process: subprocess.Popen[bytes]) -> None:
    if process.wait() != 0:
        raise SystemExit("a run has failed")


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("words", nargs="*", help="more words of the command")
    options = parser.parse_args()
    print(f"{machine()}; {RUNS} runs of train {' '.join(options.words)}; {options.rounds} rounds\n")
    times: dict[str, list[float]] = {way: [] for way in WAYS}
    for _ in range(options.rounds):
        for way in WAYS:
            with tempfile.TemporaryDirectory() as folder:
                times[way].append(seconds(way, options.words, Path(folder)))
    rows = [["", "seconds", "over the sweep", "over commands, one after the other"]]
    for way in WAYS:
        ratios = [
            [mine / other for mine, other in zip(times[way], times[base], strict=True)] for base in (WAYS[0], WAYS[2])
        ]
        rows.append([way, spread(times[way], 1), *(spread(ratio, 2) for ratio in ratios)])
    print_table(rows)


if __name__ == "__main__":
    main()
