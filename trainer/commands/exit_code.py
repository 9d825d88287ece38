"""The exit code of a command: errors become lines on stderr, signals become codes, and followers are dismissed."""

from __future__ import annotations

import io
import logging
import os
import sys
import threading
from types import TracebackType

from trainer.config import ConfigError, RunError, SweepError
from trainer.config.errors import one_line, printable
from trainer.memory import collect_garbage, wait_with_garbage
from trainer.processes import leader
from trainer.processes.signals import INTERRUPTED, Interrupts, Stopped, ignore
from trainer.processes.world import current_world


class ExitCode:
    """Run the body of ``train``; whatever the body raises becomes lines on stderr and ``value``.

    The garbage collector is off while modules are imported, and signals are heard from here on. With
    ``HYDRA_FULL_ERROR=1`` unexpected errors and the errors of a config keep their traceback.
    """

    def __init__(self) -> None:
        self.value = 0
        self._interrupts = Interrupts()
        self._world = None

    def __enter__(self) -> ExitCode:
        wait_with_garbage()
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="replace")  # a terminal that has no × shows a question mark
        logging.raiseExceptions = False  # a log line that cannot be written (train --info | head) is no error
        self._interrupts.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        handled = error is None or self._take(error)
        collect_garbage()
        self._interrupts.__exit__(None, None, None)
        if self.value >= INTERRUPTED and threading.current_thread() is threading.main_thread():
            ignore()
        self._dismiss_followers(by_clock=getattr(error, "by_clock", False))
        leave_a_broken_pipe()
        return handled

    def _take(self, error: BaseException) -> bool:
        """Report an error and set the exit code; return False for an error that keeps its traceback."""
        asked = self._interrupts.asked
        if isinstance(error, KeyboardInterrupt):
            self.value = report_stop(error)
        elif isinstance(error, BrokenPipeError):
            self.value = 1
        elif isinstance(error, SweepError):
            self.value = error.code
        elif not isinstance(error, Exception):  # such as SystemExit
            return False
        elif asked is not None and not isinstance(error, RunError):  # the signal is the cause of the error
            self.value = report_stop(Stopped(asked))
        elif os.environ.get("HYDRA_FULL_ERROR") == "1":
            return False
        else:
            self.value = report(error)
            if asked is not None:
                self.value = max(self.value, report_stop(Stopped(asked)))
        return True

    def _dismiss_followers(self, *, by_clock: bool) -> None:
        """Tell the other processes of torchrun that rank 0 has no more jobs."""
        try:
            leads = (found := current_world()) is not None and found.rank == 0
        except ConfigError:  # reported already
            leads = False
        if leads:
            final = self.value == 2 or by_clock
            leader.dismiss_followers(self.value, final=final, stopped=self.value >= INTERRUPTED)


def report(error: Exception, command: str = "train") -> int:
    """Print an error's lines and return the exit code: 2 for the user's mistakes, 1 for everything else."""
    problems = error.problems if isinstance(error, ConfigError) else [one_line(error)]
    for problem in problems:
        print(f"{command}: error: {printable(problem)}", file=sys.stderr)
    return 2 if isinstance(error, ConfigError) else 1


def report_stop(stopped: KeyboardInterrupt, command: str = "train") -> int:
    """Print which signal or limit ended the command and return the exit code."""
    print(f"{command}: {str(stopped) or 'interrupted'}", file=sys.stderr)
    code: int = getattr(stopped, "code", INTERRUPTED)
    return code


def leave_a_broken_pipe() -> None:
    """Discard the output that nobody reads any more (``train --help | head``), without an error at exit."""
    if sys.stdout is None:
        return
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
