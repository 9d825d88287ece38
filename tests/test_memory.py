"""Freed memory is kept with glibc if wanted; the garbage collector sleeps during the start."""

from __future__ import annotations

import ctypes
import gc
import platform
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from tests.conftest import Train
from tests.helpers import looked_into
from trainer import memory
from trainer.memory import LatestLoss, RowBuffer, keep_freed_memory

glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc")

# Page faults of 20 buffers of 40 MiB, one after the other, after as many others.
FAULTS = """
import resource, sys, torch
from trainer.memory import keep_freed_memory
print(*[keep_freed_memory(word == "keep") for word in sys.argv[1:]])
for _ in range(20):
    torch.ones(10 * 2**20)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    torch.ones(10 * 2**20)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.slow
@glibc
@pytest.mark.parametrize(
    ("words", "answers", "least", "most"),
    [
        (["keep"], "True", 0, 100),
        (["hand_back"], "False", 1000, 10**6),
        (["keep", "hand_back", "hand_back", "keep"], "True False False True", 0, 100),
        (["keep", "hand_back"], "True False", 1000, 10**6),  # nothing was kept in between
    ],
)
def test_only_memory_that_is_kept_is_not_asked_for_again(words: list[str], answers: str, least: int, most: int) -> None:
    told = subprocess.run([sys.executable, "-c", FAULTS, *words], capture_output=True, text=True, check=True)
    first, faults = told.stdout.splitlines()
    assert first == answers
    assert least <= int(faults) <= most


def test_another_c_library_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    class Musl:
        """Has no mallopt."""

    monkeypatch.setattr(ctypes, "CDLL", lambda _: Musl())
    monkeypatch.setattr(memory._state, "keeps_freed_memory", False)
    assert keep_freed_memory(True) is False
    assert keep_freed_memory(False) is False


# What the collector does when the modules are there and in the first step; and a cycle of the user's is still ended.
COLLECTOR = """
import gc
def see(when):
    print(when, gc.isenabled(), gc.get_freeze_count() > 1000)
class Node:
    def __del__(self):
        print("ended")
def make():
    node = Node()
    node.itself = node
def look():
    from torch.optim.optimizer import register_optimizer_step_post_hook
    see("start")
    register_optimizer_step_post_hook(lambda *_: (see("step"), make()))
"""


def test_collector_sleeps_at_the_start_and_leaves_what_was_imported_alone(tmp_path: Path) -> None:
    words = [sys.executable, "-c", looked_into(COLLECTOR), "max_steps=1", "model.channels=[2]", "logger=none"]
    told = subprocess.run(words, capture_output=True, text=True, check=True, cwd=tmp_path).stdout.splitlines()
    seen = [line for line in told if line.split()[0] in ("start", "step", "ended")]
    assert seen == ["start False False", "step True True", "ended"]


def test_a_command_within_a_program_leaves_the_collector_on(train: Train) -> None:
    assert train("max_steps=1", "model.channels=[2]").code == 0
    assert gc.isenabled()
    assert train("max_steps=0").code == 2
    assert gc.isenabled()


@pytest.mark.parametrize("loaded", [True, False])
def test_what_was_frozen_is_collected_at_the_end_only_if_triton_is_loaded(
    loaded: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The release of triton that comes with torch 2.15 writes a line for each object that is left."""
    if loaded:
        monkeypatch.setitem(sys.modules, "triton", sys)
    else:
        monkeypatch.delitem(sys.modules, "triton", raising=False)
    gc.freeze()
    try:
        memory._unfreeze_for_triton()
        assert (gc.get_freeze_count() == 0) is loaded
    finally:
        gc.unfreeze()


def test_the_latest_loss_is_read_where_the_host_has_it() -> None:
    losses = RowBuffer()
    on_cpu, elsewhere = LatestLoss(torch.device("cpu")), LatestLoss(torch.device("meta"))
    assert on_cpu.read(losses) is None
    losses.append(torch.tensor([2.0, 3.0]))
    assert on_cpu.read(losses) == 3.0
    losses.pop_all()
    assert on_cpu.read(losses) == 3.0  # a point of the curve has taken the losses
    assert elsewhere.read(losses) is None
    elsewhere.value = 1.5  # the mean of this point
    assert elsewhere.read(losses) == 1.5


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_is_not_waited_for_until_its_loss_has_arrived() -> None:
    device, losses = torch.device("cuda"), RowBuffer()
    latest = LatestLoss(device)
    losses.append(torch.tensor([2.0], device=device))
    torch.cuda._sleep(2_000_000_000)
    began = time.perf_counter()
    assert latest.read(losses) is None
    assert latest.read(losses) is None
    assert time.perf_counter() - began < 0.5
    torch.cuda.synchronize()
    assert latest.read(losses) == 2.0
