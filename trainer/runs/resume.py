"""Resume a run or a sweep: find it, repeat its overrides, and refuse changes that alter the training. No torch.

The stored overrides of the run precede the overrides typed now, so that ``train resume=last epochs=40`` repeats the
run's own command with another number of epochs. The tables below list which differences from the run's config are
accepted.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from trainer.config import GROUPS, ConfigError, Settings, yaml_file
from trainer.config.messages import as_word, did_you_mean, from_where, quoted
from trainer.config.settings import key_of
from trainer.config.untrusted_files import check_named
from trainer.runs.directory import CHECKPOINTS, CONFIG, ENVIRONMENT, OVERRIDES, read_json
from trainer.runs.read import NOT_TRAINED, OUTPUTS, flatten, format_value, is_run

# Keys that a resumed run may change, because they do not alter the training steps.
MAY_CHANGE = (
    *("epochs", "max_steps", "max_time", "patience", "log_every", "on_nonfinite", "dry_run", "run_dir", "resume"),
    *("plugins", "logger", "checkpoint", "profile", "keep_freed_memory", "thresholds", "calibrate"),
    *("dataset.root", "dataset.path", "dataset.labels", "dataset.workers", "dataset.in_memory"),
    *("device.processes", "device.timeout", "device.max_restarts"),  # resume_notes reports a new number of processes
)
# Keys that change the kernels or the order of summation: the training is the same except for rounding errors.
CHANGES_ROUNDING = ("device", "accumulate", "compile", "deterministic")
# Changes of all other keys are refused. These are the reasons, for keys whose reason is not obvious.
REASONS = {
    "model": "its weights fit no other",
    "batch_size": "the position in the epoch is counted in batches",
    "seed": "the order of the samples follows from it",
    "dataset": "the weights were learned from other data",
    "optimizer": "the steps so far were made with it",
    "monitor": "the best so far was chosen by it",
    "metrics": "the curves and the best so far are made of them",
}
# Keys that earlier versions did not have: a key that their configs have beside it, and the value that they worked with.
ADDED = {"dataset.token_rules": ("tokens", 1)}
ReadText = Callable[[str], str | None]
WORD = re.compile(r"[+~]{0,2}[A-Za-z_][\w./]*(=.*)?", flags=re.DOTALL)  # without a package (@), which could hide a key
RESOLVER = re.compile(r"\$\{[^}]*:")  # ${oc.env:NAME}, but not ${batch_size}
# Keys of stored overrides that a resumed run does not repeat, such as run_dir; only the command line may name plugins.
NOT_REPEATED = (*NOT_TRAINED, "plugins")
SWEEPS = OUTPUTS / "sweeps"
SET_ANEW = {"hydra.mode", "hydra.sweep.dir", "sweep_dir"}  # stored keys that a resumed sweep does not repeat


def with_earlier_words(words: Sequence[str], read: ReadText, *, multirun: bool = False) -> list[str]:
    """Prepend the stored overrides of the run that ``resume=last`` or ``resume=RUN`` names.

    Args:
        words: the overrides typed now; they are returned unchanged if they name no run.
        read: returns the value of a word, or None if the value is no single text.
        multirun: whether the command is a sweep.

    Raises:
        ConfigError: the run does not exist, or the command cannot resume it.
    """
    wanted = _typed_value("resume", words, read)
    if not wanted or wanted == "auto":
        return list(words)
    if multirun:
        raise ConfigError(f"resume: {wanted}: a sweep goes on with sweep=last, sweep=FOLDER or the same sweep_dir")
    if any(key_of(word) == "run_dir" for word in words):
        raise ConfigError("run_dir: a resumed run goes on in its own directory; leave run_dir out, or resume=auto")
    folder = _find_run(wanted)
    typed, config = {key_of(word): word.partition("=")[2] for word in words}, load_config(folder / CONFIG)
    if config.get("plugins") and "plugins" not in typed:
        code = ",".join(map(str, config["plugins"]))
        raise ConfigError(
            f"resume: the run {folder} has components of {code}; if you trust it, name it again: 'plugins=[{code}]'"
        )
    # Groups with a new component, for which the stored keys of the old component have no meaning.
    exchanged = {group for group in GROUPS if group in typed and typed[group] != config.get(group, {}).get("name")}
    path = quoted(str(folder))
    now = [word for word in words if key_of(word) != "resume"]
    earlier = _earlier_words(folder, typed, {*NOT_REPEATED, *exchanged})
    named = {*typed, *map(key_of, earlier)}
    added = [f"{key}={value}" for key, (_, value) in ADDED.items() if flatten(config).get(key) == value]
    added += _former_defaults(config)
    earlier += [word for word in added if key_of(word) not in named and word.partition(".")[0] not in exchanged]
    return [*earlier, *now, f"run_dir={path}", f"resume={path}"]


def _former_defaults(config: Mapping[str, Any]) -> Iterator[str]:
    """Yield the words that choose what earlier versions chose by default, for a run whose config has it."""
    if config.get("loss", {}).get("name") == "cross_entropy":
        yield "loss=cross_entropy"
    dataset = config.get("dataset", {})
    if dataset.get("name") == "csv" and "columns" not in dataset:  # before the settings of tables
        yield "preset=none"
        yield "dataset.columns=null"
        yield f"dataset.missing={dataset.get('missing', 'bad')}"


def with_earlier_sweep_words(words: Sequence[str], read: ReadText, is_data: Callable[[str], bool]) -> list[str]:
    """Prepend the stored overrides of the sweep that ``sweep=last`` or ``sweep=FOLDER`` names.

    Args:
        words: the overrides typed now.
        read: as in ``with_earlier_words``.
        is_data: returns whether a key under ``hydra`` is only data, so that a folder of unknown origin may set it.

    Raises:
        ConfigError: the sweep does not exist, or it has overrides that have to be typed again.
    """
    if any(word.partition("=")[0] in ("sweep_dir", "hydra.sweep.dir") for word in words):
        raise ConfigError("sweep_dir: a sweep goes on in its own folder; leave sweep_dir out, or sweep=")
    folder = _find_sweep(_typed_value("sweep", words, read) or "")
    earlier = _earlier_words(folder, {key_of(word) for word in words}, SET_ANEW)
    stored = {key_of(word): word for word in earlier}
    if "plugins" in stored:
        raise ConfigError(f"sweep: {folder} has components of {stored['plugins']}; if you trust them, name them again")
    unsafe = [
        word for key, word in stored.items() if key == "run_dir" or (key.startswith("hydra") and not is_data(key))
    ]
    if unsafe:
        again = " ".join(map(shlex.quote, unsafe))
        raise ConfigError(f"sweep: {folder} was made with {again}; if you trust it, type that again")
    now = [word for word in words if not word.startswith("sweep=")]
    config = next((load_config(path) for path in folder.rglob(CONFIG)), {})
    named = {*stored, *map(key_of, now)}
    earlier += [word for word in _former_defaults(config) if key_of(word) not in named]
    return [*earlier, *now, f"sweep_dir={quoted(str(folder))}"]


def _typed_value(key: str, words: Iterable[str], read: ReadText) -> str | None:
    """Return the last value that ``words`` give a key, or None; the name of a folder may have commas."""
    typed = [word for word in words if key_of(word) == key]
    folder = typed[-1].partition("=")[2] if typed else ""
    return folder if "," in folder and Path(folder).is_dir() else read(typed[-1]) if typed else None


def _earlier_words(folder: Path, typed: Collection[str], left_out: set[str]) -> list[str]:
    """Return the stored overrides, except those whose key is in ``typed`` or whose key or group is in ``left_out``.

    Raises:
        ConfigError: an override would read the environment or the time again; the folder may be of unknown origin.
    """
    words = [
        word
        for word in read_overrides(folder)
        if (key := key_of(word)) not in typed and left_out.isdisjoint((key, key.partition(".")[0]))
    ]
    if read := next((word for word in words if RESOLVER.search(word)), None):
        raise ConfigError(
            f"{folder / OVERRIDES}: {read}: a stored word is not resolved again; if you trust it, type it again: "
            f"{shlex.quote(read)}"
        )
    return words


def _find_run(name: str) -> Path:
    """Return the run directory that ``resume=NAME`` names.

    Raises:
        ConfigError: there is no such run.
    """
    if name == "last":
        runs = [path.parent for path in OUTPUTS.rglob(CONFIG)]
        if not runs:
            raise ConfigError(f"resume=last: no run under {OUTPUTS}")
        return max(runs, key=lambda run: (run / CONFIG).stat().st_mtime)
    folder = Path(name)
    if (folder / CONFIG).exists():
        check_named(folder / CONFIG, "resume")
    else:
        runs = [parent for parent in list(folder.parents)[:2] if (parent / CONFIG).is_file()]
        near = f"; did you mean {runs[0]}?" if runs else ""
        raise ConfigError(f"resume: {name}: not a run directory, it has no {CONFIG}{near}")
    return folder


def _find_sweep(name: str) -> Path:
    """Return the folder that ``sweep=NAME`` names.

    Raises:
        ConfigError: there is no such sweep.
    """
    if name == "last":
        folders = [path.parent for path in SWEEPS.glob(f"*/*/{OVERRIDES}")]
        if not folders:
            raise ConfigError(f"sweep=last: no sweep under {SWEEPS}; name a sweep with a sweep_dir by sweep=FOLDER")
        return max(folders, key=lambda folder: (folder / OVERRIDES).stat().st_mtime)
    folder = Path(name)
    if (folder / OVERRIDES).exists():
        check_named(folder / OVERRIDES, "sweep")
    if not (folder / OVERRIDES).is_file() or is_run(folder):
        near = f"; did you mean {folder.parent}?" if (folder.parent / OVERRIDES).is_file() else ""
        near = near or did_you_mean(name, ["last"])
        keys = "; keys: sweep.parallel, sweep.devices_per_job, sweep.on_error"
        raise ConfigError(f"sweep: {name}: not the folder of a sweep{near or keys}")
    return folder


def check_changes(settings: Settings) -> list[str]:
    """Compare the settings with the stored config of the run that they resume.

    Keys that are only in one of the two come from another version of this program and are not compared.

    Returns:
        one line for each accepted change that affects rounding; an empty list if no run is resumed.

    Raises:
        ConfigError: a key has changed that must not change (one line for each), or the stored config is damaged.
    """
    folder = Path(settings.run_dir)
    if settings.resume is None or not any((folder / CHECKPOINTS).glob("*.pt")):
        return []
    before, now = flatten(load_config(folder / CONFIG)), flatten(settings.to_dict())
    different = [key for key in before if key in now and before[key] != now[key]]
    exchanged = {key.partition(".")[0] for key in different if key.endswith(".name")}
    problems, notes = [], []
    for key in different:
        group, _, leaf = key.partition(".")
        if (group in exchanged and leaf != "name") or is_under(key, MAY_CHANGE):
            continue
        shown, old, new = key.removesuffix(".name"), format_value(before[key]), format_value(now[key])
        if is_under(key, CHANGES_ROUNDING):
            notes.append(f"{shown} was {old} and is {new}: the same training, no longer bit for bit")
        else:
            reason = from_where(REASONS.get(group, "what was learned so far was learned with it"))
            problems.append(f"{shown}: is {old} in the run {folder} and cannot become {new}{reason}; start another run")
    if problems:
        raise ConfigError(*problems)
    return notes


@contextlib.contextmanager
def naming_moved_data(folder: Path, dataset: Mapping[str, Any]) -> Iterator[None]:
    """Within this context, a ConfigError about a missing file of the data set names the override that finds the file.

    Args:
        folder: the directory of the run that the data set belongs to.
        dataset: the keys of the data set; if a path is relative, the working directory may have changed.
    """
    try:
        yield
    except ConfigError as error:
        started = Path(str(read_json(folder / ENVIRONMENT).get("directory")))

        def remedy(line: str) -> str:
            key = "labels" if line.startswith("dataset.labels") else "path"
            path = dataset.get(key)
            there = started / (path if isinstance(path, str) else "")
            if isinstance(path, str) and not Path(path).is_absolute() and there.is_absolute() and there.exists():
                return f"; the run was started in another folder: {as_word(f'dataset.{key}', str(there))}"
            return f"; if they have moved, dataset.{key}=… says where they are"

        lines = (f"{line}{remedy(line) * (': no such file' in line)}" for line in error.problems)
        raise ConfigError(*lines) from error


def check_state(settings: Settings, name: str, state: Mapping[str, Any], fingerprint: Any, num_batches: int) -> None:
    """Check that the state of a checkpoint can be resumed with the settings.

    Args:
        settings: the settings of the resumed run.
        name: the file name of the checkpoint.
        state: the content of the checkpoint.
        fingerprint: the fingerprint of the current data.
        num_batches: the number of training batches in an epoch.

    Raises:
        ConfigError: the data have changed, another version wrote the checkpoint, or the run has already made more
            epochs or steps than the settings allow.
    """
    folder = Path(settings.run_dir)
    if state.get("fingerprint") != fingerprint:
        changed = _what_changed(state.get("fingerprint") or {}, fingerprint)
        raise ConfigError(f"dataset: the samples are not those that the run {folder} was started with: {changed}")
    step, progress = state.get("step"), state.get("progress", {})
    if step is None or "total_steps" not in state or progress.get("batch") not in range(num_batches + 1):
        raise ConfigError(f"resume: {folder / CHECKPOINTS / name} is no checkpoint of this version")
    made = {"epochs": (progress.get("epoch"), settings.epochs), "max_steps": (step, settings.max_steps)}
    for key, (count, limit) in made.items():
        if limit is not None and count is not None and count > limit:
            raise ConfigError(f"{key}: the run {folder} has made {count} and cannot become {limit}; start another run")


def _what_changed(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Return the numbers of samples by which two fingerprints of data differ, or what else differs."""
    splits = dict.fromkeys([*now, *before])
    counts = [
        f"{name} {before.get(name, 0)} → {now.get(name, 0)}"
        for name in splits
        if name != "sha256" and before.get(name, 0) != now.get(name, 0)
    ]
    return ", ".join(counts) or "as many samples, but other ones, other targets or another order"


def check_links(folder: Path) -> None:
    """Raise ConfigError if a run directory has something else than files, folders and links to those inside it.

    A run would write elsewhere through a link out of the directory, and wait forever for a named pipe.
    """
    if (path := link_out_of(folder)) is not None:
        raise ConfigError(f"resume: {path}: a link out of the run directory; a run writes only inside")
    check_files_below(folder, "resume")


def check_files_below(folder: Path, key: str) -> None:
    """Raise ConfigError if a folder has a named pipe, a socket or a device at any depth; ``key`` begins the message."""
    for path in folder.rglob("*"):
        if path.exists() and not path.is_dir():
            check_named(path, key)


def link_out_of(folder: Path) -> Path | None:
    """Return the first symbolic link below a folder that points outside the folder or to itself, or None."""
    inside = os.path.realpath(folder)
    links = (path for path in folder.rglob("*") if path.is_symlink())
    return next((path for path in links if not _leads_inside(path, inside)), None)


def _leads_inside(link: Path, inside: str) -> bool:
    target = Path(os.path.realpath(link))  # unlike resolve, it accepts a link to itself
    return not target.is_symlink() and target.is_relative_to(inside)


def is_under(key: str, prefixes: Iterable[str]) -> bool:
    """Return whether a dotted key is one of the prefixes or below one of them."""
    return any(key == prefix or key.startswith(f"{prefix}.") for prefix in prefixes)


def read_overrides(folder: Path) -> list[str]:
    """Return the stored overrides of a run or sweep; an empty list if the file does not exist.

    Raises:
        ConfigError: the file is damaged, or contains something that is not an override.
    """
    words = yaml_file.load(folder / OVERRIDES) if (folder / OVERRIDES).is_file() else []
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise ConfigError(f"{folder / OVERRIDES}: must be a list of words")
    strange = [word for word in words if not WORD.fullmatch(word)]
    if strange:
        raise ConfigError(f"{folder / OVERRIDES}: {strange[0]}: not an override such as epochs=3")
    return words


def load_config(path: Path) -> dict[str, Any]:
    """Return the config that a run has stored, with the keys of ADDED.

    Raises:
        ConfigError: the file is damaged: it is not a mapping, a group is not a mapping, or ``plugins`` is not a list.
    """
    config = yaml_file.load(path)
    if not (
        isinstance(config, dict)
        and all(isinstance(config.get(group, {}), dict) for group in GROUPS)
        and isinstance(config.get("plugins", []), list)
    ):
        raise ConfigError(f"{path}: damaged: must hold the keys and values of a run")
    for key, (beside, value) in ADDED.items():
        group, _, leaf = key.partition(".")
        if beside in config.get(group, {}):
            config[group].setdefault(leaf, value)
    return config
