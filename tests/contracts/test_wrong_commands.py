"""Every command of ``wrong_commands.txt``: exit code 2, a line for each mistake, no stack, nothing written."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from tests.conftest import Train

HERE = Path(__file__).parent
COMMANDS = [
    (words.strip(), [part.strip() for part in wanted.split(" | ")])
    for line in (HERE / "wrong_commands.txt").read_text(encoding="utf-8").splitlines()
    if " => " in line and not line.startswith("#")
    for words, wanted in [line.split(" => ", 1)]
]


@pytest.fixture(scope="session")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A stranger's config folder."""
    folder = tmp_path_factory.mktemp("strange") / "configs"
    shutil.copytree(HERE.parent / "stranger", folder)
    (folder / "model" / "bin.yaml").write_bytes(b"name: \xff\xfe\n")
    (folder / "model" / "deep.yaml").write_text("name: cnn\nchannels: " + "[" * 20_000 + "]" * 20_000 + "\n")
    return folder


def test_there_are_enough_of_them() -> None:
    assert len(COMMANDS) >= 200
    assert len({words for words, _ in COMMANDS}) == len(COMMANDS)


# A command takes a quarter of a second, so the default suite has every fourth one; the file lists them by kind, so that
# every kind is there. A sweep of 1,002 values takes some 15 s to check.
CASES = [
    pytest.param(words, wanted, id=words, marks=[pytest.mark.slow] * (number % 4 > 0 or "range(1002" in words))
    for number, (words, wanted) in enumerate(COMMANDS)
]


@pytest.mark.parametrize(("command", "wanted"), CASES)
def test_a_wrong_command_is_one_line_for_each_mistake(
    train: Train, stranger: Path, command: str, wanted: list[str]
) -> None:
    words = command.replace("{stranger}", str(stranger)).split(" ")
    before = {path: path.stat().st_mtime_ns for path in stranger.rglob("*")}
    result = train(*words)
    lines = result.err.splitlines()
    assert result.code == 2, result.err
    assert result.out == ""
    assert list(result.folder.iterdir()) == []
    assert {path: path.stat().st_mtime_ns for path in stranger.rglob("*")} == before
    assert all(line.startswith("train: error: ") for line in lines), result.err
    places = {"{stranger}": str(stranger), "{at}": f"{stranger}/experiment/"}
    for part in wanted:
        text = re.sub("|".join(map(re.escape, places)), lambda found: places[found[0]], part)
        assert any(text in line for line in lines), f"{text}\nis not in\n{result.err}"
    assert len(lines) == len(wanted), result.err
