"""Search for hyperparameters with Optuna, which proposes the values of each run and stops runs with poor results.

Each trial of the study has a run directory; the retry of a failed trial is a new trial with the same directory. The
values of a trial depend only on the seed, the number of the trial and the earlier trials, so that a search that was
killed and resumed proposes the same values as without the interruption. This module imports neither torch nor Hydra.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from trainer.commands.text_table import figure
from trainer.config import ConfigError, Job, Settings
from trainer.config.messages import did_you_mean
from trainer.config.search_keys import SearchKeys
from trainer.runs.directory import SUMMARY, note_end, read_json
from trainer.runs.read import FINISHED, PRUNED, STOPPED, PointReader, as_number, comparable, more_is_better
from trainer.sweep.drive import JobSource, Outcome, SweepJob
from trainer.sweep.folder import finished_run, name_of, stays_inside, with_run_directory
from trainer.sweep.optuna_study import make_sampler, open_study, search_identity
from trainer.sweep.search_space import Choice, Interval

if TYPE_CHECKING:
    import optuna

FOLDER, SWEEP = "folder", "sweep"  # user attributes of a trial: the name of its run directory, the folder of its sweep
MEASURED = ("steps", "epochs", "seconds", "samples_per_second", "peak_memory_mib")  # further keys of summary.json
REGRESSION_LOSSES = ("mse", "l1", "huber", "quantile")  # with these losses val/loss is monitored by default

Direction = Literal["maximize", "minimize"]


class OptunaSearch(JobSource):
    """A source of jobs that proposes the values of each job with Optuna.

    Args:
        space: the search space of each key.
        fixed: overrides that all runs share.
        first: the settings of one run, for what all runs of the search share.
        folder: the folder of the sweep.
        job_of: returns the checked job for the overrides of a run.
        subdir: the user's pattern for names of run directories, with ``folder.NUMBER``; None for the default names.
        can_stop: whether the executor can stop a run, which pruning needs.
        keys: the keys of ``hydra.sweeper``.

    Raises:
        ConfigError: Optuna is not installed, a key is wrong, or the storage cannot be used.
    """

    def __init__(
        self,
        space: Mapping[str, Choice | Interval],
        fixed: Sequence[str],
        first: Settings,
        folder: Path,
        job_of: Callable[[Sequence[str]], Job],
        *,
        subdir: str | None,
        can_stop: bool,
        keys: SearchKeys,
    ) -> None:
        self._space, self._fixed, self._folder, self._job_of = space, fixed, folder, job_of
        self._subdir, self._keys, self.total = subdir, keys, keys.n_trials
        self.objectives = find_objectives(first, keys)
        (self._metric, *others) = self.objectives
        self._prunes = can_stop and not others and self._metric.startswith("val/") and keys.pruner != "none"
        self._study = open_study(folder, keys, search_identity(space, fixed, first, self.objectives))
        self._trials: dict[int, optuna.trial.Trial] = {}  # the newest trial of each job
        self._readers: dict[int, PointReader] = {}
        self._pruned, self._has_wrong_objectives = set[int](), False
        self.jobs: list[SweepJob] = []
        self._left: list[SweepJob] = []
        self._restore()

    def _restore(self) -> None:
        """Restore the trials of earlier commands: resume interrupted trials, and retry failed ones."""
        from optuna.trial import Trial, TrialState

        newest: dict[str, optuna.trial.FrozenTrial] = {}
        for trial in self._study.get_trials(deepcopy=False):
            if self._is_ours(trial):
                name = self._checked_name(trial)
                if name not in newest:
                    self.jobs.append(self._job(trial.number, name, trial.params))
                newest[name] = trial
            elif FOLDER not in trial.user_attrs and self._keys.storage is None and not trial.state.is_finished():
                # An earlier command was killed before it stored the run directory of this trial. In a shared storage,
                # such a trial may belong to another command that is still running, and is left alone.
                self._study.tell(trial.number, state=TrialState.FAIL)
        for job, trial in zip(self.jobs, newest.values(), strict=True):
            run = finished_run(job)
            if trial.state == TrialState.FAIL and run is None:
                self._trials[job.number] = self._retry(trial)
            elif not trial.state.is_finished():
                self._trials[job.number] = Trial(self._study, trial._trial_id)
            else:
                continue
            if run is None:
                self._left.append(job)
            else:  # the earlier command was killed after the run ended and before it told the study
                self.should_prune(job)
                self._tell(job, run.state, run.summary)

    def _is_ours(self, trial: optuna.trial.FrozenTrial) -> bool:
        """Return whether a trial of the study belongs to this sweep; other sweeps may share the storage."""
        sweep = trial.user_attrs.get(SWEEP)
        return FOLDER in trial.user_attrs and (self._keys.storage is None or sweep == str(self._folder.resolve()))

    def _checked_name(self, trial: optuna.trial.FrozenTrial) -> str:
        """Return the name of a trial's run directory, after checks, as the storage may be of unknown origin.

        Raises:
            ConfigError: the name leads out of the sweep's folder, or the trial's values are not in the search space.
        """
        name = trial.user_attrs[FOLDER]
        inside = isinstance(name, str) and stays_inside(name)
        same = trial.params.keys() == self._space.keys()
        if not (inside and same and all(trial.params[key] in values for key, values in self._space.items())):
            raise ConfigError(
                f"hydra.sweeper.storage: trial {trial.number} of the study does not belong to this search"
            )
        return str(name)

    def _retry(self, failed: optuna.trial.FrozenTrial) -> optuna.trial.Trial:
        """Start a new trial with the values of a failed one, because a study accepts only one result per trial.

        ``Study.enqueue_trial`` is not used, as another machine that shares the storage could take the enqueued trial.
        """
        from optuna.trial import Trial, TrialState, create_trial

        again = create_trial(
            state=TrialState.RUNNING,
            params=failed.params,
            distributions=failed.distributions,
            user_attrs=failed.user_attrs,
        )
        return Trial(self._study, self._study._storage.create_new_trial(self._study._study_id, template_trial=again))

    def next_job(self) -> SweepJob | None:
        """Return an interrupted or failed job of an earlier command, else a new job; None after ``n_trials`` jobs."""
        if self._left:
            return self._left.pop(0)
        attributes = [trial.user_attrs for trial in self._study.get_trials(deepcopy=False)]
        number = len({(each.get(SWEEP), each[FOLDER]) for each in attributes if FOLDER in each})
        if number >= self.total:
            return None
        self._study.sampler = make_sampler(self._keys, number)
        trial = self._study.ask({key: values.distribution() for key, values in self._space.items()})
        width, words = len(str(self.total - 1)), self._words(trial.params)
        name = name_of(trial.number, width, list(self._space), words, self._subdir)
        trial.set_user_attr(SWEEP, str(self._folder.resolve()))
        trial.set_user_attr(FOLDER, name)
        self._trials[trial.number] = trial
        self.jobs.append(self._job(trial.number, name, trial.params))
        return self.jobs[-1]

    def _words(self, params: Mapping[str, Any]) -> tuple[str, ...]:
        """Return the overrides that set the values of a trial."""
        return tuple(f"{key}={values.as_word(params[key])}" for key, values in self._space.items())

    def _job(self, number: int, name: str, params: Mapping[str, Any]) -> SweepJob:
        searched = self._words(params)
        job = self._job_of((*self._fixed, *searched))
        return SweepJob(number, with_run_directory(job, self._folder / name, tuple(self._space)), " ".join(searched))

    def should_prune(self, job: SweepJob) -> bool:
        """Report new evaluations of a run to the study, and return whether the pruner now stops the run."""
        if not self._prunes or job.number in self._pruned:
            return False
        trial, reader = self._trials[job.number], self._readers.setdefault(job.number, PointReader(job.folder))
        for point in reader.read_new():
            value, epoch = as_number(point.get(self._metric)), point.get("epoch")
            if value is None or not isinstance(epoch, int):
                continue
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # Optuna warns if a resumed run reports an epoch twice
                trial.report(value, epoch)
            if epoch < job.settings.epochs and trial.should_prune():
                self._pruned.add(job.number)
                return True
        return False

    def record(self, job: SweepJob, outcome: Outcome) -> Outcome:
        """Tell the study how a job ended, and return the outcome to show.

        Raises:
            ConfigError: a finished run lacks an objective, or optimizes the monitored metric in the other direction.
        """
        import optuna

        self.should_prune(job)  # report all evaluations, so that the study does not depend on when the runs are polled
        if outcome.state == STOPPED and job.number in self._pruned and not outcome.out_of_time:
            note_end(job.folder, PRUNED, f"the {self._keys.pruner} pruner stopped it")
            outcome = Outcome(PRUNED, summary=read_json(job.folder / SUMMARY))
        typed = self._keys.objectives is not None
        if outcome.state == FINISHED and (problems := _wrong_objectives(self.objectives, outcome.summary, typed=typed)):
            if self._keys.storage is None:
                self._has_wrong_objectives = True
                optuna.delete_study(study_name=self._keys.study_name, storage=self._study._storage)
            raise ConfigError(*problems)
        if outcome.state != STOPPED:
            self._tell(job, outcome.state, outcome.summary)
        elif outcome.out_of_time:  # the best value reached within ``max_time`` counts as the result
            self._tell(job, FINISHED, read_json(job.folder / SUMMARY))
            return outcome._replace(code=0)
        return outcome

    def _tell(self, job: SweepJob, state: str, summary: Mapping[str, Any]) -> None:
        """Tell the study that a run was pruned, is complete (with the value of each objective), or failed."""
        from optuna.trial import TrialState

        trial, numbers = self._trials[job.number], _numbers(summary)
        values = [value for name in self.objectives if (value := comparable(numbers.get(name))) is not None]
        if state == PRUNED or (state == FINISHED and job.number in self._pruned):  # a run may finish before it stops
            self._study.tell(trial, state=TrialState.PRUNED)
        elif state == FINISHED and len(values) == len(self.objectives):
            self._study.tell(trial, values, state=TrialState.COMPLETE)
        else:
            self._study.tell(trial, state=TrialState.FAIL)

    def closing_lines(self) -> list[str]:
        """Return a line for each run on the Pareto front if ``hydra.sweeper.objectives`` is set, else no lines."""
        if self._has_wrong_objectives or self._keys.objectives is None:
            return []
        best = {trial.user_attrs[FOLDER]: trial.values for trial in self._study.best_trials if self._is_ours(trial)}
        return [
            f"front    {name}: "
            + ", ".join(f"{metric} {figure(value)}" for metric, value in zip(self.objectives, values, strict=True))
            for name, values in best.items()
        ]


def default_monitor(settings: Settings) -> tuple[str, Direction]:
    """Predict from the config alone which metric a run will monitor, and return it with its direction.

    ``build.choose_monitor``, which also reads the data set, makes the final decision when the run starts.
    """
    metrics = settings.metrics or ["accuracy"]
    first = "accuracy" if "accuracy" in metrics else metrics[0]
    default = "val/loss" if settings.loss["name"] in REGRESSION_LOSSES else f"val/{first}"
    monitor = settings.monitor or default
    return monitor, "maximize" if more_is_better(monitor) else "minimize"


def find_objectives(first: Settings, keys: SearchKeys) -> dict[str, Direction]:
    """Return the objectives of a search, each with its direction.

    Args:
        first: the settings of one run, for what all runs of the search share.
        keys: the keys of ``hydra.sweeper``.

    Raises:
        ConfigError: ``hydra.sweeper.objectives`` is empty, or has a name that no run can have.
    """
    monitor, direction = default_monitor(first)
    if keys.objectives is None:
        return {monitor: direction}
    if not keys.objectives:
        raise ConfigError("hydra.sweeper.objectives: must not be empty; leave it out to optimize monitor")
    if len(keys.objectives) == 1 and (name := next(iter(keys.objectives))).startswith("val/") and name != monitor:
        raise ConfigError(
            f"hydra.sweeper.objectives: {name}: must be the monitored metric, {monitor}; set monitor={name}"
        )
    known = [*MEASURED, *(f"{split}/{name}" for split in ("val", "test") for name in ("loss", *(first.metrics or ())))]
    for name in keys.objectives:
        if name not in known and (first.metrics is not None or not name.startswith(("val/", "test/"))):
            raise ConfigError(_unknown_objective(name, known))
    return keys.objectives


def _wrong_objectives(objectives: Mapping[str, Direction], summary: Mapping[str, Any], *, typed: bool) -> list[str]:
    """Return an error message for each objective that a finished run lacks or optimizes in the other direction.

    Args:
        typed: whether the user set ``hydra.sweeper.objectives``; then the directions are not checked.
    """
    numbers, monitor, direction = _numbers(summary), summary["monitor"], summary["direction"]
    known = [*(name for name in numbers if "/" in name), *MEASURED]
    problems = [_unknown_objective(name, known) for name in objectives if name not in numbers]
    if not typed and objectives.get(monitor, direction) != direction:
        word = f"'hydra.sweeper.objectives={{{monitor}: {direction}}}'"
        problems.append(f"monitor: {monitor}: must be {direction}d; add {word}")
    return problems


def _unknown_objective(name: str, known: Sequence[str]) -> str:
    near = did_you_mean(name, known) or ";"
    return f"hydra.sweeper.objectives: {name}: no run has it{near} a run has {', '.join(known)}"


def _numbers(summary: Mapping[str, Any]) -> dict[str, Any]:
    """Return the entries of a summary together with its best validation metrics, by name."""
    best = summary.get("best")
    return {**(best if isinstance(best, dict) else {}), **summary}
