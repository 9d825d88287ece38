"""Build the components that a config names: data, model, loss, optimizer, scheduler, device."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch import nn

from trainer.compose.plugins import load_metrics
from trainer.config import Component, ConfigError, Settings
from trainer.config.errors import collected
from trainer.data import Data, ReadOptions
from trainer.data.loader import Share, make_loaders
from trainer.data.random_numbers import seed_all
from trainer.dataset import DATASETS
from trainer.device import DEVICES
from trainer.device._kernels import choose_kernels, choose_precision, choose_tf32
from trainer.device._placement import Placement
from trainer.engine import Parts
from trainer.loss import LOSSES
from trainer.loss._members import for_members
from trainer.loss._probabilities import check_probabilities
from trainer.memory import collect_garbage, keep_freed_memory
from trainer.metrics import choose_metrics, choose_monitor, fixed_thresholds
from trainer.model import MODELS
from trainer.model._batch_norm import check_variance
from trainer.model._sequence import check_forward
from trainer.optimizer import OPTIMIZERS
from trainer.processes.team import get_team
from trainer.scheduler import SCHEDULERS, Horizon, Scheduler
from trainer.spec import Spec, evaluation_batch_size


def assemble(settings: Settings, *, alone: bool = False) -> Parts:
    """Build everything that a config names, without writing to the run directory.

    Args:
        alone: build for a single process even if the config asks for several.

    Raises:
        ConfigError: parts of the config do not fit together; the error lists every problem found.
    """
    _prepare_process(settings)
    problems: list[str] = []
    with collected(problems):
        placement, precision, share = _place(settings, alone)
    with collected(problems):
        data = _read(settings, alone)
        with collected(problems):
            load_metrics([*(settings.metrics or ()), settings.monitor or ""])
            metrics = choose_metrics(settings.metrics, data.spec)
            monitor = choose_monitor(settings.monitor, metrics, data.spec)
            thresholds = fixed_thresholds(settings.thresholds, data.spec)
        model, loss, spec = build_model(settings.model, settings.loss, data.spec)
    if problems:
        raise ConfigError(*problems)
    check_probabilities(loss, spec, settings, [name for name, each in metrics.items() if each.of == "probabilities"])
    check_variance(model, data, settings, placement.normalised_together(min(share.micro_batch_size, len(data.train))))
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
    optimizer = OPTIMIZERS.build(settings.optimizer, [p for p in model.parameters() if p.requires_grad])
    total_steps = settings.epochs * len(loaders.train)
    if settings.max_steps is not None:
        total_steps = min(total_steps, settings.max_steps)
    scheduler = SCHEDULERS.build(settings.scheduler, Horizon(total_steps, len(loaders.train)))
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
        thresholds=thresholds,
        fingerprint=data.fingerprint(),
    )


def _prepare_process(settings: Settings) -> None:
    """Apply the settings that are global to the process: allocator, random seeds, kernels, garbage collector."""
    keep_freed_memory(settings.keep_freed_memory)
    seed_all(settings.seed)
    choose_kernels(settings.deterministic)
    collect_garbage()  # enables the collector again, because all large imports are done


def _place(settings: Settings, alone: bool) -> tuple[Placement, str, Share]:
    """Choose the placement of the model, the precision, and this process's share of every batch."""
    world = get_team().world
    share = Share(settings.micro_batch_size, world.rank, world.size)
    placement = build_placement(settings.device)
    if alone and placement.processes:
        placement = Placement(placement.device)
        share = Share(max(1, settings.micro_batch_size // world.size))
    precision = choose_precision(settings.precision, placement.device)
    choose_tf32(precision)
    return placement, precision, share


def _read(settings: Settings, alone: bool) -> Data:
    """Build and check the data set."""
    data = build_data(settings.dataset, settings.seed, ReadOptions())
    data.check()
    torch.backends.cudnn.benchmark &= not data.spec.varying  # it would measure kernels anew for each length
    if alone and data.in_memory:  # another engine may still have all samples on the device
        data = dataclasses.replace(data, in_memory="auto")
    return data.counted()


def _check_without_val(settings: Settings, scheduler: Scheduler) -> None:
    """Raise ConfigError, with one line for each key, if keys are set that need a val split."""
    useless = {
        "patience": settings.patience is not None,
        "monitor": settings.monitor is not None,
        "calibrate": settings.calibrate != "none",
        "checkpoint.keep": settings.checkpoint["keep"] > 1,
        f"scheduler={settings.scheduler['name']}": scheduler.observes,
    }
    problems = [f"{key}: needs a val split, but dataset.val_fraction is 0" for key, used in useless.items() if used]
    if problems:
        raise ConfigError(*problems)


def build_data(config: Component, seed: int, options: ReadOptions) -> Data:
    """Build a data set; raise ConfigError also if the component returns something else."""
    data = DATASETS.build(config, seed, options=options)
    if not isinstance(data, Data):
        raise ConfigError(f"dataset={config['name']}: has to return a Data, got {type(data).__name__}")
    return data


def build_model(model: Component, loss: Component, spec: Spec) -> tuple[nn.Module, Any, Spec]:
    """Build a model and its loss; return them, and the spec of the model, whose outputs depend on the loss."""
    built = LOSSES.build(loss, spec)
    spec = dataclasses.replace(spec, num_outputs=built.num_outputs, sigmoid=built.sigmoid)
    network = MODELS.build(model, spec)
    check_forward(network, model["name"], spec)
    built, spec = for_members(network, built, spec)
    return network, built, spec


def build_placement(config: Component) -> Placement:
    """Build a device; return where it places the model, also if the component returns a device alone."""
    found = DEVICES.build(config)
    placement = Placement(found) if isinstance(found, torch.device) else found
    if placement.device.type == "cuda":
        torch.cuda.set_device(placement.device)  # torch checks, pins memory for and draws from the current GPU
    return placement
