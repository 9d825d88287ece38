"""The errors that a user sees as one line, and functions that format an error or a text on one line."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

MAX_LINE = 10_000  # characters of a message


class ConfigError(Exception):
    """The command or the config is wrong.

    Args:
        problems: one line for each mistake.
    """

    def __init__(self, *problems: str) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


@contextlib.contextmanager
def collected(problems: list[str]) -> Iterator[None]:
    """Add the problems of a ConfigError to ``problems`` instead of raising it, to report several errors together."""
    try:
        yield
    except ConfigError as error:
        problems += error.problems


class RunError(Exception):
    """A run with a valid config cannot start or continue: damaged data, a full disk, a NaN loss.

    The message is one line that tells the user what to do.
    """


class NotFiniteError(RunError):
    """A loss, a gradient or a weight is NaN or infinite.

    Args:
        message: names the value and the step.
        step: the first optimizer step known to be affected, counted from 1; the cause may lie in an earlier step.
    """

    def __init__(self, message: str, step: int) -> None:
        super().__init__(message)
        self.step = step


class SweepError(Exception):
    """Some runs of a sweep failed, and every failure has been reported.

    Args:
        code: the exit code of the command.
    """

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


def one_line(error: BaseException, max_letters: int | None = None) -> str:
    """Return the message of an error on one line.

    For a ``ConfigError`` or ``RunError``, return the message; for an error of the operating system, the reason and the
    file. For any other error, whose message was written for programmers, the name of the class precedes the message.

    Args:
        error: any exception.
        max_letters: the number of characters after which the text is cut off; None keeps the whole text.
    """
    if isinstance(error, OSError) and error.strerror:
        file = error.filename
        return f"{error.strerror}: {os.fsdecode(file)}" if isinstance(file, str | bytes) and file else error.strerror
    text = " ".join(str(error).split())
    if max_letters is not None and len(text) > max_letters:
        text = f"{text[:max_letters]}…"
    return text if isinstance(error, ConfigError | RunError) else f"{type(error).__name__}: {text}".rstrip(": ")


def reason_of(error: BaseException) -> str:
    """Return the message of an error on one line, without the class and the file; the class if there is no message."""
    return getattr(error, "strerror", None) or " ".join(str(error).split()) or type(error).__name__


def printable(text: str) -> str:
    """Escape line breaks and control characters, which would split the line or move the terminal's cursor.

    Only the first ``MAX_LINE`` characters are kept: a message may quote a line or a name of any length from a file.
    """
    if len(text) > MAX_LINE:
        text = f"{text[:MAX_LINE]}… ({len(text):,} characters)"
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)
