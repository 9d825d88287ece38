"""Checkpoints: saving, loading and keeping them. Knows nothing but ``name -> object with a state_dict``.

A file holds plain types and tensors only, so ``weights_only=True`` always loads it: opening a checkpoint runs no code.
It is the zip archive of ``torch.save`` with the SHA-256 of itself as the archive's comment: one file, replaced as a
whole, that says of itself whether it is whole.
"""

from __future__ import annotations

import contextlib
import copy
import hashlib
import logging
import os
import random
import re
import shutil
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, BinaryIO, Literal, NamedTuple, Protocol

import numpy as np
import torch
from safetensors.torch import save

from trainer.config import ConfigError, RunError
from trainer.runs import atomic_files

log = logging.getLogger("trainer")

LAST, PREVIOUS, BEST, BEST_WEIGHTS = "last.pt", "previous.pt", "best.pt", "best.safetensors"

_MARK = b"sha256:"
_COMMENT = len(_MARK) + 64  # bytes of the archive's comment


class Stateful(Protocol):
    """Anything that can be saved."""

    def state_dict(self) -> dict[str, Any]:
        """Plain types and tensors."""

    def load_state_dict(self, state: dict[str, Any]) -> Any:
        """Take over what ``state_dict`` gave."""


class DamagedError(Exception):
    """A file is no whole checkpoint; with the reason."""


class Found(NamedTuple):
    """A checkpoint that is whole."""

    name: str
    state: dict[str, Any]
    damaged: list[str]  # a line for each that would have come first and cannot be used


class Checkpoints:
    """The folder ``checkpoints/`` of a run.

    Args:
        folder: made when the first file is written; the run directory is there.
        keep: how many of the best to keep; with more than one, the others are called ``best-<step>.pt``.
        extra: plain data that goes into every file: the config and the preprocessing.
        on_error: what a file that cannot be written does: ``stop`` raises, ``warn`` says so and goes on.
        background: write in a thread; ``save`` then only copies the state.
        before: the files that a checkpoint counts on; they are made to last before it.
    """

    def __init__(
        self,
        folder: Path,
        *,
        keep: int,
        extra: Mapping[str, Any],
        on_error: Literal["stop", "warn"] = "stop",
        background: bool = False,
        before: Callable[[], Iterable[Path]] = tuple,
    ) -> None:
        self._folder, self._keep, self._extra = folder, keep, dict(extra)
        self._on_error, self._before = on_error, before
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="checkpoints") if background else None
        self._writing: Future[None] | None = None
        self.ranking: list[list[float]] = []  # [*score, step] of the best evaluations, best first

    def save(self, objects: Mapping[str, Stateful], *, step: int, best: bool = False) -> None:
        """Write ``last.pt``, and keep the one before as ``previous.pt``; with ``background`` it is under way then.

        Args:
            objects: by their names in the file.
            step: optimizer steps done; where ``rank`` has given it a place, it is kept as its rank says.
            best: it is the best so far, and becomes ``best.pt``.

        Raises:
            RunError: this one, or the one before in the background, could not be written, and that is to stop the
                run. What was there before is still there.
        """
        try:
            self.wait()
            state = {**self._extra, **{name: item.state_dict() for name, item in objects.items()}, "step": step}
        except OSError as error:  # a logger's file, on a full disk
            self._failed(LAST, error)
            return
        kept = self._kept()
        if self._writer is None:
            self._keep_state(state, kept, best)
        else:
            self._writing = self._writer.submit(self._keep_state, _copy(state), kept, best)

    def insist(self) -> None:
        """From now on, a checkpoint that cannot be written is an error whatever the config says: it is the last."""
        self._on_error = "stop"

    def wait(self) -> None:
        """Until what is written in the background is on the disk.

        Raises:
            RunError: as ``save``.
        """
        writing, self._writing = self._writing, None
        if writing is not None:
            writing.result()

    def close(self) -> None:
        """Wait, and do not raise: for when the run has failed already."""
        with contextlib.suppress(RunError):
            self.wait()
        if self._writer is not None:
            self._writer.shutdown()

    def rank(self, score: Sequence[float], step: int) -> None:
        """Give the evaluation of ``step`` its place among the best; ``save`` it next.

        Args:
            score: higher is better; a later number decides where the ones before are equal.
            step: names the file where several are kept.
        """
        self.ranking = sorted([*self.ranking, [*score, step]], reverse=True)[: self._keep]

    def state_dict(self) -> dict[str, Any]:
        """The ranking of the best."""
        return {"ranking": [list(each) for each in self.ranking]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over a ranking."""
        self.ranking = [[*map(float, score), int(step)] for *score, step in state["ranking"]][: self._keep]

    def newest(self) -> Found | None:
        """The newest checkpoint that is whole, read onto the CPU; None where there is none at all. Writes nothing.

        Raises:
            ConfigError: none of those that are there can be used, or one holds more than data.
        """
        names = [LAST, PREVIOUS, BEST, *self._ranked()]
        if not any((self._folder / name).is_file() for name in names):
            return None
        found, damaged = self._first_whole(names)
        if found is None:
            raise ConfigError(*(f"resume: {line}" for line in damaged))
        return found

    def _ranked(self) -> list[str]:
        """The best-<step>.pt that are there, newest first; nothing else that somebody has put there."""
        found = [re.fullmatch(r"best-(\d+)\.pt", path.name) for path in self._folder.glob("best-*.pt")]
        return [each[0] for each in sorted(filter(None, found), key=lambda each: int(each[1]), reverse=True)]

    def _kept(self) -> list[str]:
        """What the best are called besides ``best.pt``, best first; nothing where only one is kept."""
        return [_ranked_name(each[-1]) for each in self.ranking] if self._keep > 1 else []

    def best(self) -> Found:
        """The best checkpoint, read onto the CPU; where it cannot be used the next best, and at last the newest.

        Raises:
            RunError: none can be used.
        """
        try:
            found, damaged = self._first_whole([BEST, *self._kept(), LAST, PREVIOUS])
        except ConfigError as error:
            raise RunError(str(error)) from error
        if found is None:
            raise RunError("; ".join(damaged))
        return found

    def _first_whole(self, names: Iterable[str]) -> tuple[Found | None, list[str]]:
        """The first that is whole, and a line for each before it."""
        damaged: list[str] = []
        for name in names:
            path = self._folder / name
            try:
                return Found(name, read(path), damaged), damaged
            except DamagedError as error:
                damaged.append(f"{path} cannot be used: {error}")
        return None, damaged

    def adopt(self, found: Found, best_step: int | None) -> None:
        """Make the files those that were there when ``found`` had just been saved, before the run goes on from it.

        A run that was killed may have left it without the links that ``save`` makes last, or half a file.

        Args:
            best_step: the best step so far, as ``found`` knows it.
        """
        for path in self._folder.glob(".*.tmp"):
            path.unlink()
        if found.name != LAST:
            self._link(found.name, LAST)
        step = found.state["step"]
        self._link_best(step, self._kept(), best=best_step == step)

    def save_weights(self, weights: dict[str, torch.Tensor]) -> None:
        """Write the weights alone, as ``best.safetensors``.

        Raises:
            RunError: they could not be written.
        """
        separate = {name: tensor.detach().clone().contiguous() for name, tensor in weights.items()}
        try:
            atomic_files.write(self._folder / BEST_WEIGHTS, lambda path: path.write_bytes(save(separate)))
        except Exception as error:
            self._failed(BEST_WEIGHTS, error)

    def _keep_state(self, state: dict[str, Any], kept: Collection[str], best: bool) -> None:
        """Write a state, and keep it as its rank says."""
        try:
            for path in self._before():
                atomic_files.sync(path)
            self._folder.mkdir(exist_ok=True)
            atomic_files.write(self._folder / LAST, lambda path: _dump(state, path), keep_as=self._folder / PREVIOUS)
            self._link_best(state["step"], kept, best)
        except Exception as error:
            self._failed(LAST, error)

    def _link_best(self, step: int, kept: Collection[str], best: bool) -> None:
        """Keep ``last.pt``, just saved for ``step``, under its own name where that is to be kept, and as the best."""
        if _ranked_name(step) in kept:
            self._link(LAST, _ranked_name(step))
        for name in self._ranked():
            if name not in kept:
                (self._folder / name).unlink()
        if best:
            (self._folder / BEST_WEIGHTS).unlink(missing_ok=True)  # those of the best before, where a run goes on
            self._link(LAST, BEST)

    def _link(self, source: str, name: str) -> None:
        atomic_files.write(self._folder / name, lambda path: atomic_files.link(self._folder / source, path))

    def _failed(self, name: str, error: Exception) -> None:
        """Stop or go on, as the config says."""
        if isinstance(error, RunError):
            raise error
        message = f"cannot write the checkpoint {self._folder / name}: {_reason(self._folder, error)}"
        if self._on_error == "stop":
            raise RunError(message) from error
        log.warning("warning  %s; going on", message)


class Following:
    """The checkpoints of a run as a process sees them that follows another one, which writes them."""

    def save(self, objects: Mapping[str, Stateful], *, step: int, best: bool = False) -> None:
        """Give what the process has of each state, for those that are in pieces."""
        for item in objects.values():
            item.state_dict()

    def insist(self) -> None:
        """Nothing is written here."""

    def wait(self) -> None:
        """Nothing is written here."""

    def rank(self, score: Sequence[float], step: int) -> None:
        """The other one ranks."""

    def state_dict(self) -> dict[str, Any]:
        """Nothing of its own."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Nothing of its own."""


class Progress:
    """Where a run is.

    Args:
        step: optimizer steps done.
        epoch: epochs done.
        batch: batches of the present epoch done.
        evaluated: the step of the last evaluation.
        best: the best evaluation so far, and its step and epoch; empty before the first.
        last: the last evaluation, and its step and epoch.
        waited: evaluations since.
        skipped: batches left out because their loss or gradient was no number.
        skipped_in_a_row: those of them that came last.
    """

    def __init__(self) -> None:
        self.step = self.epoch = self.batch = self.evaluated = self.waited = 0
        self.skipped = self.skipped_in_a_row = 0
        self.best: dict[str, Any] = {}
        self.last: dict[str, Any] = {}

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
    """``torch.save``, and then the checksum of it as the archive's comment, whose length stands before it.

    Through a file of our own: on a full disk torch's would stay open, and its space taken, with the traceback.
    """
    with path.open("w+b") as file:
        torch.save(state, file)
        file.seek(-2, os.SEEK_END)
        file.write(_COMMENT.to_bytes(2, "little"))
        size = file.tell()
        file.seek(0)
        digest = _digest(file, size)
        file.write(_MARK + digest)


def read(path: Path) -> dict[str, Any]:
    """Read a checkpoint onto the CPU.

    Raises:
        DamagedError: it is not there, or not what was written.
        ConfigError: it holds more than data.
    """
    try:
        with path.open("rb") as file:
            size = path.stat().st_size - _COMMENT
            if size <= 0:
                raise DamagedError("it is empty" if size == -_COMMENT else "it is cut short")
            digest = _digest(file, size)
            comment = file.read()
            if comment.startswith(_MARK) and comment != _MARK + digest:
                raise DamagedError("its checksum does not fit what it holds")
            file.seek(0)
            state = torch.load(file, map_location="cpu", weights_only=True)
    except (DamagedError, MemoryError):
        raise
    except PermissionError as error:  # it may be as good as any
        raise ConfigError(f"{path}: {error.strerror}") from error
    except OSError as error:
        raise DamagedError(str(error.strerror)) from error
    except Exception as error:
        foreign = re.search(r"Unsupported (?:global|class)\W+(?:GLOBAL )?([\w.]*)", str(error))
        if foreign:
            what = f"{foreign[1]} and other objects" if foreign[1] else "objects"
            raise ConfigError(f"{path}: holds {what} besides tensors and plain data; it could run code") from error
        raise DamagedError("it is cut short, or no checkpoint") from error
    if not comment.startswith(_MARK) or not isinstance(state, dict):
        raise DamagedError("it has no checksum")
    return state


def _ranked_name(step: float) -> str:
    """42 -> ``best-42.pt``; ``Checkpoints._ranked`` finds them again."""
    return f"best-{int(step)}.pt"


def _digest(file: BinaryIO, count: int) -> bytes:
    """The SHA-256 of the next ``count`` bytes, in hexadecimal."""
    digest = hashlib.sha256()
    while count > 0:
        block = file.read(min(count, 1 << 20))
        if not block:
            break
        digest.update(block)
        count -= len(block)
    return digest.hexdigest().encode()


def _copy(state: Any) -> Any:
    """A state as it is now, on the CPU."""
    if isinstance(state, torch.Tensor):
        return state.detach().to("cpu", copy=True)
    if isinstance(state, dict):
        copied = copy.copy(state)  # with the versions of its layers, which a model's state carries as an attribute
        copied.update({key: _copy(value) for key, value in state.items()})
        return copied
    if isinstance(state, list | tuple):
        return type(state)(map(_copy, state))
    return state


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
