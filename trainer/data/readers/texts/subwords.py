"""Subwords of texts by byte-pair encoding (Sennrich et al. 2016), learned with Hugging Face's ``tokenizers``."""

from __future__ import annotations

import functools
import importlib
import itertools
import json
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from trainer.config import ConfigError
from trainer.config.messages import how_to_install
from trainer.data.readers.texts.vocabulary import NAMES, UNKNOWN

SPACE = "▁"  # stands for the space before a word, as in SentencePiece
MAX_LETTERS = 16  # of a subword, so that a sentence that occurs many times does not become one
MAX_KEPT = 1 << 16  # pieces whose subwords are remembered
TOGETHER = 10_000  # occurrences of a piece that are given to the library as one text


def need_library() -> Any:
    """Return the library ``tokenizers``.

    Raises:
        ConfigError: the library is missing.
    """
    # The threads of the library would be broken in the forked workers of a DataLoader, and help little with pieces.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    try:
        return importlib.import_module("tokenizers")
    except ImportError as error:
        raise ConfigError(f"dataset.tokens: subwords needs {error.name}: {how_to_install('subwords')}") from error


def split_pieces(text: str) -> list[str]:
    """Return the pieces of a text, which are the longest possible subwords.

    A piece is a punctuation mark, or what is between spaces and punctuation marks; after a space, it begins with SPACE.
    """
    words = text.split()
    found: list[str] = _pieces().findall(SPACE + SPACE.join(words)) if words else []
    return found


@functools.cache
def _pieces() -> Any:
    import regex

    # "<" is its own piece, so that no text has a subword that is named as padding or as the unknown token
    return regex.compile(rf"(?V1){SPACE}?(?:[^{SPACE}\p{{P}}<]++|[\p{{P}}<])|{SPACE}")


@dataclass(frozen=True)
class Subwords:
    """A vocabulary of subwords, and how they are put together.

    Args:
        vocabulary: the subword of each number, after the names of padding and of the unknown token.
        merges: the pairs of numbers whose subwords are merged, first the pair that is merged first.
    """

    vocabulary: list[str]
    merges: list[list[int]]

    @classmethod
    def learn(cls, pieces: Sequence[str], counts: Sequence[int], *, most: int, min_count: int) -> Subwords:
        """Learn subwords. The result depends neither on the order of the pieces nor on the number of threads.

        Args:
            pieces: different pieces of the training texts.
            counts: how often each of them occurs.
            most: the maximum number of subwords, which include the letters.
            min_count: letters and pairs that occur less often are no subwords.
        """
        library = need_library()
        letters = Counter[str]()
        for piece, count in zip(pieces, counts, strict=True):
            for letter in piece:
                letters[letter] += count
        ranked = sorted(letters, key=lambda letter: (-letters[letter], letter))
        known = {letter for letter in ranked[:most] if letters[letter] >= min_count}
        rare = str.maketrans(dict.fromkeys((letter for letter in ranked if letter not in known), " "))

        def texts() -> Iterator[str]:
            for piece, count in zip(pieces, counts, strict=True):
                seen = piece.translate(rare)
                for start in range(0, count, TOGETHER):
                    yield " ".join(itertools.repeat(seen, min(TOGETHER, count - start)))

        tokenizer = library.Tokenizer(library.models.BPE())
        tokenizer.pre_tokenizer = library.pre_tokenizers.WhitespaceSplit()
        learner = library.trainers.BpeTrainer(
            # the library reserves memory for so many
            vocab_size=len(NAMES) + min(most, len(known) + sum(map(len, pieces))),
            min_frequency=min_count,
            special_tokens=[*NAMES],
            max_token_length=MAX_LETTERS,
            show_progress=False,
        )
        tokenizer.train_from_iterator(texts(), learner)
        model = json.loads(tokenizer.to_str())["model"]
        numbers = model["vocab"]
        return cls(
            sorted(numbers, key=numbers.__getitem__), [[numbers[each] for each in pair] for pair in model["merges"]]
        )

    @functools.cached_property
    def _tokenizer(self) -> Any:
        library, names = need_library(), self.vocabulary
        model = library.models.BPE(
            {name: number for number, name in enumerate(names)},
            [(names[first], names[second]) for first, second in self.merges],
            unk_token=names[UNKNOWN],
        )
        return library.Tokenizer(model)

    def numbers(self, pieces: Sequence[str]) -> list[list[int]]:
        """Return the numbers of the subwords of each piece."""
        return [found.ids for found in self._tokenizer.encode_batch(list(pieces), add_special_tokens=False)]

    def split(self, pieces: Sequence[str]) -> list[str]:
        """Return the subwords of all pieces, and unknown letters as they are."""
        return list(itertools.chain.from_iterable(map(self._split_piece, pieces)))

    @functools.cached_property
    def _split_piece(self) -> Callable[[str], list[str]]:
        encode = self._tokenizer.encode

        @functools.lru_cache(MAX_KEPT)
        def split(piece: str) -> list[str]:
            return [piece[start:end] for start, end in encode(piece, add_special_tokens=False).offsets]

        return split
