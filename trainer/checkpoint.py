"""Save, load and keep checkpoints: dicts that map the name of an object to its state dict.

``runs.checkpoint_file`` writes and reads a single file. Files are replaced atomically.
"""

from __future__ import annotations

import contextlib
import copy
import logging
import os
import random
import re
import shutil
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
import torch
from safetensors.torch import save

from trainer.config import ConfigError, RunError
from trainer.config.errors import one_line
from trainer.runs import atomic_files
from trainer.runs.checkpoint_file import DamagedError, dump, read

log = logging.getLogger("trainer")

LAST, PREVIOUS, BEST, BEST_WEIGHTS = "last.pt", "previous.pt", "best.pt", "best.safetensors"
EARLIER_BEST = "earlier-best.pt"  # the best checkpoint before an evaluation that a longer run does not have


class Stateful(Protocol):
    """An object that a checkpoint can hold: its state dict has only plain types and tensors."""

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any]) -> Any: ...


class FoundCheckpoint(NamedTuple):
    """A complete checkpoint, read onto the CPU."""

    name: str
    state: dict[str, Any]
    damaged: list[str]  # one line for each preferred file that cannot be used


class Checkpoints:
    """The folder ``checkpoints/`` of a run.

    Args:
        folder: created with the first file; its parent must exist.
        keep: how many of the best checkpoints to keep; if more than one, each is also kept as ``best-<step>.pt``.
        extra: plain data to add to every file, such as the config and the preprocessing.
        on_error: if a file cannot be written, ``stop`` raises an error and ``warn`` logs a warning.
        background: write files in a background thread; ``save`` then only copies the state.
        sync_first: returns the logger files whose sizes a checkpoint records; they are synced to disk first.
    """

    def __init__(
        self,
        folder: Path,
        *,
        keep: int,
        extra: Mapping[str, Any],
        on_error: Literal["stop", "warn"] = "stop",
        background: bool = False,
        sync_first: Callable[[], Iterable[Path]] = tuple,
    ) -> None:
        self._folder, self._keep, self._extra = folder, keep, dict(extra)
        self._on_error, self._sync_first = on_error, sync_first
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="checkpoints") if background else None
        self._writing: Future[None] | None = None
        self.ranking: list[list[float]] = []  # [*score, step] of the best evaluations, best first

    def save(
        self, items: Mapping[str, Stateful], *, step: int, best: bool = False, early: bool = False, final: bool = False
    ) -> None:
        """Write ``last.pt``, and keep the old ``last.pt`` as ``previous.pt``.

        Args:
            items: the objects to save, by their names in the file.
            step: the number of optimizer steps done. If ``rank`` has ranked this step among the best, the checkpoint
                is also kept as ``best-<step>.pt``.
            best: whether this is the best checkpoint so far; if so, it is also kept as ``best.pt``.
            early: whether the run ends within an epoch, so that a longer run does not have this evaluation. If so, the
                files of all earlier best checkpoints are kept for ``restore_files``.
            final: whether this is the last checkpoint of the run; if so, wait until it is on disk, and raise any error.

        Raises:
            RunError: this checkpoint, or the previous one in the background thread, could not be written, and
                ``on_error`` is ``stop`` or ``final`` is set. Earlier files are unchanged.
        """
        if final:
            self._on_error = "stop"
        try:
            self.wait()
            state = {**self._extra, **{name: item.state_dict() for name, item in items.items()}, "step": step}
        except OSError as error:  # a logger cannot write its file, for example on a full disk
            self._failed(LAST, error)
            return
        kept = self._kept()
        if self._writer is None:
            self._keep_state(state, kept, best, early)
        else:
            self._writing = self._writer.submit(self._keep_state, _copy(state), kept, best, early)
        if final:
            self.wait()

    def wait(self) -> None:
        """Wait until the background thread has written its checkpoint to disk.

        Raises:
            RunError: the checkpoint could not be written, and ``on_error`` is ``stop``.
        """
        writing, self._writing = self._writing, None
        if writing is not None:
            writing.result()

    def close(self) -> None:
        """Wait for the background thread, ignore its errors and end it."""
        with contextlib.suppress(RunError):
            self.wait()
        if self._writer is not None:
            self._writer.shutdown()

    def rank(self, score: Sequence[float], step: int) -> None:
        """Add the evaluation at ``step`` to the ranking of the best; call this before ``save``.

        Args:
            score: the numbers to compare by, in order, higher is better; a later number breaks a tie of earlier ones.
            step: the optimizer step, which names the file ``best-<step>.pt``.
        """
        self.ranking = sorted([*self.ranking, [*score, step]], reverse=True)[: self._keep]

    def state_dict(self) -> dict[str, Any]:
        return {"ranking": [list(each) for each in self.ranking]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.ranking = [[*map(float, score), int(step)] for *score, step in state["ranking"]][: self._keep]

    def newest(self) -> FoundCheckpoint | None:
        """Return the newest complete checkpoint, or None if the folder has no checkpoint.

        Raises:
            ConfigError: every checkpoint is damaged, or one is unreadable or holds more than plain types and tensors.
        """
        names = [LAST, PREVIOUS, BEST, *_ranked(self._folder)]
        if not any((self._folder / name).is_file() for name in names):
            return None
        try:
            return _first_complete(self._folder, names)
        except DamagedError as error:
            raise ConfigError(*(f"resume: {line}" for line in error.args)) from error

    def _kept(self) -> list[str]:
        """Return the names ``best-<step>.pt`` to keep, best first; the list is empty if ``keep`` is 1."""
        return [_ranked_name(each[-1]) for each in self.ranking] if self._keep > 1 else []

    def best(self) -> FoundCheckpoint:
        """Return the best complete checkpoint, or the newest one if all of the best are damaged; warn of damaged ones.

        Raises:
            RunError: every checkpoint is damaged, or one is unreadable or holds more than plain types and tensors.
        """
        try:
            found = _first_complete(self._folder, [BEST, *self._kept(), LAST, PREVIOUS])
        except (ConfigError, DamagedError) as error:
            raise RunError("; ".join(error.args)) from error
        for line in found.damaged:
            log.warning("warning  %s", line)
        return found

    def restore_files(self, found: FoundCheckpoint, best_step: int | None) -> None:
        """Put the folder of checkpoints back into the state that it had just after ``found`` was saved.

        A killed run may lack the links that ``save`` makes last, and may have left an incomplete file.

        Args:
            found: the checkpoint that the run resumes from.
            best_step: the step of the best evaluation up to ``found``.
        """
        for path in self._folder.glob(".*.tmp"):
            path.unlink()
        if found.name != LAST:
            _link(self._folder, found.name, LAST)
        is_best, earlier = best_step == found.state["step"], self._folder / EARLIER_BEST
        if not is_best and earlier.exists():
            (self._folder / BEST_WEIGHTS).unlink(missing_ok=True)
            earlier.replace(self._folder / BEST)
        self._link_best(found.state["step"], self._kept(), best=is_best)

    def save_weights(self, weights: dict[str, torch.Tensor]) -> None:
        """Write a model's weights to ``best.safetensors``.

        Raises:
            RunError: the file could not be written, and ``on_error`` is ``stop``.
        """
        separate = {name: tensor.detach().clone().contiguous() for name, tensor in weights.items()}
        try:
            atomic_files.write(self._folder / BEST_WEIGHTS, lambda path: path.write_bytes(save(separate)))
        except Exception as error:
            self._failed(BEST_WEIGHTS, error)

    def _keep_state(self, state: dict[str, Any], kept: Collection[str], best: bool, early: bool) -> None:
        """Write a state to ``last.pt`` and update the files of the best checkpoints."""
        try:
            for path in self._sync_first():
                atomic_files.sync(path)
            self._folder.mkdir(exist_ok=True)
            atomic_files.write(self._folder / LAST, lambda path: dump(state, path), keep_as=self._folder / PREVIOUS)
            if not early:
                (self._folder / EARLIER_BEST).unlink(missing_ok=True)
            elif best and (self._folder / BEST).exists():
                _link(self._folder, BEST, EARLIER_BEST)
            self._link_best(state["step"], [*kept, *_ranked(self._folder)] if early else kept, best)
        except Exception as error:
            self._failed(LAST, error)

    def _link_best(self, step: int, kept: Collection[str], best: bool) -> None:
        """Link ``last.pt`` to the names that ``kept`` and ``best`` ask for, and delete all other ``best-<step>.pt``."""
        if _ranked_name(step) in kept:
            _link(self._folder, LAST, _ranked_name(step))
        for name in _ranked(self._folder):
            if name not in kept:
                (self._folder / name).unlink()
        if best:
            # a resumed run may still have the weights of an earlier best checkpoint
            (self._folder / BEST_WEIGHTS).unlink(missing_ok=True)
            _link(self._folder, LAST, BEST)

    def _failed(self, name: str, error: Exception) -> None:
        """Raise a RunError about a file that cannot be written, or log a warning, depending on ``on_error``."""
        if isinstance(error, RunError):
            raise error
        message = f"cannot write the checkpoint {self._folder / name}: {_reason(self._folder, error)}"
        if self._on_error == "stop":
            raise RunError(message) from error
        log.warning("warning  %s; going on", message)


class NoCheckpoints(Checkpoints):
    """The checkpoints of a process that writes no files."""

    def __init__(self) -> None:
        super().__init__(Path(os.devnull), keep=1, extra={})

    def save(self, items: Mapping[str, Stateful], **_: Any) -> None:
        """Read the state dicts: gathering sharded weights is a collective call, which every rank has to make."""
        for item in items.values():
            item.state_dict()


class Progress:
    """The position of a run, its best and last evaluation, and its skipped batches.

    Attributes:
        step: the number of optimizer steps done.
        epoch: the number of epochs done.
        batch: the number of batches done in the current epoch.
        evaluated: the step of the last evaluation.
        logged: the step of the last point of the training curve.
        best: the values, step and epoch of the best evaluation; empty before the first evaluation.
        last: the values, step and epoch of the last evaluation; empty before the first evaluation.
        waited: the number of evaluations since the best one.
        skipped: the number of batches skipped because their loss or gradient was NaN or infinite.
        skipped_in_a_row: the number of batches skipped since the last batch that was not skipped.
    """

    def __init__(self) -> None:
        self.step = self.epoch = self.batch = self.evaluated = self.logged = self.waited = 0
        self.skipped = self.skipped_in_a_row = 0
        self.best: dict[str, Any] = {}
        self.last: dict[str, Any] = {}

    def state_dict(self) -> dict[str, Any]:
        return dict(vars(self))

    def load_state_dict(self, state: dict[str, Any]) -> None:
        vars(self).update({"logged": state["step"], **state})  # earlier versions logged before every checkpoint


class RandomStates:
    """The states of the global random number generators of Python, NumPy and torch.

    Args:
        gpus: the GPUs that the run computes on.
    """

    def __init__(self, gpus: Sequence[torch.device] = ()) -> None:
        self._gpus = gpus

    def state_dict(self) -> dict[str, Any]:
        name, keys, position, has_gauss, gauss = np.random.get_state(legacy=True)
        version, state, gauss_next = random.getstate()
        return {
            "torch": torch.get_rng_state(),
            "cuda": [torch.cuda.get_rng_state(gpu) for gpu in self._gpus],
            "python": [version, list(state), gauss_next],
            "numpy": [str(name), [int(key) for key in keys], int(position), int(has_gauss), float(gauss)],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        torch.set_rng_state(state["torch"])
        saved = state["cuda"]
        for place, gpu in enumerate(self._gpus):
            # earlier versions saved the states of all GPUs of the machine, by their numbers
            number = place if len(saved) == len(self._gpus) else gpu.index or 0
            if number < len(saved):
                torch.cuda.set_rng_state(saved[number], gpu)
        version, python, gauss_next = state["python"]
        random.setstate((version, tuple(python), gauss_next))
        name, keys, position, has_gauss, gauss = state["numpy"]
        np.random.set_state((name, np.array(keys, dtype=np.uint32), position, has_gauss, gauss))


def _first_complete(folder: Path, names: Iterable[str]) -> FoundCheckpoint:
    """Return the first complete checkpoint of ``names``; raise DamagedError, one line for each file, if none is."""
    damaged: list[str] = []
    for name in names:
        path = folder / name
        try:
            return FoundCheckpoint(name, read(path), damaged)
        except DamagedError as error:
            damaged.append(f"{path} cannot be used: {error}")
    raise DamagedError(*damaged)


def _ranked(folder: Path) -> list[str]:
    """Return the names of the files ``best-<step>.pt``, newest first."""
    found = [re.fullmatch(r"best-(\d+)\.pt", path.name) for path in folder.glob("best-*.pt")]
    return [each[0] for each in sorted(filter(None, found), key=lambda each: int(each[1]), reverse=True)]


def _link(folder: Path, source: str, name: str) -> None:
    atomic_files.write(folder / name, lambda path: atomic_files.link(folder / source, path))


def _ranked_name(step: float) -> str:
    """Return the name of a best checkpoint: 42 -> ``best-42.pt``."""
    return f"best-{int(step)}.pt"


def _copy(state: Any) -> Any:
    """Return a copy of a state with its tensors on the CPU; those on a GPU are copied with one wait for it."""
    copied = _start_copy(state)
    if torch.cuda.is_initialized():
        torch.cuda.current_stream().synchronize()
    return copied


def _start_copy(state: Any) -> Any:
    if isinstance(state, torch.Tensor):  # torch copies from a GPU to pinned memory, and goes on at once
        return state.detach().to("cpu", copy=True, non_blocking=state.is_cuda)
    if isinstance(state, dict):
        copied = copy.copy(state)  # keeps the attribute _metadata of a model's state dict: the versions of its layers
        copied.update({key: _start_copy(value) for key, value in state.items()})
        return copied
    if isinstance(state, list | tuple):
        return type(state)(map(_start_copy, state))
    return state


def _reason(folder: Path, error: Exception) -> str:
    """Return in one line why a write failed; torch hides the system's reason behind an assertion of its own."""
    cause: BaseException | None = error
    while cause is not None and not (isinstance(cause, OSError) and cause.strerror):
        cause = cause.__cause__ or cause.__context__
    if isinstance(cause, OSError) and not isinstance(cause, FileNotFoundError):
        return str(cause.strerror)
    if not folder.parent.is_dir():
        return f"the folder {folder.parent} is gone"
    if shutil.disk_usage(folder.parent).free < 1 << 20:
        return f"no space left on the disk ({shutil.disk_usage(folder.parent).free} bytes free)"
    return one_line(error)[:200]
