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

from trainer.processes.world import CONNECTION_LOST, SECONDS_TO_SAVE

PATIENCE = 10.0  # seconds for other processes to report why they have ended
BEAT = 0.5  # seconds between two checks


class Watchdog:
    """Exits this process in case its launcher has died, its job hangs, or its network is down.

    Args:
        store: torch's store of the current attempt, through a connection that only this object uses.
    """

    def __init__(self, store: Any) -> None:
        self._store, self._parent = store, os.getppid()
        self.key: str | None = None  # the key that the leader writes at the end of the current job
        self.limit = math.inf  # seconds that the store may take to answer
        self._over_since = self._asked_at = self._end_at = math.inf
        self._done = threading.Event()
        threading.Thread(target=self._watch, name="watchdog", daemon=True).start()
        self._asking = threading.Thread(target=self._ask, name="watchdog: ask", daemon=True)
        self._asking.start()

    def stop(self) -> None:
        """Stop the threads: a thread inside torch would crash the interpreter when it shuts down."""
        self._done.set()
        self._asking.join(2 * BEAT)

    @property
    def ends(self) -> bool:
        """Whether the process will exit soon."""
        return self._end_at < math.inf

    def end_soon(self, seconds: float = PATIENCE) -> None:
        """Exit after some seconds, unless the process ends earlier by itself."""
        self._end_at = min(self._end_at, time.monotonic() + seconds)

    def _watch(self) -> None:
        orphan = False
        while not self._done.wait(BEAT):
            if os.getppid() != self._parent and not orphan:
                orphan = True
                os.kill(os.getpid(), signal.SIGTERM)  # lets the run save, if all processes are still alive
                self.end_soon(SECONDS_TO_SAVE)
            if min(self._over_since + PATIENCE, self._asked_at + self.limit, self._end_at) < time.monotonic():
                write_error_file(CONNECTION_LOST)
                os._exit(1)

    def _ask(self) -> None:
        """Query the store, in a thread of its own, because a query blocks while the network is down."""
        while not self._done.wait(BEAT):
            key = self.key
            self._asked_at = time.monotonic()
            with contextlib.suppress(Exception):  # the store has ended; the main thread will notice
                over = self._store.check([key or "nothing"]) and key == self.key
                self._over_since = min(self._over_since, time.monotonic()) if over else math.inf
            self._asked_at = math.inf


def write_error_file(text: str, *, seconds_later: int = 0) -> None:
    """Write the error file of this process, unless it exists; torchrun reports the earliest error of all processes.

    Args:
        text: a traceback, or a sentence.
        seconds_later: seconds to add to the time of the error, if another process has caused it.
    """
    path = os.environ.get("TORCHELASTIC_ERROR_FILE")
    if path and not os.path.exists(path):  # noqa: PTH110
        details = {"py_callstack": text, "timestamp": str(int(time.time()) + seconds_later)}
        message = text.strip().splitlines()[-1]
        with contextlib.suppress(OSError), open(path, "w", encoding="utf-8") as file:  # noqa: PTH123
            json.dump({"message": {"message": message, "extraInfo": details}}, file)
