"""The wheel, built and used for real."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY


@pytest.mark.slow
def test_the_wheel_carries_configs_and_digits_and_trains_from_anywhere(tmp_path: Path) -> None:
    source = tmp_path / "source"
    subprocess.run(["git", "clone", "-q", str(REPOSITORY), str(source)], check=True)
    build = [sys.executable, "-m", "build", "--wheel", "--outdir", str(tmp_path), str(source)]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    for path in (REPOSITORY / "configs").rglob("*.yaml"):
        assert f"trainer/configs/{path.relative_to(REPOSITORY / 'configs')}" in names
    for path in (REPOSITORY / "trainer").rglob("*.py"):
        assert str(path.relative_to(REPOSITORY)) in names
    for path in (REPOSITORY / "trainer" / "commands" / "pages").iterdir():
        assert path.suffix not in (".html", ".css") or str(path.relative_to(REPOSITORY)) in names
    assert "trainer/dataset/digits.safetensors" in names
    subprocess.run([sys.executable, "-m", "venv", "--system-site-packages", str(tmp_path / "venv")], check=True)
    # the interpreter's own environment holds torch; the new one is put in front of it
    site = next((tmp_path / "venv" / "lib").iterdir()) / "site-packages"
    (site / "parent.pth").write_text("\n".join(path for path in sys.path if path.endswith("site-packages")))
    install = ["install", "-q", "--no-deps", "--force-reinstall", str(wheel)]
    subprocess.run([str(tmp_path / "venv" / "bin" / "pip"), *install], check=True)
    empty = tmp_path / "empty"
    empty.mkdir()
    python, train, trainer = (str(tmp_path / "venv" / "bin" / name) for name in ("python", "train", "trainer"))
    outputs = []
    for command in ([train], [python, "-m", "cli"], [python, "-m", "trainer"], [trainer], [trainer, "train"]):
        for words in (["max_steps=2", "seed=3"], ["--help", "model=gru"], ["--cfg", "job"], ["optimizer.lrr=3"]):
            done = subprocess.run([*command, *words], cwd=empty, capture_output=True, text=True, check=False)
            lines = [line for line in done.stdout.splitlines() if not line.startswith(("epoch", "run", "next"))]
            outputs.append((words, done.returncode, lines, done.stderr))
    assert outputs[0][1] == 0, outputs[0]
    assert "test     loss" in "\n".join(outputs[0][2])
    for number, output in enumerate(outputs):
        assert output == outputs[number % 4]
    assert len(list(empty.glob("outputs/*/*/summary.json"))) == 5
    digits = subprocess.run(
        [python, "-c", "import trainer; print(trainer.__file__)"], cwd=empty, capture_output=True, text=True, check=True
    )
    assert str(tmp_path / "venv") in digits.stdout, "not the wheel was tried"


@pytest.mark.slow
def test_the_checkout_works_from_any_folder_and_in_every_way(tmp_path: Path) -> None:
    """The editable install is the environment that the tests run in."""
    answers = []
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "PYTHONPATH": str(REPOSITORY)}
    for command in (["cli.py"], ["-m", "cli"], ["-m", "trainer"], ["-m", "trainer", "train"]):
        where = REPOSITORY if command == ["cli.py"] else tmp_path
        for words in (["--help", "model=lstm"], ["model=lstn"]):
            done = subprocess.run(
                [sys.executable, *command, *words],
                cwd=where,
                env=environment,
                capture_output=True,
                text=True,
                check=False,
            )
            answers.append((done.returncode, done.stdout, done.stderr))
    assert [answer[0] for answer in answers] == [0, 2] * 4
    assert answers == answers[:2] * 4
