"""Exit a process whose launcher has died, whose job hangs or whose network is down."""

from __future__ import annotations

import contextlib
import json
import math
import os
import signal
import threading
import time
from typing import Any

from trainer.processes.world import GONE, SECONDS_TO_SAVE

PATIENCE = 10.0  # seconds for the others to say why they are gone
BEAT = 0.5  # seconds between two looks of the watch


class Watchdog:
    """Ends this process where nothing else can: torchrun, or the command, is gone; a job hangs; the line is cut.

    Args:
        store: where all meet, by a connection of its own.
    """

    def __init__(self, store: Any) -> None:
        self._store, self._parent = store, os.getppid()
        self.key: str | None = None  # what stands in the store when the job under way is over for the leader
        self.limit = math.inf  # seconds that the store may take for an answer
        self._over_since = self._asked_at = self._end_at = math.inf
        self._done = threading.Event()
        threading.Thread(target=self._look, name="watch", daemon=True).start()
        self._asking = threading.Thread(target=self._ask, name="watch: ask", daemon=True)
        self._asking.start()

    def stop(self) -> None:
        """Before Python ends: a thread that is in torch then would end it with a crash."""
        self._done.set()
        self._asking.join(2 * BEAT)

    @property
    def ends(self) -> bool:
        """Whether the process is about to end."""
        return self._end_at < math.inf

    def end_soon(self, seconds: float = PATIENCE) -> None:
        """The process ends, if it does not do so by itself."""
        self._end_at = min(self._end_at, time.monotonic() + seconds)

    def _look(self) -> None:
        orphan = False
        while not self._done.wait(BEAT):
            if os.getppid() != self._parent and not orphan:
                orphan = True
                os.kill(os.getpid(), signal.SIGTERM)  # saves, as far as all processes are there
                self.end_soon(SECONDS_TO_SAVE)
            if min(self._over_since + PATIENCE, self._asked_at + self.limit, self._end_at) < time.monotonic():
                write_error_file(GONE)
                os._exit(1)

    def _ask(self) -> None:
        """Ask the store, in a thread of its own: of a machine that is cut off, there is no answer at all."""
        while not self._done.wait(BEAT):
            key = self.key
            self._asked_at = time.monotonic()
            with contextlib.suppress(Exception):  # the store has ended, which the main thread will see
                over = self._store.check([key or "nothing"]) and key == self.key
                self._over_since = min(self._over_since, time.monotonic()) if over else math.inf
            self._asked_at = math.inf


def write_error_file(text: str, *, seconds_later: int = 0) -> None:
    """Tell torchrun what to show of this process; of several, it names the first that has failed.

    Args:
        text: a traceback, or a sentence.
        seconds_later: than now, for one that fails because another has.
    """
    path = os.environ.get("TORCHELASTIC_ERROR_FILE")
    if path and not os.path.exists(path):  # noqa: PTH110
        details = {"py_callstack": text, "timestamp": str(int(time.time()) + seconds_later)}
        message = text.strip().splitlines()[-1]
        with contextlib.suppress(OSError), open(path, "w", encoding="utf-8") as file:  # noqa: PTH123
            json.dump({"message": {"message": message, "extraInfo": details}}, file)
