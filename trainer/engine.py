"""The only training loop: ``fit`` runs epochs, evaluations and checkpoints, ``train_step`` does an optimizer step."""

from __future__ import annotations

import contextlib
import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from trainer.averaging import Ema
from trainer.checkpoint import Checkpoints, NoCheckpoints, Progress, RandomStates, Stateful
from trainer.config import NotFiniteError, RunError, Settings
from trainer.data import Data
from trainer.data.loader import Batch, Loader, Loaders
from trainer.device._kernels import autocast
from trainer.device._placement import Placement, for_kernels
from trainer.logger import Logger
from trainer.loss import Loss
from trainer.metrics import Calibration, Metric, Monitor, Sums, choose_on_val
from trainer.processes.group import Group
from trainer.processes.signals import Interrupts, Stopped
from trainer.recorder import Recorder, Skipper, Window
from trainer.scheduler import Scheduler
from trainer.spec import Spec

log = logging.getLogger("trainer")


@dataclass(frozen=True)
class Parts:
    """The objects that ``trainer.build.assemble`` builds from a config."""

    placement: Placement
    precision: str  # fp32, tf32, bf16 or fp16
    data: Data
    spec: Spec  # describes the data, and the model outputs that the loss needs
    loaders: Loaders
    loss: Loss
    model: nn.Module  # called as ``model(*batch.inputs)``
    optimizer: torch.optim.Optimizer
    scheduler: Scheduler
    total_steps: int  # optimizer steps of the whole run
    metrics: dict[str, Metric]  # by name, measured on every split
    monitor: Monitor
    thresholds: tuple[float, ...]  # the score above which each label is predicted; empty without labels
    fingerprint: dict[str, Any]  # of the data, to detect changed data when a run resumes


class Engine:
    """Trains and evaluates one model.

    Args:
        parts: the objects that the config describes.
        settings: the config of the run.
        group: the collectives of the processes that train the model.
        interrupts: handles the signals that end the run.
        checkpoints: saves the state; None in a process that writes no checkpoints.
        loggers: the loggers by name.
        started: the value of ``time.perf_counter()`` at the start of the run; None for the current time.
    """

    def __init__(
        self,
        parts: Parts,
        settings: Settings,
        group: Group,
        interrupts: Interrupts,
        checkpoints: Checkpoints | None = None,
        loggers: Mapping[str, Logger] | None = None,
        started: float | None = None,
    ) -> None:
        self.parts, self.settings, self.group, self.interrupts = parts, settings, group, interrupts
        self.spec, self.loaders, self.model, self.loss = parts.spec, parts.loaders, parts.model, parts.loss
        self.optimizer, self.scheduler, self.total_steps = parts.optimizer, parts.scheduler, parts.total_steps
        self.metrics, self.monitor, self.thresholds = parts.metrics, parts.monitor, parts.thresholds
        self.calibration: Calibration | None = None
        self.placement, self.device = parts.placement, parts.placement.device
        self.checkpoints = checkpoints or NoCheckpoints()
        self.recorder = _make_recorder(parts, settings, group, loggers or {}, started)
        self.progress = Progress()
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=parts.precision == "fp16")
        if self.scaler.is_enabled():  # the scaler skips a step that overflows; a fused kernel would skip only a part
            self.optimizer._step_supports_amp_scaling = False  # type: ignore[attr-defined]
        self.ema = Ema(self.model, settings.ema) if settings.ema is not None else None
        if settings.compile:
            self.model.compile()  # in place, so that the keys of the state dict do not change
        self.compiled_sizes = set[int]()  # the batch sizes that the model has been compiled for
        averaged = None if self.ema is None else self.ema.model
        self.wrapped = self.placement.wrap(self.model, averaged, self.optimizer)
        self.parameters = [p for p in self.model.parameters() if p.requires_grad]
        self.base_lrs = [group["lr"] for group in self.optimizer.param_groups]
        self.window = Window(Sums(self.spec, self.device, self.loss.scores), group)
        self.epoch_sums = Sums(self.spec, self.device, self.loss.scores)
        self.skipper: Skipper | None = None
        if settings.on_nonfinite == "skip":
            self.skipper = Skipper(self.model, self.window, self.progress, group, self.scaler, self.loaders.train)

    @property
    def state(self) -> dict[str, Stateful]:
        """The objects that a checkpoint holds, by name; their ``state_dict`` is a collective call of all processes."""
        objects: dict[str, Stateful | None] = {
            "model": self.placement.gathered(self.model),
            "optimizer": self.placement.gathered(self.optimizer),
            "scheduler": self.scheduler,
            "scaler": self.scaler,
            "ema": None if self.ema is None else self.placement.gathered(self.ema.model),
            "progress": self.progress,
            "ranking": self.checkpoints,
            "window": self.group.reduced(self.window.sums),
            "epoch": self.epoch_sums,
            "recorder": self.recorder,
            "random": RandomStates(self.placement.gpus),
        }
        return {name: item for name, item in objects.items() if item is not None}

    def load(self, state: Mapping[str, Any]) -> None:
        """Load the state dicts of a checkpoint into the objects of ``state``."""
        state = {**state, "optimizer": for_kernels(state["optimizer"], self.optimizer)}
        for name, item in self.state.items():
            item.load_state_dict(state[name])

    def close(self) -> None:
        """Remove the progress bar, and release the wrapped model, which holds connections to other processes."""
        self.recorder.close()
        self.wrapped = self.model

    def fit(self) -> None:
        """Train until all steps are done and evaluated, or ``patience`` evaluations in a row brought no new best.

        Raises:
            RunError: a loss or weight is NaN or infinite, the model does not fit the loss, or a checkpoint could not be
                written. Earlier checkpoints stay.
            Stopped: a signal asked the run to end; the state has been saved.
        """
        progress, every = self.progress, self.settings.checkpoint["every_steps"]
        self.model.train()
        try:
            while not self.is_done():
                steps = max(0, min(self.total_steps - progress.step, len(self.loaders.train) - progress.batch))
                batches = self.loaders.train.epoch(progress.epoch, progress.batch)
                self.recorder.start_epoch(progress.epoch + 1, progress.batch + steps, progress.batch, progress.step)
                self.group.reset_pace()
                for batch in self.recorder.timed(batches, steps):
                    with self.undivided(batch):
                        self.train_step(batch)
                        self.recorder.count_step(batch.whole.shape[0], self.window.losses)
                        if self.is_log_step():
                            self.log_window()
                        # a longer run goes on from an early end without the point and the evaluation that follow it
                        if self.ends_early() or (every is not None and progress.step % every == 0):
                            self.save()
                self.end_epoch()
        except Stopped as stopped:
            if stopped.whole:
                self.save(final=True)
            raise
        self.checkpoints.wait()
        if progress.step < self.total_steps:
            log.info("stopped  no better val/%s in %d evaluations", self.monitor.name, self.settings.patience)

    @contextlib.contextmanager
    def undivided(self, batch: Batch) -> Iterator[None]:
        """Defer signals until the step on ``batch`` is complete.

        A step that compiles the model may take minutes, so a signal interrupts it immediately. The state is saved
        before this step, and a resumed run repeats it.
        """
        size = batch.whole.shape[0]
        if not self.settings.compile or size in self.compiled_sizes:
            with self.interrupts.held:
                yield
            return
        self.save()
        try:
            yield
        except Stopped as stopped:
            stopped.whole = False
            raise
        self.compiled_sizes.add(size)

    def is_done(self) -> bool:
        """Return whether all steps are done and evaluated, or the last ``patience`` evaluations brought no new best."""
        progress, patience = self.progress, self.settings.patience
        out_of_patience = patience is not None and progress.waited >= patience
        return out_of_patience or (progress.step >= self.total_steps and progress.evaluated == progress.step)

    def ends_early(self) -> bool:
        """Return whether the last step of the run is done and lies within an epoch, as ``max_steps`` allows it."""
        return self.progress.step == self.total_steps and 0 < self.progress.batch < len(self.loaders.train)

    def train_step(self, batch: Batch) -> None:
        """Do one optimizer step: forward, loss, backward, clip, update; only fp16 and a skipper wait for the device."""
        progress, window = self.progress, self.window
        self.set_learning_rate(progress.step)
        self.group.seed(self.settings.seed, progress.step)
        if self.skipper is not None:
            self.skipper.snapshot()
        for number, part in enumerate(batch.split(), 1):
            last = number == len(batch.sizes)
            with self.placement.exchanging(self.wrapped, last=last, counts=part.counts, all_count=part.all_count):
                outputs, loss, size = self.forward(self.wrapped, part)
                self.scaler.scale(self.scaled(loss, size, part)).backward()
            window.add(progress.step + 1, loss.detach(), size, outputs.detach(), part)
        progress.step, progress.batch = progress.step + 1, progress.batch + 1
        self.scaler.unscale_(self.optimizer)
        if self.settings.clip_norm is not None:
            window.gradient_norm = nn.utils.clip_grad_norm_(self.parameters, self.settings.clip_norm)
        elif self.is_log_step() or self.ends_early() or self.skipper is not None:
            window.gradient_norm = nn.utils.get_total_norm([p.grad for p in self.parameters if p.grad is not None])
        window.gradient_norm = self.placement.full(window.gradient_norm)
        if self.skipper is None or not self.skipper.should_skip():
            self.scaler.step(self.optimizer)
            if self.ema is not None:
                self.ema.update(progress.step)
        self.scaler.update()
        self.optimizer.zero_grad()

    def scaled(self, loss: Tensor, size: Tensor | int, part: Batch) -> Tensor:
        """Scale a micro-batch's mean loss by its share of the whole batch, and by the number of processes.

        Gradients are summed over micro-batches and averaged over processes, so the scaled losses, summed and averaged
        in the same way, have to be the mean loss of the whole batch.
        """
        if part.num_pieces == 1:
            return loss
        return loss * (size * self.group.size / self.loss.size(part.whole) if part.counts else 0)

    def set_learning_rate(self, step: int) -> None:
        """Set each parameter group's learning rate to its base rate times the schedule's factor."""
        factor = self.scheduler.factor(step)
        for group, base in zip(self.optimizer.param_groups, self.base_lrs, strict=True):
            group["lr"] = base * factor

    def forward(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor, Tensor | int]:
        """Return the float32 outputs, their mean loss, and the divisor of that mean."""
        with autocast(self.device, self.parts.precision):
            outputs = model(*batch.inputs)
        wanted = (batch.targets.shape[0], self.spec.num_outputs)
        if not isinstance(outputs, Tensor) or outputs.shape != wanted:
            got = tuple(outputs.shape) if isinstance(outputs, Tensor) else type(outputs).__name__
            raise RunError(f"the model returned {got} for a batch of {wanted[0]}; the loss needs {wanted}")
        outputs = outputs.float()
        return outputs, self.loss(outputs, batch.targets), self.loss.size(batch.targets)

    @property
    def evaluated(self) -> nn.Module:
        """The model to evaluate: the one with averaged weights if ``ema`` is set, else the trained one."""
        return self.model if self.ema is None else self.ema.model

    def evaluate(self, loader: Loader, thresholds: Sequence[float] = (), *, keeps_outputs: bool = False) -> Sums:
        """Evaluate a split and return its ``Sums`` over all processes; every sample counts once."""
        model = self.evaluated
        keeps_outputs |= any(metric.of != "sums" for metric in self.metrics.values())
        sums = Sums(self.spec, self.device, self.loss.scores, thresholds, keeps_outputs=keeps_outputs)
        self.group.broadcast_buffers(model)
        model.eval()
        self.group.reset_pace()
        with self.placement.evaluating(), torch.random.fork_rng(self.placement.gpus):  # keeps the states of training
            for batch in loader.epoch():
                for part in batch.split():
                    outputs, loss, size = self.forward(model, part)
                    if part.counts:
                        sums.update(loss, size, outputs, part.targets)
                self.interrupts.listen()
        model.train()
        self.group.add(sums)
        return sums

    def test(self, weights: dict[str, Any] | None) -> Sums:
        """Choose on val, and evaluate test, with the weights that rank 0 passes; other ranks pass None."""
        state = self.group.broadcast(weights)
        assert state is not None
        self.placement.gathered(self.evaluated).load_state_dict(state)
        if self.loaders.val is not None:
            val = partial(self.evaluate, self.loaders.val, keeps_outputs=True)
            found = choose_on_val(val, self.loss, self.settings, self.thresholds)
            self.loss, self.calibration, self.thresholds = found
        return self.evaluate(self.loaders.test, self.thresholds)

    def end_epoch(self) -> None:
        """Evaluate, rank the evaluation, log and save. A resumed run repeats an evaluation that was interrupted."""
        progress, epoch = self.progress, self.progress.epoch + 1
        if progress.logged < progress.step:  # max_steps ends the run within an epoch
            with self.interrupts.held:
                self.log_window()
        # checked before saving, so that weights with NaN do not replace the last good checkpoint
        val = {} if self.loaders.val is None else self.evaluate(self.loaders.val).compute(self.metrics)
        if val and not math.isfinite(val["loss"]):
            raise NotFiniteError(f"the val loss is {val['loss']} after step {progress.step}", progress.step)
        with self.interrupts.held:
            train = self.epoch_sums.compute(self.metrics)
            if progress.batch == len(self.loaders.train):
                progress.epoch, progress.batch = epoch, 0
                self.epoch_sums.reset()
            progress.evaluated = progress.step
            is_best = self.rank_evaluation(val, epoch)
            self.recorder.end_epoch(train, val, progress.step, is_best=is_best)
            self.save(is_best=is_best, early=self.ends_early())

    def save(self, *, is_best: bool = False, early: bool = False, final: bool = False) -> None:
        """Write a checkpoint with ``Checkpoints.save`` after a check of the losses and weights.

        Raises:
            NotFiniteError: a loss or a weight is NaN or infinite.
            RunError: the file could not be written.
        """
        self.window.check_finite()
        finite = torch.stack([weight.isfinite().all() for weight in self.placement.shards(self.parameters)]).all()
        if not all(each for (each,) in self.group.gather(bool(finite))):
            step = self.progress.step
            raise NotFiniteError(f"the weights are no longer finite after step {step}", step)
        self.checkpoints.save(self.state, step=self.progress.step, best=is_best, early=early, final=final)

    def rank_evaluation(self, values: dict[str, float], epoch: int) -> bool:
        """Record an evaluation and return whether it is the best so far, as it always is without a val split."""
        progress = self.progress
        named = {f"val/{name}": value for name, value in values.items()}
        if values:
            self.scheduler.observe(values[self.monitor.name], self.monitor.higher_is_better)
            self.checkpoints.rank(self.monitor.score(values), progress.step)
        best = {name.removeprefix("val/"): value for name, value in progress.best.items()}
        is_best = not best or not values or self.monitor.score(values) > self.monitor.score(best)
        progress.waited = 0 if is_best else progress.waited + 1
        progress.last = {"step": progress.step, "epoch": epoch, **named}
        if is_best:
            progress.best = progress.last
        return is_best

    def is_log_step(self) -> bool:
        """Return whether the current step ends a window: every ``log_every`` steps and at the end of an epoch."""
        progress = self.progress
        return progress.step % self.settings.log_every == 0 or progress.batch == len(self.loaders.train)

    def log_window(self) -> None:
        """Log a point of the training curve; this waits for the device."""
        values = self.window.close(self.metrics, self.epoch_sums)
        self.progress.logged = self.progress.step
        lr = self.optimizer.param_groups[0]["lr"]
        self.recorder.log_training(values, lr, float(self.window.gradient_norm), self.progress.step)


def _make_recorder(
    parts: Parts, settings: Settings, group: Group, loggers: Mapping[str, Logger], started: float | None
) -> Recorder:
    return Recorder(
        loggers,
        num_epochs=-(-parts.total_steps // len(parts.loaders.train)),
        num_steps=parts.total_steps,
        monitor=parts.monitor.name,
        device=parts.placement.device,
        tolerant=settings.checkpoint["on_error"] == "warn",
        shows_bar=group.leads,
        started=started,
    )
