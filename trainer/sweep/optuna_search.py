"""A search: Optuna proposes values, a run tries them, and one not worth going on is stopped. No torch, no Hydra.

Each trial of the study has a run directory; one that is tried again is another trial with the same one. What is
proposed for a trial is a function of the seed, its number and the trials before it, so that a search that was killed
and goes on proposes what it would have.
"""

from __future__ import annotations

import json
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from trainer.commands.text_table import figure
from trainer.config import GROUPS, ConfigError, Job, Settings
from trainer.config.messages import did_you_mean, how_to_install
from trainer.config.settings import SearchKeys
from trainer.runs import resume
from trainer.runs.directory import SUMMARY, note_end, read_json
from trainer.runs.read import (
    FINISHED,
    NOT_TRAINED,
    PRUNED,
    STOPPED,
    PointReader,
    as_number,
    comparable,
    flatten,
    more_is_better,
    trained_words,
    values_of,
)
from trainer.sweep.drive import Outcome, SweepJob
from trainer.sweep.folder import LENGTH, NUMBER, finished_run, name_of, stays_inside, with_run_directory

if TYPE_CHECKING:
    import optuna

STUDY = "study.log"  # a journal, which processes and machines can share over a network file system
FOLDER, SWEEP = "folder", "sweep"  # what a trial notes: the name of its run directory, and the sweep that this is in
SEARCH = "search"  # what a study notes: what its trials have in common
MAX_TRIES = 4  # of opening a database that others may be making, a second apart
MEASURED = ("steps", "epochs", "seconds", "samples_per_second", "peak_memory_mib")  # of a run, beside its metrics
VALUES = ("mse", "l1", "huber")  # losses of a regression, which is monitored by its loss


@dataclass(frozen=True)
class Choice:
    """One of several words, as they were typed."""

    words: tuple[str, ...]

    def __str__(self) -> str:
        return ",".join(self.words)

    def __contains__(self, value: object) -> bool:
        return value in self.words

    @property
    def sample(self) -> str:
        """One of them."""
        return self.words[0]

    def check(self) -> None:
        """Whatever they are, one can be drawn."""

    def distribution(self) -> optuna.distributions.BaseDistribution:
        """Optuna's name for it."""
        from optuna.distributions import CategoricalDistribution

        return CategoricalDistribution(self.words)


@dataclass(frozen=True)
class Between:
    """A number from ``low`` to ``high``, both included.

    Args:
        low, high: whole numbers, or both not.
        step: between two values; None for none.
        log: every factor is as likely as any other.
    """

    low: float
    high: float
    step: float | None = None
    log: bool = False

    @property
    def is_whole(self) -> bool:
        """Whether a number between is a whole one."""
        return isinstance(self.low, int) and isinstance(self.high, int)

    def __contains__(self, value: object) -> bool:
        return isinstance(value, int | float) and self.low <= value <= self.high

    def __str__(self) -> str:
        ends = f"{self.low},{self.high}"
        text = f"interval({ends})" if self.step is None else f"range({ends},{self.step})"
        return f"tag(log,{text})" if self.log else text

    @property
    def sample(self) -> str:
        """One of them, as it is typed."""
        return repr(self.low)

    def check(self) -> None:
        """Raises ValueError where nothing can be drawn from it."""
        if self.low >= self.high:
            raise ValueError(f"its first number has to be less than its second, {self.low} and {self.high}")
        if self.log and self.low <= 0:
            raise ValueError(f"by its logarithm a number is drawn above 0, not from {self.low}")
        if self.log and self.step is not None:
            raise ValueError("a range is not drawn by its logarithm; write tag(log,interval(…))")

    def distribution(self) -> optuna.distributions.BaseDistribution:
        """Optuna's name for it."""
        from optuna.distributions import FloatDistribution, IntDistribution

        if self.is_whole:
            return IntDistribution(int(self.low), int(self.high), log=self.log, step=int(self.step or 1))
        return FloatDistribution(self.low, self.high, log=self.log, step=self.step)


class Trials:
    """Where the jobs of a search come from.

    Args:
        space: for each key that is searched, as it is typed, what it may be.
        fixed: the words that all runs have.
        first: settings of any of them.
        folder: of the sweep.
        job_of: from the words of a run to its job.
        subdir: the user's own name for a run's folder, with ``sweep_folder.NUMBER``.
        watched: the runs are on this machine, so that they can be stopped.
        keys: how to search.

    Raises:
        ConfigError: Optuna is not installed, a key is wrong, or the storage cannot be used.
    """

    def __init__(
        self,
        space: Mapping[str, Choice | Between],
        fixed: Sequence[str],
        first: Settings,
        folder: Path,
        job_of: Callable[[Sequence[str]], Job],
        *,
        subdir: str | None,
        watched: bool,
        keys: SearchKeys,
    ) -> None:
        self._space, self._fixed, self._folder, self._job_of = space, fixed, folder, job_of
        self._subdir, self._keys, self.total = subdir, keys, keys.n_trials
        self.objectives = _objectives(first, keys)
        (self._metric, *others) = self.objectives
        self._watched = watched and not others and self._metric.startswith("val/") and keys.pruner != "none"
        self._optuna = find_optuna()
        self._study = self._open(_in_common(space, fixed, first, self.objectives))
        self._trials: dict[int, optuna.trial.Trial] = {}  # the last one of each job
        self._followers: dict[int, PointReader] = {}
        self._given_up, self._is_wrong = set[int](), False
        self.jobs: list[SweepJob] = []
        self._left: list[SweepJob] = []
        self._take_up()

    def _take_up(self) -> None:
        """What is there from another time: those that were cut off go on, and those that failed are tried again."""
        state = self._optuna.trial.TrialState
        last: dict[str, optuna.trial.FrozenTrial] = {}
        for trial in self._study.get_trials(deepcopy=False):
            if self._is_ours(trial):
                name = self._checked(trial)
                if name not in last:
                    self.jobs.append(self._job(trial.number, name, trial.params))
                last[name] = trial
            elif FOLDER not in trial.user_attrs and self._keys.storage is None and not trial.state.is_finished():
                # the command was killed while it was proposed; in a shared storage another one may be at it now
                self._study.tell(trial.number, state=state.FAIL)
        for job, trial in zip(self.jobs, last.values(), strict=True):
            run = finished_run(job)
            if trial.state == state.FAIL and run is None:
                self._trials[job.number] = self._again(trial)
            elif not trial.state.is_finished():
                self._trials[job.number] = self._optuna.trial.Trial(self._study, trial._trial_id)
            else:
                continue
            if run is None:
                self._left.append(job)
            else:  # the command was killed before it had told
                self.gives_up(job)
                self._tell(job, run.state, run.summary)

    def _checked(self, trial: optuna.trial.FrozenTrial) -> str:
        """The name of a trial's folder; the storage may be a stranger's, and lead elsewhere.

        Raises:
            ConfigError: that name, or what was tried, is not one of this search.
        """
        name = trial.user_attrs[FOLDER]
        inside = isinstance(name, str) and stays_inside(name)
        same = trial.params.keys() == self._space.keys()
        if not (inside and same and all(trial.params[key] in kind for key, kind in self._space.items())):
            raise ConfigError(f"hydra.sweeper.storage: trial {trial.number} of the study is none of this search")
        return str(name)

    def _again(self, failed: optuna.trial.FrozenTrial) -> optuna.trial.Trial:
        """A new trial of what was tried in one that failed, as a study takes no second answer."""
        again = self._optuna.trial.create_trial(
            state=self._optuna.trial.TrialState.RUNNING,
            params=failed.params,
            distributions=failed.distributions,
            user_attrs=failed.user_attrs,
        )
        self._study.add_trial(again)
        same = [each for each in self._study.get_trials(deepcopy=False) if each.user_attrs == failed.user_attrs]
        trial: optuna.trial.Trial = self._optuna.trial.Trial(self._study, same[-1]._trial_id)
        return trial

    def _is_ours(self, trial: optuna.trial.FrozenTrial) -> bool:
        """Whether a trial of a storage is one of this sweep."""
        whose = trial.user_attrs.get(SWEEP)
        return FOLDER in trial.user_attrs and (self._keys.storage is None or whose == str(self._folder.resolve()))

    def next_job(self) -> SweepJob | None:
        """One that was cut off, or a new one; None where there are as many as wanted."""
        if self._left:
            return self._left.pop(0)
        attributes = [trial.user_attrs for trial in self._study.get_trials(deepcopy=False)]
        number = len({(each.get(SWEEP), each[FOLDER]) for each in attributes if FOLDER in each})
        if number >= self.total:
            return None
        self._study.sampler = self._sampler(number)
        trial = self._study.ask({key: kind.distribution() for key, kind in self._space.items()})
        name = self._name(trial.number, trial.params)
        trial.set_user_attr(SWEEP, str(self._folder.resolve()))
        trial.set_user_attr(FOLDER, name)
        self._trials[trial.number] = trial
        self.jobs.append(self._job(trial.number, name, trial.params))
        return self.jobs[-1]

    def gives_up(self, job: SweepJob) -> bool:
        """Whether the pruner says so, of any evaluation that was not yet looked at."""
        if not self._watched or job.number in self._given_up:
            return False
        trial, follower = self._trials[job.number], self._followers.setdefault(job.number, PointReader(job.folder))
        for point in follower.read_new():
            value, epoch = as_number(point.get(self._metric)), point.get("epoch")
            if value is None or not isinstance(epoch, int):
                continue
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # a run that goes on reports what it has before
                trial.report(value, epoch)
            if epoch < job.settings.epochs and trial.should_prune():
                self._given_up.add(job.number)
                return True
        return False

    def ended(self, job: SweepJob, outcome: Outcome) -> Outcome:
        """Tell the study.

        Raises:
            ConfigError: what is searched for is not what runs have.
        """
        self.gives_up(job)  # by its last evaluations, so that the study does not depend on who was faster
        if outcome.state == STOPPED and job.number in self._given_up and not outcome.out_of_time:
            note_end(job.folder, PRUNED, f"the {self._keys.pruner} pruner stopped it")
            outcome = Outcome(PRUNED, summary=read_json(job.folder / SUMMARY))
        if outcome.state == FINISHED:
            self._check(outcome.summary)
        if outcome.state != STOPPED:
            self._tell(job, outcome.state, outcome.summary)
        elif outcome.out_of_time:  # its share of the time is over, and this is what came of it
            self._tell(job, FINISHED, read_json(job.folder / SUMMARY))
            return outcome._replace(code=0)
        return outcome

    def _tell(self, job: SweepJob, state: str, summary: Mapping[str, Any]) -> None:
        """Tell the study how a run has ended: with values, where it has them all."""
        trial, states = self._trials[job.number], self._optuna.trial.TrialState
        found = _numbers(summary)
        values = [value for name in self.objectives if (value := comparable(found.get(name))) is not None]
        if state == PRUNED or (state == FINISHED and job.number in self._given_up):  # one may be faster than its end
            self._study.tell(trial, state=states.PRUNED)
        elif state == FINISHED and len(values) == len(self.objectives):
            self._study.tell(trial, values, state=states.COMPLETE)
        else:
            self._study.tell(trial, state=states.FAIL)

    def lines(self) -> list[str]:
        """What is said of a search beside the table: of objectives of its own, the runs that none is better than."""
        if self._is_wrong or (len(self.objectives) == 1 and self._keys.objectives is None):
            return []
        best = {trial.user_attrs[FOLDER]: trial.values for trial in self._study.best_trials if self._is_ours(trial)}
        return [
            f"front    {name}: "
            + ", ".join(f"{metric} {figure(value)}" for metric, value in zip(self.objectives, values, strict=True))
            for name, values in best.items()
        ]

    def _check(self, summary: Mapping[str, Any]) -> None:
        """A mistake in what is searched for is one of the command, and nothing was found by it.

        Raises:
            ConfigError: a run that finished has no such number, or a better one is not what the search takes for it.
        """
        found, monitor, problems = _numbers(summary), summary["monitor"], list[str]()
        known = [*(name for name in found if "/" in name), *MEASURED]
        for name in self.objectives:
            if name not in found:
                near = did_you_mean(name, known) or ";"
                problems.append(f"hydra.sweeper.objectives: {name}: no run has it{near} a run has {', '.join(known)}")
        if self._keys.objectives is None and self.objectives.get(monitor, summary["direction"]) != summary["direction"]:
            say = f"'hydra.sweeper.objectives={{{monitor}: {summary['direction']}}}'"
            problems.append(f"monitor: {monitor}: is to be {summary['direction']}d; say so: {say}")
        if problems and self._keys.storage is None:
            self._is_wrong = True
            self._optuna.delete_study(study_name=self._keys.study_name, storage=self._study._storage)
        if problems:
            raise ConfigError(*problems)

    def _name(self, number: int, params: Mapping[str, Any]) -> str:
        """Of the folder of a new trial."""
        if self._subdir:
            return self._subdir.replace(NUMBER, str(number))
        return name_of(number, len(str(self.total - 1)), list(self._space), self._words(params))

    def _words(self, params: Mapping[str, Any]) -> tuple[str, ...]:
        """What is tried in a trial."""
        return tuple(f"{key}={_typed(params[key], kind)}" for key, kind in self._space.items())

    def _job(self, number: int, name: str, params: Mapping[str, Any]) -> SweepJob:
        """The job of a trial."""
        tried = self._words(params)
        words = (*self._fixed, *tried)
        job = with_run_directory(self._job_of(words), self._folder / name, tuple(self._space))
        return SweepJob(number, job, " ".join(tried))

    def _open(self, in_common: Mapping[str, Mapping[str, str]]) -> optuna.Study:
        """The study, new or as it was left.

        Raises:
            ConfigError: it cannot be opened, or it is that of another search.
        """
        storages, wanted = self._optuna.storages, self._keys.storage
        where = wanted or self._folder / STUDY
        try:
            if wanted is not None and "://" in wanted:
                storage: Any = wanted
            else:
                # absolute: of a lock that a killed command has left, Optuna looks through the link how old it is
                path = (Path(wanted) if wanted else self._folder / STUDY).resolve()
                _check_journal(path)
                path.parent.mkdir(parents=True, exist_ok=True)
                if wanted is None:  # this command alone is at work in the folder
                    path.with_name(f"{STUDY}.lock").unlink(missing_ok=True)
                storage = storages.JournalStorage(storages.journal.JournalFileBackend(str(path)))
            study = self._create(storage)
            if SEARCH not in study.user_attrs and not study.get_trials(deepcopy=False):
                study.set_user_attr(SEARCH, {name: dict(values) for name, values in in_common.items()})
            problems = _others(study.user_attrs.get(SEARCH, in_common), in_common)
            directions = [direction.name.lower() for direction in study.directions]
        except Exception as error:  # whatever a database's driver raises
            if isinstance(error, ConfigError):
                raise
            raise ConfigError(f"hydra.sweeper.storage: {where}: {' '.join(str(error).split())[:200]}") from error
        if not problems and directions != [*self.objectives.values()]:
            problems = [f"hydra.sweeper.objectives: are to be {', '.join(directions)}d"]
        if problems:
            own = "sweep_dir" if wanted is None else "hydra.sweeper.study_name"
            raise ConfigError(
                *(f"{line} in the search of {where}; another search needs another {own}" for line in problems)
            )
        return study

    def _create(self, storage: Any) -> optuna.Study:
        """The study, which another machine may be about to make at this moment."""
        for left in reversed(range(MAX_TRIES)):
            try:
                study: optuna.Study = self._optuna.create_study(
                    storage=storage,
                    study_name=self._keys.study_name,
                    directions=list(self.objectives.values()),
                    pruner=self._pruner(),
                    load_if_exists=True,
                )
                return study
            except Exception:  # whatever a database's driver raises
                if left == 0 or not isinstance(storage, str):
                    raise
                time.sleep(1)
        raise AssertionError

    def _sampler(self, number: int) -> optuna.samplers.BaseSampler:
        """What proposes the trial with this number."""
        from optuna import samplers

        seed = (1_000_003 * self._keys.seed + number) % 2**32
        if self._keys.sampler == "random":
            return samplers.RandomSampler(seed=seed)
        if self._keys.sampler == "nsga2":
            return samplers.NSGAIISampler(seed=seed)
        return samplers.TPESampler(
            seed=seed, n_startup_trials=self._keys.startup_trials, multivariate=True, constant_liar=True
        )

    def _pruner(self) -> optuna.pruners.BasePruner:
        from optuna import pruners

        if self._keys.pruner == "median":
            return pruners.MedianPruner(n_startup_trials=5, n_warmup_steps=self._keys.warmup_epochs)
        if self._keys.pruner == "hyperband":
            return pruners.HyperbandPruner(min_resource=max(1, self._keys.warmup_epochs))
        return pruners.NopPruner()


def monitored(settings: Settings) -> tuple[str, Literal["maximize", "minimize"]]:
    """The metric that a run is compared by, and which way, as far as its config says; see ``choose_monitor``."""
    metrics = settings.metrics or ["accuracy"]
    first = "accuracy" if "accuracy" in metrics else metrics[0]
    default = "val/loss" if settings.loss["name"] in VALUES else f"val/{first}"
    monitor = settings.monitor or default
    return monitor, "maximize" if more_is_better(monitor) else "minimize"


def _objectives(first: Settings, keys: SearchKeys) -> dict[str, Literal["maximize", "minimize"]]:
    """What is searched for, and which way.

    Raises:
        ConfigError: no run can have it.
    """
    if keys.objectives is None:
        monitor, direction = monitored(first)
        return {monitor: direction}
    if not keys.objectives:
        raise ConfigError("hydra.sweeper.objectives: is empty; leave it out for the best of monitor")
    monitor = monitored(first)[0]
    if len(keys.objectives) == 1 and (name := next(iter(keys.objectives))).startswith("val/") and name != monitor:
        raise ConfigError(
            f"hydra.sweeper.objectives: {name}: is not what runs are judged by, {monitor}; say monitor={name}"
        )
    known = [*MEASURED, *(f"{split}/{name}" for split in ("val", "test") for name in ("loss", *(first.metrics or ())))]
    for name in keys.objectives:
        if name not in known and (first.metrics is not None or not name.startswith(("val/", "test/"))):
            near = did_you_mean(name, known) or ";"
            raise ConfigError(f"hydra.sweeper.objectives: {name}: no run has it{near} a run has {', '.join(known)}")
    return keys.objectives


def _in_common(
    space: Mapping[str, Choice | Between], fixed: Sequence[str], first: Settings, objectives: Mapping[str, str]
) -> dict[str, dict[str, str]]:
    """What all trials of a search have, so that their results can be compared: objectives, space, and other keys.

    A recipe or a component that is searched has keys of its own; of these, what is typed for all trials.
    """
    may_change = [*NOT_TRAINED, *resume.CHANGES_ROUNDING, *(k for k in resume.MAY_CHANGE if k not in LENGTH)]
    typed = {key: value for key, value in values_of(trained_words(fixed)).items() if key not in GROUPS}
    config = {} if "experiment" in space else flatten(first.to_dict())
    config = {key: value for key, value in config.items() if not resume.is_under(key, list(space))}
    beside = {key: value for key, value in typed.items() if key not in config and not resume.is_under(key, may_change)}
    kept = {key.removesuffix(".name"): value for key, value in config.items() if not resume.is_under(key, may_change)}
    return {
        "objectives": dict(objectives),
        "space": {key: str(kind) for key, kind in space.items()},
        "beside": beside,
        "config": {key: each if isinstance(each, str) else json.dumps(each) for key, each in kept.items()},
    }


def _others(before: Mapping[str, Mapping[str, str]], now: Mapping[str, Mapping[str, str]]) -> list[str]:
    """A line for each thing that is another one in the search that is there; of its config what both versions know."""
    wanted = [json.dumps(each["objectives"]) for each in (before, now)]
    problems = [f"hydra.sweeper.objectives: are {wanted[0]} and not {wanted[1]}"] * (wanted[0] != wanted[1])
    for key in dict.fromkeys([*before["space"], *now["space"]]):
        old, new = before["space"].get(key, "one value"), now["space"].get(key, "one value")
        problems += [f"{key}: has {old} and not {new}"] * (old != new)
    for key in dict.fromkeys([*before["beside"], *now["beside"]]):
        old, new = (each["beside"].get(key, "left out") for each in (before, now))
        problems += [f"{key}: is {old} and not {new}"] * (old != new)
    both = [key for key in before["config"] if key in now["config"]]
    problems += [
        f"{key}: is {before['config'][key]} and not {now['config'][key]}"
        for key in both
        if before["config"][key] != now["config"][key]
    ]
    return problems


def _check_journal(path: Path) -> None:
    """Raises ConfigError where a file is there that Optuna has not written; it would write at its end."""
    if not path.exists():
        return
    with path.open("rb") as file:
        line = file.readline(100_000)
    try:
        is_journal = not line or "op_code" in json.loads(line)
    except (ValueError, TypeError, RecursionError):
        is_journal = False
    if not is_journal:
        raise ConfigError(f"hydra.sweeper.storage: {path}: is a file of another kind; name a new one, or a study.log")


def _numbers(summary: Mapping[str, Any]) -> dict[str, Any]:
    """What a summary says of a run by its names, the best val metrics among it."""
    best = summary.get("best")
    return {**(best if isinstance(best, dict) else {}), **summary}


def _typed(value: Any, kind: Choice | Between) -> str:
    """A value as a word has it: a number with six digits, which is nearer than any run can tell."""
    if not isinstance(value, float) or not isinstance(kind, Between):
        return str(value)
    short = f"{value:.6g}"
    return short if kind.low <= float(short) <= kind.high else repr(value)


def find_optuna() -> Any:
    """Optuna, which says little. Raises ConfigError where it is not installed."""
    try:
        import optuna
    except ImportError as error:
        raise ConfigError(f"hydra/sweeper=optuna: needs Optuna: {how_to_install('optuna')}") from error
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
    return optuna
