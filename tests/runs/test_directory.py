"""The run directory, its log and the console."""

from __future__ import annotations

import contextlib
import logging
from pathlib import Path

import pytest

from trainer.config import yaml_file
from trainer.runs.directory import LOG, RunDirectory, read_json, write_json


def test_no_message_moves_the_cursor_of_a_terminal_neither_at_once_nor_when_the_log_is_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("trainer"), "handlers", [])  # pytest-xdist cannot send what pytest hears
    with contextlib.closing(RunDirectory(str(tmp_path / "run"), fixed=True)) as directory:
        directory.claim({}, [])
        logging.getLogger("trainer").warning("warning  %s is missing", "a\x1b[2Jb\nc\udce9")
    shown = r"warning  a\x1b[2Jb\nc\udce9 is missing"
    assert capsys.readouterr().out == f"{shown}\n"
    assert (tmp_path / "run" / LOG).read_text(encoding="utf-8").endswith(f"WARNING {shown}\n")


def test_names_that_are_no_utf_8_are_written_as_escapes_and_read_back(tmp_path: Path) -> None:
    name = "caf\udce9/\N{SNOWMAN}"
    with contextlib.closing(RunDirectory(str(tmp_path / "run"), fixed=True)) as directory:
        directory.claim({"dataset": {"path": name}}, [f"dataset.path={name}"])
    assert yaml_file.load(tmp_path / "run" / "config.yaml")["dataset"]["path"] == name
    assert yaml_file.load(tmp_path / "run" / "overrides.yaml") == [f"dataset.path={name}"]
    write_json(tmp_path / "some.json", {name: name})
    assert read_json(tmp_path / "some.json") == {name: name}
    assert "caf\\udce9/\N{SNOWMAN}" in (tmp_path / "some.json").read_text(encoding="utf-8")
