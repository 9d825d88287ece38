"""Subwords learned by byte-pair encoding from the pieces of train."""

from __future__ import annotations

import sys
from collections import Counter

import pytest

from trainer.config import ConfigError
from trainer.data.readers.texts.subwords import MAX_LETTERS, Subwords, split_pieces
from trainer.data.readers.texts.tokens import Tokenizer

pytest.importorskip("tokenizers")
TEXTS = ["low low low low low lower lower", "newest newest newest newest newest newest", "widest widest widest, ☃"]
COUNTS = Counter(piece for text in TEXTS for piece in split_pieces(text))


def learn(counts: Counter[str] = COUNTS, most: int = 30, min_count: int = 2) -> Subwords:
    return Subwords.learn([*counts], [*counts.values()], most=most, min_count=min_count)


def test_pieces_hold_the_spaces_before_them() -> None:
    assert split_pieces("  Don't <b>  go,\n(now)") == ["▁Don", "'", "t", "▁<", "b>", "▁go", ",", "▁(", "now", ")"]
    assert split_pieces("วันนี้ดีมาก") == ["▁วันนี้ดีมาก"]
    assert split_pieces(" \t") == []


def test_pairs_are_merged_by_their_frequency() -> None:
    found = learn()
    # the example of Sennrich et al. (2016): es (9), est (9), then lo (7)
    merged = [found.vocabulary[first] + found.vocabulary[second] for first, second in found.merges]
    assert merged[:4] == ["es", "est", "lo", "▁lo"]
    assert found.vocabulary[:2] == ["<padding>", "<unknown>"]
    assert found.split(["▁lowest", "☃a"]) == ["▁low", "est", "☃", "a"]
    assert [[found.vocabulary[number] for number in row] for row in found.numbers(["▁lowest", "☃☃"])] == [
        ["▁low", "est"],
        ["<unknown>", "<unknown>"],  # it occurs once
    ]


def test_the_order_of_the_pieces_does_not_matter() -> None:
    backwards = Counter(dict(sorted(COUNTS.items(), reverse=True)))
    assert learn(backwards) == learn()


@pytest.mark.parametrize("most", [1, 5, 20, 10**12])
def test_the_vocabulary_is_not_larger_than_asked_for_and_takes_no_memory_in_advance(most: int) -> None:
    found = learn(most=most)
    assert len(found.vocabulary) <= most + 2
    assert len({*found.vocabulary}) == len(found.vocabulary)


def test_a_long_piece_does_not_become_a_subword() -> None:
    found = learn(Counter({"▁" + "abcdefghij" * 10: 1000}))
    assert max(map(len, found.vocabulary[2:])) <= MAX_LETTERS
    assert "".join(found.split(["▁" + "abcdefghij" * 10])) == "▁" + "abcdefghij" * 10


def test_a_text_cannot_name_padding() -> None:
    found = learn(Counter(split_pieces("<padding> <unknown> " * 50)), most=200)
    numbers = [number for row in found.numbers(split_pieces("<padding><unknown>")) for number in row]
    assert min(numbers) > 1


def test_without_the_library_one_line_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(ConfigError, match=r"^dataset.tokens: subwords needs tokenizers: pip install '.*\[subwords\]'$"):
        Tokenizer("subwords", lowercase=True, max_length=None)
