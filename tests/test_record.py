"""What the terminal shows."""

from __future__ import annotations

import fcntl
import os
import pty
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Mapping
from pathlib import Path

from tests.conftest import REPOSITORY
from trainer.logger import Logger
from trainer.record import Recorder

COMMAND = [sys.executable, str(REPOSITORY / "cli.py"), "logger=none"]


def test_a_terminal_gets_a_bar_that_goes_away(tmp_path: Path) -> None:
    terminal, inside = pty.openpty()
    fcntl.ioctl(inside, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))
    process = subprocess.Popen([*COMMAND, "epochs=2"], cwd=tmp_path, stdout=inside, stderr=inside)
    os.close(inside)
    shown = b""
    while True:
        try:
            part = os.read(terminal, 65536)
        except OSError:  # how a pseudo-terminal says that the other side is gone
            break
        if not part:
            break
        shown += part
    os.close(terminal)
    assert process.wait(timeout=60) == 0
    text = shown.decode()
    assert "epoch 1/2:" in text
    assert "batch/s" in text
    lines = [line for line in text.replace("\r\n", "\n").split("\n") if "* best" in line]
    assert len(lines) == 2
    assert [line.split("\r")[-1].split("  ")[0] for line in lines] == ["epoch 1/2", "epoch 2/2"]


def test_ctrl_c_ends_with_130_and_keeps_the_last_checkpoint(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [*COMMAND, "epochs=1000", "run_dir=here"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 120
    while not (tmp_path / "here" / "checkpoints" / "best.pt").exists():
        assert time.monotonic() < deadline
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert errors == "train: interrupted\n"
    assert (tmp_path / "here" / "summary.json").read_text().count('"stopped"') == 1
    assert (tmp_path / "here" / "checkpoints" / "last.pt").exists()


def test_the_throughput_counts_training_time_alone() -> None:
    points: list[dict[str, float]] = []

    class Listener(Logger):
        def log(self, values: Mapping[str, float], step: int, epoch: int) -> None:
            points.append(dict(values))

    recorder = Recorder({"listener": Listener()}, num_epochs=2, monitor="accuracy")
    for epoch in (1, 2):
        recorder.start_epoch(epoch, 1, 0)
        recorder.count_step(100)
        time.sleep(0.05)
        recorder.log_training({"loss": 1.0}, lr=0.1, gradient_norm=2.0, step=epoch)
        time.sleep(0.3)  # an evaluation
        recorder.end_epoch({"loss": 1.0}, {"loss": 1.0, "accuracy": 0.5}, epoch, is_best=True)
    rates = [point["samples_per_second"] for point in points if "samples_per_second" in point]
    assert len(rates) == 2
    assert all(500 < rate < 2100 for rate in rates)
    assert recorder.samples == 200


def test_a_reader_that_leaves_early_changes_nothing(tmp_path: Path) -> None:
    command = (
        f"{sys.executable} {REPOSITORY / 'cli.py'} logger=none epochs=2 run_dir=here | head -1; echo ${{PIPESTATUS[0]}}"
    )
    done = subprocess.run(["bash", "-c", command], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["model    cnn, 53,002 parameters", "0"]
    assert done.stderr == ""
    assert "finished" in (tmp_path / "here" / "summary.json").read_text()
    command = f"{sys.executable} {REPOSITORY / 'cli.py'} --help | head -1"
    done = subprocess.run(["bash", "-c", command], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stderr == ""
