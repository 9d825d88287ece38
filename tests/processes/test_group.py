"""The collectives of processes."""

from __future__ import annotations

import pytest

from trainer.processes.group import Group


def test_processes_ask_each_other_at_a_pace_of_time(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    monkeypatch.setattr("torch.distributed.all_reduce", lambda flags, op: asked.append(int(flags[1])))
    group = Group(0, 2)
    for _ in range(1000):
        assert group.agree_on_signal(None) is None
    assert 5 < len(asked) < 12 and asked[:3] == [2, 4, 8]
    group.reset_pace()
    assert group.agree_on_signal(15) == 15
