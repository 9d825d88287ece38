"""Memory: the allocator of the C library, Python's garbage collector, and copies from a GPU."""

from __future__ import annotations

import atexit
import gc
import sys
from collections.abc import Sequence
from types import SimpleNamespace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # from malloc.h; the trim threshold -1 means never
KEEP = {M_MMAP_MAX: 0, M_TRIM_THRESHOLD: -1}
DEFAULTS = {M_MMAP_MAX: 65536, M_TRIM_THRESHOLD: 128 * 1024}  # from the man page mallopt(3)

_state = SimpleNamespace(keeps_freed_memory=False, collector_disabled=False)


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
