"""Freed memory stays with the process, where the C library is glibc, and only where that is wanted."""

from __future__ import annotations

import ctypes
import platform
import subprocess
import sys

import pytest

from trainer import memory
from trainer.memory import keep_freed_memory

glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc")

# Page faults of 20 buffers of 40 MiB, one after the other, after as many others.
FAULTS = """
import resource, sys, torch
from trainer.allocator import keep_freed_memory
print(*[keep_freed_memory(word == "keep") for word in sys.argv[1:]])
for _ in range(20):
    torch.ones(10 * 2**20)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    torch.ones(10 * 2**20)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


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
    monkeypatch.setattr(memory.Process, "keeps", False)
    assert keep_freed_memory(True) is False
    assert keep_freed_memory(False) is False
