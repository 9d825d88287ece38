"""Signals that ask a run to end: Ctrl-C, SIGTERM, a scheduler's warning, the timer of ``max_time``.

A training step is completed before the run ends. This module does not import torch, because the command handles
signals from its start.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

from trainer.config import ConfigError, RunError

# The signals that end a run, and the message for each. Schedulers send SIGUSR1 as a warning, a closed terminal sends
# SIGHUP, and the timer of max_time sends SIGALRM. Windows lacks these three signals.
REASONS = {
    getattr(signal, name): words
    for name, words in {
        "SIGINT": "interrupted",
        "SIGTERM": "terminated (SIGTERM)",
        "SIGUSR1": "warned by the scheduler (SIGUSR1)",
        "SIGHUP": "the terminal was closed (SIGHUP)",
        "SIGALRM": "max_time is over",
    }.items()
    if hasattr(signal, name)
}
CLOCK: int | None = getattr(signal, "SIGALRM", None)
INTERRUPTED, TERMINATED = 130, 143  # exit codes: 128 plus the number of SIGINT or SIGTERM
GRACE = 300  # seconds that a data worker survives a SIGTERM, so that its run can save


class Stopped(KeyboardInterrupt):
    """A signal asked the run to end. Not an ``Exception``, so that error handlers do not swallow it.

    Args:
        signal_number: the number of the signal.
        whole: False if a step was interrupted, so that the state cannot be saved.
    """

    def __init__(self, signal_number: int, *, whole: bool = True) -> None:
        super().__init__(REASONS[signal_number])
        self.signal_number = signal_number
        self.code = INTERRUPTED if signal_number == signal.SIGINT else TERMINATED
        self.by_clock, self.whole = signal_number == CLOCK, whole


_listening: list[Interrupts] = []  # the active contexts, outermost first


class Interrupts:
    """Within ``with Interrupts() as interrupts:`` a signal raises ``Stopped`` in the main thread.

    ``Stopped`` is raised at once, but within ``with interrupts.held:`` only at the end of the block. If several
    processes train one model, all raise ``Stopped`` at the same step. After the first signal, Ctrl-C exits the process
    immediately and other signals are ignored.

    Args:
        max_time: a duration, such as ``1h30m``, after which ``Stopped`` is raised as by a signal; None for no limit.
        command: the name of the program, for the line that a second Ctrl-C prints.

    Raises:
        ConfigError: ``max_time`` is set outside the main thread, or on a system without timers.
    """

    def __init__(self, max_time: str | None = None, *, command: str = "train") -> None:
        self._command = command
        self.held = _Held(self)
        self.asked: int | None = None  # the first signal
        self._outlives = False  # True after an error within together(): an outer block handles the signal too
        self._agree: Callable[[int | None], int | None] | None = None
        self._limit = None if max_time is None else seconds(max_time)
        self._before: dict[int, Any] = {}
        self._process = os.getpid()

    def __enter__(self) -> Interrupts:
        for outer in _listening:
            outer.check()
        listens = threading.current_thread() is threading.main_thread()
        if self._limit is not None and (not listens or CLOCK is None):
            raise ConfigError("max_time: needs the main thread of a system with timers")
        if listens:
            for number in REASONS:
                if number == CLOCK and self._limit is None:
                    continue
                # a signal ignored so far stays ignored (SIGHUP under nohup), but not SIGINT, ignored in background jobs
                if number == signal.SIGINT or signal.getsignal(number) is not signal.SIG_IGN:
                    self._before[number] = signal.signal(number, self._hear)
        if self._limit is not None:
            signal.setitimer(signal.ITIMER_REAL, self._limit)
        _listening.append(self)
        return self

    def __exit__(self, *_: object) -> None:
        _listening.remove(self)
        if self._outlives and _listening:
            _listening[-1].asked = _listening[-1].asked or self.asked
        if self._limit is not None:
            signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before.clear()

    def check(self) -> None:
        """Raise ``Stopped`` again, in case a destructor or code that catches everything has swallowed it.

        Raises:
            Stopped: a signal has arrived.
        """
        if self.asked is not None:
            raise Stopped(self.asked)

    def expect_others(self) -> None:
        """Defer signals until ``together`` is entered, where the other processes wait for this process."""
        self._agree = lambda _: None

    @contextlib.contextmanager
    def together(self, agree: Callable[[int | None], int | None]) -> Iterator[None]:
        """Within this context, raise ``Stopped`` only where all processes do: in ``listen`` and at the end of ``held``.

        Args:
            agree: a collective function; it takes the signal that this process has received, or None, and returns the
                signal that all processes obey, or None.
        """
        self._agree = agree
        try:
            yield
        except Exception:
            self._outlives = True
            raise
        finally:
            self._agree = None
        self.check()

    @property
    def is_together(self) -> bool:
        """Whether signals are deferred until other processes agree."""
        return self._agree is not None

    def listen(self) -> None:
        """Check for signals at a point where every process of a run is between two batches.

        Raises:
            Stopped: a signal asked any of the processes to end.
        """
        agreed = None if self._agree is None else self._agree(self.asked)
        if agreed is not None:
            self.asked = agreed
            raise Stopped(agreed)

    def _hear(self, number: int, _: FrameType | None) -> None:
        if os.getpid() != self._process:  # a forked child that has inherited this handler ignores the signal
            return
        if self.asked is None:
            self.asked = number
            if not (self.held.active or self.is_together):
                raise Stopped(number)
        elif number == signal.SIGINT:
            os.write(2, f"\n{self._command}: interrupted\n".encode())
            os._exit(INTERRUPTED)


class _Held:
    """A context manager that defers signals to its end."""

    def __init__(self, interrupts: Interrupts) -> None:
        self._interrupts = interrupts
        self.active = False

    def __enter__(self) -> None:
        self.active = True

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        self.active = False
        if self._interrupts.is_together:
            if error is None:
                self._interrupts.listen()
            return
        asked = self._interrupts.asked
        if asked is not None and not isinstance(error, RunError):
            # the signal may have caused the error: children such as a compiler or a data worker received it too
            raise Stopped(asked, whole=error is None) from error


def ignore() -> None:
    """Ignore all signals of ``REASONS`` from now on, for example at exit, where they would change the exit code."""
    for number in REASONS:
        signal.signal(number, lambda *_: None)


def seconds(duration: str) -> float:
    """Return a duration in seconds: 5400 for ``1h30m``."""
    units = {"d": 86400, "h": 3600, "m": 60, "s": 1}
    return float(sum(int(number) * units[unit] for number, unit in re.findall(r"(\d+)([dhms])", duration)))


def defer_in_data_worker() -> None:
    """Make a data worker survive the signals that a terminal or a scheduler sends to every process of a run.

    A data worker ends when its run ends, for whatever reason. It survives a SIGTERM for ``GRACE`` seconds.
    """
    for number in REASONS:
        if number == signal.SIGTERM and CLOCK is not None:
            signal.signal(number, _end_later)
        elif number == CLOCK:
            signal.signal(number, signal.SIG_DFL)  # the alarm of _end_later, which the run's handler would ignore
        elif number != signal.SIGTERM:
            signal.signal(number, signal.SIG_IGN)


def _end_later(*_: object) -> None:
    signal.alarm(GRACE)
