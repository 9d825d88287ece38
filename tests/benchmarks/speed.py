"""How fast the command trains, beside other ways to do the same: whole processes, one epoch of MNIST and its test.

    python -m tests.benchmarks.speed --data data
    python -m tests.benchmarks.speed --data data --rounds 1 --jobs linear --steps 100    # a trial

``--data`` holds MNIST/raw with the unpacked files. The tools are

    train          this project's command as this Python has it installed, with its defaults: TensorBoard, bar, log,
                   checkpoint, the train metrics, and the augmentation of MNIST
    train, bf16    the same with precision=bf16
    loop           the loop that everyone writes: torchvision, a DataLoader, tqdm, loss.item() in each step
    limit          the arithmetic alone, on the whole set as one tensor: no loader, no bar, no log
    limit, tuned   the same arithmetic with all that makes it fast in fp32 (see ``_peers``)
    Lightning      as its documentation shows it, with TensorBoard, bar and checkpoint
    Accelerate     the same

and the jobs the networks ``cnn``, ``gru``, ``lstm`` (two layers), and ``linear``, a single linear layer, which shows
what a tool costs for each step: there the others get their batches ready-made, and ``train`` does not augment.

A round runs each tool once, in another order each time, and ratios are taken within a round, so that a machine that is
busy for a while is busy for all. It should have nothing else to do, though: threads wait for one another, and where
another program keeps one from its core it keeps all of them. Before the rounds each tool runs for two steps, so that
what it reads has been read before. The tables have medians over the rounds (and the least and the most); images/s are
the median of windows of 20 steps, the first one left out.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import math
import os
import platform
import re
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from tests.benchmarks._process import run

HERE = Path(__file__).resolve().parent
BATCH = 128
WINDOW = 20  # steps
WARM_UP = 2  # steps
TRAIN, BF16, LOOP, TUNED = "train", "train, bf16", "loop", "limit, tuned"
TOOLS = (TRAIN, BF16, LOOP, "limit", TUNED, "Lightning", "Accelerate")
PACKAGES = {"Lightning": "lightning", "Accelerate": "accelerate"}  # what a tool needs
JOBS = {
    "cnn": ["model=cnn"],
    "gru": ["model=gru"],
    "lstm": ["model=lstm", "model.layers=2"],
    "linear": [f"plugins=[{HERE / '_linear.py'}]", "model=linear", "dataset.augment.crop=0"],
}


class FailedError(Exception):
    """A tool did not train; says why."""


class Result(NamedTuple):
    """Of one process."""

    rate: float  # images a second; nan where there are too few steps
    seconds: float
    first_step: float  # seconds from the start to its end
    mebibytes: float
    accuracy: float

    @property
    def step(self) -> float:
        """Milliseconds."""
        return 1000 * BATCH / self.rate


def command(tool: str, job: str, data: Path, steps: int | None) -> list[str]:
    """What to run; of so many steps, or of the whole epoch."""
    if tool not in (TRAIN, BF16):
        return [str(HERE / "_peers.py"), tool, job, str(data), *([] if steps is None else [str(steps)])]
    words = ["-m", "cli", *JOBS[job], "dataset=mnist", f"dataset.root={data}", "dataset.val_fraction=0"]
    words += [f"batch_size={BATCH}", "epochs=1", "device=cpu"]
    words += ["precision=bf16"] if tool == BF16 else []
    return words + ([] if steps is None else [f"max_steps={steps}"])


def measure(tool: str, job: str, data: Path, steps: int | None) -> Result:
    """Run a tool once, in a folder of its own.

    Raises:
        FailedError: it ended with an error, or did not say how well it did.
    """
    with tempfile.TemporaryDirectory() as folder:
        process = run(command(tool, job, data, steps), Path(folder))
    said = re.findall(r"^test .*accuracy (\d\.\d+)", process.output, flags=re.MULTILINE)
    if process.code != 0 or not process.steps or not said:
        raise FailedError(f"exit code {process.code}\n{process.output[-1000:]}")
    ends = range(2 * WINDOW - 1, len(process.steps) - 1, WINDOW)  # the last batch is smaller
    rates = [WINDOW * BATCH / (process.steps[end] - process.steps[end - WINDOW]) for end in ends]
    rate = statistics.median(rates) if rates else math.nan
    return Result(rate, process.seconds, process.steps[0], process.mebibytes, float(said[-1]))


def compare(job: str, tools: Sequence[str], data: Path, rounds: int, steps: int | None) -> dict[str, list[Result]]:
    """The results of each round by tool; a tool that fails is reported and left out."""
    results: dict[str, list[Result]] = {tool: [] for tool in tools}
    for number in range(rounds + 1):
        first = number % len(tools)
        for tool in [*tools[first:], *tools[:first]]:
            if tool not in results:
                continue
            try:
                result = measure(tool, job, data, WARM_UP if number == 0 else steps)
            except FailedError as error:
                print(f"{job}: {tool} failed: {error}", file=sys.stderr)
                del results[tool]
                continue
            if number > 0:
                results[tool].append(result)
                line = f"{job}, round {number}, {tool}: {result.rate:.0f} images/s, {result.seconds:.1f} s"
                print(line, file=sys.stderr, flush=True)
    return results


def spread(values: Sequence[float], digits: int) -> str:
    """Median (least-most)."""
    if not values:
        return "–"
    middle, least, most = (f"{each:,.{digits}f}" for each in (statistics.median(values), min(values), max(values)))
    return middle if len(values) == 1 else f"{middle} ({least}–{most})"


def table(job: str, results: dict[str, list[Result]]) -> list[list[str]]:
    """The header and a row for each tool."""

    def ratios(field: str, tool: str, base: str) -> list[float]:
        pairs = zip(results[tool], results.get(base, results[tool][:0]), strict=base in results)
        return [getattr(mine, field) / getattr(other, field) for mine, other in pairs]

    header = ["tool", "images/s", f"/ {LOOP}", f"/ {TUNED}", "wall s", f"/ {LOOP}", "first step s", "MiB", "accuracy"]
    rows = [header + (["ms a step", "above limit"] if job == "linear" else [])]
    for tool, runs in results.items():
        row = [
            tool,
            spread([each.rate for each in runs], 0),
            spread(ratios("rate", tool, LOOP), 2),
            spread(ratios("rate", tool, TUNED), 2),
            spread([each.seconds for each in runs], 1),
            spread(ratios("seconds", tool, LOOP), 2),
            spread([each.first_step for each in runs], 2),
            spread([each.mebibytes for each in runs], 0),
            spread([each.accuracy for each in runs], 4),
        ]
        if job == "linear":
            above = [mine.step - other.step for mine, other in zip(runs, results.get("limit", []), strict=False)]
            row += [spread([each.step for each in runs], 3), spread(above, 3)]
        rows.append(row)
    return rows


def print_table(rows: Sequence[Sequence[str]]) -> None:
    """In Markdown."""
    header, *body = rows
    for row in (header, ["---"] * len(header), *body):
        print(f"| {' | '.join(row)} |")
    print(flush=True)


def machine() -> str:
    """The processor, its cores, the versions of what runs on it, and how busy it is already."""
    info = Path("/proc/cpuinfo")
    names = re.findall(r"^model name\s*: (.+)", info.read_text(), flags=re.MULTILINE) if info.exists() else []
    parts = [names[0] if names else platform.processor() or platform.machine(), f"{os.cpu_count()} cores"]
    parts.append(f"{platform.system()}, Python {platform.python_version()}")
    for package in ("torch", "torchvision", "trainer-cli", *PACKAGES.values()):
        try:
            parts.append(f"{package} {importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            parts.append(f"no {package}")
    parts.append(f"load before {os.getloadavg()[0]:.1f}")
    return ", ".join(parts)


def main() -> int:
    """Print the tables; 1 where a tool failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the folder that holds MNIST/raw")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--jobs", nargs="+", choices=JOBS, default=list(JOBS))
    parser.add_argument("--tools", nargs="+", choices=TOOLS, default=TOOLS)
    parser.add_argument("--steps", type=int, help="train so many only, for a trial; throughput needs 41")
    options = parser.parse_args()
    tools = []
    for tool in options.tools:
        if importlib.util.find_spec(PACKAGES.get(tool, "torch")) is None:
            print(f"{tool} is left out: {PACKAGES[tool]} is not installed", file=sys.stderr)
        else:
            tools.append(tool)
    print(f"{machine()}; {options.rounds} rounds\n", flush=True)
    failed = False
    for job in options.jobs:
        results = compare(job, tools, options.data.resolve(), options.rounds, options.steps)
        failed = failed or len(results) < len(tools)
        print(f"{job}\n")
        print_table(table(job, results))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
