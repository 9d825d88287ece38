"""Checkpoints: saving, loading and keeping them. Knows nothing but ``name -> object with a state_dict``.

A file holds plain types and tensors only, so ``weights_only=True`` always loads it: opening a checkpoint runs no code.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from safetensors.torch import save

from trainer.config import RunError

LAST, BEST, BEST_WEIGHTS = "last.pt", "best.pt", "best.safetensors"


class Stateful(Protocol):
    """Anything that can be saved."""

    def state_dict(self) -> dict[str, Any]:
        """Plain types and tensors."""

    def load_state_dict(self, state: dict[str, Any]) -> Any:
        """Take over what ``state_dict`` gave."""


class Checkpoints:
    """The folder ``checkpoints/`` of a run.

    Args:
        folder: made when the first file is written.
        keep: how many of the best to keep; with more than one, the others are called ``best-<step>.pt``.
        extra: plain data that goes into every file: the config and the preprocessing.
    """

    def __init__(self, folder: Path, keep: int, extra: Mapping[str, Any]) -> None:
        self._folder, self._keep, self._extra = folder, keep, dict(extra)
        self.ranking: list[list[float]] = []  # [*score, step] of the best evaluations, best first

    def save(self, objects: Mapping[str, Stateful], *, step: int) -> None:
        """Write ``last.pt``.

        Raises:
            RunError: it could not be written; the ``last.pt`` before is still there.
        """
        state = {name: item.state_dict() for name, item in objects.items()}
        self._write(LAST, lambda path: _dump({**self._extra, **state, "step": step}, path))

    def rank(self, score: Sequence[float], step: int) -> None:
        """Give the evaluation of ``step`` its place among the best; ``save`` it next, then ``keep_best``.

        Args:
            score: higher is better; a later number decides where the ones before are equal.
            step: names the file where several are kept.
        """
        self.ranking = sorted([*self.ranking, [*score, step]], reverse=True)[: self._keep]

    def keep_best(self, step: int, best: bool) -> None:
        """Keep ``last.pt``, just saved for ``step``, as its rank says.

        Args:
            step: as given to ``rank``.
            best: it is the best so far, and becomes ``best.pt``.
        """
        kept = {f"best-{step}.pt" for *_, step in self.ranking}
        if self._keep > 1 and f"best-{step}.pt" in kept:
            self._write(f"best-{step}.pt", self._link_last)
            for path in self._folder.glob("best-*.pt"):
                if path.name not in kept:
                    path.unlink()
        if best:
            self._write(BEST, self._link_last)

    def state_dict(self) -> dict[str, Any]:
        """The ranking of the best."""
        return {"ranking": self.ranking}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over a ranking."""
        self.ranking = state["ranking"]

    def load(self, name: str) -> dict[str, Any]:
        """Read a checkpoint onto the CPU.

        Raises:
            RunError: it is not there or cannot be read.
        """
        path = self._folder / name
        try:
            state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:
            raise RunError(f"cannot read the checkpoint {path}: {type(error).__name__}") from error
        return state

    def save_weights(self, weights: dict[str, torch.Tensor]) -> None:
        """Write the weights alone, as ``best.safetensors``.

        Raises:
            RunError: they could not be written.
        """
        separate = {name: tensor.detach().clone().contiguous() for name, tensor in weights.items()}
        self._write(BEST_WEIGHTS, lambda path: path.write_bytes(save(separate)))

    def _link_last(self, path: Path) -> None:
        """A second name for a file that is only ever replaced, never changed; a copy where links are not to be had."""
        try:
            os.link(self._folder / LAST, path)
        except OSError:
            shutil.copyfile(self._folder / LAST, path)

    def _write(self, name: str, write: Callable[[Path], object]) -> None:
        """Write beside the old file, and put the new one in its place when it is on the disk whole."""
        path, temporary = self._folder / name, self._folder / f".{name}.tmp"
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            temporary.unlink(missing_ok=True)
            write(temporary)
            _sync(temporary)
            temporary.replace(path)
            _sync(self._folder)
        except Exception as error:
            reason = _reason(self._folder, error)
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise RunError(f"cannot write the checkpoint {path}: {reason}") from error


class Progress:
    """Where a run is.

    Args:
        step: optimizer steps done.
        epoch: epochs done.
        batch: batches of the present epoch done.
        best: the best evaluation so far, and its step and epoch; empty before the first.
        waited: evaluations since.
    """

    def __init__(self) -> None:
        self.step = self.epoch = self.batch = self.waited = 0
        self.best: dict[str, Any] = {}

    def state_dict(self) -> dict[str, Any]:
        """Every field."""
        return dict(vars(self))

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over every field."""
        vars(self).update(state)


class RandomStates:
    """The global generators of Python, NumPy and torch."""

    def state_dict(self) -> dict[str, Any]:
        """As plain types and tensors."""
        name, keys, position, has_gauss, gauss = np.random.get_state(legacy=True)
        version, state, gauss_next = random.getstate()
        return {
            "torch": torch.get_rng_state(),
            "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
            "python": [version, list(state), gauss_next],
            "numpy": [str(name), [int(key) for key in keys], int(position), int(has_gauss), float(gauss)],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore every generator."""
        torch.set_rng_state(state["torch"])
        if torch.cuda.is_available() and state["cuda"]:
            torch.cuda.set_rng_state_all(state["cuda"])
        version, python, gauss_next = state["python"]
        random.setstate((version, tuple(python), gauss_next))
        name, keys, position, has_gauss, gauss = state["numpy"]
        np.random.set_state((name, np.array(keys, dtype=np.uint32), position, has_gauss, gauss))


def _dump(state: dict[str, Any], path: Path) -> None:
    """Through a file of our own: on a full disk torch's would stay open, and its space taken, with the traceback."""
    with path.open("wb") as file:
        torch.save(state, file)


def _sync(path: Path) -> None:
    """Make a file or folder last through a power cut."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _reason(folder: Path, error: Exception) -> str:
    """torch reports a full disk as an internal check of its own, so ask the disk."""
    try:
        free = shutil.disk_usage(folder).free
    except OSError:
        return f"the folder {folder} is gone"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    if free < 1 << 20:
        return f"no space left on the disk ({free} bytes free)"
    return " ".join(f"{type(error).__name__}: {error}".split())[:200]
