"""What does not train answers at once: without torch, and about as fast as a Hydra application that does nothing."""

from __future__ import annotations

import os
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY
from tests.shell import TRAIN

MINIMAL = """import hydra

@hydra.main(version_base="1.3", config_path="conf", config_name="config")
def main(config):
    print(config)

main()
"""
TRAINER = [sys.executable, "-m", "trainer"]
COMMANDS = {
    "train --help": [*TRAIN, "--help"],
    "train model=cnn --help": [*TRAIN, "model=cnn", "--help"],
    "train --cfg job": [*TRAIN, "--cfg", "job"],
    "train --info": [*TRAIN, "--info"],
    "train --version": [*TRAIN, "--version"],
    "train model=<tab>": [*TRAIN],
    "trainer --help": [*TRAINER, "--help"],
    "train optimizer.lrr=3": [*TRAIN, "optimizer.lrr=3"],
    "train model=cn": [*TRAIN, "model=cn"],
    "train --epochs 3": [*TRAIN, "--epochs", "3"],
    "train model.dropout=2": [*TRAIN, "model.dropout=2"],
    "train plugins=… model=… --help": [*TRAIN, "plugins=mine.py", "model=mine", "--help"],
}
ROUNDS = 5


@pytest.fixture
def minimal(tmp_path: Path) -> list[str]:
    """The least that Hydra can be asked for."""
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf" / "config.yaml").write_text("lr: 1\n")
    (tmp_path / "app.py").write_text(MINIMAL)
    (tmp_path / "mine.py").write_text(
        "import torch\nfrom trainer.model import MODELS\n\n@MODELS.register\nclass Mine(torch.nn.Module):\n"
        "    def __init__(self, spec, *, hidden: int = 3) -> None: ...\n"
    )
    return [sys.executable, str(tmp_path / "app.py"), "--help"]


def environment(name: str, folder: Path) -> dict[str, str]:
    """With what a shell asks with, where it is a completion."""
    found = {"PATH": os.environ["PATH"], "PYTHONPATH": str(REPOSITORY), "HOME": str(folder)}
    if name.endswith("<tab>"):
        line = name.removesuffix("<tab>")
        found |= {"_ARGCOMPLETE": "1", "COMP_LINE": line, "COMP_POINT": str(len(line)), "_ARGCOMPLETE_SHELL": "bash"}
        found |= {"_ARGCOMPLETE_STDOUT_FILENAME": str(folder / "completions"), "_ARGCOMPLETE_IFS": "\n"}
        (folder / "completions").touch()
    return found


@pytest.mark.parametrize("name", COMMANDS)
def test_torch_is_not_imported(name: str, tmp_path: Path, minimal: list[str]) -> None:
    python, *rest = COMMANDS[name]
    done = subprocess.run(
        [python, "-X", "importtime", *rest],
        cwd=tmp_path,
        env=environment(name, tmp_path),
        capture_output=True,
        text=True,
        check=False,
    )
    answer = done.stdout + (tmp_path / "completions").read_text() if name.endswith("<tab>") else done.stdout
    assert answer or "train: error: " in done.stderr
    assert not re.findall(r"\| +(torch|torchvision|numpy|pydantic)$", done.stderr, flags=re.MULTILINE)
    assert re.search(r"\| +trainer$", done.stderr, flags=re.MULTILINE), "not this program was timed"


@pytest.mark.slow
def test_times_as_ratios_to_the_minimal_application(
    tmp_path: Path, minimal: list[str], record_property: Callable[[str, object], None]
) -> None:
    times: dict[str, list[float]] = {name: [] for name in ("a minimal Hydra application --help", *COMMANDS)}
    for _ in range(ROUNDS):
        for name, seconds in times.items():
            started = time.perf_counter()
            command = COMMANDS.get(name, minimal)
            done = subprocess.run(
                command, cwd=tmp_path, env=environment(name, tmp_path), capture_output=True, check=False
            )
            seconds.append(time.perf_counter() - started)
            assert done.returncode in (0, 2), done.stderr
    medians = {name: statistics.median(seconds) for name, seconds in times.items()}
    first = next(iter(medians.values()))
    rows = [f"{name:<36}{median:8.3f} s {median / first:6.2f}" for name, median in medians.items()]
    record_property("table", "\n".join([f"medians of {ROUNDS} interleaved runs, and ratios", *rows]))
