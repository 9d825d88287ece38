"""Memory: what is free, the allocator of the C library, the garbage collector, buffers of rows, copies from a GPU."""

from __future__ import annotations

import atexit
import contextlib
import gc
import os
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from torch import Tensor

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # from malloc.h; the trim threshold -1 means never
KEEP = {M_MMAP_MAX: 0, M_TRIM_THRESHOLD: -1}
DEFAULTS = {M_MMAP_MAX: 65536, M_TRIM_THRESHOLD: 128 * 1024}  # from the man page mallopt(3)

UNKNOWN = 2**63  # bytes, if the system does not tell how much memory is free

_state = SimpleNamespace(keeps_freed_memory=False, collector_disabled=False)


def free_memory() -> int:
    """Return how many bytes this process can still take, which takes about 1 ms; 2**63 if the system does not tell.

    This is the least of what is free on the machine, in the control groups of the process (a container, a job of
    SLURM), and below the limit on its address space (``ulimit -v``). Memory of the page cache counts as free.
    """
    return min(_free_on_machine(), _free_in_groups(), _free_in_limit())


def _free_on_machine() -> int:
    with contextlib.suppress(OSError, AttributeError):
        found = re.search(r"^MemAvailable:\s+(\d+) kB", Path("/proc/meminfo").read_text(), re.MULTILINE)
        return int(found[1]) * 1024  # type: ignore[index]
    with contextlib.suppress(OSError, ValueError, AttributeError):
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return UNKNOWN


def _free_in_groups() -> int:
    """Return what is free in the control group that has least, of the group of this process and those above it."""
    return min(map(_free_in_group, _groups()), default=UNKNOWN)


def _groups() -> Iterator[tuple[Path, str, str]]:
    """Yield the folder of each control group, and the names of the files with its limit and its use (version 2, 1)."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/cgroup").read_text().splitlines():
            _, kinds, place = line.split(":", 2)
            if kinds not in ("", "memory"):
                continue
            names = (
                ("memory.max", "memory.current") if not kinds else ("memory.limit_in_bytes", "memory.usage_in_bytes")
            )
            top = Path("/sys/fs/cgroup", kinds)
            group = top / place.lstrip("/")
            # in a container, the folder of its own group is the top
            yield from ((each, *names) for each in (group, *group.parents) if each.is_relative_to(top))


def _free_in_group(group: tuple[Path, str, str]) -> int:
    folder, limit, use = group
    try:
        most, used = int((folder / limit).read_text()), int((folder / use).read_text())
        cached = re.findall(r"^(?:in)?active_file (\d+)$", (folder / "memory.stat").read_text(), re.MULTILINE)
    except (OSError, ValueError):  # no such group, or "max": no limit
        return UNKNOWN
    return max(0, most - used + sum(map(int, cached)))


def _free_in_limit() -> int:
    try:
        import resource

        most = resource.getrlimit(resource.RLIMIT_AS)[0]
        if most == resource.RLIM_INFINITY:
            return UNKNOWN
        return max(0, most - int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE"))
    except (ImportError, OSError, ValueError, IndexError):
        return UNKNOWN


def keep_freed_memory(wanted: bool) -> bool:
    """Let the allocator keep freed memory for later requests, or return it to the system (glibc's default).

    The setting holds for the whole process and its forks. Kept memory counts as resident memory of the process, and
    is not returned when the setting is changed back.

    Returns:
        whether freed memory is kept; always False if the C library is not glibc.
    """
    if wanted != _state.keeps_freed_memory:
        import ctypes  # not while a command only answers

        try:
            library = ctypes.CDLL(None)
            mallopt, _ = library.mallopt, library.gnu_get_libc_version  # only glibc has both
        except (AttributeError, OSError, TypeError):
            return False
        options = KEEP if wanted else DEFAULTS
        _state.keeps_freed_memory = all(mallopt(option, value) for option, value in options.items()) and wanted
    return bool(_state.keeps_freed_memory)


def wait_with_garbage() -> None:
    """Disable the cyclic garbage collector until ``collect_garbage`` is called, to import torch faster."""
    if gc.isenabled():
        gc.disable()
        _state.collector_disabled = True


def collect_garbage() -> None:
    """Enable the garbage collector again, and freeze all existing objects, so that it never scans them."""
    if _state.collector_disabled:
        gc.freeze()
        gc.enable()
        atexit.register(_unfreeze_for_triton)
        _state.collector_disabled = False


def _unfreeze_for_triton() -> None:
    """Let Python collect what was frozen if triton is loaded, which reports every object that is left as a leak."""
    if "triton" in sys.modules:
        gc.unfreeze()


def to_host(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Return tensors on the CPU: copies of those on a device, with one wait for a GPU; the others as they are.

    The copies from a GPU go to pinned memory, so that they need not wait for each other.
    """
    import torch  # not while a command only answers

    on_host = [each.detach().to("cpu", non_blocking=each.device.type not in ("cpu", "mps")) for each in tensors]
    for device in {each.device for each in tensors if each.is_cuda}:
        torch.cuda.current_stream(device).synchronize()
    return on_host


class RowBuffer:
    """A growing buffer of rows that is reused, because many small tensors would fragment the heap."""

    def __init__(self) -> None:
        self._memory: Tensor | None = None
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, which: slice) -> Tensor:
        import torch  # not while a command only answers

        return torch.empty(0) if self._memory is None else self._memory[: self._count][which]

    def drop(self, start: int) -> None:
        """Drop the rows from ``start`` on."""
        self._count = min(self._count, start)

    def append(self, rows: Tensor) -> None:
        """Append rows, (n, …), of the same dtype and width as the rows before."""
        count = self._count + rows.shape[0]
        if self._memory is None or count > self._memory.shape[0]:
            before, self._memory = self._memory, rows.new_empty(2 * count, *rows.shape[1:])
            if before is not None:
                self._memory[: self._count] = before[: self._count]
        assert rows.dtype == self._memory.dtype
        self._memory[self._count : count] = rows
        self._count = count

    def pop_all(self) -> Tensor:
        """Empty the buffer and return its rows, which are valid until the next ``append``."""
        rows = self[:]
        self.drop(0)
        return rows


class LatestLoss:
    """Reads the loss of a recent step without waiting for the device, for the progress bar.

    A GPU copies a loss to the host while it computes. ``read`` returns the last copy that has arrived, and starts the
    next one. On a device of another kind, which would have to be waited for, it returns ``value`` as it is.

    Args:
        device: the device of the losses.
    """

    def __init__(self, device: torch.device) -> None:
        self._kind = device.type
        self.value: float | None = None  # the newest loss that is known on the host
        self._copy: Tensor | None = None  # of a loss, in page-locked memory; None before the first
        self._arrived: Any = None  # the event after this copy

    def read(self, losses: RowBuffer) -> float | None:
        """Return the newest of the losses that is known on the host, or None."""
        latest = losses[-1:]
        if self._kind == "cpu":
            self.value = float(latest) if len(latest) else self.value
        elif self._kind == "cuda" and (self._arrived is None or self._arrived.query()):
            if self._copy is not None:
                self.value = float(self._copy)
            if len(latest):
                import torch

                if self._copy is None:
                    self._copy = torch.empty_like(latest, device="cpu", pin_memory=True)
                self._copy.copy_(latest, non_blocking=True)
                self._arrived = torch.cuda.Event()
                self._arrived.record()
        return self.value
