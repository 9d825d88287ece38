"""The conversion of raw samples to model inputs in training, evaluation, prediction and exported models."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from trainer.config import ConfigError
from trainer.data.data import Data
from trainer.data.random_numbers import SampleRandom
from trainer.data.sources import Inputs, keep, valid_steps
from trainer.spec import Spec


def to_model_inputs(
    inputs: Inputs,
    features: Callable[[Inputs], Inputs] | None,
    normalise: Callable[[Tensor], Tensor] | None,
    step_axis: int,
) -> Inputs:
    """Convert a batch of raw samples to model inputs: compute features, normalise, and set padding to zero.

    The result for a sample does not depend on the rest of the batch, and ``torch.export`` can trace the function.

    Args:
        inputs: (inputs,), or (inputs, lengths) if steps vary.
        features, normalise: as in ``Data``, on the device of the batch.
        step_axis: the axis of the steps in the model inputs, as in ``Spec``.
    """
    if features is not None:
        inputs = features(inputs)
    if normalise is None:
        return inputs
    values, lengths = normalise(inputs[0]), inputs[1:]
    if lengths:  # after normalisation the padding is no longer zero
        values = keep(values, valid_steps(lengths[0], values.shape[step_axis]), step_axis)
    return values, *lengths


def need_float64(spec: Spec, device: torch.device) -> None:
    """Raise ConfigError if the targets of a regression need float64, which the device does not have."""
    if spec.needs_float64 and device.type == "mps":
        raise ConfigError(
            f"device: mps has no float64, which the targets of dataset={spec.dataset} need: they are far from zero and "
            "close to one another; subtract a constant from them, or use device=cpu"
        )


class Preprocess:
    """Convert the raw batches of a split to model inputs; batches of train are also augmented and mixed.

    Args:
        data: the data set, which defines the steps of the preprocessing.
        among: the positions of the samples that may be mixed into other samples.
        seed: the seed of the augmentation and the mixing; None turns both off.
        device: the device of the batches.
    """

    def __init__(self, data: Data, among: Tensor, seed: int | None, device: torch.device) -> None:
        self._normalise = None if data.normalise is None else data.normalise.to(device)
        self._features = None if data.features is None else data.features.to(device)
        self._augment = None if seed is None else data.augment
        self._augment_features = None if seed is None else data.augment_features
        self._mix = None if seed is None else data.mix
        self._spec, self._among, self._seed = data.spec, among, seed
        need_float64(data.spec, device)

    def partners(self, keys: Tensor, epoch: int) -> Tensor | None:
        """Return, for each sample, the position of the sample to mix into it, (batch,); None without mixing."""
        if self._mix is None:
            return None
        if self._among.device != keys.device:
            self._among = self._among.to(keys.device)  # copied to the device only once
        return self._random(keys, epoch).others("partner", self._among)

    def __call__(self, inputs: Inputs, keys: Tensor, epoch: int, host_keys: Tensor | None = None) -> Inputs:
        """Return the model inputs of raw samples, before mixing.

        Args:
            inputs: (inputs,), or (inputs, lengths) if steps vary.
            keys: (batch,) int64; the random numbers of a sample are a function of its key, the seed and the epoch.
            epoch: the number of the epoch.
            host_keys: ``keys`` on the CPU, so that no augmentation has to wait for another device.
        """
        random = self._random(keys, epoch, host_keys)
        if self._augment is not None:
            inputs = self._augment(inputs, random)
        inputs = to_model_inputs(inputs, self._features, self._normalise, self._spec.step_axis)
        if self._augment_features is not None:
            inputs = self._augment_features(inputs, random)
        return inputs

    def mixed(self, inputs: Inputs, others: Inputs, keys: Tensor, epoch: int) -> Inputs:
        """Return ``inputs`` with the samples of ``others`` mixed in; both are model inputs of the same shape."""
        assert self._mix is not None
        return self._mix(inputs, others, self._random(keys, epoch))

    def mixed_targets(self, targets: Tensor, others: Tensor, keys: Tensor, epoch: int) -> Tensor:
        """Return the targets, mixed with the weights of the inputs: (batch, classes, labels or values) float32."""
        assert self._mix is not None
        share = self._mix.shares(self._random(keys, epoch)).unsqueeze(1)
        if self._spec.task == "classification":
            targets, others = (F.one_hot(each, len(self._spec.classes)) for each in (targets, others))
        return share * targets + (1 - share) * others

    def _random(self, keys: Tensor, epoch: int, host_keys: Tensor | None = None) -> SampleRandom:
        return SampleRandom(keys, self._seed or 0, epoch, "augment", on_host=host_keys)
