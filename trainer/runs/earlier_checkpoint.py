"""Convert the checkpoints of earlier versions to the form of this version."""

from __future__ import annotations

import copy
from collections.abc import Collection, Mapping
from typing import Any

BUFFERS = ("running_mean", "running_var", "num_batches_tracked")  # of batch normalisation; all else is a parameter
MODELS = ("cnn", "torchvision")  # the models that had a bias before batch normalisation


def upgraded(state: dict[str, Any]) -> dict[str, Any]:
    """Return a checkpoint in the form of this version, with a line in ``upgrade`` if that changes it.

    Earlier versions had a bias before each batch normalisation. The normalisation subtracts the running mean from its
    sum with the bias, so the outputs in evaluation stay the same if the bias is subtracted from the running mean. The
    optimizer's state of the bias is left out.
    """
    try:
        lost = _biases_before_norms(state["model"]) if state["config"]["model"]["name"] in MODELS else {}
        if not lost:
            return state
        names = [name for name in state["model"] if name.rpartition(".")[2] not in BUFFERS]
        changed: dict[str, Any] = {name: _without(state[name], lost) for name in ("model", "ema") if name in state}
        changed["optimizer"] = _renumbered(state["optimizer"], [name in lost for name in names])
    except (KeyError, TypeError, ValueError, AttributeError):  # not a checkpoint of this program; its reader says so
        return state
    line = "the biases before batch normalisation are left out now: the same training, no longer bit for bit"
    return {**state, **changed, "upgrade": line}


def _biases_before_norms(weights: Mapping[str, Any]) -> dict[str, str]:
    """Map the name of each bias directly before batch normalisation in a sequence to that of the running mean."""
    found = {}
    for name, value in weights.items():
        layer, _, leaf = name.rpartition(".")
        parent, _, place = layer.rpartition(".")
        if leaf == "bias" and place.isdecimal() and f"{layer}.running_mean" not in weights:
            mean = f"{parent}.{int(place) + 1}.running_mean"
            if mean in weights and weights[mean].shape == value.shape:
                found[name] = mean
    return found


def _without(weights: Mapping[str, Any], biases: Mapping[str, str]) -> Any:
    """Return the weights without ``biases``, which are subtracted from the running means."""
    changed: Any = copy.copy(weights)  # keeps the attribute _metadata, the versions of the layers
    for bias, mean in biases.items():
        changed[mean] = changed[mean] - changed.pop(bias)
    return changed


def _renumbered(optimizer: Mapping[str, Any], leaves: Collection[bool]) -> Mapping[str, Any]:
    """Return the state of an optimizer without those parameters, in their order, for which ``leaves`` is true.

    An optimizer with several groups orders its parameters in its own way, so its state is returned as it is.
    """
    group, *others = optimizer["param_groups"]
    if others or group["params"] != list(range(len(leaves))):
        return optimizer
    kept = [number for number, left in enumerate(leaves) if not left]
    states = optimizer["state"]
    return {
        "state": {new: states[old] for new, old in enumerate(kept) if old in states},
        "param_groups": [{**group, "params": list(range(len(kept)))}],
    }
