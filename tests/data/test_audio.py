"""Sound, against sums written out in float64, files of other writers, and every wave by hand."""

from __future__ import annotations

import io
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from numpy.typing import NDArray
from torch import Tensor

from trainer.config import ConfigError, RunError
from trainer.data import audio
from trainer.data.audio import AugmentBands, AugmentWaves, LogMel, RawSteps, make_features, read_header, read_wave
from trainer.data.random_numbers import SampleRandom

Numbers = NDArray[np.float64]


def to_mel(frequency: float) -> float:
    return 2595 * math.log10(1 + frequency / 700)


def filters_by_hand(rate: int, size: int, bands: int) -> Numbers:
    """(frequencies, bands): the corner of each triangle by bisection of the mel scale, its sides as straight lines."""
    corners = []
    for number in range(bands + 2):
        wanted, low, high = to_mel(rate / 2) * number / (bands + 1), 0.0, rate / 2
        for _ in range(60):
            middle = (low + high) / 2
            low, high = (middle, high) if to_mel(middle) < wanted else (low, middle)
        corners.append((low + high) / 2)
    weights = np.zeros((size // 2 + 1, bands))
    for number in range(size // 2 + 1):
        for band in range(bands):
            weights[number, band] = np.interp(number * rate / size, corners[band : band + 3], [0, 1, 0])
    return weights


def logmel_by_hand(wave: Numbers, rate: int, window: int, hop: int, bands: int) -> Numbers:
    """(frames, bands): each frame's Fourier sum written out as a matrix."""
    size = 1
    while size < window:
        size *= 2
    hann = np.array([0.5 - 0.5 * math.cos(2 * math.pi * at / window) for at in range(window)])
    waves = np.exp(-2j * np.pi * np.outer(np.arange(size // 2 + 1), np.arange(window)) / size)
    frames, start = [], 0
    while True:
        frame = np.zeros(window)
        part = wave[start : start + window]
        frame[: len(part)] = part
        power = np.abs(waves @ (frame * hann)) ** 2 / (hann**2).sum()
        frames.append(np.log(power @ filters_by_hand(rate, size, bands) + 1e-8))
        if start + window >= len(wave):
            return np.stack(frames)
        start += hop


def padded(waves: list[Tensor]) -> tuple[Tensor, Tensor]:
    """(batch, steps) and lengths."""
    return torch.nn.utils.rnn.pad_sequence(waves, batch_first=True), torch.tensor([len(wave) for wave in waves])


@pytest.mark.parametrize(("rate", "size", "bands"), [(8000, 256, 40), (16000, 512, 80), (44100, 2048, 64)])
def test_mel_filters_are_triangles_at_equal_distances_in_mel(rate: int, size: int, bands: int) -> None:
    got = audio.mel_filters(rate, size, bands).double().numpy()
    # float32 of numbers up to 1
    np.testing.assert_allclose(got, filters_by_hand(rate, size, bands), atol=1e-6)


def test_the_scale_is_1000_mel_at_1000_hertz() -> None:
    assert to_mel(1000) == pytest.approx(1000, abs=0.1)
    weights = audio.mel_filters(16000, 4096, 10)
    peak = int(weights[:, 4].argmax()) * 16000 / 4096
    assert to_mel(peak) == pytest.approx(to_mel(8000) * 5 / 11, abs=5)


@pytest.mark.parametrize("samples", [1, 5, 199, 200, 201, 280, 281, 1000])
def test_log_mel_follows_its_sums_written_out(samples: int) -> None:
    wave = torch.randn(samples).clamp(-4, 4) / 4
    frames, lengths = LogMel.make(8000, 200, 80, 20)((wave[None], torch.tensor([samples])))
    wanted = logmel_by_hand(wave.double().numpy(), 8000, 200, 80, 20)
    assert lengths.tolist() == [len(wanted)]
    # float32 sums of 200 terms; the logarithm makes relative errors absolute ones
    np.testing.assert_allclose(frames[0, 0].double().numpy(), wanted, atol=1e-4)


def test_a_tone_is_loudest_in_the_band_around_it() -> None:
    logmel = LogMel.make(16000, 400, 160, 40)
    for frequency in (300.0, 1000.0, 5000.0):
        tone = torch.sin(2 * math.pi * frequency * torch.arange(4000) / 16000)
        frames, _ = logmel((tone[None], torch.tensor([4000])))
        band = int(frames[0, 0, 3].argmax())
        low, high = (to_mel(8000) * number / 41 for number in (band, band + 2))
        assert low < to_mel(frequency) < high


@pytest.mark.parametrize("features", [LogMel.make(8000, 200, 80, 20), RawSteps(8000, 80)], ids=["logmel", "raw"])
def test_features_of_a_wave_do_not_depend_on_the_others(features: LogMel | RawSteps) -> None:
    waves = [torch.randn(length) for length in (3000, 1, 200, 2999, 777)]
    together, lengths = features(padded(waves))
    for row, (wave, length) in enumerate(zip(waves, lengths.tolist(), strict=True)):
        alone, (own,) = features((wave[None], torch.tensor([len(wave)])))
        assert int(own) == length == features.steps(len(wave))
        rows, only = (each.squeeze(1) if each.ndim == 4 else each for each in (together, alone))
        assert only.shape[1] == length
        # kernels may sum in another order in another batch
        torch.testing.assert_close(rows[row, :length], only[0], rtol=1e-5, atol=1e-5)


def test_many_waves_are_worked_on_some_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    inputs = padded([torch.randn(length) for length in (300, 1000, 50)])
    draws = SampleRandom(torch.tensor([4, 8, 1]), "test")
    logmel, augment = LogMel.make(8000, 200, 80, 20), AugmentWaves(100, 0.5)
    whole = logmel(augment(inputs, draws))
    monkeypatch.setattr(audio, "CHUNK", 1100)
    torch.testing.assert_close(logmel(augment(inputs, draws)), whole, rtol=1e-5, atol=1e-5)


def test_whole_numbers_are_the_same_sound() -> None:
    whole = torch.randint(-(2**15), 2**15, (2, 900), dtype=torch.int16)
    lengths = torch.tensor([900, 900])
    for features in (LogMel.make(8000, 200, 80, 20), RawSteps(8000, 80)):
        assert torch.equal(features((whole, lengths))[0], features((whole.float() / 32768, lengths))[0])


def test_raw_steps_are_the_wave_in_pieces() -> None:
    waves = padded([torch.arange(1, 8).float(), torch.arange(1, 4).float()])
    steps, lengths = RawSteps(8000, 3)(waves)
    assert steps.tolist() == [[[1, 2, 3], [4, 5, 6], [7, 0, 0]], [[1, 2, 3], [0, 0, 0], [0, 0, 0]]]
    assert lengths.tolist() == [3, 1]


def test_bands_without_a_frequency_are_refused_with_the_most_there_can_be() -> None:
    with pytest.raises(ConfigError, match=r"dataset\.bands: must be at most (\d+) with a window of 25 milli") as caught:
        LogMel.make(8000, 200, 80, 128)
    most = int(str(caught.value).split("at most ")[1].split()[0])
    assert 40 <= most < 128
    assert LogMel.make(8000, 200, 80, most).filters.any(0).all()
    with pytest.raises(ConfigError):
        LogMel.make(8000, 200, 80, most + 1)


@pytest.mark.parametrize("features", [LogMel.make(8000, 200, 80, 20), RawSteps(8000, 80)], ids=["logmel", "raw"])
def test_what_is_said_of_the_features_repeats_them(features: LogMel | RawSteps) -> None:
    inputs = padded([torch.randn(1000), torch.randn(400)])
    again = make_features(**features.preprocessing())
    assert torch.equal(again(inputs)[0], features(inputs)[0])


def write(path: Path, wave: Any, rate: int = 8000, **how: Any) -> Path:
    soundfile.write(path, wave, rate, **how)
    return path


def sine(samples: int, frequency: float, rate: int) -> Numbers:
    return 0.5 * np.sin(2 * np.pi * frequency * np.arange(samples) / rate)


def test_a_wave_of_16_bits_is_read_bit_for_bit(tmp_path: Path) -> None:
    wave = np.random.default_rng(0).integers(-(2**15), 2**15, 500, dtype=np.int16)
    for name in ("a.wav", "a.flac"):
        got = read_wave(write(tmp_path / name, wave), 8000, None, fine=False)
        assert got.dtype == torch.int16
        assert got.tolist() == wave.tolist()


def test_a_wave_of_more_bits_keeps_them(tmp_path: Path) -> None:
    wave = np.random.default_rng(0).normal(0, 1e-5, 500).astype(np.float32)
    path = write(tmp_path / "a.wav", wave, subtype="FLOAT")
    assert read_header(path).fine
    assert not read_header(write(tmp_path / "b.wav", wave, subtype="PCM_16")).fine
    assert read_wave(path, 8000, None, fine=True).tolist() == wave.tolist()


def test_more_than_full_scale_is_cut_where_there_are_16_bits(tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav", np.array([1.5, -1.5, 0.5], dtype=np.float32), subtype="FLOAT")
    assert read_wave(path, 8000, None, fine=False).tolist() == [32767, -32768, 16384]


@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.ogg", "a.mp3", "a.aiff", "a.au", "a.caf", "a.w64"])
def test_every_kind_of_file_is_the_same_tone(tmp_path: Path, name: str) -> None:
    assert Path(name).suffix in audio.SUFFIXES
    path = write(tmp_path / name, sine(44100, 1000, 44100), 44100)
    assert read_header(path)[:2] == (44100, 44100)
    wave = audio.as_wave(read_wave(path, 44100, None, fine=False)).double().numpy()
    spectrum = np.abs(np.fft.rfft(wave[4410:-4410]))
    assert np.argmax(spectrum) == pytest.approx(1000 * 0.8, abs=1)
    assert np.sqrt((wave[4410:-4410] ** 2).mean()) == pytest.approx(0.5 / math.sqrt(2), rel=0.02)


@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.ogg", "a.mp3", "a.aiff"])
def test_what_is_in_a_file_is_the_same_sound(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / name, sine(9000, 1000, 44100), 44100)
    content = path.read_bytes()
    assert read_header(io.BytesIO(content)) == read_header(path)
    assert torch.equal(read_wave(io.BytesIO(content), 8000, 999, fine=True), read_wave(path, 8000, 999, fine=True))


def test_channels_are_mixed(tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav", np.array([[100, 300], [-50, 10]], dtype=np.int16))
    assert read_wave(path, 8000, None, fine=False).tolist() == [200, -20]


@pytest.mark.parametrize(("own", "wanted"), [(8000, 16000), (44100, 16000), (16000, 8000)])
def test_a_tone_stays_what_it_is_at_another_rate(tmp_path: Path, own: int, wanted: int) -> None:
    path = write(tmp_path / "a.wav", sine(own, 1000, own), own)
    wave = audio.as_wave(read_wave(path, wanted, None, fine=True)).double().numpy()
    assert len(wave) == wanted
    inner = slice(wanted // 10, -wanted // 10)  # the ends are those of the filter
    np.testing.assert_allclose(wave[inner], sine(wanted, 1000, wanted)[inner], atol=1e-3)


def test_what_lies_behind_the_most_is_cut_off_after_resampling(tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav", sine(1000, 500, 16000), 16000)
    whole, cut = (read_wave(path, 8000, most, fine=False) for most in (None, 300))
    assert len(whole) == 500
    assert torch.equal(cut, whole[:300])


def bad_file(path: Path, how: str) -> Path:
    """A file that is no good sound, in one way."""
    wave = sine(4000, 440, 8000).astype(np.float32)
    if how == "empty":
        path.write_bytes(b"")
    elif how == "text":
        path.write_text("no sound at all\n" * 50)
    elif how == "no samples":
        write(path, wave[:0])
    elif how == "nan":
        wave[7] = np.nan
        write(path, wave, subtype="FLOAT")
    elif how.startswith("cut"):
        whole = write(path.with_suffix(f".whole.{how.split()[1]}"), wave)
        path.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
        whole.unlink()
    return path


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ("empty", "no sound that can be read (Format not recognised)"),
        ("text", "no sound that can be read (Format not recognised)"),
        ("no samples", "a sound without a sample"),
        ("nan", "holds NaN or infinity"),
        ("cut wav", "cut off: 4022 of 8044 bytes"),
        ("cut flac", "no sound that can be read"),
        ("cut ogg", ""),
        ("missing", "no sound that can be read"),
    ],
)
def test_a_bad_file_is_named_with_its_reason(tmp_path: Path, how: str, reason: str) -> None:
    path = bad_file(tmp_path / "bad.wav", how)
    with pytest.raises(RunError) as caught:
        read_header(path)
        read_wave(path, 8000, None, fine=False)
    assert str(caught.value).startswith(f"{path}: {reason}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("how", ["empty", "text", "no samples", "nan", "cut wav", "cut flac"])
def test_a_bad_sound_in_memory_is_named_by_its_place(tmp_path: Path, how: str) -> None:
    path = bad_file(tmp_path / "bad.wav", how)
    messages = []
    for opened, place in ((lambda: path, ""), (lambda: io.BytesIO(path.read_bytes()), "row 3")):
        with pytest.raises(RunError) as caught:
            read_header(opened(), place)
            read_wave(opened(), 8000, None, fine=False, place=place)
        messages.append(str(caught.value).removeprefix(f"{place or path}: "))
    assert messages[0] == messages[1]
    assert not messages[0].startswith(("row", "/"))


def test_a_name_that_libsndfile_takes_for_samples_without_a_head_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.raw").write_bytes(bytes(100))
    with pytest.raises(RunError, match=r"a\.raw: no sound that can be read \(damaged\)"):
        read_header(tmp_path / "a.raw")


def test_a_wav_whose_writer_could_not_know_its_size_is_read(tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav", sine(100, 440, 8000))
    content = bytearray(path.read_bytes())
    content[4:8] = b"\xff" * 4  # as programs say that write to a pipe
    path.write_bytes(content)
    assert read_header(path).frames == 100


def test_shifted_waves_keep_their_length_and_are_silent_where_nothing_is() -> None:
    waves = padded([torch.arange(1, 101), torch.arange(1, 31)])
    waves = (waves[0].short(), waves[1])
    later = set()
    for sample in range(200):
        draws = SampleRandom(torch.tensor([sample, sample + 1000]), "test")
        shifted, lengths = AugmentWaves(shift=5, noise=0)(waves, draws)
        assert lengths.tolist() == [100, 30]
        for row, length in enumerate((100, 30)):
            values = (shifted[row] * 32768).tolist()
            by = next(by for by in range(-5, 6) if values[10] == 11 - by)
            assert values == [at - by + 1 if 0 <= at - by < length and at < length else 0 for at in range(100)]
            later.add(by)
    assert later == set(range(-5, 6))


def test_noise_is_as_loud_as_the_wave_allows_and_ends_with_it() -> None:
    waves, lengths = padded([torch.full((20000,), 0.5), torch.full((10000,), -0.01)])
    draws = [SampleRandom(torch.tensor([sample, sample]), "test") for sample in range(100)]
    ratios = []
    for each in draws:
        noisy, _ = AugmentWaves(shift=0, noise=0.2)((waves, lengths), each)
        assert not noisy[1, 10000:].any()
        ratios.append([float((noisy[0] - 0.5).std()) / 0.5, float((noisy[1, :10000] + 0.01).std()) / 0.01])
        assert float((noisy[0] - 0.5).mean().abs()) < 5 * 0.1 / 20000**0.5
    loud, quiet = torch.tensor(ratios).unbind(1)
    torch.testing.assert_close(loud, quiet, rtol=0.05, atol=0)  # the same draws
    # uniform from 0 to 0.2, a hundred times: the mean within five standard errors
    assert float(loud.max()) < 0.21
    assert float(loud.mean()) == pytest.approx(0.1, abs=5 * 0.2 / 12**0.5 / 10)


def test_augmentation_of_a_wave_does_not_depend_on_the_others() -> None:
    waves = [torch.randn(length) for length in (500, 90, 1200)]
    augment, positions = AugmentWaves(shift=40, noise=0.3), torch.tensor([5, 9, 2])
    together, _ = augment(padded(waves), SampleRandom(positions, "test"))
    for row, wave in enumerate(waves):
        alone, _ = augment(padded([wave]), SampleRandom(positions[row : row + 1], "test"))
        torch.testing.assert_close(together[row, : len(wave)], alone[0], rtol=1e-5, atol=1e-6)
        assert not together[row, len(wave) :].any()


def test_masks_are_runs_of_zeros_of_every_allowed_width_and_place() -> None:
    ones, lengths = torch.ones(2, 1, 12, 8), torch.tensor([12, 5])
    widths: dict[str, set[int]] = {"time": set(), "short": set(), "frequency": set()}
    starts = set()
    for sample in range(300):
        draws = SampleRandom(torch.tensor([sample, sample + 1000]), "test")
        masked, same = AugmentBands(time_mask=4, freq_mask=3)((ones, lengths), draws)
        assert same is lengths
        for row, length in enumerate((12, 5)):
            in_time = (masked[row, 0] == 0).all(1)
            in_frequency = (masked[row, 0] == 0).all(0)
            assert torch.equal(masked[row, 0] == 0, in_time[:, None] | in_frequency[None, :])
            for mask in (in_time, in_frequency):
                places = mask.nonzero().flatten().tolist()
                assert places == list(range(places[0], places[-1] + 1)) if places else True
            assert not in_time[length:].any()
            widths["short" if row else "time"].add(int(in_time.sum()))
            widths["frequency"].add(int(in_frequency.sum()))
            if int(in_time.sum()) == 4:
                starts.add(int(in_time.int().argmax()))
    assert widths == {"time": {0, 1, 2, 3, 4}, "short": {0, 1, 2}, "frequency": {0, 1, 2, 3}}
    assert starts == set(range(9))
