"""Sounds of a user's own: whatever libsndfile reads as waves of one rate, and a ``Data`` of them."""

from __future__ import annotations

import hashlib
import importlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, NamedTuple, TypedDict

import torch
from msgspec import Meta
from torch import Tensor
from typing_extensions import Unpack

from trainer.config import ConfigError, PositiveFloat
from trainer.config.messages import how_to_install
from trainer.data.audio import (
    CHUNK,
    AudioAugmentKeys,
    FeatureName,
    File,
    Header,
    Milliseconds,
    RawSteps,
    augmentations,
    make_features,
    read_header,
    read_wave,
)
from trainer.data.data import Data, Features, Normalise, RaggedSource, ReadOptions, Source, Split, class_counts
from trainer.data.readers.files import FileSource, Item, OwnKeys, Problems, classify, divide, fits, read_all
from trainer.spec import Spec

MEASURED = 2000  # samples that the normalisation is measured on

Opener = Callable[[Sequence[Item]], Callable[[int], File]]


class WaveKeys(TypedDict):
    """The keys that say what waves are made to, and what a model reads of them."""

    sample_rate: Annotated[int, Meta(ge=1000, le=384_000)] | None
    max_seconds: PositiveFloat | None
    features: FeatureName
    bands: Annotated[int, Meta(ge=1, le=1024)]
    window: Milliseconds
    hop: Milliseconds


class SoundKeys(OwnKeys, WaveKeys):
    """The keys that every data set of sounds of a user's own has."""

    augment: AudioAugmentKeys


def sound_data(
    dataset: str,
    seed: int,
    files: Sequence[Item],
    opener: Opener,
    options: ReadOptions,
    problems: Problems,
    warnings: tuple[str, ...] = (),
    **keys: Unpack[SoundKeys],
) -> Data:
    """A ``Data`` of labelled sounds: the mean of their channels, all resampled to one rate.

    Every file is read once at the start, so that a bad one is found before training and both paths have the same
    samples; those that are streamed are read again when they are asked for.

    Args:
        files: the sounds.
        opener: from some of them to what gives the file of the one at a position; picklable.
        problems: those found so far.
        warnings: likewise.

    Raises:
        ConfigError: bad files with ``on_error=stop``, less than two classes, keys that do not fit the sounds or each
            other, or a library is missing.
    """
    need_libraries(dataset)
    headed = _headed(files, opener, problems)
    if not headed:
        classify(dataset, headed, options, problems)  # which says why

    known = options.preprocessing
    rate = known["sample_rate"] if known is not None else keys["sample_rate"] or _usual_rate(headed)
    hop, window = _samples("hop", keys["hop"], rate), _samples("window", keys["window"], rate)
    read = make_features(keys["features"], sample_rate=rate, hop=hop, window=window, bands=keys["bands"])
    augment_waves, augment_features = augmentations(keys["augment"], rate)
    if augment_features is not None and keys["features"] == "raw":
        raise ConfigError("dataset.augment: time_mask and freq_mask need dataset.features=logmel, got raw")
    most = None if keys["max_seconds"] is None else max(1, round(keys["max_seconds"] * rate))

    fine = any(item.content.head.fine for item in headed) if known is None else known["fine"]
    in_memory = fits(keys["in_memory"], _num_bytes(headed, rate, most, fine=fine))

    def waves(some: Sequence[Item], most: int | None) -> _Waves:
        opened = opener([item.content.file for item in some])
        return _Waves(opened, [item.place for item in some], rate, most, fine)

    readable = _read(headed, waves(headed, most), problems, keep=in_memory)
    sounds, classes, targets = classify(dataset, readable, options, problems)
    warnings += problems.settle()
    trained = (sound.content.length for sound in sounds if sound.split in ("", "train"))
    longest = max(trained) if known is None else known["max_samples"]
    cut = sum(sound.content.length > longest for sound in sounds)
    if cut:
        warnings += (
            f"{cut:,} sounds of val or test are longer than the longest of train and cut off behind "
            f"{longest / rate:.3g} seconds, as nothing longer is learned",
        )
    source: Source
    if in_memory:
        source = RaggedSource.join([sound.content.wave[:longest] for sound in sounds], targets)
    else:
        lengths = torch.tensor([sound.content.length for sound in sounds]).clamp_max(longest)
        source = FileSource(waves(sounds, longest), targets, lengths)
    train, val, test = divide(dataset, seed, source, [sound.split for sound in sounds], options, keys)
    logmel = keys["features"] == "logmel"
    spec = Spec(
        dataset=dataset,
        kind="spectrogram" if logmel else "sequence",
        shape=(1, read.steps(longest), keys["bands"]) if logmel else (read.steps(longest), read.hop),
        task="classification",
        classes=classes,
        counts=class_counts(train, "classification", len(classes)),
        varying=True,
    )
    return Data(
        spec,
        train,
        val,
        test,
        normalise=_normalise(train, longest, read),
        augment=augment_waves,
        features=read,
        augment_features=augment_features,
        in_memory=in_memory,
        workers=keys["workers"],
        balanced=keys["sampler"] == "balanced",
        identity=_identity(sounds, rate, longest, fine),
        preprocess={"sample_rate": rate, "max_samples": longest, "fine": fine},
        warnings=warnings,
        places=[sound.place for sound in sounds],
    )


class _Headed(NamedTuple):
    """What is known of a file whose head has been read."""

    file: Item  # as it was found
    head: Header


class _Sound(NamedTuple):
    """What is known of a file that has been read."""

    file: Item  # as it was found
    length: int  # samples
    digest: bytes  # of them
    wave: Tensor | None  # (samples,), where it is kept


@dataclass(frozen=True)
class _Waves:
    """The wave at a position, read from its file.

    Args:
        open: its file.
        places: for messages.
        rate, most, fine: as ``read_wave`` has them.
    """

    open: Callable[[int], File]
    places: Sequence[str]
    rate: int
    most: int | None
    fine: bool

    def __call__(self, position: int) -> Tensor:
        return read_wave(self.open(position), self.rate, self.most, fine=self.fine, place=self.places[position])


def need_libraries(dataset: str) -> None:
    """Raises ConfigError where what reads sounds is missing."""
    for name in ("soundfile", "soxr"):
        try:
            importlib.import_module(name)
        except (ImportError, OSError) as error:  # OSError: libsndfile itself is missing
            raise ConfigError(f"dataset={dataset}: needs {name} ({error}): {how_to_install('audio')}") from error


def _headed(files: Sequence[Item], opener: Opener, problems: Problems) -> list[Item]:
    """The files that are sounds by their heads, which become their content."""
    opened, places = opener(files), [file.place for file in files]
    heads = read_all(lambda at: read_header(opened(at), places[at]), places, problems)
    pairs = zip(files, heads, strict=True)
    return [file._replace(content=_Headed(file, head)) for file, head in pairs if head is not None]


def _usual_rate(headed: Sequence[Item]) -> int:
    """The rate that most files of train have; of two that are as frequent the higher one."""
    train = [item for item in headed if item.split in ("", "train")] or headed
    counts: Counter[int] = Counter(item.content.head.rate for item in train)
    return max(counts, key=lambda rate: (counts[rate], rate))


def _samples(key: str, milliseconds: float, rate: int) -> int:
    samples = round(milliseconds * rate / 1000)
    if samples < 1:
        raise ConfigError(
            f"dataset.{key}: must be at least {1000 / rate:g} milliseconds, one sample at {rate} samples a second, "
            f"got {milliseconds:g}"
        )
    return samples


def _num_bytes(headed: Sequence[Item], rate: int, most: int | None, *, fine: bool) -> int:
    """About what all waves take in memory."""
    heads: list[Header] = [item.content.head for item in headed]
    lengths = [-(-head.frames * rate // head.rate) for head in heads]
    return sum(length if most is None else min(length, most) for length in lengths) * (4 if fine else 2)


def _read(headed: Sequence[Item], waves: _Waves, problems: Problems, *, keep: bool) -> list[Item]:
    """The files that can be read, with what has been learned of them as their content."""

    def sound(position: int) -> _Sound:
        wave, file = waves(position), headed[position].content.file
        return _Sound(file, len(wave), hashlib.sha256(wave.numpy().data).digest(), wave if keep else None)

    sounds = read_all(sound, waves.places, problems)
    return [item._replace(content=found) for item, found in zip(headed, sounds, strict=True) if found is not None]


def _normalise(train: Split, longest: int, features: Features) -> Normalise:
    """Of each band, or of all samples of a wave alike."""
    raw = isinstance(features, RawSteps)
    return Normalise.measure(
        train,
        max(1, CHUNK // longest),
        axis=2 if raw else 3,
        features=RawSteps(features.sample_rate, 1) if isinstance(features, RawSteps) else features,
        most=MEASURED,
    )


def _identity(sounds: Sequence[Item], *settings: object) -> str:
    """A SHA-256 of every wave, of which those that are streamed cannot be asked in reasonable time."""
    digest = hashlib.sha256(repr(settings).encode())
    for sound in sounds:
        digest.update(sound.content.digest)
    return digest.hexdigest()
