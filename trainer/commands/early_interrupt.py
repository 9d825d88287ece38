"""Ctrl-C while a command imports its modules, before it listens to signals. Imports next to nothing."""

from __future__ import annotations

import signal
from types import TracebackType


class EarlyInterrupt:
    """A context manager within which Ctrl-C ends the process at once and without a traceback, as SIGTERM does.

    Nothing has been written by then. ``trainer.processes.signals.Interrupts`` takes over when its modules are imported.

    Args:
        ends_process: whether the process ends after this context. If so, Ctrl-C keeps this effect, because an
            interpreter that shuts down would print a traceback too.
    """

    def __init__(self, *, ends_process: bool) -> None:
        self._ends_process, self._replaced = ends_process, False

    def __enter__(self) -> None:
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            try:
                signal.signal(signal.SIGINT, signal.SIG_DFL)
                self._replaced = True
            except ValueError:  # not the main thread
                pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if self._replaced and not self._ends_process and signal.getsignal(signal.SIGINT) == signal.SIG_DFL:
            signal.signal(signal.SIGINT, signal.default_int_handler)
