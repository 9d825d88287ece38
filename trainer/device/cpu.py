"""The processor."""

from typing import Annotated

import torch
from msgspec import Meta

from trainer.device import DEVICES


@DEVICES.register
def cpu(*, threads: Annotated[int, Meta(ge=1, le=1024)] | None) -> torch.device:
    """The CPU, with so many threads within an operation; null leaves torch's own number."""
    if threads is not None:
        torch.set_num_threads(threads)
    return torch.device("cpu")
