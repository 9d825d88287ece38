"""The base class of the losses for classification, with class weights."""

from __future__ import annotations

from torch import Tensor, nn

from trainer.config import ConfigError
from trainer.loss._weights import ClassWeights, weights_of
from trainer.spec import Spec


class ClassLoss(nn.Module):
    """A loss of logits, (batch, classes), with a weighted mean over the samples.

    Targets are class numbers (batch,) or shares of the classes (batch, classes). The weight of a sample is that of its
    class; with shares, the sum of the weights of the classes times their shares.

    Args:
        spec: classification data.
        name: the name of the loss, for messages.
        weight: as in ``weights_of``.

    Raises:
        ConfigError: the task is not classification, the number of weights is wrong, or the weights are to be balanced
            although a class has no samples.
    """

    sigmoid = False
    weight: Tensor | None

    def __init__(self, spec: Spec, name: str, weight: ClassWeights) -> None:
        super().__init__()
        if spec.task != "classification":
            use = "loss=bce" if spec.task == "multilabel" else "loss=mse, l1 or huber"
            one = spec.task == "regression" and len(spec.classes) == 1
            hint = f", {spec.classes[0]} (dataset.task=classification if each value names a class)" if one else ""
            raise ConfigError(
                f"loss={name}: needs one class for each sample; dataset={spec.dataset} is {spec}{hint}; use {use}"
            )
        self.num_outputs = len(spec.classes)
        self.register_buffer("weight", weights_of(weight, spec))

    def size(self, targets: Tensor) -> Tensor | int:
        """Return the sum of the weights of the samples."""
        if self.weight is None:
            return targets.shape[0]
        return self.weight[targets].sum() if targets.ndim == 1 else (targets * self.weight).sum()

    def scores(self, outputs: Tensor) -> Tensor:
        """Return the probabilities of the classes, (batch, classes)."""
        return outputs.softmax(1)
