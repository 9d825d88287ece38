"""Losses, gradients and weights that are no numbers: where one began, and how a batch with one is left out.

A step never waits for the device to look for them. What is wrong is seen at the next point of the training curve or the
next checkpoint; as training repeats itself bit for bit, the steps since the last good checkpoint are then done again
with every layer watched, which costs nothing before.
"""

from __future__ import annotations

import logging
import math

import torch
from torch import Tensor, nn

from trainer.checkpoint import Progress
from trainer.config import RunError
from trainer.data.loader import Loader
from trainer.processes.group import Group
from trainer.recorder import Window

log = logging.getLogger("trainer")

MAX_IN_A_ROW = 50  # batches left out, after which nothing is learned any more
MAX_NAMED = 16  # sample numbers in a message


class Skipper:
    """Skip a batch whose loss or gradient is NaN or infinite; this waits for the device in every step.

    Args:
        model: whose buffers a step changes.
        window: the losses and sums since the last point of the training curve.
        progress: the count of steps, and of those skipped.
        group: the processes that train the model.
        scaler: looks for infinite gradients itself where it is enabled.
        loader: the training data, which knows the sample numbers of a batch.
    """

    def __init__(
        self,
        model: nn.Module,
        window: Window,
        progress: Progress,
        group: Group,
        scaler: torch.amp.GradScaler,
        loader: Loader,
    ) -> None:
        self._model, self._window, self._progress = model, window, progress
        self._group, self._scaler, self._loader = group, scaler, loader
        self._before: list[tuple[Tensor, Tensor]] = []
        self._num_losses = 0
        self.tells = True  # the user, of each batch

    def remember(self) -> None:
        """What a step changes besides the weights: the statistics of the model's buffers, the sums of the window."""
        window = self._window
        changed = [*self._model.buffers(), *window.sums.state_dict().values()]
        self._before = [(tensor, tensor.clone()) for tensor in changed]
        self._num_losses, self._norm = len(window.losses), window.gradient_norm

    def leaves_out(self) -> bool:
        """Whether the step under way, its gradient known, is left out; then all but the step's number is as before.

        Raises:
            RunError: that was the last of too many in a row.
        """
        window, progress = self._window, self._progress
        values = window.losses[self._num_losses :]
        num_losses = len(values)
        if not self._scaler.is_enabled():  # which looks at the gradient itself, and finds inf in its normal course
            values = torch.cat([values.to(window.gradient_norm), window.gradient_norm.view(1)])
        here = [math.isfinite(value) for value in values.tolist()]
        losses_are, gradient_is = zip(*self._group.gather(all(here[:num_losses]), all(here[num_losses:])), strict=True)
        if all(losses_are) and all(gradient_is):
            progress.skipped_in_a_row = 0
            return False
        window.sums.state_dict()  # what waits to be summed is taken back as well
        window.losses.drop(self._num_losses)
        del window.steps[self._num_losses :]
        window.gradient_norm = self._norm
        for tensor, before in self._before:
            tensor.copy_(before)
        progress.skipped, progress.skipped_in_a_row = progress.skipped + 1, progress.skipped_in_a_row + 1
        positions = self._loader.positions(progress.epoch, progress.batch - 1)
        what = "gradient" if all(losses_are) else "loss"
        if self.tells:
            samples = describe_samples(positions.tolist())
            log.warning("warning  step %d left out, its %s is no number: %s", progress.step, what, samples)
        if progress.skipped_in_a_row == MAX_IN_A_ROW:
            raise RunError(f"at step {progress.step} the last {MAX_IN_A_ROW} batches had to be left out: no {what}")
        return True


def describe_samples(numbers: list[int]) -> str:
    """Numbers of samples in words; they count the training data from 0."""
    some = ", ".join(map(str, numbers[:MAX_NAMED]))
    more = f", … ({len(numbers)} in all)" if len(numbers) > MAX_NAMED else ""
    return f"sample{'s' * (len(numbers) > 1)} {some}{more}"
