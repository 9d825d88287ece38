"""The folder of the job files: what a killed command leaves is removed, and nothing else."""

from __future__ import annotations

import os
import signal
import tempfile
from pathlib import Path

import pytest

from trainer.processes.job_folder import PREFIX, hold, temporary_job_folder
from trainer.processes.world import JOB


def test_the_folder_of_a_killed_command_is_removed_when_its_last_process_has_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    children, (reader, writer) = [], os.pipe()
    for _ in range(2):
        child = os.fork()
        if child == 0:
            with temporary_job_folder() as folder:
                (folder / JOB).write_text("{}")
                os.write(writer, b"1")
                signal.pause()
        children.append(child)
    assert os.read(reader, 1) + os.read(reader, 1) == b"11"
    (tmp_path / f"{PREFIX}other").mkdir()  # a command that has just begun
    for child in children[:1]:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    with temporary_job_folder() as own:
        assert len(list(tmp_path.iterdir())) == 3  # its own, that of the other child, and the new one
        assert own.is_dir()
    assert len(list(tmp_path.iterdir())) == 2
    os.kill(children[1], signal.SIGKILL)
    os.waitpid(children[1], 0)
    with temporary_job_folder():
        pass
    assert [path.name for path in tmp_path.iterdir()] == [f"{PREFIX}other"]


def test_a_process_that_outlives_its_command_keeps_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    folder = tmp_path / f"{PREFIX}left"
    folder.mkdir()
    (folder / JOB).write_text("{}")
    (folder / "1.lock").touch()  # the command
    lock = hold(folder)
    with temporary_job_folder():
        assert folder.is_dir()
    lock.release()
    with temporary_job_folder():
        assert not folder.exists()
