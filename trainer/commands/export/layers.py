"""The module that is exported: from raw samples to scores, with all numerical preprocessing.

Nothing in the module depends on the number of samples in a batch, or on the number of steps where they vary.
"""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trainer.data import Normalise
from trainer.data.audio import FLOOR, LogMel, RawSteps, transform_size
from trainer.data.data import Features
from trainer.data.preprocess import to_model_inputs
from trainer.data.sources import Inputs, keep, valid_steps
from trainer.loss import Loss
from trainer.spec import Spec


class ExportedModel(nn.Module):
    """A model with its preprocessing before it and the scores of its loss behind it.

    Args:
        spec: the spec of the model.
        model: with its weights, in evaluation mode.
        loss: turns outputs into scores.
        features, normalise: as in ``Data``.

    Raises:
        TypeError: there is no exported version of the features.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self, spec: Spec, model: nn.Module, loss: Loss, features: Features | None, normalise: Normalise | None
    ) -> None:
        super().__init__()
        self.model, self.loss = model, cast(nn.Module, loss)
        self.features = None if features is None else _exported(features)
        self.step_axis = spec.step_axis
        self.raw_step_axis = spec.step_axis if features is None else 1  # waves are (batch, samples)
        self.channel_axis = None if normalise is None else normalise.axis
        if normalise is not None:
            self.register_buffer("mean", normalise.mean)
            self.register_buffer("std", normalise.std)

    def forward(self, inputs: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Return the scores (batch, classes, labels or values) of raw samples.

        Args:
            inputs: (batch, …) raw samples.
            lengths: (batch,) int64, the steps of each sample where they vary; the padding may hold any values.
        """
        raw: Inputs = (inputs,)
        if lengths is not None:
            axis = self.raw_step_axis
            raw = keep(inputs, valid_steps(lengths, inputs.shape[axis]), axis), lengths
        normalise = None if self.channel_axis is None else Normalise(self.mean, self.std, self.channel_axis)
        outputs = self.model(*to_model_inputs(raw, self.features, normalise, self.step_axis))
        return cast(Loss, self.loss).scores(outputs.float())


def _exported(features: Features) -> nn.Module:
    if isinstance(features, LogMel):
        return ExportedLogMel(features)
    if isinstance(features, RawSteps):
        return ExportedRawSteps(features)
    raise TypeError(f"there is no way to export {type(features).__name__}")


class ExportedLogMel(nn.Module):
    """``LogMel`` for waves of any length. The result has more frames of padding, which the lengths do not count.

    In ``torch.export`` the Fourier transform is that of torch, as in training. In ONNX it is a convolution with cosines
    and sines of the frequencies that belong to a band. All programs that read ONNX have convolutions, and in float32
    the result is more exact than that of ONNX's own transform.
    """

    hann: Tensor
    filters: Tensor
    waves: Tensor
    used: Tensor
    floor: Tensor

    def __init__(self, features: LogMel) -> None:
        super().__init__()
        self.window, self.hop = len(features.hann), features.hop
        self.size = transform_size(self.window)
        used = features.filters.any(1).nonzero().squeeze(1)
        steps = torch.arange(self.window, dtype=torch.float64)
        angles = 2 * torch.pi * used[:, None] * steps / self.size
        waves = torch.cat([angles.cos(), angles.sin()]) * features.hann.double()
        self.register_buffer("hann", features.hann)
        self.register_buffer("filters", features.filters)
        self.register_buffer("waves", waves.float().unsqueeze(1))
        self.register_buffer("used", features.filters.index_select(0, used))
        # one number for each band: the ONNX optimiser takes a single number this small for zero, and drops it
        self.register_buffer("floor", torch.full((features.filters.shape[1],), FLOOR))

    def forward(self, inputs: Inputs) -> Inputs:
        """Return (batch, 1, frames, bands) and lengths in frames of (batch, samples) waves and their lengths."""
        waves, lengths = inputs
        padded = F.pad(waves, [0, self.window + self.hop - 1])
        if torch.onnx.is_in_onnx_export():
            squares = F.conv1d(padded.unsqueeze(1), self.waves, stride=self.hop).square()
            real, imaginary = squares.chunk(2, dim=1)
            power, filters = (real + imaginary).transpose(1, 2), self.used
        else:
            spectrum = torch.fft.rfft(padded.unfold(1, self.window, self.hop) * self.hann, n=self.size)
            power, filters = spectrum.real.square() + spectrum.imag.square(), self.filters
        bands = (power @ filters + self.floor).log()
        return bands.unsqueeze(1), 1 + ((lengths - self.window).clamp_min(0) + self.hop - 1) // self.hop


class ExportedRawSteps(nn.Module):
    """``RawSteps`` for waves of any length. The result has one more step of padding, which the lengths do not count."""

    def __init__(self, features: RawSteps) -> None:
        super().__init__()
        self.hop = features.hop

    def forward(self, inputs: Inputs) -> Inputs:
        """Return (batch, steps, hop) and lengths in steps of (batch, samples) waves and their lengths."""
        waves, lengths = inputs
        padded = F.pad(waves, [0, 2 * self.hop - 1])
        starts = torch.arange(padded.shape[1] // self.hop, device=waves.device) * self.hop
        places = starts[:, None] + torch.arange(self.hop, device=waves.device)
        return padded[:, places], (lengths + self.hop - 1) // self.hop
