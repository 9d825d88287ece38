"""Tokens of texts: split texts into tokens, and choose the vocabulary of the training texts."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypedDict

import torch
from torch import Tensor
from typing_extensions import Unpack

from trainer.config import PositiveInt, UnitInterval
from trainer.data.data import Data, ReadOptions, make_data
from trainer.data.random_numbers import SampleRandom
from trainer.data.readers.files import Item, OwnKeys, Problems, divide
from trainer.data.readers.labels.labelling import Labelling
from trainer.data.readers.texts.subwords import SPACE, Subwords, need_library, split_pieces
from trainer.data.readers.texts.vocabulary import NAMES, PADDING, UNKNOWN, EncodedTexts, encode
from trainer.data.readers.texts.words import RULES, count_unspaced, join_words, normalise, split_words
from trainer.data.sources import Inputs, RaggedSource, Split

TokenKind = Literal["words", "characters", "subwords"]
MAX_UNKNOWN = 0.3  # largest share of unknown tokens in train that causes no warning
MAX_UNSPACED = 0.3  # largest share of words in scripts without spaces in train that causes no warning


class TokenKeys(TypedDict):
    """The keys that determine how texts are split into tokens and how the vocabulary is chosen."""

    tokens: TokenKind
    lowercase: bool
    token_rules: Literal[1, 2]
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
    """Splits a text into words and punctuation marks, into characters, or into subwords.

    Args:
        tokens: the kind of tokens; words include punctuation marks.
        lowercase: convert the text to lower case first.
        max_length: keep at most this many tokens of a text, from its beginning; None keeps all.
        rules: the version of the rules of normalisation and word boundaries.
        subwords: the subwords of the training texts; None until they are learned, and for other kinds of tokens.

    Raises:
        ConfigError: the library of subwords is missing.
    """

    tokens: TokenKind
    lowercase: bool
    max_length: int | None
    rules: int = RULES
    subwords: Subwords | None = None

    def __post_init__(self) -> None:
        if self.tokens == "subwords":
            need_library()  # before texts are read

    @classmethod
    def from_preprocessing(cls, preprocessing: Mapping[str, Any]) -> Tokenizer:
        """Return the tokenizer of a finished run.

        If the run has no ``max_length``, texts are cut off at the length of the longest text in its data set.
        """
        kind, vocabulary = preprocessing["tokens"], preprocessing["vocabulary"]
        return cls(
            kind,
            preprocessing["lowercase"],
            preprocessing["max_length"] or preprocessing["shape"][0],
            preprocessing.get("token_rules", 1),
            Subwords(vocabulary, preprocessing["merges"]) if kind == "subwords" else None,
        )

    def preprocessing(self) -> dict[str, Any]:
        """Return what ``from_preprocessing`` needs, except the vocabulary and the shape, as plain types."""
        merges = {} if self.subwords is None else {"merges": self.subwords.merges}
        about = {"tokens": self.tokens, "lowercase": self.lowercase, "max_length": self.max_length}
        return {**about, "token_rules": self.rules, **merges}

    def normalise(self, text: str) -> str:
        """Return the text in which the tokens are found."""
        return normalise(text, lowercase=self.lowercase, rules=self.rules)

    def split(self, text: str) -> list[str]:
        """Return at least one and at most ``max_length`` words, characters or pieces, which become subwords later.

        A text without any has one, a space.
        """
        text = self.normalise(text)
        if self.tokens == "words":
            found = split_words(text, self.rules)
        else:
            found = list(text) if self.tokens == "characters" else split_pieces(text)
        return found[: self.max_length] or [" "]

    def __call__(self, text: str) -> list[str]:
        """Return at least one and at most ``max_length`` tokens; a text without tokens has one token, a space."""
        found = self.split(text)
        return found if self.subwords is None else self.subwords.split(found)[: self.max_length]


def join_tokens(tokens: Iterable[str], kind: TokenKind | None) -> str:
    """Return tokens as a text to read; ``kind`` is None if the tokens are numbers."""
    if kind == "words":
        return join_words(tokens)
    if kind is None:
        return " ".join(tokens)
    joined = "".join(tokens)
    return joined.replace(SPACE, " ").strip() if kind == "subwords" else joined


def token_data(
    seed: int,
    found: Iterable[Item],
    options: ReadOptions,
    problems: Problems,
    labelling: Labelling | None = None,
    **keys: Unpack[TextKeys],
) -> Data:
    """Make a ``Data`` of labelled texts.

    Args:
        found: items with a text as content; they are iterated over once, and the texts are not kept.
        labelling: what the texts are labelled with, which is complete once all items were iterated over; None for the
            names of classes.

    Raises:
        ConfigError: as ``classify``, or a split would have no samples.
    """
    dataset, known = problems.dataset, options.preprocessing
    if known is None:
        tokenizer = Tokenizer(keys["tokens"], keys["lowercase"], keys["max_length"], keys["token_rules"])
    else:
        tokenizer = Tokenizer.from_preprocessing(known)
    in_memory = keys["in_memory"] is not False
    items, encoded = _encode_items(found, tokenizer, in_memory=in_memory)
    labelling = labelling or Labelling()
    kept, (task, names, targets) = labelling.targets(items, options, problems)
    if len(kept) < len(items):
        encoded = encoded.take([item.content for item in kept])
    source = RaggedSource(torch.from_numpy(encoded.numbers), encoded.lengths, targets)
    groups = labelling.groups_of(kept, problems)
    splits = divide(dataset, seed, source, [item.split for item in kept], options, keys, groups)
    if known is None:
        vocabulary, tokenizer = _learn(encoded, splits[0].positions, tokenizer, problems, keys)
    else:
        vocabulary = known["vocabulary"]
    if tokenizer.subwords is None:
        encoded.renumber(vocabulary)
    else:
        encoded = encoded.expand(tokenizer.subwords.numbers(encoded.tokens), tokenizer.max_length)
        splits = _with_source(splits, RaggedSource(torch.from_numpy(encoded.numbers), encoded.lengths, targets))
    if known is None:
        _warn_of_unknown(encoded, splits[0].positions, problems, keys)
    shape, drop = (int(encoded.lengths.max()),), keys["augment"]["drop"]
    data = dataclasses.replace(
        make_data(dataset, "tokens", shape, names, splits, keys, task=task, vocabulary=len(vocabulary), varying=True),
        augment=TokenDropout(drop) if drop > 0 else None,
        in_memory=keys["in_memory"],
        preprocess={
            "vocabulary": vocabulary,
            **tokenizer.preprocessing(),
            "unit": "file" if Path(kept[0].place).is_file() else "line",  # a place is a file, or a line of a file
        },
        warnings=tuple(problems.warnings),
        places=[item.place for item in kept],
    )
    return labelling.completed(data, options, problems)


def _encode_items(found: Iterable[Item], tokenizer: Tokenizer, *, in_memory: bool) -> tuple[list[Item], EncodedTexts]:
    """Return the encoded texts, and the items, whose content becomes the index of their text."""
    items: list[Item] = []

    def texts() -> Iterator[str]:
        for item in found:
            items.append(item._replace(content=len(items)))
            yield item.content

    encoded = encode(texts(), tokenizer.split, in_memory=in_memory)
    return items, encoded


def _learn(
    encoded: EncodedTexts, train: Tensor, tokenizer: Tokenizer, problems: Problems, keys: TextKeys
) -> tuple[list[str], Tokenizer]:
    """Choose the vocabulary of the training texts: their most frequent tokens, or the subwords of their pieces.

    Returns:
        the vocabulary, which is the token of each number, and the tokenizer with the subwords, if there are any.
    """
    counts = encoded.count(_among(encoded, train))
    seen = counts.nonzero()[0].tolist()
    tokens, often = [encoded.tokens[number] for number in seen], counts[seen].tolist()
    most, min_count = keys["vocabulary"], keys["min_count"]
    if tokenizer.tokens == "subwords":
        subwords = Subwords.learn(tokens, often, most=most, min_count=min_count)
        return subwords.vocabulary, dataclasses.replace(tokenizer, subwords=subwords)
    if tokenizer.tokens == "words":
        _warn_of_unspaced(tokens, often, problems)
    frequent = [(-count, token) for token, count in zip(tokens, often, strict=True) if count >= min_count]
    return [*NAMES, *(token for _, token in sorted(frequent)[:most])], tokenizer


def _among(encoded: EncodedTexts, positions: Tensor) -> Tensor:
    """Return which texts are at the positions, (texts,) bool."""
    return torch.zeros(len(encoded.lengths), dtype=torch.bool).index_fill_(0, positions, True)


def _with_source(splits: tuple[Split, Split | None, Split], source: RaggedSource) -> tuple[Split, Split | None, Split]:
    train, val, test = (None if split is None else Split(source, split.positions) for split in splits)
    assert train is not None
    assert test is not None
    return train, val, test


def _warn_of_unspaced(tokens: list[str], counts: list[int], problems: Problems) -> None:
    """Warn if many words of train are in scripts that put no spaces between words."""
    found = count_unspaced(tokens, counts)
    share = sum(found.values()) / sum(counts)
    if share > MAX_UNSPACED:
        problems.warnings.append(
            f"{100 * share:.0f} % of the words of train are single letters or syllables of a script without spaces "
            f"({', '.join(found)}); dataset.tokens=subwords or dataset.tokens=characters may be right"
        )


def _warn_of_unknown(encoded: EncodedTexts, train: Tensor, problems: Problems, keys: TextKeys) -> None:
    """Warn if many tokens of train are unknown."""
    counts = encoded.count(_among(encoded, train))
    unknown = float(counts[UNKNOWN] / counts.sum()) if len(counts) > UNKNOWN else 0.0
    if unknown > MAX_UNKNOWN:
        others = " or ".join(f"dataset.tokens={kind}" for kind in ("subwords", "characters") if kind != keys["tokens"])
        problems.warnings.append(
            f"{100 * unknown:.0f} % of the tokens of train are unknown, seen less than {keys['min_count']} times "
            f"or too many; {others}, dataset.min_count or dataset.vocabulary may be right"
        )


@dataclass(frozen=True)
class TokenDropout:
    """Replaces each training token by the unknown token with a probability (word dropout, Iyyer et al. 2015)."""

    probability: float

    def __call__(self, inputs: Inputs, draws: SampleRandom) -> Inputs:
        """Return the (batch, steps) tokens, some of them replaced, and their lengths; padding stays padding."""
        tokens, *lengths = inputs
        dropped = draws.uniform("drop", tokens.shape[1]) < self.probability
        return torch.where(dropped & (tokens != PADDING), UNKNOWN, tokens), *lengths
