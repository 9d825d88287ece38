"""The temporary folder of the job files that the processes of a run share. No torch.

Every process that uses the folder holds a lock on a file of its own in it. The folder of a command that was killed,
whose locks nobody holds any more, is removed when the next command starts.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from trainer.processes.world import JOB

PREFIX, LOCKS = "train-processes-", "*.lock"


def hold(folder: Path) -> FileLock:
    """Lock the folder for this process, until the lock is released or the process ends."""
    lock = FileLock(folder / LOCKS.replace("*", str(os.getpid())))
    with contextlib.suppress(OSError, NotImplementedError, Timeout):  # the file system has no locks
        lock.acquire(timeout=5)
    return lock


@contextlib.contextmanager
def temporary_job_folder() -> Iterator[Path]:
    """Create the folder, and remove it on exit; before, remove the folders that killed commands of this user left."""
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError, NotImplementedError):  # such as a folder that another command removes
            if _is_abandoned(folder):
                shutil.rmtree(folder, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=PREFIX) as name:
        lock = hold(Path(name))
        try:
            yield Path(name)
        finally:
            lock.release()


def _is_abandoned(folder: Path) -> bool:
    """Return whether a folder with a job belongs to this user, and no process holds a lock in it."""
    if folder.is_symlink() or not hasattr(os, "getuid") or folder.stat().st_uid != os.getuid():
        return False
    locks = list(folder.glob(LOCKS))
    if not locks or not (folder / JOB).is_file():  # the command writes its job when it holds its lock
        return False
    for path in locks:
        try:
            with FileLock(path, blocking=False):
                pass
        except Timeout:
            return False
    return True
