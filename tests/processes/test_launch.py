"""Processes that the command starts, from Python too, and the checks before their start."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from tests.conftest import REPOSITORY
from trainer import compose, run
from trainer.config import ConfigError
from trainer.device._placement import Placement
from trainer.model import MODELS
from trainer.processes.launch import _time_to_save, launch, needs_launch
from trainer.processes.signals import REASONS
from trainer.processes.world import SECONDS_TO_SAVE, current_world, job_from_plain, job_to_plain
from trainer.spec import Spec


class OldConfig:
    """As torch's ``LaunchConfig`` in 2.11."""

    __dataclass_fields__: ClassVar[dict[str, Any]] = {}


class OldProcesses:
    """As torch's ``PContext`` in 2.11."""

    def close(self, death_sig: signal.Signals | None = None, timeout: int = 30) -> int:
        return timeout


def test_processes_have_time_to_save_also_with_a_torch_that_has_no_key_for_it() -> None:
    assert _time_to_save(OldConfig, OldProcesses) == {}
    assert OldProcesses().close(signal.SIGTERM) == SECONDS_TO_SAVE


@pytest.mark.slow
def test_from_python_the_model_comes_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names = ("TRAINER_JOB", "OMP_NUM_THREADS", "TORCH_CPP_LOG_LEVEL")

    def surroundings() -> object:
        return [os.environ.get(name) for name in names], [signal.getsignal(number) for number in REASONS]

    before = surroundings()
    words = ("model.norm=batch", "epochs=1", "logger=none", "run_dir=run")
    summary, model = run(compose(*words, "device=ddp", "device.processes=2"))
    assert (summary["state"], summary["run_dir"], model.training) == ("finished", "run", False)
    best = load_file(tmp_path / "run" / "checkpoints" / "best.safetensors")
    assert all(torch.equal(best[name], weight) for name, weight in model.state_dict().items())
    assert surroundings() == before


def test_a_component_of_this_process_alone_is_refused(forgets: None) -> None:
    @MODELS.register
    class OfANotebook(nn.Module):
        def __init__(self, spec: Spec) -> None:
            super().__init__()

    settings = compose("model=of_a_notebook", "device=ddp", "device.processes=2")
    with pytest.raises(ConfigError, match=r"model=of_a_notebook: is known to this process only; device=ddp needs"):
        launch(settings)


def test_settings_reach_another_process_as_they_are() -> None:
    job = compose("model=gru", "optimizer.lr=1e-3", "logger=[tensorboard,csv]", "device=ddp", "device.processes=2")
    assert job_from_plain(job_to_plain(job)).replace(sweep_dir=job.settings.sweep_dir) == job


def test_who_is_alone_and_who_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    ddp = compose("device=ddp").settings
    assert current_world() is None and needs_launch(ddp) and not needs_launch(compose("device=cpu").settings)
    variables = {"RANK": "1", "WORLD_SIZE": "4", "MASTER_ADDR": "a", "MASTER_PORT": "29500", "LOCAL_RANK": "0"}
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    world = current_world()
    assert world is not None and (world.rank, world.size, world.local_rank, world.hosted) == (1, 4, 0, False)
    assert not needs_launch(ddp)
    monkeypatch.setenv("RANK", "one")
    with pytest.raises(ConfigError, match="RANK, WORLD_SIZE and MASTER_PORT must be numbers"):
        current_world()


def test_the_command_needs_no_torch_before_it_starts_processes() -> None:
    code = "import sys, cli, trainer.processes.launch; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_a_placement_is_the_model_as_it_is() -> None:
    model = nn.Linear(2, 2)
    placement = Placement(torch.device("cpu"))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    assert placement.prepare(model) is model and placement.wrap(model, None, optimizer) is model
    assert placement.gathered(model) is model and placement.gathered(optimizer) is optimizer
