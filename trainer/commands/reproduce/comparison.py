"""Whether a run that was started again came out the same, and what it ran on that is different. No torch at import.

Compared is what a run computes: the points of its curves, the numbers of its summary, its weights. How fast it was and
how much memory it took is not.
"""

from __future__ import annotations

import hashlib
import itertools
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainer.runs.directory import CHECKPOINTS, ENVIRONMENT, read_json
from trainer.runs.read import Run, as_number, flatten, format_value

if TYPE_CHECKING:
    from torch import Tensor

WEIGHTS = f"{CHECKPOINTS}/best.safetensors"
SPLITS = ("train/", "val/", "test/")
COUNTS = ("step", "epoch", "steps", "epochs", "tested_step")  # which no tolerance is for
RATES = ("lr", "gradient_norm")
CHANGES = "uncommitted changes in "  # begins the name of a file that is not as in the commit
NOT_COMPARED = ("run_dir", "resume", "plugins")  # keys of a config that say nothing of what is learned
RECORDED = ("python", "platform", "versions", "device", "git", "processes", "data")  # that another attempt may change


@dataclass(frozen=True)
class Recorded:
    """What a run directory says of its run, read at once, so that nothing that happens later changes it.

    Args:
        path: the directory.
        points: the lines of metrics.jsonl.
        summary: what summary.json holds.
        environment: what environment.json holds.
    """

    path: Path
    points: Sequence[Mapping[str, Any]]
    summary: Mapping[str, Any]
    environment: Mapping[str, Any]


@dataclass(frozen=True)
class Difference:
    """Something that a run ran on or with, and that is another now.

    Args:
        kind: code, version, platform, device, data, config or resumed.
        name: what of it; may be empty.
        before, now: the values; None for none.
    """

    kind: str
    name: str
    before: Any
    now: Any

    def __str__(self) -> str:
        if self.kind == "resumed":
            return f"{self.name}{f'; other then: {self.now}' if self.now else ''}"
        if self.name.startswith(CHANGES):
            return f"{self.name} are others now"
        before, now = (_text(value) for value in (self.before, self.now))
        return f"{self.name} {before} before, {now} now".strip()


@dataclass(frozen=True)
class Pair:
    """A number before and now.

    Args:
        name: such as ``train/loss`` or ``best.val/loss``.
        before, now: as the files have them; None where one lacks it, or has no finite number.
        relative: how far they are apart, as a share of the larger; infinite where that cannot be said.
        step: of the point that it belongs to, if it does.
    """

    name: str
    before: Any
    now: Any
    relative: float
    step: int | None = None


@dataclass(frozen=True)
class Points:
    """The curves before and now.

    Args:
        before, now: how many points there are.
        first: the first number that is not the same.
        largest: how far numbers are apart at most.
    """

    before: int
    now: int
    first: Pair | None
    largest: float

    @property
    def reason(self) -> str:
        """Why they are not compared; empty where they are."""
        return "" if self.before else "the run before has no metrics.jsonl any more"


@dataclass(frozen=True)
class Weights:
    """The best weights before and now.

    Args:
        reason: why they are not compared; empty where they are.
        numbers, tensors: how many there are.
        different: tensors that are not equal bit for bit.
        largest: how far weights are apart at most, as a share of the largest of their tensor.
        worst: the tensor where that is.
    """

    reason: str = ""
    numbers: int = 0
    tensors: int = 0
    different: int = 0
    largest: float = 0.0
    worst: str = ""


@dataclass(frozen=True)
class Comparison:
    """How a run that was started again came out.

    Args:
        points, finals, weights: what was computed; ``finals`` are the numbers of summary.json.
        differences: what it ran on and with that is not as it was.
        tolerance: relative differences up to this count as the same.
    """

    points: Points
    finals: Sequence[Pair]
    weights: Weights
    differences: Sequence[Difference]
    tolerance: float

    @property
    def largest(self) -> float:
        """How far anything is apart at most."""
        return max(self.points.largest, self.weights.largest, *(pair.relative for pair in self.finals), 0.0)

    @property
    def exact(self) -> bool:
        """Whether all is equal bit for bit."""
        return self.largest == 0 and self.weights.different == 0

    @property
    def same(self) -> bool:
        """Whether all is equal as far as was asked for."""
        return self.exact or (self.tolerance > 0 and self.largest <= self.tolerance)

    @property
    def first(self) -> Pair | None:
        """The first number that is not the same; None where there is none, or the weights alone are others."""
        other = (pair for pair in self.finals if pair.relative > self.tolerance)
        return self.points.first or next(other, None)


def recorded(run: Run) -> Recorded:
    """What a run directory says of its run now."""
    return Recorded(run.path, run.points(), dict(run.summary), read_json(run.path / ENVIRONMENT))


def compare(before: Recorded, now: Recorded, differences: Iterable[Difference], tolerance: float) -> Comparison:
    """Lay a run beside the one that was started again.

    Args:
        before, now: what the two have left.
        differences: what is known to be different besides what they ran on, which is found here.
        tolerance: relative differences up to this count as the same.
    """
    ran_on = environment_differences(before.environment, now.environment)
    return Comparison(
        points=compare_points(before.points, now.points, tolerance),
        finals=_compare_summaries(before.summary, now.summary),
        weights=compare_weights(before.path / WEIGHTS, now.path / WEIGHTS),
        differences=[*differences, *ran_on, *_interruptions(before.environment)],
        tolerance=tolerance,
    )


def compare_points(
    before: Sequence[Mapping[str, Any]], now: Sequence[Mapping[str, Any]], tolerance: float = 0.0
) -> Points:
    """Compare curves, point by point in the order of the file; those of a run that has lost them are not compared."""
    first, largest = None, 0.0
    for one, other in itertools.zip_longest(before, now, fillvalue=dict[str, Any]()) if before else ():
        for name in filter(_is_computed, dict.fromkeys([*one, *other])):
            relative = _apart(name, one, other)
            largest = max(largest, relative)
            if first is None and relative > tolerance:
                first = Pair(name, one.get(name), other.get(name), relative, one.get("step", other.get("step")))
    return Points(len(before), len(now), first, largest)


def compare_weights(before: Path, now: Path) -> Weights:
    """Compare two files of weights, tensor by tensor, one at a time in memory."""
    from safetensors import SafetensorError, safe_open

    missing = [str(path) for path in (before, now) if not path.is_file()]
    if missing:
        return Weights(reason=f"there is no {' and no '.join(missing)}")
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
        return Weights(reason=f"{before} or {now} cannot be read: {error}")
    return Weights("", numbers, len(names), different, largest, worst)


def environment_differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[Difference]:
    """What two runs ran on that is not the same: code, versions, platform, device, data.

    Args:
        before, now: what environment.json holds; a part that one of them lacks is not compared.
    """
    parts = [part for part in RECORDED if part in before and part in now]
    parts = [part for part in parts if part == "git" or (before[part] and now[part])]
    return _different(_facts(before, parts), _facts(now, parts))


def config_differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[Difference]:
    """The keys of two configs that are not the same; where a run stands is no difference."""
    ours, theirs = flatten(before), flatten(now)
    keys = [key for key in dict.fromkeys([*ours, *theirs]) if key not in NOT_COMPARED]
    typed = [{key: format_value(value) for key, value in each.items()} for each in (ours, theirs)]
    return [
        Difference("config", key.removesuffix(".name"), typed[0].get(key), typed[1].get(key))
        for key in keys
        if key not in ours or key not in theirs or ours[key] != theirs[key]
    ]


def _different(before: Mapping[tuple[str, str], Any], now: Mapping[tuple[str, str], Any]) -> list[Difference]:
    keys = dict.fromkeys([*before, *now])
    return [Difference(*key, before.get(key), now.get(key)) for key in keys if before.get(key) != now.get(key)]


def _facts(environment: Mapping[str, Any], parts: Iterable[str]) -> dict[tuple[str, str], Any]:
    """(kind, name) and value of all that a run ran on; files that others have written may hold anything."""
    found: dict[tuple[str, str], Any] = {}
    for part in parts:
        value = environment[part]
        if part == "git":
            found |= _facts_of_code(value if isinstance(value, Mapping) else {})
        elif part in ("versions", "device", "data"):
            named = value if isinstance(value, Mapping) else {}
            kind = part.removesuffix("s")
            found |= {("version" if name == "cuda" else kind, str(name)): each for name, each in named.items()}
        else:
            kind, name = {"python": ("version", "python"), "platform": ("platform", "")}.get(part, ("device", part))
            found[kind, name] = value
    return found


def _facts_of_code(git: Mapping[str, Any]) -> dict[tuple[str, str], Any]:
    """The commit, and each file that is not as in the commit, with a hash of how it is."""
    found: dict[tuple[str, str], Any] = {("code", "commit"): git.get("commit")}
    for change in re.split("^diff --git ", str(git.get("diff") or ""), flags=re.MULTILINE)[1:]:
        name = re.sub('.* "?b/', "", change.partition("\n")[0]).strip('"')
        found["code", f"{CHANGES}{name}"] = hashlib.sha256(change.encode()).hexdigest()
    return found


def _interruptions(environment: Mapping[str, Any]) -> list[Difference]:
    """Where the run before was interrupted and went on, and what was another then."""
    attempts = environment.get("resumed")
    attempts = [each for each in attempts if isinstance(each, Mapping)] if isinstance(attempts, list) else []
    return [
        Difference(
            "resumed", f"after step {each.get('step')}", None, ", ".join(name for name in RECORDED if name in each)
        )
        for each in attempts
    ]


def _compare_summaries(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[Pair]:
    """Every number that a summary says of what was learned."""
    ours, theirs = (
        {
            name: value
            for name, value in flatten(summary).items()
            if _is_computed(name.removeprefix("best.").removeprefix("last."))
        }
        for summary in (before, now)
    )
    names = dict.fromkeys([*ours, *theirs])
    return [Pair(name, ours.get(name), theirs.get(name), _apart(name, ours, theirs)) for name in names]


def _is_computed(name: str) -> bool:
    """Whether a number follows from the config and the data alone."""
    return name in COUNTS or name in RATES or name.startswith(SPLITS)


def _apart(name: str, before: Mapping[str, Any], now: Mapping[str, Any]) -> float:
    """How far a number of two points or summaries is apart: 0 for not at all, infinite where one has none."""
    if (name in before) != (name in now):
        return math.inf
    one, other = before[name], now[name]
    if one == other:
        return 0.0
    ours, theirs = as_number(one), as_number(other)
    if ours is None or theirs is None or name.rpartition(".")[2] in COUNTS:
        return math.inf
    if math.isnan(ours) and math.isnan(theirs):
        return 0.0
    relative = abs(ours - theirs) / max(abs(ours), abs(theirs))
    return math.inf if math.isnan(relative) else relative


def _compare_tensors(before: Tensor | None, now: Tensor | None) -> tuple[bool, float]:
    """Whether two tensors are equal bit for bit, and how far apart they are, as a share of the largest number."""
    import torch

    if before is None or now is None or before.shape != now.shape or before.dtype != now.dtype:
        return False, math.inf
    if torch.equal(*(each.flatten().view(torch.uint8) for each in (before, now))):
        return True, 0.0
    wide = torch.complex128 if before.is_complex() else torch.float64
    ours, theirs = before.to(wide), now.to(wide)
    largest = max(float(ours.abs().max()), float(theirs.abs().max()))
    relative = float((ours - theirs).abs().max()) / largest if largest else 0.0  # 0 and -0
    return False, relative if math.isfinite(relative) else math.inf


def _text(value: Any) -> str:
    """A value on a line; of a hash the beginning."""
    if value is None:
        return "none"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    text = str(value)
    return text[:10] if re.fullmatch("[0-9a-f]{40}|[0-9a-f]{64}", text) else text
