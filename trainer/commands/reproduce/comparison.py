"""Compare a run with its repetition: curves, metrics, weights and environments.

Only numbers that the config and the data determine are compared, not speed or memory. Importing this module does not
import torch.
"""

from __future__ import annotations

import hashlib
import itertools
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from trainer.runs.directory import CHECKPOINTS, ENVIRONMENT, read_json
from trainer.runs.read import Run, as_number, differing, flatten, format_value

if TYPE_CHECKING:
    from torch import Tensor

WEIGHTS = f"{CHECKPOINTS}/best.safetensors"
COUNTS = ("step", "epoch", "steps", "epochs", "tested_step")  # must be equal, regardless of the tolerance
COMPUTED = (*COUNTS, "lr", "gradient_norm")
SPLITS = ("train/", "val/", "test/")
CHANGES = "uncommitted changes in "  # followed by the name of a file
NOT_COMPARED = ("run_dir", "resume", "plugins")  # keys of a config that do not affect the training
# Parts of environment.json that are compared; they may change when a run is resumed.
RECORDED = ("python", "platform", "versions", "device", "git", "processes", "data")


class Recorded(NamedTuple):
    """The content of a run directory, read into memory, so that later changes of the files have no effect."""

    path: Path
    points: Sequence[Mapping[str, Any]]  # the lines of metrics.jsonl
    summary: Mapping[str, Any]  # the content of summary.json
    environment: Mapping[str, Any]  # the content of environment.json


class Difference(NamedTuple):
    """A fact about a run that differs for its repetition, such as the version of a library."""

    kind: str  # code, version, platform, device, data, config or resumed
    name: str
    before: Any
    now: Any

    def __str__(self) -> str:
        if self.kind == "resumed":
            return f"{self.name}{f'; that attempt had another {self.now}' if self.now else ''}"
        if self.name.startswith(CHANGES):
            return f"{self.name} differ"
        return f"{self.name} {_text(self.before)} before, {_text(self.now)} now".strip()


class ComparedNumber(NamedTuple):
    """A number of a run and of its repetition."""

    name: str  # such as train/loss or best.val/loss
    before: Any  # the value in the file; None if the file lacks the number
    now: Any
    relative: float  # the absolute difference divided by the larger magnitude; infinite if it cannot be computed
    step: int | None = None  # the step of a point of the curves; None for a final number


class ComparedPoints(NamedTuple):
    """The curves of a run and of its repetition."""

    before: int  # the number of points of the old run
    now: int
    first: ComparedNumber | None  # the first number that differs by more than the tolerance
    largest: float  # the largest relative difference

    @property
    def reason(self) -> str:
        """Why the curves cannot be compared, or an empty string."""
        return "" if self.before else "the old run has no metrics.jsonl"


class ComparedWeights(NamedTuple):
    """The best weights of a run and of its repetition."""

    reason: str = ""  # why the weights cannot be compared; empty if they were
    numbers: int = 0  # the number of weights
    tensors: int = 0
    different: int = 0  # the number of tensors that are not equal bit for bit
    largest: float = 0.0  # the largest difference of a weight, divided by the largest magnitude in its tensor
    worst: str = ""  # the name of the tensor with this difference


class Comparison(NamedTuple):
    """The result of comparing a run with its repetition.

    Numbers with a relative difference of at most ``tolerance`` count as equal.
    """

    points: ComparedPoints
    finals: Sequence[ComparedNumber]  # the final numbers, from summary.json
    weights: ComparedWeights
    differences: Sequence[Difference]  # of config, code, environment and data
    tolerance: float

    @property
    def largest(self) -> float:
        """The largest relative difference of all numbers and weights."""
        return max(self.points.largest, self.weights.largest, *(number.relative for number in self.finals), 0.0)

    @property
    def exact(self) -> bool:
        """Whether all numbers and weights are equal bit for bit."""
        return self.largest == 0 and self.weights.different == 0

    @property
    def same(self) -> bool:
        """Whether all numbers and weights are equal within the tolerance."""
        return self.exact or (self.tolerance > 0 and self.largest <= self.tolerance)

    @property
    def first(self) -> ComparedNumber | None:
        """The first number that differs by more than the tolerance; None if no number, or only the weights differ."""
        return self.points.first or next((each for each in self.finals if each.relative > self.tolerance), None)

    def to_dict(self) -> dict[str, Any]:
        """Return the result as plain containers for ``--json``."""
        points, weights = self.points._asdict(), self.weights._asdict()
        del points["first"]
        return {
            "same": self.same,
            "bit_for_bit": self.exact,
            "tolerance": self.tolerance,
            "largest_relative_difference": self.largest,
            "first_difference": None if self.first is None else self.first._asdict(),
            "points": {"compared": not self.points.reason, **points},
            "metrics": {each.name: [each.before, each.now, each.relative] for each in self.finals},
            "weights": {"compared": not self.weights.reason, **weights},
            "differences": [each._asdict() for each in self.differences],
        }


def recorded(run: Run) -> Recorded:
    """Read the files of a run directory that are to be compared, except for the weights."""
    return Recorded(run.path, run.points(), dict(run.summary), read_json(run.path / ENVIRONMENT))


def compare(before: Recorded, now: Recorded, differences: Iterable[Difference], tolerance: float) -> Comparison:
    """Compare a run with its repetition.

    Args:
        before, now: the contents of the two run directories.
        differences: differences of the configs; the differences of the environments are added here.
        tolerance: the relative difference up to which two numbers count as equal.
    """
    environment = environment_differences(before.environment, now.environment)
    return Comparison(
        points=compare_points(before.points, now.points, tolerance),
        finals=_compare_numbers(flatten(before.summary), flatten(now.summary)),
        weights=compare_weights(before.path / WEIGHTS, now.path / WEIGHTS),
        differences=[*differences, *environment, *_interruptions(before.environment)],
        tolerance=tolerance,
    )


def compare_points(
    before: Sequence[Mapping[str, Any]], now: Sequence[Mapping[str, Any]], tolerance: float = 0.0
) -> ComparedPoints:
    """Compare curves point by point, in the order of the files; if ``before`` is empty, nothing is compared."""
    first, largest = None, 0.0
    for one, other in itertools.zip_longest(before, now, fillvalue=dict[str, Any]()) if before else ():
        for number in _compare_numbers(one, other):
            largest = max(largest, number.relative)
            if first is None and number.relative > tolerance:
                first = number._replace(step=one.get("step", other.get("step")))
    return ComparedPoints(len(before), len(now), first, largest)


def compare_weights(before: Path, now: Path) -> ComparedWeights:
    """Compare two safetensors files tensor by tensor, with only one tensor of each file in memory."""
    from safetensors import SafetensorError, safe_open

    missing = [str(path) for path in (before, now) if not path.is_file()]
    if missing:
        return ComparedWeights(reason=f"there is no {' and no '.join(missing)}")
    try:
        with safe_open(before, framework="pt") as ours, safe_open(now, framework="pt") as theirs:
            numbers = different = 0
            largest, worst = 0.0, ""
            names = dict.fromkeys([*ours.keys(), *theirs.keys()])
            for name in names:
                pair = [file.get_tensor(name) if name in file.keys() else None for file in (ours, theirs)]  # noqa: SIM118
                equal, relative = _compare_tensors(*pair)
                numbers += max(tensor.numel() for tensor in pair if tensor is not None)
                different += not equal
                if relative > largest:
                    largest, worst = relative, name
    except (SafetensorError, OSError) as error:
        return ComparedWeights(reason=f"{before} or {now} cannot be read: {error}")
    return ComparedWeights("", numbers, len(names), different, largest, worst)


def environment_differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[Difference]:
    """Return the differences between two environment.json files; a part that is missing in one is not compared."""
    both = [part for part in RECORDED if part in before and part in now]
    parts = [part for part in both if part == "git" or (before[part] and now[part])]
    plain = [{part: _code(each[part]) if part == "git" else each[part] for part in parts} for each in (before, now)]
    return [Difference(*_kind_and_name(key), *values) for key, values in differing(list(map(flatten, plain))).items()]


def config_differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[Difference]:
    """Return the differences of two configs in keys that affect the training, with values as in overrides."""
    plain = [{key: value for key, value in flatten(each).items() if key not in NOT_COMPARED} for each in (before, now)]
    found = differing([{key: format_value(value) for key, value in each.items()} for each in plain])
    return [Difference("config", key.removesuffix(".name"), *values) for key, values in found.items()]


def _kind_and_name(key: str) -> tuple[str, str]:
    """Return the kind and the name of a difference for a dotted key of environment.json.

    For example, the key ``versions.torch`` gives ("version", "torch").
    """
    part, _, name = key.partition(".")
    if part in ("python", "versions") or name == "cuda":
        return "version", name or part
    if part == "platform":
        return "platform", ""
    return {"git": "code", "processes": "device"}.get(part, part), name or part


def _code(git: Any) -> dict[str, Any]:
    """Return the commit, and for each file with uncommitted changes a hash of its diff."""
    git = git if isinstance(git, Mapping) else {}
    found = {"commit": git.get("commit")}
    for change in re.split("^diff --git ", str(git.get("diff") or ""), flags=re.MULTILINE)[1:]:
        name = re.sub('.* "?b/', "", change.partition("\n")[0]).strip('"')
        found[f"{CHANGES}{name}"] = hashlib.sha256(change.encode()).hexdigest()
    return found


def _interruptions(environment: Mapping[str, Any]) -> list[Difference]:
    """Return a ``Difference`` for each time the old run was resumed, with the parts of its environment that changed."""
    attempts, found = environment.get("resumed"), []
    for attempt in attempts if isinstance(attempts, list) else []:
        if isinstance(attempt, Mapping):
            changed = ", ".join(part for part in RECORDED if part in attempt)
            found.append(Difference("resumed", f"after step {attempt.get('step')}", None, changed))
    return found


def _is_computed(name: str) -> bool:
    """Return whether a number is determined by the config and the data alone."""
    name = name.removeprefix("best.").removeprefix("last.")
    return name in COMPUTED or name.startswith(SPLITS)


def _compare_numbers(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[ComparedNumber]:
    names = filter(_is_computed, dict.fromkeys([*before, *now]))
    return [ComparedNumber(name, before.get(name), now.get(name), _relative(name, before, now)) for name in names]


def _relative(name: str, before: Mapping[str, Any], now: Mapping[str, Any]) -> float:
    """Return the relative difference of a number; infinity if it cannot be computed, or if a count differs."""
    if (name in before) != (name in now):
        return math.inf
    if before[name] == now[name]:
        return 0.0
    one, other = as_number(before[name]), as_number(now[name])
    if one is None or other is None or name.rpartition(".")[2] in COUNTS:
        return math.inf
    if math.isnan(one) and math.isnan(other):
        return 0.0
    relative = abs(one - other) / max(abs(one), abs(other))
    return math.inf if math.isnan(relative) else relative


def _compare_tensors(before: Tensor | None, now: Tensor | None) -> tuple[bool, float]:
    """Return whether two tensors are equal bit for bit, and their largest difference over their largest magnitude."""
    import torch

    if before is None or now is None or before.shape != now.shape or before.dtype != now.dtype:
        return False, math.inf
    if torch.equal(*(each.flatten().view(torch.uint8) for each in (before, now))):
        return True, 0.0
    wide = torch.complex128 if before.is_complex() else torch.float64
    ours, theirs = before.to(wide), now.to(wide)
    largest = max(float(ours.abs().max()), float(theirs.abs().max()))
    relative = float((ours - theirs).abs().max()) / largest if largest else 0.0  # 0.0 and -0.0 differ in one bit
    return False, relative if math.isfinite(relative) else math.inf


def _text(value: Any) -> str:
    """Format a value for a line of text; a hash is truncated to ten characters."""
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    text = "none" if value is None else str(value)
    return text[:10] if re.fullmatch("[0-9a-f]{40}|[0-9a-f]{64}", text) else text
