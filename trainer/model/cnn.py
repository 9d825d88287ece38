"""A convolutional network: blocks of convolution, ReLU and max-pooling, then two fully connected layers."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta
from torch import Tensor, nn

from trainer.config import ConfigError, Fraction, PositiveInt
from trainer.model import MODELS
from trainer.model._sequence import Transpose, as_sequence, last_layer
from trainer.spec import Spec


@MODELS.register
class CNN(nn.Module):
    """2-D on images (batch, channels, height, width); 1-D on sequences, tables and embedded tokens.

    Each block keeps the size in its convolution and halves it, rounding down, in its pooling. Without options this is
    the classic network for small images: 32 and 64 feature maps of 3×3, 128 hidden units.

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
        dropout: Fraction,
        embedding: PositiveInt,
    ) -> None:
        super().__init__()
        if kernel_size % 2 == 0:
            raise ConfigError(
                f"model.kernel_size: must be odd, so that the convolution keeps the size, got {kernel_size}"
            )
        if spec.kind == "image":
            self.signal: nn.Module = nn.Identity()
            width, size = spec.shape[0], list(spec.shape[1:])
        else:
            sequence, width = as_sequence(spec, embedding)
            self.signal = nn.Sequential(sequence, Transpose())
            size = [spec.shape[0]]
        smallest = 2 ** len(channels)
        if min(size) < smallest:
            raise ConfigError(
                f"model.channels: {len(channels)} blocks halve the size {len(channels)} times and need at least "
                f"{smallest} pixels or steps; dataset={spec.dataset} has {'×'.join(map(str, size))}"
            )
        flat = len(size) == 1
        conv, pool = (nn.Conv1d, nn.MaxPool1d) if flat else (nn.Conv2d, nn.MaxPool2d)
        batch_norm = nn.BatchNorm1d if flat else nn.BatchNorm2d
        blocks: list[nn.Module] = []
        for maps in channels:
            blocks.append(conv(width, maps, kernel_size, padding=kernel_size // 2))
            blocks += [batch_norm(maps)] if norm == "batch" else []
            blocks += [nn.ReLU(), pool(2)]
            width, size = maps, [length // 2 for length in size]
        self.blocks = nn.Sequential(*blocks)
        features = width
        for length in size:
            features *= length
        self.head = nn.Sequential(nn.Flatten(), nn.Linear(features, hidden), nn.ReLU(), nn.Dropout(dropout))
        self.out = last_layer(hidden, spec)

    def forward(self, inputs: Tensor, lengths: Tensor | None = None) -> Tensor:
        """See the class; padding is zeros to a convolution, so lengths change nothing."""
        outputs: Tensor = self.out(self.head(self.blocks(self.signal(inputs))))
        return outputs
