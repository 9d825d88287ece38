"""Fixtures: commands that run in this process, and the folder of real data."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")  # set before torch is imported, because test processes share the cores

import torch
from hydra.core.config_store import ConfigStore

import cli
from trainer.compose import plugins
from trainer.config.registry import registries
from trainer.metrics import METRICS

REPOSITORY = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Result:
    """The exit code, the output and the working directory of a command."""

    code: int
    out: str
    err: str
    folder: Path

    @property
    def run_dirs(self) -> list[Path]:
        return sorted(path.parent for path in self.folder.glob("outputs/**/config.yaml"))

    @property
    def run_dir(self) -> Path:
        (run_dir,) = self.run_dirs
        return run_dir

    @property
    def summary(self) -> dict[str, Any]:
        summary: dict[str, Any] = json.loads((self.run_dir / "summary.json").read_text())
        return summary

    def points(self, name: str) -> list[float]:
        """The values of a curve in metrics.jsonl."""
        lines = map(json.loads, (self.run_dir / "metrics.jsonl").read_text().splitlines())
        return [line[name] for line in lines if name in line]


Train = Callable[..., Result]


@pytest.fixture(autouse=True)
def same_numbers_every_time() -> None:
    torch.manual_seed(0)


@pytest.fixture
def train(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Iterator[Train]:
    """Return a function that runs the command ``train`` in this process, each call in a new, empty folder."""
    threads, calls = torch.get_num_threads(), 0

    def run(*words: str) -> Result:
        nonlocal calls
        calls += 1
        folder = tmp_path / f"call{calls}"
        folder.mkdir()
        monkeypatch.chdir(folder)
        monkeypatch.setattr(sys, "argv", ["train", *words])
        monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)
        capfd.readouterr()
        try:
            code = cli.main()
        except SystemExit as stop:  # Hydra's own --help exits
            code = int(stop.code or 0)
        captured = capfd.readouterr()
        return Result(code, captured.out, captured.err, folder)

    yield run
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(False)


@pytest.fixture
def forgets(tmp_path: Path) -> Iterator[None]:
    """Remove the components that a test registers in this process from files of its folder."""
    path = list(sys.path)
    yield
    sys.path[:] = path
    modules = {
        name for name, module in sys.modules.items() if str(getattr(module, "__file__", "")).startswith(str(tmp_path))
    }
    for group, registry in registries().items():
        for name in registry.own():
            registry._components.pop(name, None)
            registry._declared.pop(name, None)
            ConfigStore.instance().repo.get(group, {}).pop(f"{name}.yaml", None)
    for key in [key for key, metric in METRICS.items() if metric.compute.__module__ in modules]:
        del METRICS[key]
        plugins._metrics.pop(key[0], None)
    for name in modules:
        del sys.modules[name]


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Show the tables that tests recorded as properties."""
    for report in terminalreporter.stats.get("passed", []):
        for name, value in getattr(report, "user_properties", []):
            if name == "table":
                terminalreporter.section(report.nodeid.rpartition("::")[2].replace("_", " "))
                terminalreporter.line(str(value))


@pytest.fixture(scope="session")
def data_root() -> Path:
    """Return the folder of real data, beside the checkout or named by TRAINER_TEST_DATA; skip if there is none."""
    root = Path(os.environ.get("TRAINER_TEST_DATA", REPOSITORY.parent / "shared" / "data"))
    if not (root / "MNIST" / "raw" / "train-images-idx3-ubyte").is_file():
        pytest.skip(f"no MNIST files in {root}; set TRAINER_TEST_DATA")
    return root
