"""The collectives of processes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

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


def gathered(folder: Path, rank: int, lengths: list[int]) -> None:
    """Gather ``lengths[rank]`` rows in this process, whose number is ``rank``, and save all; end the process."""
    code = 1
    try:
        dist.init_process_group("gloo", f"file://{folder / 'store'}", rank=rank, world_size=len(lengths))
        rows = torch.full((lengths[rank], 3), float(rank))
        torch.save(Group(rank, len(lengths)).gather_rows(rows), folder / f"{rank}.pt")
        code = 0
    finally:
        os._exit(code)


@pytest.mark.parametrize("lengths", [[2, 3], [0, 2]])
def test_the_rows_of_all_processes_come_by_rank(tmp_path: Path, lengths: list[int]) -> None:
    children = []
    for rank in range(len(lengths)):
        if (child := os.fork()) == 0:
            gathered(tmp_path, rank, lengths)
        children.append(child)
    assert [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children] == [0, 0]
    for rank in range(len(lengths)):
        found = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        assert found[:, 2].tolist() == [0.0] * lengths[0] + [1.0] * lengths[1]
    alone = torch.rand(2, 3)
    assert torch.equal(Group().gather_rows(alone), alone)
