"""The design's rules, as tests."""

from __future__ import annotations

import ast
import configparser
import re
import sys
import traceback
from pathlib import Path

import hydra
import pytest
import torch
from setuptools import find_packages

from tests.architecture import ORDER, Source
from tests.conftest import REPOSITORY, Train
from trainer.config import GROUPS
from trainer.config.registry import registry

SOURCE = Source()
# Where Hydra, torch's collectives and torchvision may be imported.
HYDRA = ("trainer.compose", "trainer.sweep.by_hydra", "trainer.sweep.hydra_launcher", "trainer.sweep.start")
COLLECTIVES = ("trainer.processes", "trainer.device.fsdp")
TORCHVISION = "trainer.data.torchvision_import"


def imports(name: str, *, top_level: bool = False) -> set[str]:
    """The modules that a module imports, of other packages too; with ``top_level``, only when it is itself imported."""
    tree, found = SOURCE.trees[name], set()
    for node in tree.body if top_level else ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {node.module or ""} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def test_a_place_imports_only_from_places_below_it() -> None:
    assert {SOURCE.place(name) for name in SOURCE.files} == {place for places in ORDER for place in places}
    assert SOURCE.upward_imports() == []


def test_no_modules_import_each_other() -> None:
    assert SOURCE.circles() == []


def test_a_file_in_trainer_is_the_engine_and_a_folder_is_a_group_or_a_room() -> None:
    assert len(SOURCE.engine_files()) <= 16
    rooms = {"config", "compose", "data", "runs", "processes", "sweep", "commands", "metrics"}
    folders = {path.parent.name for path in (REPOSITORY / "trainer").glob("*/__init__.py")}
    assert folders == {*GROUPS, *rooms}


@pytest.mark.parametrize("name", SOURCE.files)
def test_each_library_has_its_place(name: str) -> None:
    wanted = imports(name)
    if not name.startswith(HYDRA):
        assert not {module.split(".")[0] for module in wanted} & {"hydra", "omegaconf"}
    if not name.startswith(COLLECTIVES):
        assert not [module for module in wanted if module.startswith("torch.distributed")]
    assert "torchvision" not in {module.split(".")[0] for module in wanted}, f"import it from {TORCHVISION}"


@pytest.mark.parametrize("name", SOURCE.files)
def test_a_component_names_no_component_of_another_group(name: str) -> None:
    for other in SOURCE.imports[name]:
        _, *place = other.split(".")
        if len(place) == 2 and place[0] in GROUPS and place[1] in registry(place[0]).names():
            assert SOURCE.place(name) == place[0]


LIGHT_ROOMS = ("config", "compose", "runs", "sweep")
LIGHT = (
    *("cli", "trainer", "trainer.__main__", "trainer.spec", "trainer.worker"),
    *(f"trainer.processes.{name}" for name in ("launch", "leader", "signals", "world")),
    *(
        "trainer.commands",
        "trainer.commands.compare",
        "trainer.commands.completion",
        "trainer.commands.runs",
        "trainer.commands.text_table",
        "trainer.commands.pages.plots",
    ),
    *(f"trainer.{group}" for group in GROUPS),
    *(name for name in SOURCE.files if name.endswith(".command") or SOURCE.place(name) in LIGHT_ROOMS),
)


@pytest.mark.parametrize("name", [name for name in LIGHT if name != "trainer.runs.environment"])
def test_what_answers_at_once_needs_no_torch(name: str) -> None:
    waiting, seen = [name], set[str]()
    while waiting:  # what it imports when it is imported, and what that imports
        module = waiting.pop()
        seen.add(module)
        wanted = imports(module, top_level=True)
        assert "torch" not in {each.split(".")[0] for each in wanted}, module
        waiting += [each for each in wanted if each in SOURCE.files and each not in seen]


def test_the_packages_of_the_wheel_are_those_of_the_tree() -> None:
    config = configparser.ConfigParser()
    config.read(REPOSITORY / "setup.cfg")
    listed = set(config["options"]["packages"].split())
    assert listed == {*find_packages(str(REPOSITORY), include=["trainer*"]), "trainer.configs"}


def test_from_the_command_to_the_optimizer_are_four_frames(train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    frames: list[str] = []
    step = torch.optim.Adam.step

    def watched(self: torch.optim.Adam, closure: None = None) -> None:
        if not frames:
            hydra_folder = str(Path(hydra.__file__).parent)
            counted = (str(REPOSITORY / "cli.py"), str(REPOSITORY / "trainer"), hydra_folder)
            frames.extend(f.name for f in traceback.extract_stack() if f.filename.startswith(counted))
        step(self, closure)

    monkeypatch.setattr(torch.optim.Adam, "step", watched)
    assert train("max_steps=1", "logger=none").code == 0
    assert frames == ["main", "run", "fit", "train_step"]


def test_the_loop_fits_on_a_screen() -> None:
    tree = ast.parse((REPOSITORY / "trainer" / "engine.py").read_text())
    sizes = {
        node.name: (node.end_lineno or 0) - node.lineno + 1
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef)
    }
    assert sizes["fit"] + sizes["train_step"] <= 60
    assert max(sizes.values()) <= 40


def test_no_pickle_is_ever_trusted() -> None:
    for name, path in SOURCE.files.items():
        source = path.read_text(encoding="utf-8")
        assert source.count("torch.load(") == source.count("weights_only=True)"), path
        assert "weights_only=False" not in source
        assert "pickle" not in imports(name)
        assert not re.search(r"\binstantiate\b", source), path


def test_the_python_versions_of_the_metadata_include_this_one() -> None:
    config = configparser.ConfigParser()
    config.read(REPOSITORY / "setup.cfg")
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    assert f"Programming Language :: Python :: {version}" in config["metadata"]["classifiers"]
