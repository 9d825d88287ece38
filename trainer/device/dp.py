"""One process that splits every batch over several GPUs."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from trainer.config import ConfigError
from trainer.device import DEVICES
from trainer.device._placement import Placement


@DEVICES.register
def dp(*, gpus: list[int] | None) -> Placement:
    """Use ``nn.DataParallel``, which is simple but slower than ddp, because one Python process drives all GPUs.

    Raises:
        ConfigError: torch sees no GPU, or not all of the GPUs in ``gpus``.
    """
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if count == 0:
        raise ConfigError(
            f"device=dp: torch {torch.__version__} sees no GPU; use device=cpu, or device=ddp device.processes=2"
        )
    numbers = list(range(count)) if gpus is None else gpus
    wrong = [number for number in numbers if not 0 <= number < count]
    if wrong or not numbers:
        raise ConfigError(f"device.gpus: must be some of 0 to {count - 1}, the GPUs that torch sees, got {numbers}")
    return DataParallelPlacement(torch.device("cuda", numbers[0]), tuple(numbers))


@dataclass(frozen=True)
class DataParallelPlacement(Placement):
    """The placement of a model on the first GPU, from which every forward pass copies it to the other GPUs."""

    numbers: tuple[int, ...] = ()

    @property
    def gpus(self) -> list[torch.device]:
        return [torch.device("cuda", number) for number in self.numbers]

    def normalised_together(self, count: int) -> int:
        return -(-count // len(self.gpus))

    def wrap(self, model: nn.Module, averaged: nn.Module | None, optimizer: torch.optim.Optimizer) -> nn.Module:
        return nn.DataParallel(model, device_ids=list(self.numbers))
