"""The errors that a user sees as one line."""

from __future__ import annotations

import os


class ConfigError(Exception):
    """The command or the config is wrong: one line for each mistake."""

    def __init__(self, *problems: str) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class RunError(Exception):
    """A run cannot start or go on, though its config is right: damaged data, a full disk, a loss that is not finite.

    One line that says what to do.
    """


class SweepError(Exception):
    """Some runs of a sweep did not end well, and each has been reported.

    Args:
        code: what the command ends with.
    """

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


def one_line(error: BaseException, max_letters: int | None = None) -> str:
    """Return the message of an error on one line.

    A ``ConfigError`` or ``RunError`` is its own text, which was written for the user. An error of the operating system
    is its reason and the file. Any other error is the name of its type and its text.

    Args:
        error: what was raised.
        max_letters: the length at which the text is cut off; None keeps all of it.
    """
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: {os.fsdecode(error.filename)}" if error.filename else error.strerror
    text = " ".join(str(error).split())
    if max_letters is not None and len(text) > max_letters:
        text = f"{text[:max_letters]}…"
    return text if isinstance(error, ConfigError | RunError) else f"{type(error).__name__}: {text}".rstrip(": ")


def on_one_line(text: str) -> str:
    """A text without what would break a line or move a terminal's cursor."""
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)


class NotFiniteError(RunError):
    """A loss, a gradient or a weight is no number.

    Args:
        message: what, and in which step.
        step: the first one known to be wrong, counted from 1; an earlier one may have begun it.
    """

    def __init__(self, message: str, step: int) -> None:
        super().__init__(message)
        self.step = step
