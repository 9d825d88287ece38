"""What the README shows is what there is."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY, Train
from tests.forked import forked
from trainer.config import GROUPS
from trainer.config.registry import registry

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
    words += ["+max_steps=2" if "max_steps" in command else "max_steps=2", "limit_batches=2", "logger=none"]
    result = train(*[word.removeprefix("+") for word in words])
    assert result.code == 0, result.err


@pytest.mark.parametrize(
    "command", [line for block in fenced("bash") if "plugins" in block for line in block.splitlines()]
)
def test_the_walk_through_the_example_works_as_it_stands_there(command: str, tmp_path: Path) -> None:
    shutil.copytree(REPOSITORY / "examples", tmp_path / "examples")
    done = typed(command, tmp_path)
    assert done.returncode == 0, done.stderr
    shown = next((block for block in fenced("text") if block.startswith(done.stdout.splitlines()[0])), "")
    if "--help" in command:
        assert done.stdout == shown
    elif "experiment" in command:
        kept = [line for line in shown.splitlines() if line != "…"]
        assert [line for line in done.stdout.splitlines() if line in kept] == kept


@pytest.mark.parametrize("block", [block for block in fenced("text") if re.match(r"\$ train.*\ntrain: error: ", block)])
def test_the_mistakes_shown_are_answered_so(block: str, tmp_path: Path) -> None:
    shutil.copytree(REPOSITORY / "examples", tmp_path / "examples")
    command, *answer = block.removeprefix("$ ").splitlines()
    done = typed(command, tmp_path)
    assert done.returncode == 2
    assert sorted(done.stderr.splitlines()) == sorted(answer)


def test_where_a_loss_went_wrong_is_said_as_it_is_shown(tmp_path: Path) -> None:
    (block,) = [block for block in fenced("text") if block.startswith("train: error: the loss is")]
    (command,) = re.findall(r"^counts them. Of `(train .*)`:$", README, flags=re.MULTILINE)
    done = typed(command, tmp_path)
    assert done.returncode == 1
    assert done.stderr.partition(" (the log")[0] == block.partition(" (the log")[0]


def test_the_code_of_the_walk_through_is_that_of_the_example() -> None:
    example = (REPOSITORY / "examples" / "iris" / "flowers.py").read_text(encoding="utf-8")
    assert fenced("python")[0] in example


def test_the_python_way_gives_a_summary_and_a_model(tmp_path: Path) -> None:
    code = fenced("python")[1] + "assert summary['state'] == 'finished' and not model.training\n"
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, check=True, capture_output=True)
    assert list(tmp_path.glob("outputs/*/*-gru-digits/summary.json"))


def typed(command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """A command of the README, by this checkout."""
    return forked(shlex.split(command)[1:], folder, {"PATH": os.environ["PATH"], "COLUMNS": "120"})


def test_links_and_pictures_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)]+)\)", README):
        assert target.startswith("https://") or (REPOSITORY / target).exists(), target


def test_the_project_speaks_of_itself_alone() -> None:
    files = subprocess.run(["git", "ls-files"], cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout
    for name in files.split():
        if Path(name).suffix in {".md", ".py", ".cfg", ".toml", ".yaml"}:
            assert not re.search(r"/(root|work|home)/\w", (REPOSITORY / name).read_text(encoding="utf-8")), name
