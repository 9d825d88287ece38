"""The errors that a user sees as one line."""

from __future__ import annotations

import pytest

from trainer.config import ConfigError, RunError
from trainer.config.errors import one_line, printable, reason_of


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (RunError("the disk\n is full"), "the disk is full"),
        (ConfigError("seed: must be a number"), "seed: must be a number"),
        (FileNotFoundError(2, "No such file or directory", "a.csv"), "No such file or directory: a.csv"),
        (OSError(28, "No space left on device"), "No space left on device"),
        (FileNotFoundError(2, "No such file or directory", b"a.csv"), "No such file or directory: a.csv"),
        (OSError(9, "Bad file descriptor", 7), "Bad file descriptor"),
        (OSError("odd"), "OSError: odd"),
        (ValueError("one\n\ttwo"), "ValueError: one two"),
        (KeyError(), "KeyError"),
    ],
)
def test_an_error_is_one_line_and_has_the_name_of_its_type_only_if_nobody_expected_it(
    error: Exception, line: str
) -> None:
    assert one_line(error) == line


def test_a_reason_has_neither_class_nor_file() -> None:
    errors = FileNotFoundError(2, "No such file", "a.csv"), OSError("odd"), ValueError("one\n two"), KeyError()
    assert [reason_of(error) for error in errors] == ["No such file", "odd", "one two", "KeyError"]


def test_a_line_quotes_no_megabytes() -> None:
    assert printable("a" * 10**7) == "a" * 10_000 + "… (10,000,000 characters)"


def test_a_long_text_is_cut_off() -> None:
    assert one_line(ValueError("abcdef"), 3) == "ValueError: abc…"
    assert one_line(ValueError("abc"), 3) == "ValueError: abc"


def test_line_breaks_and_control_characters_are_escaped() -> None:
    assert printable("a\nb\x1b[2J ü") == "a\\nb\\x1b[2J ü"
