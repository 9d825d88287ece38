"""The module that is exported: it maps raw samples to scores and contains all numerical preprocessing.

Its computation is valid for any batch size and, if lengths vary, for any number of steps.
"""

from __future__ import annotations

import dataclasses
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trainer.data import Normalise
from trainer.data.audio import FLOOR, LogMel, RawSteps, transform_size
from trainer.data.data import Features
from trainer.data.preprocess import to_model_inputs
from trainer.data.sources import Inputs, keep, valid_steps
from trainer.data.table_encoding import TableEncoding
from trainer.loss import Loss
from trainer.spec import Spec


class ExportedModel(nn.Module):
    """A module that applies the preprocessing, the model, and the conversion of outputs into scores.

    Args:
        spec: the spec of the model.
        model: the trained model, in evaluation mode.
        loss: the loss, which converts outputs into scores.
        features, normalise: as in ``Data``.

    Raises:
        TypeError: the features cannot be exported.
    """

    def __init__(
        self,
        spec: Spec,
        model: nn.Module,
        loss: Loss,
        features: Features | None,
        normalise: Normalise | TableEncoding | None,
    ) -> None:
        super().__init__()
        self.model, self.loss = model, cast(nn.Module, loss)
        self.features = None if features is None else _exported(features)
        self.step_axis = spec.step_axis
        self.raw_step_axis = spec.step_axis if features is None else 1  # waves are (batch, samples)
        self.normalise = None if normalise is None else ExportedNormalise(normalise)

    def forward(self, inputs: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Return the scores of raw samples: (batch, classes), (batch, labels) or (batch, values).

        Args:
            inputs: (batch, …) raw samples; the padding may have any values.
            lengths: (batch,) int64, the number of steps of each sample if lengths vary, else None.
        """
        raw: Inputs = (inputs,)
        if lengths is not None:
            axis = self.raw_step_axis
            raw = keep(inputs, valid_steps(lengths, inputs.shape[axis]), axis), lengths
        outputs = self.model(*to_model_inputs(raw, self.features, self.normalise, self.step_axis))
        return cast(Loss, self.loss).scores(outputs.float())


class ExportedNormalise(nn.Module):
    """Apply ``Normalise`` or ``TableEncoding``, whose tensors are buffers of this module."""

    def __init__(self, normalise: Normalise | TableEncoding) -> None:
        super().__init__()
        self._normalise = normalise
        self._names = [name for name, value in vars(normalise).items() if isinstance(value, Tensor)]
        for name in self._names:
            self.register_buffer(name, getattr(normalise, name))

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the normalised or encoded inputs."""
        buffers: dict[str, Any] = {name: getattr(self, name) for name in self._names}
        return dataclasses.replace(self._normalise, **buffers)(inputs)


def _exported(features: Features) -> nn.Module:
    if isinstance(features, LogMel):
        return ExportedLogMel(features)
    if isinstance(features, RawSteps):
        return ExportedRawSteps(features)
    raise TypeError(f"there is no way to export {type(features).__name__}")


class ExportedLogMel(nn.Module):
    """Compute ``LogMel`` for waves of any length, with more frames of padding, which the returned lengths exclude.

    With ``torch.export`` the Fourier transform is that of torch, as in training. In ONNX it is a convolution with the
    cosines and sines of the frequencies that belong to a band: every ONNX runtime has convolutions, and in float32 the
    result is more accurate than that of ONNX's own Fourier transform.
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
        # One number for each band, because the ONNX optimiser treats a scalar this small as zero and removes it.
        self.register_buffer("floor", torch.full((features.filters.shape[1],), FLOOR))

    def forward(self, inputs: Inputs) -> Inputs:
        """Convert (batch, samples) waves and their lengths into (batch, 1, frames, bands) and lengths in frames."""
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
    """Compute ``RawSteps`` for waves of any length, with one more step of padding, which the new lengths exclude."""

    def __init__(self, features: RawSteps) -> None:
        super().__init__()
        self.hop = features.hop

    def forward(self, inputs: Inputs) -> Inputs:
        """Convert (batch, samples) waves and their lengths into (batch, steps, hop) and lengths in steps."""
        waves, lengths = inputs
        padded = F.pad(waves, [0, 2 * self.hop - 1])
        starts = torch.arange(padded.shape[1] // self.hop, device=waves.device) * self.hop
        places = starts[:, None] + torch.arange(self.hop, device=waves.device)
        return padded[:, places], (lengths + self.hop - 1) // self.hop
