"""CIFAR-10: 50,000 training and 10,000 test images in colour, 32×32 pixels, 10 classes (Krizhevsky 2009)."""

from typing_extensions import Unpack

from trainer.data import Data
from trainer.dataset import DATASETS
from trainer.dataset._images import ImageKeys
from trainer.dataset._torchvision import torchvision_images


@DATASETS.register
def cifar10(seed: int, *, root: str, **keys: Unpack[ImageKeys]) -> Data:
    return torchvision_images("cifar10", "CIFAR10", "cifar-10-batches-py", seed, root, **keys)
