"""Kill real runs at random moments, resume each until it finishes, and compare it with a run that nobody killed.

    python -m tests.kills --runs 200 --seed 0

Every run is a command of ``SCENARIOS`` in a process of its own, killed up to three times with SIGKILL (or another
signal, ``--signal``): at a random moment of the time that a whole run takes, or when a phase has begun (``PHASES``,
known from the files). Then the same command goes on (``resume=auto``). Some have finished with fewer epochs before.
At the end the weights, the best weights, the state of every random generator, each value of metrics.jsonl and every
point of TensorBoard have to be those of the undisturbed run.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

REPOSITORY = Path(__file__).resolve().parent.parent
COMMON = ("epochs=4", "batch_size=128", "log_every=3", "checkpoint.every_steps=4", "checkpoint.keep=2", "seed=3")
AUGMENT = ("dataset.augment.crop=1", "dataset.augment.rotate=10")
STREAMED = ("dataset.in_memory=false", "dataset.workers=2")
SCENARIOS: dict[str, tuple[str, ...]] = {
    "cnn": ("model=cnn", "model.dropout=0.2", *AUGMENT),
    "gru, dropout, ema": ("model=gru", "model.dropout=0.3", "model.layers=2", "ema=0.9"),
    "cnn, onecycle, ema, streamed": (
        *("model=cnn", "model.dropout=0.1", "scheduler=onecycle", "ema=0.9", *AUGMENT, *STREAMED),
    ),
    "gru, plateau, streamed": ("model=gru", "scheduler=plateau", *STREAMED),
    "cnn, async": ("model=cnn", "model.dropout=0.2", "checkpoint.async=true", "accumulate=2", *AUGMENT),
    "lstm, csv, sgd": ("model=lstm", "optimizer=sgd", "logger=[tensorboard,csv]", "patience=3"),
}
TIMING = (
    *("samples_per_second", "epoch/samples_per_second", "epoch/data_wait", "epoch/peak_memory_mib"),
    "peak_memory_mib",  # in summary.json
)
FOLDER = "run"


def command(words: tuple[str, ...], *more: str) -> list[str]:
    """Return the command of a scenario, to be run in a folder of its own."""
    return [sys.executable, str(REPOSITORY / "cli.py"), f"run_dir={FOLDER}", "resume=auto", *COMMON, *words, *more]


def start(words: list[str], folder: Path) -> subprocess.Popen[str]:
    """Start a process whose output goes to ``output.txt``."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with (folder / "output.txt").open("a") as output:
        return subprocess.Popen(words, cwd=folder, stdout=output, stderr=output, text=True, env=environment)


def finish(words: list[str], folder: Path) -> float:
    """Run a command to its end, and return the seconds.

    Raises:
        AssertionError: it ended with another exit code than 0.
    """
    started = time.monotonic()
    code = start(words, folder).wait(timeout=300)
    assert code == 0, f"exit code {code}: {(folder / 'output.txt').read_text()[-3000:]}"
    return time.monotonic() - started


def outcome(folder: Path) -> dict[str, Any]:
    """Return everything of a run that must not depend on the number of kills; tensors as bytes."""
    run = folder / FOLDER
    last = torch.load(run / "checkpoints" / "last.pt", map_location="cpu", weights_only=True)
    best = torch.load(run / "checkpoints" / "best.pt", map_location="cpu", weights_only=True)
    summary = json.loads((run / "summary.json").read_text())
    names = sorted(path.name for path in (run / "checkpoints").iterdir())
    return {
        "last": plain({name: last[name] for name in last if name not in ("recorder", "config")}),
        "best": plain({name: best[name] for name in ("model", "step", "progress")}),
        "files": names,
        "weights": (run / "checkpoints" / "best.safetensors").read_bytes().hex()[-64:],
        "metrics": lines(run / "metrics.jsonl"),
        "csv": without_timing((run / "metrics.csv").read_text()) if (run / "metrics.csv").exists() else None,
        "tensorboard": points(run / "tensorboard"),
        "summary": {name: value for name, value in summary.items() if name not in ("seconds", *TIMING)},
    }


def plain(state: Any) -> Any:
    """Replace tensors by their bytes, which can be compared; NaN then equals itself."""
    if isinstance(state, torch.Tensor):
        return (str(state.dtype), tuple(state.shape), state.contiguous().numpy().tobytes())
    if isinstance(state, dict):
        return {key: plain(value) for key, value in state.items()}
    return [plain(value) for value in state] if isinstance(state, list | tuple) else state


def lines(path: Path) -> list[dict[str, float]]:
    """Read metrics.jsonl without times and memory; half a line is an error."""
    read = [json.loads(line) for line in path.read_text().splitlines()]
    return [{name: value for name, value in line.items() if name not in TIMING} for line in read]


def without_timing(table: str) -> list[list[str]]:
    """Return the cells of a CSV file, without the columns of times and memory."""
    rows = [line.split(",") for line in table.splitlines()]
    kept = [column for column, name in enumerate(rows[0]) if name not in TIMING]
    return [[row[column] for column in kept] for row in rows]


def points(folder: Path) -> dict[str, list[tuple[str, int, float]]]:
    """Return every scalar of every event file, including scalars that a viewer would hide."""
    found: dict[str, list[tuple[str, int, float]]] = {}
    for path in sorted(folder.rglob("events*")):
        for event in EventFileLoader(str(path)).Load():
            for value in event.summary.value:
                if value.tag not in TIMING and value.metadata.plugin_data.plugin_name == "scalars":
                    point = (value.tag, event.step, value.tensor.float_val[0])
                    found.setdefault(str(path.parent.relative_to(folder)), []).append(point)
    return found


def newest(folder: Path, pattern: str) -> float:
    """Return when a file of a run was last changed; 0 if there is no file."""
    times = []
    for path in (folder / FOLDER).glob(pattern):
        with_time = path.stat(follow_symlinks=False).st_mtime_ns if path.exists() else 0
        times.append(with_time)
    return max(times, default=0)


# A phase has begun when this is so; ``before`` is what the same call gave at the start of the process.
PHASES: dict[str, Callable[[Path], float]] = {
    "save": lambda folder: newest(folder, "checkpoints/.last.pt.tmp"),
    "just saved": lambda folder: newest(folder, "checkpoints/last.pt"),
    "best": lambda folder: newest(folder, "checkpoints/best.pt"),
    "logged": lambda folder: newest(folder, "metrics.jsonl"),
    "begun": lambda folder: newest(folder, "overrides.yaml"),
    "claim": lambda folder: newest(folder, "config.yaml"),
    "test": lambda folder: newest(folder, "checkpoints/best.safetensors"),
}


def kill_once(words: list[str], folder: Path, draw: random.Random, seconds: float, number: int) -> str:
    """Start the command, send a signal to the process at a random moment, and return what happened."""
    before = {name: changed(folder) for name, changed in PHASES.items()}
    process = start(words, folder)
    phase = draw.choice(["time", "time", "time", *PHASES])
    started, wanted = time.monotonic(), draw.uniform(0.05, seconds)
    times = draw.randint(1, 4)  # how often the phase has to begin
    while process.poll() is None and time.monotonic() - started < 60:
        if phase == "time":
            time.sleep(wanted)
            break
        time.sleep(0.0005)  # leaves the core to the run
        try:
            now = PHASES[phase](folder)
        except OSError:  # gone in between
            continue
        if now > before[phase]:
            before[phase], times = now, times - 1
            if times == 0:
                time.sleep(draw.choice([0, 0, draw.uniform(0, 0.02)]))
                break
    if process.poll() is None:
        process.send_signal(number)
    code = process.wait(timeout=120)
    return f"{phase}: {'killed' if code == -number else f'exit {code}'} after {time.monotonic() - started:.2f} s"


def survive(
    scenario: str, draw: random.Random, wanted: dict[str, Any], seconds: float, number: int, most: int = 3
) -> str:
    """Do a run with up to ``most`` kills, and compare it with the undisturbed run.

    Raises:
        AssertionError: they differ, or a command failed.
    """
    folder = Path(tempfile.mkdtemp(prefix="kills-"))
    words = command(SCENARIOS[scenario])
    story = []
    if "scheduler=onecycle" not in words and draw.random() < 0.25:  # which would have been another with fewer epochs
        finish([*words, "epochs=2"], folder)
        story.append("finished with 2 epochs, then 4 asked for")
    story += [kill_once(words, folder, draw, seconds, number) for _ in range(draw.randint(1, most))]
    finish(words, folder)
    got = outcome(folder)
    different = [name for name in wanted if got[name] != wanted[name]]
    assert not different, f"{scenario}: {different} differ after {story}, in {folder}"
    shutil.rmtree(folder)
    return "; ".join(story)


def undisturbed(scenario: str) -> tuple[dict[str, Any], float]:
    """Return the outcome of a scenario without kills, and the seconds that the run takes."""
    with tempfile.TemporaryDirectory(prefix="kills-") as name:
        seconds = finish(command(SCENARIOS[scenario]), Path(name))
        return outcome(Path(name)), seconds


def main() -> None:
    """Do the requested runs, in turn over the scenarios; print a line for each run and the count at the end."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=12)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--signal", default="SIGKILL")
    parser.add_argument("--scenario", action="append", choices=SCENARIOS)
    options = parser.parse_args()
    names = options.scenario or list(SCENARIOS)
    references = {name: undisturbed(name) for name in names}
    survived = 0
    for count in range(options.runs):
        scenario = names[count % len(names)]
        wanted, seconds = references[scenario]
        draw = random.Random(f"{options.seed} {count}")
        try:
            story = survive(scenario, draw, wanted, seconds, getattr(signal, options.signal))
        except AssertionError as error:
            print(f"{count + 1:>4}  LOST  {scenario}: {error}", flush=True)
        else:
            survived += 1
            print(f"{count + 1:>4}  survived  {scenario}: {story}", flush=True)
    print(f"{survived} of {options.runs} runs survived", flush=True)
    sys.exit(survived != options.runs)


if __name__ == "__main__":
    main()
