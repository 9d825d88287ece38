"""Samples whose content occurs several times in a data set."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from trainer.data.data import Data
from trainer.data.findings import MAX_NAMED, Finding, listed, place_of, samples_have, target_text
from trainer.data.random_numbers import STEP, mix_bits
from trainer.data.readers.tokens import UNKNOWN
from trainer.data.sources import Inputs, Split
from trainer.spec import Spec

CHUNK = 256  # samples that are read together
WORD = 8  # bytes of the numbers that are hashed
NO_SAMPLE = torch.iinfo(torch.int64).max


def hash_samples(inputs: Inputs) -> Tensor:
    """Return (batch,) int64 hashes of the content of samples; padding does not change them.

    A hash is the sum over the words of eight bytes, each mixed with its place. Padding is 0 and adds nothing. The
    hashes of two different samples are equal with a probability of 2^-64.
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
    """Return (count,) int64 random numbers, one for each place."""
    return mix_bits((torch.arange(count) + 1) * STEP)


def hash_batch(inputs: Inputs, positions: Tensor, spec: Spec) -> Tensor:
    """Return (batch,) hashes of samples.

    Texts with an unknown token may differ in that word, so their hash depends on their position instead.
    """
    hashes = hash_samples(inputs)
    if spec.kind != "tokens":
        return hashes
    return torch.where((inputs[0] == UNKNOWN).any(1), mix_bits(positions + STEP), hashes)


def hash_split(split: Split, spec: Spec) -> Tensor:
    """Return (samples,) hashes of all samples of a split."""
    hashes = torch.empty(len(split), dtype=torch.int64)  # one tensor, as many small ones would fragment the heap
    for some in torch.arange(len(split)).split(CHUNK) if len(split) else ():
        positions = split.positions[some]
        hashes[some] = hash_batch(split.source.fetch(positions), positions, spec)
    return hashes


@dataclass(frozen=True)
class Duplicates:
    """The samples whose content another sample has as well.

    Args:
        names: the names of the splits.
        split: (samples,) int64, the index in ``names`` of the split of each sample.
        number: (samples,) int64, the number of each sample in its split.
        group: (samples,) int64, the same for samples of the same content. Groups are numbered in the order of their
            first samples; samples are sorted by group, then by split and number.
    """

    names: tuple[str, ...]
    split: Tensor
    number: Tensor
    group: Tensor

    @classmethod
    def find(cls, hashed: Mapping[str, tuple[Tensor, Tensor]]) -> Duplicates:
        """Find duplicates among samples, given by their numbers and their hashes for each split."""
        hashes = torch.cat([hashes for _, hashes in hashed.values()])
        split = torch.cat([torch.full((len(each),), at) for at, (_, each) in enumerate(hashed.values())])
        number = torch.cat([numbers for numbers, _ in hashed.values()])
        _, content, counts = hashes.unique(return_inverse=True, return_counts=True)
        alike = counts[content] > 1
        group = content[alike].unique(return_inverse=True)[1]
        count = int(group.max()) + 1 if len(group) else 0
        group = _first_of(group, torch.arange(len(group)), count).argsort().argsort()[group]
        order = group.argsort(stable=True)
        return cls(tuple(hashed), split[alike][order], number[alike][order], group[order])

    def pairs(self, one: str, other: str) -> list[tuple[int, int]]:
        """Return the number of each sample of ``other`` that is in ``one`` too, after that of the first such sample.

        For a split and itself these are the samples that repeat an earlier one.
        """
        mine, theirs = (self.split == self.names.index(name) for name in (one, other))
        count = int(self.group[-1]) + 1 if len(self.group) else 0
        first = _first_of(self.group[mine], self.number[mine], count)[self.group[theirs]]
        number = self.number[theirs]
        found = first < (number if one == other else NO_SAMPLE)
        return list(zip(first[found].tolist(), number[found].tolist(), strict=True))

    def findings(self, data: Data) -> list[Finding]:
        """Return a finding for samples in two splits, with different targets, or several times in a split."""
        found = [*self.leaks(data), *self.contradictions(data)]
        for name, split in data.splits().items():
            pairs = self.pairs(name, name)
            if pairs:
                share = f"{100 * len(pairs) / len(split):.1f} %"
                text = f"{samples_have(len(pairs), name)} the same content as an earlier one ({share})"
                found.append(Finding("note", "repeated", f"{text}: {_listed(data, name, name, pairs)}"))
        return found

    def leaks(self, data: Data) -> list[Finding]:
        """Return a finding for samples of val or test that are in train too, and for samples of test in val."""
        found = []
        for one, other in (("train", "val"), ("train", "test"), ("val", "test")):
            if one not in self.names or other not in self.names:
                continue
            pairs = sorted(self.pairs(one, other), key=lambda pair: pair[1])
            if not pairs:
                continue
            share = f"{100 * len(pairs) / len(data.splits()[other]):.1f} %"
            harm = f"the {other} metrics are too good" if one == "train" else "they influence which weights are best"
            text = (
                f"{samples_have(len(pairs), other)} the same content as one of {one} ({share}), so {harm}; "
                f"remove them from {one}: {_listed(data, one, other, pairs)}"
            )
            found.append(Finding("warning", "leak", text))
        return found

    def contradictions(self, data: Data) -> list[Finding]:
        """Return a finding for samples of the same content with different targets; for a regression, only a note."""
        if not len(self.group):
            return []
        splits = list(data.splits().values())
        targets = splits[0].targets.new_zeros(len(self.group), *splits[0].targets.shape[1:])
        for at, split in enumerate(splits):
            mine = self.split == at
            targets[mine] = split.take(self.number[mine]).targets
        start = torch.tensor([-1])
        firsts = self.group.diff(prepend=start).nonzero()[:, 0]
        differs = (targets != targets[firsts[self.group]]).view(len(targets), -1).any(1)
        others = differs.nonzero()[:, 0]
        others = others[self.group[others].diff(prepend=start) > 0]  # the first of each group
        if not len(others):
            return []
        named = []
        for other in others[:MAX_NAMED].tolist():
            pair = (int(firsts[self.group[other]]), other)
            places = [place_of(data, self.names[int(self.split[at])], int(self.number[at])) for at in pair]
            texts = [f"{place} ({target_text(data.spec, targets[at])})" for place, at in zip(places, pair, strict=True)]
            named.append(" and ".join(texts))
        count = len(others)
        noun = {"classification": "classes", "multilabel": "labels", "regression": "values"}[data.spec.task]
        text = f"{'1 content occurs' if count == 1 else f'{count:,} contents occur'} with different {noun}"
        if data.spec.task == "regression":
            return [Finding("note", "contradiction", f"{text}: {listed(named, count)}")]
        return [Finding("warning", "contradiction", f"{text}, of which at most one is right: {listed(named, count)}")]


def _listed(data: Data, one: str, other: str, pairs: list[tuple[int, int]]) -> str:
    """Name the first pairs of a sample of ``other`` and the sample of ``one`` with the same content."""
    named = [f"{place_of(data, other, b)} = {place_of(data, one, a)}" for a, b in pairs[:MAX_NAMED]]
    return listed(named, len(pairs))


def _first_of(group: Tensor, number: Tensor, num_groups: int) -> Tensor:
    """Return (groups,), the smallest of the numbers of each group, or ``NO_SAMPLE`` for a group without a number."""
    return torch.full((num_groups,), NO_SAMPLE).scatter_reduce(0, group, number, "amin")
