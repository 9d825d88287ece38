"""Asking a run to end: Ctrl-C, SIGTERM, a scheduler's warning, the clock. Heard at once, but never within a step.

No torch: the command listens from its first moment on.
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

# What ends a run, with the words for it. SIGUSR1 is what schedulers send as a warning, SIGHUP what a closed terminal
# does, SIGALRM is max_time; Windows lacks them.
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
INTERRUPTED, TERMINATED = 130, 143  # exit codes: 128 and the number of SIGINT and of SIGTERM
GRACE = 300  # seconds that a data worker outlives the SIGTERM its run was sent, so that the run can save


class Stopped(KeyboardInterrupt):
    """The run was asked to end. No ``Exception``: nothing that handles errors may swallow it.

    Args:
        signal_number: what asked.
        whole: no step was cut in the middle, so the state can be saved.
    """

    def __init__(self, signal_number: int, *, whole: bool = True) -> None:
        super().__init__(REASONS[signal_number])
        self.signal_number = signal_number
        self.code = INTERRUPTED if signal_number == signal.SIGINT else TERMINATED
        self.by_clock, self.whole = signal_number == CLOCK, whole


_listening: list[Interrupts] = []  # the outermost first


class Interrupts:
    """Within ``with Interrupts() as interrupts:`` a signal raises ``Stopped`` in the main thread.

    At once, except within ``with interrupts.held:``, at whose end it is raised; and where several processes train
    one model, in all of them at the same point. After the first, Ctrl-C ends the process without further ado and
    everything else is ignored.

    Args:
        max_time: as long as this is over, as if a signal had come; None for no limit.

    Raises:
        ConfigError: there is a limit, and no signal to keep it: not the main thread, or Windows.
    """

    def __init__(self, max_time: str | None = None) -> None:
        self.held = _Held(self)
        self.asked: int | None = None  # the first signal
        self._outlives = False  # a signal that was heard in a job of several processes that failed is for all jobs
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
                # nohup stays nohup; but a shell's background job, which ignores Ctrl-C, has no other way to be asked
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
        """Raise once more what may have been swallowed: in a destructor, or by code that catches everything.

        Raises:
            Stopped: a signal has come.
        """
        if self.asked is not None:
            raise Stopped(self.asked)

    def expect_others(self) -> None:
        """From here to ``together`` no signal is raised: the other processes wait there for this one."""
        self._agree = lambda _: None

    @contextlib.contextmanager
    def together(self, agree: Callable[[int | None], int | None]) -> Iterator[None]:
        """Within, a signal is raised only where all processes ask for one: by ``listen``, and at the end of ``held``.

        Args:
            agree: told of the signal heard here, or None, says which one all have to obey, or None.
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
        """Whether other processes have to agree."""
        return self._agree is not None

    def listen(self) -> None:
        """A point at which every process of a run is between two batches.

        Raises:
            Stopped: one of them was asked to end.
        """
        agreed = None if self._agree is None else self._agree(self.asked)
        if agreed is not None:
            self.asked = agreed
            raise Stopped(agreed)

    def _hear(self, number: int, _: FrameType | None) -> None:
        if os.getpid() != self._process:  # a child, before it has its own handlers: its parent decides
            return
        if self.asked is None:
            self.asked = number
            if not (self.held.active or self.is_together):
                raise Stopped(number)
        elif number == signal.SIGINT:
            os.write(2, b"\ntrain: interrupted\n")
            os._exit(INTERRUPTED)


class _Held:
    """A block that no signal cuts in the middle."""

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
            # an error now is as likely the signal's, which all children got too, a compiler or a data worker
            raise Stopped(asked, whole=error is None) from error


def ignore() -> None:
    """The process ends, and has said so: what asks once more must not change its exit code."""
    for number in REASONS:
        signal.signal(number, lambda *_: None)


def seconds(duration: str) -> float:
    """``1h30m`` -> 5400."""
    units = {"d": 86400, "h": 3600, "m": 60, "s": 1}
    return float(sum(int(number) * units[unit] for number, unit in re.findall(r"(\d+)([dhms])", duration)))


def of_a_worker(_: int) -> None:
    """How a data worker hears signals, which a terminal or a scheduler sends to every process of a run.

    The run decides when its workers end. They end with it, whatever ends it; a SIGTERM they outlive for a while.
    """
    for number in REASONS:
        if number == signal.SIGTERM and CLOCK is not None:
            signal.signal(number, _end_later)
        elif number not in (signal.SIGTERM, CLOCK):
            signal.signal(number, signal.SIG_IGN)


def _end_later(*_: object) -> None:
    signal.alarm(GRACE)
