"""The keys of the Optuna sweeper. Imports neither torch nor Hydra."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from trainer.config.types import NonNegativeInt, PositiveInt


@dataclass(frozen=True)
class SearchKeys:
    """The keys of ``hydra/sweeper=optuna``, such as ``hydra.sweeper.n_trials=50``.

    Args:
        n_trials: total number of runs, over all starts of the command and all machines that share the storage.
        sampler: ``tpe``, ``random``, or ``nsga2`` for several objectives.
        startup_trials: number of random runs before the sampler learns from results.
        pruner: ``median``, which stops a run that is worse than half of the other runs at the same epoch,
            ``hyperband`` or ``none``.
        warmup_epochs: number of epochs at the start of a run in which the pruner does not stop the run.
        objectives: keys of summary.json, each with its direction: ``{val/loss: minimize}``,
            ``{val/accuracy: maximize, seconds: minimize}``; null for the best value of ``monitor``.
        storage: the file of the study, or the URL of a database; null for ``study.log`` in the sweep's folder.
        study_name: name of the study in the storage.
        seed: seed of the sampler, independent of the key ``seed`` of each run.
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
