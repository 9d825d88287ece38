"""What the recurrent classifiers share: any data as a sequence, the last valid step, a linear layer."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from trainer.model._sequence import as_sequence, last_layer
from trainer.spec import Spec


class Recurrent(nn.Module):
    """(batch, steps, width) through a recurrent layer from a zero state, last valid step -> dropout -> linear.

    Read in both directions, the last step of the backward one is the first of the sequence.

    Args:
        spec: what it reads and answers.
        make_layer: from the width of a step to a module that maps (batch, steps, width) and lengths to the states
            (batch, steps, features), both directions side by side.
        features: of those states.
        bidirectional: whether there are two directions.
        dropout: before the last layer.
        embedding: width of a token's vector.
    """

    def __init__(
        self,
        spec: Spec,
        make_layer: Callable[[int], nn.Module],
        *,
        features: int,
        bidirectional: bool,
        dropout: float,
        embedding: int,
    ) -> None:
        super().__init__()
        self.sequence, width = as_sequence(spec, embedding)
        self.recurrent = make_layer(width)
        self.bidirectional = bidirectional
        self.head = nn.Dropout(dropout)
        self.out = last_layer(features, spec)

    def forward(self, inputs: Tensor, lengths: Tensor | None = None) -> Tensor:
        """(batch, …) samples and their lengths, where they vary, -> (batch, ``num_outputs``)."""
        states: Tensor = self.recurrent(self.sequence(inputs), lengths)
        if lengths is None:
            last = states[:, -1]
        else:
            last = states[torch.arange(len(states), device=states.device), lengths - 1]
        if self.bidirectional:
            half = states.shape[2] // 2
            last = torch.cat([last[:, :half], states[:, 0, half:]], dim=1)
        outputs: Tensor = self.out(self.head(last))
        return outputs


class Packed(nn.Module):
    """torch's own recurrent layer, which wants sequences of varying length packed."""

    def __init__(self, layer: nn.RNNBase) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, steps: Tensor, lengths: Tensor | None) -> Tensor:
        """(batch, steps, width), lengths -> (batch, steps, features), 0 beyond the lengths."""
        if lengths is None:
            states: Tensor = self.layer(steps)[0]
            return states
        packed = pack_padded_sequence(steps, lengths.cpu(), batch_first=True, enforce_sorted=False)
        return pad_packed_sequence(self.layer(packed)[0], batch_first=True, total_length=steps.shape[1])[0]
