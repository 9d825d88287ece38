"""The tests marked ``gpu``, with a line of results for each as soon as it has ended; also a plugin of pytest."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

from tests.gpu._parts import FAULT, MAX_NOTE, OK, REPOSITORY, SKIPPED, Case, Results

FILE, PART = "TRAINER_GPU_RESULTS", "tests"


def tests(setting: dict[str, Any]) -> list[Case]:
    return [Case("pytest", partial(_pytest, setting), 400)]


def _pytest(setting: dict[str, Any]) -> dict[str, Any]:
    """Run the tests of every file that has some, in half as many processes as there are cores."""
    files = [path for path in sorted((REPOSITORY / "tests").rglob("test_*.py")) if "mark.gpu" in path.read_text()]
    count = (os.cpu_count() or 2) // 2
    words = ["-m", "gpu", "-o", "addopts=", "-p", "tests.gpu._tests", "-p", "no:cacheprovider", "-q", "-rfE"]
    words += ["-n", str(count) if count > 1 else "0", "--basetemp", str(Path(setting["work"]) / "pytest")]
    environment = {**os.environ, FILE: setting["results"], "PYTHONPATH": os.pathsep.join([str(REPOSITORY), *_path()])}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *words, *map(str, files)], cwd=REPOSITORY, env=environment, check=False
    )
    assert done.returncode in (0, 1, 5), (
        f"pytest ended with {done.returncode}"
    )  # 5: no test, where a package is missing
    return {"note": f"{len(files)} files in {max(count, 1)} processes"}


def _path() -> list[str]:
    return [part for part in os.environ.get("PYTHONPATH", "").split(os.pathsep) if part]


def pytest_runtest_logreport(report: Any) -> None:
    """Write the outcome of a test, in the process that hears of all of them."""
    if "PYTEST_XDIST_WORKER" in os.environ or FILE not in os.environ:
        return
    if report.when != "call" and report.passed:
        return
    state = OK if report.passed else SKIPPED if report.skipped else FAULT
    name = report.nodeid.replace("tests/", "", 1)
    Results(Path(os.environ[FILE])).write(PART, name, state, note=_why(report), seconds=round(report.duration, 2))


def pytest_collectreport(report: Any) -> None:
    """Write a file that cannot be read, or that is left out as a package is missing."""
    if FILE in os.environ and "PYTEST_XDIST_WORKER" not in os.environ and not report.passed:
        state = SKIPPED if report.skipped else FAULT
        Results(Path(os.environ[FILE])).write(PART, report.nodeid, state, note=_why(report))


def _why(report: Any) -> str:
    """Return the error of a test, or why it was skipped, in one line."""
    if report.passed:
        return ""
    if report.skipped and isinstance(report.longrepr, tuple):
        return str(report.longrepr[2]).removeprefix("Skipped: ")
    lines = [line[1:].strip() for line in str(report.longrepr).splitlines() if re.match(r"E\s", line)]
    return " ".join(lines or str(report.longrepr).split())[:MAX_NOTE]
