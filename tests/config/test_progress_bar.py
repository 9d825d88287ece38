"""The time left of a run."""

from __future__ import annotations

import pytest

from trainer.config.progress_bar import TimeLeft


def test_the_time_left_is_that_of_the_whole_run_and_leaves_the_first_step_out(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr("time.perf_counter", lambda: clock[0])
    left = TimeLeft(100)
    left.step, shown = 10, []  # a resumed run
    for seconds in (500, 2, 4):  # the first step compiles the model
        clock[0] += seconds
        left.count_step()
        shown += [*left.text()]
    assert shown == ["run ends in 02:56", "run ends in 04:21"]
    assert [*TimeLeft(None).text()] == []
