"""The CPU."""

import torch

from trainer.config import Threads
from trainer.device import DEVICES


@DEVICES.register
def cpu(*, threads: Threads | None) -> torch.device:
    """Choose the CPU, with ``threads`` threads within an operation; null leaves torch's own number."""
    if threads is not None:
        torch.set_num_threads(threads)
    return torch.device("cpu")
