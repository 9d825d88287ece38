"""The command ``trainer``: its help, and how it hands its words on."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

import cli
from tests.forked import forked
from tests.helpers import told
from trainer.__main__ import main as trainer_main
from trainer.commands import COMMANDS


@pytest.mark.parametrize("words", [[], ["-h"], ["--help"]])
def test_the_help_lists_the_commands(words: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    assert trainer_main(words) == 0
    out = capfd.readouterr().out
    assert all(f"\n    {name}" in out for name in ("train", *COMMANDS))


def test_a_wrong_command_is_a_line_with_the_nearest(capfd: pytest.CaptureFixture[str]) -> None:
    code, out, err = told(capfd, "rums")
    assert (code, out, len(err.splitlines())) == (2, "", 1)
    assert err.startswith("trainer: error: rums: no such command; did you mean runs? commands: train, data, ")


@pytest.mark.parametrize("words", [["ru\x1b[31mms"], ["completion", "model=cnn", "\x1b[31m\r0"]])
def test_the_control_characters_of_a_word_are_escaped(words: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    code, out, err = told(capfd, *words)
    assert (code, out, len(err.splitlines())) == (2, "", 1)
    assert r"\x1b[31m" in err and err.rstrip("\n").isprintable()


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


@pytest.mark.parametrize("module", ["trainer.config", "trainer.runs.read", "trainer.commands.runs"])
def test_ctrl_c_while_modules_are_imported_ends_the_command_without_a_traceback(module: str) -> None:
    code = (
        "import signal, sys\n"
        "class Finder:\n"
        "    def find_spec(self, name, *_):\n"
        f"        if name == {module!r}: signal.raise_signal(signal.SIGINT)\n"
        "sys.meta_path.insert(0, Finder())\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from trainer.__main__ import main\n"
        "sys.argv[1:] = ['runs']\n"
        "sys.exit(main())"
    )
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (process.returncode, process.stdout) in ((-signal.SIGINT, ""), (130, ""))
    assert process.stderr in ("", "trainer: interrupted\n")


def test_a_handler_of_the_process_that_calls_main_comes_back(capfd: pytest.CaptureFixture[str]) -> None:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        assert told(capfd, "runs", "--help")[0] == 0
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_a_help_with_its_exit_codes(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    code, out, err = told(capfd, name, "--help")
    assert (code, err) == (0, "")
    assert out.startswith(f"usage: trainer {name}")
    assert name == "completion" or "exit code: 0" in out


def without_streams() -> int:
    """Train as a command whose shell has closed its streams."""
    os.closerange(0, 3)
    sys.stdin = sys.stdout = sys.stderr = None
    return cli.main()


def test_closed_streams_end_no_command(tmp_path: Path) -> None:
    ended = forked(["logger=none", "epochs=1", "limit_batches=1", "run_dir=here"], tmp_path, main=without_streams)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")
    assert '"finished"' in (tmp_path / "here" / "summary.json").read_text()


def test_names_that_are_no_utf_8_train_and_are_read_back(tmp_path: Path) -> None:
    folder = tmp_path / os.fsdecode(b"caf\xe9")
    for label in ("tea", os.fsdecode(b"caf\xe9")):
        (folder / "pictures" / label).mkdir(parents=True)
        for number in range(12):
            Image.new("L", (8, 8), number * 9).save(folder / "pictures" / label / f"{number}.png")
    words = ["dataset=image_folder", f'dataset.path="{folder / "pictures"}"', "batch_size=8"]
    for main, typed, wanted in (
        (None, [*words, "epochs=1", "run_dir=here", "model.channels=[2]"], "next     trainer report here"),
        (trainer_main, ["evaluate", "here"], r"caf\udce9"),
        (trainer_main, ["data", *words], "page     data.html"),
    ):
        ended = forked(typed, folder, main=main)
        assert ended.stderr == ""
        assert wanted in ended.stdout
    assert r"caf\udce9" in (folder / "data.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", COMMANDS)
def test_a_stream_without_the_characters_of_the_help_gets_others(name: str, tmp_path: Path) -> None:
    ended = forked([name, "--help"], tmp_path, main=in_ascii)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.startswith(f"usage: trainer {name}") and ended.stdout.isascii()
    assert not re.search(r"\\[ux]", ended.stdout)  # a readable replacement


def in_ascii() -> int:
    sys.stdout.reconfigure(encoding="ascii", errors="strict")  # type: ignore[union-attr]
    return trainer_main()
