"""Find where a loss, a gradient or a weight first became NaN or infinite.

A training step does not look for such values, because it would have to wait for the device; they are found at the
next point of the training curve, evaluation or checkpoint. Training is repeatable bit for bit, so the steps since the
last good checkpoint are then repeated with hooks on every layer.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from trainer.build import assemble
from trainer.checkpoint import Checkpoints
from trainer.config import NotFiniteError, RunError, Settings
from trainer.engine import Engine
from trainer.processes.group import Group
from trainer.processes.signals import Interrupts
from trainer.recorder import describe_samples

log = logging.getLogger("trainer")


@contextlib.contextmanager
def explained(settings: Settings, checkpoints: Checkpoints, interrupts: Interrupts) -> Iterator[None]:
    """Turn a ``NotFiniteError`` within this context into an error that names the step, layer and samples of its origin.

    If there are several processes, rank 0 repeats the steps alone, in micro-batches as large as its share was.

    Raises:
        RunError: a loss, a gradient or a weight was NaN or infinite.
    """
    try:
        yield
    except NotFiniteError as error:
        try:
            parts = assemble(settings, alone=True)
            with contextlib.closing(parts.loaders):
                engine = Engine(parts, settings, Group(), interrupts)
                found = checkpoints.newest()
                if found is not None:
                    engine.load(found.state)
                explanation = explain(error, engine)
        except Exception as failed:  # such as out of memory; the original error must still be reported
            log.debug("cannot find where it began", exc_info=failed)
            raise error from failed
        raise explanation from error


def explain(error: NotFiniteError, engine: Engine) -> RunError:
    """Repeat the steps up to the error and return an error that names the first NaN or infinite value.

    Args:
        error: the error to explain.
        engine: a second engine of the same run, in the state of the last good checkpoint; unusable afterwards.
    """
    progress, first = engine.progress, engine.progress.step + 1
    if progress.batch == len(engine.loaders.train):
        progress.epoch, progress.batch = progress.epoch + 1, 0
    if engine.skipper is not None:
        engine.skipper.warns = False
    log.info("wrong    %s; repeating the steps from step %d on to find where it began", error, first)
    with torch.compiler.set_stance("force_eager"):
        for batch in engine.loaders.train.epoch(progress.epoch, progress.batch):
            if progress.step >= error.step:
                break
            positions = engine.loaders.train.positions(progress.epoch, progress.batch)
            skipped = progress.skipped
            with _watched(engine, positions, batch.sizes) as search:
                wrong = _wrong_rows(batch.inputs[0])
                if wrong.any():
                    search.note("in the data itself", positions[wrong.cpu()])
                engine.train_step(batch)
                search.check_losses()
            if progress.skipped > skipped:
                continue
            for name, parameter in engine.model.named_parameters():
                if not parameter.isfinite().all():
                    where = f"in {name}, which a finite gradient moved too far: a smaller optimizer.lr?"
                    search.note(where, positions)
            if search.origin is not None:
                where, samples = search.origin.words, search.origin.positions.tolist()
                log.info("wrong    step %d, %s: samples %s", progress.step, where, samples)
                return RunError(f"{error}; it began at step {progress.step} {where}; {describe_samples(samples)}")
    return RunError(str(error))


class Origin(NamedTuple):
    """The place of the first NaN or infinite value, in words, and the int64 positions of the samples concerned."""

    words: str
    positions: Tensor


class Search:
    """Searches one step for the first NaN or infinite value; later ones are its consequences.

    Args:
        engine: the engine that does the step.
        positions: the positions of the samples of the batch.
        sizes: the number of samples in each micro-batch.
    """

    def __init__(self, engine: Engine, positions: Tensor, sizes: Sequence[int]) -> None:
        self._engine = engine
        self._parts: tuple[Tensor, ...] = positions.split(list(sizes))
        self._num_losses = len(engine.window.losses)
        self.part = -1  # the index of the current micro-batch
        self.origin: Origin | None = None

    def note(self, words: str, positions: Tensor) -> None:
        """Record a place with a NaN or infinite value; only the first record is kept."""
        self.origin = self.origin or Origin(words, positions)

    def positions_of(self, part: int) -> Tensor:
        """Return the positions of the samples of a micro-batch."""
        return self._parts[part]

    def check_losses(self) -> None:
        """Record the first loss of the step that is NaN or infinite."""
        losses = self._engine.window.losses[self._num_losses :]
        wrong = (~losses.isfinite()).nonzero().flatten().tolist()
        if wrong:
            self.note("in the loss, of finite outputs", self.positions_of(wrong[0]))


@contextlib.contextmanager
def _watched(engine: Engine, positions: Tensor, sizes: Sequence[int]) -> Iterator[Search]:
    """Check every layer, loss and gradient of the training step that is done within this context."""
    search = Search(engine, positions, sizes)

    def before_forward(*_: Any) -> None:
        search.check_losses()  # the loss of the previous micro-batch
        search.part += 1

    def after_forward(name: str) -> Any:
        def check(module: nn.Module, inputs: Any, output: Any) -> None:
            outputs = output if isinstance(output, list | tuple) else [output]
            tensors = [each for each in outputs if isinstance(each, Tensor) and each.is_floating_point()]
            wrong = [rows.cpu() for rows in map(_wrong_rows, tensors) if rows.any()]
            if wrong:
                part = search.positions_of(search.part)
                samples = part[wrong[0]] if len(wrong[0]) == len(part) else part
                search.note(f"in the output of {name} ({type(module).__name__})", samples)

        return check

    def before_update(*_: Any) -> None:
        search.check_losses()
        wrong = [
            name for name, p in engine.model.named_parameters() if p.grad is not None and not p.grad.isfinite().all()
        ]
        if wrong:
            search.note(f"in the gradient of {wrong[-1]}, of a finite loss", positions)

    leaves = [(name, module) for name, module in engine.model.named_modules() if not [*module.children()]]
    handles: list[Any] = [engine.model.register_forward_pre_hook(before_forward)]
    handles += [module.register_forward_hook(after_forward(name)) for name, module in leaves]
    handles.append(engine.optimizer.register_step_pre_hook(before_update))
    try:
        yield search
    finally:
        for handle in handles:
            handle.remove()


def _wrong_rows(tensor: Tensor) -> Tensor:
    """Return a bool mask (batch,) of the rows of ``tensor`` (batch, …) that hold a NaN or infinite value."""
    return ~tensor.isfinite().flatten(1).all(1) if tensor.ndim > 1 else ~tensor.isfinite()
