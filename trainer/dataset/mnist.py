"""MNIST: 60,000 training and 10,000 test images of hand-written digits, 28×28 pixels (LeCun, Cortes, Burges)."""

from typing_extensions import Unpack

from trainer.data import Data
from trainer.dataset import DATASETS
from trainer.dataset._idx import idx_images
from trainer.dataset._images import ImageKeys

DIGITS = (
    "0 - zero",
    "1 - one",
    "2 - two",
    "3 - three",
    "4 - four",
    "5 - five",
    "6 - six",
    "7 - seven",
    "8 - eight",
    "9 - nine",
)


@DATASETS.register
def mnist(seed: int, *, root: str, **keys: Unpack[ImageKeys]) -> Data:
    return idx_images("mnist", "MNIST", "MNIST/raw", DIGITS, seed, root, **keys)
