"""A run that is opened again preprocesses and scores as it did in its evaluation."""

from __future__ import annotations

import pytest
import torch

from tests.made import Made
from trainer.commands.opened_run import answers, load


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
