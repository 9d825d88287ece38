"""Run ``train`` or ``trainer`` on a terminal of this test, and read what its screen shows."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import sys
import termios
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.forked import end_as_command

ROWS = 50


@dataclass
class Shown:
    """What a command has written to its terminal.

    Args:
        code: the exit code.
        written: every character, in order.
        columns: the width of the terminal.
    """

    code: int
    written: str
    columns: int

    @property
    def lines(self) -> list[str]:
        """The lines as they stand on the screen, of any number of rows, at the end."""
        rows: list[list[str]] = [[]]
        row = column = 0
        for part in re.findall(r"\x1b\[\d*[A-Za-z]|[^\x1b]", self.written):
            if part == "\r":
                column = 0
            elif part == "\n":
                row += 1
            elif part.startswith("\x1b"):
                row -= part.endswith("A")
            else:
                if column == self.columns:  # the terminal continues a long line on the next row
                    row, column = row + 1, 0
                rows += [[] for _ in range(row + 1 - len(rows))]
                rows[row] += " " * (column + 1 - len(rows[row]))
                rows[row][column] = part
                column += 1
            rows += [[] for _ in range(row + 1 - len(rows))]
        return ["".join(each).rstrip() for each in rows]


def on_terminal(
    words: Sequence[str],
    folder: Path,
    columns: int = 80,
    environment: Mapping[str, str] = os.environ,
    *,
    main: Callable[[], int] | None = None,
    when: Callable[[str], bytes | None] = lambda _: None,
) -> Shown:
    """Run a command in a fork of this process, whose stdin, stdout and stderr are a terminal.

    Args:
        words: the words after ``train``.
        folder: the working directory.
        columns: the width of the terminal.
        environment: the environment variables, without COLUMNS.
        main: the main function of the command; None for ``train``.
        when: is given what has been written so far, and returns the keys to type, or None.
    """
    child, terminal = pty.fork()
    if child == 0:
        plain = {name: value for name, value in environment.items() if name not in ("COLUMNS", "LINES")}
        end_as_command(words, folder, plain, 1, 2, main, stdin=0)
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, columns, 0, 0))
    written, deadline = b"", time.monotonic() + 120
    while time.monotonic() < deadline:
        try:
            part = os.read(terminal, 65536)
        except OSError:  # how a pseudo-terminal says that the other side is gone
            break
        if not part:
            break
        written += part
        keys = when(written.decode(errors="replace"))
        if keys:
            os.write(terminal, keys)
    os.close(terminal)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    sys.stdout.flush()
    return Shown(code, written.decode(errors="replace"), columns)
