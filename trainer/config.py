"""The configuration: its typed settings, and the check that every key, type and range is right. No torch, no Hydra.

What passes the check is a frozen ``Settings``.
"""

from __future__ import annotations

import dataclasses
import difflib
import enum
import importlib
import keyword
import sys
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from inspect import Parameter
from typing import Annotated, Any, Literal, TypedDict

import msgspec
from msgspec import Meta

from trainer.registry import LoadError, Registry

# The vocabulary of types for keys; a component may use any type that msgspec knows.
LARGEST = 2**63 - 1
PositiveInt = Annotated[int, Meta(ge=1, le=LARGEST)]
NonNegativeInt = Annotated[int, Meta(ge=0, le=LARGEST)]
FINITE = sys.float_info.max
PositiveFloat = Annotated[float, Meta(gt=0, le=FINITE)]
NonNegativeFloat = Annotated[float, Meta(ge=0, le=FINITE)]
Fraction = Annotated[float, Meta(ge=0, lt=1)]
Threads = Annotated[int, Meta(ge=1, le=1024)]
Processes = Annotated[int, Meta(ge=1, le=1024)]
UnitInterval = Annotated[float, Meta(ge=0, le=1)]
Betas = Annotated[list[Fraction], Meta(min_length=2, max_length=2)]
Duration = Annotated[
    str,
    Meta(
        pattern=r"^(?=.*[1-9])(\d{1,5}d)?(\d{1,5}h)?(\d{1,5}m)?(\d{1,5}s)?$",
        description="days, hours, minutes and seconds such as 1d12h, 1h30m or 90s",
    ),
]

GROUPS = ("model", "dataset", "loss", "optimizer", "scheduler", "device", "logger")
Component = dict[str, Any]


class ConfigError(Exception):
    """The command or the config is wrong: one line for each mistake."""

    def __init__(self, *problems: str) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class RunError(Exception):
    """A run cannot start or go on, though its config is right: damaged data, a full disk, a loss that is not finite.

    One line that says what to do.
    """


class SweepError(Exception):
    """Some runs of a sweep did not end well, and each has been reported.

    Args:
        code: what the command ends with.
    """

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


# The keys under ``checkpoint``; their meaning stands in configs/train.yaml.
CheckpointKeys = TypedDict(
    "CheckpointKeys",
    {"every_steps": PositiveInt | None, "keep": PositiveInt, "on_error": Literal["stop", "warn"], "async": bool},
)


# The keys under ``sweep``; they say how the runs of a sweep are done, not what a run learns.
class SweepKeys(TypedDict):
    """Their names and types."""

    parallel: Processes
    devices_per_job: NonNegativeInt | None
    on_error: Literal["continue", "stop"]


OF_SWEEPS = ("sweep_dir", "sweep")


@dataclass(frozen=True)
class SearchKeys:
    """The keys of ``hydra/sweeper=optuna``, each typed as ``hydra.sweeper.n_trials=50``.

    Args:
        n_trials: runs in all, over every start of the command and every machine that shares the storage.
        sampler: ``tpe``, ``random``, or ``nsga2`` for several objectives.
        startup_trials: the first ones, of which nothing is learned yet, are drawn at random.
        pruner: ``median`` stops a run that is worse than half of the others at its epoch; ``hyperband``; ``none``.
        warmup_epochs: of each run, in which it is never stopped.
        objectives: what is wanted of a run, as summary.json calls it: ``{val/loss: minimize}``,
            ``{val/accuracy: maximize, seconds: minimize}``; null for the best of ``monitor``.
        storage: null for ``study.log`` in the sweep's folder; another such file, or the URL of a database.
        study_name: of the study in the storage.
        seed: of what is proposed; the runs have their own.
    """

    n_trials: PositiveInt = 20
    sampler: Literal["tpe", "random", "nsga2"] = "tpe"
    startup_trials: NonNegativeInt = 10
    pruner: Literal["median", "hyperband", "none"] = "median"
    warmup_epochs: NonNegativeInt = 1
    objectives: dict[str, Literal["maximize", "minimize"]] | None = None
    storage: str | None = None
    study_name: str = "sweep"
    seed: NonNegativeInt = 0


@dataclass(frozen=True)
class Settings:
    """A whole checked config. The meaning and default of each key stand in configs/train.yaml."""

    seed: Annotated[int, Meta(ge=0, le=LARGEST)]
    epochs: PositiveInt
    max_steps: PositiveInt | None
    max_time: Duration | None
    batch_size: PositiveInt
    accumulate: PositiveInt
    precision: Literal["auto", "fp32", "tf32", "bf16", "fp16"]
    compile: bool
    clip_norm: PositiveFloat | None
    ema: Annotated[float, Meta(gt=0, lt=1)] | None
    keep_freed_memory: bool
    deterministic: bool
    metrics: list[str] | None
    monitor: str | None
    patience: PositiveInt | None
    log_every: PositiveInt
    limit_batches: PositiveInt | None
    overfit_batches: PositiveInt | None
    dry_run: bool
    profile: bool
    on_nonfinite: Literal["stop", "skip"]
    run_dir: str
    resume: str | None
    plugins: list[str]
    checkpoint: CheckpointKeys
    model: Component
    dataset: Component
    loss: Component
    optimizer: Component
    scheduler: Component
    device: Component
    logger: dict[str, Component]
    # of a whole sweep: no run keeps them in its config.yaml
    sweep_dir: str = ""
    sweep: SweepKeys = dataclasses.field(
        default_factory=lambda: SweepKeys(parallel=1, devices_per_job=None, on_error="continue")
    )
    # not keys: what was typed, and whether the run directory is the same each time
    overrides: tuple[str, ...] = dataclasses.field(default=(), metadata={"key": False})
    fixed_run_dir: bool = dataclasses.field(default=False, metadata={"key": False})
    # and which keys vary in the sweep that the run belongs to
    varied: tuple[str, ...] = dataclasses.field(default=(), metadata={"key": False})

    @property
    def micro_batch_size(self) -> int:
        """Samples of a part of a batch; the last one of a batch may have less."""
        return -(-self.batch_size // self.accumulate)

    def to_dict(self) -> dict[str, Any]:
        """Plain containers, as in config.yaml."""
        kept = keys_in(Settings).keys() - set(OF_SWEEPS)
        return {name: value for name, value in dataclasses.asdict(self).items() if name in kept}

    def replace(self, **changes: Any) -> Settings:
        """The same with some keys changed."""
        return dataclasses.replace(self, **changes)


# What other programs call a key or an option.
KEYS_ELSEWHERE = {
    "learning_rate": "optimizer.lr",
    "wd": "optimizer.weight_decay",
    "momentum": "optimizer.momentum",
    "bs": "batch_size",
    "num_epochs": "epochs",
    "steps": "max_steps",
    "gpu": "device=cuda",
    "gpus": "device=ddp",
    "num_gpus": "device.processes",
    "nproc": "device.processes",
    "nproc_per_node": "device.processes",
    "world_size": "device.processes",
    "num_processes": "device.processes",
    "net": "model",
    "arch": "model.arch",
    "network": "model",
    "opt": "optimizer",
    "data": "dataset",
    "amp": "precision",
    "early_stopping": "patience",
    "grad_clip": "clip_norm",
    "output_dir": "run_dir",
    "resume_from": "resume",
    "resume_from_checkpoint": "resume",
    "ckpt_path": "resume",
    "timeout": "max_time",
    "time_limit": "max_time",
    "workers": "dataset.workers",
}
NAMES_ELSEWHERE = {
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
        "bce_with_logits": "bce",
    },
    "optimizer": {"momentum": "sgd"},
    "scheduler": {"none": "constant", "null": "constant", "one_cycle": "onecycle", "reduce_on_plateau": "plateau"},
    "device": {"gpu": "cuda", "distributed": "ddp", "data_parallel": "dp", "fsdp2": "fsdp"},
    "logger": {"tb": "tensorboard", "null": "none"},
}


def check(
    config: Mapping[str, Any], origin: Callable[[str], str] = lambda key: "", *, partial: bool = False
) -> Settings:
    """Turn a composed, resolved config into ``Settings``.

    Args:
        config: plain containers.
        origin: from a full key to where its value comes from, for a message.
        partial: a component's keys may be missing, as for a help text.

    Raises:
        ConfigError: with every mistake found, one line each.
    """
    problems: list[str] = []
    values = _check_keys(config, keys_in(Settings), "", origin, problems)
    found: list[str] = []
    for group in GROUPS:
        if isinstance(values.get(group), dict):
            values[group] = _check_group(group, values[group], origin, found)
    problems += [line for line in found if not (partial and ": missing; " in line)]
    accumulate, batch_size = values.get("accumulate"), values.get("batch_size")
    if isinstance(accumulate, int) and isinstance(batch_size, int) and 0 < batch_size < accumulate:
        line = f"accumulate: must be at most batch_size, {batch_size}, got {accumulate}"
        problems.append(line + stands(origin("accumulate")))
    if problems:
        raise ConfigError(*problems)
    return Settings(**values)


def check_values(values: Mapping[str, Any], kind: Any, path: str) -> dict[str, Any]:
    """Check the keys at ``path`` against those of a dataclass or TypedDict; returns their values.

    Raises:
        ConfigError: with every mistake found, one line each.
    """
    problems: list[str] = []
    checked = _check_keys(values, keys_in(kind), path, lambda _: "", problems)
    if problems:
        raise ConfigError(*problems)
    return checked


def registry(group: str) -> Registry:
    """The registry of a group; needs no torch."""
    module = importlib.import_module(f"trainer.{group}")
    return next(value for value in vars(module).values() if isinstance(value, Registry))


def registries() -> dict[str, Registry]:
    """The registry of every group."""
    return {group: registry(group) for group in GROUPS}


def key_of(word: str) -> str:
    """The key of a word as it is typed: ``optimizer.lr`` of ``++optimizer.lr=1e-3``."""
    return word.partition("=")[0].lstrip("+~")


def how_to_install(extra: str) -> str:
    """The command that brings what an optional part needs."""
    return f"pip install 'trainer-cli[{extra}]'"


def on_one_line(text: str) -> str:
    """A text without what would break a line or move a terminal's cursor."""
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known word that ``word`` was probably meant to be."""
    near = difflib.get_close_matches(word.lower(), list(known), n=1, cutoff=0.6)
    return near[0] if near else None


def did_you_mean(word: str, known: Iterable[str], prefix: str = "") -> str:
    """``; did you mean optimizer.lr?`` where something known is near, else nothing."""
    near = nearest(word, known)
    return f"; did you mean {prefix}{near}?" if near else ""


def unknown_key(key: str, known: Iterable[str], origin: str = "", hint: str | None = None) -> str:
    """The line for a key that does not exist; ``hint`` stands for the nearest one where it is known better."""
    parent, _, leaf = key.rpartition(".")
    known = [str(name) for name in known if name not in ("name", "hydra")]
    near = hint or did_you_mean(leaf, known, f"{parent}." if parent else "")
    return f"{key}: no such key{stands(origin)}{near or ';'} keys: {', '.join(known) or 'none'}"


def unknown_option(group: str, name: str, options: Iterable[str], origin: str = "") -> str:
    """The line for an option that a group does not have."""
    options = list(options)
    word = name.lower().removesuffix(".yaml").removesuffix("_loss")
    near = NAMES_ELSEWHERE.get(group, {}).get(word.replace("-", "_"))
    hint = f"; did you mean {near}?" if near else did_you_mean(word, options)
    if group == "model" and not hint and word.startswith(_FAMILIES):
        hint = f"; did you mean model=torchvision model.arch={name}?"
    listed = ", ".join(options) or "none"
    if len(options) > MOST_LISTED:
        closest = difflib.get_close_matches(word, options, n=10, cutoff=0.3) or options[:10]
        listed = f"{', '.join(closest)}, … ({len(options)} in all)"
    return f"{group}={name}: no such option{stands(origin)}{hint or ';'} options: {listed}"


MOST_LISTED = 40  # options in a message

# How the names of torchvision's architectures begin.
_FAMILIES = (
    *("alexnet", "convnext", "densenet", "efficientnet", "googlenet", "inception", "maxvit", "mnasnet", "mobilenet"),
    *("regnet", "resnet", "resnext", "shufflenet", "squeezenet", "swin", "vgg", "vit", "wide_resnet"),
)


def stands(origin: str) -> str:
    """`` (from the command line)``: an origin as a message has it; nothing where there is none."""
    return f" ({origin})" if origin else ""


def _check_group(
    group: str, config: dict[str, Any], origin: Callable[[str], str], problems: list[str]
) -> dict[str, Any]:
    """Check a group's keys against the signature of its component; the logger group holds several of them."""
    if group != "logger":
        return _check_component(group, config, group, origin, problems)
    checked = {}
    for name, keys in config.items():
        if keys is not None and not isinstance(keys, Mapping):
            problems.append(f"logger.{name}: must be a mapping, got {_shown(keys)}{stands(origin(f'logger.{name}'))}")
            continue
        component = {"name": name, **(keys or {})}
        checked[name] = _check_component(group, component, f"logger.{name}", origin, problems)
    return checked


def _check_component(
    group: str, config: dict[str, Any], path: str, origin: Callable[[str], str], problems: list[str]
) -> dict[str, Any]:
    components, name = registry(group), config.get("name")
    if name is None or name == MISSING:
        problems.append(f"{path}.name: missing; the YAML says which component it is for")
        return config
    if name not in components.names():
        place = origin(f"{path}.name") or origin(path)
        problems.append(unknown_option(group, str(name), components.names(), place))
        return config
    try:
        keys = components.keys(str(name))
    except LoadError as error:
        problems.append(str(error))
        return config
    named = {"name": Parameter("name", Parameter.KEYWORD_ONLY, annotation=str), **keys}
    return _check_keys(config, named, path, origin, problems)


MISSING = "???"  # OmegaConf's mark for a value that has to be given


def _check_keys(
    config: Mapping[Any, Any],
    parameters: Mapping[str, Parameter],
    path: str,
    origin: Callable[[str], str],
    problems: list[str],
) -> dict[str, Any]:
    """Check the keys at ``path``; returns the values, converted where that loses nothing (1 -> 1.0)."""
    values = {}
    for key in [*config, *(key for key in parameters if key not in config)]:
        full = f"{path}.{key}" if path else str(key)
        if key not in parameters:
            problems.append(unknown_key(full, parameters, origin(full), _hint(full, config)))
            continue
        kind, default = parameters[key].annotation, parameters[key].default
        if config.get(key, MISSING) == MISSING:
            if default is not Parameter.empty:
                values[key] = default
            else:
                wanted = f"options: {', '.join(registry(full).names())}" if full in GROUPS else describe(kind)
                problems.append(f"{full}: missing; {wanted}")
        elif nested := keys_in(kind):
            if isinstance(config[key], Mapping):
                values[key] = _check_keys(config[key], nested, full, origin, problems)
            else:
                problems.append(f"{full}: must be a mapping, got {_shown(config[key])}{stands(origin(full))}")
        elif full in GROUPS:
            if isinstance(config[key], Mapping):
                values[key] = dict(config[key])
            else:
                options = ", ".join(registry(full).names())
                problems.append(f"{full}: must be one of {options}, got {_shown(config[key])}{stands(origin(full))}")
        else:
            try:
                values[key] = msgspec.convert(config[key], kind)
                if msgspec.to_builtins(values[key]) != values[key] or isinstance(values[key], enum.Enum):
                    problems.append(f"{full}: {describe(kind)} is no plain value, which a config can hold; use str")
            except (msgspec.ValidationError, RecursionError):
                listed = f"; did you mean {full}=[{config[key]}]?" if fits(kind, [config[key]]) else ""
                too_large = isinstance(config[key], int) and config[key] > LARGEST
                wanted = describe(kind) + f" and at most {LARGEST}" * too_large
                problems.append(f"{full}: must be {wanted}, got {_shown(config[key])}{stands(origin(full))}{listed}")
    return values


def fits(kind: Any, value: Any) -> bool:
    """Whether a value is of a type."""
    try:
        msgspec.convert(value, kind)
    except (msgspec.ValidationError, RecursionError):
        return False
    return True


def _hint(full: str, config: Mapping[Any, Any]) -> str | None:
    """Where a key that is unknown here is known: in a group (``lr``), or with another option (``dataset.root``)."""
    parent, _, leaf = full.rpartition(".")
    elsewhere = KEYS_ELSEWHERE.get(leaf, "")
    if elsewhere and (not parent or elsewhere.startswith(f"{parent}.")) and elsewhere != full:
        return f"; did you mean {elsewhere}?"
    if not parent:
        below = [name for name in GROUPS if isinstance(config.get(name), Mapping) and leaf in config[name]]
        return f"; did you mean {below[0]}.{leaf}?" if below else None
    if parent not in GROUPS or nearest(leaf, (str(key) for key in config if key != leaf)):
        return None
    components = registry(parent)
    having = [name for name in components.names() if name != config.get("name") and _has(components, name, leaf)]
    return (
        f"; {', '.join(f'{parent}={name}' for name in having)} ha{'ve' if having[1:] else 's'} it;" if having else None
    )


def _has(components: Registry, name: str, key: str) -> bool:
    """Whether a component has a key, as far as that can be read."""
    try:
        return key in components.keys(name)
    except LoadError:
        return False


def keys_in(annotation: Any) -> dict[str, Parameter]:
    """The keys of a dataclass or TypedDict; nothing for other types."""
    if not dataclasses.is_dataclass(annotation) and not typing.is_typeddict(annotation):
        return {}
    hints = typing.get_type_hints(annotation, include_extras=True)
    defaults: dict[str, Any] = {}
    if dataclasses.is_dataclass(annotation):
        fields = [field for field in dataclasses.fields(annotation) if field.metadata.get("key", True)]
        hints = {field.name: hints[field.name] for field in fields}
        made = dataclasses.MISSING
        defaults = {field.name: field.default for field in fields if field.default is not made}
        defaults |= {field.name: field.default_factory() for field in fields if field.default_factory is not made}
    # a key may be a keyword of Python, such as async, and a parameter may not
    allowed = {name: f"{name}_" if keyword.iskeyword(name) else name for name in hints}
    return {
        name: Parameter(
            allowed[name], Parameter.KEYWORD_ONLY, annotation=kind, default=defaults.get(name, Parameter.empty)
        )
        for name, kind in hints.items()
    }


def _shown(value: Any) -> str:
    """A value as a config has it, at most about a line of it."""
    text = (
        {None: "null", True: "true", False: "false"}[value] if value is None or isinstance(value, bool) else repr(value)
    )
    return text if len(text) <= 100 else f"{text[:100]}…"


_NAMES = {
    int: "a whole number",
    float: "a number",
    str: "a text",
    bool: "true or false",
    type(None): "null",
    Any: "anything",
}


def describe(annotation: Any) -> str:
    """A type in words: ``a number, at least 0 and less than 1, or null``."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Annotated:
        limits = " and ".join(limit for meta in arguments[1:] if isinstance(meta, Meta) for limit in _limits(meta))
        return f"{describe(arguments[0])}, {limits}" if limits else describe(arguments[0])
    if origin in (typing.Union, types.UnionType):
        return ", or ".join(describe(argument) for argument in arguments)
    if origin is Literal:
        return ("one of " if len(arguments) > 1 else "") + ", ".join(map(str, arguments))
    if origin is list or annotation is list:
        return f"a list, each item {describe(arguments[0])}" if arguments else "a list"
    if keys_in(annotation):
        return "a mapping"
    return _NAMES.get(annotation, getattr(annotation, "__name__", str(annotation)))


def choices(annotation: Any) -> list[str]:
    """The words a value can be, where they are few: of a ``Literal``, a bool, null."""
    if typing.get_origin(annotation) is Literal:
        return [str(argument) for argument in typing.get_args(annotation)]
    if typing.get_origin(annotation) in (typing.Union, types.UnionType, Annotated):
        return [word for argument in typing.get_args(annotation) for word in choices(argument)]
    return {bool: ["true", "false"], type(None): ["null"]}.get(annotation, [])


def _limits(meta: Meta) -> list[str]:
    """Bounds and lengths in words."""
    bounds = [("at least", meta.ge), ("greater than", meta.gt), ("at most", meta.le), ("less than", meta.lt)]
    known = [(words, bound) for words, bound in bounds if bound is not None and bound != LARGEST]
    found = ["finite" if bound == FINITE else f"{words} {bound}" for words, bound in known]
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
