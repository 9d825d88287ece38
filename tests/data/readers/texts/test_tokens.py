"""Tokens of data sets of texts: what is learned from train alone, kept by a run, and joined for display."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.helpers import assert_same_batches, defaults, load_data
from trainer.data import Data, ReadOptions
from trainer.data.readers.texts.tokens import Tokenizer, join_tokens
from trainer.data.readers.texts.vocabulary import encode
from trainer.dataset import DATASETS

THAI = {"pos": ["ดีมากวันนี้", "ชอบหนังเรื่องนี้"], "neg": ["แย่มากวันนี้", "น่าเบื่อมากหนัง"]}
ENGLISH = {"pos": ["a good, funny film", "it's good!"], "neg": ["a bad, boring film", "isn't bad?"]}


def write(folder: Path, texts: dict[str, list[str]], times: int = 10) -> Path:
    folder.mkdir(parents=True)
    for label, lines in texts.items():
        (folder / f"{label}.txt").write_text("\n".join(lines * times) + "\n", encoding="utf-8")
    return folder


def read_again(data: Data, path: Path, **keys: Any) -> Data:
    """Read texts as a finished run does."""
    config = defaults("dataset", "text", path=str(path), **keys)
    found: Data = DATASETS.build(config, 0, options=ReadOptions(data.preprocessing()))
    return found


def shown(data: Data, position: int) -> str:
    numbers = data.train.source.fetch(torch.tensor([position]))[0][0].tolist()
    return join_tokens((data.preprocess["vocabulary"][number] for number in numbers), data.preprocess["tokens"])


@pytest.mark.parametrize("texts", [THAI, ENGLISH])
@pytest.mark.parametrize("max_length", [None, 3])
def test_subwords_in_a_file_are_those_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, texts: dict[str, list[str]], max_length: int | None
) -> None:
    pytest.importorskip("tokenizers")
    monkeypatch.setattr("trainer.data.readers.texts.vocabulary.CHUNK", 7)  # the file is written in many parts
    path: Path = write(tmp_path / "d", texts)
    keys: dict[str, Any] = {"tokens": "subwords", "max_length": max_length}
    resident, streamed = load_data("text", path, **keys), load_data("text", path, in_memory=False, **keys)
    assert resident.preprocess == streamed.preprocess
    assert resident.fingerprint() == streamed.fingerprint()
    assert_same_batches(resident, streamed)
    assert max_length is None or resident.spec.shape[0] <= max_length
    again = read_again(resident, path, tokens="words", lowercase=False)  # the keys of the run count
    assert again.fingerprint() == resident.fingerprint()
    tokenizer = Tokenizer.from_preprocessing(resident.preprocessing())
    lines = [line for label in ("neg", "pos") for line in texts[label] * 10]
    for at in (0, 1, 20, 21):
        assert shown(resident, at) == join_tokens(tokenizer(lines[at]), "subwords")
        assert max_length or shown(resident, at) == lines[at]


@pytest.mark.parametrize("kind", ["words", "characters", "subwords"])
def test_val_and_test_do_not_change_what_is_learned(tmp_path: Path, kind: str) -> None:
    pytest.importorskip("tokenizers")
    write(tmp_path / "a" / "train", ENGLISH)
    write(tmp_path / "a" / "test", ENGLISH)
    write(tmp_path / "b" / "train", ENGLISH)
    write(tmp_path / "b" / "test", THAI, times=50)
    one, other = (load_data("text", tmp_path / name, tokens=kind, val_fraction=0.0) for name in "ab")
    assert one.preprocess == {**other.preprocess}
    assert (other.test.source.fetch(other.test.positions)[0] == 1).any()


def test_a_run_of_an_earlier_version_keeps_its_words(tmp_path: Path) -> None:
    path = write(tmp_path / "d", {"pos": ["दिन don't 1,5"], "neg": ["दो İ 1990's"]})
    old = load_data("text", path, token_rules=1)
    preprocessing = old.preprocessing()
    assert preprocessing.pop("token_rules") == 1  # which an earlier version did not save
    assert {"1990's", "i\u0307"} & {*preprocessing["vocabulary"]} == {"1990's"}
    tokenizer = Tokenizer.from_preprocessing(preprocessing)
    assert tokenizer("दिन İ 1,5") == ["द", "\u093f", "न", "i", "\u0307", "1", ","]  # the longest text has 7
    assert load_data("text", path).preprocess["token_rules"] == 2


def test_words_that_do_not_fit_the_script_are_warned_of(tmp_path: Path) -> None:
    (warning,) = load_data("text", write(tmp_path / "d", THAI)).warnings
    assert warning == (
        "100 % of the words of train are single letters or syllables of a script without spaces (Thai); "
        "dataset.tokens=subwords or dataset.tokens=characters may be right"
    )
    assert not load_data("text", tmp_path / "d", tokens="characters").warnings
    assert not load_data("text", write(tmp_path / "e", ENGLISH)).warnings


def test_expanded_texts_have_the_numbers_of_the_table() -> None:
    texts = ["a b", "c", "b b b a"]
    encoded = encode(texts, str.split, in_memory=True)
    table = {"a": [5], "b": [6, 7], "c": [8, 9, 10]}
    for most in (None, 1, 2, 3):
        found = encoded.expand([table[token] for token in encoded.tokens], most)
        wanted = [[number for token in text.split() for number in table[token]][:most] for text in texts]
        assert found.lengths.tolist() == [*map(len, wanted)]
        assert np.array_equal(found.numbers, np.concatenate(wanted))


def test_tokens_are_joined_as_texts_are_written() -> None:
    assert join_tokens(["▁a", "▁fun", "ny", "▁film", "!"], "subwords") == "a funny film!"
    assert join_tokens("ดีมาก", "characters") == "ดีมาก"
    assert join_tokens(["我", "爱", "NLP", "!"], "words") == "我爱 NLP !"
    assert join_tokens(["3", "4"], None) == "3 4"
