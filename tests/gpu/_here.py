"""What the cases share: where they run, and a training in this process."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

from tests.gpu._parts import SkippedError
from tests.kills import FOLDER, lines
from trainer import compose, run
from trainer.processes.signals import Stopped


class Here(NamedTuple):
    """Where the cases run.

    Args:
        device: cuda or cpu.
        folder: for what the cases write; a case makes folders of its own in it.
        data: holds MNIST/raw and pictures for the timed cases.
    """

    device: str
    folder: Path
    data: Path

    @classmethod
    def of(cls, setting: dict[str, Any]) -> Here:
        return cls(setting["device"], Path(setting["work"]), Path(setting["data"]))

    @property
    def on_gpu(self) -> bool:
        """Whether there is a card; without one, cases are small."""
        return self.device == "cuda"

    def needs_card(self) -> None:
        """Skip a case without a card."""
        if not self.on_gpu:
            raise SkippedError("needs a card")

    def new(self) -> Path:
        """Make a folder."""
        return Path(tempfile.mkdtemp(dir=self.folder))

    @property
    def precisions(self) -> Sequence[str]:
        return ("fp32", "tf32", "bf16", "fp16") if self.on_gpu else ("fp32",)


@contextlib.contextmanager
def within(folder: Path) -> Iterator[None]:
    """Change the working directory."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def train(here: Here, *words: str, folder: Path | None = None) -> Path:
    """Train in this process, in a folder of its own or in ``folder``; return that folder, which holds the run.

    A run that is stopped by a signal counts as trained.
    """
    folder = folder or here.new()
    torch.compiler.reset()  # what an earlier run compiled would count towards the limit of this one
    with within(folder), contextlib.suppress(Stopped):
        run(compose(f"device={here.device}", "logger=none", f"run_dir={FOLDER}", *words))
    return folder


def losses(folder: Path) -> list[float]:
    """Return the training curve."""
    return [line["train/loss"] for line in lines(folder / FOLDER / "metrics.jsonl") if "train/loss" in line]


def apart(one: Sequence[float], other: Sequence[float]) -> float:
    """Return the largest relative difference of two curves."""
    return max(abs(mine - theirs) / abs(theirs) for mine, theirs in zip(one, other, strict=True))
