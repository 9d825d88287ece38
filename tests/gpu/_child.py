"""The process of one part: ``python -m tests.gpu._child NAME TARGET RESULTS SETTING``; see ``_parts``."""

from __future__ import annotations

import faulthandler
import gc
import importlib
import json
import os
import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.gpu._parts import BEGUN, FAULT, FINAL, MAX_NOTE, OK, PLANNED, SKIPPED, Case, Results, SkippedError

DAMAGED = 3  # exit code: an error on the GPU has left this process without it


def main(words: Sequence[str]) -> int:
    """Run the cases of a part that have not begun yet."""
    name, target, file = words[:3]
    setting = json.loads(words[3])
    results = Results(Path(file))
    faulthandler.enable()
    module, function, *arguments = target.split(":")
    cases: list[Case] = getattr(importlib.import_module(module), function)(setting, *arguments)
    done = results.cases(name, BEGUN, *FINAL)
    if not done:
        results.write(name, "", PLANNED, cases=[case.name for case in cases])
    for case in cases:
        if case.name not in done:
            _run(results, name, case._replace(seconds=case.seconds * setting["patience"]))
            if not _clean():
                return DAMAGED
    return 0


def _run(results: Results, part: str, case: Case) -> None:
    print(f"---- {part}: {case.name}", flush=True)
    results.write(part, case.name, BEGUN, at=time.time(), limit=case.seconds)
    faulthandler.dump_traceback_later(case.seconds, exit=True)
    started = time.perf_counter()
    figures: dict[str, Any] = {}
    try:
        figures = case.call() or {}
        state, note = OK, str(figures.pop("note", ""))
    except SkippedError as error:
        state, note = SKIPPED, str(error)
    except BaseException as error:  # a run that is stopped raises a KeyboardInterrupt
        traceback.print_exc()
        state, note = FAULT, _told(error)
    finally:
        faulthandler.cancel_dump_traceback_later()
    seconds = round(time.perf_counter() - started, 2)
    print(f"---- {state} in {seconds} s: {note}", flush=True)
    results.write(part, case.name, state, note=note[:MAX_NOTE], seconds=seconds, figures=figures)


def _told(error: BaseException) -> str:
    """Return an error in one line, with the place in this project where it came from."""
    frames = [
        each for each in traceback.extract_tb(error.__traceback__) if f"{os.sep}tests{os.sep}gpu" in each.filename
    ]
    place = f" ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""
    text = " ".join(str(error).split())[: MAX_NOTE - 60]
    return f"{type(error).__name__}: {text}{place}" if text else f"{type(error).__name__}{place}"


def _clean() -> bool:
    """Free what the case has left; return whether the GPU still answers."""
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized():
        return True
    try:
        torch.cuda.synchronize()
        torch.cuda.empty_cache()
    except Exception:
        traceback.print_exc()
        return False
    return True


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
