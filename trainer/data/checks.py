"""Checks of a data set before training: statistics of its splits, and findings such as duplicates and bad samples."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from trainer.config import Settings
from trainer.data.column_summary import ColumnSummary, raw_names, raw_texts, summarise_columns
from trainer.data.data import BAD_SAMPLE, Data, Normalise, class_counts
from trainer.data.duplicates import Duplicates, hash_split
from trainer.data.findings import MAX_NAMED, Finding, listed, place_of, samples_have
from trainer.data.group_checks import find_groups
from trainer.data.near_duplicates import MAX_PICTURES, find_near
from trainer.data.sources import RaggedSource, TensorSource, channel_values, value_range
from trainer.data.statistics import Lengths, Scan, SplitStatistics, Values, readable_batches
from trainer.data.table_checks import find_order, find_target_columns, repeat_by_chance
from trainer.data.table_encoding import TableEncoding
from trainer.spec import Spec

MAX_CHANNELS = 4  # the number of channels whose normalisation is shown
MIN_IMBALANCE = 20  # the smallest ratio of the most to the least frequent class that is a finding
# For each kind of sample, the axis of a batch whose entries are checked for constant values, and its name.
CHANNELS = {"image": (1, "channel"), "spectrogram": (3, "band"), "sequence": (2, "column"), "table": (1, "column")}
BALANCING = (("loss", "weight"), ("dataset", "sampler"))  # the groups and keys of the options that can balance classes


@dataclass(frozen=True)
class Survey:
    """The statistics of a data set, and the findings of its checks.

    Args:
        spec: the spec of the data set.
        parts: the statistics of each split, by the name of the split.
        dtype, shape: the dtype and the shape of a raw sample; if steps vary, the shape has the largest number of steps.
        least, most: the minimum and the maximum of all raw values.
        mean, deviation: the mean and the standard deviation of the normalisation for each channel; empty without one.
        columns: what each column of a table holds; empty for other data.
        notes: short phrases about how the data were read, such as the target that was found.
        in_memory: whether the samples are kept in memory instead of being streamed.
        num_bytes: the size of all raw samples in bytes, without padding.
        findings: the warnings, followed by the notes.
    """

    spec: Spec
    parts: dict[str, SplitStatistics]
    dtype: str
    shape: tuple[int, ...]
    least: float
    most: float
    mean: tuple[float, ...]
    deviation: tuple[float, ...]
    columns: tuple[ColumnSummary, ...]
    notes: tuple[str, ...]
    in_memory: bool
    num_bytes: int
    findings: tuple[Finding, ...]

    @property
    def num_warnings(self) -> int:
        """The number of findings that are warnings."""
        return sum(finding.level == "warning" for finding in self.findings)

    @property
    def num_bad(self) -> int:
        """The number of samples that cannot be used."""
        return sum(finding.check == "bad_sample" for finding in self.findings)

    @property
    def imbalance(self) -> float | None:
        """The ratio of the most to the least frequent class in train; None if the task is not classification."""
        return _imbalance(self.parts["train"].counts) if self.spec.task == "classification" else None

    @property
    def raw(self) -> str:
        """A description of a raw sample: its dtype, its shape and the range of its values."""
        values = "" if self.spec.kind == "tokens" or self.columns else f", {self.least:.6g} to {self.most:.6g}"
        return f"{self.dtype} of {'×'.join(map(str, self.shape)) or '1'}{values}"

    @property
    def scaled(self) -> str:
        """A description of the normalisation; empty if there is none."""
        if not self.mean:
            return ""
        more = f" … ({len(self.mean)} channels)" if len(self.mean) > MAX_CHANNELS else ""
        mean, deviation = (
            " ".join(f"{number:.4g}" for number in numbers[:MAX_CHANNELS]) + more
            for numbers in (self.mean, self.deviation)
        )
        return f"mean {mean}, deviation {deviation}"

    def to_dict(self) -> dict[str, Any]:
        """Return the survey as dicts, lists and tuples that can be written as JSON."""
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
            "columns": plain["columns"],
            "notes": self.notes,
            "in_memory": self.in_memory,
            "findings": plain["findings"],
            "warnings": self.num_warnings,
            "bad_samples": self.num_bad,
        }


def survey(data: Data, settings: Settings) -> Survey:
    """Read every sample of a data set and run all checks.

    Raises:
        RunError: no sample of a split can be read.
    """
    few = sum(map(len, data.splits().values())) <= MAX_PICTURES
    scans = {name: Scan.of(data, split, thumbnails=few) for name, split in data.splits().items()}
    numbers = {name: torch.cat(scan.numbers) for name, scan in scans.items()}
    duplicates = Duplicates.find({name: (numbers[name], torch.cat(scan.hashes)) for name, scan in scans.items()})
    findings = [
        *(Finding("warning", "bad_sample" if line.startswith(BAD_SAMPLE) else "data", line) for line in data.warnings),
        *(Finding("warning", "bad_sample", line) for scan in scans.values() for line in scan.problems),
        *_not_finite(data, scans),
        *duplicates.findings(data, by_chance=repeat_by_chance(data, duplicates)),
        *find_near(data, {name: (numbers[name], s.thumbnails) for name, s in scans.items()}, duplicates, settings),
        *_missing_classes(data, *data.splits()),
        *_unequal_classes(data, settings),
        *_balanced_twice(data, settings),
        *_constant(data),
        *find_groups(data, settings),
        *find_target_columns(data, settings),
        *find_order(data, settings),
        *_too_few(data, settings),
    ]
    norm = data.normalise if isinstance(data.normalise, Normalise) else None
    each = scans.values()
    return Survey(
        spec=data.spec,
        parts={name: _statistics(data, name, scan, duplicates) for name, scan in scans.items()},
        dtype=scans["train"].dtype,
        shape=tuple(max(sizes) for sizes in zip(*(scan.shape for scan in each), strict=True)),
        least=min(scan.least for scan in each),
        most=max(scan.most for scan in each),
        mean=() if norm is None else tuple(norm.mean.tolist()),
        deviation=() if norm is None else tuple(norm.std.tolist()),
        columns=summarise_columns(data),
        notes=data.notes,
        in_memory=_is_in_memory(data),
        num_bytes=sum(scan.num_bytes for scan in each),
        findings=tuple(sorted(findings, key=lambda finding: finding.level != "warning")),
    )


def at_start(data: Data, settings: Settings) -> list[str]:
    """Return the warnings for the start of a run, one line each, from the checks that do not need to read files."""
    findings = [
        *_missing_classes(data, "train"),
        *_unequal_classes(data, settings),
        *_balanced_twice(data, settings),
        *_too_few(data, settings),
    ]
    if _is_in_memory(data):
        hashed = {n: (torch.arange(len(split)), hash_split(split, data.spec)) for n, split in data.splits().items()}
        duplicates = Duplicates.find(hashed)
        findings += duplicates.leaks(data, by_chance=repeat_by_chance(data, duplicates))
        findings += find_order(data, settings)
        if data.features is None:
            findings += _constant(data)
    return [*data.warnings, *(finding.text for finding in findings if finding.level == "warning")]


def _is_in_memory(data: Data) -> bool:
    sources = [split.source for split in data.splits().values()]
    return bool(data.in_memory) and all(isinstance(source, TensorSource | RaggedSource) for source in sources)


def _statistics(data: Data, name: str, scan: Scan, duplicates: Duplicates) -> SplitStatistics:
    split = data.splits()[name]
    lengths = torch.cat(scan.lengths) if split.lengths is None and scan.lengths else split.lengths
    has_unknown = data.spec.kind == "tokens" and "vocabulary" in data.preprocess
    return SplitStatistics(
        samples=len(split),
        counts=_counts(data, name),
        targets=tuple(map(Values.of, split.targets.unbind(1))) if data.spec.task == "regression" else (),
        lengths=None if lengths is None else Lengths.of(lengths),
        unknown=scan.num_unknown / scan.num_values if has_unknown else None,
        repeated=len(duplicates.pairs(name, name)),
    )


def _counts(data: Data, name: str) -> tuple[int, ...]:
    return class_counts(data.splits()[name], data.spec.task, len(data.spec.classes))


def _imbalance(counts: Sequence[int]) -> float:
    some = [count for count in counts if count > 0]
    return max(some) / min(some) if some else 1.0


# ---- the checks, except those for duplicates, which are in duplicates.py


def _missing_classes(data: Data, *names: str) -> list[Finding]:
    """Find classes or labels without a sample in one of the splits ``names``."""
    found = []
    noun, nouns = ("label", "labels") if data.spec.task == "multilabel" else ("class", "classes")
    advice = {
        "train": "the model cannot learn {it}; add samples, or remove {it}",
        "val": "no metric covers {it}; a larger dataset.val_fraction may help",
        "test": "no metric covers {it}",
    }
    for name in names:
        missing = [data.spec.classes[at] for at, count in enumerate(_counts(data, name)) if count == 0]
        if missing:
            one, some = len(missing) == 1, listed(missing, len(missing))
            what = f"{noun} {some} has" if one else f"{len(missing)} {nouns} ({some}) have"
            text = f"{what} no {name} sample: {advice[name].format(it='it' if one else 'them')}"
            found.append(Finding("warning", "missing_class", text))
    return found


def _unequal_classes(data: Data, settings: Settings) -> list[Finding]:
    """Find a large class imbalance in train; the warning names the options that would balance the classes."""
    counts = _counts(data, "train")
    if data.spec.task != "classification" or _imbalance(counts) < MIN_IMBALANCE:
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
    return [Finding("warning", "imbalance", f"{text}; {' or '.join(advice)} makes them count equally")]


def _balanced_twice(data: Data, settings: Settings) -> list[Finding]:
    """Find out if both options that balance classes are on."""
    if not (data.balanced and settings.loss.get("weight") == "balanced"):
        return []
    both = " and ".join(f"{group}.{key}=balanced" for group, key in BALANCING)
    text = f"{both} balance the classes twice, so that the rarest class counts most; one of the two is enough"
    return [Finding("warning", "balanced_twice", text)]


def _too_few(data: Data, settings: Settings) -> list[Finding]:
    """Find out if there are fewer training samples than ``batch_size``."""
    count = len(data.train)
    if count >= settings.batch_size:
        return []
    samples = "1 sample" if count == 1 else f"{count} samples"
    what = f"train has {samples}, less than batch_size={settings.batch_size}"
    text = f"{what}, so an epoch is one step; a smaller batch_size makes more steps"
    return [Finding("warning", "few_samples", text)]


def _not_finite(data: Data, scans: dict[str, Scan]) -> list[Finding]:
    """Find samples with NaN or infinite values."""
    if isinstance(data.normalise, TableEncoding):  # a missing cell is NaN; others are finite
        return []
    found = []
    for name, scan in scans.items():
        numbers = scan.not_finite
        if numbers:
            places = [place_of(data, name, number) for number in numbers[:MAX_NAMED]]
            text = f"{samples_have(len(numbers), name)} NaN or infinite values: {listed(places, len(numbers))}"
            found.append(Finding("warning", "not_finite", text))
    return found


def _constant(data: Data) -> list[Finding]:
    """Find channels, columns or bands that are constant over train; stop reading as soon as none can be constant."""
    axis, noun = CHANNELS.get(data.spec.kind, (0, ""))
    if axis == 0:
        return []
    encoding = data.normalise if isinstance(data.normalise, TableEncoding) else None
    least, most = torch.tensor(math.inf), torch.tensor(-math.inf)
    for _, inputs in readable_batches(data.train, []):
        values, *lengths = inputs if data.features is None else data.features(inputs)
        found = channel_values(values.double(), lengths, axis)
        # that a cell of a table is missing is a value of its own
        low, high = value_range(found if encoding is None else found.nan_to_num(-math.inf))
        least, most = torch.minimum(least, low), torch.maximum(most, high)
        if bool((least != most).all()):
            return []
    which = (least == most).nonzero().flatten().tolist()
    names = data.preprocess.get("columns") or range(len(least))  # arrays have no names of columns
    shown = [f"{float(least[at]):g}" for at in range(len(least))]
    if encoding is not None:
        names, shown = raw_names(encoding), raw_texts(encoding, least)
    one, some = len(which) == 1, listed([f"{names[at]} is {shown[at]}" for at in which], len(which))
    what, they, them = (f"1 {noun} is", "it", "it") if one else (f"{len(which)} {noun}s are", "they", "them")
    carry = "carries" if one else "carry"
    text = f"{what} the same in every train sample, so {they} {carry} no information; leave {them} out: {some}"
    return [Finding("warning", "constant", text)]
