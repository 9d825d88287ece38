"""Tokens of texts: split texts into tokens, and choose the vocabulary of the training texts."""

from __future__ import annotations

import dataclasses
import re
import tempfile
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypedDict

import numpy as np
import torch
from torch import Tensor
from typing_extensions import Unpack

from trainer.config import PositiveInt, UnitInterval
from trainer.data.data import Data, ReadOptions, make_data
from trainer.data.random_numbers import SampleRandom
from trainer.data.readers.files import Item, OwnKeys, Problems, classify, divide
from trainer.data.sources import Inputs, RaggedSource

PADDING, UNKNOWN = 0, 1
NAMES = ("<padding>", "<unknown>")
WORDS = re.compile(r"\w+(?:['’]\w+)*|[^\w\s]")
MAX_UNKNOWN = 0.3  # largest share of unknown tokens in train that causes no warning
CHUNK = 1 << 20  # tokens that are written to disk, or renumbered, at a time


class TokenKeys(TypedDict):
    """The keys that determine how texts are split into tokens and how the vocabulary is chosen."""

    tokens: Literal["words", "characters"]
    lowercase: bool
    vocabulary: PositiveInt
    min_count: PositiveInt
    max_length: PositiveInt | None


class TextAugmentKeys(TypedDict):
    """The keys under ``dataset.augment`` of texts."""

    drop: UnitInterval


class TextKeys(OwnKeys, TokenKeys):
    """The keys that every data set of the user's own texts has."""

    augment: TextAugmentKeys


@dataclass(frozen=True)
class Tokenizer:
    """Splits a text into words and punctuation marks, or into characters.

    Args:
        tokens: the kind of tokens; words include punctuation marks.
        lowercase: convert the text to lower case first.
        max_length: keep at most this many tokens of a text, from its beginning; None keeps all.
    """

    tokens: Literal["words", "characters"]
    lowercase: bool
    max_length: int | None

    @classmethod
    def from_preprocessing(cls, preprocessing: Mapping[str, Any]) -> Tokenizer:
        """Return the tokenizer of a finished run.

        If the run has no ``max_length``, texts are cut off at the length of the longest text in its data set.
        """
        longest = preprocessing["shape"][0]
        return cls(preprocessing["tokens"], preprocessing["lowercase"], preprocessing["max_length"] or longest)

    def __call__(self, text: str) -> list[str]:
        """Return at least one and at most ``max_length`` tokens; a text without tokens has one token, a space."""
        text = text.lower() if self.lowercase else text
        found = list(text) if self.tokens == "characters" else WORDS.findall(text)
        return found[: self.max_length] or [" "]


@dataclass(frozen=True)
class EncodedTexts:
    """Texts as token numbers. Until ``renumber`` is called, tokens are numbered in the order of their first occurrence.

    Args:
        numbers: (tokens of all texts,) int32.
        lengths: (texts,) int64, each at least 1.
        tokens: the token of each number, before ``renumber``.
    """

    numbers: np.ndarray
    lengths: Tensor
    tokens: list[str]

    def take(self, which: list[int]) -> EncodedTexts:
        """Return the texts at the positions ``which``, which must be in ascending order."""
        kept = np.zeros(len(self.lengths), dtype=bool)
        kept[which] = True
        return EncodedTexts(self.numbers[np.repeat(kept, self.lengths.numpy())], self.lengths[which], self.tokens)

    def choose_vocabulary(self, train: Tensor, *, most: int, min_count: int) -> tuple[list[str], float]:
        """Choose the most frequent tokens of the training texts as the vocabulary, and renumber the texts in place.

        Args:
            train: (texts,) bool, true for the training texts.
            most: the maximum size of the vocabulary, without padding and the unknown token.
            min_count: tokens that occur less often become unknown, so that the unknown token occurs in training.

        Returns:
            The vocabulary, which is the token of each number (0 is padding, 1 the unknown token), and the share of
            unknown tokens in the training texts.
        """
        seen = np.repeat(train.numpy(), self.lengths.numpy())
        counts = np.bincount(self.numbers[seen], minlength=len(self.tokens))
        frequent = np.flatnonzero(counts >= min_count).tolist()
        known = sorted(frequent, key=lambda number: (-counts[number], self.tokens[number]))[:most]
        unknown = 1 - float(counts[known].sum() / counts.sum())
        vocabulary = [*NAMES, *(self.tokens[number] for number in known)]
        self.renumber(vocabulary)
        return vocabulary, unknown

    def renumber(self, vocabulary: list[str]) -> None:
        """Replace the token numbers, in place, by those of a vocabulary; tokens that are not in it become unknown."""
        numbers = {token: number for number, token in enumerate(vocabulary) if number >= len(NAMES)}
        table = np.array([numbers.get(token, UNKNOWN) for token in self.tokens], dtype=np.int32)
        for start in range(0, len(self.numbers), CHUNK):  # in chunks, as the numbers may be a memory map
            part = self.numbers[start : start + CHUNK]
            part[:] = table[part]


def token_data(
    seed: int, found: Iterable[Item], options: ReadOptions, problems: Problems, **keys: Unpack[TextKeys]
) -> Data:
    """Make a ``Data`` of labelled texts.

    Args:
        found: items with a text as content; they are iterated over once, and the texts are not kept.

    Raises:
        ConfigError: as ``classify``, or a split would have no samples.
    """
    dataset, known = problems.dataset, options.preprocessing
    if known is None:
        tokenizer = Tokenizer(keys["tokens"], keys["lowercase"], keys["max_length"])
    else:
        tokenizer = Tokenizer.from_preprocessing(known)
    in_memory = keys["in_memory"] is not False
    items, encoded = _encode_items(found, tokenizer, in_memory=in_memory)
    kept, classes, targets = classify(items, options, problems)
    if len(kept) < len(items):
        encoded = encoded.take([item.content for item in kept])
    source = RaggedSource(torch.from_numpy(encoded.numbers), encoded.lengths, targets)
    splits = divide(dataset, seed, source, [item.split for item in kept], options, keys)
    if known is None:
        vocabulary = _choose_vocabulary(encoded, splits[0].positions, problems, keys)
    else:
        vocabulary = known["vocabulary"]
        encoded.renumber(vocabulary)
    shape, drop = (int(encoded.lengths.max()),), keys["augment"]["drop"]
    return dataclasses.replace(
        make_data(dataset, "tokens", shape, classes, splits, keys, vocabulary=len(vocabulary), varying=True),
        augment=TokenDropout(drop) if drop > 0 else None,
        in_memory=keys["in_memory"],
        preprocess={
            "vocabulary": vocabulary,
            **dataclasses.asdict(tokenizer),
            "unit": "file" if Path(kept[0].place).is_file() else "line",  # a place is a file, or a line of a file
        },
        warnings=tuple(problems.warnings),
        places=[item.place for item in kept],
    )


def _encode_items(found: Iterable[Item], tokenizer: Tokenizer, *, in_memory: bool) -> tuple[list[Item], EncodedTexts]:
    """Return the encoded texts, and the items, whose content becomes the index of their text."""
    items: list[Item] = []

    def texts() -> Iterator[str]:
        for item in found:
            items.append(item._replace(content=len(items)))
            yield item.content

    encoded = encode(texts(), tokenizer, in_memory=in_memory)
    return items, encoded


def _choose_vocabulary(encoded: EncodedTexts, train: Tensor, problems: Problems, keys: TextKeys) -> list[str]:
    """Choose the vocabulary of the training texts, and warn if too many of their tokens are unknown."""
    counted = torch.zeros(len(encoded.lengths), dtype=torch.bool).index_fill_(0, train, True)
    vocabulary, unknown = encoded.choose_vocabulary(counted, most=keys["vocabulary"], min_count=keys["min_count"])
    if unknown > MAX_UNKNOWN:
        problems.warnings.append(
            f"{100 * unknown:.0f} % of the tokens of train are unknown, seen less than {keys['min_count']} times "
            "or too many; dataset.tokens=characters, dataset.min_count or dataset.vocabulary may be right"
        )
    return vocabulary


def encode(texts: Iterable[str], tokenize: Callable[[str], list[str]], *, in_memory: bool) -> EncodedTexts:
    """Number the tokens of all texts, reading each text once.

    Args:
        texts: the texts, of which only the token numbers are kept.
        tokenize: splits a text into at least one token.
        in_memory: hold the numbers in memory; otherwise in an unnamed temporary file, as a memory map.
    """
    known: dict[str, int] = {}
    lengths, numbers = array("q"), array("i")
    with tempfile.TemporaryFile() as file:
        for text in texts:
            found = tokenize(text)
            numbers.extend(known.setdefault(token, len(known)) for token in found)
            lengths.append(len(found))
            if not in_memory and len(numbers) >= CHUNK:
                numbers.tofile(file)
                numbers = array("i")
        if in_memory:
            joined = np.frombuffer(numbers, dtype=np.int32).copy()
        else:
            numbers.tofile(file)
            file.flush()
            joined = np.memmap(file, dtype=np.int32, mode="r+") if file.tell() else np.zeros(0, np.int32)
    return EncodedTexts(joined, torch.tensor(lengths, dtype=torch.int64), list(known))


@dataclass(frozen=True)
class TokenDropout:
    """Replaces each training token by the unknown token with a probability (word dropout, Iyyer et al. 2015)."""

    probability: float

    def __call__(self, inputs: Inputs, draws: SampleRandom) -> Inputs:
        """Return the (batch, steps) tokens, some of them replaced, and their lengths; padding stays padding."""
        tokens, *lengths = inputs
        dropped = draws.uniform("drop", tokens.shape[1]) < self.probability
        return torch.where(dropped & (tokens != PADDING), UNKNOWN, tokens), *lengths
