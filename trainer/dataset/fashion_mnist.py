"""60,000 + 10,000 pictures of clothes of 28×28 pixels, 10 classes (Xiao, Rasul, Vollgraf 2017)."""

from typing_extensions import Unpack

from trainer.data import Data
from trainer.dataset import DATASETS
from trainer.dataset._images import ImageKeys
from trainer.dataset._torchvision import torchvision_images


@DATASETS.register
def fashion_mnist(seed: int, *, root: str, **keys: Unpack[ImageKeys]) -> Data:
    """See ``torchvision_images``."""
    return torchvision_images("fashion_mnist", "FashionMNIST", "FashionMNIST/raw", seed, root, **keys)
