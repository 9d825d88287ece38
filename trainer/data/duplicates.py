"""Find samples whose content occurs several times in a data set."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from trainer.data.data import Data
from trainer.data.findings import MAX_NAMED, Finding, listed, place_of, samples_have, target_text
from trainer.data.random_numbers import STEP, mix_bits
from trainer.data.readers.texts.vocabulary import UNKNOWN
from trainer.data.sources import Inputs, Split
from trainer.spec import Spec

CHUNK = 256  # samples that are read at a time
WORD = 8  # the size in bytes of the words that are hashed
NO_SAMPLE = torch.iinfo(torch.int64).max
CHANCE = ", by chance, as the columns have few different values"
LEAKS = (("train", "val"), ("train", "test"), ("val", "test"))  # the pairs of splits that must not share samples


def hash_samples(inputs: Inputs) -> Tensor:
    """Return hashes of the content of samples, (batch,) int64; padding does not change them.

    The content is read as words of eight bytes. A hash is the sum of the hashes of the words, each of which depends on
    the position of the word. Zero words, such as padding, add 0. Two different samples have the same hash with a
    probability of 2^-64.
    """
    values = inputs[0].contiguous().flatten(1)
    if not values.shape[1]:
        return torch.zeros(len(values), dtype=torch.int64)
    content = values.view(torch.uint8)
    missing = -content.shape[1] % WORD
    words = (F.pad(content, [0, missing]) if missing else content).view(torch.int64)
    hashes = mix_bits((words ^ _salts(words.shape[1])) * (words != 0)).sum(1)
    return hashes if len(inputs) == 1 else hashes + mix_bits(inputs[1])


@functools.lru_cache(maxsize=8)
def _salts(count: int) -> Tensor:
    """Return pseudorandom numbers for the positions of words, (count,) int64."""
    return mix_bits((torch.arange(count) + 1) * STEP)


def hash_batch(inputs: Inputs, positions: Tensor, spec: Spec) -> Tensor:
    """Return hashes of samples, (batch,) int64.

    Two texts with unknown tokens may be different although their tokens are equal, so the hash of a text with an
    unknown token is a hash of its position in the source.
    """
    hashes = hash_samples(inputs)
    if spec.kind != "tokens":
        return hashes
    return torch.where((inputs[0] == UNKNOWN).any(1), mix_bits(positions + STEP), hashes)


def hash_split(split: Split, spec: Spec) -> Tensor:
    """Return the hashes of all samples of a split, (samples,) int64."""
    hashes = torch.empty(len(split), dtype=torch.int64)  # many small tensors would fragment the heap
    for some in torch.arange(len(split)).split(CHUNK) if len(split) else ():
        positions = split.positions[some]
        hashes[some] = hash_batch(split.source.fetch(positions), positions, spec)
    return hashes


@dataclass(frozen=True)
class Duplicates:
    """The samples that have the same content as another sample.

    Args:
        names: the names of the splits.
        split: (samples,) int64, the index in ``names`` of the split of each sample.
        number: (samples,) int64, the number of each sample in its split.
        group: (samples,) int64, equal numbers for the same content, in the order of the first samples of the groups.
            Samples are sorted by group, then by split and number.
    """

    names: tuple[str, ...]
    split: Tensor
    number: Tensor
    group: Tensor

    @classmethod
    def find(cls, hashed: Mapping[str, tuple[Tensor, Tensor]]) -> Duplicates:
        """Find duplicates; ``hashed`` has, for each split, the numbers of its samples and their hashes."""
        hashes = torch.cat([hashes for _, hashes in hashed.values()]).numpy()
        split = torch.cat([torch.full((len(each),), at) for at, (_, each) in enumerate(hashed.values())])
        number = torch.cat([numbers for numbers, _ in hashed.values()])
        _, firsts, content, counts = np.unique(hashes, return_index=True, return_inverse=True, return_counts=True)
        group = torch.from_numpy(firsts[content])  # the index of the first sample with the same content
        order = group.argsort(stable=True)
        order = order[torch.from_numpy(counts[content] > 1)[order]]
        return cls(tuple(hashed), split[order], number[order], group[order])

    @property
    def num_pairs(self) -> int:
        """The number of pairs of samples with the same content."""
        counts = self.group.unique(return_counts=True)[1]
        return int((counts * (counts - 1) // 2).sum())

    def pairs(self, one: str, other: str) -> list[tuple[int, int]]:
        """Return pairs (number in ``one``, number in ``other``) of samples with the same content.

        Each sample of ``other`` whose content occurs in ``one`` forms a pair with the first occurrence there. If both
        splits are the same, each sample that repeats an earlier one forms a pair with the first occurrence.
        """
        mine, theirs = (self.split == self.names.index(name) for name in (one, other))
        count = int(self.group[-1]) + 1 if len(self.group) else 0
        first = _first_of(self.group[mine], self.number[mine], count)[self.group[theirs]]
        number = self.number[theirs]
        found = first < (number if one == other else NO_SAMPLE)
        return list(zip(first[found].tolist(), number[found].tolist(), strict=True))

    def findings(self, data: Data, *, by_chance: bool = False) -> list[Finding]:
        """Return the findings about leaks, contradictions, and samples that are repeated within a split.

        ``by_chance`` says that equal samples are to be expected, so that nothing is to be done about them.
        """
        found = [*self.leaks(data, by_chance=by_chance), *self.contradictions(data, by_chance=by_chance)]
        for name, split in data.splits().items():
            pairs = self.pairs(name, name)
            if pairs:
                share = f"{100 * len(pairs) / len(split):.1f} %"
                text = f"{samples_have(len(pairs), name)} the same content as an earlier one ({share})"
                found.append(Finding("note", "repeated", f"{text}: {list_pairs(data, name, name, pairs)}"))
        return found

    def leaks(self, data: Data, *, by_chance: bool = False) -> list[Finding]:
        """Return a finding for each pair of splits that share samples; ``by_chance`` makes it a note."""
        found = []
        for one, other in LEAKS:
            if one not in self.names or other not in self.names:
                continue
            pairs = sorted(self.pairs(one, other), key=lambda pair: pair[1])
            if not pairs:
                continue
            share = f"{100 * len(pairs) / len(data.splits()[other]):.1f} %"
            text = f"{samples_have(len(pairs), other)} the same content as one of {one} ({share})"
            advice = CHANCE if by_chance else f", so {harm(one, other)}; remove them from {one}"
            text = f"{text}{advice}: {list_pairs(data, one, other, pairs)}"
            found.append(Finding("note" if by_chance else "warning", "leak", text))
        return found

    def contradictions(self, data: Data, *, by_chance: bool = False) -> list[Finding]:
        """Return a finding if equal samples have different targets.

        It is a note for regression and with ``by_chance``, else a warning.
        """
        if not len(self.group):
            return []
        splits = list(data.splits().values())
        targets = splits[0].targets.new_zeros(len(self.group), *splits[0].targets.shape[1:])
        for at, split in enumerate(splits):
            mine = self.split == at
            targets[mine] = split.take(self.number[mine]).targets
        first = torch.searchsorted(self.group, self.group)  # the index of the first sample of each sample's group
        differs = (targets != targets[first]).view(len(targets), -1).any(1)
        others = differs.nonzero()[:, 0]
        others = others[self.group[others].diff(prepend=torch.tensor([-1])) > 0]  # the first of each group
        if not len(others):
            return []
        named = []
        for other in others[:MAX_NAMED].tolist():
            pair = (int(first[other]), other)
            places = [place_of(data, self.names[int(self.split[at])], int(self.number[at])) for at in pair]
            texts = [f"{place} ({target_text(data.spec, targets[at])})" for place, at in zip(places, pair, strict=True)]
            named.append(" and ".join(texts))
        count = len(others)
        noun = {"classification": "classes", "multilabel": "labels", "regression": "values"}[data.spec.task]
        text = f"{'1 content occurs' if count == 1 else f'{count:,} contents occur'} with different {noun}"
        if data.spec.task == "regression" or by_chance:
            return [Finding("note", "contradiction", f"{text}{CHANCE * by_chance}: {listed(named, count)}")]
        return [Finding("warning", "contradiction", f"{text}, of which at most one is right: {listed(named, count)}")]


def harm(one: str, other: str) -> str:
    """Return what follows from samples that two splits share."""
    return f"the {other} metrics are too good" if one == "train" else "they influence which weights are best"


def list_pairs(data: Data, one: str, other: str, pairs: list[tuple[int, int]], sign: str = "=") -> str:
    """Return the places of the samples in the first pairs from ``Duplicates.pairs``, as text."""
    named = [f"{place_of(data, other, b)} {sign} {place_of(data, one, a)}" for a, b in pairs[:MAX_NAMED]]
    return listed(named, len(pairs))


def _first_of(group: Tensor, number: Tensor, num_groups: int) -> Tensor:
    """Return the smallest number in each group, (groups,) int64; ``NO_SAMPLE`` for a group without numbers."""
    return torch.full((num_groups,), NO_SAMPLE).scatter_reduce(0, group, number, "amin")
