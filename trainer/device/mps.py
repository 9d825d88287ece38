"""The GPU of a Mac."""

import torch

from trainer.config import ConfigError
from trainer.device import DEVICES


@DEVICES.register
def mps() -> torch.device:
    """Choose Apple's Metal device.

    Raises:
        ConfigError: torch sees no Metal device.
    """
    if not torch.backends.mps.is_available():
        raise ConfigError(f"device=mps: torch {torch.__version__} sees no Metal device; use device=cpu or device=auto")
    return torch.device("mps")
