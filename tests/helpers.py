"""What several test modules share."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf
from torch import Tensor, nn

import configs
from trainer.__main__ import main
from trainer.config import GROUPS, ConfigError
from trainer.data import Data
from trainer.data.loader import Loaders, Share, make_loaders
from trainer.spec import Kind, Spec, Task

CONFIGS = Path(configs.__file__).parent


def defaults(group: str, name: str, **changes: Any) -> dict[str, Any]:
    """The keys of a component as its YAML has them, some of them changed."""
    assert group in GROUPS
    keys = OmegaConf.to_container(OmegaConf.load(CONFIGS / group / f"{name}.yaml"))
    assert isinstance(keys, dict)
    assert changes.keys() <= keys.keys(), f"{group}={name} has no {changes.keys() - keys.keys()}"
    return {"name": name, **{str(key): value for key, value in keys.items()}, **changes}


def make_spec(
    kind: Kind,
    shape: tuple[int, ...],
    *,
    task: Task = "classification",
    classes: int = 3,
    counts: tuple[int, ...] = (),
    dataset: str = "made_up",
    num_outputs: int | None = None,
    vocabulary: int | None = None,
    sigmoid: bool = False,
) -> Spec:
    """A spec of samples of any kind; as many outputs as classes unless ``num_outputs`` says otherwise."""
    return Spec(
        dataset=dataset,
        kind=kind,
        shape=shape,
        task=task,
        classes=tuple(f"class{number}" for number in range(classes)),
        counts=counts,
        vocabulary=vocabulary,
        num_outputs=classes if num_outputs is None else num_outputs,
        sigmoid=sigmoid,
    )


def image_spec(channels: int, height: int, width: int, **keys: Any) -> Spec:
    """A spec of images."""
    return make_spec("image", (channels, height, width), **keys)


def table_spec(task: Task, classes: int, **keys: Any) -> Spec:
    """A spec of tables of four numbers, for what only looks at the targets."""
    return make_spec("table", (4,), task=task, classes=classes, **keys)


def assert_close(got: Tensor, wanted: Tensor, tolerance: float = 1e-12) -> None:
    """The same numbers; 1e-12 is float64 for short sums of numbers near 1, whatever their order."""
    torch.testing.assert_close(got, wanted, rtol=tolerance, atol=tolerance)


def double_model(module: nn.Module) -> nn.Module:
    """The module in float64 and in evaluation mode, so that a formula can be compared to the last digits."""
    return module.double().eval()


def torchvision_functional() -> Any:
    """The operations of torchvision on single pictures."""
    importlib.import_module("trainer.data.torchvision_import")  # makes it possible to import torchvision
    return importlib.import_module("torchvision.transforms.v2.functional")


Cell = Callable[[Tensor], Tensor]  # (steps, width) of one sample -> the state after every step, (steps, hidden)


def last_state(sample: Tensor, layers: Sequence[Sequence[Cell]]) -> Tensor:
    """What stacked recurrent layers know of one sample at its end.

    Args:
        sample: (steps, width), nothing of it padding.
        layers: the cells of each layer: one, or one for each direction.

    Returns:
        the last state; of both directions the state after their own last step.
    """
    states: list[Tensor] = []
    for cells in layers:
        states = [cells[0](sample)]
        if len(cells) == 2:
            states.append(cells[1](sample.flip(0)).flip(0))
        sample = torch.cat(states, dim=1)
    return states[0][-1] if len(states) == 1 else torch.cat([states[0][-1], states[1][0]])


def told(capfd: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    """The command ``trainer`` in this process: its exit code, output and errors."""
    capfd.readouterr()
    try:
        code = main([*words])
    except SystemExit as stop:
        code = int(stop.code or 0)
    captured = capfd.readouterr()
    return code, captured.out, captured.err


def looked_into(look: str) -> str:
    """A program that is the command, with a function ``look()`` of its code that is called before the run is imported.

    Args:
        look: its code.
    """
    return f"""
import sys, cli
from trainer import config
{look}
before = config.Settings.replace
def replace(self, **changes):
    look()
    config.Settings.replace = before
    return before(self, **changes)
config.Settings.replace = replace
sys.exit(cli.main())
"""


def loaders_of(data: Data, batch_size: int = 16, seed: int = 0, **keys: Any) -> Loaders:
    """Its loaders on the CPU: one process, nothing limited, unless ``keys`` say otherwise."""
    options: dict[str, Any] = {"limit_batches": None, "overfit_batches": None, "share": Share(batch_size), **keys}
    return make_loaders(data, torch.device("cpu"), seed=seed, batch_size=batch_size, **options)


def everything(data: Data) -> tuple[Tensor, Tensor]:
    """Every sample and target of a data set with one source, in its order."""
    source = data.train.source
    return source.fetch(torch.arange(len(source.targets)))[0], source.targets


def refused(load: Callable[..., Data], path: object, **keys: Any) -> str:
    """The one line with which ``load(path, …)`` is refused."""
    with pytest.raises(ConfigError) as caught:
        load(path, **keys)
    (line,) = caught.value.problems
    assert "\n" not in line
    return line
