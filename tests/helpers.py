"""Helpers that several test modules use."""

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
from trainer.data import Data, ReadOptions
from trainer.data.loader import Loaders, Share, make_loaders
from trainer.dataset import DATASETS
from trainer.spec import Kind, Spec, Task

CONFIGS = Path(configs.__file__).parent


def defaults(group: str, /, name: str, **changes: Any) -> dict[str, Any]:
    """Return the keys of a component from its YAML, with some of them changed."""
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
    num_samples: int = 0,
    dataset: str = "made_up",
    num_outputs: int | None = None,
    vocabulary: int | None = None,
    sigmoid: bool = False,
) -> Spec:
    """Return a spec of samples of any kind, by default with one output for each class."""
    return Spec(
        dataset=dataset,
        kind=kind,
        shape=shape,
        task=task,
        classes=tuple(f"class{number}" for number in range(classes)),
        counts=counts,
        num_samples=num_samples,
        vocabulary=vocabulary,
        num_outputs=classes if num_outputs is None else num_outputs,
        sigmoid=sigmoid,
    )


def image_spec(channels: int, height: int, width: int, **keys: Any) -> Spec:
    return make_spec("image", (channels, height, width), **keys)


def table_spec(task: Task, classes: int, **keys: Any) -> Spec:
    """Return a spec of tables of four numbers, for tests that depend on the targets only."""
    return make_spec("table", (4,), task=task, classes=classes, **keys)


def assert_close(got: Tensor, wanted: Tensor, tolerance: float = 1e-12) -> None:
    """Assert equal numbers; 1e-12 allows for another order of summation of a few float64 numbers near 1."""
    torch.testing.assert_close(got, wanted, rtol=tolerance, atol=tolerance)


def double_model(module: nn.Module) -> nn.Module:
    """Convert a module to float64 and evaluation mode, so that a formula can be compared to the last digits."""
    return module.double().eval()


def torchvision_functional() -> Any:
    """Return torchvision's operations on single pictures."""
    importlib.import_module("trainer.data.torchvision_import")  # prepares the import of torchvision
    return importlib.import_module("torchvision.transforms.v2.functional")


Cell = Callable[[Tensor], Tensor]  # (steps, width) of one sample -> the state after every step, (steps, hidden)


def last_state(sample: Tensor, layers: Sequence[Sequence[Cell]]) -> Tensor:
    """Return the last state of stacked recurrent layers for one sample.

    Args:
        sample: (steps, width), without padding.
        layers: the cells of each layer: one, or one for each direction.

    Returns:
        the state after the last step of each direction, joined.
    """
    states: list[Tensor] = []
    for cells in layers:
        states = [cells[0](sample)]
        if len(cells) == 2:
            states.append(cells[1](sample.flip(0)).flip(0))
        sample = torch.cat(states, dim=1)
    return states[0][-1] if len(states) == 1 else torch.cat([states[0][-1], states[1][0]])


def told(capfd: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    """Run the command ``trainer`` in this process; return its exit code, output and errors."""
    capfd.readouterr()
    try:
        code = main([*words])
    except SystemExit as stop:
        code = int(stop.code or 0)
    captured = capfd.readouterr()
    return code, captured.out, captured.err


def refusal(command: str, capfd: pytest.CaptureFixture[str], *words: object) -> str:
    """Run a command of ``trainer`` that is wrong; return the one line with which it refuses."""
    code, out, err = told(capfd, command, *map(str, words))
    assert (code, out, err.count("\n")) == (2, "", 1), err
    return err


def looked_into(look: str) -> str:
    """Return a program that is the command and calls a function ``look()`` before it imports ``trainer.runner``.

    Args:
        look: the code of the function.
    """
    return f"""
import sys, cli
from trainer import config
{look}
before = config.Job.__init__
def first(self, *arguments, **keys):
    look()
    config.Job.__init__ = before
    before(self, *arguments, **keys)
config.Job.__init__ = first
sys.exit(cli.main())
"""


def loaders_of(data: Data, batch_size: int = 16, seed: int = 0, **keys: Any) -> Loaders:
    """Return loaders on the CPU for one process and all batches, unless ``keys`` say otherwise."""
    options: dict[str, Any] = {"limit_batches": None, "overfit_batches": None, "share": Share(batch_size), **keys}
    return make_loaders(data, torch.device("cpu"), seed=seed, batch_size=batch_size, **options)


def cells(rows: Sequence[str], columns: Sequence[str]) -> list[Any]:
    """Return the cells of a matrix as pytest parameters; those outside the first row and the first column are slow."""
    return [
        pytest.param(row, column, marks=[pytest.mark.slow] * (row != rows[0] and column != columns[0]))
        for row in rows
        for column in columns
    ]


def load_data(name: str, path: object, seed: int = 0, **keys: Any) -> Data:
    """Return a checked data set of own files; ``path`` is the key ``dataset.path``, with paths of any type."""
    place = {split: str(each) for split, each in path.items()} if isinstance(path, dict) else str(path)
    known = defaults("dataset", name, path=place)
    assert keys.keys() <= known.keys(), f"dataset={name} has no {keys.keys() - known.keys()}"
    data: Data = DATASETS.build({**known, **keys}, seed, options=ReadOptions())
    data.check()
    return data


def assert_same_batches(*both: Data) -> None:
    """Assert that the second epoch of every split has every sample, in the same batches, bit for bit."""
    loaders = [loaders_of(each, 4, seed=3) for each in both]
    for name, split in both[0].splits().items():
        one, other = (list(getattr(each, name).epoch(1)) for each in loaders)
        assert sum(len(batch.targets) for batch in one) == len(split) > 0
        for first, second in zip(one, other, strict=True):
            assert torch.equal(first.targets, second.targets)
            assert len(first.inputs) == len(second.inputs)
            assert all(map(torch.equal, first.inputs, second.inputs))
    for each in loaders:
        each.close()


def everything(data: Data) -> tuple[Tensor, Tensor]:
    """Return every training sample and target in the order of the source."""
    source = data.train.source
    return source.fetch(torch.arange(len(source.targets)))[0], source.targets


def refused(load: Callable[..., Data], path: object, **keys: Any) -> str:
    """Return the one line with which ``load(path, …)`` refuses."""
    with pytest.raises(ConfigError) as caught:
        load(path, **keys)
    (line,) = caught.value.problems
    assert "\n" not in line
    return line


def random_answers(samples: int, classes: int, *, ties: bool = False) -> tuple[Tensor, Tensor]:
    """Return probabilities, (samples, classes), that favour the true class, and the true classes, (samples,)."""
    maker = torch.Generator().manual_seed(samples + classes)
    logits = torch.randn(samples, classes, generator=maker)
    targets = torch.randint(classes, (samples,), generator=maker)
    logits[torch.arange(samples), targets] += 1
    return (logits.round() if ties else logits).softmax(1), targets
