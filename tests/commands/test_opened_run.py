"""A run that is opened again preprocesses and scores as it did in its evaluation."""

from __future__ import annotations

import resource
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests.made import Made
from trainer.commands.opened_run import answers, load
from trainer.config import ConfigError
from trainer.runs.checkpoint_file import dump, read


@pytest.mark.parametrize("kind", ["image", "sequence", pytest.param("audio", marks=pytest.mark.slow)])
def test_raw_samples_become_the_inputs_of_an_evaluation_bit_for_bit(made: Made, kind: str) -> None:
    trained = load(str(made.run("gru", kind)))
    data = trained.data()
    loader = trained.loader(data, data.test, limited=False)
    scores = dict[int, torch.Tensor]()
    for number, batch in enumerate(loader.epoch()):
        positions = loader.positions(0, number)
        raw = data.test.source.fetch(positions)
        for ours, wanted in zip(trained.read(raw), batch.inputs, strict=True):
            assert torch.equal(ours, wanted)
        scores |= dict(zip(positions.tolist(), trained.scores(raw), strict=True))
    found, loss = answers(trained, data, data.test)
    assert found.positions.tolist() == data.test.positions.tolist()
    wanted = torch.stack([scores[position] for position in found.positions.tolist()])
    assert torch.equal(trained.loss.scores(found.outputs), wanted)
    assert 0 < loss < 10


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda weight: weight.fill_(float("nan")), "holds NaN or infinity"),
        (lambda weight: weight.double(), "is torch.float64 and not torch.float32"),
        (lambda weight: weight > 0, "does not fit the model"),
        (lambda weight: weight[:1], "size mismatch"),
    ],
)
def test_weights_that_the_model_cannot_have_are_refused(
    made: Made, tmp_path: Path, change: Callable[[torch.Tensor], torch.Tensor], said: str
) -> None:
    shutil.copytree(made.run("gru", "image"), tmp_path / "run")
    file = tmp_path / "run" / "checkpoints" / "best.pt"
    state = read(file)
    name = next(iter(state["model"]))
    state["model"][name] = change(state["model"][name])
    file.unlink()
    dump(state, file)
    with pytest.raises(ConfigError, match=said):
        load(str(tmp_path / "run"))


def test_a_config_of_a_larger_model_than_the_weights_takes_no_memory(made: Made, tmp_path: Path) -> None:
    shutil.copytree(made.run("gru", "image"), tmp_path / "run")
    config = tmp_path / "run" / "config.yaml"
    text = config.read_text()
    hidden = next(line for line in text.splitlines() if line.strip().startswith("hidden:"))
    config.write_text(text.replace(hidden, f"{hidden.partition(':')[0]}: 20000"))  # 5 GB
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ConfigError, match="size mismatch"):
        load(str(tmp_path / "run"))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < before + 500_000
