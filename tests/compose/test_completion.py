"""Tab completion: what is offered, and that three real shells complete after one command has installed it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pexpect
import pytest

from trainer.compose.completion import candidates

BIN = Path(sys.executable).parent

MODELS = ("cnn", "gru", "lstm", "mlp", "tabm", "torchvision")


@pytest.mark.parametrize(
    ("prefix", "words", "offered"),
    [
        ("model=", [], {f"model={name}" for name in MODELS}),
        ("model=cnn,", [], {f"model=cnn,{name}" for name in MODELS}),
        ("precision=", [], {f"precision={each}" for each in ("auto", "fp32", "tf32", "bf16", "fp16")}),
        ("compile=", [], {"compile=true", "compile=false"}),
        ("model.norm=", [], {"model.norm=none", "model.norm=batch"}),
        ("epochs=", [], {"epochs=20"}),
        ("epochs=", ["experiment=mnist_cnn"], {"epochs=10"}),
        ("loss.weight=", [], {"loss.weight=balanced", "loss.weight=null"}),
        ("nowhere=", [], set()),
    ],
)
def test_values_are_those_of_the_type_or_the_config(prefix: str, words: list[str], offered: set[str]) -> None:
    assert set(candidates(prefix, words)) == offered


def test_keys_are_those_of_the_chosen_options_and_come_with_their_sentence() -> None:
    found = candidates("model.", ["model=gru", "epochs=", "optimizer.lrr=1"])
    assert found["model.hidden="] == "width of the state"
    assert "model.channels=" not in found
    assert found["epochs="] == "passes over the training data"
    assert "optimizer.lr=" not in candidates("", [])
    assert "dataset.augment.crop=" in candidates("data", [])


def test_the_users_own_options_and_keys_are_offered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "small.yaml").write_text("# A small one.\ndefaults: [cnn]\n")
    assert candidates("model=", [], str(tmp_path))["model=small"] == "A small one."


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_real_shell_completes_after_one_command(shell: str, tmp_path: Path) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"no {shell} on this machine")
    home = {"HOME": str(tmp_path), "PATH": f"{BIN}:{os.environ['PATH']}", "TERM": "dumb", "SHELL": f"/bin/{shell}"}
    home |= {"PS1": "$ ", "fish_greeting": ""}
    for _ in range(2):  # the second time changes nothing
        done = subprocess.run(
            [BIN / "trainer", "completion"], env=home, capture_output=True, text=True, check=True, cwd=tmp_path
        )
        assert f"completion for {shell} is in" in done.stdout
    (tmp_path / "outputs").mkdir()
    start = tmp_path / f".{shell}rc"
    assert shell == "fish" or start.read_text().count("# tab completion for train") == 1
    terminal = pexpect.spawn(shell, ["-i"], env=home, cwd=str(tmp_path), encoding="utf-8", dimensions=(50, 200))
    try:
        for typed, completed in [
            ("train model=lst", "train model=lstm"),
            ("train model=lstm model.bid", "train model=lstm model.bidirectional="),
            ("train model.norm=bat", "train model.norm=batch"),
            ("train --multir", "train --multirun"),
            ("trainer compl", "trainer completion"),
            ("trainer runs outp", "trainer runs outputs/"),
            ("trainer compare outp", "trainer compare outputs/"),
        ]:
            terminal.send(f"{typed}\t")
            terminal.sendcontrol("a")  # to the start of the line, to print it instead of running it
            terminal.send("echo it is \r")
            terminal.expect_exact(f"it is {completed}", timeout=60)
    finally:
        terminal.close(force=True)
