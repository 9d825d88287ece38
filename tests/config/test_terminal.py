"""The streams and the width of a terminal."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from trainer.config import terminal


class Terminal(io.StringIO):
    """A stream that is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("encoding", "written"),
    [
        ("ascii", rb"6x ... \xe9 \udce9"),
        ("latin-1", "6× ... é ".encode("latin-1") + rb"\udce9"),
        ("utf-8", "6× … é ".encode() + rb"\udce9"),
    ],
)
def test_a_stream_replaces_what_its_encoding_lacks(
    monkeypatch: pytest.MonkeyPatch, encoding: str, written: bytes
) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding=encoding))
    terminal.prepare_streams()
    print("6× … é \udce9", end="", flush=True)
    assert raw.getvalue() == written
    assert terminal.holds_any_character(sys.stdout) == (encoding == "utf-8")


def test_closed_streams_are_opened_so_that_no_file_gets_their_numbers(tmp_path: Path) -> None:
    code = (
        "from trainer.config.terminal import prepare_streams; prepare_streams(); import sys\n"
        "print('out'); print('err', file=sys.stderr); assert sys.stdin.read() == ''\n"
        "file = open('found', 'w'); file.write(str(file.fileno() > 2))"
    )
    command = f'"{sys.executable}" -c "$CODE" <&- >&- 2>&-'
    subprocess.run(["bash", "-c", command], cwd=tmp_path, env={**os.environ, "CODE": code}, check=True)
    assert (tmp_path / "found").read_text() == "True"


def test_only_a_terminal_has_a_width_and_gets_the_form_of_a_line_that_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    forms = ["a long line", "a line", "line"]
    monkeypatch.setenv("COLUMNS", "7")
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    assert (terminal.columns(), terminal.fitting(forms)) == (None, "a long line")
    monkeypatch.setattr(sys, "stdout", Terminal())
    assert (terminal.columns(), terminal.fitting(forms)) == (7, "a line")
    monkeypatch.setenv("COLUMNS", "2")
    assert terminal.fitting(forms) == "line"


def test_the_line_about_loading_is_for_a_terminal_and_goes_away(monkeypatch: pytest.MonkeyPatch) -> None:
    for stream, shown in ((io.StringIO(), ""), (Terminal(), "loading torch …\r               \r")):
        monkeypatch.setattr(sys, "stderr", stream)
        with terminal.loading():
            assert stream.getvalue() == shown[:16]
        assert stream.getvalue() == shown
    monkeypatch.setattr(sys, "stderr", None)
    with terminal.loading():
        pass
