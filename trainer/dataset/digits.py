"""UCI "Optical Recognition of Handwritten Digits": 1,797 images of 8×8 pixels that are part of the package."""

from pathlib import Path

from safetensors.torch import load_file
from typing_extensions import Unpack

from trainer.data import Data, Split, TensorSource, split_off
from trainer.dataset import DATASETS
from trainer.dataset._images import ImageKeys, image_data

# The metadata in the file give source, authors and licence. tests/dataset/make_digits.py writes the file.
FILE = Path(__file__).with_name("digits.safetensors")
TEST_FRACTION = 0.15
TOP = 16  # the largest value of a pixel


@DATASETS.register
def digits(seed: int, **keys: Unpack[ImageKeys]) -> Data:
    """Read pictures of the digits 0 to 9, with pixels from 0 to 16.

    The package contains a part of the original that has no splits, so 15 % of every class become the test set. This
    choice does not depend on the seed, so that results of different seeds can be compared.
    """
    tensors = load_file(FILE)
    everything = Split.all(TensorSource((tensors["images"],), tensors["labels"].long()))
    train, test = split_off(everything, TEST_FRACTION, seed=0, key="test")
    assert test is not None
    return image_data("digits", seed, tuple("0123456789"), train, test, top=TOP, **keys)
