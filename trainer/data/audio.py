"""Sounds: read waves from files, compute features, and augment batches."""

from __future__ import annotations

import contextlib
import io
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, TypedDict

import numpy as np
import torch
import torch.nn.functional as F
from msgspec import Meta
from torch import Tensor

from trainer.config import ConfigError, NonNegativeInt, RunError
from trainer.config.untrusted_files import check_file, check_unpacked, need_memory
from trainer.data.random_numbers import SampleRandom
from trainer.data.sources import Inputs, keep, valid_steps

SUFFIXES = (".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff", ".au", ".caf", ".w64")
# Formats with more than 16 bits per sample. The samples of all other formats are stored as int16, in half the memory.
FINE = ("PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ALAC_20", "ALAC_24", "ALAC_32")
FULL_SCALE = 2**15  # the int16 amplitude that corresponds to 1.0 in float32
FLOOR = 1e-8  # added to the power before the logarithm: 80 dB below full scale
# The number of samples of waves that are processed at once bounds the memory of intermediate results. On a CPU these
# should fit into the caches; on a GPU they take half a gigabyte, because each launch of a kernel costs time.
CHUNK, CHUNK_ON_GPU = 2**20, 2**23

SoundFile = Path | io.BytesIO  # the path or the content of a file
FeatureName = Literal["logmel", "raw"]
Milliseconds = Annotated[float, Meta(gt=0, le=1000)]


class Header(NamedTuple):
    """The header of a sound file.

    Args:
        rate: the sample rate in Hz.
        frames: the number of samples of each channel.
        fine: whether a sample has more than 16 bits.
    """

    rate: int
    frames: int
    fine: bool


def read_header(file: SoundFile, place: str = "") -> Header:
    """Read the header of a sound file without its samples.

    Args:
        file: a file in any format that libsndfile reads.
        place: the file name for error messages; needed only if ``file`` holds the content of a file.

    Raises:
        RunError: the file cannot be read as a sound, has no samples, or is a truncated wav file.
    """
    import soundfile

    place = place or str(file)
    with _reading(place):
        start, size = _start(file)
        head = soundfile.info(file)
    if head.frames == 0:
        raise RunError(f"{place}: a sound without a sample")
    if start[:4] == b"RIFF":  # libsndfile reads a truncated wav file without an error
        wanted = int.from_bytes(start[4:], "little") + 8
        if size + 1 < wanted < 2**31:  # programs that write to a stream declare a larger size
            raise RunError(f"{place}: cut off: {size} of {wanted} bytes")
    return Header(head.samplerate, head.frames, head.subtype in FINE)


@contextlib.contextmanager
def _reading(place: str) -> Iterator[None]:
    """Convert an error of libsndfile or of the operating system into a RunError of one line with the reason."""
    import soundfile

    try:
        yield
    except (soundfile.SoundFileError, OSError, TypeError) as error:  # TypeError: for the suffix .raw
        words = getattr(error, "error_string", None) or getattr(error, "strerror", None) or "damaged"
        reason = " ".join(str(words).split()).rstrip(".")
        raise RunError(f"{place}: no sound that can be read ({reason})") from error


def _start(file: SoundFile) -> tuple[bytes, int]:
    """Return the first 8 bytes and the size in bytes of a file."""
    if isinstance(file, io.BytesIO):
        return file.getvalue()[:8], len(file.getvalue())
    size = check_file(file).st_size
    with file.open("rb") as opened:
        return opened.read(8), size


def read_wave(file: SoundFile, rate: int, most: int | None, *, fine: bool, place: str = "") -> Tensor:
    """Read a sound file, average its channels, and resample the result.

    Args:
        file: a file in any format that libsndfile reads.
        rate: the sample rate of the result in Hz.
        most: the maximum number of samples of the result; longer waves are truncated. None keeps all samples.
        fine: return float32 instead of int16.
        place: the file name for error messages; needed only if ``file`` holds the content of a file.

    Returns:
        (samples,) float32 with a full scale of 1 if ``fine``, else int16.

    Raises:
        RunError: the file cannot be read as a sound, has no samples, is truncated, or contains NaN or infinity.
    """
    import soundfile

    place = place or str(file)
    with _reading(place):
        packed = check_file(file).st_size if isinstance(file, Path) else None
        opened = soundfile.SoundFile(file)
    with _reading(place), opened:
        wanted, own_rate, guessed = opened.frames, opened.samplerate, opened.format == "MP3"
        resampled = wanted * rate // own_rate if own_rate != rate else 0
        unpacked = 2 * wanted * opened.channels  # in the 16 bits that most files have
        if packed is not None:
            check_unpacked(packed, unpacked, place, "if it is meant, save it as .wav")
        need_memory(4 * (wanted * (opened.channels + (opened.channels > 1)) + 2 * resampled), place)
        channels = opened.read(dtype="float32", always_2d=True)
    if len(channels) < wanted and not guessed:
        raise RunError(f"{place}: cut off: {len(channels)} of {wanted} samples")
    wave = channels[:, 0] if channels.shape[1] == 1 else channels.mean(1)
    if not np.isfinite(wave).all():
        raise RunError(f"{place}: holds NaN or infinity")
    if own_rate != rate:
        import soxr

        wave = soxr.resample(wave, own_rate, rate)
    if len(wave) == 0:
        raise RunError(f"{place}: a sound without a sample")
    wave = wave[:most]
    if not fine:
        wave = np.clip(np.rint(wave * FULL_SCALE), -FULL_SCALE, FULL_SCALE - 1).astype(np.int16)
    return torch.from_numpy(np.ascontiguousarray(wave))


def as_wave(samples: Tensor) -> Tensor:
    """Convert samples from ``read_wave`` to float32 with a full scale of 1."""
    return samples.float() / FULL_SCALE if samples.dtype == torch.int16 else samples


def _at_once(waves: Tensor) -> int:
    """Return how many of the waves, (batch, samples), to process at once."""
    return max(1, (CHUNK if waves.device.type == "cpu" else CHUNK_ON_GPU) // waves.shape[1])


@dataclass(frozen=True)
class LogMel:
    """Compute log-mel spectrograms: the logarithm of the power in mel bands, for each frame.

    A frame is ``window`` samples, multiplied by a Hann window; a new frame begins every ``hop`` samples. Zeros fill up
    the last frame, so that the frames cover the whole wave and do not depend on the padding of the batch.

    Args:
        sample_rate: in Hz.
        hann: the Hann window, (window,) float32, scaled so that its squares sum to 1.
        hop: the distance between the starts of two frames, in samples.
        filters: (frequencies, bands) float32, the weight of each frequency in each band.
    """

    sample_rate: int
    hann: Tensor
    hop: int
    filters: Tensor

    @classmethod
    def make(cls, sample_rate: int, window: int, hop: int, bands: int) -> LogMel:
        """Compute the Hann window and the filters; ``window`` and ``hop`` are in samples.

        Raises:
            ConfigError: there are so many bands that one of them contains no frequency of the Fourier transform.
        """
        hann = torch.hann_window(window)
        filters = mel_filters(sample_rate, transform_size(window), bands)
        if not filters.any(0).all():
            most = bands
            while most > 1 and not mel_filters(sample_rate, transform_size(window), most).any(0).all():
                most -= 1
            raise ConfigError(
                f"dataset.bands: must be at most {most} with a window of {1000 * window / sample_rate:g} milliseconds "
                f"at {sample_rate} samples a second, got {bands}"
            )
        return cls(sample_rate, hann / hann.square().sum().sqrt(), hop, filters)

    def __call__(self, inputs: Inputs) -> Inputs:
        """Convert waves (batch, samples) and lengths to (batch, 1, frames, bands) float32 and lengths in frames."""
        waves, lengths = inputs
        window = len(self.hann)
        needed = (self.steps(waves.shape[1]) - 1) * self.hop + window
        padded = F.pad(waves, [0, max(0, needed - waves.shape[1])])
        bands = torch.cat([self._bands(part) for part in padded.split(_at_once(padded))])
        return bands.unsqueeze(1), 1 + _ceil_divide((lengths - window).clamp_min(0), self.hop)

    def _bands(self, waves: Tensor) -> Tensor:
        """Return (batch, frames, bands) for (batch, samples) waves."""
        frames = as_wave(waves).unfold(1, len(self.hann), self.hop) * self.hann
        spectrum = torch.fft.rfft(frames, n=transform_size(len(self.hann)))
        power = spectrum.real.square() + spectrum.imag.square()
        bands: Tensor = (power @ self.filters + FLOOR).log()
        return bands

    def to(self, device: torch.device) -> LogMel:
        return replace(self, hann=self.hann.to(device), filters=self.filters.to(device))

    def steps(self, samples: int) -> int:
        """Return the number of frames of a wave of ``samples`` samples."""
        return 1 + max(0, -(-(samples - len(self.hann)) // self.hop))

    def preprocessing(self) -> dict[str, Any]:
        return {
            "name": "logmel",
            "sample_rate": self.sample_rate,
            "window": len(self.hann),
            "hop": self.hop,
            "bands": self.filters.shape[1],
        }


def transform_size(window: int) -> int:
    """Return the size of the FFT of a window: the length of the window, rounded up to a power of two for speed."""
    return int(2 ** math.ceil(math.log2(window)))


def mel_filters(sample_rate: int, size: int, bands: int) -> Tensor:
    """Return triangular filters with 50 % overlap, equally spaced in mel from 0 Hz to half the sample rate.

    mel = 2595 log10(1 + f / 700) (O'Shaughnessy 1987), as in HTK (Young et al., The HTK Book, section 5.4).

    Args:
        sample_rate: in Hz.
        size: the size of the FFT.
        bands: the number of filters.

    Returns:
        (size / 2 + 1, bands) float32 in [0, 1]: the weight of each frequency in each band.
    """
    top = 2595 * math.log10(1 + sample_rate / 2 / 700)
    edges = 700 * (10 ** (torch.linspace(0, top, bands + 2, dtype=torch.float64) / 2595) - 1)
    frequencies = torch.arange(size // 2 + 1, dtype=torch.float64)[:, None] * sample_rate / size
    low, middle, high = edges[:-2], edges[1:-1], edges[2:]
    rising, falling = (frequencies - low) / (middle - low), (high - frequencies) / (high - middle)
    return torch.minimum(rising, falling).clamp_min(0).float()


@dataclass(frozen=True)
class RawSteps:
    """Cut raw waves into steps of ``hop`` samples; zeros fill up the last step."""

    sample_rate: int
    hop: int

    def __call__(self, inputs: Inputs) -> Inputs:
        """Convert waves (batch, samples) and their lengths to (batch, steps, hop) float32 and lengths in steps."""
        waves, lengths = inputs
        padded = F.pad(as_wave(waves), [0, -waves.shape[1] % self.hop])
        return padded.unflatten(1, (-1, self.hop)), _ceil_divide(lengths, self.hop)

    def to(self, device: torch.device) -> RawSteps:
        """Return self, because there are no tensors to copy."""
        return self

    def steps(self, samples: int) -> int:
        """Return the number of steps of a wave of ``samples`` samples."""
        return -(-samples // self.hop)

    def preprocessing(self) -> dict[str, Any]:
        return {"name": "raw", "sample_rate": self.sample_rate, "hop": self.hop}


def make_features(
    name: FeatureName, *, sample_rate: int, hop: int, window: int = 0, bands: int = 0
) -> LogMel | RawSteps:
    """Return the features whose ``preprocessing`` method returns these arguments; window and hop are in samples.

    Raises:
        ConfigError: see ``LogMel.make``.
    """
    if name == "raw":
        return RawSteps(sample_rate, hop)
    return LogMel.make(sample_rate, window, hop, bands)


def _ceil_divide(values: Tensor, by: int) -> Tensor:
    return (values + by - 1).div(by, rounding_mode="floor")


class AudioAugmentKeys(TypedDict):
    """The keys of ``dataset.augment`` for a data set of sounds."""

    shift: Annotated[float, Meta(ge=0, le=60)]
    noise: Annotated[float, Meta(ge=0, le=10)]
    time_mask: NonNegativeInt
    freq_mask: NonNegativeInt


@dataclass(frozen=True)
class AugmentWaves:
    """Shift waves in time and add Gaussian noise.

    Args:
        shift: the maximum shift in samples, in both directions; zeros fill the gap.
        noise: the maximum standard deviation of the noise, as a fraction of the root mean square of the wave.
    """

    shift: int
    noise: float

    def __call__(self, inputs: Inputs, draws: SampleRandom) -> Inputs:
        """Return the augmented waves, (batch, samples) float32, and the unchanged lengths, (batch,)."""
        waves, lengths = inputs
        some = _at_once(waves)
        parts = zip(waves.split(some), lengths.split(some), draws.split(some), strict=True)
        return torch.cat([self._change(as_wave(part), ends, of_part) for part, ends, of_part in parts]), lengths

    def _change(self, waves: Tensor, lengths: Tensor, draws: SampleRandom) -> Tensor:
        valid = valid_steps(lengths, waves.shape[1])
        if self.shift:
            later = (draws.uniform("shift") * (2 * self.shift + 1)).long() - self.shift
            steps = torch.arange(waves.shape[1], device=waves.device) - later[:, None]
            there = (steps >= 0) & (steps < lengths[:, None]) & valid
            waves = waves.gather(1, steps.clamp(0, waves.shape[1] - 1)).masked_fill(~there, 0)
        if self.noise:
            loudness = (waves.square().sum(1) / lengths).sqrt()
            deviation = draws.uniform("noise") * self.noise * loudness
            waves = keep(waves + deviation[:, None] * draws.normal("wave", waves.shape[1]), valid)
        return waves


@dataclass(frozen=True)
class AugmentBands:
    """Mask frames and bands of normalised spectrograms with 0, the mean value (SpecAugment, Park et al. 2019).

    The width of a mask is uniform between 0 and its maximum, and so is its position in the spectrogram.

    Args:
        time_mask: the maximum number of masked frames; never more than half of the frames of the sample.
        freq_mask: the maximum number of masked bands.
    """

    time_mask: int
    freq_mask: int

    def __call__(self, inputs: Inputs, draws: SampleRandom) -> Inputs:
        """Return the masked spectrograms, (batch, 1, frames, bands), and the unchanged lengths, (batch,)."""
        spectrograms, lengths = inputs
        numbers = draws.uniform("mask", 4)
        _, _, frames, bands = spectrograms.shape
        most = (lengths // 2).clamp_max(self.time_mask)
        in_time = _mask(frames, lengths, most, numbers[:, :2])
        in_frequency = _mask(bands, bands, min(self.freq_mask, bands), numbers[:, 2:])
        return spectrograms.masked_fill((in_time[:, :, None] | in_frequency[:, None, :])[:, None], 0), lengths


def _mask(size: int, lengths: Tensor | int, most: Tensor | int, draws: Tensor) -> Tensor:
    """Return a (batch, size) bool mask of up to ``most`` adjacent places within ``lengths``.

    Args:
        lengths: the mask stays within the first ``lengths`` places; (batch,), or one number for all samples.
        most: the maximum width of the mask; (batch,), or one number for all samples.
        draws: (batch, 2), uniform in [0, 1), for the width and the start of the mask.
    """
    width = (draws[:, 0] * (most + 1)).long()
    start = (draws[:, 1] * (lengths - width + 1)).long()
    places = torch.arange(size, device=draws.device)
    return (places >= start[:, None]) & (places < (start + width)[:, None])


def augmentations(keys: AudioAugmentKeys, sample_rate: int) -> tuple[AugmentWaves | None, AugmentBands | None]:
    """Return the augmentation of waves and the augmentation of features; each is None if its keys are 0."""
    waves = AugmentWaves(round(keys["shift"] * sample_rate), keys["noise"])
    bands = AugmentBands(keys["time_mask"], keys["freq_mask"])
    return (
        waves if waves.shift or waves.noise else None,
        bands if bands.time_mask or bands.freq_mask else None,
    )
