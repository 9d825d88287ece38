"""Texts as token numbers, and the vocabulary of the training texts."""

from __future__ import annotations

import itertools
import tempfile
from array import array
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import IO

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

PADDING, UNKNOWN = 0, 1  # their numbers in every vocabulary
NAMES = ("<padding>", "<unknown>")
CHUNK = 1 << 20  # tokens that are written to disk, or renumbered, at a time


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

    def count(self, train: Tensor) -> NDArray[np.int64]:
        """Return how often each token occurs in the training texts, (tokens,).

        Args:
            train: (texts,) bool, true for the training texts.
        """
        seen = np.repeat(train.numpy(), self.lengths.numpy())
        return np.bincount(self.numbers[seen], minlength=len(self.tokens))

    def renumber(self, vocabulary: list[str]) -> None:
        """Replace the token numbers, in place, by those of a vocabulary; tokens that are not in it become unknown."""
        numbers = {token: number for number, token in enumerate(vocabulary) if number >= len(NAMES)}
        table = np.array([numbers.get(token, UNKNOWN) for token in self.tokens], dtype=np.int32)
        for start in range(0, len(self.numbers), CHUNK):  # in chunks, as the numbers may be a memory map
            part = self.numbers[start : start + CHUNK]
            part[:] = table[part]

    def expand(self, table: Sequence[Sequence[int]], most: int | None) -> EncodedTexts:
        """Return the texts with several new numbers for each token; numbers in a file are written to another file.

        Args:
            table: at least one number for each token.
            most: the maximum length of a text, from its beginning; None keeps all.
        """
        sizes = np.array([len(each) for each in table], dtype=np.int64)
        flat = np.fromiter(itertools.chain.from_iterable(table), dtype=np.int32, count=int(sizes.sum()))
        starts, ends = sizes.cumsum() - sizes, self.lengths.numpy().cumsum()
        store, lengths, done = NumberStore(in_memory=not isinstance(self.numbers, np.memmap)), [], 0
        while done < len(ends):
            begin = int(ends[done - 1]) if done else 0
            upto = max(done + 1, int(np.searchsorted(ends, begin + CHUNK, side="right")))  # whole texts
            part = self.numbers[begin : ends[upto - 1]]
            firsts = ends[done:upto] - self.lengths.numpy()[done:upto] - begin  # index in ``part`` of each text
            new, number = _ranges(starts[part], sizes[part]), np.add.reduceat(sizes[part], firsts)
            if most is not None:
                new = new[_ranges(np.zeros_like(number), number) < most]
                number = number.clip(max=most)
            store.extend(flat[new])
            lengths.append(torch.from_numpy(number))
            done = upto
        return EncodedTexts(store.finish(), torch.cat(lengths), [])


def _ranges(starts: NDArray[np.int64], sizes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the concatenated ranges from each start, each of a size."""
    return np.repeat(starts - sizes.cumsum() + sizes, sizes) + np.arange(sizes.sum())


class NumberStore:
    """Token numbers that are collected in memory, or in an unnamed temporary file.

    Args:
        in_memory: whether the numbers stay in memory; otherwise, ``finish`` returns a memory map.
    """

    def __init__(self, *, in_memory: bool) -> None:
        self.file = None if in_memory else tempfile.TemporaryFile()  # noqa: SIM115, closed by ``finish``
        self.numbers = array("i")

    def extend(self, numbers: Iterable[int] | NDArray[np.int32]) -> None:
        if isinstance(numbers, np.ndarray):
            self.numbers.frombytes(numbers.tobytes())
        else:
            self.numbers.extend(numbers)
        if self.file is not None and len(self.numbers) >= CHUNK:
            self._write(self.file)

    def _write(self, file: IO[bytes]) -> None:
        self.numbers.tofile(file)
        self.numbers = array("i")

    def finish(self) -> NDArray[np.int32]:
        """Return all numbers, (numbers,), and close the file."""
        if self.file is None:
            return np.frombuffer(self.numbers, dtype=np.int32).copy()
        with self.file as file:
            self._write(file)
            file.flush()
            return np.memmap(file, dtype=np.int32, mode="r+") if file.tell() else np.zeros(0, np.int32)


def encode(texts: Iterable[str], tokenize: Callable[[str], list[str]], *, in_memory: bool) -> EncodedTexts:
    """Number the tokens of all texts, reading each text once.

    Args:
        texts: the texts, of which only the token numbers are kept.
        tokenize: splits a text into at least one token.
        in_memory: hold the numbers in memory; otherwise in an unnamed temporary file, as a memory map.
    """
    known: dict[str, int] = {}
    lengths, store = array("q"), NumberStore(in_memory=in_memory)
    for text in texts:
        found = tokenize(text)
        store.extend(known.setdefault(token, len(known)) for token in found)
        lengths.append(len(found))
    return EncodedTexts(store.finish(), torch.tensor(lengths, dtype=torch.int64), list(known))
