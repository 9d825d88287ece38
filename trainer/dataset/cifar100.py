"""CIFAR-100: 50,000 training and 10,000 test images in colour, 32×32 pixels, 100 classes (Krizhevsky 2009)."""

from typing_extensions import Unpack

from trainer.data import Data
from trainer.dataset import DATASETS
from trainer.dataset._images import ImageKeys
from trainer.dataset._torchvision import torchvision_images


@DATASETS.register
def cifar100(seed: int, *, root: str, **keys: Unpack[ImageKeys]) -> Data:
    return torchvision_images("cifar100", "CIFAR100", "cifar-100-python", seed, root, **keys)
