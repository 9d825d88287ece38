"""KMNIST: 60,000 training and 10,000 test images of cursive kana, 28×28 pixels, 10 classes (Clanuwat et al. 2018)."""

from typing_extensions import Unpack

from trainer.data import Data
from trainer.dataset import DATASETS
from trainer.dataset._idx import idx_images
from trainer.dataset._images import ImageKeys

SYLLABLES = ("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo")


@DATASETS.register
def kmnist(seed: int, *, root: str, **keys: Unpack[ImageKeys]) -> Data:
    return idx_images("kmnist", "KMNIST", "KMNIST/raw", SYLLABLES, seed, root, **keys)
