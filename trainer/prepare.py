"""Prepare a run: check what it resumes, build its parts, claim its directory and open its files."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import tempfile
import time
from collections.abc import Iterator, Mapping

from trainer.build import assemble, build
from trainer.checkpoint import Checkpoints, FoundCheckpoint
from trainer.config import ConfigError, Job, Settings
from trainer.data.loader import watched_workers
from trainer.engine import Parts
from trainer.logger import LOGGERS, Logger
from trainer.logger._jsonl import JSONL
from trainer.processes.signals import Interrupts, seconds
from trainer.processes.team import Team, get_team
from trainer.reporting import reported
from trainer.runs import resume
from trainer.runs.directory import CHECKPOINTS, CONFIG, METRICS, SUMMARY, RunDirectory

log = logging.getLogger("trainer")


@dataclasses.dataclass(frozen=True)
class Prepared:
    """A run whose config has proved right, with its directory claimed and its files open.

    Args:
        started: the start of the run, on the clock of ``time.perf_counter``.
        found: the checkpoint to resume from, or None for a new run.
        notes: a line for each change of the config since the run that is resumed.
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
    """Build everything, then claim the run directory; at the end, close both and turn errors into lines."""
    team = get_team(seconds(job.settings.device.get("timeout", "30m")))
    with contextlib.ExitStack() as stack:
        started = time.perf_counter()
        if job.settings.dry_run:
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
    """Open metrics.jsonl and the chosen loggers, by name; at the end, close all of them."""
    loggers: dict[str, Logger] = {METRICS: JSONL(directory.path)}
    loggers |= {name: build(LOGGERS, config, directory.path) for name, config in settings.logger.items()}
    try:
        yield loggers
    finally:
        for logger in loggers.values():
            try:
                logger.close()
            except Exception as error:  # such as a full disk, which the error that ended the run reports
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
    """Return the checkpoint to resume from, its weights loaded into the model, or None for a new run.

    Raises:
        ConfigError: the run cannot be resumed: its checkpoints are damaged, or the data or the model have changed.
    """
    settings, folder = job.settings, directory.path
    if settings.resume is None:
        return None
    found = Checkpoints(folder / CHECKPOINTS, keep=1, extra={}).newest()
    if found is None:
        # a run logs an evaluation before it saves the checkpoint; with a background thread, it may log two
        if directory.read_json(SUMMARY).get("state") == "finished" or directory.num_evaluations(METRICS) > 2:
            raise ConfigError(
                f"resume: {folder} has trained, but its checkpoints are gone; bring them back, or start another run"
            )
        if (folder / CONFIG).exists() or not job.varied:  # most runs of a sweep are new
            log.info("resume   no checkpoint in %s yet: starting", folder)
        return None
    resume.check_state(settings, found.name, found.state, parts.fingerprint, len(parts.loaders.train))
    try:
        parts.model.load_state_dict(found.state["model"])
    except (KeyError, RuntimeError, TypeError, AttributeError) as error:
        reason = " ".join(str(error).split())[:300]
        raise ConfigError(f"model: the checkpoint of {folder} does not fit the model any more: {reason}") from error
    return found
