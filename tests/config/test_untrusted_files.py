"""Files of unknown origin: what is no regular file, is too large, or would fill the memory is refused with a reason."""

from __future__ import annotations

import os
import re
import socket
from pathlib import Path

import pytest

from trainer.config import untrusted_files
from trainer.config.untrusted_files import check_file, check_unpacked, need_memory, read_stored, size
from trainer.memory import free_memory


def test_what_is_no_regular_file_is_named(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("/dev/zero")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with socket.socket(socket.AF_UNIX) as opened:
        opened.bind(os.path.relpath(tmp_path / "socket"))
    reasons = {
        "pipe": "is a named pipe, not a file",
        "link": "is a device, not a file",
        "socket": "is a socket, not a file",
        "loop": "Too many levels of symbolic links",
        "none": "No such file or directory",
        ".": "Is a directory",
    }
    for name, reason in reasons.items():
        with pytest.raises(OSError) as caught:
            check_file(tmp_path / name)
        assert caught.value.strerror == reason


def test_a_pipe_that_the_shell_has_opened_is_a_file() -> None:
    read, write = os.pipe()
    try:
        check_file(f"/dev/fd/{read}")
    finally:
        os.close(read)
        os.close(write)


def test_a_stored_file_has_a_largest_size(tmp_path: Path) -> None:
    file = tmp_path / "summary.json"
    file.write_text("{}")
    assert read_stored(file) == "{}"
    os.truncate(file, 10**12)
    with pytest.raises(OSError, match="is larger than 16,000,000 bytes"):
        read_stored(file)


def test_memory_that_is_not_free_is_refused_with_both_sizes() -> None:
    need_memory(1000, "small")
    with pytest.raises(OSError, match=r"x needs about 4 TB of memory, [\d.]+ [kMG]B are free"):
        need_memory(4 * 10**12, "file", "x")


def test_only_large_content_that_unpacks_to_many_times_its_size_is_refused() -> None:
    check_unpacked(1000, untrusted_files.FREELY_UNPACKED, "file", "")
    check_unpacked(10**9, 20 * 10**9, "file", "")  # a large data set
    with pytest.raises(OSError, match=re.escape("from 3.1 MB to 3.3 GB, more than 200 times its size; save it anew")):
        check_unpacked(3_100_000, 3_300_000_000, "file", "save it anew")


def test_a_limit_on_the_address_space_counts() -> None:
    import resource

    limits = resource.getrlimit(resource.RLIMIT_AS)
    before = free_memory()
    assert before > 1 << 20
    child = os.fork()
    if child == 0:
        resource.setrlimit(resource.RLIMIT_AS, (1 << 20, limits[1]))  # less than this process has already
        os._exit(int(free_memory() != 0))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_sizes_are_short() -> None:
    assert [size(each) for each in (0, 999, 1000, 3.3e9, 5e18)] == [
        "0 bytes",
        "999 bytes",
        "1 kB",
        "3.3 GB",
        "5e+03 PB",
    ]
