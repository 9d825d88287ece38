"""A search: Optuna proposes values, a run tries them, and one not worth going on is stopped. No torch, no Hydra.

Each trial of the study is a run directory with its number. What is proposed for a trial is a function of the seed, its
number and the trials before it, so that a search that was killed and goes on proposes what it would have.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from trainer import rundir, runs, sweep
from trainer.config import ConfigError, SearchKeys, Settings, how_to_install
from trainer.runs import FINISHED, PRUNED, STOPPED
from trainer.sweep import Job, Outcome
from trainer.sweep_table import figure

if TYPE_CHECKING:
    import optuna

STUDY = "study.log"  # a journal, which processes and machines can share over a network file system
FOLDER = "folder"  # what a trial notes: whose it is
VALUES = ("mse", "l1", "huber")  # losses of a regression, which is monitored by its loss


@dataclass(frozen=True)
class Choice:
    """One of several words, as they were typed."""

    words: tuple[str, ...]

    @property
    def first(self) -> str:
        """One of them."""
        return self.words[0]

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
    def first(self) -> str:
        """One of them, as it is typed."""
        return repr(self.low)

    def distribution(self) -> optuna.distributions.BaseDistribution:
        """Optuna's name for it."""
        from optuna.distributions import FloatDistribution, IntDistribution

        if isinstance(self.low, int) and isinstance(self.high, int):
            return IntDistribution(self.low, self.high, log=self.log, step=int(self.step or 1))
        return FloatDistribution(self.low, self.high, log=self.log, step=self.step)


class Trials:
    """Where the jobs of a search come from.

    Args:
        space: for each key that is searched, as it is typed, what it may be.
        fixed: the words that all runs have.
        first: settings of any of them.
        folder: of the sweep.
        settings: from the words of a job to its settings.
        subdir: the user's own name for a run's folder, with ``{number}``.
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
        settings: Callable[[Sequence[str]], Settings],
        *,
        subdir: str | None,
        watched: bool,
        keys: SearchKeys,
    ) -> None:
        self._space, self._fixed, self._folder, self._settings = space, fixed, folder, settings
        self._subdir, self._keys, self.total = subdir, keys, keys.n_trials
        monitor, direction = monitored(first)
        self.objectives = keys.objectives or {monitor: direction}
        (self._metric, *others) = self.objectives
        self._watched = watched and not others and self._metric.startswith("val/") and keys.pruner != "none"
        self._optuna = _optuna()
        self._study = self._open()
        self._trials: dict[int, optuna.trial.Trial] = {}
        self._followers: dict[int, runs.Follower] = {}
        self._given_up = set[int]()
        self.jobs: list[Job] = []
        self._left: list[Job] = []
        for trial in self._study.get_trials(deepcopy=False):
            if trial.user_attrs.get(FOLDER) == str(folder.resolve()):
                job = self._job(trial.number, trial.params)
                self.jobs.append(job)
                if not trial.state.is_finished():  # the command was killed
                    self._trials[trial.number] = self._optuna.trial.Trial(self._study, trial._trial_id)
                    self._left.append(job)
            elif FOLDER not in trial.user_attrs and keys.storage is None and not trial.state.is_finished():
                # the command was killed while it was proposed; in a shared storage another one may be at it now
                self._study.tell(trial.number, state=self._optuna.trial.TrialState.FAIL)

    def next_job(self) -> Job | None:
        """One that was cut off, or a new one; None where there are as many as wanted."""
        if self._left:
            return self._left.pop(0)
        number = sum(FOLDER in trial.user_attrs for trial in self._study.get_trials(deepcopy=False))
        if number >= self.total:
            return None
        self._study.sampler = self._sampler(number)
        trial = self._study.ask({key: kind.distribution() for key, kind in self._space.items()})
        trial.set_user_attr(FOLDER, str(self._folder.resolve()))
        self._trials[trial.number] = trial
        self.jobs.append(self._job(trial.number, trial.params))
        return self.jobs[-1]

    def gives_up(self, job: Job) -> bool:
        """Whether the pruner says so, of any evaluation that was not yet looked at."""
        if not self._watched or job.number in self._given_up:
            return False
        trial, follower = self._trials[job.number], self._followers.setdefault(job.number, runs.Follower(job.folder))
        for point in follower.more():
            value, epoch = runs.number(point.get(self._metric)), point.get("epoch")
            if value is None or not isinstance(epoch, int):
                continue
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # a run that goes on reports what it has before
                trial.report(value, epoch)
            if trial.should_prune():
                self._given_up.add(job.number)
                return True
        return False

    def ended(self, job: Job, outcome: Outcome) -> Outcome:
        """Tell the study."""
        trial, state = self._trials[job.number], self._optuna.trial.TrialState
        self.gives_up(job)  # by its last evaluations, so that the answer does not depend on who was faster
        if outcome.state in (FINISHED, STOPPED) and job.number in self._given_up:
            self._study.tell(trial, state=state.PRUNED)
            reason = f"the {self._keys.pruner} pruner stopped it"
            summary = {**rundir.read_json(job.folder / rundir.SUMMARY), "state": PRUNED, "reason": reason}
            rundir.write_json(job.folder / rundir.SUMMARY, summary)
            return Outcome(PRUNED, summary=summary)
        if outcome.state == FINISHED:
            found = {name: _value(outcome.summary, name) for name in self.objectives}
            values = [value for value in found.values() if value is not None]
            missing = [name for name, value in found.items() if value is None]
            if missing:
                self._study.tell(trial, state=state.FAIL)
            else:
                self._study.tell(trial, values, state=state.COMPLETE)
            return self._checked(outcome, missing)
        if outcome.state != STOPPED:  # one that was asked to end goes on when the search does
            self._study.tell(trial, state=state.FAIL)
        return outcome

    def lines(self) -> list[str]:
        """What is said of a search beside the table: of several objectives, the runs that none is better than."""
        if len(self.objectives) == 1:
            return []
        best = {trial.number: trial.values for trial in self._study.best_trials}
        return [
            f"front    {job.folder.name}: "
            + ", ".join(
                f"{name} {figure(value)}" for name, value in zip(self.objectives, best[job.number], strict=True)
            )
            for job in self.jobs
            if job.number in best
        ]

    def _checked(self, outcome: Outcome, missing: Sequence[str]) -> Outcome:
        """The outcome of a run that finished; a mistake in what is searched for is one of the command."""
        if missing:
            known = [name for name, value in outcome.summary.items() if runs.number(value) is not None]
            known += [name for name in outcome.summary["best"] if "/" in name]
            line = f"hydra.sweeper.objectives: {missing[0]}: a run does not say it; it says {', '.join(sorted(known))}"
            return outcome._replace(problems=(line,), code=2)
        wanted, monitor = self.objectives.get(outcome.summary["monitor"]), outcome.summary["monitor"]
        if wanted is not None and self._keys.objectives is None and wanted != outcome.summary["direction"]:
            line = f"monitor: {monitor}: is to be {outcome.summary['direction']}d"
            return outcome._replace(problems=(f"{line}; say so: 'hydra.sweeper.objectives={{{monitor}: …}}'",), code=2)
        return outcome

    def _job(self, number: int, params: Mapping[str, Any]) -> Job:
        """The job of a trial."""
        tried = [f"{key}={_typed(params[key], kind)}" for key, kind in self._space.items()]
        words = (*self._fixed, *tried)
        name = sweep.name_of(number, len(str(self.total - 1)), list(self._space), words)
        folder = self._folder / (self._subdir.format(number=number) if self._subdir else name)
        settings = sweep.at_home(self._settings(words), folder, tuple(self._space))
        return Job(number, words, settings, " ".join(tried))

    def _open(self) -> optuna.Study:
        """The study, new or as it was left."""
        storages, wanted = self._optuna.storages, self._keys.storage
        try:
            if wanted is not None and "://" in wanted:
                storage: Any = wanted
            else:
                # absolute: of a lock that a killed command has left, Optuna looks through the link how old it is
                path = (Path(wanted) if wanted else self._folder / STUDY).resolve()
                path.parent.mkdir(parents=True, exist_ok=True)
                if wanted is None:  # this command alone is at work in the folder
                    path.with_name(f"{STUDY}.lock").unlink(missing_ok=True)
                storage = storages.JournalStorage(storages.journal.JournalFileBackend(str(path)))
            study: optuna.Study = self._optuna.create_study(
                storage=storage,
                study_name=self._keys.study_name,
                directions=list(self.objectives.values()),
                pruner=self._pruner(),
                load_if_exists=True,
            )
            return study
        except Exception as error:  # whatever a database's driver raises
            raise ConfigError(
                f"hydra.sweeper.storage: {wanted or STUDY}: {' '.join(str(error).split())[:200]}"
            ) from error

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
    return monitor, "maximize" if runs.more_is_better(monitor) else "minimize"


def _value(summary: Mapping[str, Any], name: str) -> float | None:
    """An objective of a run that finished."""
    return runs.number({**summary["best"], **summary}.get(name))


def _typed(value: Any, kind: Choice | Between) -> str:
    """A value as a word has it: a number with six digits, which is nearer than any run can tell."""
    if not isinstance(value, float) or not isinstance(kind, Between):
        return str(value)
    short = f"{value:.6g}"
    return short if kind.low <= float(short) <= kind.high else repr(value)


def _optuna() -> Any:
    """Raises ConfigError where it is not installed."""
    try:
        import optuna
    except ImportError as error:
        raise ConfigError(f"hydra/sweeper=optuna: needs Optuna: {how_to_install('optuna')}") from error
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
    return optuna
