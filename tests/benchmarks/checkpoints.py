"""What checkpoints cost: the time per step with one every 50 steps, in the background and not, over that without.

    python -m tests.benchmarks.checkpoints --rounds 5

Each round runs the three commands one after the other, so that a busy machine slows all of them; the table has the
medians. The time per step is that of training between two points of the curve, which a checkpoint falls into.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent.parent
DATA = ("dataset=synthetic", "dataset.shape=[1,28,28]", "dataset.samples=25600", "dataset.test_samples=128")
COMMON = (*DATA, "dataset.val_fraction=0", "batch_size=128", "epochs=2", "log_every=50", "run_dir=run")
EVERY = "checkpoint.every_steps=50"
CASES = {
    "no checkpoints": (),
    "every 50 steps": (EVERY,),
    "every 50 steps, in the background": (EVERY, "checkpoint.async=true"),
}


def seconds_per_step(words: tuple[str, ...]) -> float:
    """Of a whole run of the command."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, str(REPOSITORY / "cli.py"), *COMMON, *words]
        subprocess.run(command, cwd=folder, check=True, capture_output=True)
        summary = json.loads((Path(folder) / "run" / "summary.json").read_text())
    return 128 / float(summary["samples_per_second"])


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("words", nargs="*", help="more words of the command, such as model=gru")
    options = parser.parse_args()
    times: dict[str, list[float]] = {name: [] for name in CASES}
    for _ in range(options.rounds):
        for name, words in CASES.items():
            times[name].append(seconds_per_step((*words, *options.words)))
    base = statistics.median(times["no checkpoints"])
    for name, values in times.items():
        middle, low, high = statistics.median(values), min(values), max(values)
        each = f"{middle * 1000:7.2f} ms a step ({low * 1000:.2f} to {high * 1000:.2f})"
        print(f"{name:<36}{each}  {middle / base:.3f}")


if __name__ == "__main__":
    main()
