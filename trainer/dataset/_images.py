"""Make a ``Data`` of labelled images in memory."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from torch import Tensor
from typing_extensions import Unpack

from trainer.config import RunError
from trainer.data import Data, Normalise, Split, TensorSource, split_off
from trainer.data.augment_images import Augment, AugmentKeys
from trainer.data.data import LoadKeys, check_classes, make_data, seed_of_val
from trainer.data.image_ops import TOP
from trainer.data.mixup import MixImages


class ImageKeys(LoadKeys):
    """The keys that every image data set has."""

    augment: AugmentKeys


def image_data(
    name: str,
    seed: int,
    classes: tuple[str, ...],
    train: Split,
    test: Split,
    *,
    top: int = TOP,
    **keys: Unpack[ImageKeys],
) -> Data:
    """Make a ``Data``: check the labels, cut val off from train, and measure the normalisation on the rest of train.

    Args:
        train, test: splits of (samples, channels, height, width) uint8 images with int64 classes.
        top: the largest value that a pixel can have.

    Raises:
        RunError: a label is not the number of a class.
        ConfigError: a split would have no samples.
    """
    for split, part in (("train", train), ("test", test)):
        check_classes(name, split, part.targets, len(classes))
    train, val = split_off(train, keys["val_fraction"], seed_of_val(seed, keys))
    shape = tuple(train.head(1).shape[1:])
    return replace(
        make_data(name, "image", shape, classes, (train, val, test), keys),
        normalise=Normalise.measure(train),
        augment=Augment.from_keys(keys["augment"], top),
        mix=MixImages.from_keys(keys["augment"], *shape[1:]),
        in_memory=keys["in_memory"],  # the samples are in memory anyway
        preprocess={"top": top},
    )


def file_split(name: str, where: Path, images: Tensor, labels: Tensor) -> Split:
    """Return a split of all images and labels, which were read from the folder ``where``.

    Raises:
        RunError: the numbers of images and labels differ, or their numbers of dimensions are wrong.
    """
    if images.ndim != 4 or labels.ndim != 1 or len(images) != len(labels):
        raise RunError(f"dataset={name}: {len(images)} images but {len(labels)} labels in {where}")
    return Split.all(TensorSource((images,), labels.long()))
