"""Find pictures that show the same with other bytes: saved again, resized or brightened.

Each picture becomes a thumbnail. Locality-sensitive hashes of the thumbnails propose pairs, so that not all pairs are
compared. A pair is accepted if its thumbnails are far closer to each other than to those of other pictures around them,
since handwritten digits are more alike than photos are.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from trainer.config import Settings
from trainer.data.data import Data, generator
from trainer.data.duplicates import LEAKS, Duplicates, harm, list_pairs
from trainer.data.findings import Finding
from trainer.data.sources import Inputs

SIDE, COARSE, COLOUR = 16, 8, 4  # pixels at the side of a thumbnail, of its coarse form, and of that of its colours
MAX_PICTURES = 2**18  # more pictures are not compared; a thumbnail takes 600 bytes
MAX_CHANNELS = 16  # pictures of more channels are not compared
NUM_COMPONENTS = 24  # principal components of the coarse thumbnails that are hashed
NUM_TABLES = 8  # hashes of each picture; a pair is proposed if one of them agrees
MIN_BITS, MAX_BITS = 6, 18  # of a hash; more pictures have longer hashes
NUM_NEIGHBOURS = 6  # in the order of a table, the number of pictures behind each one with which it is compared
NUM_AROUND = 4096  # pictures from which the distances around a picture are estimated
AROUND = 6  # the distance around a picture is that of its sixth nearest, so that up to six copies are found
CLOSE = 0.03  # the largest distance of a pair, as a share of the distance of each from the pictures around it
MAX_DISTANCE = 0.006  # the largest distance of a pair, 1 - correlation of the coarse thumbnails
FINE = 3  # the largest distance of a pair in the thumbnails, as a multiple of that in the coarse ones
MIN_CONTRAST = 0.01  # the least standard deviation of a thumbnail, as a share of the range of all; others are blank
MAX_RATIO, MAX_SHIFT = 1.5, 0.15  # the largest ratio of contrasts, and difference of means as a share of the range
MAX_TINT = 0.25  # the largest difference of the colours, as a share of the colours
CHUNK = 2**16  # pairs that are compared at a time


class Thumbnails(NamedTuple):
    """Small versions of pictures.

    Args:
        grey: (pictures, SIDE²) float16 for uint8 pictures, else float32: the mean of the channels, column by column.
        tints: (pictures, channels * COLOUR²) of the same type, each channel less the mean; empty for one channel.
    """

    grey: Tensor
    tints: Tensor

    @classmethod
    def of(cls, inputs: Inputs) -> Thumbnails:
        """Return the thumbnails of a batch of pictures, (batch, channels, height, width) of any dtype."""
        pictures = inputs[0].float().nan_to_num(0, 0, 0)
        kept = torch.float16 if inputs[0].dtype == torch.uint8 else torch.float32  # others may exceed float16
        batch, channels, height, width = pictures.shape
        narrow = (pictures.reshape(-1, width) @ _averages(width)).view(-1, height, SIDE)
        small = (narrow.mT.reshape(-1, height) @ _averages(height)).view(batch, channels, SIDE, SIDE)
        grey = small.mean(1, keepdim=True)
        tints = F.avg_pool2d(small - grey, SIDE // COLOUR) if channels > 1 else grey[:, :0]
        return cls(grey.flatten(1).to(kept), tints.flatten(1).to(kept))

    @classmethod
    def join(cls, parts: Sequence[Thumbnails]) -> Thumbnails:
        return cls(torch.cat([part.grey for part in parts]), torch.cat([part.tints for part in parts]))


@functools.lru_cache(maxsize=8)
def _averages(size: int) -> Tensor:
    """Return the shares of pixels in the averages of ``SIDE`` equal parts of them, (size, SIDE) float32."""
    bounds = torch.arange(SIDE + 1, dtype=torch.float64) * size / SIDE
    pixels = torch.arange(size, dtype=torch.float64)[:, None]
    shares = (torch.minimum(bounds[1:], pixels + 1) - torch.maximum(bounds[:-1], pixels)).clamp_min(0) * SIDE / size
    return shares.float()


def find_near(
    data: Data, parts: Mapping[str, tuple[Tensor, Sequence[Thumbnails]]], duplicates: Duplicates, settings: Settings
) -> list[Finding]:
    """Find pictures that show the same as another one: a warning if they are in different splits, else a note.

    Pictures whose bytes are equal are left out, as other findings name them.

    Args:
        data: the data set.
        parts: the numbers and the thumbnails of the pictures of each split that can be read.
        duplicates: the pictures whose bytes are equal.
        settings: the settings of the run, whose data set may have the key ``group``.
    """
    if data.spec.kind == "image" and sum(map(len, data.splits().values())) > MAX_PICTURES:
        text = f"more than {MAX_PICTURES:,} pictures, so those that show nearly the same were not looked for"
        return [Finding("note", "near_skipped", text)]
    if not any(thumbnails for _, thumbnails in parts.values()):
        return []
    names, numbers = [*parts], torch.cat([numbers for numbers, _ in parts.values()])
    split = torch.cat([torch.full((len(each),), at) for at, (each, _) in enumerate(parts.values())])
    pairs = find_pairs(Thumbnails.join([each for _, thumbnails in parts.values() for each in thumbnails]))
    keep = " or keep copies in one split by dataset.group" if "group" in settings.dataset else ""
    found = []
    for one, other in (*LEAKS, *((name, name) for name in names)):
        if one not in names or other not in names:
            continue
        equal = {number for _, number in duplicates.pairs(one, other)}
        first: dict[int, int] = {}
        where = (split[pairs] == torch.tensor([names.index(one), names.index(other)])).all(1)
        for earlier, number in numbers[pairs[where]].tolist():
            if number not in equal:
                first.setdefault(number, earlier)
        if not first:
            continue
        count, size = len(first), len(data.splits()[other])
        shows = f"1 {other} sample shows" if count == 1 else f"{count:,} {other} samples show"
        alike = sorted((earlier, number) for number, earlier in first.items())
        listed = list_pairs(data, one, other, alike, "≈") + _with_other_targets(data, one, other, alike)
        text = f"{shows} nearly the same picture as {{}} ({100 * count / size:.1f} %)"
        if one == other:
            found.append(Finding("note", "near_repeated", f"{text.format('an earlier one')}: {listed}"))
        else:
            text = f"{text.format(f'one of {one}')}, so {harm(one, other)}; remove them from {one}{keep}: {listed}"
            found.append(Finding("warning", "near_leak", text))
    return found


def _with_other_targets(data: Data, one: str, other: str, pairs: Sequence[tuple[int, int]]) -> str:
    """Return how many pairs of samples of two splits have different targets; empty if none has."""
    earlier, later = torch.tensor(pairs).unbind(1)
    splits = data.splits()
    differs = splits[one].targets[earlier] != splits[other].targets[later]
    count = int(differs.view(len(pairs), -1).any(1).sum())
    what = {"classification": "class", "multilabel": "labels", "regression": "value"}[data.spec.task]
    return f"; {count:,} of them with another {what}" if count else ""


def find_pairs(thumbnails: Thumbnails) -> Tensor:
    """Return pairs of different pictures that show the same, (pairs, 2) int64, sorted; the first index is smaller."""
    grey = thumbnails.grey.float()
    span = float(grey.max() - grey.min()) if len(grey) else 0.0
    shown = (grey.std(1) > MIN_CONTRAST * span).nonzero()[:, 0]
    if len(shown) < 2:
        return torch.empty(0, 2, dtype=torch.int64)
    grey, tints = grey[shown], thumbnails.tints[shown].float()
    coarse = _unit(F.avg_pool2d(grey.view(-1, 1, SIDE, SIDE), SIDE // COARSE).flatten(1))
    pairs = _propose(coarse)
    pairs = _within(pairs, coarse, MAX_DISTANCE)
    pairs = pairs[_are_alike(pairs, grey, tints, span)]
    if len(pairs):
        one, other = pairs.unbind(1)
        allowed = (CLOSE * _distances_around(pairs, coarse)).clamp(max=MAX_DISTANCE)
        pairs = pairs[(_distance(coarse, one, other) < allowed) & (_distance(_unit(grey), one, other) < FINE * allowed)]
    return shown[pairs]


def _unit(values: Tensor) -> Tensor:
    """Return rows of mean 0 and length 1, whose products are correlations."""
    return F.normalize(values - values.mean(1, keepdim=True))


def _distance(unit: Tensor, one: Tensor, other: Tensor) -> Tensor:
    return 1 - (unit[one] * unit[other]).sum(1)


def _propose(coarse: Tensor) -> Tensor:
    """Return pairs of pictures with an equal hash, (pairs, 2) int64 without repetition.

    The hash is the signs of random projections of the whitened principal components (Charikar 2002). Pictures of equal
    hash are sorted by one more projection and paired with those behind them, so that the number of pairs is bounded.
    """
    count = len(coarse)
    centred = coarse - coarse.mean(0)
    values, vectors = torch.linalg.eigh(centred.T @ centred)
    kept = values[-NUM_COMPONENTS:].clamp_min(1e-6 * float(values[-1]) + 1e-12)
    white = centred @ (vectors[:, -NUM_COMPONENTS:] / kept.sqrt())
    num_bits = min(MAX_BITS, max(MIN_BITS, count.bit_length()))
    random = generator("near duplicates")
    powers = 2.0 ** torch.arange(num_bits)  # float32 holds their sums exactly
    found = []
    for _ in range(NUM_TABLES):
        projected = white @ torch.randn(white.shape[1], num_bits + 1, generator=random)
        hashes = ((projected[:, :-1] > 0).float() @ powers).long()
        order = projected[:, -1].argsort()
        order = order[hashes[order].argsort(stable=True)]
        for step in range(1, min(NUM_NEIGHBOURS, count - 1) + 1):
            one, other = order[:-step], order[step:]
            same = hashes[one] == hashes[other]
            found.append(torch.minimum(one, other)[same] * count + torch.maximum(one, other)[same])
    pairs = torch.cat(found).unique()
    return torch.stack([pairs // count, pairs % count], 1)


def _within(pairs: Tensor, unit: Tensor, most: float) -> Tensor:
    """Return the pairs of at most this distance."""
    return torch.cat([some[_distance(unit, *some.unbind(1)) < most] for some in pairs.split(CHUNK)])


def _are_alike(pairs: Tensor, grey: Tensor, tints: Tensor, span: float) -> Tensor:
    """Return whether each pair has similar brightness, contrast and colours, (pairs,) bool."""
    one, other = pairs.unbind(1)
    contrasts, means = grey.std(1), grey.mean(1)
    ratio = contrasts[one] / contrasts[other]
    shift = (means[one] - means[other]).abs()
    tint = torch.maximum(tints[one].norm(dim=1), tints[other].norm(dim=1))
    noise = MIN_CONTRAST * span * tints.shape[1] ** 0.5
    tinted = (tints[one] - tints[other]).norm(dim=1) > MAX_TINT * tint + noise
    alike: Tensor = (ratio < MAX_RATIO) & (ratio > 1 / MAX_RATIO) & (shift < MAX_SHIFT * span) & ~tinted
    return alike


def _distances_around(pairs: Tensor, coarse: Tensor) -> Tensor:
    """Return, for each pair, the smaller of the distances of its two pictures from the pictures around them."""
    which, places = pairs.unique(return_inverse=True)
    step = -(-len(coarse) // NUM_AROUND)
    others = coarse[::step]
    rank = min(AROUND + 1, len(others))  # a picture is nearest to itself
    around = [1 - (coarse[some] @ others.T).kthvalue(len(others) - rank + 1).values for some in which.split(1024)]
    return torch.cat(around)[places].amin(1)
