"""Convert errors and signals into messages and an exit code, and dismiss the other ranks of torchrun at the end."""

from __future__ import annotations

import logging
import os
import sys
import threading
from types import TracebackType

from trainer.config import ConfigError, RunError, SweepError
from trainer.config.errors import one_line, printable
from trainer.config.terminal import prepare_streams
from trainer.memory import collect_garbage, wait_with_garbage
from trainer.processes import leader
from trainer.processes.signals import INTERRUPTED, Interrupts, Stopped, ignore
from trainer.processes.threads import limit_spinning
from trainer.processes.world import current_world


class ExitCode:
    """A context manager for the body of a command: reports exceptions on stderr, stores the exit code in ``value``.

    Signals are handled from the beginning. With ``HYDRA_FULL_ERROR=1`` errors of the config and unexpected errors are
    raised with their traceback.

    Args:
        command: the name of the program, which begins every line on stderr.
    """

    def __init__(self, command: str) -> None:
        self.value = 0
        self._command, self._interrupts = command, Interrupts(command=command)

    def __enter__(self) -> ExitCode:
        limit_spinning()
        prepare_streams()
        logging.raiseExceptions = False  # ignore log lines that cannot be written (train --info | head)
        self._interrupts.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        handled = error is None or self._take(error)
        self._interrupts.__exit__(None, None, None)
        if self.value >= INTERRUPTED and threading.current_thread() is threading.main_thread():
            ignore()
        leave_a_broken_pipe()
        return handled

    def _take(self, error: BaseException) -> bool:
        """Report an error and set the exit code; return False if the error is to be raised with its traceback."""
        asked = self._interrupts.asked
        if isinstance(error, KeyboardInterrupt):
            self.value = report_stop(error, self._command)
        elif isinstance(error, BrokenPipeError):
            self.value = 1
        elif isinstance(error, SweepError):
            self.value = error.code
        elif not isinstance(error, Exception):  # for example SystemExit
            return False
        elif asked is not None and not isinstance(error, RunError):  # the signal caused the error
            self.value = report_stop(Stopped(asked), self._command)
        elif os.environ.get("HYDRA_FULL_ERROR") == "1":
            return False
        else:
            self.value = report(error, self._command)
            if asked is not None:
                self.value = max(self.value, report_stop(Stopped(asked), self._command))
        return True


class TrainExitCode(ExitCode):
    """The exit code of ``train``: the cyclic garbage collector waits, and rank 0 dismisses the other ranks at the end.

    The collector is disabled while modules are imported.
    """

    def __init__(self) -> None:
        super().__init__("train")

    def __enter__(self) -> TrainExitCode:
        wait_with_garbage()
        super().__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        handled = super().__exit__(kind, error, traceback)
        collect_garbage()
        self._dismiss_followers(by_clock=getattr(error, "by_clock", False))
        return handled

    def _dismiss_followers(self, *, by_clock: bool) -> None:
        """If this is rank 0, tell the other ranks that there are no more jobs."""
        try:
            leads = (found := current_world()) is not None and found.rank == 0
        except ConfigError:  # the body has failed with the same error, which is reported
            leads = False
        if leads:
            final = self.value == 2 or by_clock
            leader.dismiss_followers(self.value, final=final, stopped=self.value >= INTERRUPTED)


def report(error: Exception, command: str = "train") -> int:
    """Print the messages of an error, and return the exit code: 2 for a ConfigError, 1 for any other error."""
    problems = error.problems if isinstance(error, ConfigError) else [one_line(error)]
    if not isinstance(error, ConfigError | RunError) and not getattr(error, "strerror", None):
        problems = [f"{problems[0]} (HYDRA_FULL_ERROR=1 shows the traceback)"]
    for problem in problems:
        print(f"{command}: error: {printable(problem)}", file=sys.stderr)
    return 2 if isinstance(error, ConfigError) else 1


def report_stop(stopped: KeyboardInterrupt, command: str = "train") -> int:
    """Print which signal or time limit ended the command, and return the exit code."""
    print(f"{command}: {str(stopped) or 'interrupted'}", file=sys.stderr)
    code: int = getattr(stopped, "code", INTERRUPTED)
    return code


def leave_a_broken_pipe() -> None:
    """Redirect stdout to the null device if its reader is gone (``train --help | head``), to avoid an error at exit."""
    if sys.stdout is None:
        return
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
