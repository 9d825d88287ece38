"""A data set and a model of one's own: the irises that Fisher measured in 1936, and a small perceptron."""

import csv
import math
from pathlib import Path
from typing import Annotated

import torch
from msgspec import Meta
from torch import Tensor, nn

from trainer.config import ConfigError, Fraction, PositiveInt
from trainer.data import Data, Normalise, Split, TensorSource, split_off
from trainer.dataset import DATASETS
from trainer.metrics import metric
from trainer.model import MODELS
from trainer.spec import Spec

Share = Annotated[float, Meta(gt=0, lt=1)]


@DATASETS.register
def iris(seed: int, *, file: str, val_fraction: Fraction, test_fraction: Share) -> Data:
    """A table of numbers whose last column is the class; ``file`` stands beside this one, or is a whole path.

    Raises:
        ConfigError: there is no such file.
    """
    path = Path(__file__).parent / file
    if not path.is_file():
        raise ConfigError(f"dataset.file: {path}: no such file")
    with path.open(newline="") as lines:
        header, *rows = csv.reader(lines)
    classes = tuple(sorted({row[-1] for row in rows}))
    inputs = torch.tensor([[float(value) for value in row[:-1]] for row in rows])
    targets = torch.tensor([classes.index(row[-1]) for row in rows])
    rest, test = split_off(Split.all(TensorSource((inputs,), targets)), test_fraction, seed=0, key="test")
    assert test is not None  # its share is not 0
    train, val = split_off(rest, val_fraction, seed)
    spec = Spec("iris", "table", (len(header) - 1,), "classification", classes)
    return Data(spec, train, val, test, normalise=Normalise.measure(train))


@MODELS.register
class Perceptron(nn.Module):
    """Layers of the same width, with dropout between them.

    Args:
        width: of each hidden layer.
        depth: number of hidden layers.
        dropout: share of the hidden values that is set to zero.
    """

    def __init__(self, spec: Spec, *, width: PositiveInt = 32, depth: PositiveInt = 2, dropout: Fraction = 0.0) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Flatten()]
        inputs = math.prod(spec.shape)
        for _ in range(depth):
            layers += [nn.Linear(inputs, width), nn.ReLU(), nn.Dropout(dropout)]
            inputs = width
        self.layers = nn.Sequential(*layers, nn.Linear(inputs, spec.num_outputs))

    def forward(self, inputs: Tensor) -> Tensor:
        """(batch, …) samples -> (batch, ``num_outputs``)."""
        outputs: Tensor = self.layers(inputs)
        return outputs


@metric("worst_recall", "classification")
def worst_recall(confusion: Tensor) -> Tensor:
    """The recall of the class that is recognised worst; (classes, classes) counts, [true, predicted]."""
    return (confusion.diagonal() / confusion.sum(1).clamp_min(1)).min()
