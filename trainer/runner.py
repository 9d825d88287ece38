"""One run: prepare, fit, test, conclude."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import math
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from safetensors.torch import load_file
from torch import nn

from trainer.build import assemble, build
from trainer.checkpoint import BEST_WEIGHTS, Checkpoints, FoundCheckpoint
from trainer.config import ConfigError, Job, RunError, Settings, errors
from trainer.data.loader import watched_workers
from trainer.engine import Engine, Parts
from trainer.logger import LOGGERS, Logger
from trainer.logger._jsonl import JSONL
from trainer.nonfinite import explained
from trainer.processes.launch import launch, needs_launch
from trainer.processes.signals import Interrupts, seconds
from trainer.processes.team import Team, get_team
from trainer.reporting import announce, conclude, record_resume, record_start, reported, resume_notes, summary_so_far
from trainer.runs import resume
from trainer.runs.directory import CHECKPOINTS, CONFIG, METRICS, SUMMARY, RunDirectory

log = logging.getLogger("trainer")


class Result(NamedTuple):
    """The content of summary.json and the run directory, and the model with the best weights, in evaluation mode."""

    summary: dict[str, Any]
    model: nn.Module


def run(job: Job | Settings) -> Result:
    """Train, test with the best weights, and leave a run directory: ``summary, model = run(compose("epochs=3"))``.

    Args:
        job: what to train, as ``compose`` makes it; settings alone are a job for which nothing was typed.

    Raises:
        ConfigError: the config cannot work; nothing was written.
        RunError: anything else went wrong; one line that names the log with the traceback. The run directory
            and its checkpoints stay.
    """
    job = Job(job) if isinstance(job, Settings) else job
    if needs_launch(job.settings):
        summary = launch(job)
        return Result(summary, _best_model(job.settings, summary))
    with _prepared(job) as ready:
        with _connected(ready) as engine:
            _start_or_resume(engine, ready)
            with _profiled(engine, ready.directory.path):
                engine.fit()
            tested_step, results = _test(engine, ready)
        summary = conclude(engine, ready.job, ready.directory, ready.loggers.values(), tested_step, results)
        return Result({**summary, "run_dir": ready.job.settings.run_dir}, engine.evaluated.eval())


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
def _prepared(job: Job) -> Iterator[Prepared]:
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
def _connected(ready: Prepared) -> Iterator[Engine]:
    """Connect the processes and make the engine; at the end, hand the summary so far to the run directory."""
    settings, parts, interrupts, engine = ready.job.settings, ready.parts, ready.interrupts, None
    try:
        with (
            explained(settings, ready.checkpoints, interrupts),
            ready.team.join_group(parts.placement.device, interrupts) as group,
        ):
            engine = Engine(parts, settings, group, interrupts, ready.checkpoints, ready.loggers, ready.started)
            with contextlib.closing(engine):
                yield engine
    finally:
        if engine is not None:
            ready.directory.so_far = summary_so_far(engine)


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


def _start_or_resume(engine: Engine, ready: Prepared) -> None:
    """Announce the run and restore the state of the checkpoint, if there is one.

    Raises:
        RunError: the checkpoint has the contents of another version.
    """
    found, directory = ready.found, ready.directory
    announce(engine, directory, ready.team.world)
    engine.group.broadcast(None if found is None else found.state)
    if found is None:
        engine.recorder.load_state_dict({})  # clears what a run has logged that was killed before its first checkpoint
        record_start(engine, directory, ready.loggers.values())
        return
    try:
        engine.load(found.state)
        notes = [*ready.notes, *resume_notes(engine, found)]
        engine.is_done()
    except (KeyError, ValueError, TypeError, RuntimeError, AttributeError, OverflowError) as error:
        raise RunError(f"the checkpoint {found.name} does not fit this version: {errors.one_line(error)}") from error
    ready.checkpoints.restore_files(found, engine.progress.best.get("step"))
    record_resume(engine, found, notes, directory)


@contextlib.contextmanager
def _profiled(engine: Engine, run_dir: Path) -> Iterator[None]:
    """Profile some steps of the training within this context if ``profile`` is set."""
    if not engine.settings.profile:
        yield
        return
    from trainer.profiler import Profiled  # torch.profiler takes time to import

    folder = None if engine.settings.dry_run else run_dir
    with Profiled(engine.loaders.train, engine.total_steps, engine.device, folder) as train:
        engine.loaders = engine.loaders._replace(train=train)
        yield


def _test(engine: Engine, ready: Prepared) -> tuple[int, dict[str, float]]:
    """Measure the test split with the best weights, and write them as ``best.safetensors``.

    Returns:
        the optimizer step of the weights, and the test loss and metrics.

    Raises:
        RunError: the test loss is NaN or infinite.
    """
    found = ready.checkpoints.best()
    step = found.state["step"]
    for line in found.damaged:
        log.warning("warning  %s", line)
    weights = found.state["ema"] if engine.ema is not None else found.state["model"]
    if step == engine.progress.best["step"]:
        ready.checkpoints.save_weights(weights)
    else:
        log.warning("warning  the best weights are lost: testing those of step %d (%s)", step, found.name)
    sums = engine.test(weights)
    results = sums.compute(engine.metrics)
    if not math.isfinite(results["loss"]):
        raise RunError(f"the test loss is {results['loss']} with the weights of step {step}")
    engine.recorder.log_test(results, engine.progress.step)
    if engine.spec.task == "classification":
        for logger in ready.loggers.values():
            logger.log_confusion(sums.total.cpu(), engine.spec.classes)
    return step, results


def _best_model(settings: Settings, summary: Mapping[str, Any]) -> nn.Module:
    """Return the model that other processes have trained, on the CPU."""
    model = assemble(settings.replace(device={"name": "cpu", "threads": None}, precision="fp32")).model
    if not settings.dry_run:
        model.load_state_dict(load_file(Path(summary["run_dir"]) / CHECKPOINTS / BEST_WEIGHTS))
    return model.eval()
