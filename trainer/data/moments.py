"""The mean and the standard deviation of channels, in float64, from one pass over the values.

The result is as exact as that of two passes: values far from 0 lose nothing, and a constant has the deviation 0.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

PIECE = 256  # number of bytes whose squares float32 sums without rounding, as 256 * 255**2 < 2**24


class Moments:
    """The running mean and sum of squared deviations of each channel (Chan, Golub and LeVeque 1983).

    Bytes are summed as whole numbers instead, which is exact, and faster for the pixels of pictures.
    """

    def __init__(self) -> None:
        self._count = 0
        self._mean = self._squares = torch.zeros((), dtype=torch.float64)
        self._byte_sums: Tensor | None = None  # (2, channels) int64: the sums of bytes and of their squares

    def add(self, values: Tensor) -> None:
        """Add values of each channel, (channels, values); all calls pass the same dtype and number of channels."""
        count = values.shape[1]
        if count == 0:
            return
        if values.dtype == torch.uint8:
            sums = _sums_of_bytes(values)
            self._byte_sums = sums if self._byte_sums is None else self._byte_sums + sums
            self._count += count
            return
        first = values[:, :1].double()  # a constant minus this is exactly 0, whatever the rounding of sums
        deviations = values.double() - first
        offset = deviations.mean(1, keepdim=True)
        squares = deviations.sub_(offset).square_().sum(1)
        mean = (first + offset).squeeze(1)
        total = self._count + count
        apart = mean - self._mean if self._count else torch.zeros_like(mean)
        self._squares = self._squares + squares + apart.square() * (self._count * count / total)
        self._mean = self._mean + apart * (count / total) if self._count else mean
        self._count = total

    def result(self) -> tuple[Tensor, Tensor]:
        """Return the mean and the standard deviation (divisor n) of each channel, (channels,) float64."""
        if self._byte_sums is None:
            return self._mean, (self._squares / self._count).sqrt()
        sums, squares = self._byte_sums.tolist()  # Python's whole numbers have no largest one
        count = self._count
        mean = [total / count for total in sums]
        variance = [(count * square - total**2) / count**2 for total, square in zip(sums, squares, strict=True)]
        return torch.tensor(mean, dtype=torch.float64), torch.tensor(variance, dtype=torch.float64).sqrt()


def _sums_of_bytes(values: Tensor) -> Tensor:
    """Return the sums of bytes and of their squares, (2, channels) int64; ``values`` is (channels, values)."""
    pieces = F.pad(values, [0, -values.shape[1] % PIECE]).view(len(values), -1, PIECE).float()
    return torch.stack([pieces.sum(2).double().sum(1), pieces.square_().sum(2).double().sum(1)]).long()
