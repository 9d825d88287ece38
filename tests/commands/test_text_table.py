"""Text for the terminal: tables, numbers, lines and JSON."""

from __future__ import annotations

import math

import pytest

from trainer.commands.text_table import aligned, counted, figure, lasted, print_json, print_lines


def test_columns_are_aligned_and_lines_have_no_blanks_at_their_end() -> None:
    assert aligned(["name", "n"], [["a", "10"], ["long name", ""]], left=[0]) == [
        "name        n",
        "a          10",
        "long name",
    ]
    assert aligned(["name"], [], left=[]) == ["name"]


def test_numbers_have_as_many_digits_as_are_read() -> None:
    assert [figure(value) for value in (0.98765, 0.0, 1e-5, 12345.0, None)] == [
        "0.9877",
        "0.0000",
        "1.000e-05",
        "1.234e+04",
        "",
    ]
    assert [counted(value) for value in (1234, 1234.0, None)] == ["1,234", "1,234", ""]
    assert [lasted(value) for value in (1.26, None)] == ["1.3", ""]


def test_lines_cannot_move_the_cursor_and_json_has_no_nan(capfd: pytest.CaptureFixture[str]) -> None:
    print_lines(["a\x1b[2J", "b"])
    print_json({"loss": math.nan, "name": "é"})
    assert capfd.readouterr().out == 'a\\x1b[2J\nb\n{\n  "loss": null,\n  "name": "é"\n}\n'
