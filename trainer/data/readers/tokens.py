"""From texts to tokens: how a text is cut, and the vocabulary that training texts give."""

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
from trainer.data.data import Data, Inputs, RaggedSource, ReadOptions, class_counts, valid_steps
from trainer.data.random_numbers import SampleRandom
from trainer.data.readers.files import Item, OwnKeys, Problems, classify, divide
from trainer.spec import Spec

PADDING, UNKNOWN = 0, 1
NAMES = ("<padding>", "<unknown>")
WORDS = re.compile(r"\w+(?:['’]\w+)*|[^\w\s]")
MAX_UNKNOWN = 0.3  # of the tokens of train, before that is said
CHUNK = 1 << 20  # tokens between two writes to the disk


class TokenKeys(TypedDict):
    """The keys of data sets that hold texts."""

    tokens: Literal["words", "characters"]
    lowercase: bool
    vocabulary: PositiveInt
    min_count: PositiveInt
    max_length: PositiveInt | None


class TextAugmentKeys(TypedDict):
    """The keys under ``dataset.augment`` of texts."""

    drop: UnitInterval


class Keys(OwnKeys, TokenKeys):
    """Those of both."""

    augment: TextAugmentKeys


@dataclass(frozen=True)
class Tokenizer:
    """Cuts a text into words and signs, or into characters."""

    tokens: Literal["words", "characters"]
    lowercase: bool
    max_length: int | None

    @classmethod
    def of(cls, preprocessing: Mapping[str, Any]) -> Tokenizer:
        """That of a run, as its ``Data.preprocessing`` has it; what is longer than all it was made for is cut off."""
        longest = preprocessing["shape"][0]
        return cls(preprocessing["tokens"], preprocessing["lowercase"], preprocessing["max_length"] or longest)

    def __call__(self, text: str) -> list[str]:
        """The tokens of a text, at most ``max_length``; at least one, if it is only blanks a blank."""
        text = text.lower() if self.lowercase else text
        found = list(text) if self.tokens == "characters" else WORDS.findall(text)
        return found[: self.max_length] or [" "]


@dataclass(frozen=True)
class Encoded:
    """Texts as numbers that stand for tokens in the order in which they were first seen.

    Args:
        numbers: (tokens of all texts,) int32.
        lengths: (texts,) int64, each at least 1.
        tokens: what each number stands for.
    """

    numbers: np.ndarray
    lengths: Tensor
    tokens: list[str]

    def take(self, which: Tensor) -> Encoded:
        """Some of the texts, by their numbers (texts,) int64."""
        source = RaggedSource(torch.from_numpy(self.numbers), self.lengths, self.lengths)
        parts = [source.fetch(some) for some in which.split(1000)]
        kept = [values[valid_steps(lengths, values.shape[1])] for values, lengths in parts]
        return Encoded(torch.cat(kept).numpy(), self.lengths.index_select(0, which), self.tokens)

    def choose(self, train: Tensor, *, most: int, min_count: int) -> tuple[list[str], float]:
        """A vocabulary of training texts alone, the most frequent token first; the numbers become its numbers.

        Args:
            train: (texts,) bool, which ones may be counted.
            most: so many tokens at most, besides padding and the unknown one.
            min_count: leaves out what is rarer; so the unknown token is met, and learned.

        Returns:
            what each number stands for from now on, 0 being padding and 1 what is unknown; and the share of the
            training texts' tokens that are unknown.
        """
        seen = np.repeat(train.numpy(), self.lengths.numpy())
        counts = np.bincount(self.numbers[seen], minlength=len(self.tokens))
        frequent = np.flatnonzero(counts >= min_count).tolist()
        known = sorted(frequent, key=lambda number: (-counts[number], self.tokens[number]))[:most]
        unknown = 1 - float(counts[known].sum() / counts.sum())
        return self.use([*NAMES, *(self.tokens[number] for number in known)]), unknown

    def use(self, vocabulary: list[str]) -> list[str]:
        """Make the numbers those of a vocabulary, which is returned; what it does not have is unknown."""
        numbers = {token: number for number, token in enumerate(vocabulary) if number >= len(NAMES)}
        table = np.array([numbers.get(token, UNKNOWN) for token in self.tokens], dtype=np.int32)
        for start in range(0, len(self.numbers), CHUNK):  # in place: the numbers may stand on the disk
            part = self.numbers[start : start + CHUNK]
            part[:] = table[part]
        return vocabulary


def token_data(
    name: str, seed: int, found: Iterable[Item], options: ReadOptions, problems: Problems, **keys: Unpack[Keys]
) -> Data:
    """Samples whose content is a text.

    Raises:
        ConfigError: bad samples are to be refused, or nothing is left of a split.
    """
    known = options.preprocessing
    tokenizer = Tokenizer.of(known) if known else Tokenizer(keys["tokens"], keys["lowercase"], keys["max_length"])
    in_memory = keys["in_memory"] is not False
    items: list[Item] = []

    def texts() -> Iterator[str]:
        for item in found:
            items.append(item._replace(content=len(items)))
            yield item.content

    encoded = encode(texts(), tokenizer, in_memory=in_memory)
    kept, classes, targets = classify(name, items, options, problems)
    warnings = problems.settle()
    if len(kept) < len(items):
        encoded = encoded.take(torch.tensor([item.content for item in kept]))
    source = RaggedSource(torch.from_numpy(encoded.numbers), encoded.lengths, targets)
    train, val, test = divide(name, seed, source, [item.split for item in kept], options, keys)
    counted = torch.zeros(len(kept), dtype=torch.bool).index_fill_(0, train.positions, True)
    if known is None:
        vocabulary, unknown = encoded.choose(counted, most=keys["vocabulary"], min_count=keys["min_count"])
    else:
        vocabulary, unknown = encoded.use(known["vocabulary"]), 0.0
    if unknown > MAX_UNKNOWN:
        warnings += (
            f"{100 * unknown:.0f} % of the tokens of train are unknown, seen less than {keys['min_count']} times "
            "or too many; dataset.tokens=characters, dataset.min_count or dataset.vocabulary may be right",
        )
    spec = Spec(
        dataset=name,
        kind="tokens",
        shape=(int(encoded.lengths.max()),),
        task="classification",
        classes=classes,
        counts=class_counts(train, "classification", len(classes)),
        vocabulary=len(vocabulary),
        varying=True,
    )
    drop = keys["augment"]["drop"]
    return Data(
        spec,
        train,
        val,
        test,
        augment=Drop(drop) if drop > 0 else None,
        in_memory=in_memory,
        workers=keys["workers"],
        balanced=keys["sampler"] == "balanced",
        preprocess={
            "vocabulary": vocabulary,
            **dataclasses.asdict(tokenizer),
            "unit": "file" if Path(kept[0].place).is_file() else "line",  # a text is a whole file, or a line of one
        },
        warnings=warnings,
        places=[item.place for item in kept],
    )


def encode(texts: Iterable[str], tokenize: Callable[[str], list[str]], *, in_memory: bool) -> Encoded:
    """Number the tokens of all texts, reading each once.

    Args:
        texts: one after the other; only their numbers are kept.
        tokenize: cuts a text into at least one token.
        in_memory: else the numbers stand in a nameless temporary file, which the system reads when they are needed.
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
    return Encoded(joined, torch.tensor(lengths, dtype=torch.int64), list(known))


@dataclass(frozen=True)
class Drop:
    """Makes training tokens unknown, each with the chance ``chance`` (word dropout, Iyyer et al. 2015)."""

    chance: float

    def __call__(self, inputs: Inputs, draws: SampleRandom) -> Inputs:
        """(batch, steps) tokens and their lengths; padding stays padding."""
        tokens, *lengths = inputs
        dropped = draws.uniform("drop", tokens.shape[1]) < self.chance
        return torch.where(dropped & (tokens != PADDING), UNKNOWN, tokens), *lengths
