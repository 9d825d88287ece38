"""Collect the numbers of a run on the device, check them for NaN, and pass them to loggers, progress bar and log."""

from __future__ import annotations

import contextlib
import logging
import math
import sys
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from trainer.checkpoint import Progress
from trainer.config import NotFiniteError, RunError
from trainer.config.errors import reason_of
from trainer.config.progress_bar import ProgressBar, TimeLeft
from trainer.data.loader import Batch, Loader
from trainer.logger import Logger
from trainer.memory import LatestLoss, RowBuffer
from trainer.metrics import Metric, Sums
from trainer.processes.group import Group

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

log = logging.getLogger("trainer")

MAX_IN_A_ROW = 50  # skipped batches in a row, after which the run ends
MAX_NAMED = 16  # sample numbers listed in a message

T = TypeVar("T")


class Recorder:
    """Sends the numbers of a run to the loggers, the progress bar and the log, and measures time and memory.

    Args:
        loggers: the loggers by name; each one gets every point.
        num_epochs: the number of epochs of the whole run, for the epoch lines.
        num_steps: the number of optimizer steps of the whole run, for the time left; None if it is unknown.
        monitor: the val metric that the epoch lines show besides the loss.
        device: the device of the model, whose peak memory is measured.
        tolerant: whether the run continues if a logger cannot write; a logger that fails repeatedly causes one warning.
        shows_bar: whether this process shows a progress bar if the output is a terminal.
        started: the value of ``time.perf_counter()`` at the start of the run; None for the current time.
    """

    def __init__(
        self,
        loggers: Mapping[str, Logger],
        *,
        num_epochs: int,
        monitor: str,
        num_steps: int | None = None,
        device: torch.device | None = None,
        tolerant: bool = False,
        shows_bar: bool = True,
        started: float | None = None,
    ) -> None:
        self._loggers, self._num_epochs, self._monitor = loggers, num_epochs, monitor
        self._device, self._peak_memory = device or torch.device("cpu"), 0.0
        if self._device.type == "cuda":  # an earlier run of this process may have used more memory
            torch.cuda.reset_peak_memory_stats(self._device)
        self._tolerant, self._failing = tolerant, set[str]()
        self._no_bar = None if shows_bar else True  # None: a bar only on a terminal
        self._started, self._seconds_before = time.perf_counter() if started is None else started, 0.0
        self._absent: dict[str, Any] = {}  # states of loggers that this run lacks, for a later resume
        self._epoch = self._window_samples = self.samples = 0
        self._epoch_samples, self._epoch_training, self._epoch_waiting = 0, 0.0, 0.0
        self.training_seconds = self._window_started = self._epoch_started = 0.0
        self._latest, self._time_left = LatestLoss(self._device), TimeLeft(num_steps)
        self._bar: ProgressBar | None = None

    @property
    def seconds(self) -> float:
        """The duration of the run in seconds, without the time between a stop and the resume."""
        return self._seconds_before + time.perf_counter() - self._started

    @property
    def peak_memory(self) -> float | None:
        """The peak memory of the run so far, in MiB; see ``_peak_mebibytes``."""
        return max(self._peak_memory, _peak_mebibytes(self._device) or 0.0) or None

    def state_dict(self) -> dict[str, Any]:
        return {
            "seconds": self.seconds,
            "training_seconds": self.training_seconds,
            "samples": self.samples,
            "peak_memory": self.peak_memory,
            "epoch": self._epoch,
            "loggers": {**self._absent, **{name: logger.state_dict() for name, logger in self._loggers.items()}},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the counters and the state of every logger; {} is the state of a new run."""
        self._seconds_before = state.get("seconds", 0.0)
        self.training_seconds, self.samples = state.get("training_seconds", 0.0), state.get("samples", 0)
        self._epoch, self._peak_memory = state.get("epoch", 0), state.get("peak_memory") or 0.0
        states = dict(state.get("loggers", {}))
        for name, logger in self._loggers.items():
            logger.load_state_dict(states.pop(name, {}))
        self._absent = states

    def start_epoch(self, epoch: int, num_batches: int, done: int, step: int = 0) -> None:
        """Start the clock of an epoch, and its progress bar if the output is a terminal or a notebook.

        Args:
            epoch: the number of the epoch, counted from 1.
            num_batches: the number of batches of the epoch that the run trains on.
            done: how many of these batches are done already.
            step: the number of optimizer steps done.
        """
        self._epoch, self._time_left.step = epoch, step
        self._bar = ProgressBar(
            total=num_batches,
            initial=done,
            desc=f"epoch {epoch}/{self._num_epochs}",
            unit="batch",
            leave=False,
            disable=self._no_bar,
            dynamic_ncols=True,
            miniters=1,
            bar_format="{desc}: {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} [{rate_fmt}{postfix}]",
        )
        self._peak_memory = self.peak_memory or 0.0  # the peak of the previous epochs
        if self._device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self._device)
        self._epoch_samples, self._epoch_training, self._epoch_waiting = 0, 0.0, 0.0
        self._epoch_started = self._window_started = time.perf_counter()

    def timed(self, batches: Generator[T, None, None], steps: int) -> Iterator[T]:
        """Yield the first ``steps`` batches, measure how long the loop waits for each, and close the generator."""
        with contextlib.closing(batches):
            for _ in range(steps):
                started = time.perf_counter()
                batch = next(batches, None)
                if batch is None:
                    return
                self._epoch_waiting += time.perf_counter() - started
                yield batch

    def count_step(self, num_samples: int, losses: RowBuffer | None = None) -> None:
        """Count an optimizer step, and redraw the progress bar if it is time to.

        Args:
            num_samples: the size of the batch over all processes.
            losses: the losses of the last steps, on the device.
        """
        self._window_samples += num_samples
        self._time_left.count_step()
        bar = self._bar
        if bar is None or bar.disable:
            return
        if losses is not None and time.time() - bar.last_print_t >= bar.mininterval:
            loss = self._latest.read(losses)
            shown = [] if loss is None else [f"loss={loss:.4f}"]
            bar.set_postfix_str(", ".join([*shown, *self._time_left.text()]), refresh=False)
        bar.update()

    def log_training(self, values: Mapping[str, float], lr: float, gradient_norm: float, step: int) -> None:
        """Log a point of the training curve.

        Args:
            values: the mean loss and the metrics since the last point, by name.
            lr: the learning rate of this step.
            gradient_norm: the norm of the gradient of this step.
            step: the number of optimizer steps done.
        """
        seconds = time.perf_counter() - self._window_started
        rates = {
            "lr": lr,
            "gradient_norm": gradient_norm,
            "samples_per_second": self._window_samples / seconds,
        }
        self._log({**_named("train", values), **rates}, step)
        self._latest.value = values["loss"]
        self.training_seconds += seconds
        self._epoch_training += seconds
        self.samples += self._window_samples
        self._epoch_samples += self._window_samples
        self._window_samples, self._window_started = 0, time.perf_counter()

    def end_epoch(self, train: Mapping[str, float], val: Mapping[str, float], step: int, *, is_best: bool) -> None:
        """Log the val metrics and the speed of the epoch, and a line about the epoch, marked if it is the best."""
        self.close()
        losses = [f"train loss {train['loss']:.4f}"]
        speed = self._speed()
        self._log({**_named("val", val), **_named("epoch", speed)}, step)
        if val:
            shown = ["loss", self._monitor] if self._monitor != "loss" else list(val)
            losses += [f"val {name} {val[name]:.4f}" for name in shown]
        times = [f"{time.perf_counter() - self._epoch_started:.1f} s"]
        if "data_wait" in speed:
            rate = speed["samples_per_second"]
            times += [f"{rate:,.{0 if rate >= 10 else 1}f}/s", f"data {100 * speed['data_wait']:.0f} %"]
        number = f"epoch {self._epoch:>{len(str(self._num_epochs))}}/{self._num_epochs}"
        whole, *shorter = _forms(number, losses, times, marked=bool(val and is_best))
        log.info(whole, extra={"shorter": shorter})

    def log_test(self, values: Mapping[str, float], step: int) -> None:
        self._log(_named("test", values), step)

    def close(self) -> None:
        """Remove the progress bar; a bar that is left would be drawn again below each later line."""
        if self._bar is not None:
            self._bar.close()

    def _speed(self) -> dict[str, float]:
        """Return the speed of the training steps of the epoch, without the evaluation.

        Returns:
            ``samples_per_second``, and ``data_wait``, the fraction of the training time that the loop waited for
            batches; both are absent if the epoch had no step, because a resumed run only repeats the evaluation.
            ``peak_memory_mib``: the peak memory of this process or GPU, in MiB; absent if not available.
        """
        speed, peak = {}, _peak_mebibytes(self._device)
        if self._epoch_samples:
            speed["samples_per_second"] = self._epoch_samples / self._epoch_training
            speed["data_wait"] = self._epoch_waiting / self._epoch_training
        return speed if peak is None else {**speed, "peak_memory_mib": peak}

    def _log(self, values: Mapping[str, float], step: int) -> None:
        for name, logger in self._loggers.items():
            try:
                logger.log(values, step, self._epoch)
                self._failing.discard(name)
            except OSError as error:
                if not self._tolerant:
                    raise
                if name not in self._failing:
                    log.warning("warning  %s cannot write: %s; going on", name, reason_of(error))
                self._failing.add(name)


def _forms(number: str, losses: Sequence[str], times: Sequence[str], *, marked: bool) -> list[str]:
    """Return the line about an epoch, and shorter forms of it for a narrow terminal; ``marked`` if it is the best."""
    shorter = [[*losses, *times[:1], *times[2:]]]  # without the rate
    shorter += [[*losses[start:], *times[:count]] for start, count in ((0, 1), (0, 0), (1, 0), (2, 0))]
    parts = [[*losses, *times, *["* best"] * marked], *([*each, *["*"] * marked] for each in shorter)]
    return ["  ".join([number, *each]) for each in parts]


def _named(split: str, values: Mapping[str, float]) -> dict[str, float]:
    return {f"{split}/{name}": value for name, value in values.items()}


def _peak_mebibytes(device: torch.device) -> float | None:
    """Return the peak memory in MiB, or None if the system does not report it (Windows).

    On CUDA this is the memory of tensors on the GPU since the statistics were last reset. Elsewhere it is the resident
    memory of this process since its start, without data workers.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    if resource is None:
        return None
    unit = 1 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20


class Window:
    """The losses and sums since the last point of the training curve, kept on the device until ``close``.

    Args:
        sums: accumulates the outputs of this process.
        group: the processes that train the model.
    """

    def __init__(self, sums: Sums, group: Group) -> None:
        self.sums = sums
        self.losses, self.steps = RowBuffer(), list[int]()  # the losses not checked yet, and the step of each
        self.gradient_norm = torch.tensor(math.nan)  # until the first step of this process
        self._group = group

    def add(self, step: int, loss: Tensor, size: Tensor | int, outputs: Tensor, part: Batch) -> None:
        """Add a micro-batch of optimizer step ``step``; see ``Sums.update`` for the arguments."""
        if part.counts:
            self.losses.append(loss.view(1))
            self.steps.append(step)
            self.sums.update(loss, size, outputs, part.targets)

    def check_finite(self) -> None:
        """Check the losses of all processes since the last check; this waits for the device.

        Raises:
            NotFiniteError: a loss is NaN or infinite; the error names its step.
        """
        self._check(self.losses.pop_all().tolist())

    def _check(self, losses: list[float]) -> None:
        """Raise NotFiniteError if one of the losses since the last check is NaN or infinite, in any process."""
        wrong = [(step, loss) for step, loss in zip(self.steps, losses, strict=True) if not math.isfinite(loss)]
        self.steps.clear()
        step, loss = min(self._group.gather(*(wrong[0] if wrong else (math.inf, 0))), key=lambda first: first[0])
        if step < math.inf:
            raise NotFiniteError(f"the loss is {loss} at step {int(step)}", int(step))

    def close(self, metrics: Mapping[str, Metric], epoch_sums: Sums) -> dict[str, float]:
        """Return the mean loss and metrics, add the sums to ``epoch_sums`` and reset them.

        Everything is read in one wait for the device; several processes wait once more, for their sums.

        Raises:
            NotFiniteError: a loss is NaN or infinite; the error names its step.
        """
        sums = self.sums
        total, losses, self.gradient_norm = sums.settle(sums.total, self.losses.pop_all(), self.gradient_norm)
        self._check(losses.tolist())
        self._group.add(sums)
        values = sums.compute(metrics, total if self._group.size == 1 else None)
        epoch_sums.add(sums)
        sums.reset()
        return values


class Skipper:
    """Skips batches whose loss or gradient is NaN or infinite; the check waits for the device in every step.

    Args:
        model: the model, whose buffers a step changes.
        window: the losses and sums since the last point of the training curve.
        progress: counts the steps and the skipped batches.
        group: the processes that train the model.
        scaler: if enabled, the scaler checks the gradients, and only the losses are checked here.
        loader: the train loader, which provides the sample numbers of a batch.
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
        self.warns = True  # whether a warning is logged for each skipped batch

    def snapshot(self) -> None:
        """Copy what the forward pass changes: the model's buffers, such as running statistics, and the sums."""
        window = self._window
        changed = [*self._model.buffers(), *window.sums.state_dict().values()]
        self._before = [(tensor, tensor.clone()) for tensor in changed]
        self._num_losses, self._norm = len(window.losses), window.gradient_norm

    def should_skip(self) -> bool:
        """Return whether the optimizer step has to be skipped; if so, restore the snapshot and count the batch.

        Raises:
            RunError: ``MAX_IN_A_ROW`` batches in a row have been skipped.
        """
        window, progress = self._window, self._progress
        values = window.losses[self._num_losses :]
        num_losses = len(values)
        if not self._scaler.is_enabled():  # a scaler expects infinite gradients and lowers its scale
            values = torch.cat([values.to(window.gradient_norm), window.gradient_norm.view(1)])
        finite = [math.isfinite(value) for value in values.tolist()]
        gathered = self._group.gather(all(finite[:num_losses]), all(finite[num_losses:]))
        losses_are_finite, gradient_is_finite = map(all, zip(*gathered, strict=True))
        if losses_are_finite and gradient_is_finite:
            progress.skipped_in_a_row = 0
            return False
        self._restore()
        progress.skipped, progress.skipped_in_a_row = progress.skipped + 1, progress.skipped_in_a_row + 1
        what = "gradient" if losses_are_finite else "loss"
        if self.warns:
            samples = describe_samples(self._loader.positions(progress.epoch, progress.batch - 1).tolist())
            log.warning("warning  skipped step %d: its %s is NaN or inf: %s", progress.step, what, samples)
        if progress.skipped_in_a_row == MAX_IN_A_ROW:
            raise RunError(
                f"at step {progress.step}: skipped {MAX_IN_A_ROW} batches in a row, their {what} is NaN or inf"
            )
        return True

    def _restore(self) -> None:
        window = self._window
        window.sums.state_dict()  # adds buffered tensors to the sums, so that the loop below undoes them too
        window.losses.drop(self._num_losses)
        del window.steps[self._num_losses :]
        window.gradient_norm = self._norm
        for tensor, before in self._before:
            tensor.copy_(before)


def describe_samples(numbers: list[int]) -> str:
    """Return a phrase that lists samples by their numbers, counted from 0 in the training data."""
    some = ", ".join(map(str, numbers[:MAX_NAMED]))
    more = f", … ({len(numbers)} in all)" if len(numbers) > MAX_NAMED else ""
    return f"sample{'s' * (len(numbers) > 1)} {some}{more}"
