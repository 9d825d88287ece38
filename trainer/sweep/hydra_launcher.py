"""Run the jobs of a sweep with a Hydra launcher, such as joblib, submitit (Slurm) or Ray."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hydra._internal.callbacks import Callbacks
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from hydra.types import HydraContext, RunMode

from trainer.commands.exit_code import report
from trainer.compose.check_command import Checked
from trainer.config.messages import quoted
from trainer.config.settings import key_of
from trainer.processes.signals import Stopped
from trainer.processes.world import job_to_plain
from trainer.runs.read import FINISHED, is_run, read_run
from trainer.sweep.drive import REFUSED, Executor, Outcome, SweepJob
from trainer.worker import job_with_plugins, train_job


class HydraLauncher(Executor):
    """An executor that submits several jobs to a launcher at once and waits until all of them have ended.

    Args:
        checked: the command of the sweep.
        folder: the folder of the sweep.
        max_jobs: the maximum number of jobs per launch; None for all jobs.
    """

    def __init__(self, checked: Checked, folder: Path, max_jobs: int | None) -> None:
        self.max_jobs = max_jobs or 2**31
        self._jobs: list[SweepJob] = []
        self._folder = folder
        composer = checked.check.composer
        typed = [word for word in checked.words if key_of(word).startswith(("hydra.", "hydra/"))]
        hydra = composer.for_hydra(typed)
        words = [*dict.fromkeys([*composer.choices(checked.overrides), *hydra])]
        self._loader = ConfigLoaderImpl(composer.search_path)
        self._config = self._loader.load_configuration(
            composer.name, [*words, f"hydra.sweep.dir={quoted(str(folder))}"], RunMode.MULTIRUN
        )

    def start(self, job: SweepJob) -> None:
        self._jobs.append(job)

    def wait(self, seconds: float) -> list[tuple[SweepJob, Outcome]]:
        """Launch the queued jobs, wait for all of them, and read their outcomes from their run directories."""
        jobs, self._jobs = self._jobs, []
        names = [str(job.path_in(self._folder)) for job in jobs]
        plain = {name: job_to_plain(job.job) for name, job in zip(names, jobs, strict=True)}
        launcher = Plugins.instance().instantiate_launcher(
            hydra_context=HydraContext(config_loader=self._loader, callbacks=Callbacks()),
            task_function=functools.partial(run_launched, plain),
            config=self._config,
        )
        words = [[f"hydra.sweep.subdir={quoted(name)}"] for name in names]
        launcher.launch(words, initial_job_idx=jobs[0].number if jobs else 0)
        return [(job, _outcome_of(job)) for job in jobs]


def run_launched(jobs: Mapping[str, Mapping[str, Any]], config: object) -> None:
    """Run one job in the process that a launcher started for it; the launcher's config names the job.

    Args:
        jobs: by the name that ``hydra.sweep.subdir`` gives them, as ``job_to_plain`` has written them down.
        config: Hydra's, which is not read: the job has been checked already.
    """
    try:
        train_job(job_with_plugins(jobs[str(HydraConfig.get().sweep.subdir)]))
    except Stopped as stopped:
        if not stopped.by_clock:  # max_time ends one job; any other signal ends all jobs
            raise
    except Exception as error:
        report(error)


def _outcome_of(job: SweepJob) -> Outcome:
    run = read_run(job.folder) if is_run(job.folder) else None
    if run is None:
        with contextlib.suppress(OSError):
            job.folder.rmdir()  # the launcher created the empty folder
        return Outcome(REFUSED, ("could not begin; its own output says why",), 2)
    if run.state == FINISHED:
        return Outcome(FINISHED, summary=run.summary)
    reason = str(run.summary.get("reason", "it has not said how it ended"))
    return Outcome(run.state, (reason,), 1, run.summary)
