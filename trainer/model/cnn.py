"""A convolutional network: blocks of convolution, ReLU and max-pooling, then two fully connected layers."""

from __future__ import annotations

import math
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from msgspec import Meta
from torch import Tensor, nn

from trainer.config import ConfigError, Fraction, PositiveInt
from trainer.data.data import keep, valid_steps
from trainer.model import MODELS
from trainer.model._sequence import Transpose, as_sequence, last_layer
from trainer.spec import Spec


@MODELS.register
class CNN(nn.Module):
    """2-D on images and spectrograms; 1-D on sequences, tables and embedded tokens.

    Each block keeps the size in its convolution and halves it in its pooling: rounding down, or up where steps vary.
    Padding is zeros to every convolution and does not count in a normalisation, so that a sample's outputs do not
    depend on what it is padded to. Without options this is the classic network for small images: 32 and 64 feature
    maps of 3×3, 128 hidden units.

    Returns:
        (batch, ``spec.num_outputs``).

    Raises:
        ConfigError: the samples are too small for so many poolings.
    """

    def __init__(
        self,
        spec: Spec,
        *,
        channels: Annotated[list[PositiveInt], Meta(min_length=1)],
        kernel_size: PositiveInt,
        hidden: PositiveInt,
        norm: Literal["none", "batch"],
        global_pool: Literal["auto", "none", "max", "mean"],
        dropout: Fraction,
        embedding: PositiveInt,
    ) -> None:
        super().__init__()
        if kernel_size % 2 == 0:
            raise ConfigError(
                f"model.kernel_size: must be odd, so that the convolution keeps the size, got {kernel_size}"
            )
        if spec.kind in ("image", "spectrogram"):
            self.signal: nn.Module = nn.Identity()
            width, size = spec.shape[0], list(spec.shape[1:])
        else:
            sequence, width = as_sequence(spec, embedding)
            self.signal = nn.Sequential(sequence, Transpose())
            size = [spec.shape[0]]
        self.smallest = 2 ** len(channels)
        if spec.varying:  # steps are padded to a multiple of it
            size[0] = -(-size[0] // self.smallest) * self.smallest
        if min(size) < self.smallest:
            raise ConfigError(
                f"model.channels: {len(channels)} blocks halve the size {len(channels)} times and need at least "
                f"{self.smallest} pixels or steps; dataset={spec.dataset} has {'×'.join(map(str, size))}; "
                + ("use fewer, as in 'model.channels=[32]'" if min(size) > 1 else "use model=gru or lstm")
            )
        self.steps = size[0]
        flat = len(size) == 1
        conv, pool = (nn.Conv1d, nn.MaxPool1d) if flat else (nn.Conv2d, nn.MaxPool2d)
        batch_norm = nn.BatchNorm1d if flat else nn.BatchNorm2d
        blocks: list[nn.Module] = []
        for maps in channels:
            blocks.append(conv(width, maps, kernel_size, padding=kernel_size // 2))
            blocks += [batch_norm(maps)] if norm == "batch" else []
            blocks += [pool(2), nn.ReLU()]  # as the other way round, but on fewer values
            width, size = maps, [length // 2 for length in size]
        self.blocks = nn.Sequential(*blocks)
        self.global_pool = ("max" if spec.varying else "none") if global_pool == "auto" else global_pool
        # of spectrograms only the steps are pooled: which band it is matters
        pooled = 0 if self.global_pool == "none" else 1 if spec.kind == "spectrogram" else len(size)
        self.pooled = tuple(range(2, 2 + pooled))
        features = width * math.prod(size[pooled:])
        self.head = nn.Sequential(nn.Flatten(), nn.Linear(features, hidden), nn.ReLU(), nn.Dropout(dropout))
        self.out = last_layer(hidden, spec)
        # Pixel by pixel, with the channels side by side, is how convolutions and poolings of a CPU and of tensor cores
        # want images; weights that lie so make all that follows lie so.
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, inputs: Tensor, lengths: Tensor | None = None) -> Tensor:
        """See the class."""
        signal = self.signal(inputs)
        if lengths is None:
            maps = self.blocks(signal)
            steps = None
        else:
            maps, steps = self._blocks(self._padded(signal), lengths)
        if self.global_pool == "max":  # never less than padding, after a ReLU
            maps = maps.amax(self.pooled)
        elif self.global_pool == "mean" and steps is not None:
            maps = maps.sum(2) / steps.view(-1, *[1] * (maps.ndim - 2))
        elif self.global_pool == "mean":
            maps = maps.mean(self.pooled)
        outputs: Tensor = self.out(self.head(maps))
        return outputs

    def _padded(self, signal: Tensor) -> Tensor:
        """(batch, width, steps, …) with zeros to a whole number of steps after the last pooling, or to all."""
        steps, below = signal.shape[2], [0, 0] * (signal.ndim - 3)
        if torch.compiler.is_exporting() and self.global_pool != "none":
            # by a number that is the same for all, as a file cannot compute one; what is left over is dropped
            return F.pad(signal, [*below, 0, 2 * self.smallest - 1])
        wanted = self.steps if self.global_pool == "none" else -(-steps // self.smallest) * self.smallest
        return F.pad(signal, [*below, 0, wanted - steps])

    def _blocks(self, maps: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """The blocks, with zeros as padding before each; the maps and how many of their steps are valid, (batch,)."""
        for layer in self.blocks:
            if isinstance(layer, nn.Conv1d | nn.Conv2d | nn.ReLU):
                maps = layer(maps)
            elif isinstance(layer, nn.MaxPool1d | nn.MaxPool2d):
                # a ReLU follows, so that a zero of the padding that is larger than what counts changes nothing
                maps = _pooled(layer, keep(maps, valid_steps(lengths, maps.shape[2]), axis=2))
                lengths = (lengths + 1) // 2
            else:
                maps = _over_valid(layer, maps, valid_steps(lengths, maps.shape[2]))
        return maps, lengths


def _pooled(pool: nn.Module, maps: Tensor) -> Tensor:
    """(batch, channels, steps, …) by a pooling that halves the steps."""
    if torch.compiler.is_exporting() and maps.ndim == 3:  # torch's own of signals would fix how many steps there are
        return F.max_pool2d(maps.unsqueeze(3), (2, 1)).squeeze(3)
    pooled: Tensor = pool(maps)
    return pooled


def _over_valid(norm: nn.Module, maps: Tensor, valid: Tensor) -> Tensor:
    """Batch normalisation of (batch, channels, steps, …) over the steps that are ``valid``, (batch, steps)."""
    if torch.compiler.is_exporting():  # by fixed numbers, so that padding does not count; how much there is, is open
        everywhere: Tensor = norm(maps)
        return everywhere
    by_step = maps.transpose(1, 2)  # (batch, steps, channels, …)
    some = by_step[valid]
    # the axis in the middle: with one at the end torch takes channels that lie side by side for both layouts at once,
    # and its backward pass is wrong (2.13, CPU)
    normal = norm(some if some.ndim == 2 else some.unsqueeze(2)).view_as(some)
    return by_step.clone().index_put_((valid,), normal).transpose(1, 2)
