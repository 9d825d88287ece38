"""The error message for a key that does not exist, with the nearest keys by spelling and by meaning."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any

from trainer.config.messages import from_where, nearest
from trainer.config.registry import LoadError, Registry, registry
from trainer.config.settings import GROUPS, Settings
from trainer.config.signature import keys_in

MAX_KEYS = 10  # the largest number of keys that a message lists in full; of more keys it lists the nearest
MAX_NEAREST = 5
ALMOST = 0.85  # the ratio of difflib from which a key is a misspelling rather than the name of another program

# What other programs call a key -> its name in this program, or its names, of which the chosen components have one.
KEY_SYNONYMS: dict[str, str | tuple[str, ...]] = {
    **dict.fromkeys(("net", "network", "architecture"), "model"),
    "arch": "model.arch",
    **dict.fromkeys(("hidden_size", "hidden_dim", "hidden_units"), "model.hidden"),
    **dict.fromkeys(("num_layers", "n_layers", "depth"), "model.layers"),
    **dict.fromkeys(("data", "dataset_name"), "dataset"),
    **dict.fromkeys(("data_dir", "data_path", "dir", "directory", "file", "filename", "folder"), "dataset.path"),
    **dict.fromkeys(
        ("label", "labels", "class", "column", "label_column", "target_column", "targets", "outcome", "y"),
        ("dataset.target", "dataset.targets", "dataset.labels"),
    ),
    "target": ("dataset.targets", "dataset.labels"),
    **dict.fromkeys(
        ("feature", "columns", "feature_columns", "inputs", "x"),
        ("dataset.features", "dataset.inputs", "dataset.input"),
    ),
    "text": "dataset.input",
    **dict.fromkeys(("drop", "exclude", "skip", "drop_columns"), "dataset.ignore"),
    **dict.fromkeys(("sep", "separator"), "dataset.delimiter"),
    **dict.fromkeys(("na_values", "nan", "fillna"), ("dataset.missing_values", "dataset.missing")),
    **dict.fromkeys(("groups", "group_column", "speaker", "subject", "patient"), "dataset.group"),
    **dict.fromkeys(("id_column", "index_col", "index_column"), "dataset.id"),
    **dict.fromkeys(("test_size", "test_split"), "dataset.test_fraction"),
    **dict.fromkeys(
        ("val_size", "val_split", "valid_fraction", "validation_split", "validation_fraction"), "dataset.val_fraction"
    ),
    **dict.fromkeys(("workers", "num_workers", "n_jobs"), "dataset.workers"),
    **dict.fromkeys(("image_size", "img_size", "imgsz", "resize", "resolution"), "dataset.size"),
    **dict.fromkeys(("sr", "sampling_rate", "rate"), "dataset.sample_rate"),
    **dict.fromkeys(("max_len", "max_seq_length", "seq_len"), "dataset.max_length"),
    **dict.fromkeys(("vocab_size", "max_features"), "dataset.vocabulary"),
    **dict.fromkeys(("augmentation", "augmentations", "transforms"), "dataset.augment"),
    "opt": "optimizer",
    **dict.fromkeys(("lr", "lr0", "learning_rate", "learningrate"), "optimizer.lr"),
    **dict.fromkeys(("wd", "l2", "decay"), "optimizer.weight_decay"),
    "momentum": "optimizer.momentum",
    **dict.fromkeys(("warmup", "warmup_steps", "num_warmup_steps"), "scheduler.warmup_epochs"),
    **dict.fromkeys(("lr_scheduler", "schedule", "sched"), "scheduler"),
    **dict.fromkeys(("class_weight", "class_weights", "pos_weight"), "loss.weight"),
    **dict.fromkeys(("criterion", "loss_fn", "objective"), "loss"),
    **dict.fromkeys(("gpu", "cuda", "use_gpu", "accelerator"), "device=cuda"),
    **dict.fromkeys(("gpus", "device_ids"), "device=ddp"),
    **dict.fromkeys(("num_gpus", "nproc", "nproc_per_node", "world_size", "num_processes"), "device.processes"),
    **dict.fromkeys(("bs", "batch", "train_batch_size"), "batch_size"),
    **dict.fromkeys(("num_epochs", "max_epochs", "n_epochs", "nepochs"), "epochs"),
    "steps": "max_steps",
    **dict.fromkeys(("timeout", "time_limit"), "max_time"),
    **dict.fromkeys(("amp", "fp16", "bf16", "mixed_precision"), "precision"),
    **dict.fromkeys(("random_state", "random_seed"), "seed"),
    "early_stopping": "patience",
    **dict.fromkeys(("grad_clip", "max_grad_norm", "gradient_clip_val"), "clip_norm"),
    **dict.fromkeys(("gradient_accumulation_steps", "grad_accum", "accumulate_grad_batches"), "accumulate"),
    **dict.fromkeys(("output_dir", "out_dir", "save_dir", "log_dir", "logdir", "output"), "run_dir"),
    **dict.fromkeys(("resume_from", "resume_from_checkpoint", "ckpt_path"), "resume"),
}


def unknown_key(
    key: str, known: Iterable[str], origin: str = "", hint: str | None = None, command: str = "train --help"
) -> str:
    """Return the message for a key that does not exist.

    Args:
        key: the dotted key.
        known: the existing keys with the same parent.
        origin: where the key was set: a file and line, or the command line.
        hint: a suggestion that replaces the most similar key of ``known``.
        command: the command that lists all keys, which the message names if there are many.
    """
    parent, _, leaf = key.rpartition(".")
    known = [str(name) for name in known if name not in ("name", "hydra")]
    near = nearest(leaf, known)
    prefix = f"{parent}." if parent else ""
    suggestion = hint or (f"; did you mean {prefix}{near}?" if near else ";")
    listed = f"keys: {', '.join(known) or 'none'}"
    if len(known) > MAX_KEYS:
        close = [name for name in _nearest_keys(leaf, known) if name != near and hint is None]
        listed = f"nearest keys: {', '.join(close)}; " if close else ""
        listed += f"{command} lists all {len(known)} keys"
    return f"{key}: no such key{from_where(origin)}{suggestion} {listed}"


def help_command(key: str, whole: Mapping[str, Any]) -> str:
    """Return the command that lists the keys next to a key of a config: ``train dataset=csv --help``."""
    group, _, rest = key.partition(".")
    keys = whole.get(group)
    name = rest.partition(".")[0] if group == "logger" else keys.get("name") if isinstance(keys, Mapping) else None
    return f"train {group}={name} --help" if rest and name else "train --help"


def hint_of(full: str, config: Mapping[Any, Any], whole: Mapping[str, Any]) -> str | None:
    """Suggest what else an unknown key may be: a synonym, the key of another group (``lr``), or of another option.

    Args:
        full: the dotted key.
        config: the keys and values next to the unknown key.
        whole: the whole config.
    """
    parent, _, leaf = full.rpartition(".")
    if parent in GROUPS and difflib.get_close_matches(leaf, _chosen_keys(parent, whole), n=1, cutoff=ALMOST):
        return None
    if known := _synonym(parent, leaf, whole):
        return f"; did you mean {known}?"
    if not parent:
        return _in_a_group(leaf, whole)
    if parent not in GROUPS:
        return None
    components = registry(parent)
    if leaf in components.names():  # model.cnn=gru
        chosen = config[leaf] if config[leaf] in components.names() else leaf
        return f"; did you mean {parent}={chosen}?"
    if nearest(leaf, (str(key) for key in config if key != leaf)):
        return None
    having = [name for name in components.names() if name != config.get("name") and _has(components, name, leaf)]
    if having:
        return f"; {', '.join(f'{parent}={name}' for name in having)} ha{'ve' if having[1:] else 's'} it;"
    if leaf in keys_in(Settings):
        return f"; did you mean {leaf}?"
    return _in_a_group(leaf, whole, spelled=False)


def _synonym(parent: str, leaf: str, whole: Mapping[str, Any]) -> str | None:
    """Return the synonym of a key that the chosen components have, if possible below the same parent.

    Of a top-level key, return a synonym even if another option has to be chosen for it.
    """
    found = KEY_SYNONYMS.get(leaf.lower().replace("-", "_"), ())
    names = (found,) if isinstance(found, str) else found
    real = [name for name in names if _exists(name, whole)]
    beside = [name for name in real if parent and name.startswith(f"{parent}.")]
    if parent:
        return next(iter([*beside, *(real if parent in GROUPS else [])]), None)
    return next(iter([*real, *names]), None)


def _exists(name: str, whole: Mapping[str, Any]) -> bool:
    """Return whether ``name`` is a choice (``device=cuda``), a top-level key, or a key of a chosen component."""
    group, _, leaf = name.partition(".")
    return "=" in name or not leaf or leaf in _chosen_keys(group, whole)


def _chosen_keys(group: str, whole: Mapping[str, Any]) -> Iterable[str]:
    """Return the keys of the component that a config chooses in a group."""
    config = whole.get(group)
    name = config.get("name") if isinstance(config, Mapping) else None
    try:
        return registry(group).keys(name) if isinstance(name, str) else ()
    except (KeyError, LoadError):
        return ()


def _in_a_group(leaf: str, whole: Mapping[str, Any], *, spelled: bool = True) -> str | None:
    """Suggest the key of a chosen component with the same name, or, if ``spelled``, with a similar one."""
    groups = [group for group in reversed(GROUPS) if group != "logger"]
    below = {key: f"{group}.{key}" for group in groups for key in _chosen_keys(group, whole)}
    if leaf in below:
        return f"; did you mean {below[leaf]}?"
    near = nearest(leaf, below) if spelled and not nearest(leaf, keys_in(Settings)) else None
    return f"; did you mean {below[near]}?" if near else None


def _nearest_keys(leaf: str, known: Iterable[str]) -> list[str]:
    """Return the known keys that are spelled like ``leaf``, contain it, or are contained in it; the closest first."""
    word = leaf.lower().replace("-", "_")
    inside = [name for name in known if len(word) > 2 and len(name) > 2 and (word in name or name in word)]
    spelled = difflib.get_close_matches(word, known, n=MAX_NEAREST, cutoff=0.6)
    return [*dict.fromkeys([*spelled[:2], *inside, *spelled])][:MAX_NEAREST]


def _has(components: Registry, name: str, key: str) -> bool:
    try:
        return key in components.keys(name)
    except LoadError:
        return False
