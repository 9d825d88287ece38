"""The streams and the terminal of a command: safe to write to, as wide as they are, and a line while torch loads.

A name of a file, a folder or a class may hold bytes that are not UTF-8. Python stands in for such a byte with a lone
surrogate, which no stream can encode: it is written as an escape wherever it is written, in files and on the terminal.
"""

from __future__ import annotations

import codecs
import contextlib
import io
import os
import shutil
import sys
from collections.abc import Iterator, Sequence

ESCAPED = "backslashreplace"  # how a character that an encoding lacks is written to a file; JSON has the same escape
READABLE = "trainer.readable"  # how such a character is written to a stream
REPLACEMENTS = {"…": "...", "×": "x", "±": "+-", "−": "-", "·": ".", "’": "'"}  # in the texts of this program


def _replace(error: UnicodeError) -> tuple[str, int]:
    """Replace the characters that a stream lacks: an error handler, as ``codecs.register_error`` describes it."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    missing = error.object[error.start : error.end]
    return "".join(REPLACEMENTS.get(each) or each.encode("ascii", ESCAPED).decode() for each in missing), error.end


codecs.register_error(READABLE, _replace)


def escaped(text: str) -> str:
    """Return a text as UTF-8 can hold it, with an escape such as ``\\udce9`` for each byte that is not UTF-8."""
    return text if text.isascii() else text.encode("utf-8", ESCAPED).decode()


def prepare_streams() -> None:
    """Make stdin, stdout and stderr usable: open those that are closed, and let no character end the command.

    A closed stream gets the null device. Otherwise its number would be that of the next file that is opened, and a
    library that writes to stderr would write into a checkpoint.
    """
    for number, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free, which is this one
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, mode, encoding="utf-8", closefd=False))  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=READABLE)


def holds_any_character(stream: object) -> bool:
    """Return whether a stream encodes every character, apart from lone surrogates."""
    return str(getattr(stream, "encoding", None) or "utf-8").lower().startswith("utf")


def columns() -> int | None:
    """Return the number of columns of the terminal on stdout; None if stdout is a file, a pipe or the null device."""
    try:
        shown = sys.stdout.isatty()
    except (AttributeError, ValueError):  # stdout is closed
        return None
    return shutil.get_terminal_size().columns if shown else None


def fitting(texts: Sequence[str]) -> str:
    """Return the first of several forms of a line, the longest first, that fits the terminal; else the last one."""
    width = columns()
    return texts[0] if width is None else next((text for text in texts if len(text) <= width), texts[-1])


@contextlib.contextmanager
def loading(what: str = "torch") -> Iterator[None]:
    """Show on a terminal that a slow import is under way, and remove this line at the end of the context."""
    line = f"loading {what} …"
    _overwrite(line)
    try:
        yield
    finally:
        _overwrite(" " * len(line))


def _overwrite(line: str) -> None:
    """Write a line on stderr over which the next one is written, if stderr is a terminal."""
    with contextlib.suppress(AttributeError, ValueError, OSError):
        if sys.stderr.isatty():
            print(f"{line}\r", end="", file=sys.stderr, flush=True)
