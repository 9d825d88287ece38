"""A convolutional network: blocks of convolution, ReLU and max-pooling, then two fully connected layers."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

import torch
import torch.nn.functional as F
from msgspec import Meta
from torch import Tensor, nn

from trainer.config import ConfigError, Fraction, PositiveInt
from trainer.data.sources import keep, valid_steps
from trainer.device._batch_norm import normalise_by
from trainer.model import MODELS
from trainer.model._batch_norm import drop_biases_before_norms
from trainer.model._sequence import SequenceAsSignal, as_sequence, last_layer
from trainer.spec import Spec


@MODELS.register
class CNN(nn.Module):
    """A 2-D network for images and spectrograms, and a 1-D network for sequences, tables and embedded tokens.

    The convolution of a block keeps the size. The pooling halves the size and rounds down; a varying number of steps is
    rounded up. Padding is set to zero before every convolution, and batch normalisation ignores padding, so that the
    outputs of a sample do not depend on the padded length. The default is the classic network for small images: 32
    and 64 feature maps, 3×3 kernels and 128 hidden units.

    Returns:
        (batch, ``spec.num_outputs``).

    Raises:
        ConfigError: ``kernel_size`` is even, or the samples are too small for the number of blocks.
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
            self.signal = nn.Sequential(sequence, SequenceAsSignal())
            size = [spec.shape[0]]
        self.smallest = 2 ** len(channels)
        if spec.varying:  # steps are padded to a multiple of ``smallest``
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
            blocks += [pool(2), nn.ReLU()]  # cheaper than ReLU before pooling, with the same result
            width, size = maps, [length // 2 for length in size]
        self.blocks = nn.Sequential(*blocks)
        drop_biases_before_norms(self.blocks)
        self.global_pool = ("max" if spec.varying else "none") if global_pool == "auto" else global_pool
        # Only the steps of a spectrogram are pooled, as the position of a band matters.
        pooled = 0 if self.global_pool == "none" else 1 if spec.kind == "spectrogram" else len(size)
        self.pooled = tuple(range(2, 2 + pooled))
        features = width * math.prod(size[pooled:])
        self.head = nn.Sequential(nn.Flatten(), nn.Linear(features, hidden), nn.ReLU(), nn.Dropout(dropout))
        self.out = last_layer(hidden, spec)
        # Convolutions and poolings on a CPU and on tensor cores are fastest in channels_last. Weights in this memory
        # format make the activations channels_last, too.
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, inputs: Tensor, lengths: Tensor | None = None) -> Tensor:
        signal = self.signal(inputs)
        if lengths is None:
            maps = self.blocks(signal)
            steps = None
        else:
            maps, steps = self._blocks(self._padded(signal), lengths)
        if self.global_pool == "max":  # padding is zero, and after a ReLU no value is smaller
            maps = maps.amax(self.pooled)
        elif self.global_pool == "mean" and steps is not None:
            maps = maps.sum(2) / steps.view(-1, *[1] * (maps.ndim - 2))
        elif self.global_pool == "mean":
            maps = maps.mean(self.pooled)
        outputs: Tensor = self.out(self.head(maps))
        return outputs

    def _padded(self, signal: Tensor) -> Tensor:
        """Pad (batch, width, steps, …) with zeros, so that the number of steps is even before every pooling.

        Without global pooling, pad to the largest number of steps, because the linear layer needs a fixed size.
        """
        steps, below = signal.shape[2], [0, 0] * (signal.ndim - 3)
        if torch.compiler.is_exporting() and self.global_pool != "none":
            # an exported model cannot compute the number of zeros; a constant suffices: poolings ignore surplus steps
            return F.pad(signal, [*below, 0, 2 * self.smallest - 1])
        wanted = self.steps if self.global_pool == "none" else -(-steps // self.smallest) * self.smallest
        return F.pad(signal, [*below, 0, wanted - steps])

    def _blocks(self, maps: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Run the blocks with padding set to zero before each of them; return the maps and their lengths, (batch,)."""
        for layer in self.blocks:
            if isinstance(layer, nn.Conv1d | nn.Conv2d | nn.ReLU):
                maps = layer(maps)
            elif isinstance(layer, nn.MaxPool1d | nn.MaxPool2d):
                # a zero of the padding may exceed the valid values, but after the ReLU the result is the same
                maps = _pooled(layer, keep(maps, valid_steps(lengths, maps.shape[2]), axis=2))
                lengths = (lengths + 1) // 2
            else:
                maps = _over_valid(layer, maps, valid_steps(lengths, maps.shape[2]))
        return maps, lengths


def _pooled(pool: nn.Module, maps: Tensor) -> Tensor:
    if torch.compiler.is_exporting() and maps.ndim == 3:  # exporting max_pool1d would fix the number of steps
        return F.max_pool2d(maps.unsqueeze(3), (2, 1)).squeeze(3)
    pooled: Tensor = pool(maps)
    return pooled


def _over_valid(norm: nn.Module, maps: Tensor, valid: Tensor) -> Tensor:
    """Normalise (batch, channels, steps, …) over the valid steps of the batch; ``valid`` is (batch, steps) bool."""
    if torch.compiler.is_exporting():  # the statistics are constant in evaluation, so padding has no influence
        normalised: Tensor = norm(maps)
        return normalised
    if maps.device.type != "cpu" and isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d):
        return _over_valid_by_mask(norm, maps, valid)
    by_step = maps.transpose(1, 2)  # (batch, steps, channels, …)
    some = by_step[valid]
    # The additional axis is inserted in the middle. With an axis at the end, torch 2.13 on a CPU treats the tensor as
    # both contiguous and channels_last, and the backward pass is wrong.
    normalised = norm(some if some.ndim == 2 else some.unsqueeze(2)).view_as(some)
    return by_step.clone().index_put_((valid,), normalised).transpose(1, 2)


def _over_valid_by_mask(norm: Any, maps: Tensor, valid: Tensor) -> Tensor:
    """Return the result of ``_over_valid`` without a wait for the device, which the choice of the valid steps needs."""
    if not norm.training:  # the statistics are constant, so padding has no influence
        outputs: Tensor = norm(maps)
        return outputs
    axes, inner = [0, *range(2, maps.ndim)], [1] * (maps.ndim - 3)
    padding, values = ~valid.view(len(valid), 1, -1, *inner), maps.to(norm.weight.dtype)
    count = valid.sum().to(values.dtype) * math.prod(maps.shape[3:])
    mean = values.masked_fill(padding, 0).sum(axes) / count
    centred = (values - mean.view(1, -1, 1, *inner)).masked_fill(padding, 0)
    variance = centred.square().sum(axes) / count
    return normalise_by(norm, values, mean, variance, count).to(maps.dtype)
