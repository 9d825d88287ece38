"""One run: config -> components -> ``Engine.fit()`` -> summary."""

from __future__ import annotations

import contextlib
import logging
import math
import os
import sys
import tempfile
import time
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

from safetensors.torch import load_file
from torch import nn

from trainer.build import Parts, assemble, build
from trainer.checkpoint import BEST_WEIGHTS, Checkpoints, Following, Found
from trainer.compose import plugins
from trainer.config import ConfigError, Job, NotFiniteError, RunError, Settings, errors
from trainer.data.loader import watched_workers
from trainer.engine import Engine
from trainer.find_nonfinite import explain
from trainer.logger import LOGGERS, Logger
from trainer.logger._jsonl import JSONL
from trainer.metrics import Sums
from trainer.processes.group import Group
from trainer.processes.launch import launch, needed
from trainer.processes.signals import INTERRUPTED, Interrupts, Stopped, seconds
from trainer.processes.team import LostError, Team, processes
from trainer.processes.world import last_failure
from trainer.recorder import Recorder
from trainer.reporting import (
    announce,
    conclude,
    describe_environment,
    final_metrics,
    hyperparameters,
    one_line,
    reported,
    show_samples,
    summary_so_far,
)
from trainer.runs import resume
from trainer.runs.directory import CHECKPOINTS, CONFIG, ENVIRONMENT, SUMMARY, RunDirectory
from trainer.runs.directory import METRICS as METRICS_FILE
from trainer.scheduler import SCHEDULERS, Horizon, Scheduler

log = logging.getLogger("trainer")


class Outcome(NamedTuple):
    """What a run ends with: what summary.json holds, and the model with the best weights, in evaluation mode."""

    summary: dict[str, Any]
    model: nn.Module


def run(job: Job | Settings) -> Outcome:
    """Train, test with the best weights, and leave a run directory: ``summary, model = run(compose("epochs=3"))``.

    Args:
        job: what to train, as ``compose`` makes it; settings alone are a job for which nothing was typed.

    Raises:
        ConfigError: the config cannot work; nothing was written.
        RunError: anything else went wrong; one line that names the log with the traceback. The run directory
            and its checkpoints stay.
    """
    job = Job(job) if isinstance(job, Settings) else job
    if needed(job.settings):
        summary = launch(job)
        return Outcome(summary, _best_model(job.settings, summary))
    crew = processes(seconds(job.settings.device.get("timeout", "30m")))
    with contextlib.ExitStack() as stack:
        started = time.perf_counter()
        if job.settings.dry_run:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="train-dry-run-"))
            job = job.replace(max_steps=1, limit_batches=1, run_dir=folder, resume=None)
        job = crew.adapted(job)
        settings = job.settings
        interrupts = stack.enter_context(Interrupts(settings.max_time))
        fixed = job.fixed_run_dir or settings.dry_run
        directory = RunDirectory(settings.run_dir, fixed=fixed, resumes=settings.resume is not None)
        stack.enter_context(reported(directory, job, crew.world.size))
        stack.enter_context(watched_workers())
        stack.enter_context(crew.leading(job))
        notes = resume.check_changes(settings)
        resume.check_links(directory.path)
        parts = assemble(settings)
        stack.callback(parts.loaders.close)
        found = _find_checkpoint(job, parts, directory)
        crew.wait_for_followers(parts.fingerprint, interrupts)
        directory.claim(settings.to_dict(), job.words)
        settings = settings.replace(run_dir=str(directory.path))
        crew.remember(settings.run_dir)
        loggers = stack.enter_context(_open_loggers(settings, directory))
        checkpoints = _checkpoints(settings, parts, loggers.values(), directory, crew.world.size)
        stack.callback(checkpoints.close)
        engine = None
        try:
            with (
                _explained(settings, checkpoints, interrupts),
                crew.group(parts.placement.device, interrupts) as group,
                closing(_make_engine(settings, parts, loggers, checkpoints, interrupts, started, group)) as engine,
            ):
                announce(settings, parts, directory, group)
                if crew.world.attempt > 0 and settings.resume is not None:
                    again, most = crew.world.attempt, crew.world.most_attempts
                    log.info("restart  %d of %d, after %s", again, most, last_failure())
                state = group.broadcast(None if found is None else found.state)
                if found is None or state is None:
                    engine.recorder.load_state_dict({})  # what a run killed before its first checkpoint has left
                    directory.write_json(ENVIRONMENT, describe_environment(settings, parts, directory, group))
                    show_samples(parts, loggers.values())
                else:
                    _go_on(engine, found, checkpoints, directory, parts, notes)
                with _profiled(engine, directory.path):
                    engine.fit()
                tested_step, results = _test(engine, checkpoints, loggers.values())
        finally:
            directory.so_far = {} if engine is None else summary_so_far(engine)
        summary = {
            "state": "finished",
            **directory.so_far,
            "tested_step": tested_step,
            **{f"test/{name}": value for name, value in results.items()},
        }
        directory.write_json(SUMMARY, summary)
        for logger in loggers.values():
            logger.finish(hyperparameters(settings, job.varied), final_metrics(summary))
        conclude(engine, tested_step, results, directory)
        return Outcome({**summary, "run_dir": settings.run_dir}, engine.evaluated.eval())


def follow() -> int:
    """Take part in every job of the process that leads, until there are no more; returns the code to end with."""
    crew = processes()
    assert isinstance(crew, Team)
    _be_quiet()
    try:
        while not isinstance(settings := crew.next_job(), int):
            _take_part(settings, crew)
            crew.until_over()
    except LostError:
        return 1
    except KeyboardInterrupt as stopped:
        return getattr(stopped, "code", INTERRUPTED)
    return settings


def _take_part(settings: Settings, crew: Team) -> None:
    """A follower's part in a job. What goes wrong, the leader hears, and reports.

    Raises:
        Stopped: this process was asked to end, before all began.
    """
    begun = False
    with contextlib.ExitStack() as stack:
        interrupts = stack.enter_context(Interrupts())
        try:
            stack.enter_context(watched_workers())
            plugins.require(settings.plugins)
            parts = assemble(settings)
            stack.callback(parts.loaders.close)
            begun = crew.ready(parts.fingerprint, interrupts)
            if not begun:
                return
            with (
                crew.group(parts.placement.device, interrupts) as group,
                closing(_make_engine(settings, parts, {}, Following(), interrupts, 0.0, group)) as engine,
            ):
                state = group.broadcast(None)
                if state is not None:
                    engine.load(state)
                engine.fit()
                _evaluate_best(engine, None)
        except ConfigError as error:
            crew.ready({}, interrupts, error.problems)
        except NotFiniteError:
            pass  # known to all, and the leader explains it
        except Stopped:
            if not begun:
                raise
        except Exception as error:
            if isinstance(error, LostError) or interrupts.asked is None:
                crew.fail(one_line(error), error)
            else:  # torchrun ends all, as one has failed
                interrupts.check()


def _be_quiet() -> None:
    """The leader speaks for all; what torch's own code says of a crash is still heard."""
    logging.getLogger().addHandler(logging.NullHandler())
    warnings.simplefilter("ignore")
    sys.stdout = open(os.devnull, "w")  # noqa: PTH123, SIM115


def _best_model(settings: Settings, summary: Mapping[str, Any]) -> nn.Module:
    """The model that other processes have trained, on the CPU."""
    alone = settings.replace(device={"name": "cpu", "threads": None}, precision="fp32")
    model = assemble(alone).model
    if not settings.dry_run:
        model.load_state_dict(load_file(Path(summary["run_dir"]) / CHECKPOINTS / BEST_WEIGHTS))
    return model.eval()


def _find_checkpoint(job: Job, parts: Parts, directory: RunDirectory) -> Found | None:
    """The checkpoint that the run goes on from; None where it starts.

    Raises:
        ConfigError: it cannot go on: what is there is damaged, or the data or the model's code has changed.
    """
    settings = job.settings
    if settings.resume is None:
        return None
    folder = directory.path
    found = Checkpoints(folder / CHECKPOINTS, keep=1, extra={}).newest()
    if found is None:
        # one evaluation may stand there before its checkpoint does, and in the background a second
        if directory.read_json(SUMMARY).get("state") == "finished" or directory.num_evaluations(METRICS_FILE) > 2:
            raise ConfigError(
                f"resume: {folder} has trained, but its checkpoints are gone; bring them back, or start another run"
            )
        if (folder / CONFIG).exists() or not job.varied:  # in a sweep a run starts, as a rule
            log.info("resume   no checkpoint in %s yet: starting", folder)
        return None
    if found.state.get("fingerprint") != parts.fingerprint:
        raise ConfigError(f"dataset: the samples are not those that the run {folder} was started with")
    step, total, progress = (found.state.get(name) for name in ("step", "total_steps", "progress"))
    numbers = isinstance(step, int) and isinstance(total, int)
    if not (numbers and isinstance(progress, dict) and progress.get("batch") in range(len(parts.loaders.train) + 1)):
        raise ConfigError(f"resume: {folder / CHECKPOINTS / found.name} is no checkpoint of this version")
    made = {"epochs": (progress.get("epoch"), settings.epochs), "max_steps": (step, settings.max_steps)}
    for key, (count, limit) in made.items():
        if limit is not None and count is not None and count > limit:
            raise ConfigError(f"{key}: the run {folder} has made {count} and cannot become {limit}; start another run")
    try:
        parts.model.load_state_dict(found.state["model"])
    except (KeyError, RuntimeError, TypeError, AttributeError) as error:
        reason = " ".join(str(error).split())[:300]
        raise ConfigError(f"model: the checkpoint of {folder} does not fit it any more: {reason}") from error
    return found


def _go_on(
    engine: Engine,
    found: Found,
    checkpoints: Checkpoints,
    directory: RunDirectory,
    parts: Parts,
    notes: Sequence[str],
) -> None:
    """Bring everything back to where the checkpoint was saved, and say so.

    Raises:
        RunError: it was saved by a version with other contents.
    """
    try:
        engine.load(found.state)
        notes = [*notes, *_new_schedule(engine.settings, parts, found), *_new_processes(engine.group, found)]
        done = engine.is_done()
    except (KeyError, ValueError, TypeError, RuntimeError, AttributeError, OverflowError) as error:
        raise RunError(f"the checkpoint {found.name} does not fit this version: {errors.one_line(error)}") from error
    progress = engine.progress
    checkpoints.adopt(found, progress.best.get("step"))
    now = describe_environment(engine.settings, parts, directory, engine.group)
    before = directory.read_json(ENVIRONMENT) or now
    earlier = before.get("resumed")
    other = {name: value for name, value in now.items() if before.get(name) != value}
    attempts = [*(earlier if isinstance(earlier, list) else []), {"step": progress.step, **other}]
    directory.write_json(ENVIRONMENT, {**before, "resumed": attempts})
    for line in found.damaged:
        log.warning("warning  %s; going on from %s", line, found.name)
    for line in notes:
        log.info("resume   %s", line)
    if done:
        log.info("resume   nothing left to train after step %d; more epochs= would go on", progress.step)
    else:
        log.info("resume   after step %d, in epoch %d", progress.step, progress.epoch + 1)


def _new_schedule(settings: Settings, parts: Parts, found: Found) -> list[str]:
    """A line where the rest of a schedule that depends on the length is another one now."""
    step, before = found.state["step"], found.state["total_steps"]
    then: Scheduler = build(SCHEDULERS, settings.scheduler, Horizon(before, len(parts.loaders.train)))
    if before == parts.total_steps or then.factor(step) == parts.scheduler.factor(step):
        return []
    name = settings.scheduler["name"]
    return [f"scheduler={name} stretches over {parts.total_steps} steps now instead of {before}"]


def _new_processes(group: Group, found: Found) -> list[str]:
    """A line where the number of processes is another one now."""
    before = found.state.get("processes", 1)
    if before == group.size:
        return []
    now = "1 process" if group.size == 1 else f"{group.size} processes"
    return [f"{now} instead of {before}: the same training, no longer bit for bit"]


@contextlib.contextmanager
def _explained(settings: Settings, checkpoints: Checkpoints, interrupts: Interrupts) -> Iterator[None]:
    """Where a number is none, say where that began: the steps since the last checkpoint are done again.

    Of several processes, the first does them alone, in micro-batches as large as its share was.
    """
    try:
        yield
    except NotFiniteError as error:
        try:
            parts = assemble(settings, alone=True)
            other = _make_engine(settings, parts, {}, Following(), interrupts, 0.0, Group())
            found = checkpoints.newest()
            if found is not None:
                other.load(found.state)
            with closing(other.loaders):
                explained = explain(error, other)
        except Exception as failed:  # out of memory, perhaps; what is known has to be said all the same
            log.debug("cannot find where it began", exc_info=failed)
            raise error from failed
        raise explained from error


@contextlib.contextmanager
def _open_loggers(settings: Settings, directory: RunDirectory) -> Iterator[dict[str, Logger]]:
    """metrics.jsonl and the chosen loggers, by name; written out whatever happens."""
    loggers: dict[str, Logger] = {METRICS_FILE: JSONL(directory.path)}
    loggers |= {name: build(LOGGERS, config, directory.path) for name, config in settings.logger.items()}
    try:
        yield loggers
    finally:
        for logger in loggers.values():
            try:
                logger.close()
            except Exception as error:  # on a full disk; the reason is reported once, by what failed first
                log.debug("closing %s: %s", logger, error)


def _checkpoints(
    settings: Settings, parts: Parts, loggers: Iterable[Logger], directory: RunDirectory, num_processes: int
) -> Checkpoints:
    extra = {
        "config": settings.to_dict(),
        "data": parts.data.preprocessing(),
        "fingerprint": parts.fingerprint,
        "total_steps": parts.total_steps,
        "processes": num_processes,
    }
    return Checkpoints(
        directory.path / CHECKPOINTS,
        keep=settings.checkpoint["keep"],
        extra=extra,
        on_error=settings.checkpoint["on_error"],
        background=settings.checkpoint["async"],
        before=lambda: [path for logger in loggers for path in logger.paths()],
    )


def _make_engine(
    settings: Settings,
    parts: Parts,
    loggers: Mapping[str, Logger],
    checkpoints: Checkpoints | Following,
    interrupts: Interrupts,
    started: float,
    group: Group,
) -> Engine:
    return Engine(
        model=parts.model,
        loss=parts.loss,
        optimizer=parts.optimizer,
        scheduler=parts.scheduler,
        loaders=parts.loaders,
        metrics=parts.metrics,
        monitor=parts.monitor,
        recorder=Recorder(
            loggers,
            num_epochs=-(-parts.total_steps // len(parts.loaders.train)),
            monitor=parts.monitor.name,
            device=parts.placement.device,
            tolerant=settings.checkpoint["on_error"] == "warn",
            shows_bar=group.leads,
            started=started,
        ),
        checkpoints=checkpoints,
        settings=settings,
        interrupts=interrupts,
        spec=parts.spec,
        placement=parts.placement,
        group=group,
        precision=parts.precision,
        total_steps=parts.total_steps,
    )


@contextlib.contextmanager
def _profiled(engine: Engine, run_dir: Path) -> Iterator[None]:
    """Around the training: where ``profile`` is set, some of its steps are measured and shown."""
    settings = engine.settings
    if not settings.profile:
        yield
        return
    from trainer.profiler import Profiled  # only for those who want it

    folder = None if settings.dry_run else run_dir
    with Profiled(engine.loaders.train, engine.total_steps, engine.device, folder) as train:
        engine.loaders = engine.loaders._replace(train=train)
        yield


def _test(engine: Engine, checkpoints: Checkpoints, loggers: Iterable[Logger]) -> tuple[int, dict[str, float]]:
    """Measure the test split, once, with the best weights, which are of a step; keep those weights alone too."""
    found = checkpoints.best()
    step = found.state["step"]
    for line in found.damaged:
        log.warning("warning  %s", line)
    weights = found.state["ema"] if engine.ema is not None else found.state["model"]
    if step == engine.progress.best["step"]:
        checkpoints.save_weights(weights)
    else:
        log.warning("warning  the best weights are lost: testing those of step %d (%s)", step, found.name)
    sums = _evaluate_best(engine, weights)
    results = sums.compute(engine.metrics)
    if not math.isfinite(results["loss"]):
        raise RunError(f"the test loss is {results['loss']} with the weights of step {step}")
    engine.recorder.log_test(results, engine.progress.step)
    if engine.spec.task == "classification":
        for logger in loggers:
            logger.log_confusion(sums.total.cpu(), engine.spec.classes)
    return step, results


def _evaluate_best(engine: Engine, weights: dict[str, Any] | None) -> Sums:
    """The sums of the test split, with weights that one of the processes has."""
    state = engine.group.broadcast(weights)
    assert state is not None
    engine.placement.whole(engine.evaluated).load_state_dict(state)
    return engine.evaluate(engine.loaders.test)
