"""What there is to know of a data set before training: its numbers, and what is wrong with it."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from trainer.config import RunError, Settings
from trainer.data.data import BAD_SAMPLE, Data, Inputs, RaggedSource, Split, TensorSource, class_counts, valid_steps
from trainer.data.random_numbers import STEP, mix
from trainer.spec import Spec

CHUNK = 256  # samples that are looked at together
MAX_CHANNELS = 4  # of the normalisation that are shown
MAX_LETTERS = 40  # of a text that a finding quotes
MAX_NAMED = 3  # samples or classes that a finding names
UNEQUAL = 20  # how many times as frequent as the rarest the most frequent class is, where that is worth a word
UNKNOWN = 1  # the number of the token that stands for all that are not in a vocabulary
# Of each kind of sample, the axis of a batch along which it has what may be constant, and what that is.
CHANNELS = {"image": (1, "channel"), "spectrogram": (3, "band"), "sequence": (2, "column"), "table": (1, "column")}
BALANCING = (("loss", "weight"), ("dataset", "sampler"))  # the groups and keys that make classes count alike
NONE = torch.iinfo(torch.int64).max  # stands for no sample
WORD = 8  # bytes of the numbers that are hashed


@dataclass(frozen=True)
class Finding:
    """Something that was found.

    Args:
        level: a warning is to be acted on, a note only to be known.
        check: which check has found it, for programs.
        text: one line: what, where, and what to do.
    """

    level: Literal["warning", "note"]
    check: str
    text: str


@dataclass(frozen=True)
class Lengths:
    """The steps of samples that vary in them; ``most`` is what 95 % of them do not exceed."""

    least: int
    median: int
    most: int
    longest: int

    @classmethod
    def of(cls, lengths: Tensor) -> Lengths:
        """Of (samples,) int64."""
        ordered = lengths.sort().values
        middle, most = (int(ordered[int(share * (len(ordered) - 1))]) for share in (0.5, 0.95))
        return cls(int(ordered[0]), middle, most, int(ordered[-1]))


@dataclass(frozen=True)
class Values:
    """The targets of one value to predict."""

    least: float
    mean: float
    deviation: float
    most: float

    @classmethod
    def of(cls, values: Tensor) -> Values:
        """Of (samples,) float32."""
        exact = values.double()
        mean, deviation = float(exact.mean()), float(exact.std(correction=0))
        return cls(float(exact.min()), mean, deviation, float(exact.max()))


@dataclass(frozen=True)
class Part:
    """A split in numbers.

    Args:
        samples: how many.
        counts: of each class or label; empty for values.
        targets: of each value; empty for classes and labels.
        lengths: where steps vary.
        unknown: share of the tokens that are not in the vocabulary, where there is one.
        repeated: samples whose content an earlier one of the split has.
    """

    samples: int
    counts: tuple[int, ...]
    targets: tuple[Values, ...]
    lengths: Lengths | None
    unknown: float | None
    repeated: int


@dataclass(frozen=True)
class Survey:
    """A data set in numbers, and what was found.

    Args:
        spec: what it tells a model.
        parts: the splits, by name.
        dtype, shape: of a raw sample; the shape is that of the longest where steps vary.
        least, most: of all raw numbers.
        mean, deviation: what the normalisation takes off and divides by, a number for each channel; empty without it.
        in_memory: else the samples are streamed.
        num_bytes: of all raw samples.
        findings: the warnings first.
    """

    spec: Spec
    parts: dict[str, Part]
    dtype: str
    shape: tuple[int, ...]
    least: float
    most: float
    mean: tuple[float, ...]
    deviation: tuple[float, ...]
    in_memory: bool
    num_bytes: int
    findings: tuple[Finding, ...]

    @property
    def num_warnings(self) -> int:
        """How many findings are to be acted on."""
        return sum(finding.level == "warning" for finding in self.findings)

    @property
    def num_bad(self) -> int:
        """How many samples cannot be used."""
        return sum(finding.check == "bad_sample" for finding in self.findings)

    @property
    def imbalance(self) -> float | None:
        """How many times as frequent as the rarest class that train has its most frequent one is."""
        return _imbalance(self.parts["train"].counts) if self.spec.task == "classification" else None

    @property
    def raw(self) -> str:
        """What a raw sample is, in words."""
        values = "" if self.spec.kind == "tokens" else f", {self.least:.6g} to {self.most:.6g}"
        return f"{self.dtype} of {'×'.join(map(str, self.shape)) or '1'}{values}"

    @property
    def scaled(self) -> str:
        """What the normalisation does, in words; nothing without one."""
        if not self.mean:
            return ""
        more = f" … ({len(self.mean)} channels)" if len(self.mean) > MAX_CHANNELS else ""
        mean, deviation = (
            " ".join(f"{number:.4g}" for number in numbers[:MAX_CHANNELS]) + more
            for numbers in (self.mean, self.deviation)
        )
        return f"mean {mean}, deviation {deviation}"

    def to_dict(self) -> dict[str, Any]:
        """Plain containers."""
        plain = dataclasses.asdict(self)
        spec = {
            key: plain["spec"][key] for key in ("dataset", "kind", "shape", "varying", "task", "vocabulary", "classes")
        }
        raw = {key: plain[key] for key in ("dtype", "shape", "least", "most", "num_bytes")}
        normalise = {"mean": plain["mean"], "deviation": plain["deviation"]} if self.mean else None
        return {
            **spec,
            "splits": plain["parts"],
            "imbalance": self.imbalance,
            "raw": raw,
            "normalise": normalise,
            "in_memory": self.in_memory,
            "findings": plain["findings"],
            "warnings": self.num_warnings,
            "bad_samples": self.num_bad,
        }


def survey(data: Data, settings: Settings) -> Survey:
    """Look at every sample of a data set, in memory or not.

    Raises:
        RunError: not one sample of a split can be read.
    """
    readings = {name: _Reading.of(data, split) for name, split in data.splits().items()}
    hashed = {name: (torch.cat(reading.numbers), torch.cat(reading.hashes)) for name, reading in readings.items()}
    twins = Twins.find(hashed)
    findings = [
        *(Finding("warning", "bad_sample" if line.startswith(BAD_SAMPLE) else "data", line) for line in data.warnings),
        *(Finding("warning", "bad_sample", line) for reading in readings.values() for line in reading.problems),
        *_not_finite(data, readings),
        *twins.findings(data),
        *_missing_classes(data, *data.splits()),
        *_unequal_classes(data, settings),
        *_constant(data),
        *_too_few(data, settings),
    ]
    norm, read = data.normalise, readings.values()
    return Survey(
        spec=data.spec,
        parts={name: _part(data, name, readings[name], twins) for name in readings},
        dtype=readings["train"].dtype,
        shape=tuple(max(sizes) for sizes in zip(*(reading.shape for reading in read), strict=True)),
        least=min(reading.least for reading in read),
        most=max(reading.most for reading in read),
        mean=() if norm is None else tuple(norm.mean.tolist()),
        deviation=() if norm is None else tuple(norm.std.tolist()),
        in_memory=_is_in_memory(data),
        num_bytes=sum(reading.num_bytes for reading in read),
        findings=tuple(sorted(findings, key=lambda finding: finding.level != "warning")),
    )


def at_start(data: Data, settings: Settings) -> list[str]:
    """What a run has to warn of, a line each: the checks that are cheap, so none that would have to read files."""
    findings = [*_missing_classes(data, "train"), *_unequal_classes(data, settings), *_too_few(data, settings)]
    if _is_in_memory(data):
        findings += Twins.find(
            {name: (None, _hashes(split, data.spec)) for name, split in data.splits().items()}
        ).leaks(data)
        if data.features is None:
            findings += _constant(data)
    return [*data.warnings, *(finding.text for finding in findings if finding.level == "warning")]


def _is_in_memory(data: Data) -> bool:
    sources = [split.source for split in data.splits().values()]
    return data.in_memory and all(isinstance(source, TensorSource | RaggedSource) for source in sources)


def _imbalance(counts: Sequence[int]) -> float:
    some = [count for count in counts if count > 0]
    return max(some) / min(some) if some else 1.0


# ---- reading


@dataclass
class _Reading:
    """What is kept of the samples of a split that have been read.

    Args:
        numbers: of these samples in the split.
        hashes: of their content.
        lengths: where steps vary.
        problems: a line for each sample that cannot be read.
        not_finite: the numbers of those with values that are no finite numbers.
        dtype, shape: of a sample; of the longest where steps vary.
        least, most: of all finite values.
        values, num_bytes: how many values there are, and what they take.
        unknown: values that are the unknown token.
    """

    numbers: list[Tensor] = field(default_factory=list)
    hashes: list[Tensor] = field(default_factory=list)
    lengths: list[Tensor] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    not_finite: list[int] = field(default_factory=list)
    dtype: str = ""
    shape: tuple[int, ...] = ()
    least: float = math.inf
    most: float = -math.inf
    values: int = 0
    num_bytes: int = 0
    unknown: int = 0

    @classmethod
    def of(cls, data: Data, split: Split) -> _Reading:
        """Read a split.

        Raises:
            RunError: not one sample of it can be read.
        """
        reading = cls()
        # a wave has its steps first, whatever features it gets
        step_axis = data.spec.step_axis if data.features is None else 1
        for numbers, inputs in _readable(split, reading.problems):
            values = reading._add(numbers, inputs, step_axis)
            reading.hashes.append(_hash(inputs, split.positions[numbers], data.spec))
            if data.spec.kind == "tokens":
                reading.unknown += int((values == UNKNOWN).sum())
        if not reading.numbers:
            raise RunError(next(iter(reading.problems), f"dataset={data.spec.dataset}: a split without a sample"))
        return reading

    def _add(self, numbers: Tensor, inputs: Inputs, step_axis: int) -> Tensor:
        """Note some samples; returns all their values that count."""
        samples, *lengths = inputs
        values = samples
        if lengths:
            valid = valid_steps(lengths[0], samples.shape[step_axis])
            width = [1] * (samples.ndim - step_axis - 1)
            values = samples[valid.view(len(samples), *[1] * (step_axis - 1), -1, *width).expand_as(samples)]
            self.lengths.append(lengths[0])
        self.numbers.append(numbers)
        self.dtype = str(samples.dtype).removeprefix("torch.")
        self.shape = tuple(map(max, self.shape or samples.shape[1:], samples.shape[1:]))
        self.values += values.numel()
        self.num_bytes += values.numel() * values.element_size()
        if samples.is_floating_point():
            finite = samples.isfinite().flatten(1).all(1)
            if not finite.all():
                self.not_finite += numbers[~finite].tolist()
                values = values[values.isfinite()]
        if values.numel():
            least, most = values.aminmax()
            self.least, self.most = min(self.least, least.item()), max(self.most, most.item())
        return values


def _readable(split: Split, problems: list[str]) -> Iterator[tuple[Tensor, Inputs]]:
    """The samples that can be read, some at a time, with their numbers in the split."""
    for some in torch.arange(len(split)).split(CHUNK) if len(split) else ():
        positions = split.positions.index_select(0, some)
        try:
            yield some, split.source.fetch(positions)
        except RunError:
            for number, position in zip(some.split(1), positions.split(1), strict=True):
                try:
                    inputs = split.source.fetch(position)
                except RunError as error:
                    problems.append(BAD_SAMPLE + str(error))
                else:
                    yield number, inputs


# ---- what is there twice


def hash_samples(inputs: Inputs) -> Tensor:
    """(batch,) int64: the same for the same content, whatever the padding; else another, but for a chance of 2^-64.

    The sum over the bytes, eight at a time, each mixed with its place. Padding is 0 and adds nothing.
    """
    values = inputs[0].contiguous().flatten(1)
    if not values.shape[1]:
        return torch.zeros(len(values), dtype=torch.int64)
    content = values.view(torch.uint8)
    missing = -content.shape[1] % WORD
    words = (F.pad(content, [0, missing]) if missing else content).view(torch.int64)
    hashes = mix((words ^ _salts(words.shape[1])) * (words != 0)).sum(1)
    return hashes if len(inputs) == 1 else hashes + mix(inputs[1])


@functools.lru_cache(maxsize=8)
def _salts(count: int) -> Tensor:
    """(count,) int64, a random number for each place; more begin as less do."""
    return mix((torch.arange(count) + 1) * STEP)


def _hashes(split: Split, spec: Spec) -> Tensor:
    """Those of all samples of a split."""
    hashes = torch.empty(len(split), dtype=torch.int64)  # beforehand: small pieces would keep what is freed apart
    for some in torch.arange(len(split)).split(CHUNK) if len(split) else ():
        positions = split.positions[some]
        hashes[some] = _hash(split.source.fetch(positions), positions, spec)
    return hashes


def _hash(inputs: Inputs, positions: Tensor, spec: Spec) -> Tensor:
    """(batch,) int64. An unknown token may be any, so a sample with one is like no other: its position tells it."""
    hashes = hash_samples(inputs)
    if spec.kind != "tokens":
        return hashes
    return torch.where((inputs[0] == UNKNOWN).any(1), mix(positions + STEP), hashes)


@dataclass(frozen=True)
class Twins:
    """The samples whose content another one has.

    Args:
        names: of the splits.
        split, number, group: (samples,) the split of each, its number in it, and what it is alike with; sorted by
            group, and within it by split and number.
    """

    names: tuple[str, ...]
    split: Tensor
    number: Tensor
    group: Tensor

    @classmethod
    def find(cls, hashed: Mapping[str, tuple[Tensor | None, Tensor]]) -> Twins:
        """Of samples of each split, by their numbers (None for all) and their hashes."""
        hashes = torch.cat([hashes for _, hashes in hashed.values()])
        split = torch.cat([torch.full((len(each),), at) for at, (_, each) in enumerate(hashed.values())])
        number = torch.cat([torch.arange(len(each)) if which is None else which for which, each in hashed.values()])
        _, content, counts = hashes.unique(return_inverse=True, return_counts=True)
        alike = counts[content] > 1
        group = content[alike].unique(return_inverse=True)[1]
        first = _firsts(group, torch.arange(len(group)))
        group = first.argsort().argsort()[group]  # in the order in which they are met
        order = group.argsort(stable=True)
        return cls(tuple(hashed), split[alike][order], number[alike][order], group[order])

    @property
    def num_groups(self) -> int:
        """How many contents there are that several samples have."""
        return int(self.group[-1]) + 1 if len(self.group) else 0

    def repeated(self, name: str) -> int:
        """Samples of a split whose content an earlier one of it has."""
        mine = self.group[self.split == self.names.index(name)]
        return len(mine) - len(mine.unique())

    def findings(self, data: Data) -> list[Finding]:
        """What is in two splits, has two classes, or is in one split twice."""
        found = [*self.leaks(data), *self.contradictions(data)]
        for name, split in data.splits().items():
            count = self.repeated(name)
            if not count:
                continue
            later = self._later(name)[:MAX_NAMED]
            pairs = [f"{_place(data, name, two)} = {_place(data, name, one)}" for one, two in later]
            what = f"{_some(count, name)} the same content as an earlier one ({100 * count / len(split):.1f} %)"
            found.append(Finding("note", "repeated", f"{what}: {_named(pairs, count)}"))
        return found

    def leaks(self, data: Data) -> list[Finding]:
        """Samples of val or test that train has too, and of test that val has."""
        found = []
        for one, other in (("train", "val"), ("train", "test"), ("val", "test")):
            if one not in self.names or other not in self.names:
                continue
            pairs = self._across(one, other)
            if not pairs:
                continue
            named = [f"{_place(data, other, b)} = {_place(data, one, a)}" for a, b in pairs[:MAX_NAMED]]
            share = f"{100 * len(pairs) / len(data.splits()[other]):.1f} %"
            if one == "train":
                advice = f"so what is measured on {other} is too good; take them out of train"
            else:
                advice = f"so they took part in the choice of the best weights; take them out of {one}"
            text = f"{_some(len(pairs), other)} the same content as one of {one} ({share}), {advice}"
            text = f"{text}: {_named(named, len(pairs))}"
            found.append(Finding("warning", "leak", text))
        return found

    def contradictions(self, data: Data) -> list[Finding]:
        """The same content with different targets; values may well differ, so of them it is only a note."""
        if not len(self.group):
            return []
        parts = list(data.splits().values())
        targets = torch.stack([parts[0].targets[0]] * len(self.group))
        for at, part in enumerate(parts):
            mine = self.split == at
            targets[mine] = part.take(self.number[mine]).targets
        first = _firsts(self.group, torch.arange(len(self.group)))
        differs = (targets != targets[first[self.group]]).view(len(targets), -1).any(1)
        groups, numbers = self.group[differs].unique(return_inverse=True)
        if not len(groups):
            return []
        seconds = _firsts(numbers, differs.nonzero()[:, 0])
        named = []
        for second in seconds[:MAX_NAMED].tolist():
            pair = (int(first[self.group[second]]), second)
            told = [f"{self._place(data, each)} ({target_text(data.spec, targets[each])})" for each in pair]
            named.append(" and ".join(told))
        count = len(groups)
        noun = {"classification": "classes", "multilabel": "labels", "regression": "values"}[data.spec.task]
        text = f"{'1 content has' if count == 1 else f'{count:,} contents have'} different {noun} at different places"
        if data.spec.task == "regression":
            return [Finding("note", "contradiction", f"{text}: {_named(named, count)}")]
        return [Finding("warning", "contradiction", f"{text}, of which one at most is right: {_named(named, count)}")]

    def _place(self, data: Data, at: int) -> str:
        return _place(data, self.names[int(self.split[at])], int(self.number[at]))

    def _later(self, name: str) -> list[tuple[int, int]]:
        """Of a split, each sample that is there already, behind the first one like it."""
        mine = self.split == self.names.index(name)
        group, number = self.group[mine], self.number[mine]
        new = torch.cat([torch.ones(1, dtype=torch.bool), group[1:] != group[:-1]])
        first = number[new][new.cumsum(0) - 1]
        return list(zip(first[~new].tolist(), number[~new].tolist(), strict=True))

    def _across(self, one: str, other: str) -> list[tuple[int, int]]:
        """Each sample of ``other`` that is in ``one`` too, behind the first one like it there; in ``other``'s order."""
        mine, theirs = (self.split == self.names.index(name) for name in (one, other))
        firsts = _firsts(self.group[mine], self.number[mine], self.num_groups)
        first, number = firsts[self.group[theirs]], self.number[theirs]
        both = first < NONE
        order = number[both].argsort()
        return list(zip(first[both][order].tolist(), number[both][order].tolist(), strict=True))


def _firsts(group: Tensor, number: Tensor, num_groups: int | None = None) -> Tensor:
    """(groups,): the smallest of the numbers of each group; ``NONE`` where it has none."""
    count = int(group.max()) + 1 if num_groups is None and len(group) else num_groups or 0
    return torch.full((count,), NONE).scatter_reduce(0, group, number, "amin")


def _place(data: Data, split: str, number: int) -> str:
    """Where a sample stands: its file, where it is known, else its number in its split, of tokens with the text."""
    position = data.splits()[split].positions[number : number + 1]
    if data.places is not None:
        return data.places[int(position)]
    if "vocabulary" in data.preprocess:
        return f'{split} {number} "{as_text(data, data.splits()[split].source.fetch(position))[0][:MAX_LETTERS]}"'
    return f"{split} {number}"


def as_text(data: Data, inputs: Inputs) -> list[str]:
    """Samples of tokens put back to words, or to numbers where there is no vocabulary.

    Args:
        inputs: (batch, steps) and, where they vary, lengths (batch,).
    """
    vocabulary, rows = data.preprocess.get("vocabulary"), inputs[0].tolist()
    lengths = inputs[1].tolist() if len(inputs) > 1 else [len(row) for row in rows]
    between = "" if data.preprocess.get("tokens") == "characters" else " "
    return [
        between.join(str(token) if vocabulary is None else vocabulary[token] for token in row[:length])
        for row, length in zip(rows, lengths, strict=True)
    ]


def target_text(spec: Spec, target: Tensor) -> str:
    """A sample's class, labels or values, in words."""
    if spec.task == "classification":
        return spec.classes[int(target)]
    if spec.task == "multilabel":
        pairs = zip(spec.classes, target.tolist(), strict=True)
        return ", ".join(name for name, is_there in pairs if is_there) or "no label"
    return ", ".join(f"{value:.4g}" for value in target.tolist())


def _some(count: int, noun: str) -> str:
    return f"1 {noun} sample has" if count == 1 else f"{count:,} {noun} samples have"


def _named(named: Sequence[str], count: int) -> str:
    """Some of ``count`` things, and how many more there are."""
    more = count - len(named)
    return ", ".join(named) + (f" and {more:,} more" if more > 0 else "")


# ---- the other checks


def _counts(data: Data, split: Split) -> tuple[int, ...]:
    return class_counts(split, data.spec.task, len(data.spec.classes))


def _missing_classes(data: Data, *names: str) -> list[Finding]:
    """Classes or labels without a sample in one of the splits ``names``."""
    found = []
    noun, nouns = ("label", "labels") if data.spec.task == "multilabel" else ("class", "classes")
    advice = {
        "train": "nothing can be learned of {it}; add samples, or take {it} out",
        "val": "nothing is measured of {it}; a larger dataset.val_fraction may help",
        "test": "nothing is measured of {it}",
    }
    for name in names:
        counts = _counts(data, data.splits()[name])
        missing = [data.spec.classes[at] for at, count in enumerate(counts) if count == 0]
        if missing:
            one, listed = len(missing) == 1, _named(missing[:MAX_NAMED], len(missing))
            what = f"{noun} {listed} has" if one else f"{len(missing)} {nouns} ({listed}) have"
            text = f"{what} no {name} sample: {advice[name].format(it='it' if one else 'them')}"
            found.append(Finding("warning", "missing_class", text))
    return found


def _unequal_classes(data: Data, settings: Settings) -> list[Finding]:
    """Very unequal classes, and what would balance them."""
    counts = _counts(data, data.train)
    if data.spec.task != "classification" or _imbalance(counts) < UNEQUAL:
        return []
    there = [(count, name) for count, name in zip(counts, data.spec.classes, strict=True) if count]
    least, most = min(there), max(there)
    text = (
        f"the classes are very unequal: {most[0]:,} train samples of {most[1]}, {least[0]:,} of {least[1]} "
        f"(1:{most[0] / least[0]:.0f})"
    )
    if data.balanced or settings.loss.get("weight") is not None:
        return [Finding("note", "imbalance", f"{text}; the run balances them")]
    advice = [f"{group}.{key}=balanced" for group, key in BALANCING if key in getattr(settings, group)]
    return [Finding("warning", "imbalance", f"{text}; {' or '.join(advice)} makes them count alike".removeprefix("; "))]


def _too_few(data: Data, settings: Settings) -> list[Finding]:
    """Less training samples than a batch has."""
    count = len(data.train)
    if count >= settings.batch_size:
        return []
    samples = "1 sample" if count == 1 else f"{count} samples"
    what = f"train has {samples}, less than batch_size={settings.batch_size}"
    text = f"{what}: an epoch is one step; a smaller batch_size makes more of them"
    return [Finding("warning", "few_samples", text)]


def _not_finite(data: Data, readings: dict[str, _Reading]) -> list[Finding]:
    """Samples with numbers that are none."""
    found = []
    for name, reading in readings.items():
        numbers = reading.not_finite
        if numbers:
            named = [_place(data, name, number) for number in numbers[:MAX_NAMED]]
            text = f"{_some(len(numbers), name)} values that are no finite numbers: {_named(named, len(numbers))}"
            found.append(Finding("warning", "not_finite", text))
    return found


def _constant(data: Data) -> list[Finding]:
    """Channels, columns or bands that are the same in every training sample; reads until none is left that may be."""
    axis, noun = CHANNELS.get(data.spec.kind, (0, ""))
    if axis == 0:
        return []
    least, most = torch.tensor(math.inf), torch.tensor(-math.inf)
    for _, inputs in _readable(data.train, []):
        values, *lengths = inputs if data.features is None else data.features(inputs)
        moved = values.double().movedim(axis, 0)
        flat = moved.flatten(1)
        if lengths:  # whatever the kind, the steps are last now
            flat = flat[:, valid_steps(lengths[0], moved.shape[-1]).flatten()]
        low, high = flat.aminmax(dim=1)
        least, most = torch.minimum(least, low), torch.maximum(most, high)
        if bool((least != most).all()):
            return []
    which = (least == most).nonzero().flatten().tolist()
    names = data.preprocess.get("columns", list(range(len(least))))
    one, listed = len(which) == 1, [f"{names[at]} is {float(least[at]):g}" for at in which[:MAX_NAMED]]
    text = (
        f"{'1' if one else len(which)} {noun}{' is' if one else 's are'} the same in every train sample, which tells "
        f"nothing; leave {'it' if one else 'them'} out: {_named(listed, len(which))}"
    )
    return [Finding("warning", "constant", text)]


def _part(data: Data, name: str, reading: _Reading, twins: Twins) -> Part:
    split = data.splits()[name]
    lengths = torch.cat(reading.lengths) if split.lengths is None and reading.lengths else split.lengths
    has_unknown = data.spec.kind == "tokens" and "vocabulary" in data.preprocess
    return Part(
        samples=len(split),
        counts=_counts(data, split),
        targets=tuple(map(Values.of, split.targets.unbind(1))) if data.spec.task == "regression" else (),
        lengths=None if lengths is None else Lengths.of(lengths),
        unknown=reading.unknown / reading.values if has_unknown else None,
        repeated=twins.repeated(name),
    )
