"""The command ``trainer``: its help, and how it hands its words on."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.helpers import told
from trainer.__main__ import main
from trainer.commands import COMMANDS


@pytest.mark.parametrize("words", [[], ["-h"], ["--help"]])
def test_the_help_lists_the_commands(words: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 0
    out = capfd.readouterr().out
    assert all(f"\n    {name}" in out for name in ("train", *COMMANDS))


def test_a_wrong_command_is_a_line_with_the_nearest(capfd: pytest.CaptureFixture[str]) -> None:
    code, out, err = told(capfd, "rums")
    assert (code, out, len(err.splitlines())) == (2, "", 1)
    assert err.startswith("trainer: error: rums: no such command; did you mean runs? commands: train, data, ")


@pytest.mark.parametrize("words", [["train", "epochs=0"], ["epochs=0"], ["train", "--help"], ["--info", "epochs=0"]])
def test_overrides_and_options_are_handed_to_train(
    words: list[str], capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)
    code, out, err = told(capfd, *words)
    if "--help" in words:
        assert (code, err) == (0, "")
        assert "model=cnn" in out
    else:
        assert code == 2
        assert err.startswith("train: error: epochs: must be a whole number, at least 1, got 0")


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_a_help_with_its_exit_codes(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    code, out, err = told(capfd, name, "--help")
    assert (code, err) == (0, "")
    assert out.startswith(f"usage: trainer {name}")
    assert name == "completion" or "exit code: 0" in out
