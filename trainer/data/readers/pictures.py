"""Pictures in the user's own files: read them with Pillow as uint8 samples of one size, and make a ``Data``."""

from __future__ import annotations

import contextlib
import math
import os
import re
import statistics
import threading
import warnings as python_warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Annotated, Any, Literal, NamedTuple, TypedDict

import numpy as np
import torch
from msgspec import Meta
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor
from torch.utils.data import get_worker_info
from typing_extensions import Unpack

from trainer.config import PositiveInt, RunError
from trainer.config.errors import reason_of
from trainer.config.untrusted_files import UNCHECKED, check_file, check_unpacked, need_memory, size
from trainer.data.augment_images import Augment, AugmentKeys
from trainer.data.data import Data, Normalise, ReadOptions, make_data
from trainer.data.image_ops import TOP
from trainer.data.mixup import MixImages
from trainer.data.readers.files import (
    FileSource,
    Item,
    OwnKeys,
    Problems,
    divide,
    fingerprint_of_names,
    fits,
    map_in_threads,
    read_all,
)
from trainer.data.readers.labels.labelling import Labelling
from trainer.data.sources import Split, TensorSource

# Pillow supports more formats, but starts other programs to read some of them.
FORMATS = ("PNG", "JPEG", "GIF", "BMP", "WEBP", "TIFF", "PPM", "JPEG2000", "AVIF")
SUFFIXES = (
    *(".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".gif", ".bmp", ".dib", ".webp", ".avif"),
    *(".tif", ".tiff", ".pbm", ".pgm", ".ppm", ".pnm", ".jp2", ".j2k", ".jpx"),
)
GREY = ("1", "L", "LA", "La", "I", "I;16", "I;16B", "I;16L", "I;16N", "F")  # Pillow's modes of grey pictures
MAX_MEASURED = 1024  # pictures that determine size and mode; also pictures of train that determine the normalisation
PIXEL_BYTES, CONVERSIONS = 4, 4  # bytes of a decoded pixel, and copies of a picture while it is converted
MAX_PICTURE = 1 << 28  # largest file in bytes
TILE_WIDTH, TILE_HEIGHT = 322, 323  # tags of TIFF
MAX_HEADER = 4096  # bytes in which a PPM file states its size
PPM, PPM_SIZE = re.compile(rb"P[1-6][\s#]"), re.compile(rb"P[1-6](?:(?:\s|#[^\n]*\n)+\d+){2}")
MAX_PIXELS = 224  # maximum length of the shorter side if dataset.size is null

PictureFile = str | Path | IO[bytes]

_one_at_a_time = threading.Lock()

# Pillow warns about faults in pictures that it can still read; for any other bad picture it raises an error.
python_warnings.filterwarnings("ignore", module=r"PIL\.")


class FormKeys(TypedDict):
    """The keys that determine the size and mode to which pictures are converted."""

    size: PositiveInt | Annotated[list[PositiveInt], Meta(min_length=2, max_length=2)] | None
    mode: Literal["auto", "grey", "color"]


class PictureKeys(OwnKeys, FormKeys):
    """The keys that every data set of the user's own pictures has."""

    augment: AugmentKeys


class Form(NamedTuple):
    """The shape to which every picture is converted. Calling the form with a file reads the file as such a picture."""

    channels: int
    height: int
    width: int

    def __call__(self, file: PictureFile) -> Tensor:
        """Read the first picture of a file as (channels, height, width) uint8.

        The picture is turned upright as EXIF says, put on a white background if it is transparent, resized to cover the
        shape, and cropped around its centre. Of 16-bit pixels the upper 8 bits are kept.

        Raises:
            Exception: whatever Pillow raises for a bad file.
        """
        with _opened(file, side=2 * max(self.height, self.width)) as image:
            ImageOps.exif_transpose(image, in_place=True)
            plain = _on_white(_eight_bits(image)).convert("L" if self.channels == 1 else "RGB")
        size = (self.width, self.height)
        if plain.size != size:
            plain = ImageOps.fit(plain, size, Image.Resampling.BILINEAR)
        pixels = torch.from_numpy(np.array(plain))
        return pixels.unsqueeze(0) if self.channels == 1 else pixels.permute(2, 0, 1).contiguous()


@contextlib.contextmanager
def _opened(file: PictureFile, side: int | None = None) -> Iterator[Image.Image]:
    """Open a picture; decode a JPEG that is much larger than ``side`` at a smaller size, which is faster.

    Decoding takes 4 bytes a pixel at most, and the conversions up to three times as much again. The threads of a
    process decode large pictures one at a time.

    Raises:
        OSError: the file is no regular file, or decoding it takes more memory than is free.
    """
    packed = _file_size(file)
    if packed > MAX_PICTURE:  # Pillow reads the whole of some files, and others byte by byte
        raise OSError(f"has {size(packed)}, and pictures of at most {size(MAX_PICTURE)} are read; save it smaller")
    need_memory(2 * packed, str(file))
    _check_header(file)
    try:
        found = Image.open(file, formats=FORMATS)
    except Image.DecompressionBombError as error:
        raise OSError(f"has more than {2 * (Image.MAX_IMAGE_PIXELS or 0):,} pixels; save it smaller") from error
    with found as image:
        if side is not None:
            image.draft(None, (side, side))
        num_bytes = max(image.width * image.height, _tile(image)) * PIXEL_BYTES
        if num_bytes <= UNCHECKED:
            yield image
            return
        with _one_at_a_time:
            picture, place = f"the picture has {image.width:,}×{image.height:,} pixels", str(file)
            check_unpacked(packed, num_bytes, place, f"{picture}; save it smaller")
            worker = get_worker_info()
            together = 1 if worker is None else worker.num_workers
            need_memory(together * num_bytes * CONVERSIONS, place, f"{picture}, which")
            yield image


def _tile(image: Image.Image) -> int:
    """Return the number of pixels in a tile of a TIFF file, which may be larger than the picture; 0 without tiles."""
    tags: Any = getattr(image, "tag_v2", {})
    return int(tags.get(TILE_WIDTH, 0)) * int(tags.get(TILE_HEIGHT, 0))


def _check_header(file: PictureFile) -> None:
    """Raise OSError for a PPM file without a size at its start: Pillow would look for the size byte by byte."""
    with contextlib.nullcontext(file) if not isinstance(file, str | Path) else open(file, "rb") as opened:  # noqa: PTH123
        place = opened.tell()
        start = opened.read(MAX_HEADER)
        opened.seek(place)
    if PPM.match(start) and not PPM_SIZE.match(start):
        raise OSError("no size in its header")


def _file_size(file: str | Path | IO[bytes]) -> int:
    if isinstance(file, str | Path):
        return check_file(file).st_size
    place = file.tell()
    size = file.seek(0, os.SEEK_END)
    file.seek(place)
    return size


def _eight_bits(image: Image.Image) -> Image.Image:
    """Convert a grey picture of 16 bits to its upper 8 bits; Pillow would clip the values at 255."""
    if image.mode == "F":
        raise ValueError("its pixels are fractions of no known range; save it with 8 or 16 bits")
    if not image.mode.startswith("I"):
        return image
    numbers = np.asarray(image)
    if numbers.min() < 0 or numbers.max() >= 2**16:
        raise ValueError("its pixels have 32 bits and no known range; save it with 8 or 16 bits")
    return Image.fromarray((numbers >> 8).astype(np.uint8))


def _on_white(image: Image.Image) -> Image.Image:
    if not image.has_transparency_data:
        return image
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA"))


class Names(Sequence[str]):
    """Names in one array, which DataLoader workers share.

    A list of texts would be copied into each worker, as reading the texts changes their reference counts.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self._names = np.array([os.fsencode(name) for name in names])

    def __len__(self) -> int:
        return len(self._names)

    def __getitem__(self, at: Any) -> Any:
        return [*map(os.fsdecode, self._names[at])] if isinstance(at, slice) else os.fsdecode(self._names[at])


@dataclass(frozen=True)
class PictureReader:
    """Reads the picture at a position.

    Args:
        open: returns the file at a position, or the name of the file.
        places: the place of each picture, for messages.
        form: the shape of the pictures.
    """

    open: Callable[[int], PictureFile]
    places: Sequence[str]
    form: Form

    def __call__(self, position: int) -> Tensor:
        """Return the picture as (channels, height, width) uint8.

        Raises:
            RunError: the picture cannot be read.
        """
        try:
            return self.form(self.open(position))
        except Exception as error:
            why = "no picture of a known form" if isinstance(error, UnidentifiedImageError) else reason_of(error)
            raise RunError(f"{self.places[position]}: cannot be read: {why}") from error


class PictureInfo(NamedTuple):
    """The properties of a picture that the header of its file states."""

    height: int
    width: int
    is_grey: bool
    is_deep: bool = False  # a grey picture of more than 8 bits


def read_info(file: PictureFile) -> PictureInfo | None:
    """Read the header of a file; return None for a bad file, which is reported when its picture is read."""
    try:
        with _opened(file) as image:
            width, height = image.size
            if image.getexif().get(0x0112) in (5, 6, 7, 8):  # EXIF orientations that swap height and width
                width, height = height, width
            return PictureInfo(
                height,
                width,
                image.mode in GREY or (image.mode == "P" and _has_grey_palette(image)),
                image.mode.startswith("I"),
            )
    except Exception:
        return None


def _has_grey_palette(image: Image.Image) -> bool:
    colours = np.array(image.getpalette("RGB")).reshape(-1, 3)
    return bool((colours == colours[:, :1]).all())


def choose_form(
    infos: Iterable[PictureInfo | None], size: int | list[int] | None, mode: Literal["auto", "grey", "color"]
) -> tuple[Form, tuple[str, ...]]:
    """Choose the form of all pictures from the headers of some of them.

    If ``size`` is None, pictures that all have the same size keep it, and pictures of several sizes become squares. If
    the shorter side is longer than ``MAX_PIXELS``, it becomes ``MAX_PIXELS``.

    Returns:
        The form, and a warning if ``size`` is None and pictures will be resized.
    """
    seen = [each for each in infos if each is not None] or [PictureInfo(MAX_PIXELS, MAX_PIXELS, False)]
    grey = mode == "grey" or (mode == "auto" and all(each.is_grey for each in seen))
    channels = 1 if grey else 3
    if size is not None:
        height, width = (size, size) if isinstance(size, int) else size
        return Form(channels, height, width), ()
    sizes = sorted({(each.height, each.width) for each in seen}, key=lambda size: size[0] * size[1])
    height, width = sizes[0]
    if len(sizes) > 1:
        height = width = int(statistics.median(min(each.height, each.width) for each in seen))
    shrink = min(1, MAX_PIXELS / min(height, width))
    height, width = round(height * shrink), round(width * shrink)
    if sizes == [(height, width)]:
        return Form(channels, height, width), ()
    of = " to ".join("×".join(map(str, each)) for each in (sizes[0], sizes[-1])[: len(sizes)])
    return Form(channels, height, width), (
        f"pictures of {of} pixels are made {height}×{width}; dataset.size=[height,width] says otherwise",
    )


def picture_data(
    seed: int,
    items: list[Item],
    opener: Callable[[list[Item], Names], Callable[[int], PictureFile]],
    name: Callable[[Item], str],
    options: ReadOptions,
    problems: Problems,
    labelling: Labelling | None = None,
    **keys: Unpack[PictureKeys],
) -> Data:
    """Make a ``Data`` of labelled pictures, which are held in memory or read each time a batch needs them.

    Args:
        items: the pictures.
        opener: takes items and their places, and returns a picklable function that opens the picture at a position.
        name: returns a text that identifies a picture in the fingerprint without reading the picture.
        labelling: the labels and groups of the pictures; None if the labels of the items are the names of classes.

    Raises:
        ConfigError: a split has no samples, or there are bad samples and ``on_error`` is stop.
    """
    dataset, labelling = problems.dataset, labelling or Labelling()
    items, targets = labelling.targets(items, options, problems)
    read, resized = _reader(items, opener, options, problems, keys)
    images = None
    if fits(keys["in_memory"], len(items) * math.prod(read.form)):
        images = torch.empty(len(items), *read.form, dtype=torch.uint8)
    if images is not None or keys["on_error"] == "skip" or options.report_all:
        good = _read_good(read, images, problems)
        if len(good) < len(items):
            problems.settle()
            position_of = {items[position].place: position for position in good}
            items, targets = labelling.targets([items[position] for position in good], options, problems)
            images = None if images is None else images[[position_of[item.place] for item in items]]
            places = Names(item.place for item in items)
            read = PictureReader(opener(items, places), places, read.form)
    source = FileSource(read, targets.values) if images is None else TensorSource((images,), targets.values)
    groups = labelling.groups_of(items, problems)
    splits = divide(dataset, seed, source, [item.split for item in items], options, keys, groups)
    data = replace(
        make_data(dataset, "image", tuple(read.form), targets.names, splits, keys, task=targets.task),
        normalise=_measure(splits[0], problems),
        augment=Augment.from_keys(keys["augment"]),
        mix=MixImages.from_keys(keys["augment"], read.form.height, read.form.width),
        in_memory=images is not None and keys["in_memory"],
        identity=fingerprint_of_names(items, name, read.form),
        preprocess={"top": TOP},
        warnings=(*problems.warnings, *resized),
        places=read.places,
    )
    return labelling.completed(data, options, problems)


def _reader(
    items: list[Item],
    opener: Callable[[list[Item], Names], Callable[[int], PictureFile]],
    options: ReadOptions,
    problems: Problems,
    keys: PictureKeys,
) -> tuple[PictureReader, tuple[str, ...]]:
    """Return the reader of the pictures, and a warning if it resizes them although ``size`` is None.

    Pictures get the form of a finished run, or else the form that ``choose_form`` returns.
    """
    places = Names(item.place for item in items)
    opened = opener(items, places)
    some = range(0, len(items), -(-len(items) // MAX_MEASURED))
    infos = list(map_in_threads(lambda position: read_info(opened(position)), some))
    if any(each is not None and each.is_deep for each in infos):
        problems.warnings.append(
            "pictures have 16 bits, of which the upper 8 are kept; where they use only the lower, save them with 8"
        )
    if options.preprocessing is not None:
        return PictureReader(opened, places, Form(*options.preprocessing["shape"])), ()
    form, resized = choose_form(infos, keys["size"], keys["mode"])
    return PictureReader(opened, places, form), resized


def _read_good(read: PictureReader, images: Tensor | None, problems: Problems) -> list[int]:
    """Read every picture, into ``images`` if it is not None; return the positions of the pictures that can be read."""

    def attempt(position: int) -> bool:
        sample = read(position)
        if images is not None:
            images[position] = sample
        return True

    return [position for position, good in enumerate(read_all(attempt, read.places, problems)) if good]


def _measure(train: Split, problems: Problems) -> Normalise:
    try:
        return Normalise.measure(train, chunk=64, most=MAX_MEASURED)
    except RunError as error:  # report a streamed picture, read here for the first time, like other bad samples
        problems.found.append(str(error))
        problems.settle()
        raise
