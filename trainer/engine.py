"""The only training loop. ``fit`` says when, ``train_step`` says what."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from trainer.averaging import Ema
from trainer.checkpoint import Checkpoints, Following, Progress, RandomStates, Stateful
from trainer.config import NotFiniteError, RunError, Settings
from trainer.data.loader import Batch, Loader, Loaders
from trainer.device._placement import Placement, for_kernels
from trainer.loss import Loss
from trainer.metrics import Metric, Sums
from trainer.nonfinite import Skipper
from trainer.processes.group import Group
from trainer.processes.signals import Interrupts, Stopped
from trainer.recorder import Recorder, Window
from trainer.scheduler import Scheduler
from trainer.spec import Spec

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}  # of autocast


@dataclass(frozen=True)
class Monitor:
    """What "best" means.

    Args:
        name: of the metric of the val split.
        higher_is_better: which way is good.
    """

    name: str
    higher_is_better: bool

    def score(self, values: Mapping[str, float]) -> tuple[float, float]:
        """Higher is better, whatever the metric, and by the loss where that is the same; nan is worst."""
        value = values[self.name] if self.higher_is_better else -values[self.name]
        return (-math.inf if math.isnan(value) else value, -values["loss"])


@dataclass
class Engine:
    """Trains and evaluates one model; every collaborator is named here and called in plain sight.

    Args:
        model: called as ``model(*batch.inputs)``.
        loss, optimizer, scheduler: as their groups build them.
        loaders: train, val and test.
        metrics: by name, measured on every split.
        monitor: what "best" means.
        recorder: where every number goes.
        checkpoints: where the state goes.
        settings: when things happen.
        interrupts: what may ask the run to end.
        spec: the data's.
        placement: how the model lies on the devices.
        group: the processes that train it.
        precision: fp32, tf32, bf16 or fp16.
        total_steps: optimizer steps of the whole run.
    """

    model: nn.Module
    loss: Loss
    optimizer: torch.optim.Optimizer
    scheduler: Scheduler
    loaders: Loaders
    metrics: dict[str, Metric]
    monitor: Monitor
    recorder: Recorder
    checkpoints: Checkpoints | Following
    settings: Settings
    interrupts: Interrupts
    spec: Spec
    placement: Placement
    group: Group
    precision: str
    total_steps: int

    def __post_init__(self) -> None:
        settings = self.settings
        self.device = self.placement.device
        self.progress = Progress()
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.precision == "fp16")
        if self.scaler.is_enabled():  # a step that overflows is left out whole, by the scaler and not by a fused kernel
            self.optimizer._step_supports_amp_scaling = False  # type: ignore[attr-defined]
        self.ema = Ema(self.model, settings.ema) if settings.ema is not None else None
        if settings.compile:
            self.model.compile()  # in place: the state keeps its names
        self.compiled_sizes = set[int]()  # of the batches that the model was compiled for
        averaged = None if self.ema is None else self.ema.model
        self.wrapped = self.placement.wrap(self.model, averaged, self.optimizer)
        self.parameters = [p for p in self.model.parameters() if p.requires_grad]
        self.base_lrs = [group["lr"] for group in self.optimizer.param_groups]
        self.window = Window(Sums(self.spec, self.device, self.loss.scores), self.group)
        self.epoch_sums = Sums(self.spec, self.device, self.loss.scores)
        self.skipper: Skipper | None = None
        if settings.on_nonfinite == "skip":
            self.skipper = Skipper(self.model, self.window, self.progress, self.group, self.scaler, self.loaders.train)

    @property
    def state(self) -> dict[str, Stateful]:
        """Everything a resumed run needs, by name."""
        objects: dict[str, Stateful | None] = {
            "model": self.placement.whole(self.model),
            "optimizer": self.placement.whole(self.optimizer),
            "scheduler": self.scheduler,
            "scaler": self.scaler,
            "ema": None if self.ema is None else self.placement.whole(self.ema.model),
            "progress": self.progress,
            "ranking": self.checkpoints,
            "window": self.group.total(self.window.sums),
            "epoch": self.epoch_sums,
            "recorder": self.recorder,
            "random": RandomStates(),
        }
        return {name: item for name, item in objects.items() if item is not None}

    def load(self, state: Mapping[str, Any]) -> None:
        """Go on from what ``state`` was when it was saved."""
        state = {**state, "optimizer": for_kernels(state["optimizer"], self.optimizer)}
        for name, item in self.state.items():
            item.load_state_dict(state[name])

    def close(self) -> None:
        """Let go of the connections to other processes."""
        self.wrapped = self.model

    def fit(self) -> None:
        """Train to the end: all steps done and evaluated, or the patience used up.

        Raises:
            RunError: the loss is no longer finite, the model does not fit the loss, or a checkpoint could not be
                written. What was saved before is still good.
            Stopped: the run was asked to end, and its state is saved.
        """
        progress, every = self.progress, self.settings.checkpoint["every_steps"]
        self.model.train()
        try:
            while not self.is_done():
                steps = max(0, min(self.total_steps - progress.step, len(self.loaders.train) - progress.batch))
                batches = self.loaders.train.epoch(progress.epoch, progress.batch)
                self.recorder.start_epoch(progress.epoch + 1, progress.batch + steps, progress.batch)
                self.group.ask_often()
                for batch in self.recorder.waiting_for(batches, steps):
                    with self.undivided(batch):
                        self.train_step(batch)
                        self.recorder.count_step(batch.whole.shape[0])
                        if self.is_log_step():
                            self.log_window()
                        if every is not None and progress.step % every == 0:
                            self.save()
                self.end_epoch()
        except Stopped as stopped:
            if stopped.whole:
                self.checkpoints.insist()
                self.save()
                self.checkpoints.wait()
            raise
        self.checkpoints.wait()
        if progress.step < self.total_steps:
            self.recorder.stop_early(f"no better val/{self.monitor.name} in {self.settings.patience} evaluations")

    @contextlib.contextmanager
    def undivided(self, batch: Batch) -> Iterator[None]:
        """A step that no signal cuts in two: it is heard while batches load, and within only at the end.

        One that compiles, for minutes perhaps, is left at once: its state is saved before, and it is done again.
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
        """All steps done and evaluated, or the patience used up."""
        progress = self.progress
        return (progress.step >= self.total_steps and progress.evaluated == progress.step) or self.out_of_patience()

    def train_step(self, batch: Batch) -> None:
        """Forward, loss, backward, clip, step. Nothing in here waits for the device."""
        progress, window = self.progress, self.window
        self.set_learning_rate(progress.step)
        self.group.seed(self.settings.seed, progress.step)
        if self.skipper is not None:
            self.skipper.remember()
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
        elif self.is_log_step() or self.skipper is not None:
            window.gradient_norm = nn.utils.get_total_norm([p.grad for p in self.parameters if p.grad is not None])
        window.gradient_norm = self.placement.number(window.gradient_norm)
        if self.skipper is None or not self.skipper.leaves_out():
            self.scaler.step(self.optimizer)
            if self.ema is not None:
                self.ema.update(progress.step)
        self.scaler.update()
        self.optimizer.zero_grad()

    def scaled(self, loss: Tensor, size: Tensor | int, part: Batch) -> Tensor:
        """Scale a micro-batch's mean loss by its share of the whole batch, and by the number of processes.

        The gradients of the processes are averaged, so the mean of their losses has to be the loss of the whole batch.
        """
        if part.num_pieces == 1:
            return loss
        return loss * (size * self.group.size / self.loss.size(part.whole) if part.counts else 0)

    def set_learning_rate(self, step: int) -> None:
        """The schedule's factor times each group's own rate."""
        factor = self.scheduler.factor(step)
        for group, base in zip(self.optimizer.param_groups, self.base_lrs, strict=True):
            group["lr"] = base * factor

    def forward(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor, Tensor | int]:
        """The float32 outputs, their mean loss, and what that mean divided by."""
        with self.autocast():
            outputs = model(*batch.inputs)
        wanted = (batch.targets.shape[0], self.spec.num_outputs)
        if not isinstance(outputs, Tensor) or outputs.shape != wanted:
            got = tuple(outputs.shape) if isinstance(outputs, Tensor) else type(outputs).__name__
            raise RunError(f"the model returned {got} for a batch of {wanted[0]}; the loss needs {wanted}")
        outputs = outputs.float()
        return outputs, self.loss(outputs, batch.targets), self.loss.size(batch.targets)

    def autocast(self) -> contextlib.AbstractContextManager[Any]:
        """The precision of the forward pass; the loss is always float32."""
        if self.precision not in DTYPES:
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, DTYPES[self.precision])

    @property
    def evaluated(self) -> nn.Module:
        """The model whose weights count: the averaged one where there is one."""
        return self.model if self.ema is None else self.ema.model

    def evaluate(self, loader: Loader) -> Sums:
        """The sums of a whole split, every sample counted once, with the averaged weights where there are some."""
        model = self.evaluated
        sums = Sums(self.spec, self.device, self.loss.scores)
        self.group.level(model)
        model.eval()
        self.group.ask_often()
        generators = [self.device] if self.device.type == "cuda" else []
        with self.placement.evaluating(), torch.random.fork_rng(generators):  # training draws as without it
            for batch in loader.epoch():
                for part in batch.split():
                    outputs, loss, size = self.forward(model, part)
                    if part.counts:
                        sums.update(loss, size, outputs, part.targets)
                self.interrupts.listen()
        model.train()
        self.group.add(sums)
        return sums

    def end_epoch(self) -> None:
        """Evaluate, remember the best, say so, and save. An evaluation that is cut off is done again."""
        progress, epoch = self.progress, self.progress.epoch + 1
        # weights that an evaluation finds broken must not replace the last good ones
        val = {} if self.loaders.val is None else self.evaluate(self.loaders.val).compute(self.metrics)
        if val and not math.isfinite(val["loss"]):
            raise NotFiniteError(f"the val loss is {val['loss']} after step {progress.step}", progress.step)
        with self.interrupts.held:
            train = self.epoch_sums.compute(self.metrics)
            if progress.batch == len(self.loaders.train):
                progress.epoch, progress.batch = epoch, 0
                self.epoch_sums.reset()
            progress.evaluated = progress.step
            is_best = self.remember(val, epoch)
            self.recorder.end_epoch(train, val, progress.step, is_best=is_best)
            self.save(is_best=is_best)

    def save(self, *, is_best: bool = False) -> None:
        """Write ``last.pt``; broken weights must not replace the last good ones.

        Raises:
            RunError: a loss or a weight is not finite, or the file could not be written.
        """
        self.window.check_finite()
        weights = self.placement.local(self.parameters)
        finite = torch.stack([weight.isfinite().all() for weight in weights]).all()
        if not all(each for (each,) in self.group.gather(bool(finite))):
            step = self.progress.step
            raise NotFiniteError(f"the weights are no longer finite after step {step}", step)
        self.checkpoints.save(self.state, step=self.progress.step, best=is_best)

    def remember(self, values: dict[str, float], epoch: int) -> bool:
        """Take an evaluation in; whether it is the best so far. Without a val split the last one always is."""
        progress = self.progress
        named = {f"val/{name}": value for name, value in values.items()}
        if values:
            self.scheduler.observe(values[self.monitor.name], self.monitor.higher_is_better)
            self.checkpoints.rank(self.monitor.score(values), progress.step)
        is_best = not progress.best or not values or self.is_better(values)
        progress.waited = 0 if is_best else progress.waited + 1
        progress.last = {"step": progress.step, "epoch": epoch, **named}
        if is_best:
            progress.best = progress.last
        return is_best

    def is_better(self, values: dict[str, float]) -> bool:
        """Than the best so far."""
        best = {name.removeprefix("val/"): value for name, value in self.progress.best.items()}
        return self.monitor.score(values) > self.monitor.score(best)

    def out_of_patience(self) -> bool:
        """Too many evaluations without a new best."""
        return self.settings.patience is not None and self.progress.waited >= self.settings.patience

    def is_log_step(self) -> bool:
        """The step just counted ends a window: every ``log_every`` steps, and at the end of an epoch."""
        progress = self.progress
        return (
            progress.step % self.settings.log_every == 0
            or progress.batch == len(self.loaders.train)
            or progress.step == self.total_steps
        )

    def log_window(self) -> None:
        """Write a point of the training curve; here, and only here, the loop waits for the device.

        Raises:
            RunError: a loss since the last point is not finite, naming its step.
        """
        values = self.window.close(self.metrics, self.epoch_sums)
        lr = self.optimizer.param_groups[0]["lr"]
        self.recorder.log_training(values, lr, float(self.window.gradient_norm), self.progress.step)
