"""Modules for several models, which convert any kind of data to a sequence or a signal; and the last layer."""

from __future__ import annotations

import contextlib
import inspect
from typing import Any, cast

import torch
from torch import Tensor, nn

from trainer.config import ConfigError
from trainer.spec import Spec

# The initial standard deviation of an embedding. With torch's default, 1.0, the few updates of a rare token are too
# small to matter: the accuracy of the cnn on rt-polarity drops from 0.76 to 0.70.
EMBEDDING_STD = 0.1


class ImageAsRows(nn.Module):
    """Read an image row by row: (batch, channels, height, width) -> (batch, height, channels * width).

    The rows of a spectrogram are its frames.
    """

    def forward(self, images: Tensor) -> Tensor:
        return images.transpose(1, 2).flatten(2)


class SequenceAsSignal(nn.Module):
    """Read a sequence as a 1-D signal: (batch, steps, width) -> (batch, width, steps)."""

    def forward(self, sequence: Tensor) -> Tensor:
        return sequence.transpose(1, 2)


def as_sequence(spec: Spec, embedding: int) -> tuple[nn.Module, int]:
    """Return a module that converts samples to float sequences (batch, steps, width), and the width."""
    if spec.kind in ("image", "spectrogram"):
        channels, _, width = spec.shape
        return ImageAsRows(), channels * width
    if spec.kind == "tokens":
        tokens = nn.Embedding(cast(int, spec.vocabulary), embedding, padding_idx=0)
        with torch.no_grad():
            tokens.weight *= EMBEDDING_STD
        return tokens, embedding
    if spec.kind == "table":
        return nn.Unflatten(1, (-1, 1)), 1  # number by number
    return nn.Identity(), spec.shape[1]


def autocast_dtype(device: torch.device) -> torch.dtype | None:
    """Return the dtype of autocast on a device, or None if autocast is off or not available."""
    kind = device.type
    if not torch.amp.is_autocast_available(kind) or not torch.is_autocast_enabled(kind):
        return None
    return torch.get_autocast_dtype(kind)


def without_autocast(device: torch.device) -> contextlib.AbstractContextManager[Any]:
    """Return a context without autocast."""
    return contextlib.nullcontext() if autocast_dtype(device) is None else torch.autocast(device.type, enabled=False)


class LastLinear(nn.Linear):
    """A linear layer that computes in the dtype of its weights, also under autocast.

    Outputs of bfloat16 would have 8 significant bits: a probability would never be between 0.998 and 1.
    """

    def forward(self, inputs: Tensor) -> Tensor:
        with without_autocast(inputs.device):
            return super().forward(inputs.to(self.weight.dtype))


def check_forward(model: nn.Module, name: str, spec: Spec) -> None:
    """Check that a model can be called with the samples and, if steps vary, with their lengths.

    Raises:
        ConfigError: ``forward`` takes no lengths but the samples have them, or the other way round.
    """
    try:
        signature = inspect.signature(model.forward)
    except ValueError:  # a compiled function tells nothing about its parameters
        return
    try:
        signature.bind(*["inputs", "lengths"][: 1 + spec.varying])
    except TypeError as error:
        wanted, vary = ("(inputs, lengths)", "vary in length") if spec.varying else ("(inputs)", "have no lengths")
        raise ConfigError(
            f"model={name}: forward has to take {wanted}, because the samples of dataset={spec.dataset} {vary}: {error}"
        ) from error


def last_layer(in_features: int, spec: Spec) -> nn.Module:
    """Return a linear layer with ``spec.num_outputs`` outputs, and a sigmoid after it if ``spec.sigmoid``."""
    linear = LastLinear(in_features, spec.num_outputs)
    return nn.Sequential(linear, nn.Sigmoid()) if spec.sigmoid else linear
