"""The design's rules, as tests."""

from __future__ import annotations

import ast
import configparser
import re
import sys
import traceback
from pathlib import Path

import pytest
import torch
from setuptools import find_packages

from tests.conftest import REPOSITORY, Train
from trainer.config import GROUPS

HYDRA = ("trainer.composition", "trainer.guard", "trainer.options", "trainer.overrides")
SOURCES = [
    REPOSITORY / "cli.py",
    *sorted((REPOSITORY / "hydra_plugins").rglob("*.py")),
    *sorted((REPOSITORY / "trainer").rglob("*.py")),
]


def imports(path: Path, *, top_level: bool = False) -> set[str]:
    """The modules that a file imports; with ``top_level``, only those it imports when it is itself imported."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found = set()
    for node in tree.body if top_level else ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {node.module or ""} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_arrows_never_point_up(path: Path) -> None:
    wanted, name = imports(path), str(path.relative_to(REPOSITORY)).removesuffix(".py").replace("/", ".")
    knows_hydra = any(module.split(".")[0] in ("hydra", "omegaconf") for module in wanted)
    assert not knows_hydra or name in ("cli", "hydra_plugins.trainer_sweeps.__init__", *HYDRA)
    assert "trainer.runner" not in wanted or name in (
        "cli",
        "trainer.__init__",
        "trainer.here",
        "trainer.reproduce_command",
        "trainer.reproduce",
        "trainer.survey_command",
        "trainer.trained",
        "trainer.worker",
    )
    if any(module.startswith("torch.distributed") for module in wanted):
        assert name in ("trainer.distributed", "trainer.launch", "trainer.device.fsdp")
    assert "torchvision" not in {module.split(".")[0] for module in wanted}, "import it through trainer.vision"
    group = name.split(".")[1] if name.count(".") == 2 else None
    for module in wanted:
        parts = module.split(".")
        component = parts[0] == "trainer" and len(parts) > 2 and parts[1] in GROUPS and parts[2].islower()
        if component and (REPOSITORY / "trainer" / parts[1] / f"{parts[2]}.py").is_file():
            shared = module.startswith("trainer.logger._jsonl") or (name == "trainer.reading" and parts[2][0] == "_")
            assert parts[1] == group or shared, f"{name} names {module}"
    if group is not None:
        assert not wanted & {"trainer.engine", "trainer.checkpoint", "trainer.record", "trainer.rundir"}


def test_what_answers_at_once_needs_no_torch() -> None:
    names = "__init__ __main__ compare_command completion composition config explain guard launch options overrides"
    names += " plots plugins pool registry runs runs_command search signature spec survey_command sweep sweep_folder"
    names += " sweep_page sweep_table worker yamlfile"
    light = [
        "cli.py",
        "hydra_plugins/trainer_sweeps/__init__.py",
        *(f"trainer/{name}.py" for name in names.split()),
    ]
    for name in [*light, *(f"trainer/{group}/__init__.py" for group in GROUPS)]:
        modules = imports(REPOSITORY / name, top_level=True)
        assert "torch" not in {module.split(".")[0] for module in modules}, name


def test_the_packages_of_the_wheel_are_those_of_the_tree() -> None:
    config = configparser.ConfigParser()
    config.read(REPOSITORY / "setup.cfg")
    listed = set(config["options"]["packages"].split())
    plugins = {"hydra_plugins.trainer_sweeps", "trainer.configs"}
    assert listed == {*find_packages(str(REPOSITORY), include=["trainer*"]), *plugins}


def test_from_the_command_to_the_optimizer_are_four_frames(train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    frames: list[str] = []
    step = torch.optim.Adam.step

    def watched(self: torch.optim.Adam, closure: None = None) -> None:
        if not frames:
            ours = (str(REPOSITORY / "cli.py"), str(REPOSITORY / "trainer"))
            frames.extend(f.name for f in traceback.extract_stack() if f.filename.startswith(ours))
        step(self, closure)

    monkeypatch.setattr(torch.optim.Adam, "step", watched)
    assert train("max_steps=1", "logger=none").code == 0
    assert frames == ["main", "train", "run", "fit", "train_step"]  # main is the door: it turns errors into lines


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
    for path in SOURCES:
        source = path.read_text(encoding="utf-8")
        assert source.count("torch.load(") == source.count("weights_only=True)"), path
        assert "weights_only=False" not in source
        assert "pickle" not in imports(path)
        assert not re.search(r"\binstantiate\b", source), path


def test_the_python_versions_of_the_metadata_include_this_one() -> None:
    config = configparser.ConfigParser()
    config.read(REPOSITORY / "setup.cfg")
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    assert f"Programming Language :: Python :: {version}" in config["metadata"]["classifiers"]
