"""Sounds in class folders: wav, flac, ogg, mp3 and whatever else libsndfile reads."""

from __future__ import annotations

import hashlib
import importlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, NamedTuple

import torch
from msgspec import Meta
from torch import Tensor
from typing_extensions import Unpack

from trainer.audio import (
    CHUNK,
    SUFFIXES,
    AudioAugmentKeys,
    FeatureName,
    Header,
    Milliseconds,
    RawSteps,
    augmentations,
    make_features,
    read_header,
    read_wave,
)
from trainer.config import ConfigError, PositiveFloat
from trainer.data import Data, Features, Normalise, RaggedSource, Source, Split
from trainer.dataset import DATASETS
from trainer.dataset._own import (
    FileSource,
    Item,
    OwnKeys,
    Problems,
    class_folders,
    classify,
    divide,
    fits,
    read_all,
    with_suffix,
)
from trainer.spec import Spec

NAME = "audio_folder"
MEASURED = 2000  # samples that the normalisation is measured on


@DATASETS.register
def audio_folder(
    seed: int,
    *,
    sample_rate: Annotated[int, Meta(ge=1000, le=384_000)] | None,
    max_seconds: PositiveFloat | None,
    features: FeatureName,
    bands: Annotated[int, Meta(ge=1, le=1024)],
    window: Milliseconds,
    hop: Milliseconds,
    augment: AudioAugmentKeys,
    **keys: Unpack[OwnKeys],
) -> Data:
    """Sounds as log-mel spectrograms or as waves: the mean of their channels, all resampled to one rate.

    Every file is read once at the start, so that a bad one is found before training and both paths have the same
    samples; those that are streamed are read again when they are asked for.

    Raises:
        ConfigError: bad files with ``on_error=stop``, less than two classes, keys that do not fit the sounds or each
            other, or a library is missing.
    """
    _need_libraries()
    problems = Problems(NAME, keys["on_error"])
    files, warnings = with_suffix(class_folders(NAME, keys["path"], problems), SUFFIXES, "sound", problems)
    headed = _headed(files, problems)
    if not headed:
        classify(NAME, headed, problems)  # which says why

    rate = sample_rate or _usual_rate(headed)
    read = make_features(
        features, sample_rate=rate, hop=_samples("hop", hop, rate), window=_samples("window", window, rate), bands=bands
    )
    augment_waves, augment_features = augmentations(augment, rate)
    if augment_features is not None and features == "raw":
        raise ConfigError("dataset.augment: time_mask and freq_mask need dataset.features=logmel, got raw")
    most = None if max_seconds is None else max(1, round(max_seconds * rate))

    fine = any(item.content.fine for item in headed)
    in_memory = fits(keys["in_memory"], _num_bytes(headed, rate, most, fine=fine))
    waves = _Waves([Path(item.place) for item in headed], rate, most, fine)
    sounds, classes, targets = classify(NAME, _read(headed, waves, problems, keep=in_memory), problems)
    warnings += problems.settle()
    longest = max(sound.content.length for sound in sounds if sound.split in ("", "train"))
    train, val, test = divide(
        NAME,
        seed,
        _source(sounds, targets, longest, waves, in_memory=in_memory),
        [sound.split for sound in sounds],
        val_fraction=keys["val_fraction"],
        test_fraction=keys["test_fraction"],
        test_seed=keys["test_seed"],
    )
    spec = Spec(
        dataset=NAME,
        kind="spectrogram" if features == "logmel" else "sequence",
        shape=(1, read.steps(longest), bands) if features == "logmel" else (read.steps(longest), read.hop),
        task="classification",
        classes=classes,
        counts=tuple(train.targets.bincount(minlength=len(classes)).tolist()),
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
        preprocess={"sample_rate": rate, "max_samples": longest},
        warnings=warnings,
        places=[sound.place for sound in sounds],
    )


class _Sound(NamedTuple):
    """What is known of a file that has been read."""

    length: int  # samples
    digest: bytes  # of them
    wave: Tensor | None  # (samples,), where it is kept


@dataclass(frozen=True)
class _Waves:
    """The wave at a position, read from its file."""

    paths: Sequence[Path]
    rate: int
    most: int | None
    fine: bool

    def __call__(self, position: int) -> Tensor:
        return read_wave(self.paths[position], self.rate, self.most, fine=self.fine)


def _need_libraries() -> None:
    for name in ("soundfile", "soxr"):
        try:
            importlib.import_module(name)
        except (ImportError, OSError) as error:  # OSError: libsndfile itself is missing
            raise ConfigError(f"dataset={NAME}: needs {name} ({error}): pip install 'trainer-cli[audio]'") from error


def _samples(key: str, milliseconds: float, rate: int) -> int:
    samples = round(milliseconds * rate / 1000)
    if samples < 1:
        raise ConfigError(
            f"dataset.{key}: must be at least {1000 / rate:g} milliseconds, one sample at {rate} samples a second, "
            f"got {milliseconds:g}"
        )
    return samples


def _headed(files: Sequence[Item], problems: Problems) -> list[Item]:
    """The files that are sounds by their heads, which become their content."""
    heads = read_all(lambda at: read_header(files[at].content), [file.place for file in files], problems)
    return [file._replace(content=head) for file, head in zip(files, heads, strict=True) if head is not None]


def _usual_rate(headed: Sequence[Item]) -> int:
    """The rate that most files of train have; of two that are as frequent the higher one."""
    train = [item for item in headed if item.split in ("", "train")] or headed
    counts: Counter[int] = Counter(item.content.rate for item in train)
    return max(counts, key=lambda rate: (counts[rate], rate))


def _num_bytes(headed: Sequence[Item], rate: int, most: int | None, *, fine: bool) -> int:
    """About what all waves take in memory."""
    heads: list[Header] = [item.content for item in headed]
    lengths = [-(-head.frames * rate // head.rate) for head in heads]
    return sum(length if most is None else min(length, most) for length in lengths) * (4 if fine else 2)


def _read(headed: Sequence[Item], waves: _Waves, problems: Problems, *, keep: bool) -> list[Item]:
    """The files that can be read, with what has been learned of them as their content."""

    def sound(position: int) -> _Sound:
        wave = waves(position)
        return _Sound(len(wave), hashlib.sha256(wave.numpy().data).digest(), wave if keep else None)

    sounds = read_all(sound, [item.place for item in headed], problems)
    return [item._replace(content=found) for item, found in zip(headed, sounds, strict=True) if found is not None]


def _source(sounds: Sequence[Item], targets: Tensor, longest: int, waves: _Waves, *, in_memory: bool) -> Source:
    """In memory or read when asked for, at most ``longest`` samples of each."""
    if in_memory:
        return RaggedSource.join([sound.content.wave[:longest] for sound in sounds], targets)
    lengths = torch.tensor([sound.content.length for sound in sounds]).clamp_max(longest)
    paths = [Path(sound.place) for sound in sounds]
    return FileSource(_Waves(paths, waves.rate, longest, waves.fine), targets, lengths)


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
