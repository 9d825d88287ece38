"""The settings of a run: what a config holds once it is checked. No torch, no Hydra."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypedDict

from msgspec import Meta

from trainer.config.signature import keys_in
from trainer.config.types import Duration, NonNegativeInt, PositiveFloat, PositiveInt, Processes

GROUPS = ("model", "dataset", "loss", "optimizer", "scheduler", "device", "logger")
Component = dict[str, Any]


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

    seed: NonNegativeInt
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


@dataclass(frozen=True)
class Job:
    """One run to do: its settings, and what is no key of a config.

    A job reads like its settings, so that ``compose("epochs=3").epochs`` is 3.

    Args:
        settings: the checked config.
        words: what was typed for the run; the run directory keeps them in overrides.yaml.
        fixed_run_dir: the run writes to ``run_dir`` itself; otherwise to a new folder of that name, or with a number
            behind it.
        varied: the keys that vary in the sweep that the run belongs to; empty outside a sweep.
    """

    settings: Settings
    words: tuple[str, ...] = ()
    fixed_run_dir: bool = False
    varied: tuple[str, ...] = ()

    def replace(self, **changes: Any) -> Job:
        """Return the job with some keys of its settings changed."""
        return dataclasses.replace(self, settings=self.settings.replace(**changes))

    if not TYPE_CHECKING:

        def __getattr__(self, name):
            if name.startswith("_") or name == "settings":  # while a job is unpickled
                raise AttributeError(name)
            return getattr(self.settings, name)


def key_of(word: str) -> str:
    """The key of a word as it is typed: ``optimizer.lr`` of ``++optimizer.lr=1e-3``."""
    return word.partition("=")[0].lstrip("+~")
