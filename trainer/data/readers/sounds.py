"""Sounds in the user's own files: read them with libsndfile as waves of one sample rate, and make a ``Data``."""

from __future__ import annotations

import hashlib
import importlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
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
    AugmentBands,
    AugmentWaves,
    FeatureName,
    Header,
    LogMel,
    Milliseconds,
    RawSteps,
    SoundFile,
    augmentations,
    make_features,
    read_header,
    read_wave,
)
from trainer.data.data import Data, Normalise, ReadOptions, make_data
from trainer.data.readers.files import FileSource, Item, OwnKeys, Problems, divide, fits, read_all
from trainer.data.readers.labels.labelling import Labelling
from trainer.data.sources import RaggedSource, Source, Split
from trainer.spec import Kind

MAX_RATE = 10_000_000  # largest sample rate in Hz
MAX_MEASURED = 2000  # maximum number of sounds on which the normalisation is measured

Opener = Callable[[Sequence[Item]], Callable[[int], SoundFile]]


class WaveKeys(TypedDict):
    """The keys that determine the sample rate and length of waves, and the features that a model reads."""

    sample_rate: Annotated[int, Meta(ge=1000, le=384_000)] | None
    max_seconds: PositiveFloat | None
    features: FeatureName
    bands: Annotated[int, Meta(ge=1, le=1024)]
    window: Milliseconds
    hop: Milliseconds


class SoundKeys(OwnKeys, WaveKeys):
    """The keys that every data set of the user's own sounds has."""

    augment: AudioAugmentKeys


def sound_data(
    seed: int,
    files: Sequence[Item],
    opener: Opener,
    options: ReadOptions,
    problems: Problems,
    labelling: Labelling | None = None,
    **keys: Unpack[SoundKeys],
) -> Data:
    """Make a ``Data`` of labelled sounds. Their channels are averaged, and all are resampled to one sample rate.

    Every file is read once at the start, so that bad files are found before training, and so that streamed samples are
    the same as samples in memory. Streamed samples are read again for each batch.

    Args:
        files: the sounds.
        opener: takes some of the sounds, and returns a picklable function that opens the sound at a position.
        labelling: the labels and groups of the sounds; None if the labels of the items are the names of classes.

    Raises:
        ConfigError: a library is missing, there are less than two classes, keys do not fit the sounds or each other,
            or there are bad samples and ``on_error`` is stop.
    """
    dataset, known, labelling = problems.dataset, options.preprocessing, labelling or Labelling()
    need_libraries(dataset)
    files, headers = _read_headers(files, opener, problems)
    if not files:
        labelling.targets(files, options, problems)  # raises ConfigError with the reasons
    rate = known["sample_rate"] if known is not None else keys["sample_rate"] or _usual_rate(files, headers)
    features, augment_waves, augment_features = _features(rate, keys)
    most = None if keys["max_seconds"] is None else max(1, round(keys["max_seconds"] * rate))
    fine = any(header.fine for header in headers) if known is None else known["fine"]
    in_memory = fits(keys["in_memory"], _num_bytes(headers, rate, most, fine=fine))
    readable = _read(files, _Waves.of(files, opener, rate, most, fine), problems, keep=in_memory)
    sounds, targets = labelling.targets(readable, options, problems)
    longest = _longest(sounds) if known is None else known["max_samples"]
    _warn_of_cut(sounds, longest, rate, problems)
    source: Source
    if in_memory:
        source = RaggedSource.join([sound.content.wave[:longest] for sound in sounds], targets.values)
    else:
        lengths = torch.tensor([sound.content.length for sound in sounds]).clamp_max(longest)
        good = [sound.content.file for sound in sounds]
        source = FileSource(_Waves.of(good, opener, rate, longest, fine), targets.values, lengths)
    groups = labelling.groups_of(sounds, problems)
    splits = divide(dataset, seed, source, [sound.split for sound in sounds], options, keys, groups)
    kind, shape = _kind_and_shape(features, longest)
    data = replace(
        make_data(dataset, kind, shape, targets.names, splits, keys, task=targets.task, varying=True),
        normalise=_normalise(splits[0], longest, features),
        augment=augment_waves,
        features=features,
        augment_features=augment_features,
        in_memory=in_memory and keys["in_memory"],
        identity=_fingerprint(sounds, rate, longest, fine),
        preprocess={"sample_rate": rate, "max_samples": longest, "fine": fine},
        warnings=tuple(problems.warnings),
        places=[sound.place for sound in sounds],
    )
    return labelling.completed(data, options, problems)


def need_libraries(dataset: str) -> None:
    """Raise ConfigError if a library that reads sounds is missing."""
    for name in ("soundfile", "soxr"):
        try:
            importlib.import_module(name)
        except (ImportError, OSError) as error:  # OSError: libsndfile itself is missing
            raise ConfigError(f"dataset={dataset}: needs {name} ({error}): {how_to_install('audio')}") from error


class _Sound(NamedTuple):
    """The content of an item after its sound has been read."""

    file: Item  # the item before its sound was read
    length: int  # number of samples
    digest: bytes  # SHA-256 of the samples
    wave: Tensor | None  # (samples,); None if waves are not kept in memory


@dataclass(frozen=True)
class _Waves:
    """Reads the wave at a position; ``rate``, ``most`` and ``fine`` are as in ``read_wave``."""

    open: Callable[[int], SoundFile]
    places: Sequence[str]
    rate: int
    most: int | None
    fine: bool

    @classmethod
    def of(cls, files: Sequence[Item], opener: Opener, rate: int, most: int | None, fine: bool) -> _Waves:
        return cls(opener(files), [file.place for file in files], rate, most, fine)

    def __call__(self, position: int) -> Tensor:
        return read_wave(self.open(position), self.rate, self.most, fine=self.fine, place=self.places[position])


def _read_headers(files: Sequence[Item], opener: Opener, problems: Problems) -> tuple[list[Item], list[Header]]:
    """Return the files whose headers can be read, and their headers."""
    opened, places = opener(files), [file.place for file in files]
    headers = read_all(lambda at: read_header(opened(at), places[at]), places, problems)
    good = [file for file, header in zip(files, headers, strict=True) if header is not None]
    return good, [header for header in headers if header is not None]


def _usual_rate(files: Sequence[Item], headers: Sequence[Header]) -> int:
    """Return the most frequent sample rate of train; of equally frequent ones, the highest.

    Raises:
        ConfigError: it is higher than ``MAX_RATE``.
    """
    pairs = zip(files, headers, strict=True)
    train = [header for file, header in pairs if file.split in ("", "train")] or headers
    counts = Counter(header.rate for header in train)
    found = max(counts, key=lambda rate: (counts[rate], rate))
    if found > MAX_RATE:
        raise ConfigError(f"dataset.sample_rate: null: the files have {found:,} samples a second; say how many to keep")
    return found


def _features(rate: int, keys: SoundKeys) -> tuple[LogMel | RawSteps, AugmentWaves | None, AugmentBands | None]:
    """Return the features, the augmentation of waves, and the augmentation of features.

    Raises:
        ConfigError: ``hop`` or ``window`` is shorter than a sample, or ``augment`` would mask raw waves.
    """
    hop, window = _samples("hop", keys["hop"], rate), _samples("window", keys["window"], rate)
    features = make_features(keys["features"], sample_rate=rate, hop=hop, window=window, bands=keys["bands"])
    augment_waves, augment_features = augmentations(keys["augment"], rate)
    if augment_features is not None and keys["features"] == "raw":
        raise ConfigError("dataset.augment: time_mask and freq_mask need dataset.features=logmel, got raw")
    return features, augment_waves, augment_features


def _samples(key: str, milliseconds: float, rate: int) -> int:
    samples = round(milliseconds * rate / 1000)
    if samples < 1:
        raise ConfigError(
            f"dataset.{key}: must be at least {1000 / rate:g} milliseconds, one sample at {rate} samples a second, "
            f"got {milliseconds:g}"
        )
    return samples


def _num_bytes(headers: Sequence[Header], rate: int, most: int | None, *, fine: bool) -> int:
    """Return the approximate size of all waves in memory, in bytes."""
    lengths = [-(-header.frames * rate // header.rate) for header in headers]
    return sum(length if most is None else min(length, most) for length in lengths) * (4 if fine else 2)


def _read(files: Sequence[Item], waves: _Waves, problems: Problems, *, keep: bool) -> list[Item]:
    """Read all sounds; return the files that can be read, each with a ``_Sound`` as content."""

    def sound(position: int) -> _Sound:
        wave = waves(position)
        return _Sound(files[position], len(wave), hashlib.sha256(wave.numpy().data).digest(), wave if keep else None)

    sounds = read_all(sound, waves.places, problems)
    return [file._replace(content=found) for file, found in zip(files, sounds, strict=True) if found is not None]


def _longest(sounds: Sequence[Item]) -> int:
    """Return the number of samples of the longest sound of train."""
    longest: int = max(sound.content.length for sound in sounds if sound.split in ("", "train"))
    return longest


def _warn_of_cut(sounds: Sequence[Item], longest: int, rate: int, problems: Problems) -> None:
    cut = sum(sound.content.length > longest for sound in sounds)
    if cut:
        problems.warnings.append(
            f"{cut:,} sounds of val or test are longer than the longest of train and cut off behind "
            f"{longest / rate:.3g} seconds, as nothing longer is learned"
        )


def _kind_and_shape(features: LogMel | RawSteps, longest: int) -> tuple[Kind, tuple[int, ...]]:
    """Return the kind of the model inputs, and the shape of those of the longest wave."""
    if isinstance(features, RawSteps):
        return "sequence", (features.steps(longest), features.hop)
    return "spectrogram", (1, features.steps(longest), features.filters.shape[1])


def _normalise(train: Split, longest: int, features: LogMel | RawSteps) -> Normalise:
    """Measure the normalisation: of each band of spectrograms, or of all samples of raw waves together."""
    axis = 3
    if isinstance(features, RawSteps):
        features, axis = RawSteps(features.sample_rate, 1), 2
    return Normalise.measure(train, max(1, CHUNK // longest), axis=axis, features=features, most=MAX_MEASURED)


def _fingerprint(sounds: Sequence[Item], *settings: object) -> str:
    """Return a SHA-256 of the digests of all waves, as it would take too long to read streamed waves again."""
    digest = hashlib.sha256(repr(settings).encode())
    for sound in sounds:
        digest.update(sound.content.digest)
    return digest.hexdigest()
