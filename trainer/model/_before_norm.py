"""The bias of a layer before batch normalisation, which has no effect and is therefore left out."""

from __future__ import annotations

from itertools import pairwise

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd


def drop_biases_before_norms(model: nn.Module) -> None:
    """Remove the bias of each convolution and linear layer directly before batch normalisation in an nn.Sequential.

    The normalisation subtracts the mean, and the bias with it. The gradient of such a bias is therefore only the
    rounding error of a 0, which Adam enlarges to whole steps: the bias would drift, differently with every order of
    summation, and the running mean would lag behind it. The layers are built with a bias, so that the random numbers of
    the other initial weights are those of earlier versions. ``trainer.runs.earlier_checkpoint`` removes the biases from
    checkpoints of those versions.
    """
    for module in model.modules():
        if isinstance(module, nn.Sequential):
            for layer, following in pairwise(module):
                if isinstance(layer, _ConvNd | nn.Linear) and isinstance(following, _BatchNorm):
                    layer.bias = None  # type: ignore[assignment]
