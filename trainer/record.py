"""Where every number of a run goes: the loggers, the bar, the lines, and the throughput."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from typing import Any

from tqdm.auto import tqdm

from trainer.logger import Logger

log = logging.getLogger("trainer")


class Recorder:
    """Takes the engine's numbers.

    Args:
        loggers: by name; each gets every point.
        num_epochs: of the whole run, for the epoch lines.
        monitor: the val metric to show besides the loss.
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
        tolerant: bool = False,
        shows_bar: bool = True,
        started: float | None = None,
    ) -> None:
        self._loggers, self._num_epochs, self._monitor = loggers, num_epochs, monitor
        self._tolerant, self._failing = tolerant, set[str]()
        self._no_bar = None if shows_bar else True  # None: tqdm looks
        self._started, self._seconds_before = time.perf_counter() if started is None else started, 0.0
        self._absent: dict[str, Any] = {}  # how far loggers were that are not there now, and may come back
        self._epoch = self._window_samples = self.samples = 0
        self.training_seconds = self._window_started = self._epoch_started = 0.0
        self._bar: tqdm[Any] | None = None

    @property
    def seconds(self) -> float:
        """Since the run began; the time in which it did not run is not counted."""
        return self._seconds_before + time.perf_counter() - self._started

    def state_dict(self) -> dict[str, Any]:
        """What has been counted, and how far each logger is."""
        return {
            "seconds": self.seconds,
            "training_seconds": self.training_seconds,
            "samples": self.samples,
            "epoch": self._epoch,
            "loggers": {**self._absent, **{name: logger.state_dict() for name, logger in self._loggers.items()}},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on counting; every logger goes back to where it was. {} is the beginning."""
        self._seconds_before = state.get("seconds", 0.0)
        self.training_seconds, self.samples = state.get("training_seconds", 0.0), state.get("samples", 0)
        self._epoch = state.get("epoch", 0)
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
        self._epoch_started = self._window_started = time.perf_counter()

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
        self.samples += self._window_samples
        self._window_samples, self._window_started = 0, time.perf_counter()

    def end_epoch(self, train: Mapping[str, float], val: Mapping[str, float], step: int, *, is_best: bool) -> None:
        """One line for the epoch: train loss, val loss, val metric, seconds, and a mark on the best."""
        self.close()
        parts = [f"epoch {self._epoch:>{len(str(self._num_epochs))}}/{self._num_epochs}"]
        parts.append(f"train loss {train['loss']:.4f}")
        if val:
            self._log(_named("val", val), step)
            shown = ["loss", self._monitor] if self._monitor != "loss" else list(val)
            parts += [f"val {name} {val[name]:.4f}" for name in shown]
        parts.append(f"{time.perf_counter() - self._epoch_started:.1f} s")
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
