"""What the README shows is what there is."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY, Train
from trainer.config import GROUPS, registry

README = (REPOSITORY / "README.md").read_text(encoding="utf-8")


def fenced(language: str) -> list[str]:
    """The blocks of code in a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", README, flags=re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("group", GROUPS)
def test_the_table_of_groups_lists_every_option(group: str) -> None:
    (row,) = re.findall(rf"^\| `{group}` \| (.*) \|$", README, flags=re.MULTILINE)
    assert set(registry(group).names()) <= set(re.findall(r"`([a-z0-9_]+)`", row))


def recipes() -> list[str]:
    """The commands of the five recipes."""
    (block,) = [block for block in fenced("bash") if "experiment=mnist_cnn" in block]
    return [line for line in block.replace("\\\n", " ").splitlines() if line.startswith("train")]


@pytest.mark.parametrize("command", recipes())
def test_every_recipe_runs(train: Train, command: str, request: pytest.FixtureRequest) -> None:
    words = shlex.split(command)[1:]
    if "experiment=mnist_cnn" in words:
        words[-1] = f"dataset.root={request.getfixturevalue('data_root')}"
    words = [word.replace("cifar10", "digits") for word in words]  # cifar10 is not here
    words += ["+max_steps=2" if "max_steps" in command else "max_steps=2", "logger=none"]
    result = train(*[word.removeprefix("+") for word in words])
    assert result.code == 0, result.err


def test_the_example_model_trains_and_explains_its_mistakes(tmp_path: Path) -> None:
    for name in ("cli.py", "configs", "trainer"):
        source = REPOSITORY / name
        copy = shutil.copytree if source.is_dir() else shutil.copy
        copy(source, tmp_path / name)
    (code,) = fenced("python")
    (config,) = fenced("yaml")
    (tmp_path / "trainer" / "model" / "mlp.py").write_text(code)
    (tmp_path / "configs" / "model" / "mlp.yaml").write_text(config)

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "cli.py", "model=mlp", "logger=none", *words]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)

    trained = run("epochs=3")
    assert trained.returncode == 0, trained.stderr
    assert "model    mlp, 19,210 parameters" in trained.stdout
    mistaken = run("model.hidden=0")
    assert mistaken.returncode == 2
    assert mistaken.stderr == (
        "train: error: model.hidden: must be a whole number, at least 1, got 0 (from the command line)\n"
    )


def test_links_and_pictures_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)]+)\)", README):
        assert target.startswith("https://") or (REPOSITORY / target).exists(), target


def test_the_project_speaks_of_itself_alone() -> None:
    files = subprocess.run(["git", "ls-files"], cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout
    for name in files.split():
        if Path(name).suffix in {".md", ".py", ".cfg", ".toml", ".yaml"}:
            assert not re.search(r"/(root|work|home)/\w", (REPOSITORY / name).read_text(encoding="utf-8")), name
