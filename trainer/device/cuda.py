"""One GPU from NVIDIA, or from AMD with ROCm."""

import torch

from trainer.config import ConfigError, NonNegativeInt
from trainer.device import DEVICES


@DEVICES.register
def cuda(*, index: NonNegativeInt) -> torch.device:
    """Choose the GPU with the number ``index``.

    Raises:
        ConfigError: torch does not see the GPU.
    """
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if count == 0:
        raise ConfigError(f"device=cuda: torch {torch.__version__} sees no GPU; use device=cpu or device=auto")
    if index >= count:
        raise ConfigError(f"device.index: must be less than {count}, the number of GPUs that torch sees, got {index}")
    return torch.device("cuda", index)
