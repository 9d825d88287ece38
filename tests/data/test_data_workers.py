"""Data workers that fail: the run ends with their own reason, in one line, and is not kept waiting."""

from __future__ import annotations

import dataclasses
import errno
import multiprocessing
import os
import resource
import signal
import subprocess
import sys
import time
from multiprocessing.queues import Queue
from pathlib import Path

import pytest
from torch import Tensor

from tests.helpers import loaders_of
from tests.shell import TRAIN
from trainer.config import RunError
from trainer.data import data_workers
from trainer.data.augment_images import OFF
from trainer.data.data_workers import starting_workers, watched_workers
from trainer.data.sources import Inputs, Split
from trainer.dataset.digits import digits

DEAD = "a data worker failed: DataLoader worker "

FAILING = '''
import dataclasses, os, signal

from trainer.data.augment_images import OFF
from trainer.data import Data, Split
from trainer.dataset import DATASETS
from trainer.dataset.digits import digits

PARENT = os.getpid()


@DATASETS.register
def failing(seed: int, *, how: str) -> Data:
    """Digits whose data workers fail."""
    data = digits(seed, val_fraction=0.15, val_seed=None, sampler="shuffle", in_memory=False, workers=2, augment=OFF)
    whole, bad = data.train.source, int(data.train.positions[5])

    class Source:
        targets = whole.targets

        def fetch(self, positions):
            if bad in positions and os.getpid() != PARENT:
                if how == "killed":
                    os.kill(os.getpid(), signal.SIGKILL)
                if how == "left":
                    os._exit(3)
                raise ValueError("picture 5 is torn")
            return whole.fetch(positions)

    return dataclasses.replace(data, train=Split(Source(), data.train.positions))
'''


SLOW = pytest.mark.slow


@pytest.mark.parametrize("how", ["raises", pytest.param("killed", marks=SLOW), pytest.param("left", marks=SLOW)])
def test_a_data_worker_that_fails_ends_the_run_with_its_own_error(tmp_path: Path, how: str) -> None:
    (tmp_path / "failing.py").write_text(FAILING)
    words = ["plugins=[failing.py]", "dataset=failing", f"dataset.how={how}", "logger=none", "epochs=2"]
    command = [*TRAIN, *words]
    result = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, timeout=100, check=False
    )  # no worker is waited for
    assert result.stderr.count("\n") == 1, result.stderr
    (line,) = result.stderr.splitlines()
    assert result.returncode == 1
    if how == "raises":
        place = FAILING[: FAILING.index("raise ValueError")].count("\n") + 1
        reason = f"ValueError: picture 5 is torn in {tmp_path}/failing.py, line {place}"
        assert line.startswith(f"train: error: a data worker failed: {reason} (the log: ")
    else:
        assert line.startswith(f"train: error: {DEAD}")
        assert "Traceback" not in line


@pytest.mark.parametrize("error", [EOFError(), ConnectionRefusedError(111, "Connection refused")])
def test_a_connection_that_breaks_while_a_batch_is_fetched_is_a_dead_workers(error: Exception) -> None:
    with pytest.raises(RunError, match=f"{DEAD}ended before its batch was read"), watched_workers(fetching=True):
        raise error
    with pytest.raises(type(error)), watched_workers():  # then it is a data set's own
        raise error


def test_a_worker_may_be_found_dead_anywhere() -> None:
    text = "DataLoader worker (pid 7) exited unexpectedly with exit code 3. Details are lost due to multiprocessing."
    found = rf"{DEAD}\(pid 7\) exited unexpectedly with exit code 3; out of memory\?"
    with pytest.raises(RunError, match=found), watched_workers():
        raise RuntimeError(text)


ADVICE = {
    errno.EMFILE: r"failed: .*Too many open files.*; the limit of \d+ open files is too low: raise it \(ulimit -n\)",
    errno.ENOSPC: r"failed: .*No space left on device \(28\); /dev/shm, where .* is full \(.* MiB free now\): make it ",
}


@pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="data workers use other memory")
@pytest.mark.parametrize("code", [errno.EMFILE, errno.ENOSPC])
def test_a_batch_that_cannot_be_handed_over_ends_the_run_with_the_reason(code: int) -> None:
    data = digits(0, val_fraction=0.15, val_seed=None, sampler="shuffle", in_memory=False, workers=1, augment=OFF)
    whole, test_process = data.train.source, os.getpid()

    class Source:
        targets = whole.targets

        def fetch(self, positions: Tensor) -> Inputs:
            assert os.getpid() != test_process
            if code == errno.EMFILE:
                resource.setrlimit(resource.RLIMIT_NOFILE, (3, 3))
            else:  # what torch raises if /dev/shm is full
                full = RuntimeError("unable to allocate shared memory for </torch_1>: No space left on device (28)")
                Queue._on_queue_feeder_error(full, None)  # type: ignore[attr-defined]
            return whole.fetch(positions)

    loader = loaders_of(dataclasses.replace(data, train=Split(Source(), data.train.positions))).train
    try:
        with pytest.raises(RunError, match=ADVICE[code]):
            next(loader.epoch())
    finally:
        loader.close()


@pytest.mark.parametrize("kind", [OSError(errno.EMFILE, os.strerror(errno.EMFILE)), KeyboardInterrupt()])
def test_workers_are_killed_if_not_all_of_them_can_be_started(kind: BaseException) -> None:
    with pytest.raises(type(kind)), starting_workers():
        child = multiprocessing.get_context("fork").Process(target=time.sleep, args=(100,), daemon=True)
        child.start()
        raise kind
    child.join(10)
    assert child.exitcode == -signal.SIGKILL


def test_a_data_worker_is_silent_if_its_run_ends_while_it_fetches_a_batch(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ended: list[int] = []
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    monkeypatch.setattr(Queue, "_on_queue_feeder_error", Queue._on_queue_feeder_error)  # type: ignore[attr-defined]
    monkeypatch.setattr(os, "_exit", ended.append)
    receiver, sender = multiprocessing.Pipe(duplex=False)
    data_workers._start(sender, 0)
    sys.excepthook(EOFError, EOFError(), None)
    Queue._on_queue_feeder_error(BrokenPipeError(), None)  # type: ignore[attr-defined]
    assert (ended, receiver.poll(), capsys.readouterr().err) == ([], False, "")
    sys.excepthook(ValueError, ValueError("another error"), None)
    assert (ended, receiver.recv_bytes(), capsys.readouterr().err) == ([1], b"ValueError: another error", "")
