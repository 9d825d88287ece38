"""How much each part of a sample counted for what a model says of it: integrated gradients.

What is attributed is, where the scores are probabilities, the log odds of the class, log p / (1 - p). A probability
stands still where the model is sure, so that hardly a gradient is left of it; and one output alone says nothing where
there are several: a softmax does not change when all of them grow. Of other scores it is the score itself.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from trainer.commands.opened_run import OpenedRun
from trainer.commands.predict import samples
from trainer.config import ConfigError
from trainer.config.messages import how_to_install
from trainer.data.data import Inputs
from trainer.spec import Spec

STEPS = 64  # points on the way from the baseline, where gradients are taken
TIMES, MAX_STEPS = 4, 1024  # as many where that is too rough, and how many at most
ROUGH = 0.05  # error of the integral that is too much, as a share of all that counted
ROUNDING = 1e-6  # error of float32, as a share of what is attributed
NEAREST = 1e-6  # a probability to 0 and 1, before its log odds are taken


@dataclass(frozen=True)
class Attribution:
    """What counted in one sample; all tensors are on the CPU and without padding.

    Args:
        values: float32; of a picture (height, width), of a spectrogram (frames, bands), of a text (tokens,), of a
            sequence (steps, width), of a table (columns,). Positive numbers speak for the target, in units of what
            is attributed.
        read: what the model read: (channels, height, width), (1, frames, bands), (tokens,) numbers, (steps, width),
            (columns,).
        scores: (classes,) of the sample.
        target: the number of the class, label or value that is explained.
        output: what is attributed, of the sample.
        baseline: the same of the baseline: zeros, or a text of nothing but padding.
    """

    values: Tensor
    read: Tensor
    scores: Tensor
    target: int
    output: float
    baseline: float

    @property
    def predicted(self) -> int:
        """The number of the highest score."""
        return int(self.scores.argmax())

    @property
    def delta(self) -> float:
        """By how much the values do not add up to ``output - baseline``: the error of the integral."""
        return float(self.values.double().sum()) - (self.output - self.baseline)

    @property
    def total(self) -> float:
        """All that counted, for the target and against it."""
        return float(self.values.abs().sum())

    @property
    def rough(self) -> bool:
        """Whether the integral had too few steps, so that the values mean little."""
        return abs(self.delta) > ROUGH * self.total + ROUNDING * (abs(self.output) + abs(self.baseline))


def attribute(
    trained: OpenedRun, inputs: Inputs, targets: Tensor | None = None, steps: int | None = None
) -> list[Attribution]:
    """Integrated gradients (Sundararajan et al. 2017, equation 1) of some samples.

    The integral over the straight line from the baseline is a Gauss-Legendre sum, as in Captum. The baseline is zeros
    in what the model reads, the mean of the training data where they are normalised; of tokens, the vectors that the
    model's embedding has for padding. All is computed in the precision of the weights, whatever the run's is, and so
    many rows at a time as in a step of the training.

    Args:
        trained: the model.
        inputs: a batch of raw samples, as ``OpenedRun.read`` takes it.
        targets: (batch,) int64, which class, label or value is explained; None: that with the highest score, or the
            first value.
        steps: of the sum; None: 64, and more for samples whose values do not add up, as those of a recurrent network
            that has a cliff on the way.

    Returns:
        one for each sample, in their order.

    Raises:
        ConfigError: Captum is missing, or the model reads tokens and has not exactly one embedding.
    """
    need_captum()
    found = _attribute(trained, inputs, targets, steps or STEPS)
    more = STEPS * TIMES
    while steps is None and more <= MAX_STEPS and any(each.rough for each in found):
        rough = torch.tensor([at for at, each in enumerate(found) if each.rough])
        again = _attribute(trained, _taken(inputs, rough), None if targets is None else targets.cpu()[rough], more)
        for at, each in zip(rough.tolist(), again, strict=True):
            found[at] = each
        more *= TIMES
    return found


def need_captum() -> None:
    """Raises ConfigError where Captum, which is optional, is missing."""
    try:
        import captum.attr  # noqa: F401
    except ImportError as error:
        raise ConfigError(f"explain: needs captum ({error}): {how_to_install('explain')}") from error


def quantity(trained: OpenedRun) -> str:
    """What is attributed: log odds, the value, or the score."""
    if trained.spec.task == "regression":
        return "value"
    return "log odds" if _has_log_odds(trained) else "score"


def parts(trained: OpenedRun, attribution: Attribution, shown: str | None = None) -> list[tuple[str, float]]:
    """(name, value) of each token, column or step, in their order; nothing of pictures and spectrograms.

    Args:
        trained: knows the vocabulary and the columns.
        attribution: of a sample.
        shown: its text, where it is known: then also unknown tokens have their own names.
    """
    kind = trained.spec.kind
    if kind == "tokens":
        names = tokens(trained, attribution, shown)
    elif kind == "table":
        names = columns(trained, len(attribution.values))
    elif kind == "sequence":
        names = [f"step {number}" for number in range(1, 1 + len(attribution.values))]
    else:
        return []
    values = attribution.values.sum(1) if attribution.values.ndim == 2 else attribution.values
    return list(zip(names, values.tolist(), strict=True))


def tokens(trained: OpenedRun, attribution: Attribution, shown: str | None = None) -> list[str]:
    """Those of a sample in words; numbers where the run has no vocabulary."""
    vocabulary = trained.learned.get("vocabulary")
    if vocabulary is None:
        return [str(number) for number in attribution.read.tolist()]
    if shown is not None:
        return samples.tokens_of(trained, shown)
    return [vocabulary[number] for number in attribution.read.tolist()]


def columns(trained: OpenedRun, count: int) -> list[str]:
    """The names of the columns of a table or a sequence; numbers from 1 where there are none."""
    names = trained.learned.get("columns") or []
    return [str(name) for name in names] if len(names) == count else [f"column {at}" for at in range(1, 1 + count)]


def _taken(inputs: Inputs, which: Tensor) -> Inputs:
    return tuple(each[which.to(each.device)] for each in inputs)


def _attribute(trained: OpenedRun, inputs: Inputs, targets: Tensor | None, steps: int) -> list[Attribution]:
    """``attribute`` with so many steps; samples of similar length together."""
    lengths = inputs[1] if len(inputs) > 1 else None
    axis = trained.spec.step_axis if trained.features is None else 1  # waves are (batch, samples)
    order = torch.arange(len(inputs[0])) if lengths is None else lengths.cpu().argsort(stable=True)
    found: dict[int, Attribution] = {}
    with torch.inference_mode(False), torch.enable_grad(), _with_gradients(trained.model):
        for some in order.split(trained.settings.micro_batch_size):
            batch = _taken(inputs, some)
            if lengths is not None:
                batch = batch[0].narrow(axis, 0, int(batch[1].max())), batch[1]
            wanted = None if targets is None else targets.cpu()[some]
            found.update(zip(some.tolist(), _attributed(trained, batch, wanted, steps), strict=True))
    return [found[at] for at in range(len(order))]


def _with_gradients(model: nn.Module) -> AbstractContextManager[None]:
    """cuDNN's recurrent layers keep nothing for a backward pass when they do not train; torch's own do."""
    recurrent = any(isinstance(each, nn.RNNBase) for each in model.modules())
    if not recurrent or not torch.backends.cudnn.is_available():
        return contextlib.nullcontext()
    return _without_cudnn()


@contextlib.contextmanager
def _without_cudnn() -> Iterator[None]:
    before = torch.backends.cudnn.enabled
    torch.backends.cudnn.enabled = False
    try:
        yield
    finally:
        torch.backends.cudnn.enabled = before


def _attributed(trained: OpenedRun, raw: Inputs, targets: Tensor | None, steps: int) -> Iterator[Attribution]:
    """The same of samples of similar length, all at once."""
    read = tuple(each.detach().clone() for each in trained.read(raw))  # what inference mode made takes no gradients
    with torch.no_grad():
        scores = trained.loss.scores(trained.outputs(read))
    if targets is None:
        is_value = trained.spec.task == "regression"
        targets = torch.zeros(len(scores), dtype=torch.int64) if is_value else scores.argmax(1)
    targets = targets.to(trained.device)
    function = _Attributed(trained)
    values = _integrated(trained, function, read, targets, steps).detach()
    start = torch.zeros_like(read[0]), *read[1:]
    with torch.no_grad():
        ends = [function(*each, targets).double().tolist() for each in (read, start)]
    lengths = read[1].tolist() if len(read) > 1 else None
    axis = trained.spec.step_axis
    for at in range(len(scores)):
        first, value = read[0][at], values[at]
        if lengths is not None:  # the axis of the batch is gone; of a spectrogram's values that of the channel too
            first, value = first.narrow(axis - 1, 0, lengths[at]), value.narrow(0, 0, lengths[at])
        yield Attribution(
            values=value.cpu(),
            read=first.cpu(),
            scores=scores[at].cpu(),
            target=int(targets[at]),
            output=ends[0][at],
            baseline=ends[1][at],
        )


class _Attributed:
    """What is attributed, as a function of what the model reads, its lengths where there are some, and the targets."""

    def __init__(self, trained: OpenedRun) -> None:
        self.model, self.loss, self.spec = trained.model, trained.loss, trained.spec
        self.has_log_odds = _has_log_odds(trained)

    def __call__(self, *arguments: Tensor) -> Tensor:
        """(batch,)."""
        *inputs, targets = arguments
        outputs = self.model(*inputs).float()
        if not self.has_log_odds:
            return _of(self.loss.scores(outputs), targets)
        logits = _logits(self.spec, outputs)
        own = _of(logits, targets)
        if self.spec.task == "multilabel":
            return own
        return own - logits.scatter(1, targets[:, None], -torch.inf).logsumexp(1)


def _of(values: Tensor, targets: Tensor) -> Tensor:
    return values.gather(1, targets[:, None])[:, 0]


def _logits(spec: Spec, outputs: Tensor) -> Tensor:
    """What a softmax makes probabilities of, or of labels a sigmoid; one output is that of the second of two."""
    found = outputs.logit(NEAREST) if spec.sigmoid else outputs
    if spec.task == "classification" and spec.num_outputs == 1:
        return torch.cat([torch.zeros_like(found), found], dim=1)
    return found


def _has_log_odds(trained: OpenedRun) -> bool:
    """Whether the loss makes the scores of outputs as the losses over probabilities do; that of values does not."""
    spec = trained.spec
    if spec.task == "regression":
        return False
    outputs = torch.linspace(0.1, 0.9, spec.num_outputs, device=trained.device)[None]
    logits, scores = _logits(spec, outputs), trained.loss.scores(outputs)
    chances = logits.sigmoid() if spec.task == "multilabel" else logits.softmax(1)
    return scores.shape == chances.shape and torch.allclose(scores, chances, atol=1e-4)


def _integrated(trained: OpenedRun, function: _Attributed, read: Inputs, targets: Tensor, steps: int) -> Tensor:
    """(batch, *shape of ``Attribution.values``), padded as what is read."""
    from captum.attr import IntegratedGradients, LayerIntegratedGradients

    first, *lengths = read
    spec, rows = trained.spec, max(len(first), trained.settings.micro_batch_size)
    options: dict[str, Any] = {
        "baselines": torch.zeros_like(first),
        "additional_forward_args": (*lengths, targets),
        "n_steps": steps,
        "internal_batch_size": rows,
    }
    values: Tensor
    if spec.kind == "tokens":
        values = LayerIntegratedGradients(function, _embedding(trained)).attribute(first, **options)
        return values.sum(2)
    values = IntegratedGradients(function).attribute(first, **options)
    return values.sum(1) if spec.kind in ("image", "spectrogram") else values


def _embedding(trained: OpenedRun) -> nn.Embedding:
    found: Sequence[nn.Embedding] = [each for each in trained.model.modules() if isinstance(each, nn.Embedding)]
    if len(found) != 1:
        name = trained.settings.model["name"]
        count = len(found) or "no"
        raise ConfigError(f"explain: model={name}: has {count} nn.Embedding; of tokens one is needed, for gradients")
    return found[0]
