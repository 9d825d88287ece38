"""Fashion-MNIST: 60,000 training and 10,000 test images of clothes, 28×28 pixels, 10 classes (Xiao et al. 2017)."""

from typing_extensions import Unpack

from trainer.data import Data
from trainer.dataset import DATASETS
from trainer.dataset._idx import idx_images
from trainer.dataset._images import ImageKeys

CLOTHES = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")


@DATASETS.register
def fashion_mnist(seed: int, *, root: str, **keys: Unpack[ImageKeys]) -> Data:
    return idx_images("fashion_mnist", "FashionMNIST", "FashionMNIST/raw", CLOTHES, seed, root, **keys)
