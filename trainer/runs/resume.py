"""Going on with a run: which run it is, and what the command may change about it. No torch.

The words of the run stand before those typed now, so that ``train resume=last epochs=40`` is the run's own command with
another length. What then differs from the run's config is taken or refused, by the tables below.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from trainer.config import GROUPS, ConfigError, Settings, yaml_file
from trainer.config.messages import did_you_mean, from_where
from trainer.config.settings import key_of
from trainer.runs.directory import CHECKPOINTS, CONFIG, OVERRIDES
from trainer.runs.read import NOT_TRAINED, OUTPUTS, as_typed, flatten, is_run

# What a run may go on with: nothing that is learned changes.
TAKEN = (
    *("epochs", "max_steps", "max_time", "patience", "log_every", "on_nonfinite", "dry_run", "run_dir", "resume"),
    *("plugins", "logger", "checkpoint", "profile", "keep_freed_memory"),
    *("dataset.root", "dataset.path", "dataset.workers", "dataset.in_memory"),
    *("device.processes", "device.timeout", "device.max_restarts"),  # how many there are is said where they are known
)
# The same training, but in other kernels or another order of sums, so no longer bit for bit.
TO_ROUNDING = ("device", "accumulate", "compile", "deterministic")
# Everything else is refused; why, where that is not plain.
REASONS = {
    "model": "its weights fit no other",
    "batch_size": "the position in the epoch is counted in batches",
    "seed": "the order of the samples follows from it",
    "dataset": "the weights were learned from other data",
    "optimizer": "the steps so far were made with it",
    "monitor": "the best so far was chosen by it",
    "metrics": "the curves and the best so far are made of them",
}
WORD = re.compile(r"[+~]{0,2}[A-Za-z_][\w./]*(=.*)?", flags=re.DOTALL)  # no package (@), which could hide a key
# Words of a run that are not its own any more: where it was, and what only the command line may say.
NOT_REPEATED = (*NOT_TRAINED, "plugins")


def with_earlier_words(words: Sequence[str], *, multirun: bool = False) -> list[str]:
    """The words of the run that ``resume=last`` or ``resume=RUN`` goes on with, and after them those typed now.

    Returns:
        ``words`` as they are, where none of them is that.

    Raises:
        ConfigError: there is no such run.
    """
    wanted = [word.partition("=")[2].strip("'\"") for word in words if key_of(word) == "resume"]
    if not wanted or wanted[-1] in ("auto", "null", "") or ("," in wanted[-1] and not Path(wanted[-1]).is_dir()):
        return list(words)
    if multirun:
        raise ConfigError(f"resume: {wanted[-1]}: a sweep goes on with sweep=last, sweep=FOLDER or the same sweep_dir")
    if any(key_of(word) == "run_dir" for word in words):
        raise ConfigError("run_dir: a resumed run goes on in its own directory; leave run_dir out, or resume=auto")
    folder = find(wanted[-1])
    typed, config = {key_of(word): word.partition("=")[2] for word in words}, read(folder / CONFIG)
    if config.get("plugins") and "plugins" not in typed:
        code = ", ".join(map(str, config["plugins"]))
        raise ConfigError(
            f"resume: the run {folder} has components of {code}; if you trust it, name it again: plugins=[…]"
        )
    exchanged = {group for group in GROUPS if group in typed and typed[group] != config.get(group, {}).get("name")}
    left_out = {*NOT_REPEATED, *exchanged}  # the keys of an option that is exchanged are nobody's
    earlier = [
        word for word in words_in(folder) if key_of(word) not in typed and key_of(word).split(".")[0] not in left_out
    ]
    now = [word for word in words if key_of(word) != "resume"]
    path = quoted(str(folder))
    return [*earlier, *now, f"run_dir={path}", f"resume={path}"]


def find(name: str) -> Path:
    """The run directory that ``resume=NAME`` means.

    Raises:
        ConfigError: there is none.
    """
    if name == "last":
        runs = [path.parent for path in OUTPUTS.rglob(CONFIG)]
        if not runs:
            raise ConfigError(f"resume=last: no run under {OUTPUTS}")
        return max(runs, key=lambda run: (run / CONFIG).stat().st_mtime)
    folder = Path(name)
    if not (folder / CONFIG).is_file():
        runs = [parent for parent in list(folder.parents)[:2] if (parent / CONFIG).is_file()]
        near = f"; did you mean {runs[0]}?" if runs else ""
        raise ConfigError(f"resume: {name}: no run directory, it has no {CONFIG}{near}")
    return folder


def goes_on(settings: Settings) -> bool:
    """Whether there is something in ``run_dir`` that ``settings.resume`` asks to go on with."""
    folder = Path(settings.run_dir)
    return settings.resume is not None and any((folder / CHECKPOINTS).glob("*.pt"))


def changes(settings: Settings) -> list[str]:
    """What is other than in the run that goes on, and taken, but no longer gives the same bits; a line for each.

    Keys that only one of the two has are those of another version of this program.

    Raises:
        ConfigError: with a line for each key that cannot be other, or what is there is no run.
    """
    if not goes_on(settings):
        return []
    folder = Path(settings.run_dir)
    before, now = flatten(read(folder / CONFIG)), flatten(settings.to_dict())
    different = [key for key in before if key in now and before[key] != now[key]]
    exchanged = {key.partition(".")[0] for key in different if key.endswith(".name")}
    problems, notes = [], []
    for key in different:
        group, _, leaf = key.partition(".")
        if (group in exchanged and leaf != "name") or is_in(key, TAKEN):
            continue
        shown, old, new = key.removesuffix(".name"), as_typed(before[key]), as_typed(now[key])
        if is_in(key, TO_ROUNDING):
            notes.append(f"{shown} was {old} and is {new}: the same training, no longer bit for bit")
        else:
            reason = from_where(REASONS.get(group, "what was learned so far was learned with it"))
            problems.append(f"{shown}: is {old} in the run {folder} and cannot become {new}{reason}; start another run")
    if problems:
        raise ConfigError(*problems)
    return notes


def check_links(folder: Path) -> None:
    """A run directory from elsewhere could lead what is written there to another place.

    Raises:
        ConfigError: something in it is a link out of it.
    """
    if (path := link_out_of(folder)) is not None:
        raise ConfigError(f"resume: {path}: a link out of the run directory; a run writes only inside")


def link_out_of(folder: Path) -> Path | None:
    """The first link below a folder that leads out of it; None where there is none."""
    inside = folder.resolve()
    links = (path for path in folder.rglob("*") if path.is_symlink())
    return next((path for path in links if not path.resolve().is_relative_to(inside)), None)


def is_in(key: str, keys: Sequence[str]) -> bool:
    """Whether a dotted key is one of these, or below one."""
    return any(key == each or key.startswith(f"{each}.") for each in keys)


def words_in(folder: Path) -> list[str]:
    """What was typed for a run."""
    words = yaml_file.load(folder / OVERRIDES) if (folder / OVERRIDES).is_file() else []
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise ConfigError(f"{folder / OVERRIDES}: must be a list of words")
    strange = [word for word in words if not WORD.fullmatch(word)]
    if strange:
        raise ConfigError(f"{folder / OVERRIDES}: {strange[0]}: no word that a run is started with")
    return words


def read(path: Path) -> dict[str, Any]:
    """A config that a run has left."""
    config = yaml_file.load(path)
    if not (
        isinstance(config, dict)
        and all(isinstance(config.get(group, {}), dict) for group in GROUPS)
        and isinstance(config.get("plugins", []), list)
    ):
        raise ConfigError(f"{path}: damaged: must hold the keys and values of a run")
    return config


def quoted(path: str) -> str:
    """A path as a value of Hydra's grammar."""
    if re.fullmatch(r"[\w./:+-]+", path, re.ASCII):
        return path
    escaped = path.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


SWEEPS = OUTPUTS / "sweeps"
HAS_ANEW = ("hydra.mode", "hydra.sweep.dir", "sweep_dir")  # words that a sweep which goes on has anew


def with_earlier_sweep_words(words: Sequence[str], is_data: Callable[[str], bool]) -> list[str]:
    """The words of the sweep that ``sweep=last`` or ``sweep=FOLDER`` goes on with, and after them those typed now.

    Args:
        words: that were typed now.
        is_data: whether what a key of Hydra's says is taken from a folder, which may be a stranger's.

    Raises:
        ConfigError: there is no such sweep, or it has words that have to be typed again.
    """
    wanted = [word.partition("=")[2].strip("'\"") for word in words if word.startswith("sweep=")]
    if any(word.partition("=")[0] in ("sweep_dir", "hydra.sweep.dir") for word in words):
        raise ConfigError("sweep_dir: a sweep goes on in its own folder; leave sweep_dir out, or sweep=")
    folder = _find_sweep(wanted[-1])
    typed = {key_of(word) for word in words}
    earlier = [word for word in words_in(folder) if key_of(word) not in {*typed, *HAS_ANEW}]
    code = [word for word in earlier if key_of(word) == "plugins"]
    if code:
        raise ConfigError(f"sweep: {folder} has components of {code[0]}; if you trust them, name them again")
    keys = {key_of(word): word for word in earlier}
    foreign = [word for key, word in keys.items() if key == "run_dir" or (key.startswith("hydra") and not is_data(key))]
    if foreign:
        again = " ".join(map(shlex.quote, foreign))
        raise ConfigError(f"sweep: {folder} was made with {again}; if you trust it, type that again")
    now = [word for word in words if not word.startswith("sweep=")]
    return [*earlier, *now, f"sweep_dir={quoted(str(folder))}"]


def _find_sweep(name: str) -> Path:
    """The folder that ``sweep=NAME`` means.

    Raises:
        ConfigError: there is none.
    """
    if name == "last":
        folders = [path.parent for path in SWEEPS.glob(f"*/*/{OVERRIDES}")]
        if not folders:
            raise ConfigError(f"sweep=last: no sweep under {SWEEPS}; one with a sweep_dir is named, sweep=FOLDER")
        return max(folders, key=lambda folder: (folder / OVERRIDES).stat().st_mtime)
    folder = Path(name)
    if not (folder / OVERRIDES).is_file() or is_run(folder):
        near = f"; did you mean {folder.parent}?" if (folder.parent / OVERRIDES).is_file() else ""
        near = near or did_you_mean(name, ["last"])
        keys = "; keys: sweep.parallel, sweep.devices_per_job, sweep.on_error"
        raise ConfigError(f"sweep: {name}: no folder of a sweep{near or keys}")
    return folder
