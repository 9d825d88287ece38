"""The loss that fits the target: cross entropy for classes, binary cross entropy for labels, mse for values."""

from __future__ import annotations

from trainer.config import ConfigError, Fraction
from trainer.loss import LOSSES, Loss
from trainer.loss._weights import ClassWeights
from trainer.loss.bce import bce
from trainer.loss.cross_entropy import CrossEntropy
from trainer.loss.mse import mse
from trainer.spec import Spec


@LOSSES.register
def auto(spec: Spec, *, label_smoothing: Fraction, weight: ClassWeights) -> Loss:
    """Return ``cross_entropy`` for classes, ``bce`` for labels and ``mse`` for values.

    Args:
        spec: any data.
        label_smoothing: of classes, as in ``CrossEntropy``; labels and values are not smoothed.
        weight: the weights of classes or labels, as in ``CrossEntropy`` and ``BinaryLoss``.

    Raises:
        ConfigError: ``weight`` is set, but the data have values.
    """
    if spec.task == "classification":
        return CrossEntropy(spec, label_smoothing=label_smoothing, weight=weight)
    if spec.task == "multilabel":
        return bce(spec, weight=weight)
    if weight is not None:
        raise ConfigError(f"loss.weight: needs classes or labels; dataset={spec.dataset} is {spec}")
    return mse(spec)
