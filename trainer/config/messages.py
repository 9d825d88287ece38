"""Error messages about config keys, options and types, with suggestions for misspelt names."""

from __future__ import annotations

import difflib
import re
import shlex
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, Literal

from msgspec import Meta

from trainer.config.signature import keys_in
from trainer.config.types import MAX_FLOAT, MAX_INT

MAX_LISTED = 40  # the largest number of options that a message lists

# Prefixes of the names of torchvision's architectures.
_FAMILIES = (
    *("alexnet", "convnext", "densenet", "efficientnet", "googlenet", "inception", "maxvit", "mnasnet", "mobilenet"),
    *("regnet", "resnet", "resnext", "shufflenet", "squeezenet", "swin", "vgg", "vit", "wide_resnet"),
)

# What other programs call an option of a group -> its name in this program.
OPTION_SYNONYMS = {
    "model": {"rnn": "gru", "conv": "cnn"},
    "dataset": {
        **dict.fromkeys(("folder", "images", "pictures"), "image_folder"),
        **dict.fromkeys(("audio", "sounds", "speech", "wav"), "audio_folder"),
        **dict.fromkeys(("texts", "jsonl", "sentences"), "text"),
        **dict.fromkeys(("table", "tsv", "tabular"), "csv"),
        **dict.fromkeys(("numpy", "npy"), "npz"),
        **dict.fromkeys(("hf", "datasets"), "huggingface"),
    },
    "loss": {
        "ce": "cross_entropy",
        "nll": "cross_entropy",
        "mae": "l1",
        "smooth_l1": "huber",
        "pinball": "quantile",
        "bce_with_logits": "bce",
    },
    "optimizer": {"momentum": "sgd"},
    "scheduler": {"none": "constant", "null": "constant", "one_cycle": "onecycle", "reduce_on_plateau": "plateau"},
    "device": {"gpu": "cuda", "distributed": "ddp", "data_parallel": "dp", "fsdp2": "fsdp"},
    "logger": {"tb": "tensorboard", "null": "none"},
}


def how_to_install(extra: str) -> str:
    """Return the pip command that installs this package with an optional extra, such as ``slurm``."""
    return f"pip install 'trainer-cli[{extra}]'"


def nearest(word: str, known: Iterable[str]) -> str | None:
    """Return the known word closest to ``word``, or None if no word is similar; swapped letters come first."""
    near = difflib.get_close_matches(word.lower(), list(known), n=3, cutoff=0.6)
    return next((each for each in near if sorted(each) == sorted(word.lower())), near[0] if near else None)


def did_you_mean(word: str, known: Iterable[str], prefix: str = "") -> str:
    """Return ``; did you mean optimizer.lr?``, or an empty string if no known word is similar."""
    near = nearest(word, known)
    return f"; did you mean {prefix}{near}?" if near else ""


def unknown_option(group: str, name: str, options: Iterable[str], origin: str = "") -> str:
    """Return the message for an option that a group does not have."""
    options = list(options)
    word = name.lower().removesuffix(".yaml").removesuffix("_loss")
    near = OPTION_SYNONYMS.get(group, {}).get(word.replace("-", "_"))
    hint = f"; did you mean {near}?" if near else did_you_mean(word, options)
    if group == "model" and not hint and word.startswith(_FAMILIES):
        hint = f"; did you mean model=torchvision model.arch={name}?"
    listed = ", ".join(options) or "none"
    if len(options) > MAX_LISTED:
        closest = difflib.get_close_matches(word, options, n=10, cutoff=0.3) or options[:10]
        listed = f"{', '.join(closest)}, … ({len(options)} in all)"
    return f"{group}={name}: no such option{from_where(origin)}{hint or ';'} options: {listed}"


def from_where(origin: str) -> str:
    """Return the origin of a value in parentheses, to be appended to a message; an empty origin stays empty."""
    return f" ({origin})" if origin else ""


def shown_value(value: Any) -> str:
    """Return a value as text of at most 100 characters; None, True and False are null, true and false as in YAML."""
    text = "null" if value is None else str(value).lower() if isinstance(value, bool) else repr(value)
    return text if len(text) <= 100 else f"{text[:100]}…"


def quoted(text: str) -> str:
    """Return a text as a value in Hydra's override grammar, in quotes if necessary, that refers to no other key."""
    if re.fullmatch(r"[\w./:+-]+", text, re.ASCII) and text.lower() != "null":
        return text
    return _in_quotes(text).replace("${", "\\${")


def _in_quotes(text: str) -> str:
    escaped = re.sub(r'(\\*)("|\Z)', lambda found: found[1] * 2 + ('\\"' if found[2] else ""), text)
    return f'"{escaped}"'


def as_word(key: str, value: str | Sequence[str] | Mapping[str, str]) -> str:
    """Return ``key=value`` as it is typed in a shell, in the quotes that the shell and Hydra's grammar need."""
    if isinstance(value, Mapping):
        names = [name if re.fullmatch(r"[A-Za-z_]\w*|[0-9]+", name, re.ASCII) else _in_quotes(name) for name in value]
        pairs = [f"{name}:{quoted(one)}" for name, one in zip(names, value.values(), strict=True)]
        return shlex.quote(f"{key}={{{','.join(pairs)}}}")
    text = quoted(value) if isinstance(value, str) else f"[{','.join(map(quoted, value))}]"
    return shlex.quote(f"{key}={text}")


_NAMES = {
    int: "a whole number",
    float: "a number",
    str: "a string",
    bool: "true or false",
    type(None): "null",
    Any: "anything",
}


def describe(annotation: Any) -> str:
    """Describe a type in words: ``a number, at least 0 and less than 1, or null``."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Annotated:
        limits = " and ".join(limit for meta in arguments[1:] if isinstance(meta, Meta) for limit in _limits(meta))
        return f"{describe(arguments[0])}, {limits}" if limits else describe(arguments[0])
    if origin in (typing.Union, types.UnionType):
        return ", or ".join(describe(argument) for argument in arguments)
    if origin is dict:
        return f"a mapping of names, each to {describe(arguments[1])}"
    if origin is Literal:
        return ("one of " if len(arguments) > 1 else "") + ", ".join(map(str, arguments))
    if origin is list or annotation is list:
        return f"a list, each item {describe(arguments[0])}" if arguments else "a list"
    if keys_in(annotation):
        return "a mapping"
    return _NAMES.get(annotation, getattr(annotation, "__name__", str(annotation)))


def choices(annotation: Any) -> list[str]:
    """Return all values of a ``Literal``, a bool or null as words; an empty list for other types."""
    if typing.get_origin(annotation) is Literal:
        return [str(argument) for argument in typing.get_args(annotation)]
    if typing.get_origin(annotation) in (typing.Union, types.UnionType, Annotated):
        return [word for argument in typing.get_args(annotation) for word in choices(argument)]
    return {bool: ["true", "false"], type(None): ["null"]}.get(annotation, [])


def _limits(meta: Meta) -> list[str]:
    """Describe the bounds, the length and the pattern of a type in words."""
    bounds = [("at least", meta.ge), ("greater than", meta.gt), ("at most", meta.le), ("less than", meta.lt)]
    known = [(words, bound) for words, bound in bounds if bound is not None and bound != MAX_INT]
    found = ["finite" if bound == MAX_FLOAT else f"{words} {bound}" for words, bound in known]
    if meta.min_length is not None and meta.min_length == meta.max_length:
        found.append(f"{meta.min_length} of them")
    else:
        found += [f"at least {meta.min_length} of them"] * (meta.min_length is not None)
        found += [f"at most {meta.max_length} of them"] * (meta.max_length is not None)
    if meta.description is not None:
        found.append(meta.description)
    elif meta.pattern is not None:
        found.append(f"of the form {meta.pattern}")
    return found
