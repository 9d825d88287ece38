"""Cases that do what a case should not do, for the tests of the runner."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from typing import Any

from tests.gpu._parts import Case, SkippedError


def _good() -> dict[str, Any]:
    return {"note": "fine", "rate": 3}


def _bad() -> None:
    raise ValueError("two and two\nare five")


def _crash() -> None:
    os.kill(os.getpid(), signal.SIGSEGV)


def _hang() -> None:
    subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], start_new_session=True)
    time.sleep(60)


def _absent() -> None:
    raise SkippedError("needs a card")


CALLS = {"good": _good, "bad": _bad, "crash": _crash, "hang": _hang, "absent": _absent, "last": _good}


def cases(setting: dict[str, Any], *names: str) -> list[Case]:
    """The cases of a part, in the process of the part."""
    return [Case(name, CALLS[name], setting["limit"]) for name in names]
