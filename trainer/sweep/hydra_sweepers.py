"""The sweepers of ``train --multirun``, as plugins of Hydra: every combination (``basic``), and a search (``optuna``).

Hydra composes the jobs; what they come to stands in ``trainer.sweep``.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override, RangeSweep
from hydra.core.plugins import Plugins
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

from trainer.config import GROUPS
from trainer.config.check import check_values
from trainer.config.search_keys import SearchKeys
from trainer.config.settings import key_of

if TYPE_CHECKING:
    from trainer.config import Job, Settings
    from trainer.runs.read import Run
    from trainer.sweep.drive import Executor, JobSource, Outcome, SweepJob
    from trainer.sweep.search_space import Choice, Interval
    from trainer.sweep.table import SweepTable

LOCAL = "hydra._internal.core_plugins.basic_launcher.BasicLauncher"  # Hydra's default stands for this machine
SUBDIR = "${hydra.job.num}"  # Hydra's default stands for a name that says what varies


class _Sweep(Sweeper):
    """What both have in common."""

    hydra_context: HydraContext
    config: DictConfig
    launcher: Launcher
    params: Mapping[str, str]

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Keep what Hydra hands over."""
        self.hydra_context, self.config = hydra_context, config
        self.is_local = config.hydra.launcher._target_ == LOCAL
        if not self.is_local:
            self.launcher = Plugins.instance().instantiate_launcher(
                hydra_context=hydra_context, task_function=task_function, config=config
            )

    @property
    def folder(self) -> Path:
        """Of the sweep."""
        return Path(str(self.config.hydra.sweep.dir))

    def job(self, words: Sequence[str]) -> Job:
        """The checked job of words as they are typed."""
        from trainer.compose.composer import from_hydra

        config = self.hydra_context.config_loader.load_sweep_config(self.config, [*map(_for_hydra, words)])
        return from_hydra(config, words)

    def overrides(self, arguments: Sequence[str]) -> list[Override]:
        """The words that jobs are made of: those of a file, and those typed."""
        words = [*(f"{key}={value}" for key, value in self.params.items()), *arguments]
        last = {key_of(word): word for word in words}
        parser = OverridesParser.create(config_loader=self.hydra_context.config_loader)
        return list(parser.parse_overrides([*last.values()]))

    def subdir(self) -> str | None:
        """The user's own name for the folder of a run, with ``NUMBER``; None where there is none.

        Raises:
            ConfigError: it is made of what is not known here, or leads out of the sweep's folder.
        """
        from trainer.config import ConfigError
        from trainer.sweep.folder import NUMBER, stays_inside

        pattern = str(_plain(self.config.hydra.sweep)["subdir"])
        if pattern == SUBDIR:
            return None
        name = pattern.replace(SUBDIR, NUMBER)
        if "${" in name:
            raise ConfigError(
                f"hydra.sweep.subdir: {pattern}: only {SUBDIR} can stand in it; without it a name says what varies"
            )
        if not stays_inside(name):
            raise ConfigError(f"hydra.sweep.subdir: {pattern}: must be a folder in that of the sweep")
        return name

    def executor(self, jobs: Sequence[Settings], at_once: int | None) -> Executor:
        """What the jobs run in: the processes of ``torchrun``, processes of this machine, or one of Hydra's launchers.

        Args:
            jobs: their settings, as far as they are known.
            at_once: how many a launcher is handed; None for all.

        Raises:
            ConfigError: ``sweep.parallel`` asks for what cannot be.
        """
        from trainer.config import ConfigError
        from trainer.processes.world import current_world

        parallel = jobs[0].sweep["parallel"]
        if not self.is_local:
            if parallel > 1 and at_once is None:
                raise ConfigError("sweep.parallel: a launcher of Hydra's has keys of its own for that; leave it out")
            return Launched(self.launcher, at_once)
        if current_world() is not None:
            if parallel > 1:
                raise ConfigError("sweep.parallel: the processes of torchrun do one run after the other; leave it out")
            from trainer.sweep.in_process import InProcess

            return InProcess(self.folder)
        from trainer.sweep.worker_pool import LOGS, WorkerPool, divide_machine

        return WorkerPool(divide_machine(jobs), self.folder / LOGS)

    def remember(self, arguments: Sequence[str]) -> None:
        """Keep the words that go on with this sweep."""
        from trainer.processes.leader import write_note
        from trainer.processes.world import current_world
        from trainer.runs.resume import SET_ANEW
        from trainer.sweep.drive import save_words

        if current_world() is not None:
            write_note("sweep_dir", str(self.folder))
        of_hydra = _plain(self.config.hydra.overrides.hydra)
        kept = [word for word in of_hydra if key_of(word) not in SET_ANEW]
        typed = [word.removeprefix("++") for word in arguments if key_of(word) not in SET_ANEW]
        save_words(self.folder, [*kept, *typed])

    def run(
        self,
        source: JobSource,
        executor: Executor,
        jobs: list[SweepJob],
        done: Sequence[Run],
        total: int,
        first: Settings,
    ) -> None:
        """Do the jobs, and conclude, whatever happens.

        Args:
            source: where they come from.
            executor: what they run in.
            jobs: all that are known so far, those that are done too; ``source`` may add some.
            done: the runs of those.
            total: how many there will be.
            first: the settings of one of them.

        Raises:
            SweepError: some have failed.
        """
        from trainer.config import SweepError
        from trainer.sweep.drive import Display, conclude, run_jobs, sweep_table, write_line
        from trainer.sweep.table import write_csv

        started = time.monotonic()
        outcomes: dict[int, Outcome] = {}
        sources = _plain(self.config.hydra.runtime.config_sources)
        own = [os.path.relpath(each["path"]) for each in sources if each["provider"] == "command-line"]
        options = ("--config-dir", *own) if own else ()

        def table() -> SweepTable:
            return sweep_table(self.folder, jobs, outcomes, time.monotonic() - started, options)

        with contextlib.ExitStack() as stack:
            if not first.dry_run:
                stack.callback(lambda: conclude(table(), source.closing_lines()))
            display = Display(total, done, lambda: None if first.dry_run else write_csv(table()))
            stack.callback(display.close)
            stack.callback(executor.close)
            run_jobs(source, executor, display, outcomes, on_error=first.sweep["on_error"])
        if first.dry_run:
            write_line("dry run: a step, an evaluation, a checkpoint and a test of each; nothing is kept")
        code = max((outcome.code for outcome in outcomes.values()), default=0)
        if code:
            raise SweepError(code)


class GridSweeper(_Sweep):
    """Every combination of the values that were typed.

    Args:
        max_batch_size: jobs that one of Hydra's launchers is handed at once; None for all.
        params: words of a file.
    """

    def __init__(self, max_batch_size: int | None, params: Mapping[str, str] | None = None) -> None:
        self.params, self._at_once = params or {}, max_batch_size

    def sweep(self, arguments: list[str]) -> None:
        """Do what is left of them.

        Raises:
            ConfigError: the sweep cannot be done.
            SweepError: some have failed.
        """
        from trainer.sweep.drive import Grid, lock_folder
        from trainer.sweep.folder import check_lengths, finished_run, place_jobs

        overrides = self.overrides(arguments)
        _check_values(overrides)
        ((*combinations,),) = BasicSweeper.split_arguments(overrides, None)
        words = [[word.removeprefix("++") for word in combination] for combination in combinations]
        found = [*map(self.job, words)]
        subdir, executor = self.subdir(), self.executor([job.settings for job in found], self._at_once)
        with lock_folder(self.folder):
            jobs = place_jobs(found, self.folder, subdir)
            check_lengths(jobs)
            self.remember(arguments)
            runs = [finished_run(job) for job in jobs]
            left = [job for job, run in zip(jobs, runs, strict=True) if run is None]
            self.run(Grid(left), executor, jobs, [run for run in runs if run is not None], len(jobs), found[0].settings)


class OptunaSweeper(_Sweep):
    """Values that Optuna proposes, from what has come of the runs before.

    Args:
        params: words of a file.
        keys: those of ``SearchKeys``.
    """

    def __init__(self, params: Mapping[str, str] | None = None, **keys: Any) -> None:
        self.params, self._keys = params or {}, keys

    def sweep(self, arguments: list[str]) -> None:
        """Run trials until there are as many as wanted.

        Raises:
            ConfigError: the search cannot be done.
            SweepError: some have failed.
        """
        from trainer.config import ConfigError
        from trainer.processes.world import current_world
        from trainer.sweep.drive import lock_folder
        from trainer.sweep.folder import finished_run
        from trainer.sweep.optuna_search import OptunaSearch
        from trainer.sweep.optuna_study import require_optuna

        values = {name: _plain(value) for name, value in self._keys.items()}
        keys = SearchKeys(**check_values(values, SearchKeys, "hydra.sweeper"))
        overrides = self.overrides(arguments)
        space = {each.key_or_group: _choices(each) for each in overrides if each.is_sweep_override()}
        fixed = [_as_typed(each) for each in overrides if not each.is_sweep_override()]
        if not space:
            raise ConfigError(
                "hydra/sweeper=optuna: nothing to search; give a key several values, or interval(low,high)"
            )
        first = self.job([*fixed, *(f"{key}={kind.example}" for key, kind in space.items())]).settings
        require_optuna()
        subdir, can_stop = self.subdir(), self.is_local and current_world() is None
        executor = self.executor([first], first.sweep["parallel"])
        with lock_folder(self.folder):
            search = OptunaSearch(
                space, fixed, first, self.folder, self.job, subdir=subdir, can_stop=can_stop, keys=keys
            )
            self.remember(arguments)
            done = [run for job in search.jobs if (run := finished_run(job)) is not None]
            self.run(search, executor, search.jobs, done, search.total, first)


def _check_values(overrides: Sequence[Override]) -> None:
    """Raises ConfigError where a key has no values that could be counted."""
    from trainer.config import ConfigError

    for each in overrides:
        if each.is_sweep_override() and isinstance(each.value(), IntervalSweep):
            raise ConfigError(
                f"{_as_typed(each)}: an interval is searched: add hydra/sweeper=optuna, or give values, 1,2,3"
            )


def _choices(override: Override) -> Choice | Interval:
    """Return the search space of a key.

    Raises:
        ConfigError: no value can be drawn from it.
    """
    from trainer.config import ConfigError
    from trainer.sweep.search_space import Choice, Interval

    value: Any = override.value()
    try:
        if isinstance(value, IntervalSweep):
            assert value.start is not None and value.end is not None
            return Interval(value.start, value.end, log="log" in value.tags)
        if isinstance(value, RangeSweep):
            numbers: list[Any] = list(override.sweep_iterator())
            if len(numbers) > 1 and all(isinstance(each, int | float) for each in numbers):
                step = abs(numbers[1] - numbers[0])
                return Interval(min(numbers), max(numbers), step=step, log="log" in value.tags)
    except ValueError as error:
        raise ConfigError(f"{_as_typed(override)}: {error}") from error
    return Choice(tuple(override.sweep_string_iterator()))


def _as_typed(override: Override) -> str:
    """The word without the ``++`` of ``_for_hydra``."""
    return str(override.input_line).removeprefix("++")


def _for_hydra(word: str) -> str:
    """A word of a job as Hydra takes it: ``++``, as it does not know the keys that only a signature has."""
    key = word.partition("=")[0]
    return word if key[0] in "+~" or key in (*GROUPS, "experiment") or key.startswith("hydra") else f"++{word}"


def _plain(value: Any) -> Any:
    """Plain containers, as they were typed."""
    return OmegaConf.to_container(value, resolve=False) if OmegaConf.is_config(value) else value


class Launched:
    """One of Hydra's launchers, which is handed several jobs at once, and comes back when all have ended.

    Args:
        launcher: it.
        at_once: how many; None for all.
    """

    def __init__(self, launcher: Launcher, at_once: int | None) -> None:
        self._launcher = launcher
        self._jobs: list[SweepJob] = []
        self.max_jobs = at_once or 2**31

    def start(self, job: SweepJob) -> None:
        """Keep it for ``wait``."""
        self._jobs.append(job)

    def wait(self, seconds: float) -> list[tuple[SweepJob, Outcome]]:
        """Launch what was kept; how each ended, its run directory says, wherever it ran."""
        from trainer.runs import resume
        from trainer.runs.read import FINISHED, is_run, read_run
        from trainer.sweep.drive import REFUSED, Outcome

        jobs, self._jobs = self._jobs, []
        words = [
            [*map(_for_hydra, job.words), f"hydra.sweep.subdir={resume.quoted(job.folder.name)}", "resume=auto"]
            for job in jobs
        ]
        self._launcher.launch(words, initial_job_idx=jobs[0].number if jobs else 0)
        ended = []
        for job in jobs:
            run = read_run(job.folder) if is_run(job.folder) else None
            if run is None:
                with contextlib.suppress(OSError):
                    job.folder.rmdir()  # Hydra made it, and nothing came of it
                outcome = Outcome(REFUSED, ("could not begin; its own output says why",), 2)
            elif run.state == FINISHED:
                outcome = Outcome(FINISHED, summary=run.summary)
            else:
                reason = str(run.summary.get("reason", "it has not said how it ended"))
                outcome = Outcome(run.state, (reason,), 1, run.summary)
            ended.append((job, outcome))
        return ended

    def stop(self, job: SweepJob) -> None:
        """A launcher waits for its jobs."""

    def close(self) -> None:
        """And so none is under way."""
