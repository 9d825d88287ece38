"""A long short-term memory network (Hochreiter and Schmidhuber 1997; forget gate: Gers et al. 2000)."""

from torch import nn

from trainer.config import Fraction, PositiveInt
from trainer.model import MODELS
from trainer.model._recurrent import Builtin, Recurrent
from trainer.spec import Spec


@MODELS.register
def lstm(
    spec: Spec,
    *,
    hidden: PositiveInt,
    layers: PositiveInt,
    bidirectional: bool,
    dropout: Fraction,
    embedding: PositiveInt,
) -> nn.Module:
    """torch's LSTM over the steps; its output at the last valid one goes through a linear layer.

    Returns:
        a module from (batch, …) samples to (batch, ``spec.num_outputs``).
    """

    def make(width: int) -> nn.Module:
        between = dropout if layers > 1 else 0.0
        return Builtin(nn.LSTM(width, hidden, layers, batch_first=True, dropout=between, bidirectional=bidirectional))

    return Recurrent(spec, make, features=hidden * (1 + bidirectional), dropout=dropout, embedding=embedding)
