"""What checkpoints cost: the time per step with one every 50 steps, in the background and not, over that without.

    python -m tests.benchmarks.checkpoints --rounds 15 model=gru

One engine trains blocks of 50 steps, in turn without a checkpoint, with one at the beginning of the block, and with one
that is written in the background while the block goes on. Each block is compared with the one without of its round,
so that a machine that is busy for a while is busy for all three; the table has the medians and the quartiles.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from trainer import compose
from trainer.build import assemble
from trainer.checkpoint import LAST, Checkpoints
from trainer.data.loader import Batch, Loader
from trainer.engine import Engine
from trainer.processes.group import Group
from trainer.processes.signals import Interrupts
from trainer.runs.directory import RunDirectory

STEPS = 50
COMMON = ("dataset=synthetic", "dataset.shape=[1,28,28]", "dataset.samples=12800", "batch_size=128", "epochs=1000")


def endless(loader: Loader) -> Iterator[Batch]:
    """Epoch after epoch."""
    epoch = 0
    while True:
        yield from loader.epoch(epoch)
        epoch += 1


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("words", nargs="*", help="more words of the command")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=".") as folder, Interrupts() as interrupts:
        settings = compose(*COMMON, *options.words).settings
        directory = RunDirectory(folder, fixed=False)
        parts = assemble(settings)
        engine = Engine(parts, settings, Group(), interrupts)
        path = Path(folder)
        modes = {
            "without": None,
            "every 50 steps": Checkpoints(path, keep=1, extra={}),
            "every 50 steps, in the background": Checkpoints(path, keep=1, extra={}, background=True),
        }
        batches, times = endless(parts.loaders.train), {name: list[float]() for name in modes}
        for number in range(options.rounds + 1):
            for name, checkpoints in modes.items():
                started = time.perf_counter()
                if checkpoints is not None:
                    engine.checkpoints = checkpoints
                    engine.save()
                for _ in range(STEPS):
                    engine.train_step(next(batches))
                seconds = (time.perf_counter() - started) / STEPS
                if checkpoints is not None:
                    checkpoints.wait()
                engine.window.check_finite()
                if number > 0:  # the first round warms up
                    times[name].append(seconds)
        size = (path / LAST).stat().st_size / 2**20
        directory.close()
    print(f"{settings.model['name']}, {options.rounds} rounds of {STEPS} steps, checkpoints of {size:.1f} MiB")
    for name, values in times.items():
        ratios = [value / base for value, base in zip(values, times["without"], strict=True)]
        low, middle, high = statistics.quantiles(ratios, n=4)
        median = statistics.median(values) * 1000
        print(f"{name:<36}{median:7.2f} ms a step  {middle:.3f}  ({low:.3f} to {high:.3f})")


if __name__ == "__main__":
    main()
