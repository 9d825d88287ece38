"""What a model's file for other programs computes: raw samples -> preprocessing -> model -> scores, as one module.

Nothing in it depends on how many samples a batch has, or on how many steps a sample has where they vary.
"""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trainer.data import Normalise
from trainer.data.audio import FLOOR, LogMel, RawSteps, transform_size
from trainer.data.data import Features, keep, valid_steps
from trainer.loss import Loss
from trainer.spec import Spec


class Whole(nn.Module):
    """All that lies between a raw sample and its scores.

    Args:
        spec: what the model reads and answers.
        model: with the weights, in evaluation mode.
        loss: turns outputs into scores.
        features, normalise: as in ``Data``.

    Raises:
        TypeError: the features are of a kind that is not known here.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self, spec: Spec, model: nn.Module, loss: Loss, features: Features | None, normalise: Normalise | None
    ) -> None:
        super().__init__()
        self.model, self.loss = model, cast(nn.Module, loss)
        self.features = None if features is None else _features(features)
        self.step_axis = spec.step_axis
        self.raw_axis = spec.step_axis if features is None else 1
        self.normalised = normalise is not None
        if normalise is not None:
            shape = [1] * (len(spec.shape) + 1)
            shape[normalise.axis] = -1
            self.register_buffer("mean", normalise.mean.view(shape))
            self.register_buffer("std", normalise.std.view(shape))

    def forward(self, inputs: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Raw samples, and lengths (batch,) int64 where they vary, -> scores (batch, classes, labels or values)."""
        if lengths is not None:  # whatever stands behind a sample
            inputs = keep(inputs, valid_steps(lengths, inputs.shape[self.raw_axis]), self.raw_axis)
        if self.features is not None:
            inputs, lengths = self.features(inputs, lengths)
        if self.normalised:
            inputs = (inputs - self.mean) / self.std
            if lengths is not None:  # padding is zeros to a model
                inputs = keep(inputs, valid_steps(lengths, inputs.shape[self.step_axis]), self.step_axis)
        outputs = self.model(inputs) if lengths is None else self.model(inputs, lengths)
        return cast(Loss, self.loss).scores(outputs.float())


def _features(features: Features) -> nn.Module:
    if isinstance(features, LogMel):
        return ExportedLogMel(features)
    if isinstance(features, RawSteps):
        return ExportedRawSteps(features)
    raise TypeError(f"there is no way to export {type(features).__name__}")


class ExportedLogMel(nn.Module):
    """``LogMel`` for waves of any length, with some frames of padding more, which the lengths do not count.

    For ``torch.export`` by torch's own Fourier transform, as in training. For ONNX as a convolution with the cosines
    and sines of the frequencies that a band has: any program that reads ONNX has that, and in float32 it lies nearer
    to the exact sums than ONNX's own transform.
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
        # a number for each band: what makes ONNX smaller takes a single one that is so small for nothing, and drops it
        self.register_buffer("floor", torch.full((features.filters.shape[1],), FLOOR))

    def forward(self, waves: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """(batch, samples) and lengths -> (batch, 1, frames, bands) and lengths in frames."""
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
    """``RawSteps`` for waves of any length, with a step of padding more, which the lengths do not count."""

    def __init__(self, features: RawSteps) -> None:
        super().__init__()
        self.hop = features.hop

    def forward(self, waves: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """(batch, samples) and lengths -> (batch, steps, hop) and lengths in steps."""
        padded = F.pad(waves, [0, 2 * self.hop - 1])
        starts = torch.arange(padded.shape[1] // self.hop, device=waves.device) * self.hop
        places = starts[:, None] + torch.arange(self.hop, device=waves.device)
        return padded[:, places], (lengths + self.hop - 1) // self.hop
