"""Find where a loss, a gradient or a weight first became NaN or infinite, by repeating the steps before it."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn

from trainer.config import NotFiniteError, RunError
from trainer.nonfinite import describe_samples

if TYPE_CHECKING:
    from trainer.engine import Engine

log = logging.getLogger("trainer")


def explain(error: NotFiniteError, engine: Engine) -> RunError:
    """Find where it began.

    Args:
        error: what was seen.
        engine: another one for the same run, in the state of the last good checkpoint; it is used up.
    """
    progress, first = engine.progress, engine.progress.step + 1
    if progress.batch == len(engine.loaders.train):
        progress.epoch, progress.batch = progress.epoch + 1, 0
    if engine.skipper is not None:
        engine.skipper.tells = False
    log.info("wrong    %s; repeating it from step %d on to see where it began", error, first)
    with torch.compiler.set_stance("force_eager"):
        for batch in engine.loaders.train.epoch(progress.epoch, progress.batch):
            if progress.step >= error.step:
                break
            positions = engine.loaders.train.positions(progress.epoch, progress.batch)
            skipped = progress.skipped
            with _watched(engine, positions) as search:
                wrong = _rows(batch.inputs[0])
                if wrong.any():
                    search.note("in the data itself", positions[wrong.cpu()])
                engine.train_step(batch)
                search.look_at_losses()
            if progress.skipped > skipped:
                continue
            for name, parameter in engine.model.named_parameters():
                if not parameter.isfinite().all():
                    where = f"in {name}, which a finite gradient moved too far: a smaller optimizer.lr?"
                    search.note(where, positions)
            if search.place is not None:
                where, samples = search.place.words, search.place.positions.tolist()
                log.info("wrong    step %d, %s: samples %s", progress.step, where, samples)
                return RunError(f"{error}; it began at step {progress.step} {where}; {describe_samples(samples)}")
    return RunError(str(error))


class Place(NamedTuple):
    """Where a step went wrong: in words, and the positions of the samples that it is known of."""

    words: str
    positions: Tensor


class Search:
    """Looks for the first place in one step; those noted later follow from it.

    Args:
        engine: that takes the step.
        positions: of the samples of its batch.
    """

    def __init__(self, engine: Engine, positions: Tensor) -> None:
        self._engine, self._positions = engine, positions
        self._num_losses = len(engine.window.losses)
        self.part = -1  # the micro-batch under way
        self.place: Place | None = None

    def note(self, words: str, positions: Tensor) -> None:
        """Here it is wrong."""
        self.place = self.place or Place(words, positions)

    def of_part(self, part: int) -> Tensor:
        """The positions of a micro-batch."""
        size = self._engine.settings.micro_batch_size
        return self._positions[part * size : (part + 1) * size]

    def look_at_losses(self) -> None:
        """Note the first loss of the step that is no number."""
        losses = self._engine.window.losses[self._num_losses :]
        wrong = (~losses.isfinite()).nonzero().flatten().tolist()
        if wrong:
            self.note("in the loss, of finite outputs", self.of_part(wrong[0]))


@contextlib.contextmanager
def _watched(engine: Engine, positions: Tensor) -> Iterator[Search]:
    """Looks at every layer, loss and gradient of a step on the samples at ``positions``."""
    search = Search(engine, positions)

    def before_forward(*_: Any) -> None:
        search.look_at_losses()  # of the micro-batch before
        search.part += 1

    def after_forward(name: str) -> Any:
        def look(module: nn.Module, inputs: Any, output: Any) -> None:
            outputs = output if isinstance(output, list | tuple) else [output]
            tensors = [each for each in outputs if isinstance(each, Tensor) and each.is_floating_point()]
            wrong = [rows.cpu() for rows in map(_rows, tensors) if rows.any()]
            if wrong:
                part = search.of_part(search.part)
                samples = part[wrong[0]] if len(wrong[0]) == len(part) else part
                search.note(f"in the output of {name} ({type(module).__name__})", samples)

        return look

    def before_update(*_: Any) -> None:
        search.look_at_losses()
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


def _rows(tensor: Tensor) -> Tensor:
    """(batch, …) -> (batch,) bool: which rows hold what is no number."""
    return ~tensor.isfinite().flatten(1).all(1) if tensor.ndim > 1 else ~tensor.isfinite()
