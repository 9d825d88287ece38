"""Text for the terminal: tables, numbers, lines and JSON."""

from __future__ import annotations

import io
import json
import math
import sys

import pytest

from tests.config.test_terminal import Terminal
from trainer.commands.text_table import (
    aligned,
    as_json,
    counted,
    figure,
    fitted,
    lasted,
    print_json,
    print_lines,
    shortened,
)


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


HEAD = ["state", "typed", "value", "seconds", "run"]
ROWS = [
    ["finished", "lr=1 " * 8, "0.1234", "12.0", "outputs/2026-01-01/run"],
    ["failed", "lr=2", "", "1.0", "other/run"],
]


def test_a_terminal_gets_what_fits_and_names_what_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def shown(columns: int) -> list[str]:
        monkeypatch.setenv("COLUMNS", str(columns))
        return fitted(HEAD, ROWS, [0, 1, 4], elastic={1: 10, 4: 12}, least=[3, 2], where="| cat")

    assert shown(40) == aligned(HEAD, ROWS, [0, 1, 4])  # a file or a pipe
    monkeypatch.setattr(sys, "stdout", Terminal())
    assert shown(200) == aligned(HEAD, ROWS, [0, 1, 4])
    assert shown(60) == [
        "state     typed        value  seconds  run",
        "finished  lr=1 lr=1…  0.1234     12.0  …tputs/2026-01-01/run",
        "failed    lr=2                    1.0  other/run",
    ]
    assert shown(45) == [
        "state     typed        value  run",
        "finished  lr=1 lr=1…  0.1234  …2026-01-01/run",
        "failed    lr=2                other/run",
        "left out seconds: see | cat",
    ]
    for columns in range(32, 110):
        assert max(map(len, shown(columns))) <= columns
        assert "0.1234" in "".join(shown(columns)) or "left out seconds, value" in shown(columns)[3]


def test_a_path_is_shortened_at_its_beginning_and_a_text_at_its_end() -> None:
    assert [shortened(text, 6) for text in ("a/long/path", "a long text", "short", "a\x1b[2J/b/c")] == [
        "…/path",
        "a lon…",
        "short",
        "…J/b/c",
    ]


def test_json_is_valid_on_a_stream_without_the_characters_and_with_names_that_are_no_utf_8(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding="ascii"))
    text = as_json({"caf\udce9": "6× …"})
    assert text.isascii()
    assert json.loads(text) == {"caf\\udce9": "6× …"}
