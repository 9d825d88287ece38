"""Report a run to its user: the first and last lines of the log, errors, environment.json and summary.json."""

from __future__ import annotations

import contextlib
import datetime
import logging
import shlex
import traceback
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from trainer.checkpoint import FoundCheckpoint
from trainer.config import GROUPS, ConfigError, Job, RunError, Settings, errors
from trainer.config.messages import quoted
from trainer.config.registry import registry
from trainer.config.settings import key_of
from trainer.config.terminal import escaped
from trainer.data import checks
from trainer.engine import Engine
from trainer.logger import Logger
from trainer.metrics import THRESHOLD, Sums, shown_thresholds
from trainer.processes.world import World, last_failure
from trainer.runs.directory import (
    CONFIG,
    ENVIRONMENT,
    LOG,
    SUMMARY,
    TEMPERATURE,
    THRESHOLDS,
    RunDirectory,
    read_json,
    write_json,
)
from trainer.runs.environment import environment
from trainer.runs.read import flatten
from trainer.scheduler import SCHEDULERS, Horizon, Scheduler

log = logging.getLogger("trainer")

MAX_SAMPLES = 64  # training images that are passed to the loggers


@contextlib.contextmanager
def reported(directory: RunDirectory, job: Job, num_processes: int) -> Iterator[None]:
    """Turn any error but a ConfigError within this context into a one-line RunError, and record how the run ended."""
    try:
        yield
    except ConfigError:
        raise
    except KeyboardInterrupt as stopped:
        if directory.claimed or num_processes == 1:  # an early signal may be a consequence of another rank's failure
            log.info("stopped  %s", stopped or "interrupted")
        if not job.settings.dry_run and (words := _next_words(directory, job, stopped)):
            log.info("next     train %s", " ".join(map(shlex.quote, words)))
        directory.end("stopped", str(stopped) or "interrupted")
        raise
    except Exception as error:
        message = one_line(error)
        if num_processes > 1 and not isinstance(error, RunError):
            message = f"rank 0: {message}"
        if directory.claimed and not directory.path.is_dir():
            message = f"the run directory {directory.path} is gone: {message}"
        directory.fail(job.settings.to_dict(), job.words, message, error)
        kept = directory.path.is_dir() and directory.claimed and not job.settings.dry_run
        where = f" (the log: {directory.path / LOG})" if kept else ""
        if not (kept or isinstance(error, RunError)):
            where = " (HYDRA_FULL_ERROR=1 shows the traceback)"
        raise RunError(f"{message}{where}") from error
    finally:
        directory.close()


def _next_words(directory: RunDirectory, job: Job, stopped: BaseException) -> list[str]:
    """Return the words after ``train`` that go on with a run that was stopped; an empty list if there is nothing yet.

    If ``max_time`` was over before the training began, it would be over again.
    """
    resume = f"resume={quoted(str(directory.path))}"
    if directory.claimed:
        return [resume]
    if not getattr(stopped, "by_clock", False):
        return []
    resumes = job.settings.resume is not None and (directory.path / CONFIG).exists()
    words = [resume] if resumes else [word for word in job.words if key_of(word) != "max_time"]
    return [*words, "max_time=null"]


def one_line(error: Exception) -> str:
    """Return an error as one line, with file and line number if it was raised in one of the user's own components."""
    files = [registry(group).file(name) for group in GROUPS for name in registry(group).own()]
    own = {file.resolve() for file in files if file is not None}
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if Path(frame.filename).resolve() in own]
    place = f" in {frames[-1].filename}, line {frames[-1].lineno}" if frames else ""
    return errors.one_line(error) + place


def announce(engine: Engine, directory: RunDirectory, world: World) -> None:
    """Log the first lines of a run: model, data, device, run directory, warnings about the data, a restart."""
    settings, parts, device = engine.settings, engine.parts, engine.device
    parameters = sum(parameter.numel() for parameter in parts.model.parameters())
    sizes = ", ".join(f"{name} {len(split):,}" for name, split in parts.data.splits().items())
    count = torch.get_num_threads()
    threads = f" ({count} thread{'s' * (count > 1)})" if device.type == "cpu" else ""
    many = f"{settings.device['name']}, {engine.group.size} processes, " if parts.placement.processes else ""
    log.info("model    %s, %s parameters", settings.model["name"], f"{parameters:,}")
    log.info("data     %s: %s; %s", settings.dataset["name"], parts.spec, "; ".join([sizes, *parts.data.notes]))
    log.info("device   %s%s%s, %s", many, device, threads, parts.precision)
    if not settings.dry_run:
        log.info("run      %s", directory.path)
    for line in checks.at_start(parts.data, settings):
        log.warning("warning  %s", line)
    if world.attempt > 0 and settings.resume is not None:
        log.info("restart  %d of %d, after %s", world.attempt, world.most_attempts, last_failure())


def record_start(engine: Engine, directory: RunDirectory, loggers: Iterable[Logger]) -> None:
    """Write environment.json and pass the first training images to the loggers."""
    write_json(directory.path / ENVIRONMENT, _environment(engine, directory))
    if engine.spec.kind == "image":
        for logger in loggers:
            logger.log_samples(engine.parts.data.train.head(MAX_SAMPLES))


def resume_notes(engine: Engine, found: FoundCheckpoint) -> list[str]:
    """Return a line for each change since the checkpoint: of its form, the length of the schedule, the world size."""
    settings, parts = engine.settings, engine.parts
    notes = [found.state["upgrade"]] if "upgrade" in found.state else []
    step, before = found.state["step"], found.state["total_steps"]
    schedule: Scheduler = SCHEDULERS.build(settings.scheduler, Horizon(before, len(parts.loaders.train)))
    if before != parts.total_steps and schedule.factor(step) != parts.scheduler.factor(step):
        name = settings.scheduler["name"]
        notes.append(f"scheduler={name} stretches over {parts.total_steps} steps now instead of {before}")
    processes, size = found.state.get("processes", 1), engine.group.size
    if processes != size:
        now = "1 process" if size == 1 else f"{size} processes"
        notes.append(f"{now} instead of {processes}: the same training, no longer bit for bit")
    return notes


def record_resume(engine: Engine, found: FoundCheckpoint, notes: Sequence[str], directory: RunDirectory) -> None:
    """Add the resume to environment.json, and log where the run resumes and what has changed.

    Args:
        engine: the engine, with its state restored.
        found: the checkpoint that was restored.
        notes: one line for each change of the config, schedule or world size.
    """
    progress, now = engine.progress, _environment(engine, directory)
    before = read_json(directory.path / ENVIRONMENT) or now
    earlier = before.get("resumed")
    other = {name: value for name, value in now.items() if before.get(name) != value}
    attempts = [*(earlier if isinstance(earlier, list) else []), {"step": progress.step, **other}]
    write_json(directory.path / ENVIRONMENT, {**before, "resumed": attempts})
    for line in found.damaged:
        log.warning("warning  %s; resuming from %s", line, found.name)
    for line in notes:
        log.info("resume   %s", line)
    if engine.is_done():
        log.info("resume   nothing left to train after step %d; more epochs= would go on", progress.step)
    else:
        log.info("resume   after step %d, in epoch %d", progress.step, progress.epoch + 1)


def _environment(engine: Engine, directory: RunDirectory) -> dict[str, Any]:
    """Return the content of environment.json: start, seed, versions, device, processes, fingerprint of the data."""
    return {
        "started": datetime.datetime.now().isoformat(timespec="seconds"),
        "seed": engine.settings.seed,
        **environment(engine.device, directory.path),
        "processes": engine.group.size,
        "data": engine.parts.fingerprint,
    }


def summary_so_far(engine: Engine) -> dict[str, Any]:
    """Return the part of summary.json that finished and unfinished runs have in common."""
    recorder, progress = engine.recorder, engine.progress
    peak = recorder.peak_memory
    return {
        "monitor": f"val/{engine.monitor.name}",
        "direction": "maximize" if engine.monitor.higher_is_better else "minimize",
        "best": progress.best,
        "last": progress.last,
        "steps": progress.step,
        "epochs": progress.epoch,
        **({"skipped": progress.skipped} if engine.skipper is not None else {}),
        "seconds": round(recorder.seconds, 3),
        "samples_per_second": round(recorder.samples / max(recorder.training_seconds, 1e-9), 1),
        **({} if peak is None else {"peak_memory_mib": round(peak, 1)}),
    }


def conclude(
    engine: Engine,
    job: Job,
    directory: RunDirectory,
    loggers: Iterable[Logger],
    tested_step: int,
    sums: Sums,
) -> dict[str, Any]:
    """Write the summary of a finished run to summary.json, the loggers and the log, and return it.

    Args:
        engine: the engine that has trained.
        job: the job of the run.
        directory: the run directory, whose ``so_far`` is the summary without the test results.
        tested_step: the optimizer step of the tested weights.
        sums: the sums of the test split.
    """
    results, chosen = sums.compute(engine.metrics), _chosen_thresholds(engine)
    tested = {f"test/{name}": value for name, value in results.items()}
    calibration = engine.calibration
    kept = {
        **({} if calibration is None else {TEMPERATURE: calibration.temperature}),
        **({THRESHOLDS: chosen} if chosen else {}),
    }
    summary = {"state": "finished", **directory.so_far, "tested_step": tested_step, **tested, **kept}
    write_json(directory.path / SUMMARY, summary)
    best, last = engine.progress.best, engine.progress.last
    final = {
        name.replace("val/", f"{which}/"): value
        for which, values in (("best", best), ("last", last))
        for name, value in values.items()
        if "/" in name
    }
    for logger in loggers:
        if engine.spec.task == "classification":
            logger.log_confusion(sums.total.cpu(), engine.spec.classes)
        logger.finish(_hyperparameters(job.settings, job.varied), {**final, **tested})
    if calibration is not None:
        log.info("scores   %s", calibration)
    if engine.thresholds:
        log.info("labels   %s", _describe_thresholds(engine, chosen))
    metrics = "  ".join(f"{name} {value:.4f}" for name, value in results.items())
    whose = f"epoch {best['epoch']}" if tested_step == best["step"] else f"step {tested_step}"
    log.info("test     %s  (weights of %s)", metrics, whose)
    if job.settings.dry_run:
        log.info("dry run: a step, an evaluation, a checkpoint and a test went well; nothing is kept")
        return summary
    log.info("run      %s", directory.path)
    if "tensorboard" in job.settings.logger:
        log.info("next     tensorboard --logdir %s", shlex.quote(str(directory.path)))
    log.info("next     trainer report %s", shlex.quote(str(directory.path)))
    return summary


def _chosen_thresholds(engine: Engine) -> dict[str, float]:
    """Return the thresholds by label that were chosen on val; empty if none were."""
    if not engine.thresholds or engine.settings.thresholds != "auto" or engine.loaders.val is None:
        return {}
    return dict(zip(engine.spec.classes, engine.thresholds, strict=True))


def _describe_thresholds(engine: Engine, chosen: Mapping[str, float]) -> str:
    """Return in one line above which scores the labels are predicted, and why."""
    shown = shown_thresholds(engine.spec.classes, engine.thresholds)
    if chosen:
        return f"predicted above {shown}: the highest f1 on val (in the epochs: above {THRESHOLD})"
    why = ": there is no val to choose thresholds on" if engine.settings.thresholds == "auto" else ""
    return f"predicted above {shown}{why}"


def _hyperparameters(settings: Settings, varied: Sequence[str]) -> dict[str, bool | float | str]:
    """Return the config keys that vary in a sweep, or all keys outside a sweep; keys with the value null are left out.

    The value of a group, such as ``model``, is the name of the chosen component.
    """
    every = {
        key.removesuffix(".name"): value if isinstance(value, bool | int | float) else escaped(str(value))
        for key, value in flatten(settings.to_dict()).items()
        if value is not None
    }
    return {key: every[key] for key in varied if key in every} or every
