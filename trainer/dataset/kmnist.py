"""60,000 + 10,000 cursive Japanese characters of 28×28 pixels, 10 classes (Clanuwat et al. 2018)."""

from typing_extensions import Unpack

from trainer.data import Data
from trainer.dataset import DATASETS
from trainer.dataset._images import ImageKeys
from trainer.dataset._torchvision import torchvision_images


@DATASETS.register
def kmnist(seed: int, *, root: str, **keys: Unpack[ImageKeys]) -> Data:
    """See ``torchvision_images``."""
    return torchvision_images("kmnist", "KMNIST", "KMNIST/raw", seed, root, **keys)
