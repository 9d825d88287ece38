"""Prepare a run: check the run that it resumes, build its parts, claim its directory and open its files."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from trainer.build import assemble
from trainer.checkpoint import PREVIOUS, Checkpoints, FoundCheckpoint
from trainer.config import ConfigError, Job, Settings
from trainer.config.errors import reason_of
from trainer.data.data_workers import watched_workers
from trainer.engine import Parts
from trainer.logger import LOGGERS, Logger
from trainer.logger._jsonl import JSONL
from trainer.processes.signals import Interrupts, seconds
from trainer.processes.team import Team, get_team
from trainer.reporting import reported
from trainer.runs import resume
from trainer.runs.checkpoint_file import DamagedError, read
from trainer.runs.directory import CHECKPOINTS, CONFIG, METRICS, SUMMARY, RunDirectory, check_run_dir, read_json

log = logging.getLogger("trainer")


@dataclasses.dataclass(frozen=True)
class Prepared:
    """A run that is ready to train: its config is valid, its directory is claimed and its files are open.

    Args:
        started: the value of ``time.perf_counter()`` at the start of the run.
        found: the checkpoint to resume from, or None for a new run.
        notes: one line for each difference from the config of the run that is resumed.
    """

    job: Job
    started: float
    team: Team
    interrupts: Interrupts
    directory: RunDirectory
    parts: Parts
    found: FoundCheckpoint | None
    notes: list[str]
    loggers: dict[str, Logger]
    checkpoints: Checkpoints


@contextlib.contextmanager
def prepared(job: Job) -> Iterator[Prepared]:
    """Build the parts of a run and claim its directory; on exit, close its files. ``reported`` handles errors."""
    team = get_team(seconds(job.settings.device.get("timeout", "30m")))
    with contextlib.ExitStack() as stack:
        started = time.perf_counter()
        if job.settings.dry_run:
            check_run_dir(job.settings.run_dir, fixed=job.fixed_run_dir, resumes=job.settings.resume is not None)
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="train-dry-run-"))
            job = job.replace(max_steps=1, limit_batches=1, run_dir=folder, resume=None)
        job = team.with_world(job)
        settings = job.settings
        interrupts = stack.enter_context(Interrupts(settings.max_time))
        fixed = job.fixed_run_dir or settings.dry_run
        directory = RunDirectory(settings.run_dir, fixed=fixed, resumes=settings.resume is not None)
        stack.enter_context(reported(directory, job, team.world.size))
        stack.enter_context(watched_workers())
        stack.enter_context(team.announced(job))
        notes = resume.check_changes(settings)
        resume.check_links(directory.path)
        resumes = settings.resume is not None and (directory.path / CONFIG).exists()
        moved = resume.naming_moved_data(directory.path, settings.dataset)
        with moved if resumes else contextlib.nullcontext():
            parts = assemble(settings)
        stack.callback(parts.loaders.close)
        found = _find_checkpoint(job, parts, directory)
        team.wait_for_followers(parts.fingerprint, interrupts)
        directory.claim(settings.to_dict(), job.words)
        job = job.replace(run_dir=str(directory.path))
        team.store_run_dir(job.settings.run_dir)
        loggers = stack.enter_context(_open_loggers(job.settings, directory))
        checkpoints = make_checkpoints(job.settings, parts, loggers, directory, team.world.size)
        stack.callback(checkpoints.close)
        yield Prepared(job, started, team, interrupts, directory, parts, found, notes, loggers, checkpoints)


@contextlib.contextmanager
def _open_loggers(settings: Settings, directory: RunDirectory) -> Iterator[dict[str, Logger]]:
    """Open metrics.jsonl and the chosen loggers, by name; on exit, close all of them."""
    loggers: dict[str, Logger] = {METRICS: JSONL(directory.path)}
    loggers |= {name: LOGGERS.build(config, directory.path) for name, config in settings.logger.items()}
    try:
        yield loggers
    finally:
        for logger in loggers.values():
            try:
                logger.close()
            except Exception as error:  # such as a full disk; the error that ended the run says so
                log.debug("closing %s: %s", logger, error)


def make_checkpoints(
    settings: Settings, parts: Parts, loggers: Mapping[str, Logger], directory: RunDirectory, num_processes: int
) -> Checkpoints:
    return Checkpoints(
        directory.path / CHECKPOINTS,
        keep=settings.checkpoint["keep"],
        extra={
            "config": settings.to_dict(),
            "data": parts.data.preprocessing(),
            "fingerprint": parts.fingerprint,
            "total_steps": parts.total_steps,
            "processes": num_processes,
        },
        on_error=settings.checkpoint["on_error"],
        background=settings.checkpoint["async"],
        sync_first=lambda: [path for logger in loggers.values() for path in logger.paths()],
    )


def _find_checkpoint(job: Job, parts: Parts, directory: RunDirectory) -> FoundCheckpoint | None:
    """Return the checkpoint to resume from, after loading its weights into the model, or None for a new run.

    Raises:
        ConfigError: the checkpoints of the run are damaged or missing, or the data or the model has changed.
    """
    settings, folder = job.settings, directory.path
    if settings.resume is None:
        return None
    found = Checkpoints(folder / CHECKPOINTS, keep=1, extra={}).newest()
    if found is None:
        # an evaluation is logged before its checkpoint is saved; with a background thread, two may be logged before
        if read_json(folder / SUMMARY).get("state") == "finished" or directory.num_evaluations(METRICS) > 2:
            raise ConfigError(
                f"resume: {folder} has trained, but its checkpoints are gone; bring them back, or start another run"
            )
        if (folder / CONFIG).exists() or not job.varied:  # in a sweep, most runs are new
            log.info("resume   no checkpoint in %s yet: starting", folder)
        return None
    resume.check_state(settings, found.name, found.state, parts.fingerprint, len(parts.loaders.train))
    found = _without_early_end(found, folder / CHECKPOINTS / PREVIOUS, parts.total_steps)
    try:
        parts.model.load_state_dict(found.state["model"])
    except (KeyError, RuntimeError, TypeError, AttributeError) as error:
        message = f"model: the checkpoint of {folder} does not fit the model any more: {reason_of(error)[:300]}"
        raise ConfigError(message) from error
    return found


def _without_early_end(found: FoundCheckpoint, previous: Path, total_steps: int) -> FoundCheckpoint:
    """Return the checkpoint from which a run goes on to ``total_steps`` as if it had never been shorter.

    If the run of ``found`` ended within an epoch, ``previous`` has the same step without the evaluation at the end.
    """
    progress, step = found.state["progress"], found.state["step"]
    if not (total_steps > step == progress.get("evaluated") and progress["batch"] > 0):
        return found
    try:
        state = read(previous)
    except (ConfigError, DamagedError):  # an earlier version did not keep this state
        return found
    return FoundCheckpoint(previous.name, state, found.damaged) if state.get("step") == step else found
