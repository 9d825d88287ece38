"""The exported versions of features are those of training."""

from __future__ import annotations

import pytest
import torch

from tests.helpers import assert_close
from trainer.commands.export.layers import ExportedLogMel, ExportedRawSteps
from trainer.data import audio


@pytest.mark.parametrize("samples", [1, 199, 200, 201, 280, 281, 999])
def test_spectrograms_of_any_length_are_those_of_training(samples: int) -> None:
    waves = torch.randn(2, samples, generator=torch.Generator().manual_seed(0)) / 10
    lengths = torch.tensor([samples, (samples + 1) // 2])
    for features, exported in (
        (made_logmel := audio.LogMel.make(8000, 200, 80, 40), ExportedLogMel(made_logmel)),
        (raw := audio.RawSteps(8000, 80), ExportedRawSteps(raw)),
    ):
        axis = 1 if features is raw else 2
        wanted, steps = features((waves, lengths))
        found, found_steps = exported((waves, lengths))
        assert found_steps.tolist() == steps.tolist()
        assert_close(found.narrow(axis, 0, wanted.shape[axis]), wanted, 1e-6)
