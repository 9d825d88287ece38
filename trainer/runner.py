"""One run: config -> components -> ``Engine.fit()`` -> summary."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import math
import os
import random
import re
import tempfile
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from trainer.checkpoint import BEST, Checkpoints
from trainer.config import GROUPS, Component, ConfigError, RunError, Settings, did_you_mean, registry
from trainer.data import Data
from trainer.dataset import DATASETS
from trainer.device import DEVICES
from trainer.engine import Engine, Monitor
from trainer.environment import environment
from trainer.loader import Loaders, make_loaders
from trainer.logger import LOGGERS, Logger
from trainer.logger._jsonl import JSONL
from trainer.loss import LOSSES, Loss
from trainer.metrics import Metric, choose
from trainer.model import MODELS
from trainer.optimizer import OPTIMIZERS
from trainer.plugins import load_metrics
from trainer.record import Recorder
from trainer.registry import LoadError, Registry
from trainer.rundir import LOG, RunDirectory
from trainer.scheduler import SCHEDULERS, Horizon, Scheduler
from trainer.spec import Spec

log = logging.getLogger("trainer")

MOST_SAMPLES = 64  # training images that a logger may show


@dataclasses.dataclass(frozen=True)
class Parts:
    """What a config builds."""

    device: torch.device
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
    with contextlib.ExitStack() as stack:
        if settings.dry_run:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="train-dry-run-"))
            settings = settings.replace(max_steps=1, limit_batches=1, run_dir=folder)
        directory = RunDirectory(settings.run_dir, fixed=settings.fixed_run_dir or settings.dry_run)
        stack.enter_context(_reported(directory, settings))
        started = time.perf_counter()
        parts = assemble(settings)
        directory.claim(settings.to_dict(), settings.overrides)
        settings = settings.replace(run_dir=str(directory.path))
        directory.write_json("environment.json", _environment(settings, parts))
        loggers = stack.enter_context(_open_loggers(settings, directory))
        engine = _make_engine(settings, parts, loggers, directory)
        _announce(settings, parts, directory)
        if parts.spec.kind == "image":
            for logger in loggers:
                logger.log_samples(parts.data.train.head(MOST_SAMPLES))
        engine.fit()
        results = _test(engine, loggers)
        summary = _summary(engine, results, time.perf_counter() - started)
        directory.write_json("summary.json", summary)
        for logger in loggers:
            logger.finish(_flat(settings.to_dict()), _numbers(summary))
        _conclude(engine, results, directory)
        return Outcome(summary, engine.evaluated.eval())


def assemble(settings: Settings) -> Parts:
    """Build everything a config names, in the order in which one thing needs another; writes nothing.

    Raises:
        ConfigError: some of it cannot work together; with every mistake that can be seen.
    """
    set_global_state(settings.seed, settings.deterministic)
    mistakes = Mistakes()
    with mistakes:
        device = build(DEVICES, settings.device)
        precision = choose_precision(settings.precision, device)
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
        device,
        seed=settings.seed,
        batch_size=settings.batch_size,
        limit_batches=settings.limit_batches,
        overfit_batches=settings.overfit_batches,
    )
    model, loss = model.to(device), loss.to(device)
    optimizer = build(OPTIMIZERS, settings.optimizer, [p for p in model.parameters() if p.requires_grad])
    total_steps = settings.epochs * len(loaders.train)
    if settings.max_steps is not None:
        total_steps = min(total_steps, settings.max_steps)
    scheduler = build(SCHEDULERS, settings.scheduler, Horizon(total_steps, len(loaders.train)))
    if loaders.val is None:
        _check_without_val(settings, scheduler)
    return Parts(
        device=device,
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
        "checkpoint.keep": settings.checkpoint.keep > 1,
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


def set_global_state(seed: int, deterministic: bool) -> None:
    """Seed Python, NumPy and torch, and choose between repeatable and fastest kernels."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS repeats itself only with it
    torch.use_deterministic_algorithms(deterministic, warn_only=True)
    # a debugging aid that costs time in every step
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cudnn.benchmark = not deterministic


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
    return precision


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
def _reported(directory: RunDirectory, settings: Settings) -> Iterator[RunDirectory]:
    """Turn whatever goes wrong into one line and a record in the run directory."""
    try:
        yield directory
    except ConfigError:
        raise
    except KeyboardInterrupt:
        log.info("stopped  what was saved is in %s", directory.path)
        directory.end("stopped", "interrupted")
        raise
    except Exception as error:
        message = _one_line(error)
        directory.fail(settings.to_dict(), settings.overrides, message, error)
        kept = directory.claimed and not settings.dry_run
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
        return f"{error.strerror}: {error.filename}" if error.filename else error.strerror
    text = " ".join(str(error).split())
    return text if isinstance(error, RunError) else f"{type(error).__name__}: {text}".rstrip(": ")


@contextlib.contextmanager
def _open_loggers(settings: Settings, directory: RunDirectory) -> Iterator[list[Logger]]:
    """metrics.jsonl and the chosen loggers; written out whatever happens."""
    loggers: list[Logger] = [JSONL(directory.path)]
    loggers += [build(LOGGERS, config, directory.path) for config in settings.logger.values()]
    try:
        yield loggers
    finally:
        for logger in loggers:
            try:
                logger.close()
            except Exception as error:  # on a full disk; the reason is reported once, by what failed first
                log.debug("closing %s: %s", logger, error)


def _make_engine(settings: Settings, parts: Parts, loggers: Sequence[Logger], directory: RunDirectory) -> Engine:
    extra = {"config": settings.to_dict(), "data": parts.data.preprocessing()}
    epochs = -(-parts.total_steps // len(parts.loaders.train))
    return Engine(
        model=parts.model,
        loss=parts.loss,
        optimizer=parts.optimizer,
        scheduler=parts.scheduler,
        loaders=parts.loaders,
        metrics=parts.metrics,
        monitor=parts.monitor,
        recorder=Recorder(loggers, num_epochs=epochs, monitor=parts.monitor.name),
        checkpoints=Checkpoints(directory.path / "checkpoints", settings.checkpoint.keep, extra),
        settings=settings,
        spec=parts.spec,
        device=parts.device,
        precision=parts.precision,
        total_steps=parts.total_steps,
    )


def _test(engine: Engine, loggers: Sequence[Logger]) -> dict[str, float]:
    """Measure the test split, once, with the best weights; keep those weights alone too."""
    state = engine.checkpoints.load(BEST)
    weights = state["ema"] if engine.ema is not None else state["model"]
    engine.checkpoints.save_weights(weights)
    engine.evaluated.load_state_dict(weights)
    sums = engine.evaluate(engine.loaders.test)
    results = sums.compute(engine.metrics)
    if not math.isfinite(results["loss"]):
        raise RunError(f"the test loss is {results['loss']} with the weights of step {engine.progress.best['step']}")
    engine.recorder.log_test(results, engine.progress.step)
    if engine.spec.task == "classification":
        for logger in loggers:
            logger.log_confusion(sums.total.cpu(), engine.spec.classes)
    return results


def _summary(engine: Engine, results: Mapping[str, float], seconds: float) -> dict[str, Any]:
    recorder = engine.recorder
    return {
        "state": "finished",
        "monitor": f"val/{engine.monitor.name}",
        "best": engine.progress.best,
        **{f"test/{name}": value for name, value in results.items()},
        "steps": engine.progress.step,
        "epochs": engine.progress.epoch,
        "seconds": round(seconds, 3),
        "samples_per_second": round(recorder.samples / max(recorder.training_seconds, 1e-9), 1),
    }


def _announce(settings: Settings, parts: Parts, directory: RunDirectory) -> None:
    """The block at the start."""
    parameters = sum(parameter.numel() for parameter in parts.model.parameters())
    sizes = ", ".join(f"{name} {len(split):,}" for name, split in parts.data.splits().items())
    count = torch.get_num_threads()
    threads = f" ({count} thread{'s' * (count > 1)})" if parts.device.type == "cpu" else ""
    log.info("model    %s, %s parameters", settings.model["name"], f"{parameters:,}")
    log.info("data     %s: %s; %s", settings.dataset["name"], parts.spec, sizes)
    log.info("device   %s%s, %s", parts.device, threads, parts.precision)
    if not settings.dry_run:
        log.info("run      %s", directory.path)


def _conclude(engine: Engine, results: Mapping[str, float], directory: RunDirectory) -> None:
    """The lines at the end."""
    metrics = "  ".join(f"{name} {value:.4f}" for name, value in results.items())
    log.info("test     %s  (weights of epoch %s)", metrics, engine.progress.best["epoch"])
    if engine.settings.dry_run:
        log.info("dry run: a step, an evaluation, a checkpoint and a test went well; nothing is kept")
        return
    log.info("run      %s", directory.path)
    if "tensorboard" in engine.settings.logger:
        log.info("next     tensorboard --logdir %s", directory.path)


def _environment(settings: Settings, parts: Parts) -> dict[str, Any]:
    return {"seed": settings.seed, **environment(parts.device), "data": parts.data.fingerprint()}


def _flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, bool | float | str]:
    """``{"optimizer": {"lr": 0.1}}`` -> ``{"optimizer.lr": 0.1}``; nulls are left out, texts stay."""
    flat: dict[str, bool | float | str] = {}
    for key, value in config.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{key}.")
        elif value is not None:
            flat[prefix + key] = value if isinstance(value, bool | int | float) else str(value)
    return flat


def _numbers(summary: Mapping[str, Any]) -> dict[str, float]:
    """The best and the final metrics of a summary, for the table of hyper-parameters."""
    best = {name.replace("val/", "best/"): value for name, value in summary["best"].items() if "/" in name}
    return {**best, **{name: value for name, value in summary.items() if name.startswith("test/")}}
