"""Class folders of sounds, on real files."""

from __future__ import annotations

import functools
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from tests.conftest import Train
from tests.data.test_audio import bad_file
from tests.helpers import assert_same_batches, load_data, loaders_of, refused
from trainer.config import ConfigError, RunError
from trainer.data import Data, Normalise, RaggedSource
from trainer.data.readers.files import FileSource

LOUD = {"shift": 0.01, "noise": 0.1, "time_mask": 3, "freq_mask": 2}


def tone(path: Path, frequency: float, samples: int, rate: int = 8000, **how: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(samples).normal(0, 0.01, samples)
    soundfile.write(path, 0.3 * np.sin(2 * np.pi * frequency * np.arange(samples) / rate) + noise, rate, **how)


@pytest.fixture
def sounds(tmp_path: Path) -> Path:
    """Low and high tones of 400 to 1,650 samples, 24 to train with and 6 to test."""
    for split, start, number in (("train", 400, 12), ("test", 500, 3)):
        for label, frequency in (("low", 300), ("high", 2000)):
            for at in range(number):
                suffix = (".wav", ".flac", ".ogg")[at % 3]
                path = tmp_path / "sounds" / split / label / f"{label}{at}{suffix}"
                tone(path, frequency + 10 * at, start + 113 * at)
    return tmp_path / "sounds"


make = functools.partial(load_data, "audio_folder")
refusal = functools.partial(refused, make)


def test_sounds_are_spectrograms_of_their_lengths(sounds: Path) -> None:
    data = make(sounds)
    assert (len(data.train), len(data.val or ()), len(data.test)) == (22, 2, 6)
    assert data.spec.classes == ("high", "low")
    assert sum(data.spec.counts) == 22
    # 400 + 11·113 = 1,643 samples; frames of 200 that begin every 80: 1 + ⌈(1643 - 200) / 80⌉
    assert (data.spec.kind, data.spec.shape, data.spec.varying) == ("spectrogram", (1, 20, 40), True)
    assert data.preprocessing()["features"] == {
        "name": "logmel",
        "sample_rate": 8000,
        "window": 200,
        "hop": 80,
        "bands": 40,
    }
    assert data.places is not None
    for position in data.test.positions.tolist():
        path = Path(data.places[position])
        samples = soundfile.info(path).frames
        waves, lengths = data.test.source.fetch(torch.tensor([position]))
        assert lengths.tolist() == [samples]
        assert waves.dtype == torch.int16
        wanted = soundfile.read(path, dtype="float32")[0]
        assert float((waves[0].float() / 32768 - torch.from_numpy(wanted)).abs().max()) <= 0.5 / 32768
        assert data.spec.classes[int(data.test.source.targets[position])] == path.parent.name


def test_raw_sounds_are_sequences_of_pieces(sounds: Path) -> None:
    data = make(sounds, features="raw", hop=5.0)
    assert (data.spec.kind, data.spec.shape, data.spec.varying) == ("sequence", (42, 40), True)  # ⌈1643 / 40⌉
    assert isinstance(data.normalise, Normalise)
    samples = torch.cat([wave_of(data, position) for position in data.train.positions.tolist()])
    torch.testing.assert_close(data.normalise.mean, samples.mean().view(1).float(), rtol=1e-3, atol=1e-7)
    torch.testing.assert_close(data.normalise.std, samples.std().view(1).float(), rtol=1e-3, atol=0)


def wave_of(data: Data, position: int) -> torch.Tensor:
    """In float64, 1 being full scale."""
    return data.train.source.fetch(torch.tensor([position]))[0][0].double() / 32768


def test_every_band_of_train_is_normalised(sounds: Path) -> None:
    data = make(sounds, val_fraction=0.0)
    loaders = loaders_of(data, 5)
    frames = []
    for batch in loaders.train.epoch(0):
        spectrograms, lengths = batch.inputs
        for spectrogram, length in zip(spectrograms, lengths.tolist(), strict=True):
            frames.append(spectrogram[0, :length])
            assert not spectrogram[0, length:].any()
    all_frames = torch.cat(frames).double()
    torch.testing.assert_close(all_frames.mean(0), torch.zeros(40).double(), rtol=0, atol=1e-4)
    torch.testing.assert_close(all_frames.std(0, unbiased=False), torch.ones(40).double(), rtol=1e-4, atol=0)


@pytest.mark.parametrize("features", ["logmel", "raw"])
@pytest.mark.parametrize("workers", [0, 2])
def test_both_paths_give_the_same_batches_bit_for_bit(sounds: Path, features: str, workers: int) -> None:
    tone(sounds / "test" / "low" / "long.wav", 300, 3000)
    tone(sounds / "train" / "low" / "fast.wav", 300, 2000, 16000)
    augment = {**LOUD, "time_mask": 0, "freq_mask": 0} if features == "raw" else LOUD
    paths = [
        make(sounds, features=features, augment=augment, in_memory=in_memory, workers=workers)
        for in_memory in (True, False)
    ]
    assert isinstance(paths[0].train.source, RaggedSource)
    assert isinstance(paths[1].train.source, FileSource)
    assert paths[0].spec == paths[1].spec
    assert paths[0].fingerprint() == paths[1].fingerprint()
    assert paths[0].preprocessing() == paths[1].preprocessing()
    assert_same_batches(*paths)


def test_another_sound_is_other_data(sounds: Path) -> None:
    before = make(sounds).fingerprint()
    assert make(sounds, bands=20).fingerprint() == before
    assert make(sounds, max_seconds=0.1).fingerprint() != before
    file = sounds / "train" / "low" / "low0.wav"
    size = file.stat().st_size
    tone(file, 301, 400)
    assert file.stat().st_size == size
    assert make(sounds).fingerprint() != before


def test_all_are_brought_to_the_rate_of_most_of_train(sounds: Path) -> None:
    tone(sounds / "train" / "low" / "fast.wav", 300, 1600, 16000)
    for at in range(40):
        tone(sounds / "test" / "low" / f"fast{at}.wav", 300, 600, 16000)
    data = make(sounds)
    assert data.preprocessing()["sample_rate"] == 8000
    assert data.places is not None
    place = data.places.index(str(sounds / "train" / "low" / "fast.wav"))
    assert data.train.source.fetch(torch.tensor([place]))[1].tolist() == [800]
    assert make(sounds, sample_rate=4000).spec.shape == (1, 20, 40)  # 822 samples, frames of 100 every 40


def test_longer_sounds_are_cut(sounds: Path) -> None:
    tone(sounds / "test" / "low" / "long.wav", 300, 9000)
    longest = make(sounds)
    assert longest.spec.shape == (1, 20, 40)
    assert int(longest.test.lengths.max()) == 1643 if longest.test.lengths is not None else False
    cut = make(sounds, max_seconds=0.1)
    assert cut.spec.shape == (1, 1 + 600 // 80 + 1, 40)
    assert cut.train.lengths is not None
    assert int(cut.train.lengths.max()) == 800
    assert int(cut.train.lengths.min()) == 400


def test_24_bits_are_kept(sounds: Path) -> None:
    tone(sounds / "train" / "low" / "fine.wav", 300, 600, subtype="PCM_24")
    data = make(sounds)
    assert data.train.head(1).dtype == torch.float32
    assert data.places is not None
    place = data.places.index(str(sounds / "train" / "low" / "fine.wav"))
    wanted = soundfile.read(sounds / "train" / "low" / "fine.wav", dtype="float32")[0]
    assert data.train.source.fetch(torch.tensor([place]))[0][0].tolist() == wanted.tolist()


def test_splits_may_stand_anywhere_or_be_cut_off(sounds: Path) -> None:
    apart = make({"train": sounds / "train", "val": sounds / "test", "test": sounds / "test"})
    assert (len(apart.train), len(apart.val or ()), len(apart.test)) == (24, 6, 6)
    whole = make(sounds / "train", test_fraction=0.25, val_fraction=0.5)
    assert (len(whole.train), len(whole.val or ()), len(whole.test)) == (9, 9, 6)
    assert torch.equal(make(sounds / "train", 7).test.positions, make(sounds / "train", 8).test.positions)


BAD = ["empty", "text", "no samples", "nan", "cut wav", "cut flac"]


def make_bad(sounds: Path) -> None:
    for how in BAD:
        if how != "nan":  # a file of more than 16 bits, with which all are kept in more
            bad_file(sounds / "train" / "low" / f"bad {how}.wav", how)
    tone(sounds / "test" / "middle" / "a.wav", 1000, 500)
    (sounds / "train" / "silent").mkdir()
    (sounds / "train" / "low" / "notes.txt").write_text("not a sound by name")


@pytest.mark.parametrize("in_memory", [True, False])
def test_bad_files_are_left_out_where_that_is_asked_for(sounds: Path, in_memory: bool) -> None:
    clean = make(sounds)
    make_bad(sounds)
    data = make(sounds, on_error="skip", in_memory=in_memory)
    assert data.fingerprint() == clean.fingerprint()
    assert data.spec == clean.spec
    files, bad = data.warnings
    assert files.startswith("1 file is no sound by name and left out")
    assert "notes.txt" in files
    assert bad.startswith("7 bad samples left out: ")
    assert "and 2 more" in bad


@pytest.mark.parametrize("how", BAD)
def test_a_bad_file_is_refused_with_its_name_and_reason(sounds: Path, how: str) -> None:
    file = bad_file(sounds / "train" / "low" / "bad.wav", how)
    line = refusal(sounds)
    assert line.startswith(f"dataset=audio_folder: 1 bad sample: {file}: ")
    assert line.endswith("(dataset.on_error=skip leaves it out)")


def test_a_class_without_a_file_or_unknown_to_train_is_refused(sounds: Path) -> None:
    (sounds / "train" / "silent").mkdir()
    tone(sounds / "test" / "middle" / "a.wav", 1000, 500)
    line = refusal(sounds)
    assert f"{sounds / 'train' / 'silent'}: a class without a file" in line
    assert "class middle is in test (1 sample) but not in train" in line


@pytest.mark.parametrize("on_error", ["stop", "skip"])
def test_nothing_to_learn_from_is_refused(tmp_path: Path, on_error: str) -> None:
    (tmp_path / "low").mkdir()
    (tmp_path / "low" / "a.txt").write_text("no sound")
    assert "low: a class without a sound" in refusal(tmp_path, on_error=on_error)
    (tmp_path / "low" / "a.txt").unlink()
    tone(tmp_path / "low" / "a.wav", 300, 500)
    assert "only 1 class, low" in refusal(tmp_path, on_error=on_error)
    bad_file(tmp_path / "low" / "a.wav", "text")
    assert "a.wav: no sound that can be read" in refusal(tmp_path, on_error=on_error)


def test_a_file_that_vanishes_is_a_fault_of_the_run(sounds: Path) -> None:
    data = make(sounds, in_memory=False)
    file = sounds / "train" / "low" / "low0.wav"
    file.unlink()
    assert data.places is not None
    with pytest.raises(RunError, match=r"low0\.wav: no sound that can be read"):
        data.train.source.fetch(torch.tensor([data.places.index(os.fspath(file))]))


@pytest.mark.parametrize(
    ("keys", "line"),
    [
        ({"hop": 0.01}, "dataset.hop: must be at least 0.125 milliseconds"),
        ({"window": 0.01}, "dataset.window: must be at least 0.125 milliseconds"),
        ({"bands": 200}, "dataset.bands: must be at most"),
        ({"features": "raw", "augment": LOUD}, "dataset.augment: time_mask and freq_mask need dataset.features=logmel"),
    ],
    ids=str,
)
def test_keys_that_do_not_fit_the_sounds_are_named(sounds: Path, keys: dict[str, Any], line: str) -> None:
    assert refusal(sounds, **keys).startswith(line)


@pytest.mark.parametrize("library", ["soundfile", "soxr"])
def test_a_library_that_is_missing_is_named_with_what_brings_it(
    sounds: Path, library: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(ConfigError, match=rf"needs {library} .*pip install 'trainer-cli\[audio\]'"):
        make(sounds)


@pytest.mark.parametrize(
    "words",
    [
        ("model=cnn",),
        ("model=gru", "model.bidirectional=true"),
        pytest.param(("model=lstm",), marks=pytest.mark.slow),
        pytest.param(("model=torchvision", "model.size=32"), marks=pytest.mark.slow),
        pytest.param(("model=cnn", "dataset.features=raw"), marks=pytest.mark.slow),
        ("model=gru", "dataset.features=raw", "model.reset_after=false"),
    ],
    ids=" ".join,
)
def test_every_model_learns_from_sounds(train: Train, sounds: Path, words: tuple[str, ...]) -> None:
    result = train(*words, "dataset=audio_folder", f"dataset.path={sounds}", "max_steps=2", "logger=none")
    assert result.code == 0, result.err
    assert result.summary["steps"] == 2


@pytest.mark.parametrize("recipe", ["cnn", "gru", "lstm"])
def test_a_recipe_starts(train: Train, sounds: Path, recipe: str) -> None:
    result = train(f"experiment=spoken_digits_{recipe}", f"dataset.path={sounds}", "max_steps=2", "logger=none")
    assert result.code == 0, result.err
    assert result.summary["steps"] == 2


@pytest.fixture
def spoken_digits(data_root: Path) -> Path:
    """The Free Spoken Digit Dataset, where it is."""
    if not (data_root / "spoken_digits" / "train").is_dir():
        pytest.skip(f"no spoken_digits in {data_root}")
    return data_root / "spoken_digits"


def test_spoken_digits_are_read_whole(spoken_digits: Path) -> None:
    data = make(spoken_digits)
    assert (len(data.train), len(data.val or ()), len(data.test)) == (2430, 270, 300)
    assert data.spec.classes == tuple("0123456789")
    assert data.spec.shape == (1, 227, 40)
    assert data.test.targets.bincount().tolist() == [30] * 10
    assert data.warnings == ()


@pytest.mark.slow
@pytest.mark.parametrize(("recipe", "floor"), [("cnn", 0.98), ("gru", 0.95), ("lstm", 0.95)])
def test_a_recipe_reaches_its_accuracy(train: Train, spoken_digits: Path, recipe: str, floor: float) -> None:
    result = train(f"experiment=spoken_digits_{recipe}", f"dataset.path={spoken_digits}", "logger=none")
    assert result.code == 0, result.err
    assert result.summary["test/accuracy"] >= floor - 0.01  # of one seed; the floor is of the mean of three


def test_a_table_names_the_classes_labels_or_values_of_sounds(tmp_path: Path) -> None:
    rows = ["filename,fold,target,category,esc10,src_file,take,loudness"]
    for at in range(20):
        name = f"{at % 5 + 1}-{1000 + at}-A-{at % 2}.wav"
        tone(tmp_path / "audio" / name, 300 + 1000 * (at % 2), 400 + at)
        rows.append(f"{name},{at % 5 + 1},{at % 2},{('dog', 'crow')[at % 2]},{at % 3 == 0},{1000 + at},A,{at / 4}")
    (tmp_path / "esc50.csv").write_text("\n".join(rows))
    labels: dict[str, Any] = {"labels": str(tmp_path / "esc50.csv")}
    data = make(tmp_path / "audio", **labels)
    assert (data.spec.classes, [len(part) for part in data.splits().values()]) == (("crow", "dog"), [12, 4, 4])
    assert data.notes == ("target category (target says the same)", "test is fold 5, val fold 4")
    assert data.places is not None
    assert {Path(data.places[at]).name[0] for at in data.test.positions.tolist()} == {"5"}
    for at in data.train.positions.tolist():
        number = int(Path(data.places[at]).name.split("-")[1])
        assert data.spec.classes[int(data.train.source.targets[at])] == ("dog", "crow")[number % 2]
    values = make(tmp_path / "audio", **labels, target="loudness", in_memory=False)
    assert (values.spec.task, values.spec.classes) == ("regression", ("loudness",))
    assert sorted(values.train.source.targets[:, 0].tolist()) == [at / 4 for at in range(20)]
    by_name = make(tmp_path / "audio", pattern="#-{group}-A-{label}.wav")
    assert (by_name.spec.classes, len(by_name.train)) == (("0", "1"), 16)
    flat = refusal(tmp_path / "audio")
    assert "has sounds but no class folders" in flat and "labels=" in flat


def test_parts_and_copies_of_sounds_are_no_classes_and_the_words_of_the_question_work(tmp_path: Path) -> None:
    """The layouts are those of UrbanSound8K, and of sounds beside a changed copy."""
    rows = ["slice_file_name,fold,classID,class"]
    for fold in range(1, 5):
        for at, (label, frequency) in enumerate((("low", 300), ("high", 2000))):
            tone(tmp_path / "urban" / "audio" / f"fold{fold}" / f"{fold}-{at}.wav", frequency, 400 + fold)
            rows.append(f"{fold}-{at}.wav,{fold},{at},{label}")
            for copy in ("augmented/augmented", "original/original"):
                tone(tmp_path / "copies" / copy / label / f"{fold}.wav", frequency, 400 + fold)
    (tmp_path / "urban" / "meta data").mkdir()
    (tmp_path / "urban" / "meta data" / "urban.csv").write_text("\n".join(rows) + "\n")
    line = refusal(tmp_path / "urban")
    assert "audio: has sounds but no class folders" in line
    assert "if each folder (fold1, fold2, fold3 and 1 more) is a class with all that it holds, type " in line
    table = tmp_path / "urban" / "meta data" / "urban.csv"
    assert f"in a table, 'dataset.labels=\"{table}\"', or" in line
    assert make(tmp_path / "urban", labels=str(table)).spec.classes == ("high", "low")
    line = refusal(tmp_path / "copies")
    assert "augmented, original hold the same folders (high, low)" in line
    assert f"for one of them alone type dataset.path={tmp_path}/copies/original/original; " in line
    assert len(make(tmp_path / "copies" / "original" / "original").places or ()) == 8
