"""Start a checked sweep: a grid or a search, in worker processes, in this process, or with a Hydra launcher."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.core.override_parser.types import IntervalSweep, Override, RangeSweep

from trainer.compose.check_command import Checked
from trainer.compose.composer import SEARCH
from trainer.compose.overrides import RangeValues
from trainer.config import ConfigError, Settings, SweepError
from trainer.config.check import check_values
from trainer.config.search_keys import SearchKeys
from trainer.config.settings import key_of
from trainer.processes import leader
from trainer.processes.world import current_world
from trainer.runs import atomic_files
from trainer.runs.directory import OVERRIDES
from trainer.runs.read import Run
from trainer.runs.resume import SET_ANEW
from trainer.sweep.drive import (
    Display,
    Executor,
    Grid,
    JobSource,
    Outcome,
    SweepJob,
    conclude,
    lock_folder,
    run_jobs,
    sweep_table,
    write_line,
)
from trainer.sweep.folder import NUMBER, check_lengths, finished_run, place_jobs, stays_inside
from trainer.sweep.search_space import Choice, Interval
from trainer.sweep.table import SweepTable, write_csv

LOCAL = "hydra._internal.core_plugins.basic_launcher.BasicLauncher"  # Hydra's default: no launcher is used
SUBDIR = "${hydra.job.num}"  # Hydra's default name of a run's folder, which selects names with the values that vary


def run_sweep(checked: Checked) -> None:
    """Run all jobs of a sweep that have not finished, and print and save the table of results.

    Raises:
        ConfigError: the sweep cannot run.
        SweepError: at least one run failed or was stopped.
    """
    with contextlib.ExitStack() as stack:
        if checked.jobs[0].settings.dry_run:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="train-dry-run-")))
        else:  # after a restart by torchrun, continue in the folder of the previous attempt
            folder = Path(leader.read_note("sweep_dir") or checked.sweep_dir)
        sweep = _Sweep(checked, folder)
        if checked.hydra["sweeper"]["_target_"] == SEARCH:
            sweep.search()
        else:
            sweep.grid()


class _Sweep:
    """A checked sweep with its folder."""

    def __init__(self, checked: Checked, folder: Path) -> None:
        self._checked, self._folder = checked, folder
        self._first = checked.jobs[0].settings
        self._is_local = checked.hydra["launcher"]["_target_"] == LOCAL

    def grid(self) -> None:
        for each in self._checked.overrides:
            if each.is_sweep_override() and isinstance(each.value(), IntervalSweep):
                raise ConfigError(
                    f"{each.input_line}: an interval is searched: add hydra/sweeper=optuna, or give values, 1,2,3"
                )
        found = self._checked.all_jobs()
        subdir = self._subdir()
        executor = self._executor([job.settings for job in found], self._checked.hydra["sweeper"]["max_batch_size"])
        with lock_folder(self._folder):
            jobs = place_jobs(found, self._folder, subdir)
            check_lengths(jobs)
            self._save_words()
            runs = [finished_run(job) for job in jobs]
            left = [job for job, run in zip(jobs, runs, strict=True) if run is None]
            self._drive(Grid(left), executor, jobs, [run for run in runs if run is not None], len(jobs))

    def search(self) -> None:
        from trainer.sweep.optuna_search import OptunaSearch
        from trainer.sweep.optuna_study import require_optuna

        node = {
            key: value for key, value in self._checked.hydra["sweeper"].items() if key not in ("_target_", "params")
        }
        keys = SearchKeys(**check_values(node, SearchKeys, "hydra.sweeper"))
        overrides = [each for each in self._checked.overrides if not each.is_hydra_override()]
        space = {each.key_or_group: _search_space(each) for each in overrides if each.is_sweep_override()}
        fixed = [str(each.input_line) for each in overrides if not each.is_sweep_override()]
        if not space:
            raise ConfigError(
                "hydra/sweeper=optuna: nothing to search; give a key several values, or interval(low,high)"
            )
        require_optuna()
        subdir, can_stop = self._subdir(), self._is_local and current_world() is None
        executor = self._executor([self._first], self._first.sweep["parallel"])
        with lock_folder(self._folder):
            search = OptunaSearch(
                space,
                fixed,
                self._first,
                self._folder,
                self._checked.check.job,
                subdir=subdir,
                can_stop=can_stop,
                keys=keys,
            )
            self._save_words()
            done = [run for job in search.jobs if (run := finished_run(job)) is not None]
            self._drive(search, executor, search.jobs, done, search.total)

    def _subdir(self) -> str | None:
        """Return the user's pattern for names of run directories, with ``NUMBER``, or None for the default names.

        Raises:
            ConfigError: the pattern has an unknown interpolation, or leads out of the sweep's folder.
        """
        pattern = str(self._checked.hydra["sweep"]["subdir"])
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

    def _executor(self, settings: Sequence[Settings], max_jobs: int | None) -> Executor:
        """Return the executor of the jobs: a Hydra launcher, this process under torchrun, or a pool of workers.

        Args:
            settings: the settings of all jobs of a grid, or of one job of a search.
            max_jobs: the maximum number of jobs per launch of a Hydra launcher; None for all jobs.

        Raises:
            ConfigError: ``sweep.parallel`` cannot be used with this executor, or there are not enough GPUs.
        """
        parallel = self._first.sweep["parallel"]
        if not self._is_local:
            if parallel > 1 and max_jobs is None:
                raise ConfigError("sweep.parallel: a launcher of Hydra's has keys of its own for that; leave it out")
            from trainer.sweep.hydra_launcher import HydraLauncher

            return HydraLauncher(self._checked, self._folder, max_jobs)
        if current_world() is not None:
            if parallel > 1:
                raise ConfigError("sweep.parallel: the processes of torchrun do one run after the other; leave it out")
            from trainer.sweep.in_process import InProcess

            return InProcess(self._folder)
        from trainer.sweep.worker_pool import LOGS, WorkerPool, divide_machine

        return WorkerPool(divide_machine(settings), self._folder / LOGS)

    def _save_words(self) -> None:
        """Save the overrides that ``train sweep=FOLDER`` reads to resume this sweep, those of Hydra's own keys first.

        Raises:
            ConfigError: the file cannot be written.
        """
        if current_world() is not None:
            leader.write_note("sweep_dir", str(self._folder))
        words = [word for word in self._checked.words if key_of(word) not in SET_ANEW]
        words.sort(key=lambda word: not key_of(word).startswith("hydra"))
        text = json.dumps(words, ensure_ascii=False, indent=0)  # JSON is valid YAML
        try:
            atomic_files.write_text(self._folder / OVERRIDES, text + "\n")
        except OSError as error:
            raise ConfigError(f"sweep_dir: cannot write in {self._folder}: {error.strerror}") from error

    def _drive(
        self, source: JobSource, executor: Executor, jobs: list[SweepJob], done: Sequence[Run], total: int
    ) -> None:
        """Run the jobs of a source, and print and save the table of results even after an error.

        Args:
            jobs: all jobs known so far, including finished ones; a search appends its new jobs to this list.
            done: the runs that have finished already.
            total: the number of runs of the whole sweep.

        Raises:
            SweepError: at least one run failed or was stopped.
        """
        started, dry_run = time.monotonic(), self._first.dry_run
        outcomes: dict[int, Outcome] = {}
        config_dir = self._checked.check.composer.extra_dir
        options = () if config_dir is None else ("--config-dir", os.path.relpath(config_dir))

        def table() -> SweepTable:
            return sweep_table(self._folder, jobs, outcomes, time.monotonic() - started, options)

        with contextlib.ExitStack() as stack:
            if not dry_run:
                stack.callback(lambda: conclude(table(), source.closing_lines(), total))
            display = Display(total, done, lambda: None if dry_run else write_csv(table()))
            stack.callback(display.close)
            stack.callback(executor.close)
            run_jobs(source, executor, display, outcomes, on_error=self._first.sweep["on_error"])
        if dry_run:
            write_line("dry run: a step, an evaluation, a checkpoint and a test of each; nothing is kept")
        code = max((outcome.code for outcome in outcomes.values()), default=0)
        if code:
            raise SweepError(code)


def _search_space(override: Override) -> Choice | Interval:
    """Return the search space that an override such as ``lr=interval(0.001,0.1)`` describes.

    Raises:
        ConfigError: the interval is empty, or its options contradict each other.
    """
    value: Any = override.value()
    try:
        if isinstance(value, IntervalSweep):
            assert value.start is not None and value.end is not None
            return Interval(value.start, value.end, log="log" in value.tags)
        if isinstance(value, RangeSweep):
            numbers = RangeValues(value)
            if len(numbers) > 1:
                low, high = sorted((numbers[0], numbers[-1]))
                return Interval(low, high, step=abs(numbers[1] - numbers[0]), log="log" in value.tags)
    except ValueError as error:
        raise ConfigError(f"{override.input_line}: {error}") from error
    return Choice(tuple(override.sweep_string_iterator()))
