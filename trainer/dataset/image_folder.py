"""Pictures of a user's own, in a folder for each class."""

from __future__ import annotations

import os
from collections.abc import Iterator

from typing_extensions import Unpack

from trainer.data import Data, ReadOptions
from trainer.data.readers.files import Item, Problems, class_folders, roots, with_suffix
from trainer.data.readers.pictures import SUFFIXES, PictureKeys, picture_data
from trainer.dataset import DATASETS


@DATASETS.register
def image_folder(seed: int, options: ReadOptions, **keys: Unpack[PictureKeys]) -> Data:
    """Every picture in the class folders under ``dataset.path``, which may have train, val and test above them.

    The fingerprint is of names and sizes in bytes: reading all of a large folder would take too long.

    Raises:
        ConfigError: there are no class folders or too few samples, or some are bad and ``on_error`` is stop.
    """
    problems = Problems("image_folder", keys["on_error"], options.report_all)
    files = class_folders("image_folder", keys["path"], problems)
    pictures, warnings = with_suffix(files, SUFFIXES, "picture", problems)
    parents = {split: f"{root}{os.sep}" for split, root in roots("image_folder", keys["path"]).items()}
    return picture_data(
        "image_folder",
        seed,
        list(_with_bytes(pictures, problems)),
        lambda items, places: places.__getitem__,
        lambda item: f"{item.place.removeprefix(parents.get(item.split) or parents[''])} {item.content}",
        options,
        problems,
        warnings,
        **keys,
    )


def _with_bytes(items: list[Item], problems: Problems) -> Iterator[Item]:
    """The files that hold something, with their size in bytes as ``content``."""
    for item in items:
        try:
            num_bytes = item.content.stat().st_size
        except OSError as error:
            problems.add(item.place, f"cannot be read: {error.strerror}")
            continue
        if num_bytes:
            yield item._replace(content=num_bytes)
        else:
            problems.add(item.place, "is empty")
