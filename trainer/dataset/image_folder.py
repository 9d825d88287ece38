"""The user's own pictures, in one folder for each class."""

from __future__ import annotations

import os
from collections.abc import Iterator

from typing_extensions import Unpack

from trainer.config.untrusted_files import check_file
from trainer.data import Data, ReadOptions
from trainer.data.readers.files import Item, Problems, keep_suffixes, roots
from trainer.data.readers.folders import class_folders
from trainer.data.readers.pictures import SUFFIXES, PictureKeys, picture_data
from trainer.dataset import DATASETS

NAME = "image_folder"


@DATASETS.register
def image_folder(seed: int, options: ReadOptions, **keys: Unpack[PictureKeys]) -> Data:
    """Read every picture in the class folders under ``dataset.path``, or in its folders train, val and test.

    The fingerprint covers the names of the files and their sizes in bytes, as reading all pictures would take too long.

    Raises:
        ConfigError: there are no class folders or too few samples, or there are bad samples and ``on_error`` is stop.
    """
    problems = Problems(NAME, keys["on_error"], options.report_all)
    files = class_folders(NAME, keys["path"], problems, SUFFIXES)
    pictures = keep_suffixes(files, SUFFIXES, "picture", problems)
    parents = {split: f"{root}{os.sep}" for split, root in roots(NAME, keys["path"]).items()}
    return picture_data(
        seed,
        list(_with_bytes(pictures, problems)),
        lambda items, places: places.__getitem__,
        lambda item: f"{item.place.removeprefix(parents.get(item.split) or parents[''])} {item.content}",
        options,
        problems,
        **keys,
    )


def _with_bytes(items: list[Item], problems: Problems) -> Iterator[Item]:
    """Yield the items of files that are not empty, with the size of the file in bytes as ``content``."""
    for item in items:
        try:
            num_bytes = check_file(item.content).st_size
        except OSError as error:
            problems.add(item.place, f"cannot be read: {error.strerror}")
            continue
        if num_bytes:
            yield item._replace(content=num_bytes)
        else:
            problems.add(item.place, "is empty")
