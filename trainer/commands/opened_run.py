"""Open a trained run: load its model with the weights of a checkpoint, and restore its preprocessing.

Only the run directory is read, except by ``OpenedRun.data``, which reads the data set.
"""

from __future__ import annotations

import dataclasses
import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from trainer.build import build_data, build_model, build_placement
from trainer.checkpoint import BEST, LAST
from trainer.commands.raw_inputs import RawInputs, as_tensors, check_codes, tensors_of_rows
from trainer.compose.reopen import settings_for_use
from trainer.config import ConfigError, RunError, Settings
from trainer.config.errors import reason_of
from trainer.config.untrusted_files import check_named
from trainer.data import Data, Normalise, ReadOptions, Split
from trainer.data.audio import make_features
from trainer.data.data import Features, spec_of
from trainer.data.loader import Loader, Share, make_loaders
from trainer.data.preprocess import need_float64, to_model_inputs
from trainer.data.random_numbers import seed_all
from trainer.data.readers.tables.given_rows import GivenRows, are_cells
from trainer.data.sources import Inputs
from trainer.data.table_encoding import TableEncoding
from trainer.device._kernels import autocast, choose_kernels, choose_precision, choose_tf32
from trainer.loss import Loss
from trainer.loss._probabilities import Calibrated
from trainer.metrics import Sums, fixed_thresholds, shown_thresholds
from trainer.runs.checkpoint_file import DamagedError, read
from trainer.runs.directory import CHECKPOINTS, SUMMARY, TEMPERATURE, THRESHOLDS
from trainer.runs.read import FINISHED, Run, as_number, run_named
from trainer.runs.resume import naming_moved_data
from trainer.spec import Spec, evaluation_batch_size

log = logging.getLogger("trainer")


@dataclasses.dataclass(frozen=True)
class OpenedRun:
    """The model of a trained run, and the preprocessing and loss that are needed to compute scores for raw samples.

    Args:
        run: the run.
        settings: the settings of the run, with the overrides given when it was opened.
        step, epoch: the step and the epoch of the weights; the epoch is None if the checkpoint does not contain it.
        checkpoint: the file from which the weights were loaded.
        preprocessing: ``Data.preprocessing()`` of the training data.
        fingerprint: ``Data.fingerprint()`` of the training data.
        spec: as in ``Data``, with ``num_outputs`` and ``sigmoid`` set by the loss.
        model: the model in evaluation mode, on ``device``.
        loss: the loss, which converts outputs into scores; ``Calibrated`` if the run has a temperature.
        normalise, features: as in ``Data``, on ``device``.
        device: the device of the model.
        precision: fp32, tf32, bf16 or fp16.
        converted: whether an earlier version wrote the weights in another form, which changes the rounding.
        thresholds: the score above which each label is predicted, as float32 numbers; empty without labels.
        thresholds_chosen: whether the thresholds are those that the run has chosen on val.
    """

    run: Run
    settings: Settings
    step: int
    epoch: int | None
    checkpoint: Path
    preprocessing: Mapping[str, Any]
    fingerprint: Mapping[str, Any]
    spec: Spec
    model: nn.Module
    loss: Loss
    normalise: Normalise | TableEncoding | None
    features: Features | None
    device: torch.device
    precision: str
    converted: bool
    thresholds: tuple[float, ...] = ()
    thresholds_chosen: bool = False

    @property
    def temperature(self) -> float | None:
        """The number that the run has chosen on val and that the logits are divided by, or None."""
        return self.loss.temperature if isinstance(self.loss, Calibrated) else None

    def read(self, inputs: RawInputs | tuple[RawInputs, ...]) -> Inputs:
        """Convert a batch of raw samples, on any device, into model inputs on ``device``.

        Args:
            inputs: a batch of raw samples; if lengths vary, a tuple of the padded batch and the (batch,) lengths. Each
                is a tensor, an array or a nested list of numbers. Of a table, a list of rows with their cells (numbers,
                texts, dates, None), by name or in order, or a data frame; arrays hold codes in place of texts.

        Raises:
            ValueError: the batch has another shape than the samples of the run, or holds no numbers; or a column is
                missing, or a cell does not fit its column.
        """
        if isinstance(self.normalise, TableEncoding) and are_cells(inputs):
            keys = self.settings.dataset
            forms, missing_values = self.preprocessing.get("forms") or (), keys.get("missing_values") or ()
            given = GivenRows(self.normalise, forms, missing_values, is_bad=keys.get("missing") == "bad")
            inputs = tensors_of_rows(inputs, given, self.spec)
        raw = as_tensors(inputs, self.spec, self.raw_shape, waves=self.features is not None)
        if isinstance(self.normalise, TableEncoding):
            check_codes(raw[0], self.normalise)
        on_device = tuple(tensor.to(self.device) for tensor in raw)
        return to_model_inputs(on_device, self.features, self.normalise, self.spec.step_axis)

    def outputs(self, inputs: Inputs) -> Tensor:
        """Return the outputs of the model for model inputs: (batch, num_outputs) float32."""
        with autocast(self.device, self.precision):
            outputs: Tensor = self.model(*inputs)
        return outputs.float()

    @torch.inference_mode()
    def scores(self, inputs: RawInputs | tuple[RawInputs, ...]) -> Tensor:
        """Return (batch, classes or labels) probabilities, or (batch, values), on the CPU, as float32.

        Values are float64 if ``spec.needs_float64``.

        Args:
            inputs: as in ``read``.

        Raises:
            ValueError: as in ``read``.
        """
        return self.loss.scores(self.outputs(self.read(inputs))).cpu()

    @property
    def raw_shape(self) -> tuple[int, ...]:
        """The shape of a raw sample: that of ``spec``, unless the columns of a table are encoded. Waves have none."""
        if isinstance(self.normalise, TableEncoding):
            return (*self.spec.shape[:-1], self.normalise.raw_width)
        return self.spec.shape

    @property
    def identifier(self) -> str | None:
        """The column that names the rows: the key ``dataset.id``, or the one that training found; None without one."""
        typed = self.settings.dataset.get("id")
        return self.preprocessing.get("id") if typed is None else str(typed)

    def predicted(self, scores: Sequence[float]) -> list[str]:
        """Return the name of the class with the highest score, or of every label whose score is above its threshold."""
        names = self.spec.classes
        if self.spec.task == "multilabel":
            pairs = zip(names, scores, self.thresholds, strict=True)
            return [name for name, score, threshold in pairs if score > threshold]
        return [names[max(range(len(scores)), key=scores.__getitem__)]]

    def data(self, *, skip_bad: bool = False) -> Data:
        """Build the data set in ``settings`` with the run's preprocessing (classes, vocabulary, normalisation).

        ``skip_bad`` leaves out samples that cannot be read, whatever ``dataset.on_error`` says.

        Raises:
            ConfigError: the data set does not exist, or it does not fit the run.
        """
        seed_all(self.settings.seed)
        keys = self.settings.dataset
        name = keys["name"]
        if skip_bad and "on_error" in keys:
            keys = {**keys, "on_error": "skip"}
        try:
            with naming_moved_data(self.run.path, self.settings.dataset):
                found = build_data(keys, self.settings.seed, ReadOptions(self.preprocessing))
        except KeyError as error:
            raise ConfigError(f"{self.checkpoint}: an earlier version wrote it without {error}") from error
        if found.spec.kind != self.spec.kind or found.spec.task != self.spec.task:
            raise ConfigError(f"dataset={name}: is {found.spec}; the run {self.run.path} reads {self.spec}")
        if found.spec.classes != self.spec.classes:
            theirs, ours = (", ".join(each.classes[:5]) for each in (found.spec, self.spec))
            raise ConfigError(f"dataset={name}: has the classes {theirs}, …; the run {self.run.path} has {ours}, …")
        spec = dataclasses.replace(self.spec, dataset=name)
        normalise, factor = self.normalise, (found.preprocess.get("top") or 1) / (self.preprocessing.get("top") or 1)
        if isinstance(normalise, Normalise) and factor != 1:  # the pixel range differs from that of the training data
            normalise = Normalise(normalise.mean * factor, normalise.std * factor, normalise.axis)
        found = dataclasses.replace(found, spec=spec, normalise=normalise, features=self.features)
        found.check()
        return found

    @property
    def batch_size(self) -> int:
        """The batch size with which the run was evaluated."""
        return evaluation_batch_size(self.settings.batch_size, self.spec)

    def loader(self, data: Data, split: Split, *, limited: bool) -> Loader:
        """Return a loader that forms batches as the run's evaluation did; ``limited`` applies ``limit_batches``."""
        settings = self.settings
        return make_loaders(
            dataclasses.replace(data, test=split, val=None, balanced=False),
            self.device,
            seed=settings.seed,
            batch_size=settings.batch_size,
            limit_batches=settings.limit_batches if limited else None,
            overfit_batches=None,
            share=Share(settings.micro_batch_size),
            evaluation_batch_size=self.batch_size,
        ).test


class Answers(NamedTuple):
    """The outputs of a model for the samples of a split, in the order of the split, on the CPU."""

    outputs: Tensor  # (samples, num_outputs) float32
    targets: Tensor  # as in ``Source``
    positions: Tensor  # (samples,) int64, the positions of the samples in the source of the split


@torch.inference_mode()
def answers(trained: OpenedRun, data: Data, split: Split, *, limited: bool = False) -> tuple[Answers, float]:
    """Compute the outputs for a split, and the mean loss, with the same order of summation as in the run's evaluation.

    ``limited`` applies ``limit_batches``.

    Raises:
        RunError: the model returns outputs of a wrong shape.
    """
    loader, spec = trained.loader(data, split, limited=limited), trained.spec
    sums = Sums(spec, trained.device, trained.loss.scores)
    outputs, targets, positions = list[Tensor](), list[Tensor](), list[Tensor]()
    try:
        for number, batch in enumerate(loader.epoch()):
            found = trained.outputs(batch.inputs)
            if found.shape != (len(batch.targets), spec.num_outputs):
                raise RunError(f"the model returned {tuple(found.shape)} for a batch of {len(batch.targets)}")
            loss = trained.loss(found, batch.targets)
            sums.update(loss, trained.loss.size(batch.targets), found, batch.targets)
            outputs.append(found.cpu())
            targets.append(batch.targets.cpu())
            positions.append(loader.positions(0, number))
    finally:
        loader.close()
    places = torch.cat(positions)
    rank = torch.empty(int(split.positions.max()) + 1, dtype=torch.int64)
    rank[split.positions] = torch.arange(len(split))
    order = rank[places].argsort(stable=True)  # restores the order of the split, as the loader may sort by length
    mean = sums.compute({})["loss"]
    return Answers(torch.cat(outputs)[order], torch.cat(targets)[order], places[order]), mean


def load(name: str, *, checkpoint: str = "best", words: Sequence[str] = ()) -> OpenedRun:
    """Open a trained run by name, with the weights of a checkpoint.

    Args:
        name: a run directory, or ``last``.
        checkpoint: best, last, or a file.
        words: overrides that are allowed after training, such as ``dataset.path=…``, ``device=cpu`` or
            ``plugins=[…]``.

    Raises:
        ConfigError: the run or the checkpoint does not exist, or an override would change the training.
    """
    return open_run(run_named(name), checkpoint=checkpoint, words=words)


def open_run(run: Run, *, checkpoint: str = "best", words: Sequence[str] = ()) -> OpenedRun:
    """Open a run as ``load`` does, but given a ``Run`` instead of its name."""
    file, state = _state(run, checkpoint)
    settings = settings_for_use(run.path, words)
    device = build_placement(settings.device).device
    if device.type != "cpu":  # evaluation on a CPU is deterministic anyway, and the call takes a second
        choose_kernels(settings.deterministic)
    precision = choose_precision(settings.precision, device)
    choose_tf32(precision)
    preprocessing = state["data"]
    try:
        spec = spec_of(preprocessing, settings.dataset["name"])
        need_float64(spec, device)
    except (KeyError, TypeError) as error:
        raise ConfigError(f"{file}: an earlier version wrote it without {error}; train again") from error
    weights: Any = state.get("ema") if settings.ema is not None else state["model"]
    try:
        _check_fit(settings, spec, weights)
        model, loss, spec = build_model(settings.model, settings.loss, spec)
        model.load_state_dict(weights)
        if lost := next((name for name, value in model.named_parameters() if not value.isfinite().all()), None):
            raise ConfigError(f"{file}: {lost} holds NaN or infinity, so every answer would")
    except (KeyError, RuntimeError, TypeError, AttributeError) as error:
        raise ConfigError(f"{file}: does not fit the model of {run.path}: {reason_of(error)[:300]}") from error
    normalise, features = Normalise.restore(preprocessing), preprocessing.get("features")
    last = state.get("progress", {}).get("last", {})
    fixed = fixed_thresholds(settings.thresholds, spec)
    chosen = tuple[float, ...]()
    if _fits_summary(run, state["step"]):
        chosen, loss = _chosen_thresholds(run, settings, spec), _calibrated(run, settings, loss.to(device))
    return OpenedRun(
        run=run,
        settings=settings,
        step=state["step"],
        epoch=last.get("epoch") if last.get("step") == state["step"] else None,
        checkpoint=file,
        preprocessing=preprocessing,
        fingerprint=state.get("fingerprint") or {},
        spec=spec,
        model=model.to(device).eval().requires_grad_(False),
        loss=loss.to(device),
        normalise=None if normalise is None else normalise.to(device),
        features=None if features is None else make_features(**features).to(device),
        device=device,
        precision=precision,
        converted="upgrade" in state,
        thresholds=chosen or fixed,
        thresholds_chosen=bool(chosen),
    )


def _chosen_thresholds(run: Run, settings: Settings, spec: Spec) -> tuple[float, ...]:
    """Return the thresholds that the run has chosen for its labels; empty if it has none, or if others are asked for.

    Raises:
        ConfigError: summary.json has thresholds that do not fit the labels.
    """
    found = run.summary.get(THRESHOLDS)
    if found is None or spec.task != "multilabel" or settings.thresholds != "auto":
        return ()
    values = [found.get(name) for name in spec.classes] if isinstance(found, Mapping) else []
    if not values or any(as_number(value) is None for value in values):
        raise ConfigError(f"{run.path / SUMMARY}: {THRESHOLDS}: must hold a number for each label of the run")
    return tuple(torch.tensor(values, dtype=torch.float32).tolist())


def _calibrated(run: Run, settings: Settings, loss: Loss) -> Loss:
    """Return the loss with the temperature of the run; the loss as it is if there is none, or if ``calibrate=none``.

    Raises:
        ConfigError: summary.json has a temperature that is no positive number.
    """
    found = run.summary.get(TEMPERATURE)
    if found is None or settings.calibrate == "none":
        return loss
    temperature = as_number(found)
    if temperature is None or not 0 < temperature < math.inf:
        raise ConfigError(f"{run.path / SUMMARY}: {TEMPERATURE}: must be a positive number")
    return Calibrated(loss, temperature)


def _fits_summary(run: Run, step: int) -> bool:
    """Return whether summary.json was written for the weights of ``step``, and so what the run has chosen on val."""
    return run.summary.get("tested_step") == step


def _check_fit(settings: Settings, spec: Spec, weights: Mapping[str, Tensor]) -> None:
    """Compare the weights with the model before the model takes memory: a config may ask for any size.

    Raises:
        RuntimeError: the weights have other names, shapes or types than the model.
    """
    with torch.device("meta"):
        try:
            model = build_model(settings.model, settings.loss, spec)[0]
        except Exception as error:  # a component that computes with its weights
            log.debug("the model cannot be built without memory: %s", error)
            return
    types = {name: value.dtype for name, value in model.state_dict().items()}
    model.load_state_dict(weights, assign=True)
    for name, value in weights.items():
        if value.dtype != types[name]:
            raise RuntimeError(f"{name} is {value.dtype} and not {types[name]}")


def _state(run: Run, checkpoint: str) -> tuple[Path, dict[str, Any]]:
    """Return the path and the content of the checkpoint named by ``--checkpoint``.

    Raises:
        ConfigError: the file does not exist, is damaged, or is not a checkpoint of this version.
    """
    folder = run.path / CHECKPOINTS
    named = {"best": folder / BEST, "last": folder / LAST}
    file = named.get(checkpoint) or next(
        (each for each in (Path(checkpoint), folder / checkpoint) if each.exists()), None
    )
    others = [name for name, path in named.items() if path.is_file() and path != file]
    if file is None:
        raise ConfigError(f"--checkpoint: {checkpoint}: no such file; best, last or a file")
    if file.exists():
        check_named(file, "--checkpoint")
    else:
        ended = f": {run.summary['reason']}" if run.summary.get("reason") else ""
        near = f"; --checkpoint {others[0]} exists" if others else ""
        raise ConfigError(f"{run.path}: has no {CHECKPOINTS}/{file.name} ({run.state}{ended}){near}")
    try:
        state = read(file)
    except DamagedError as error:
        near = f"; --checkpoint {others[0]} may be intact" if others else ""
        raise ConfigError(f"{file}: cannot be used: {error}{near}") from error
    if not all(name in state for name in ("data", "model", "step")):
        raise ConfigError(f"{file}: is no checkpoint of this version")
    return file, state


def calibrated_line(trained: OpenedRun) -> str:
    """Return in one line how the probabilities are calibrated; only for a run with a temperature."""
    return f"calibrated on val: logits / {trained.temperature:.4g} (calibrate=none: the logits as they are)"


def notes(trained: OpenedRun) -> Iterator[str]:
    """Yield a warning line if the run did not finish, and if its thresholds or temperature are for other weights."""
    run = trained.run
    if run.state != FINISHED:
        ended = f": {run.summary['reason']}" if run.summary.get("reason") else ""
        yield f"{run.path}: the run has not finished ({run.state}{ended}); these are its weights of step {trained.step}"
    if trained.thresholds and run.summary.get(THRESHOLDS) and not _fits_summary(run, trained.step):
        tested, shown = run.summary.get("tested_step"), shown_thresholds(trained.spec.classes, trained.thresholds)
        yield f"{run.path}: the thresholds are for the weights of step {tested}; labels are predicted above {shown}"
    if trained.settings.calibrate != "none" and trained.temperature is None:
        tested = run.summary.get("tested_step")
        other = tested is not None and run.summary.get(TEMPERATURE) is not None
        why = f"the temperature is for the weights of step {tested}" if other else "the run has chosen no temperature"
        yield f"{run.path}: {why}; the probabilities are not calibrated"
