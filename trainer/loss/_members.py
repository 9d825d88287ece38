"""The loss of a model with several members, each of which has outputs of its own for every sample."""

from __future__ import annotations

import dataclasses

from torch import Tensor, nn

from trainer.loss import Loss
from trainer.spec import Spec


def for_members(model: nn.Module, loss: Loss, spec: Spec) -> tuple[Loss, Spec]:
    """Return the loss and the spec of a model, which may have an attribute ``members``, the number of its members."""
    members = getattr(model, "members", 1)
    if members == 1:
        return loss, spec
    found = MemberLoss(loss, members)
    return found, dataclasses.replace(spec, num_outputs=found.num_outputs)


class MemberLoss(nn.Module):
    """The mean of a loss over the members of a model; the scores are the means of those of the members.

    Args:
        loss: the loss of one member.
        members: the number of members. The outputs of the model are (batch, members * outputs of the loss).
    """

    def __init__(self, loss: Loss, members: int) -> None:
        super().__init__()
        self.loss, self.members = loss, members
        self.num_outputs, self.sigmoid = members * loss.num_outputs, loss.sigmoid

    def forward(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the mean loss of all members and samples."""
        return self.loss(self._by_member(outputs), targets.repeat_interleave(self.members, dim=0))

    def size(self, targets: Tensor) -> Tensor | int:
        """Return the divisor of the mean loss of one member."""
        return self.loss.size(targets)

    def scores(self, outputs: Tensor) -> Tensor:
        """Return the mean scores of the members."""
        scores = self.loss.scores(self._by_member(outputs))
        return scores.view(-1, self.members, scores.shape[-1]).mean(1)

    def _by_member(self, outputs: Tensor) -> Tensor:
        """Return (batch * members, outputs of the loss)."""
        return outputs.reshape(-1, self.loss.num_outputs)
