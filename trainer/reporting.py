"""What a person reads about a run: the first and last lines, the errors, the summary."""

from __future__ import annotations

import contextlib
import datetime
import logging
import traceback
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from trainer.build import Parts
from trainer.config import GROUPS, ConfigError, Job, RunError, Settings, errors
from trainer.config.registry import registry
from trainer.data import checks
from trainer.engine import Engine
from trainer.logger import Logger
from trainer.processes.group import Group
from trainer.runs.directory import LOG, RunDirectory
from trainer.runs.environment import environment
from trainer.runs.read import flatten

log = logging.getLogger("trainer")

MAX_SAMPLES = 64  # training images that a logger may show


def show_samples(parts: Parts, loggers: Iterable[Logger]) -> None:
    """Hand the first training images to the loggers."""
    if parts.spec.kind == "image":
        for logger in loggers:
            logger.log_samples(parts.data.train.head(MAX_SAMPLES))


@contextlib.contextmanager
def reported(directory: RunDirectory, job: Job, num_processes: int) -> Iterator[RunDirectory]:
    """Turn whatever goes wrong into one line and a record in the run directory."""
    try:
        yield directory
    except ConfigError:
        raise
    except KeyboardInterrupt as stopped:
        if directory.claimed or num_processes == 1:  # at the start it may be that another process has failed
            log.info("stopped  %s", stopped or "interrupted")
        if directory.claimed and not job.settings.dry_run:
            log.info("next     train resume=%s", directory.path)
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
        where = f"the log: {directory.path / LOG}" if kept else "HYDRA_FULL_ERROR=1 shows the traceback"
        raise RunError(f"{message} ({where})") from error
    finally:
        directory.close()


def one_line(error: Exception) -> str:
    """What went wrong, for the terminal, with the place in the user's own code; the log has the rest."""
    files = [registry(group).file(name) for group in GROUPS for name in registry(group).own()]
    own = {file.resolve() for file in files if file is not None}
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if Path(frame.filename).resolve() in own]
    place = f" in {frames[-1].filename}, line {frames[-1].lineno}" if frames else ""
    return errors.one_line(error) + place


def summary_so_far(engine: Engine) -> dict[str, Any]:
    """What summary.json says of a run, however it ends."""
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


def announce(settings: Settings, parts: Parts, directory: RunDirectory, group: Group) -> None:
    """The block at the start, and what is wrong with the data."""
    parameters = sum(parameter.numel() for parameter in parts.model.parameters())
    sizes = ", ".join(f"{name} {len(split):,}" for name, split in parts.data.splits().items())
    count = torch.get_num_threads()
    device = parts.placement.device
    threads = f" ({count} thread{'s' * (count > 1)})" if device.type == "cpu" else ""
    many = f"{settings.device['name']}, {group.size} processes, " if parts.placement.processes else ""
    log.info("model    %s, %s parameters", settings.model["name"], f"{parameters:,}")
    log.info("data     %s: %s; %s", settings.dataset["name"], parts.spec, sizes)
    log.info("device   %s%s%s, %s", many, device, threads, parts.precision)
    if not settings.dry_run:
        log.info("run      %s", directory.path)
    for line in checks.at_start(parts.data, settings):
        log.warning("warning  %s", line)


def conclude(engine: Engine, tested_step: int, results: Mapping[str, float], directory: RunDirectory) -> None:
    """The lines at the end."""
    metrics = "  ".join(f"{name} {value:.4f}" for name, value in results.items())
    best = engine.progress.best
    whose = f"epoch {best['epoch']}" if tested_step == best["step"] else f"step {tested_step}"
    log.info("test     %s  (weights of %s)", metrics, whose)
    if engine.settings.dry_run:
        log.info("dry run: a step, an evaluation, a checkpoint and a test went well; nothing is kept")
        return
    log.info("run      %s", directory.path)
    if "tensorboard" in engine.settings.logger:
        log.info("next     tensorboard --logdir %s", directory.path)
    log.info("next     trainer report %s", directory.path)


def describe_environment(settings: Settings, parts: Parts, directory: RunDirectory, group: Group) -> dict[str, Any]:
    """What environment.json holds: versions, device, start, seed, processes, fingerprint of the data."""
    found = environment(parts.placement.device, directory.path)
    started = datetime.datetime.now().isoformat(timespec="seconds")
    return {"started": started, "seed": settings.seed, **found, "processes": group.size, "data": parts.fingerprint}


def hyperparameters(settings: Settings, varied: Sequence[str]) -> dict[str, bool | float | str]:
    """For their table: in a sweep what varies, else every key, each group as the name of its option; no nulls."""
    every = {
        key.removesuffix(".name"): value if isinstance(value, bool | int | float) else str(value)
        for key, value in flatten(settings.to_dict()).items()
        if value is not None
    }
    return {key: every[key] for key in varied if key in every} or every


def final_metrics(summary: Mapping[str, Any]) -> dict[str, float]:
    """The best, the last and the test metrics of a summary, for the table of hyper-parameters."""
    found = {
        name.replace("val/", f"{which}/"): value
        for which in ("best", "last")
        for name, value in summary[which].items()
        if "/" in name
    }
    return {**found, **{name: value for name, value in summary.items() if name.startswith("test/")}}
