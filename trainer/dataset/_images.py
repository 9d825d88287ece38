"""Make a ``Data`` of labelled images in memory."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor
from typing_extensions import Unpack

from trainer.config import RunError
from trainer.data import Data, Normalise, Split, TensorSource, split_off
from trainer.data.augment_images import Augment, AugmentKeys
from trainer.data.data import check_classes, class_counts
from trainer.data.image_ops import TOP
from trainer.data.mixup import MixImages
from trainer.data.readers.files import LoadKeys
from trainer.spec import Spec


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
    train, val = split_off(train, keys["val_fraction"], seed)
    channels, height, width = train.head(1).shape[1:]
    spec = Spec(
        dataset=name,
        kind="image",
        shape=(channels, height, width),
        task="classification",
        classes=classes,
        counts=class_counts(train, "classification", len(classes)),
    )
    return Data(
        spec,
        train,
        val,
        test,
        normalise=Normalise.measure(train),
        augment=Augment.from_keys(keys["augment"], top),
        mix=MixImages.from_keys(keys["augment"], height, width),
        in_memory=keys["in_memory"] is not False,  # the samples are in memory anyway
        workers=keys["workers"],
        balanced=keys["sampler"] == "balanced",
        preprocess={"top": top},
    )


def file_split(name: str, where: Path, images: Tensor, labels: Tensor) -> Split:
    """Return a split of all images and labels, which were read from the folder ``where``.

    Raises:
        RunError: the numbers of images and labels differ, or their numbers of dimensions are wrong.
    """
    if images.ndim != 4 or labels.ndim != 1 or len(images) != len(labels):
        raise RunError(f"dataset={name}: {len(images)} images but {len(labels)} labels in {where}")
    return image_split(images, labels)


def image_split(images: Tensor, labels: Tensor) -> Split:
    """Return a split of all (samples, channels, height, width) images and (samples,) labels."""
    return Split.all(TensorSource((images,), labels.long()))
