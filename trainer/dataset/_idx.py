"""Read the IDX files of MNIST and similar data sets, without torchvision, as it takes long to import."""

from __future__ import annotations

import math
from pathlib import Path

import torch
from torch import Tensor
from typing_extensions import Unpack

from trainer.config import RunError
from trainer.config.untrusted_files import check_file, need_memory
from trainer.data import Data
from trainer.dataset._images import ImageKeys, file_split, image_data
from trainer.dataset._torchvision import download

FILES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")


def idx_images(
    name: str, class_name: str, folder: str, classes: tuple[str, ...], seed: int, root: str, **keys: Unpack[ImageKeys]
) -> Data:
    """Read the data set ``name`` from the files in ``root/folder``.

    ``torchvision.datasets.<class_name>`` downloads missing files.

    Raises:
        ConfigError: files are missing and cannot be downloaded.
        RunError: a file cannot be read.
    """
    where = Path(root) / folder
    files = [where / name for name in FILES]
    if not all(file.is_file() for file in files):
        download(name, class_name, root, where)
    try:
        tensors = [read_idx(file) for file in files]
    except (OSError, ValueError) as error:
        raise RunError(f"dataset={name}: cannot read the files in {where}: {error}") from error
    train, test = (
        file_split(name, where, images.unsqueeze(1), labels) for images, labels in (tensors[:2], tensors[2:])
    )
    return image_data(name, seed, classes, train, test, **keys)


def read_idx(file: Path) -> Tensor:
    """Return the uint8 tensor in an IDX file.

    The file holds two bytes 0, a byte 8 for uint8, a byte for the number of dimensions, the sizes as big-endian 32-bit
    numbers, and the values.

    Raises:
        ValueError: the file has another format, has a wrong length, or has no values.
    """
    size = check_file(file).st_size
    need_memory(2 * size, file)
    content = bytearray(size)
    with file.open("rb") as opened:
        opened.readinto(content)
    if len(content) < 4 or content[:3] != b"\0\0\x08" or content[3] == 0:
        raise ValueError(f"{file.name} is no IDX file of bytes")
    start = 4 + 4 * content[3]
    sizes = [int.from_bytes(content[place : place + 4], "big") for place in range(4, start, 4)]
    if len(content) < start or len(content) - start != math.prod(sizes):
        wanted = " x ".join(map(str, sizes))
        raise ValueError(f"{file.name} should hold {wanted} bytes after its first {start}, but is {len(content)} long")
    if 0 in sizes:
        raise ValueError(f"{file.name} holds nothing")
    return torch.frombuffer(content, dtype=torch.uint8, offset=start).view(sizes)
