"""The fastest device of the machine."""

import torch

from trainer.device import DEVICES


@DEVICES.register
def auto() -> torch.device:
    """Choose CUDA if there is a GPU, else mps, else the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda", 0)
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
