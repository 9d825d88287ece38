"""Build the components that a config names: data, model, loss, optimizer, scheduler, device."""

from __future__ import annotations

import dataclasses
import math
import os
import random
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from trainer.compose.plugins import load_metrics
from trainer.config import Component, ConfigError, Settings
from trainer.config.messages import did_you_mean
from trainer.config.registry import LoadError, Registry
from trainer.data import Data, ReadOptions
from trainer.data.loader import Loaders, Share, make_loaders
from trainer.dataset import DATASETS
from trainer.device import DEVICES
from trainer.device._placement import Placement
from trainer.engine import Monitor
from trainer.loss import LOSSES, Loss
from trainer.memory import collect_garbage, keep_freed_memory
from trainer.metrics import Metric, choose
from trainer.model import MODELS
from trainer.optimizer import OPTIMIZERS
from trainer.processes.team import processes
from trainer.scheduler import SCHEDULERS, Horizon, Scheduler
from trainer.spec import Spec

EVALUATED = 128  # samples of a batch: with more, the models here are hardly faster
MAX_TIMES = 8  # as many as in training, which keeps what an evaluation does not
MAX_VALUES = 2**20  # that a model reads in such a batch


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
        data = build(DATASETS, settings.dataset, settings.seed, options=ReadOptions())
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


def build(registry: Registry, config: Component, *runtime: Any, **optional: Any) -> Any:
    """Build a component; a ValueError of its constructor is about the config, so it says which group.

    Raises:
        ConfigError: the component refuses its keys.
    """
    try:
        return registry.build(config, *runtime, **optional)
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
    return max(batch_size, min(EVALUATED, MAX_TIMES * batch_size, MAX_VALUES // math.prod(spec.shape)))


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
