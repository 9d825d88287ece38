"""Batch normalisation in models: the bias before it, which has no effect, and the samples that it needs."""

from __future__ import annotations

import contextlib
from itertools import pairwise

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

from trainer.config import ConfigError, Settings
from trainer.data import Data
from trainer.data.preprocess import Preprocess


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
                    layer.bias = None


def check_variance(model: nn.Module, data: Data, settings: Settings, num_samples: int) -> None:
    """Check that batch normalisation gets more than one value per channel in a full micro-batch.

    Args:
        model: a newly built model on the CPU.
        data: the data set, whose longest training sample the model reads.
        settings: the settings of the run.
        num_samples: the number of samples of a full micro-batch that are normalised together.

    Raises:
        ConfigError: a full micro-batch is a single sample, and a layer gets a single value per channel of it.
    """
    if num_samples > 1 or (layer := _layer_of_single_values(model, data)) is None:
        return
    if len(data.train) == 1:
        key, why, remedy = "dataset", "the only training sample has", "it needs a second sample"
    elif settings.micro_batch_size > 1:
        why = f"with {settings.micro_batch_size} samples in a micro-batch, a process normalises 1, with"
        key, remedy = "device", "use device.sync_batchnorm=true or a larger batch_size"
    elif settings.accumulate > 1:
        why = f"each of {settings.accumulate} pieces of a batch of {settings.batch_size} is one sample, with"
        key, remedy = "accumulate", f"use at most {settings.batch_size // 2}"
    else:
        key, why, remedy = "batch_size", "1 sample has", "use 2 or more"
    raise ConfigError(
        f"{key}: {why} one value per channel in the batch normalisation {layer}, hence no variance; {remedy}"
    )


def _layer_of_single_values(model: nn.Module, data: Data) -> str | None:
    """Return the name of a batch normalisation that gets one value per channel of the longest training sample."""
    layers = [(name, layer) for name, layer in model.named_modules() if isinstance(layer, _BatchNorm)]
    if not layers:
        return None
    lengths = data.train.lengths
    longest = data.train.positions[[0 if lengths is None else int(lengths.argmax())]]
    inputs = Preprocess(data, longest, None, torch.device("cpu"))(data.train.source.fetch(longest), longest, 0)
    found: list[str] = []

    def listen(name: str, values: torch.Tensor) -> None:
        if values.numel() == values.shape[1]:
            found.append(name)

    hooks = [
        layer.register_forward_pre_hook(lambda _, values, name=name: listen(name, values[0])) for name, layer in layers
    ]
    with torch.no_grad(), contextlib.suppress(Exception):  # an error of the model is reported by the training
        model.eval()(*inputs)
    model.train()
    for hook in hooks:
        hook.remove()
    return found[0] if found else None
