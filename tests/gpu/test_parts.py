"""The runner of parts: a part that fails, crashes, hangs or cannot be imported does not lose the others."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.gpu import _parts
from tests.gpu._parts import LOG, Part, Runner
from tests.gpu._table import exit_code, table
from tests.marked import marked

HERE = "tests.gpu.wrong_cases"


def run(folder: Path, *parts: Part, seconds: float = 60, limit: float = 30) -> Runner:
    (folder / "work").mkdir()
    runner = Runner(folder, folder / "work", {"limit": limit, "patience": 1}, seconds)
    runner.run(parts, together=1)
    return runner


def states(runner: Runner, part: str) -> dict[str, str]:
    return {case: line["state"] for case, line in runner.results.cases(part, *_parts.FINAL).items()}


def test_a_fault_and_a_crash_lose_neither_the_other_cases_nor_the_other_parts(tmp_path: Path) -> None:
    runner = run(
        tmp_path,
        Part("first", f"{HERE}:cases:good:bad:crash:absent:last", 30),
        Part("missing", "tests.gpu.none_such:cases", 30),
        Part("second", f"{HERE}:cases:good", 30, alone=True),
    )
    wanted = {"good": "ok", "bad": "fault", "crash": "fault", "absent": "skipped", "last": "ok"}
    assert states(runner, "first") == wanted
    assert states(runner, "missing") == {"start": "fault"}
    assert states(runner, "second") == {"good": "ok"}
    lines = runner.results.cases("first", *_parts.FINAL)
    assert lines["good"]["figures"] == {"rate": 3}
    assert "ValueError: two and two are five (wrong_cases.py:" in lines["bad"]["note"]
    assert lines["crash"]["note"] == "ended by SIGSEGV; see the log"
    assert "No module named 'tests.gpu.none_such'" in runner.results.cases("missing", "fault")["start"]["note"]
    assert "are five" in (tmp_path / LOG).read_text()
    said = table(runner.results)
    assert "| first | 2 | 2 | 1 | 0 |" in said
    assert "first, crash: ended by SIGSEGV; see the log" in said
    assert exit_code(runner.results) == 1


def test_a_case_that_hangs_is_ended_with_all_its_processes_and_the_next_one_runs(tmp_path: Path) -> None:
    runner = run(tmp_path, Part("part", f"{HERE}:cases:hang:last", 30), limit=0.5)
    assert states(runner, "part") == {"hang": "fault", "last": "ok"}
    assert runner.results.cases("part", "fault")["hang"]["note"].startswith("no end within 0")
    assert "in _hang" in (tmp_path / LOG).read_text()  # where it hung
    assert not marked(_parts.MARK, runner.mark, starts=True)


def test_what_there_is_no_time_for_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_parts, "LEAST", 0.01)
    parts = (Part("slow", f"{HERE}:cases:good:hang:last", 1), Part("late", f"{HERE}:cases:good", 30))
    runner = run(tmp_path, *parts, seconds=1)
    assert states(runner, "slow") == {"good": "ok", "hang": "no time", "last": "no time"}
    assert states(runner, "late") == {"all": "no time"}
    assert "no time for: slow (hang; last), late" in table(runner.results)
    assert exit_code(runner.results) == 0
