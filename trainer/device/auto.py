"""The best device there is."""

import torch

from trainer.device import DEVICES


@DEVICES.register
def auto() -> torch.device:
    """CUDA where there is a GPU, else mps, else the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda", 0)
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
