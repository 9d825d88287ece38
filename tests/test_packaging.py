"""The wheel, built and used for real."""

from __future__ import annotations

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
    assert "trainer/dataset/digits.safetensors" in names
    subprocess.run([sys.executable, "-m", "venv", "--system-site-packages", str(tmp_path / "venv")], check=True)
    # the interpreter's own environment holds torch; the new one is put in front of it
    site = next((tmp_path / "venv" / "lib").iterdir()) / "site-packages"
    (site / "parent.pth").write_text("\n".join(path for path in sys.path if path.endswith("site-packages")))
    install = ["install", "-q", "--no-deps", "--force-reinstall", str(wheel)]
    subprocess.run([str(tmp_path / "venv" / "bin" / "pip"), *install], check=True)
    (tmp_path / "empty").mkdir()
    done = subprocess.run(
        [str(tmp_path / "venv" / "bin" / "train"), "max_steps=2"],
        cwd=tmp_path / "empty",
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert list(tmp_path.glob("empty/outputs/*/*/summary.json"))
