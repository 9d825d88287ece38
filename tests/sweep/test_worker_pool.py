"""The processes of a sweep: which part of the machine each of them may use."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from trainer import compose
from trainer.config import ConfigError
from trainer.sweep.worker_pool import divide_machine


def test_gpus_are_shared_out_and_too_few_of_them_are_a_mistake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-a,GPU-b,2,3")
    words = ("sweep.parallel=2",)
    assert [part.devices for part in divide_machine([compose(*words).settings])] == [("GPU-a",), ("GPU-b",)]
    two = divide_machine([compose(*words, "device=ddp", "device.processes=2").settings])
    assert [part.devices for part in two] == [("GPU-a", "GPU-b"), ("2", "3")]
    assert [part.devices for part in divide_machine([compose(*words, "sweep.devices_per_job=0").settings])] == [
        None,
        None,
    ]
    assert [part.devices for part in divide_machine([compose(*words, "device=cpu").settings])] == [None, None]
    assert [part.devices for part in divide_machine([compose().settings])] == [None]
    with pytest.raises(ConfigError, match=r"5 jobs at once with 1 of CUDA's devices each need 5, and 4 are there"):
        divide_machine([compose("sweep.parallel=5").settings])
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho 'GPU 0: NVIDIA (UUID: a)'\necho 'GPU 1: NVIDIA (UUID: b)'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert [part.devices for part in divide_machine([compose(*words).settings])] == [("0",), ("1",)]


def test_cores_are_divided_equally_so_that_no_run_depends_on_its_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    assert [part.cores for part in divide_machine([compose("sweep.parallel=3", "device=cpu").settings])] == [
        (0, 1),
        (2, 3),
        (4, 5),
    ]
    assert [part.cores for part in divide_machine([compose("device=cpu").settings])] == [()]
    assert [len(part.cores) for part in divide_machine([compose("sweep.parallel=9", "device=cpu").settings])] == [1] * 9
