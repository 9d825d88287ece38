"""The settings of a run, that is, its checked config. Imports neither torch nor Hydra."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypedDict

from trainer.config.types import Duration, NonNegativeInt, OpenUnitInterval, PositiveFloat, PositiveInt, Processes

GROUPS = ("model", "dataset", "loss", "optimizer", "scheduler", "device", "logger")
Component = dict[str, Any]


# The keys under ``checkpoint``; configs/train.yaml documents them.
CheckpointKeys = TypedDict(
    "CheckpointKeys",
    {"every_steps": PositiveInt | None, "keep": PositiveInt, "on_error": Literal["stop", "warn"], "async": bool},
)


class SweepKeys(TypedDict):
    """The keys under ``sweep``: how a sweep executes its runs. They do not affect the training."""

    parallel: Processes
    devices_per_job: NonNegativeInt | None
    on_error: Literal["continue", "stop"]


OF_SWEEPS = ("sweep_dir", "sweep")  # keys of a whole sweep; the config.yaml of a run omits them


@dataclass(frozen=True)
class Settings:
    """A checked config; configs/train.yaml documents every key and sets its default."""

    seed: NonNegativeInt
    epochs: PositiveInt
    max_steps: PositiveInt | None
    max_time: Duration | None
    batch_size: PositiveInt
    accumulate: PositiveInt
    precision: Literal["auto", "fp32", "tf32", "bf16", "fp16"]
    compile: bool
    clip_norm: PositiveFloat | None
    ema: OpenUnitInterval | None
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
    thresholds: Literal["auto"] | OpenUnitInterval = 0.5  # the value of a run of an earlier version
    calibrate: Literal["none", "temperature"] = "none"
    sweep_dir: str = ""  # the keys in OF_SWEEPS: this one and the next
    sweep: SweepKeys = dataclasses.field(
        default_factory=lambda: SweepKeys(parallel=1, devices_per_job=None, on_error="continue")
    )

    @property
    def micro_batch_size(self) -> int:
        """The number of samples in a micro-batch; the last micro-batch of a batch may be smaller."""
        return -(-self.batch_size // self.accumulate)

    def to_dict(self) -> dict[str, Any]:
        """Return the keys of config.yaml and their values as plain containers."""
        return {name: value for name, value in dataclasses.asdict(self).items() if name not in OF_SWEEPS}

    def replace(self, **changes: Any) -> Settings:
        """Return a copy with some keys changed."""
        return dataclasses.replace(self, **changes)


@dataclass(frozen=True)
class Job:
    """A run to execute: its settings, and values that are not config keys.

    The attributes of the settings are also attributes of the job: ``compose("epochs=3").epochs`` is 3.

    Args:
        settings: the checked config.
        words: the overrides that the user typed; they are stored in the run directory, in overrides.yaml.
        fixed_run_dir: True to write to ``run_dir`` itself; False to create a new folder called ``run_dir``, with a
            number appended if that folder exists.
        varied: the keys that vary in the sweep to which the run belongs; empty outside a sweep.
    """

    settings: Settings
    words: tuple[str, ...] = ()
    fixed_run_dir: bool = False
    varied: tuple[str, ...] = ()

    def replace(self, **changes: Any) -> Job:
        """Return a copy of the job with some keys of its settings changed."""
        return dataclasses.replace(self, settings=self.settings.replace(**changes))

    if not TYPE_CHECKING:

        def __getattr__(self, name):
            if name.startswith("_") or name == "settings":  # unpickling looks up attributes before ``settings`` is set
                raise AttributeError(name)
            return getattr(self.settings, name)


def key_of(word: str) -> str:
    """Return the key of an override: ``optimizer.lr`` for ``++optimizer.lr=1e-3``."""
    return word.partition("=")[0].lstrip("+~")
