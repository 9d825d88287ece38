"""Where every number of a run goes: the loggers, the bar, the lines; and how fast it is."""

from __future__ import annotations

import contextlib
import logging
import math
import sys
import time
from collections.abc import Generator, Iterator, Mapping
from typing import Any, TypeVar

import torch
from torch import Tensor
from tqdm.auto import tqdm

from trainer.config import NotFiniteError
from trainer.data.loader import Batch
from trainer.logger import Logger
from trainer.metrics import Metric, RowBuffer, Sums
from trainer.processes.group import Group

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

log = logging.getLogger("trainer")

T = TypeVar("T")


class Recorder:
    """Takes the engine's numbers.

    Args:
        loggers: by name; each gets every point.
        num_epochs: of the whole run, for the epoch lines.
        monitor: the val metric to show besides the loss.
        device: where the model is, whose memory is measured.
        tolerant: a logger that cannot write ends nothing; it is said once, until it can again.
        shows_bar: whether this process shows one, where the output is a terminal.
        started: when the run began, on the clock of ``time.perf_counter``; None for now.
    """

    def __init__(
        self,
        loggers: Mapping[str, Logger],
        *,
        num_epochs: int,
        monitor: str,
        device: torch.device | None = None,
        tolerant: bool = False,
        shows_bar: bool = True,
        started: float | None = None,
    ) -> None:
        self._loggers, self._num_epochs, self._monitor = loggers, num_epochs, monitor
        self._device, self._peak_memory = device or torch.device("cpu"), 0.0
        self._tolerant, self._failing = tolerant, set[str]()
        self._no_bar = None if shows_bar else True  # None: tqdm looks
        self._started, self._seconds_before = time.perf_counter() if started is None else started, 0.0
        self._absent: dict[str, Any] = {}  # how far loggers were that are not there now, and may come back
        self._epoch = self._window_samples = self.samples = 0
        self._epoch_samples, self._epoch_training, self._epoch_waiting = 0, 0.0, 0.0
        self.training_seconds = self._window_started = self._epoch_started = 0.0
        self._bar: tqdm[Any] | None = None

    @property
    def seconds(self) -> float:
        """Since the run began; the time in which it did not run is not counted."""
        return self._seconds_before + time.perf_counter() - self._started

    @property
    def peak_memory(self) -> float | None:
        """The most memory of the run so far, in MiB, as ``_peak_mebibytes`` measures it."""
        return max(self._peak_memory, _peak_mebibytes(self._device) or 0.0) or None

    def state_dict(self) -> dict[str, Any]:
        """What has been counted, and how far each logger is."""
        return {
            "seconds": self.seconds,
            "training_seconds": self.training_seconds,
            "samples": self.samples,
            "peak_memory": self.peak_memory,
            "epoch": self._epoch,
            "loggers": {**self._absent, **{name: logger.state_dict() for name, logger in self._loggers.items()}},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on counting; every logger goes back to where it was. {} is the beginning."""
        self._seconds_before = state.get("seconds", 0.0)
        self.training_seconds, self.samples = state.get("training_seconds", 0.0), state.get("samples", 0)
        self._epoch, self._peak_memory = state.get("epoch", 0), state.get("peak_memory") or 0.0
        states = dict(state.get("loggers", {}))
        for name, logger in self._loggers.items():
            logger.load_state_dict(states.pop(name, {}))
        self._absent = states

    def start_epoch(self, epoch: int, num_batches: int, done: int) -> None:
        """Start the clock, and a bar unless the output is no terminal (tqdm knows a notebook).

        Args:
            epoch: counted from 1.
            num_batches: of the epoch, as far as the run goes.
            done: how many of them are done already.
        """
        self._epoch = epoch
        self._bar = tqdm(
            total=num_batches,
            initial=done,
            desc=f"epoch {epoch}/{self._num_epochs}",
            unit="batch",
            leave=False,
            disable=self._no_bar,
            dynamic_ncols=True,
        )
        self._peak_memory = self.peak_memory or 0.0  # of the epochs before
        if self._device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self._device)
        self._epoch_samples, self._epoch_training, self._epoch_waiting = 0, 0.0, 0.0
        self._epoch_started = self._window_started = time.perf_counter()

    def waiting_for(self, batches: Generator[T, None, None], steps: int) -> Iterator[T]:
        """The first ``steps`` batches, with a clock on how long each is waited for; after the last, all are closed."""
        with contextlib.closing(batches):
            for _ in range(steps):
                started = time.perf_counter()
                batch = next(batches, None)
                if batch is None:
                    return
                self._epoch_waiting += time.perf_counter() - started
                yield batch

    def count_step(self, num_samples: int) -> None:
        """An optimizer step on so many samples is under way."""
        self._window_samples += num_samples
        if self._bar is not None:
            self._bar.update()

    def log_training(self, values: Mapping[str, float], lr: float, gradient_norm: float, step: int) -> None:
        """A point of the training curve: means since the last one, and the rates of this step."""
        seconds = time.perf_counter() - self._window_started
        rates = {
            "lr": lr,
            "gradient_norm": gradient_norm,
            "samples_per_second": self._window_samples / seconds,
        }
        self._log({**_named("train", values), **rates}, step)
        if self._bar is not None:
            self._bar.set_postfix(loss=f"{values['loss']:.4f}", refresh=False)
        self.training_seconds += seconds
        self._epoch_training += seconds
        self.samples += self._window_samples
        self._epoch_samples += self._window_samples
        self._window_samples, self._window_started = 0, time.perf_counter()

    def end_epoch(self, train: Mapping[str, float], val: Mapping[str, float], step: int, *, is_best: bool) -> None:
        """A point, and one line: train loss, val loss, val metric, seconds, rate, data wait, a mark on the best."""
        self.close()
        parts = [f"epoch {self._epoch:>{len(str(self._num_epochs))}}/{self._num_epochs}"]
        parts.append(f"train loss {train['loss']:.4f}")
        speed = self._speed()
        self._log({**_named("val", val), **_named("epoch", speed)}, step)
        if val:
            shown = ["loss", self._monitor] if self._monitor != "loss" else list(val)
            parts += [f"val {name} {val[name]:.4f}" for name in shown]
        parts.append(f"{time.perf_counter() - self._epoch_started:.1f} s")
        if "data_wait" in speed:
            rate = speed["samples_per_second"]
            parts += [f"{rate:,.{0 if rate >= 10 else 1}f}/s", f"data {100 * speed['data_wait']:.0f} %"]
        log.info("  ".join(parts) + ("  * best" if val and is_best else ""))

    def stop_early(self, reason: str) -> None:
        """Say why the run ends before its time."""
        log.info("stopped  %s", reason)

    def log_test(self, values: Mapping[str, float], step: int) -> None:
        """The final metrics."""
        self._log(_named("test", values), step)

    def close(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.close()

    def _speed(self) -> dict[str, float]:
        """How fast the epoch was trained, as far as this process has done it, without the evaluation.

        Returns:
            samples_per_second, and data_wait: the share, 0 to 1, of the time that the loop waited for its batches; both
            are left out where only the evaluation was done again. peak_memory_mib: of this process or GPU, in MiB.
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
                    log.warning("warning  %s cannot write: %s; going on", name, error.strerror or error)
                self._failing.add(name)


def _named(split: str, values: Mapping[str, float]) -> dict[str, float]:
    return {f"{split}/{name}": value for name, value in values.items()}


def _peak_mebibytes(device: torch.device) -> float | None:
    """The most memory that was in use, in MiB.

    On CUDA what tensors took on that GPU since the statistics were last reset. Elsewhere what the process has had in
    memory since it began, its data workers not counted; None where the system does not say, as on Windows.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    if resource is None:
        return None
    unit = 1 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20


class Window:
    """What has happened since the last point of the training curve, kept on the device until it is closed."""

    def __init__(self, sums: Sums, group: Group) -> None:
        self.sums = sums
        self.losses, self.steps = RowBuffer(), list[int]()  # since they were looked at, and whose they are
        self.gradient_norm = torch.zeros(())
        self._group = group

    def add(self, step: int, loss: Tensor, size: Tensor | int, outputs: Tensor, part: Batch) -> None:
        """Take in a micro-batch of optimizer step ``step``."""
        if part.counts:
            self.losses.append(loss.view(1))
            self.steps.append(step)
            self.sums.update(loss, size, outputs, part.targets)

    def check_finite(self) -> None:
        """Waits for the device, and for the other processes.

        Raises:
            RunError: a loss is not finite, in any process, naming its step.
        """
        losses = self.losses.take().tolist()
        wrong = [(step, loss) for step, loss in zip(self.steps, losses, strict=True) if not math.isfinite(loss)]
        self.steps.clear()
        step, loss = min(self._group.gather(*(wrong[0] if wrong else (math.inf, 0))), key=lambda first: first[0])
        if step < math.inf:
            raise NotFiniteError(f"the loss is {loss} at step {int(step)}", int(step))

    def close(self, metrics: Mapping[str, Metric], epoch_sums: Sums) -> dict[str, float]:
        """The window's means, its sums added to the epoch's; then begin anew. Waits for the device.

        Raises:
            RunError: a loss is not finite, naming its step.
        """
        self.check_finite()
        self._group.add(self.sums)
        values = self.sums.compute(metrics)
        epoch_sums.add(self.sums)
        self.sums.reset()
        return values
