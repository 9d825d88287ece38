"""The memory of the process: the C allocator, and Python's garbage collector."""

from __future__ import annotations

import ctypes
import gc

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # of malloc.h; -1 for the first means never
KEEP = {M_MMAP_MAX: 0, M_TRIM_THRESHOLD: -1}
DEFAULTS = {M_MMAP_MAX: 65536, M_TRIM_THRESHOLD: 128 * 1024}  # of mallopt(3)


class Process:
    """What this one does now."""

    keeps = False


def keep_freed_memory(wanted: bool) -> bool:
    """Keep what is freed from now on for the next request, or hand it back again as by default.

    Of the whole process, and of those that it forks. What is freed stays counted as the process's memory, and what was
    kept before it was handed back stays as well.

    Returns:
        whether it is kept; never where the C library is not glibc.
    """
    if wanted != Process.keeps:
        try:
            library = ctypes.CDLL(None)
            mallopt, _ = library.mallopt, library.gnu_get_libc_version  # which other C libraries do not have
        except (AttributeError, OSError, TypeError):
            return False
        options = KEEP if wanted else DEFAULTS
        Process.keeps = all(mallopt(option, value) for option, value in options.items()) and wanted
    return Process.keeps


class Command:
    """What this process does now."""

    waits = False


def wait_with_garbage() -> None:
    """Until ``collect_garbage`` is called."""
    if gc.isenabled():
        gc.disable()
        Command.waits = True


def collect_garbage() -> None:
    """From now on, as ever; but what has been imported meanwhile is not looked at, also at the end of the process."""
    if Command.waits:
        gc.freeze()
        gc.enable()
        Command.waits = False
