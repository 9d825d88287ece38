"""The Optuna study of a search: storage, sampler, pruner, and the identity of the search. Does not import torch."""

from __future__ import annotations

import json
import time
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from trainer.config import GROUPS, ConfigError, Settings
from trainer.config.errors import reason_of
from trainer.config.messages import how_to_install
from trainer.config.search_keys import SearchKeys
from trainer.config.untrusted_files import check_named
from trainer.runs import resume
from trainer.runs.read import NOT_TRAINED, flatten, trained_words, values_of
from trainer.sweep.folder import LENGTH
from trainer.sweep.search_space import Choice, Interval

if TYPE_CHECKING:
    import optuna
    from optuna.storages import BaseStorage

STUDY = "study.log"  # a journal, which processes and machines can share over a network file system
SEARCH = "search"  # user attribute of a study: the ``Identity`` of its search
MAX_TRIES = 4  # attempts, one second apart, to open a database that another command may be creating

Identity = Mapping[str, Mapping[str, str]]


def require_optuna() -> None:
    """Check that Optuna is installed, and silence its messages.

    Raises:
        ConfigError: Optuna is not installed.
    """
    try:
        import optuna
    except ImportError as error:
        raise ConfigError(f"hydra/sweeper=optuna: needs Optuna: {how_to_install('optuna')}") from error
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)


def open_study(folder: Path, keys: SearchKeys, identity: Identity) -> optuna.Study:
    """Open the study of a search, or create the study if it does not exist.

    Args:
        folder: the folder of the sweep, which contains the study unless ``keys.storage`` is set.
        keys: the keys of ``hydra.sweeper``.
        identity: the result of ``search_identity``.

    Raises:
        ConfigError: the storage cannot be used, or the study belongs to another search.
    """
    require_optuna()
    where, objectives = keys.storage or folder / STUDY, identity["objectives"]
    try:
        study = _create_study(_open_storage(folder, keys.storage), keys, list(objectives.values()))
        if SEARCH not in study.user_attrs and not study.get_trials(deepcopy=False):
            study.set_user_attr(SEARCH, identity)
        problems = _differences(study.user_attrs.get(SEARCH, identity), identity)
        directions = [direction.name.lower() for direction in study.directions]
    except Exception as error:  # the driver of a database may raise any type
        if isinstance(error, ConfigError):
            raise
        damaged = "" if "://" in str(where) or isinstance(error, OSError) else "damaged journal: "
        raise ConfigError(f"hydra.sweeper.storage: {where}: {damaged}{reason_of(error)[:200]}") from error
    if not problems and directions != [*objectives.values()]:
        problems = [f"hydra.sweeper.objectives: must be {', '.join(directions)}d"]
    if problems:
        own = "sweep_dir" if keys.storage is None else "hydra.sweeper.study_name"
        raise ConfigError(
            *(f"{line} in the search of {where}; another search needs another {own}" for line in problems)
        )
    return study


def _open_storage(folder: Path, wanted: str | None) -> str | BaseStorage:
    """Return ``wanted`` if it is the URL of a database; otherwise open the journal in the file ``wanted``.

    Without ``wanted``, the journal is ``study.log`` in the folder of the sweep.
    """
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    if wanted is not None and "://" in wanted:
        return wanted
    # The path must be absolute: the lock file is a symbolic link to it, which Optuna follows to detect a stale lock.
    path = (Path(wanted) if wanted else folder / STUDY).resolve()
    _check_journal(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    if wanted is None:  # no other command writes in the folder, so an existing lock is stale
        path.with_name(f"{STUDY}.lock").unlink(missing_ok=True)
    return JournalStorage(JournalFileBackend(str(path)))


def _check_journal(path: Path) -> None:
    """Raise ConfigError if the file exists and is not a journal of Optuna, because Optuna would append to it."""
    if not path.exists():
        return
    check_named(path, "hydra.sweeper.storage")
    with path.open("rb") as file:
        line = file.readline(100_000)
    try:
        is_journal = not line or "op_code" in json.loads(line)
    except (ValueError, TypeError, RecursionError):
        is_journal = False
    if not is_journal:
        raise ConfigError(f"hydra.sweeper.storage: {path}: is not a journal of Optuna; name a new file, or a study.log")


def _create_study(storage: str | BaseStorage, keys: SearchKeys, directions: list[str]) -> optuna.Study:
    """Create or load the study; retry on errors, because another machine may be creating the tables of the database."""
    import optuna

    for left in reversed(range(MAX_TRIES)):
        try:
            return optuna.create_study(
                storage=storage,
                study_name=keys.study_name,
                directions=[optuna.study.StudyDirection[direction.upper()] for direction in directions],
                pruner=_make_pruner(keys),
                load_if_exists=True,
            )
        except Exception:  # the driver of a database may raise any type
            if left == 0 or not isinstance(storage, str):
                raise
            time.sleep(1)
    raise AssertionError


def make_sampler(keys: SearchKeys, number: int) -> optuna.samplers.BaseSampler:
    """Return the sampler for one trial, seeded by ``hydra.sweeper.seed`` and the number of the trial."""
    from optuna import samplers

    seed = (1_000_003 * keys.seed + number) % 2**32
    if keys.sampler == "random":
        return samplers.RandomSampler(seed=seed)
    if keys.sampler == "nsga2":
        return samplers.NSGAIISampler(seed=seed)
    return samplers.TPESampler(seed=seed, n_startup_trials=keys.startup_trials, multivariate=True, constant_liar=True)


def _make_pruner(keys: SearchKeys) -> optuna.pruners.BasePruner:
    from optuna import pruners

    if keys.pruner == "median":
        return pruners.MedianPruner(n_startup_trials=5, n_warmup_steps=keys.warmup_epochs)
    if keys.pruner == "hyperband":
        return pruners.HyperbandPruner(min_resource=max(1, keys.warmup_epochs))
    return pruners.NopPruner()


def search_identity(
    space: Mapping[str, Choice | Interval], fixed: Sequence[str], first: Settings, objectives: Mapping[str, str]
) -> Identity:
    """Return what must be equal for all trials of a search, so that their results are comparable.

    Args:
        space: the search space of each key.
        fixed: overrides that all trials share.
        first: settings of any trial.
        objectives: the direction of each objective.

    Returns:
        ``objectives``, ``space``, ``config`` (the config keys that are not searched) and ``beside`` (keys of overrides
        that are not in ``config``, because the component or the experiment to which they belong is searched).
    """
    may_change = [*NOT_TRAINED, *resume.CHANGES_ROUNDING, *(key for key in resume.MAY_CHANGE if key not in LENGTH)]
    config = {} if "experiment" in space else flatten(first.to_dict())
    config = {key: value for key, value in config.items() if not resume.is_under(key, list(space))}
    typed = {key: value for key, value in values_of(trained_words(fixed)).items() if key not in GROUPS}
    beside = {key: value for key, value in typed.items() if key not in config and not resume.is_under(key, may_change)}
    kept = {key.removesuffix(".name"): value for key, value in config.items() if not resume.is_under(key, may_change)}
    return {
        "objectives": dict(objectives),
        "space": {key: str(values) for key, values in space.items()},
        "beside": beside,
        "config": {key: value if isinstance(value, str) else json.dumps(value) for key, value in kept.items()},
    }


def _differences(before: Identity, now: Identity) -> list[str]:
    """Return a line for each difference between the identities of two searches.

    A config key that is in only one of the two comes from another version of this program and is ignored.
    """
    wanted = [json.dumps(each["objectives"]) for each in (before, now)]
    problems = [f"hydra.sweeper.objectives: are {wanted[0]} and not {wanted[1]}"] * (wanted[0] != wanted[1])
    for part, verb, missing in (("space", "has", "one value"), ("beside", "is", "left out"), ("config", "is", None)):
        for key in dict.fromkeys([*before[part], *now[part]]):
            old, new = before[part].get(key, missing), now[part].get(key, missing)
            if old != new and None not in (old, new):
                problems.append(f"{key}: {verb} {old} and not {new}")
    return problems
