"""One run: config -> components -> ``Engine.fit()`` -> summary."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import logging
import math
import os
import random
import re
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from safetensors.torch import load_file
from torch import nn

from trainer import plugins, resume, survey
from trainer.allocator import keep_freed_memory
from trainer.checkpoint import BEST_WEIGHTS, Checkpoints, Following, Found
from trainer.config import GROUPS, Component, ConfigError, RunError, Settings, did_you_mean, registry
from trainer.data import Data
from trainer.dataset import DATASETS
from trainer.device import DEVICES
from trainer.distributed import Crew, Group, LostError, processes
from trainer.engine import Engine, Monitor
from trainer.environment import environment
from trainer.garbage import collect_garbage
from trainer.interrupt import INTERRUPTED, Interrupts, Stopped, seconds
from trainer.launch import last_failure, launch, needed
from trainer.loader import Loaders, Share, make_loaders, watched_workers
from trainer.logger import LOGGERS, Logger
from trainer.logger._jsonl import FILE as METRICS_FILE
from trainer.logger._jsonl import JSONL
from trainer.loss import LOSSES, Loss
from trainer.metrics import Metric, Sums, choose
from trainer.model import MODELS
from trainer.nonfinite import NotFiniteError, explain
from trainer.optimizer import OPTIMIZERS
from trainer.placement import Placement
from trainer.plugins import load_metrics
from trainer.record import Recorder
from trainer.registry import LoadError, Registry
from trainer.rundir import CHECKPOINTS, CONFIG, ENVIRONMENT, LOG, SUMMARY, RunDirectory
from trainer.runs import flat
from trainer.scheduler import SCHEDULERS, Horizon, Scheduler
from trainer.spec import Spec

log = logging.getLogger("trainer")

MOST_SAMPLES = 64  # training images that a logger may show
EVALUATED = 128  # samples of a batch: with more, the models here are hardly faster
MOST_TIMES = 8  # as many as in training, which keeps what an evaluation does not
MOST_VALUES = 2**20  # that a model reads in such a batch


@dataclasses.dataclass(frozen=True)
class Parts:
    """What a config builds."""

    placement: Placement
    precision: str
    data: Data
    spec: Spec
    loaders: Loaders
    loss: Loss
    model: nn.Module
    optimizer: torch.optim.Optimizer
    scheduler: Scheduler
    total_steps: int
    metrics: dict[str, Metric]
    monitor: Monitor
    fingerprint: dict[str, Any]


class Outcome(NamedTuple):
    """What a run ends with: what summary.json holds, and the model with the best weights, in evaluation mode."""

    summary: dict[str, Any]
    model: nn.Module


def run(settings: Settings) -> Outcome:
    """Train, test with the best weights, and leave a run directory: ``summary, model = run(compose("epochs=3"))``.

    Args:
        settings: a checked config, as ``compose`` makes it.

    Raises:
        ConfigError: the config cannot work; nothing was written.
        RunError: anything else went wrong; one line that names the log with the traceback. The run directory
            and its checkpoints stay.
    """
    if needed(settings):
        summary = launch(settings)
        return Outcome(summary, _best_model(settings, summary))
    crew = processes(seconds(settings.device.get("timeout", "30m")))
    with contextlib.ExitStack() as stack:
        started = time.perf_counter()
        if settings.dry_run:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="train-dry-run-"))
            settings = settings.replace(max_steps=1, limit_batches=1, run_dir=folder, resume=None)
        settings = crew.adapted(settings)
        interrupts = stack.enter_context(Interrupts(settings.max_time))
        fixed = settings.fixed_run_dir or settings.dry_run
        directory = RunDirectory(settings.run_dir, fixed=fixed, resumes=settings.resume is not None)
        stack.enter_context(_reported(directory, settings, crew.world.size))
        stack.enter_context(watched_workers())
        stack.enter_context(crew.leading(settings))
        notes = resume.changes(settings)
        resume.check_links(directory.path)
        parts = assemble(settings)
        stack.callback(parts.loaders.close)
        found = _find_checkpoint(settings, parts, directory)
        crew.wait_for_followers(parts.fingerprint, interrupts)
        directory.claim(settings.to_dict(), settings.overrides)
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
                _announce(settings, parts, directory, group)
                if crew.world.attempt > 0 and settings.resume is not None:
                    again, most = crew.world.attempt, crew.world.most_attempts
                    log.info("restart  %d of %d, after %s", again, most, last_failure())
                state = group.broadcast(None if found is None else found.state)
                if found is None or state is None:
                    engine.recorder.load_state_dict({})  # what a run killed before its first checkpoint has left
                    directory.write_json(ENVIRONMENT, _environment(settings, parts, directory, group))
                    _show_samples(parts, loggers.values())
                else:
                    _go_on(engine, found, checkpoints, directory, parts, notes)
                with _profiled(engine, directory.path):
                    engine.fit()
                tested_step, results = _test(engine, checkpoints, loggers.values())
        finally:
            directory.so_far = {} if engine is None else _so_far(engine)
        summary = {
            "state": "finished",
            **directory.so_far,
            "tested_step": tested_step,
            **{f"test/{name}": value for name, value in results.items()},
        }
        directory.write_json(SUMMARY, summary)
        for logger in loggers.values():
            logger.finish(_hyperparameters(settings), _numbers(summary))
        _conclude(engine, tested_step, results, directory)
        return Outcome({**summary, "run_dir": settings.run_dir}, engine.evaluated.eval())


def follow() -> int:
    """Take part in every job of the process that leads, until there are no more; returns the code to end with."""
    crew = processes()
    assert isinstance(crew, Crew)
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


def _take_part(settings: Settings, crew: Crew) -> None:
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
                crew.fail(_one_line(error), error)
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


def _find_checkpoint(settings: Settings, parts: Parts, directory: RunDirectory) -> Found | None:
    """The checkpoint that the run goes on from; None where it starts.

    Raises:
        ConfigError: it cannot go on: what is there is damaged, or the data or the model's code has changed.
    """
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
        if (folder / CONFIG).exists() or not settings.varied:  # in a sweep a run starts, as a rule
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
        raise RunError(f"the checkpoint {found.name} does not fit this version: {_message(error)}") from error
    progress = engine.progress
    checkpoints.adopt(found, progress.best.get("step"))
    now = _environment(engine.settings, parts, directory, engine.group)
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


def _show_samples(parts: Parts, loggers: Iterable[Logger]) -> None:
    if parts.spec.kind == "image":
        for logger in loggers:
            logger.log_samples(parts.data.train.head(MOST_SAMPLES))


def assemble(settings: Settings, *, alone: bool = False) -> Parts:
    """Build everything a config names, in the order in which one thing needs another; writes nothing.

    Args:
        alone: this process does what otherwise several do.

    Raises:
        ConfigError: some of it cannot work together; with every mistake that can be seen.
    """
    keep_freed_memory(settings.keep_freed_memory)
    seed_all(settings.seed)
    choose_kernels(settings.deterministic)
    collect_garbage()  # with torch's compiler, all that takes long is imported
    here = processes().world
    share = Share(settings.micro_batch_size, here.rank, here.size)
    mistakes = Mistakes()
    with mistakes:
        placement = build(DEVICES, settings.device)
        if isinstance(placement, torch.device):
            placement = Placement(placement)
        if alone and placement.processes:
            placement = Placement(placement.device)
            share = Share(max(1, settings.micro_batch_size // here.size))
        precision = choose_precision(settings.precision, placement.device)
        allow_tf32(precision == "tf32")
    with mistakes:
        data = build(DATASETS, settings.dataset, settings.seed)
        if not isinstance(data, Data):
            raise ConfigError(f"dataset={settings.dataset['name']}: has to return a Data, got {type(data).__name__}")
        data.check()
        with mistakes:
            load_metrics([*(settings.metrics or ()), settings.monitor or ""])
            metrics = choose(settings.metrics, data.spec)
            monitor = choose_monitor(settings.monitor, metrics, data.spec)
        loss = build(LOSSES, settings.loss, data.spec)
        spec = dataclasses.replace(data.spec, num_outputs=loss.num_outputs, sigmoid=loss.sigmoid)
        model = build(MODELS, settings.model, spec)
    mistakes.stop()
    loaders = make_loaders(
        data,
        placement.device,
        seed=settings.seed,
        batch_size=settings.batch_size,
        limit_batches=settings.limit_batches,
        overfit_batches=settings.overfit_batches,
        share=share,
        evaluation_batch_size=evaluation_batch_size(settings.batch_size, spec),
    )
    model, loss = placement.prepare(model).to(placement.device), loss.to(placement.device)
    optimizer = build(OPTIMIZERS, settings.optimizer, [p for p in model.parameters() if p.requires_grad])
    total_steps = settings.epochs * len(loaders.train)
    if settings.max_steps is not None:
        total_steps = min(total_steps, settings.max_steps)
    scheduler = build(SCHEDULERS, settings.scheduler, Horizon(total_steps, len(loaders.train)))
    if loaders.val is None:
        _check_without_val(settings, scheduler)
    return Parts(
        placement=placement,
        precision=precision,
        data=data,
        spec=spec,
        loaders=loaders,
        loss=loss,
        model=model,
        optimizer=optimizer,
        scheduler=scheduler,
        total_steps=total_steps,
        metrics=metrics,
        monitor=monitor,
        fingerprint=data.fingerprint(),
    )


class Mistakes:
    """Collects the mistakes of steps that do not need each other: ``with mistakes:`` around each, then ``stop``."""

    def __init__(self) -> None:
        self._problems: list[str] = []

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, where: object) -> bool:
        if isinstance(error, ConfigError):
            self._problems += error.problems
        return isinstance(error, ConfigError)

    def stop(self) -> None:
        """Raises ConfigError with everything that was collected, if there was anything."""
        if self._problems:
            raise ConfigError(*self._problems)


def _check_without_val(settings: Settings, scheduler: Scheduler) -> None:
    """Raises ConfigError for every key that would silently do nothing without a val split."""
    useless = {
        "patience": settings.patience is not None,
        "monitor": settings.monitor is not None,
        "checkpoint.keep": settings.checkpoint["keep"] > 1,
        f"scheduler={settings.scheduler['name']}": scheduler.observes,
    }
    problems = [f"{key}: needs a val split, but dataset.val_fraction is 0" for key, used in useless.items() if used]
    if problems:
        raise ConfigError(*problems)


def build(registry: Registry, config: Component, *runtime: Any) -> Any:
    """Build a component; a ValueError of its constructor is about the config, so it says which group.

    Raises:
        ConfigError: the component refuses its keys.
    """
    try:
        return registry.build(config, *runtime)
    except LoadError as error:
        raise ConfigError(str(error)) from error
    except ValueError as error:
        raise ConfigError(f"{registry.group}={config['name']}: {error}") from error
    except (RuntimeError, MemoryError, OverflowError, TypeError) as error:
        if not re.search("memory|overflow|too large|must be less than", str(error), flags=re.IGNORECASE):
            raise
        line = str(error).strip().splitlines()[0]
        raise ConfigError(f"{registry.group}={config['name']}: its keys make it too large: {line}") from error


def seed_all(seed: int) -> None:
    """Seed Python, NumPy and torch."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def choose_kernels(deterministic: bool) -> None:
    """Choose between repeatable and fastest kernels."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS repeats itself only with it
    torch.use_deterministic_algorithms(deterministic, warn_only=True)
    # a debugging aid that costs time in every step
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cudnn.benchmark = not deterministic


def allow_tf32(allowed: bool) -> None:
    """Whether a GPU rounds float32 to 10 bits of mantissa before it multiplies; torch's convolutions do by default."""
    torch.backends.cuda.matmul.allow_tf32 = allowed
    torch.backends.cudnn.allow_tf32 = allowed


def choose_precision(precision: str, device: torch.device) -> str:
    """``auto`` is bf16 on a GPU that computes in it, else fp32.

    Raises:
        ConfigError: the device does not have the precision.
    """
    native = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    if precision == "auto":
        return "bf16" if native else "fp32"
    if precision == "bf16" and device.type == "cuda" and not native:
        raise ConfigError("precision: this GPU does not compute in bf16; use fp16 or fp32")
    if precision == "tf32" and not native:
        raise ConfigError("precision: tf32 is how NVIDIA's GPUs since Ampere multiply float32; use fp32")
    return precision


def evaluation_batch_size(batch_size: int, spec: Spec) -> int:
    """That of training; or more, where that takes little memory: without a backward pass small ones only cost time."""
    return max(batch_size, min(EVALUATED, MOST_TIMES * batch_size, MOST_VALUES // math.prod(spec.shape)))


def choose_monitor(name: str | None, metrics: Mapping[str, Metric], spec: Spec) -> Monitor:
    """The val metric that says which weights are best; by default accuracy, else the first metric; for values the loss.

    Raises:
        ConfigError: no metric yields it.
    """
    known = {"val/loss": False, **{f"val/{key}": metric.higher_is_better for key, metric in metrics.items()}}
    if name is None:
        preferred = [name for name in ("accuracy", *metrics) if name in metrics and spec.task != "regression"]
        name = f"val/{[*preferred, 'loss'][0]}"
    if name not in known:
        hint = did_you_mean(name, known) or ";"
        raise ConfigError(f"monitor: {name}: no metric yields it{hint} metrics: {', '.join(known)}")
    return Monitor(name.removeprefix("val/"), known[name])


@contextlib.contextmanager
def _reported(directory: RunDirectory, settings: Settings, num_processes: int) -> Iterator[RunDirectory]:
    """Turn whatever goes wrong into one line and a record in the run directory."""
    try:
        yield directory
    except ConfigError:
        raise
    except KeyboardInterrupt as stopped:
        if directory.claimed or num_processes == 1:  # at the start it may be that another process has failed
            log.info("stopped  %s", stopped or "interrupted")
        if directory.claimed and not settings.dry_run:
            log.info("next     train resume=%s", directory.path)
        directory.end("stopped", str(stopped) or "interrupted")
        raise
    except Exception as error:
        message = _one_line(error)
        if num_processes > 1 and not isinstance(error, RunError):
            message = f"rank 0: {message}"
        if directory.claimed and not directory.path.is_dir():
            message = f"the run directory {directory.path} is gone: {message}"
        directory.fail(settings.to_dict(), settings.overrides, message, error)
        kept = directory.path.is_dir() and directory.claimed and not settings.dry_run
        where = f"the log: {directory.path / LOG}" if kept else "HYDRA_FULL_ERROR=1 shows the traceback"
        raise RunError(f"{message} ({where})") from error
    finally:
        directory.close()


def _one_line(error: Exception) -> str:
    """What went wrong, for the terminal, with the place in the user's own code; the log has the rest."""
    files = [registry(group).file(name) for group in GROUPS for name in registry(group).own()]
    own = {file.resolve() for file in files if file is not None}
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if Path(frame.filename).resolve() in own]
    place = f" in {frames[-1].filename}, line {frames[-1].lineno}" if frames else ""
    return _message(error) + place


def _message(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: {os.fsdecode(error.filename)}" if error.filename else error.strerror
    text = " ".join(str(error).split())
    return text if isinstance(error, RunError) else f"{type(error).__name__}: {text}".rstrip(": ")


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
    from trainer.profile import Profiled  # only for those who want it

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


def _so_far(engine: Engine) -> dict[str, Any]:
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


def _announce(settings: Settings, parts: Parts, directory: RunDirectory, group: Group) -> None:
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
    for line in survey.at_start(parts.data, settings):
        log.warning("warning  %s", line)


def _conclude(engine: Engine, tested_step: int, results: Mapping[str, float], directory: RunDirectory) -> None:
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


def _environment(settings: Settings, parts: Parts, directory: RunDirectory, group: Group) -> dict[str, Any]:
    found = environment(parts.placement.device, directory.path)
    started = datetime.datetime.now().isoformat(timespec="seconds")
    return {"started": started, "seed": settings.seed, **found, "processes": group.size, "data": parts.fingerprint}


def _hyperparameters(settings: Settings) -> dict[str, bool | float | str]:
    """For their table: in a sweep what varies, else every key, each group as the name of its option; no nulls."""
    every = {
        key.removesuffix(".name"): value if isinstance(value, bool | int | float) else str(value)
        for key, value in flat(settings.to_dict()).items()
        if value is not None
    }
    return {key: every[key] for key in settings.varied if key in every} or every


def _numbers(summary: Mapping[str, Any]) -> dict[str, float]:
    """The best, the last and the test metrics of a summary, for the table of hyper-parameters."""
    found = {
        name.replace("val/", f"{which}/"): value
        for which in ("best", "last")
        for name, value in summary[which].items()
        if "/" in name
    }
    return {**found, **{name: value for name, value in summary.items() if name.startswith("test/")}}
