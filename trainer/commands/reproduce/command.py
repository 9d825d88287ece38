"""The command ``trainer reproduce``: starts a run once more, and says whether it came out the same. No torch here."""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from trainer.commands.reproduce.comparison import (
    Comparison,
    Difference,
    Pair,
    Recorded,
    compare,
    config_differences,
    environment_differences,
    recorded,
)
from trainer.commands.text_table import aligned
from trainer.compose import plugins
from trainer.config import ConfigError, RunError, Settings, yaml_file
from trainer.config.check import check
from trainer.config.errors import printable
from trainer.config.settings import key_of
from trainer.processes import launch
from trainer.processes.signals import Interrupts
from trainer.processes.world import world
from trainer.runs import resume
from trainer.runs.directory import CONFIG
from trainer.runs.read import FINISHED, RUNNING, Run, as_number, for_json, read_run, run_named

KEYS = ("plugins", "device", "dataset.path", "dataset.root")

EPILOG = """\
RUN is a run directory, or last, the newest under outputs. Behind it may stand, where it is not as it was:
  plugins=[FILE]                the code of the run's own components, which no run directory names by itself
  dataset.path=, dataset.root=  where the data is now
  device=                       where it is trained now, such as device=cpu or device=ddp device.processes=2
Compared are the points of the curves, the best, last and test metrics, and the best weights; not times and memory.
examples:
  trainer reproduce last
  trainer reproduce outputs/2026-11-24/10-39-34-cnn-digits --tolerance 1e-5
exit code: 0 the same; 1 it differs, or went wrong; 2 the command or the run cannot be used."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description = "Start a run once more, in a directory of its own, and say whether it came out the same."
    parser.epilog = EPILOG
    parser.add_argument("run", nargs="?", metavar="RUN", help="a run that has finished; nothing is written to it")
    parser.add_argument("words", nargs="*", metavar="WORD", help="where its code, data and device are now, see below")
    parser.add_argument("--run-dir", metavar="DIR", help="where the new run goes (RUN-again)")
    parser.add_argument(
        "--tolerance", metavar="REL", default="0", help="up to this share, numbers count as the same (0)"
    )
    parser.add_argument("--json", action="store_true", help="print what came out for a program; all else to stderr")


def run(arguments: argparse.Namespace) -> int:
    """Start the run again, print what came of it, and return the exit code: 0 where it is the same, else 1.

    Raises:
        ConfigError: there is no such run, it has not finished, or it cannot be started again.
        RunError: the new run went wrong.
        Stopped: it was asked to end.
    """
    tolerance = _tolerance(arguments.tolerance)
    if world() is not None:
        raise ConfigError("reproduce: starts the processes of a run itself; leave torchrun out")
    if arguments.run is None:
        raise ConfigError("reproduce: needs a run: its directory, or last")
    found = run_named(arguments.run)
    _check_finished(found)
    settings = _settings(found, arguments.words, arguments.run_dir)
    before = recorded(found)
    with _output_on_stderr() if arguments.json else contextlib.nullcontext(), Interrupts() as interrupts:
        try:
            known = config_differences(resume.load_config(found.path / CONFIG), settings.to_dict())
            _print(_opening(before, known, _environment(settings)))
            folder = _start(settings)
        except RunError:
            raise
        except Exception:
            interrupts.check()  # what a signal cuts in two fails in ways of its own
            raise
    comparison = compare(before, recorded(read_run(folder)), known, tolerance)
    if arguments.json:
        print(json.dumps(for_json(as_dict(comparison, found.path, folder)), ensure_ascii=False, indent=2))
    else:
        _print(_verdict(comparison))
    return int(not comparison.same)


def as_dict(comparison: Comparison, before: Path, now: Path) -> dict[str, Any]:
    """All that came out, for a program; what cannot be said as a finite number is null.

    Args:
        comparison: of the two runs.
        before, now: their directories.
    """
    points, weights, first = comparison.points, comparison.weights, comparison.first
    return {
        "run": str(before),
        "again": str(now),
        "same": comparison.same,
        "bit_for_bit": comparison.exact,
        "tolerance": comparison.tolerance,
        "largest_relative_difference": comparison.largest,
        "first_difference": None if first is None else vars(first),
        "points": {
            "compared": not points.reason,
            "before": points.before,
            "now": points.now,
            "largest": points.largest,
        },
        "metrics": {pair.name: [pair.before, pair.now, pair.relative] for pair in comparison.finals},
        "weights": {"compared": not weights.reason, **vars(weights)},
        "differences": [vars(each) for each in comparison.differences],
    }


def _tolerance(typed: str) -> float:
    """Raises ConfigError for what is no share."""
    with contextlib.suppress(ValueError):
        if 0 <= float(typed) < math.inf:
            return float(typed)
    raise ConfigError(f"--tolerance: must be a number of at least 0 such as 1e-6, got {typed or 'nothing'}")


def _check_finished(found: Run) -> None:
    """Raises ConfigError for a run that has come to no result."""
    if found.state == FINISHED:
        return
    only = "only a run that has finished can be reproduced"
    if found.state == RUNNING:
        raise ConfigError(f"{found.path}: is at work now, and {only}; wait for its end")
    reason = found.summary.get("reason")
    raise ConfigError(f"{found.path}: {found.state}{f' ({reason})' if reason else ''}; {only}")


def _settings(found: Run, words: Sequence[str], run_dir: str | None) -> Settings:
    """The config that the run has left, with what is typed now, for a directory of its own.

    Raises:
        ConfigError: with a line for each mistake.
    """
    foreign = [word for word in words if not _is_allowed(word)]
    if foreign:
        only = f"behind RUN stand only {', '.join(f'{key}=' for key in KEYS)}"
        raise ConfigError(*(f"{word}: another word would be another run; {only}" for word in foreign))
    file = found.path / CONFIG
    plain = resume.load_config(file)
    wanted = _plugins(found, plain, [word for word in words if key_of(word) == "plugins"])
    plugins.require(wanted)
    try:
        settings = check({**plain, "plugins": wanted})
    except ConfigError as error:
        raise ConfigError(*(f"{yaml_file.shown(file)}: {line}" for line in error.problems)) from error
    return _with_words(settings, words).replace(
        run_dir=_directory(found.path, run_dir),
        fixed_run_dir=run_dir is not None,
        resume=None,
        dry_run=False,
        overrides=_overrides(found.path, words),
    )


def _is_allowed(word: str) -> bool:
    """Whether a word leaves the run what it is."""
    key, equals, _ = word.partition("=")
    return equals != "" and (key in KEYS or key.startswith("device."))


def _plugins(found: Run, plain: Mapping[str, Any], typed: Sequence[str]) -> list[str]:
    """The plugins that are named now, where the run has components of some.

    Raises:
        ConfigError: none is named; a run directory may be a stranger's, and must not run code.
    """
    needed = [str(name) for name in plain.get("plugins", [])]
    if typed:
        return _checked(typed).plugins
    wanted = plugins.from_environment()
    if not {*needed} <= {*wanted}:
        code = ", ".join(needed)
        raise ConfigError(
            f"{found.path}: the run has components of {code}; if you trust it, name it again: plugins=[…]"
        )
    return wanted


def _checked(words: Sequence[str]) -> Settings:
    """What words say, checked as those of train."""
    from trainer.compose.composer import Composer

    try:
        return Composer().check(words, trains=False)[0]
    except ConfigError as error:
        one = "several values, but one run is started again"
        raise ConfigError(*(line.replace("several values need --multirun", one) for line in error.problems)) from error


def _with_words(settings: Settings, words: Sequence[str]) -> Settings:
    """Settings with the keys that are typed now; the others of their group stay as they were.

    Raises:
        ConfigError: with a line for each mistake.
    """
    typed = sorted({key_of(word) for word in words})
    if not typed:
        return settings
    plain = settings.to_dict()
    groups = {key.partition(".")[0] for key in typed if "." in key} - {*typed}
    now = _checked([*(f"{group}={plain[group]['name']}" for group in groups), *words]).to_dict()
    for key in typed:
        group, _, leaf = key.partition(".")
        plain[group] = {**plain[group], leaf: now[group][leaf]} if leaf else now[group]
    return check(plain)


def _directory(folder: Path, wanted: str | None) -> str:
    """Where the new run goes: beside the old one, or where it is wanted.

    Raises:
        ConfigError: something is there, or it would be written into the old run.
    """
    inside = folder.resolve()
    if wanted is None:
        named = folder if folder.name not in ("", "..") else Path(os.path.relpath(inside.parent)) / inside.name
        return f"{named}-again"
    if not wanted:
        raise ConfigError("--run-dir: must be a folder, got nothing")
    place = Path(wanted)
    if place.resolve().is_relative_to(inside):
        raise ConfigError(f"--run-dir: {wanted}: lies in the run {folder}, and nothing is written there")
    with contextlib.suppress(OSError):  # of which the run says more
        if place.exists() and not (place.is_dir() and not any(place.iterdir())):
            raise ConfigError(f"--run-dir: {wanted}: is there already; name another, or leave --run-dir out")
    return wanted


def _overrides(folder: Path, words: Sequence[str]) -> tuple[str, ...]:
    """The words of the run, and behind them those that are typed now instead of some of them."""
    typed = {key_of(word) for word in words}
    earlier = (word for word in resume.read_overrides(folder) if key_of(word) not in typed)
    if "device" in typed:  # the keys of an option that is exchanged are nobody's
        earlier = (word for word in earlier if not key_of(word).startswith("device."))
    return (*earlier, *words)


def _environment(settings: Settings) -> dict[str, Any]:
    """What the new run will run on; of which device, processes that are yet to start find out themselves."""
    from torch import device

    from trainer.runs.environment import environment

    if launch.needed(settings):
        return {**environment(device("cpu"), Path(settings.run_dir)), "device": None}
    from trainer.build import build
    from trainer.device import DEVICES
    from trainer.device._placement import Placement

    found = build(DEVICES, settings.device)
    return environment(found.device if isinstance(found, Placement) else found, Path(settings.run_dir))


def _start(settings: Settings) -> Path:
    """Train, and return the run directory.

    Raises:
        ConfigError, RunError, Stopped: as ``trainer.runner.run``.
    """
    if launch.needed(settings):
        return Path(launch.launch(settings)["run_dir"])
    from trainer.runner import run as train

    return Path(train(settings).summary["run_dir"])


@contextlib.contextmanager
def _output_on_stderr() -> Iterator[None]:
    """What a run prints, and its processes, is kept off the stdout that a program reads."""
    sys.stdout.flush()
    before = os.dup(1)
    os.dup2(2, 1)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        os.dup2(before, 1)
        os.close(before)


def _print(lines: Sequence[str]) -> None:
    print("\n".join(map(printable, lines)), flush=True)


def _opening(before: Recorded, known: Sequence[Difference], now: Mapping[str, Any]) -> list[str]:
    """What is said before it starts: what is different already."""
    different = [*known, *environment_differences(before.environment, now)]
    lines = [f"again    {before.path}", *(f"{each.kind:<8} {each}" for each in different)]
    parts = [name for name in ("versions", "platform", "device") if before.environment.get(name) and now.get(name)]
    if not isinstance(before.environment.get("git"), Mapping):
        lines.append("code     not compared: the run has recorded none, as it was not started in a git repository")
    elif now.get("git") is not None:
        parts = ["code", *parts]
    if not different:
        lines.append(
            f"now      {', '.join(parts)}: as recorded" if parts else "now      nothing was recorded to compare"
        )
    return lines


def _verdict(comparison: Comparison) -> list[str]:
    """What is said at the end."""
    compared, notes = _counted(comparison), []
    for name, reason in (("points", comparison.points.reason), ("weights", comparison.weights.reason)):
        if reason:
            notes.append(f"{name:<8} not compared: {reason}")
    if comparison.same:
        how = "bit for bit" if comparison.exact else f"to within {comparison.tolerance:g}"
        most = "" if comparison.exact else f"; the largest difference is {comparison.largest:.1e} of a number"
        lines = [f"same     {compared} are equal {how}{most}", *notes]
        others = [each for each in comparison.differences if each.kind != "resumed"]
        return [*lines, *(f"although {each.kind}: {each}" for each in others)]
    return [
        f"differs  {_first(comparison)}",
        *_table(comparison.finals),
        *notes,
        *_weights(comparison),
        *_reasons(comparison),
    ]


def _counted(comparison: Comparison) -> str:
    """How much was compared: ``5 points, 2 test metrics and 53,002 weights``."""
    tested = sum(pair.name.startswith("test/") for pair in comparison.finals)
    counts = {"point": comparison.points.now, "test metric": tested, "weight": comparison.weights.numbers}
    reasons = {"point": comparison.points.reason, "weight": comparison.weights.reason}
    *most, last = (f"{count:,} {name}{'s' * (count != 1)}" for name, count in counts.items() if not reasons.get(name))
    return f"{', '.join(most)} and {last}" if most else last


def _first(comparison: Comparison) -> str:
    """Where it begins to differ."""
    pair = comparison.first
    if pair is None:
        return f"the weights alone: {_counted(comparison).rpartition(' and ')[0]} are equal"
    before, now = _numbers(pair)
    share = f" ({pair.relative:.1e} of it)" if math.isfinite(pair.relative) else ""
    where = "at the end" if pair.step is None else f"from step {pair.step} on"
    return f"{where}: {pair.name} {before} before, {now} now{share}"


def _table(finals: Sequence[Pair]) -> list[str]:
    """The metrics at the end, and whatever else differs there."""
    shown = [pair for pair in finals if "/" in pair.name.removeprefix("last.") or pair.relative > 0]
    shown = [pair for pair in shown if not pair.name.startswith("last.") or pair.relative > 0]
    rows = [(pair.name.replace(".", " ", 1), *_numbers(pair), _share(pair.relative)) for pair in shown]
    return aligned(("", "before", "now", "difference"), rows, {0}) if rows else []


def _weights(comparison: Comparison) -> list[str]:
    """How far the weights are apart."""
    weights = comparison.weights
    if weights.reason:
        return []
    if not weights.different:
        return [f"weights  all {weights.numbers:,} are equal bit for bit"]
    most = f"by at most {weights.largest:.1e} of the largest in it" if math.isfinite(weights.largest) else "altogether"
    where = f", most in {weights.worst}" if weights.worst else ""
    return [f"weights  differ in {weights.different} of {weights.tensors} tensors, {most}{where}"]


def _reasons(comparison: Comparison) -> list[str]:
    """What is not as it was, and so may be why."""
    if comparison.differences:
        return [f"perhaps  {each.kind}: {each}" for each in comparison.differences]
    return [
        "perhaps  nothing that is recorded differs: files that git does not know, environment variables, libraries of "
        "the system, or sums in an order that no seed fixes (deterministic=false, some operations of a GPU)"
    ]


def _share(relative: float) -> str:
    return "0" if relative == 0 else f"{relative:.1e}" if math.isfinite(relative) else ""


def _numbers(pair: Pair) -> tuple[str, str]:
    """Both numbers, with as many digits as it takes to tell them apart."""
    one, other = (as_number(value) for value in (pair.before, pair.now))
    texts = tuple("none" if value is None else str(value) for value in (pair.before, pair.now))
    if one is None or other is None or (isinstance(pair.before, int) and isinstance(pair.now, int)):
        return texts[0], texts[1]
    for digits in range(4, 18):
        texts = tuple(f"{value:.{digits}g}" for value in (one, other))
        if texts[0] != texts[1] or one == other:
            break
    return texts[0], texts[1]
