"""Data that each loss fits, and random outputs and targets."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from tests.helpers import defaults, table_spec
from trainer.loss import LOSSES
from trainer.spec import Spec

SAMPLES = 12
COUNTS = (3, 40, 7, 50)  # training samples of four classes
WEIGHTS = [0.5, 2.0, 0.0, 1.25]
SPECS: dict[str, Spec] = {
    "two classes": table_spec("classification", 2, counts=(6, 2), dataset="coins"),
    "four classes": table_spec("classification", 4, counts=COUNTS, dataset="suits"),
    "labels": table_spec("multilabel", 3, counts=(5, 4, 1), num_samples=10, dataset="tags"),
    "one label": table_spec("multilabel", 1, counts=(5,), dataset="tags"),
    "values": table_spec("regression", 3, dataset="prices"),
    "one value": table_spec("regression", 1, dataset="prices"),
}
EVERYTHING = set(SPECS)
FITS: dict[str, set[str]] = {
    "cross_entropy": {"two classes", "four classes"},
    "focal": {"two classes", "four classes"},
    "bce": {"two classes", "labels", "one label"},
    "bce_prob": {"two classes", "labels", "one label"},
    "mse": EVERYTHING,
    "l1": EVERYTHING,
    "huber": EVERYTHING,
    "quantile": {"values", "one value"},
    "auto": EVERYTHING,
}
FITTING = [(name, data) for name, fits in FITS.items() for data in sorted(fits)]
MISFITS = [(name, data) for name, fits in FITS.items() for data in sorted(EVERYTHING - fits)]
MIXED = [(name, data) for name, data in FITTING if SPECS[data].task == "classification"]


def build(name: str, spec: Spec, **keys: Any) -> Any:
    return LOSSES.build(defaults("loss", name, **keys), spec).double()


def make_targets(spec: Spec, samples: int = SAMPLES) -> Tensor:
    """Return random targets in which every class occurs."""
    width = len(spec.classes)
    if spec.task == "classification":
        return torch.arange(samples).remainder(width)[torch.randperm(samples)]
    if spec.task == "multilabel":
        return (torch.rand(samples, width) < 0.5).float()
    return torch.randn(samples, width)


def make_outputs(loss: Any, samples: int = SAMPLES) -> Tensor:
    """Return random outputs, which are probabilities if the loss takes probabilities."""
    outputs = 3 * torch.randn(samples, loss.num_outputs, dtype=torch.float64)
    return outputs.sigmoid() if loss.sigmoid else outputs


def make_shares(spec: Spec, samples: int = SAMPLES) -> Tensor:
    """Return shares of two classes as mixup makes them; some samples have one class only."""
    share = torch.rand(samples, 1).round(decimals=1)
    ones, others = (F.one_hot(make_targets(spec, samples), len(spec.classes)) for _ in range(2))
    return share * ones + (1 - share) * others
