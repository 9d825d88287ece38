"""Data sets that torchvision downloads and reads."""

from __future__ import annotations

import contextlib
import hashlib
import tempfile
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock
from typing_extensions import Unpack

from trainer.config import ConfigError, RunError
from trainer.config.errors import one_line
from trainer.data import Data, Split
from trainer.dataset._images import ImageKeys, file_split, image_data


def torchvision_images(
    name: str, class_name: str, folder: str, seed: int, root: str, **keys: Unpack[ImageKeys]
) -> Data:
    """Read ``torchvision.datasets.<class_name>`` from the files in ``root/folder``, and download missing files.

    Raises:
        ConfigError: files are missing and cannot be downloaded.
        RunError: a file cannot be read.
    """
    train, classes = _read(name, class_name, folder, root, train=True)
    test, _ = _read(name, class_name, folder, root, train=False)
    return image_data(name, seed, classes, train, test, **keys)


def _read(name: str, class_name: str, folder: str, root: str, train: bool) -> tuple[Split, tuple[str, ...]]:
    from trainer.data.torchvision_import import torchvision

    dataset_class = getattr(torchvision.datasets, class_name)
    where = Path(root) / folder
    try:
        try:
            dataset = dataset_class(root, train=train, download=False)
        except RuntimeError as error:
            if "not found" not in str(error):
                raise
            dataset = download(name, class_name, root, where, train=train)
    except ConfigError:
        raise
    except Exception as error:
        raise RunError(f"dataset={name}: cannot read the files in {where}: {one_line(error)}") from error
    images = torch.as_tensor(dataset.data).permute(0, 3, 1, 2).contiguous()  # from (samples, height, width, 3)
    return file_split(name, where, images, torch.as_tensor(dataset.targets)), tuple(map(str, dataset.classes))


def download(name: str, class_name: str, root: str, where: Path, *, train: bool = True) -> Any:
    """Download the missing files of ``torchvision.datasets.<class_name>``, and return its training or test set.

    If several processes on a machine call this, one of them downloads while the others wait. A failed download leaves
    no empty folder.

    Raises:
        ConfigError: the files cannot be downloaded.
    """
    from trainer.data.torchvision_import import torchvision

    missing = [path for path in (where, *where.parents) if not path.exists()]
    place = hashlib.sha256(str(where.resolve()).encode()).hexdigest()[:16]
    try:
        with FileLock(Path(tempfile.gettempdir()) / f"train-download-{place}.lock"):
            return getattr(torchvision.datasets, class_name)(root, train=train, download=True)
    except Exception as error:
        for path in missing:  # torchvision makes the folders before it downloads
            with contextlib.suppress(OSError):
                path.rmdir()
        raise ConfigError(
            f"dataset.root: no whole {name} data in {where}, and the download failed: {one_line(error)}"
        ) from error
