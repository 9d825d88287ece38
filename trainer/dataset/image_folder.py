"""The user's own pictures, in one folder for each class, or with labels in their names or in a table."""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

from typing_extensions import Unpack

from trainer.config.untrusted_files import check_file
from trainer.data import Data, ReadOptions
from trainer.data.readers.files import Item, Problems
from trainer.data.readers.labels.labelled_files import FileKeys, LabelKeys, find_files
from trainer.data.readers.pictures import SUFFIXES, PictureKeys, picture_data
from trainer.dataset import DATASETS

NAME = "image_folder"


class ImageFolderKeys(PictureKeys, LabelKeys):
    """The keys of pictures in files."""


@DATASETS.register
def image_folder(seed: int, options: ReadOptions, **keys: Unpack[ImageFolderKeys]) -> Data:
    """Read every picture that has a label: in class folders under ``dataset.path``, in its name, or in a table.

    The fingerprint covers the names of the files and their sizes in bytes, as reading all pictures would take too long.

    Raises:
        ConfigError: as ``find_files`` and ``picture_data``.
    """
    problems = Problems(NAME, keys["on_error"], options.report_all)
    found = find_files(cast(FileKeys, keys), SUFFIXES, "picture", options, problems)
    return picture_data(
        seed,
        list(_with_bytes(found.items, problems)),
        lambda items, places: places.__getitem__,
        lambda item: f"{found.name(item)} {item.content}",
        options,
        problems,
        found.labelling,
        **cast(PictureKeys, keys),
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
