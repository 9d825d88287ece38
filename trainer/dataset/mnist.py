"""60,000 + 10,000 hand-written digits of 28×28 pixels, 10 classes (LeCun, Cortes, Burges)."""

from typing_extensions import Unpack

from trainer.data import Data
from trainer.dataset import DATASETS
from trainer.dataset._images import ImageKeys
from trainer.dataset._torchvision import torchvision_images


@DATASETS.register
def mnist(seed: int, *, root: str, **keys: Unpack[ImageKeys]) -> Data:
    """See ``torchvision_images``."""
    return torchvision_images("mnist", "MNIST", "MNIST/raw", seed, root, **keys)
