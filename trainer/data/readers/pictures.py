"""Pictures of a user's own: whatever Pillow reads as uint8 samples of one size, and a ``Data`` of them."""

from __future__ import annotations

import math
import os
import statistics
import warnings as python_warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import IO, Annotated, Literal, NamedTuple, TypedDict, overload

import numpy as np
import torch
from msgspec import Meta
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor
from typing_extensions import Unpack

from trainer.config import PositiveInt, RunError
from trainer.data.augment_images import Augment, AugmentKeys
from trainer.data.data import Data, Normalise, ReadOptions, TensorSource, class_counts
from trainer.data.image_ops import TOP
from trainer.data.mixup import MixImages
from trainer.data.readers.files import (
    FileSource,
    Item,
    OwnKeys,
    Problems,
    by_threads,
    classify,
    divide,
    fits,
    identity,
    read_all,
)
from trainer.spec import Spec

# What is read, whatever else the installed Pillow knows: some formats start other programs.
FORMATS = ("PNG", "JPEG", "GIF", "BMP", "WEBP", "TIFF", "PPM", "JPEG2000", "AVIF")
SUFFIXES = (
    *(".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".gif", ".bmp", ".dib", ".webp", ".avif"),
    *(".tif", ".tiff", ".pbm", ".pgm", ".ppm", ".pnm", ".jp2", ".j2k", ".jpx"),
)
GREY = ("1", "L", "LA", "La", "I", "I;16", "I;16B", "I;16L", "I;16N", "F")  # Pillow's modes
# So many pictures are looked at for their size and mode, and as many of train for the normalisation.
SOME = 1024
MAX_PIXELS = 224  # of the shorter side, where no size is asked for

File = str | IO[bytes]

# Pillow warns of what it can read all the same; what it cannot is an error.
python_warnings.filterwarnings("ignore", module=r"PIL\.")


class FormKeys(TypedDict):
    """The keys that say what pictures are made to."""

    size: PositiveInt | Annotated[list[PositiveInt], Meta(min_length=2, max_length=2)] | None
    mode: Literal["auto", "grey", "color"]


class PictureKeys(OwnKeys, FormKeys):
    """The keys that every data set of pictures of a user's own has."""

    augment: AugmentKeys


class Form(NamedTuple):
    """What every picture is made to: its call reads one."""

    channels: int
    height: int
    width: int

    def __call__(self, file: File) -> Tensor:
        """(channels, height, width) uint8: upright, on white where transparent, resized to cover, cut to the middle.

        Of several pictures in a file it is the first. Numbers of 16 bits lose the lower 8.

        Raises:
            Exception: whatever Pillow makes of a bad file.
        """
        with Image.open(file, formats=FORMATS) as image:
            twice = 2 * max(self.height, self.width)
            image.draft(None, (twice, twice))  # a far larger JPEG is read smaller, and faster
            ImageOps.exif_transpose(image, in_place=True)
            plain = _on_white(_eight_bits(image)).convert("L" if self.channels == 1 else "RGB")
        size = (self.width, self.height)
        if plain.size != size:
            plain = ImageOps.fit(plain, size, Image.Resampling.BILINEAR)
        pixels = torch.from_numpy(np.array(plain))
        return pixels.unsqueeze(0) if self.channels == 1 else pixels.permute(2, 0, 1).contiguous()


def _eight_bits(image: Image.Image) -> Image.Image:
    """Grey pictures of 16 bits, which Pillow would cut off at 255."""
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
    """Names in one array: data workers share it, while they would copy a list of texts, count by count of its uses."""

    def __init__(self, names: Iterable[str]) -> None:
        self._names = np.array([os.fsencode(name) for name in names])

    def __len__(self) -> int:
        return len(self._names)

    @overload
    def __getitem__(self, at: int) -> str: ...
    @overload
    def __getitem__(self, at: slice) -> list[str]: ...
    def __getitem__(self, at: int | slice) -> str | list[str]:
        return [*map(os.fsdecode, self._names[at])] if isinstance(at, slice) else os.fsdecode(self._names[at])


@dataclass(frozen=True)
class PictureReader:
    """Reads the picture at a position.

    Args:
        open: its file, or its name.
        places: for messages.
        form: what it is made to.
    """

    open: Callable[[int], File]
    places: Sequence[str]
    form: Form

    def __call__(self, position: int) -> Tensor:
        """See ``Form``.

        Raises:
            RunError: it cannot be read.
        """
        try:
            return self.form(self.open(position))
        except Exception as error:
            raise RunError(f"{self.places[position]}: cannot be read: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):
        return "no picture of a known form"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return " ".join(str(error).split()) or type(error).__name__


class Look(NamedTuple):
    """What a file says of its picture before that is decoded."""

    height: int
    width: int
    is_grey: bool
    is_deep: bool = False  # more than 8 bits


def look(file: File) -> Look | None:
    """None where the file is bad, which is said when it is read."""
    try:
        with Image.open(file, formats=FORMATS) as image:
            width, height = image.size
            if image.getexif().get(0x0112) in (5, 6, 7, 8):  # the orientations that lie on their side
                width, height = height, width
            return Look(
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
    looks: Iterable[Look | None], size: int | list[int] | None, mode: Literal["auto", "grey", "color"]
) -> tuple[Form, tuple[str, ...]]:
    """The form of all pictures, after a look at some; and a line where that resizes them unasked.

    Without a size it is the one they have; where that is not one, a square. A shorter side of more than
    ``MAX_PIXELS`` is made that.
    """
    seen = [each for each in looks if each is not None] or [Look(MAX_PIXELS, MAX_PIXELS, False)]
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
    dataset: str,
    seed: int,
    items: list[Item],
    opener: Callable[[list[Item], Names], Callable[[int], File]],
    name: Callable[[Item], str],
    options: ReadOptions,
    problems: Problems,
    warnings: tuple[str, ...] = (),
    **keys: Unpack[PictureKeys],
) -> Data:
    """A ``Data`` of labelled pictures: in memory, or read when they are asked for.

    Args:
        items: the pictures.
        opener: from those that stay, and their places, to what opens the one at a position; picklable.
        name: what a picture is, without reading it.
        problems: those found so far.
        warnings: likewise.

    Raises:
        ConfigError: there is nothing to learn from, or there are bad samples and ``on_error`` is stop.
    """
    items, classes, targets = classify(dataset, items, options, problems)
    warnings += problems.settle()
    places = Names(item.place for item in items)
    opened = opener(items, places)
    looks = list(by_threads(lambda position: look(opened(position)), _some(len(items))))
    if any(each is not None and each.is_deep for each in looks):
        warnings = (
            *warnings,
            "pictures have 16 bits, of which the upper 8 are kept; where they use only the lower, save them with 8",
        )
    known = options.preprocessing
    form, resized = choose_form(looks, keys["size"], keys["mode"]) if known is None else (Form(*known["shape"]), ())
    read = PictureReader(opened, places, form)
    images = None
    if fits(keys["in_memory"], len(items) * math.prod(form)):
        images = torch.empty(len(items), *form, dtype=torch.uint8)
    if images is not None or keys["on_error"] == "skip" or options.report_all:
        good = _read_well(read, images, problems)
        if len(good) < len(items):
            warnings += problems.settle()
            items, classes, targets = classify(dataset, [items[position] for position in good], options, problems)
            warnings += problems.settle()
            places = Names(item.place for item in items)
            read = PictureReader(opener(items, places), places, form)
            images = None if images is None else images[good]
    source = FileSource(read, targets) if images is None else TensorSource((images,), targets)
    train, val, test = divide(dataset, seed, source, [item.split for item in items], options, keys)
    try:
        normalise = Normalise.measure(train, chunk=64, most=SOME)
    except RunError as error:  # one that is read now, and not only when its batch comes
        problems.found.append(str(error))
        problems.settle()
        raise
    return Data(
        Spec(
            dataset=dataset,
            kind="image",
            shape=tuple(form),
            task="classification",
            classes=classes,
            counts=class_counts(train, "classification", len(classes)),
        ),
        train,
        val,
        test,
        normalise=normalise,
        augment=Augment.from_keys(keys["augment"]),
        mix=MixImages.from_keys(keys["augment"], form.height, form.width),
        in_memory=images is not None,
        workers=keys["workers"],
        balanced=keys["sampler"] == "balanced",
        identity=identity(items, name, form),
        preprocess={"top": TOP},
        warnings=warnings + resized,
        places=places,
    )


def _some(count: int) -> range:
    """Positions of at most ``SOME`` of ``count`` samples, evenly."""
    return range(0, count, -(-count // SOME))


def _read_well(read: PictureReader, images: Tensor | None, problems: Problems) -> list[int]:
    """Read every picture, into ``images`` where there are some; the positions of those that are no problem."""

    def attempt(position: int) -> bool:
        sample = read(position)
        if images is not None:
            images[position] = sample
        return True

    found = read_all(attempt, read.places, problems)
    return [position for position, well in enumerate(found) if well]
