"""How long idle threads of torch spin."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from trainer.processes import threads


@pytest.mark.parametrize("program", ["cli.main(['--version'])", "trainer.__main__.main(['runs'])"])
def test_both_programs_limit_how_long_idle_threads_spin_before_torch_is_imported(program: str, tmp_path: Path) -> None:
    code = (
        f"import os, sys, cli, trainer.__main__; {program}; print(os.environ['GOMP_SPINCOUNT'], 'torch' in sys.modules)"
    )
    environment = {name: value for name, value in os.environ.items() if name not in threads.CHOICES}
    environment["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    done = subprocess.run(
        [sys.executable, "-c", code], check=False, cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.stdout.splitlines()[-1] == f"{threads.ROUNDS} False", done.stderr


@pytest.mark.parametrize("name", threads.CHOICES)
def test_what_the_user_has_chosen_for_idle_threads_stays(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for choice in threads.CHOICES:
        monkeypatch.delenv(choice, raising=False)
    monkeypatch.setenv(name, "chosen")
    threads.limit_spinning()
    assert {choice: os.environ[choice] for choice in threads.CHOICES if choice in os.environ} == {name: "chosen"}
