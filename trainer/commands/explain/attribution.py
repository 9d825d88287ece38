"""Attribute a model's prediction to the parts of its input with integrated gradients.

If the scores are probabilities, the attributed quantity is the log odds of the class, log(p / (1 - p)). The probability
itself saturates for confident predictions, so its gradient vanishes. A single logit is not suitable either, because
adding a constant to all logits does not change the softmax. Scores that are not probabilities are attributed directly.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from trainer.commands.opened_run import OpenedRun
from trainer.commands.predict import samples
from trainer.config import ConfigError
from trainer.config.messages import how_to_install
from trainer.data.sources import Inputs, unpadded
from trainer.data.table_encoding import TableEncoding

STEPS = 64  # number of points between the baseline and the sample at which gradients are computed
TIMES, MAX_STEPS = 4, 1024  # factor by which the number of steps grows while the integral is too rough, and its limit
ROUGH = 0.05  # largest accepted completeness error, as a share of the sum of absolute attributions
ROUNDING = 1e-6  # relative rounding error of float32 in the attributed quantity
NEAREST = 1e-6  # probabilities are clamped to [NEAREST, 1 - NEAREST] before their log odds are computed


@dataclass(frozen=True)
class Attribution:
    """The attributions of one sample. All tensors are on the CPU and without padding.

    Args:
        values: the attributions, float32, in units of the attributed quantity; positive values support the target.
            (height, width) for a picture, (frames, bands) for a spectrogram, (tokens,) for a text, (steps, width) for a
            sequence, (columns,) for a row of a table.
        read: the input of the model: (channels, height, width), (1, frames, bands), (tokens,) int64, (steps, width) or
            (features,).
        scores: (classes,) scores of the sample.
        target: the index of the explained class, label or value.
        output: the attributed quantity of the sample.
        baseline: the attributed quantity of the baseline, which is all zeros, or for a text only padding tokens.
    """

    values: Tensor
    read: Tensor
    scores: Tensor
    target: int
    output: float
    baseline: float

    @property
    def predicted(self) -> int:
        """The index of the class with the highest score."""
        return int(self.scores.argmax())

    @property
    def delta(self) -> float:
        """The completeness error: the sum of the attributions minus ``output - baseline``; ideally 0."""
        return float(self.values.double().sum()) - (self.output - self.baseline)

    @property
    def total(self) -> float:
        """The sum of the absolute attributions."""
        return float(self.values.abs().sum())

    @property
    def rough(self) -> bool:
        """Whether the completeness error is too large, so that the integral needs more steps."""
        return abs(self.delta) > ROUGH * self.total + ROUNDING * (abs(self.output) + abs(self.baseline))


def attribute(
    trained: OpenedRun, inputs: Inputs, targets: Tensor | None = None, steps: int | None = None
) -> list[Attribution]:
    """Compute the integrated gradients of a batch of samples (Sundararajan et al. 2017, equation 1).

    The integral along the straight line from the baseline to the sample is approximated by Gauss-Legendre quadrature,
    as in Captum. The baseline is all zeros in the model's input, which is the mean of the training data if the data are
    normalised; for tokens, it is the embedding of the padding token. Everything is computed in the precision of the
    weights, even if the run uses another precision, and in batches of the micro-batch size of the training.

    Args:
        trained: the model.
        inputs: a batch of raw samples, as for ``OpenedRun.read``.
        targets: (batch,) int64, the class, label or value to explain; None explains the class or label with the highest
            score, or the first value.
        steps: the number of steps of the quadrature; None uses 64, and more for samples with a large completeness
            error, which occurs when the output of a recurrent network changes abruptly between baseline and sample.

    Returns:
        an attribution for each sample, in the order of ``inputs``.

    Raises:
        ConfigError: Captum is missing, or the model reads tokens and does not have exactly one embedding.
    """
    need_captum()
    found = _attribute(trained, inputs, targets, steps or STEPS)
    more = STEPS * TIMES
    while steps is None and more <= MAX_STEPS and any(each.rough for each in found):
        rough = torch.tensor([at for at, each in enumerate(found) if each.rough])
        again = _attribute(trained, _take(inputs, rough), None if targets is None else targets.cpu()[rough], more)
        for at, each in zip(rough.tolist(), again, strict=True):
            found[at] = each
        more *= TIMES
    return found


def need_captum() -> None:
    """Raise ConfigError if Captum, an optional dependency, cannot be imported."""
    try:
        import captum.attr  # noqa: F401
    except ImportError as error:
        raise ConfigError(f"explain: needs captum ({error}): {how_to_install('explain')}") from error


def name_quantity(trained: OpenedRun) -> str:
    """Return the name of the attributed quantity: ``log odds``, ``value`` or ``score``."""
    if trained.spec.task == "regression":
        return "value"
    return "log odds" if _has_log_odds(trained) else "score"


def name_parts(trained: OpenedRun, attribution: Attribution, text: str | None = None) -> list[tuple[str, float]]:
    """Return pairs of (name, attribution) for the tokens, columns or steps of a sample, in order.

    The list is empty for pictures and spectrograms, whose parts have no names. If the ``text`` of the sample is given,
    tokens that are not in the vocabulary are named as written.
    """
    kind = trained.spec.kind
    if kind == "tokens":
        names = name_tokens(trained, attribution, text)
    elif kind == "table":
        names = name_columns(trained, len(attribution.values))
    elif kind == "sequence":
        names = [f"step {number}" for number in range(1, 1 + len(attribution.values))]
    else:
        return []
    values = attribution.values.sum(1) if attribution.values.ndim == 2 else attribution.values
    return list(zip(names, values.tolist(), strict=True))


def name_tokens(trained: OpenedRun, attribution: Attribution, text: str | None = None) -> list[str]:
    """Return the tokens of a sample as strings; as token IDs if the run has no vocabulary."""
    vocabulary = trained.preprocessing.get("vocabulary")
    if vocabulary is None:
        return [str(number) for number in attribution.read.tolist()]
    if text is not None:
        return samples.tokens_of(trained, text)
    return [vocabulary[number] for number in attribution.read.tolist()]


def name_columns(trained: OpenedRun, count: int) -> list[str]:
    """Return the names of the columns of a table or a sequence; ``column 1``, … if the columns have no names."""
    names = trained.preprocessing.get("columns") or []
    return [str(name) for name in names] if len(names) == count else [f"column {at}" for at in range(1, 1 + count)]


def _take(inputs: Inputs, which: Tensor) -> Inputs:
    return tuple(each[which.to(each.device)] for each in inputs)


def _attribute(trained: OpenedRun, inputs: Inputs, targets: Tensor | None, steps: int) -> list[Attribution]:
    """Compute the attributions with a fixed number of steps, in batches of samples of similar length."""
    lengths = inputs[1] if len(inputs) > 1 else None
    axis = trained.spec.step_axis if trained.features is None else 1  # waves are (batch, samples)
    order = torch.arange(len(inputs[0])) if lengths is None else lengths.cpu().argsort(stable=True)
    found: dict[int, Attribution] = {}
    with torch.inference_mode(False), torch.enable_grad(), _recurrent_gradients(trained.model):
        for some in order.split(trained.settings.micro_batch_size):
            batch = _take(inputs, some)
            if lengths is not None:
                batch = batch[0].narrow(axis, 0, int(batch[1].max())), batch[1]
            wanted = None if targets is None else targets.cpu()[some]
            found.update(zip(some.tolist(), _attribute_batch(trained, batch, wanted, steps), strict=True))
    return [found[at] for at in range(len(order))]


@contextlib.contextmanager
def _recurrent_gradients(model: nn.Module) -> Iterator[None]:
    """Disable cuDNN for a recurrent model: in evaluation mode cuDNN's RNNs, unlike PyTorch's, have no backward pass."""
    before = torch.backends.cudnn.enabled
    torch.backends.cudnn.enabled = before and not any(isinstance(each, nn.RNNBase) for each in model.modules())
    try:
        yield
    finally:
        torch.backends.cudnn.enabled = before


def _attribute_batch(trained: OpenedRun, raw: Inputs, targets: Tensor | None, steps: int) -> Iterator[Attribution]:
    read = tuple(each.detach().clone() for each in trained.read(raw))  # inference tensors cannot be used in autograd
    with torch.no_grad():
        scores = trained.loss.scores(trained.outputs(read))
    if targets is None:
        is_value = trained.spec.task == "regression"
        targets = torch.zeros(len(scores), dtype=torch.int64) if is_value else scores.argmax(1)
    targets = targets.to(trained.device)
    function = _quantity(trained)
    values = _integrate(trained, function, read, targets, steps).detach()
    start = torch.zeros_like(read[0]), *read[1:]
    with torch.no_grad():
        ends = [function(*each, targets).double().tolist() for each in (read, start)]
    samples_read = unpadded(read, trained.spec.step_axis)
    if isinstance(trained.normalise, TableEncoding):
        values = trained.normalise.sum_by_column(values)
    for at, value in enumerate(unpadded((values, *read[1:]))):  # the values of a spectrogram have no channel axis
        yield Attribution(
            values=value.cpu(),
            read=samples_read[at].cpu(),
            scores=scores[at].cpu(),
            target=int(targets[at]),
            output=ends[0][at],
            baseline=ends[1][at],
        )


def _quantity(trained: OpenedRun) -> Callable[..., Tensor]:
    """Return the attributed quantity as a function of the model's input, its lengths if they vary, and the targets."""
    has_log_odds = _has_log_odds(trained)

    def quantity(*arguments: Tensor) -> Tensor:
        *inputs, targets = arguments
        outputs, which = trained.model(*inputs).float(), targets[:, None]
        if not has_log_odds:
            return trained.loss.scores(outputs).gather(1, which)[:, 0]
        logits = _logits(trained, outputs)
        own = logits.gather(1, which)[:, 0]
        if trained.spec.task == "multilabel":
            return own
        return own - logits.scatter(1, which, -torch.inf).logsumexp(1)

    return quantity


def _logits(trained: OpenedRun, outputs: Tensor) -> Tensor:
    """Return (batch, classes) logits: the input of the softmax, or of the sigmoid in a multilabel task.

    A single output in a classification task is the logit of the second of two classes.
    """
    spec = trained.spec
    found = (outputs.logit(NEAREST) if spec.sigmoid else outputs) / (trained.temperature or 1)
    if spec.task == "classification" and spec.num_outputs == 1:
        return torch.cat([torch.zeros_like(found), found], dim=1)
    return found


def _has_log_odds(trained: OpenedRun) -> bool:
    """Return whether the scores are probabilities: whether the loss computes them with a softmax or a sigmoid."""
    spec = trained.spec
    if spec.task == "regression":
        return False
    outputs = torch.linspace(0.1, 0.9, spec.num_outputs, device=trained.device)[None]
    logits, scores = _logits(trained, outputs), trained.loss.scores(outputs)
    chances = logits.sigmoid() if spec.task == "multilabel" else logits.softmax(1)
    return scores.shape == chances.shape and torch.allclose(scores, chances, atol=1e-4)


def _integrate(
    trained: OpenedRun, function: Callable[..., Tensor], read: Inputs, targets: Tensor, steps: int
) -> Tensor:
    """Return the attributions as (batch, *shape of ``Attribution.values``), with the padding of the model's input."""
    from captum.attr import IntegratedGradients, LayerIntegratedGradients

    first, *lengths = read
    spec, rows = trained.spec, max(len(first), trained.settings.micro_batch_size)
    options: dict[str, Any] = {
        "baselines": torch.zeros_like(first),
        "additional_forward_args": (*lengths, targets),
        "n_steps": steps,
        "internal_batch_size": rows,
    }
    if spec.kind == "tokens":
        of_embedding: Tensor = LayerIntegratedGradients(function, _embedding(trained)).attribute(first, **options)
        return of_embedding.sum(2)
    values: Tensor = IntegratedGradients(function).attribute(first, **options)
    return values.sum(1) if spec.kind in ("image", "spectrogram") else values


def _embedding(trained: OpenedRun) -> nn.Embedding:
    found: Sequence[nn.Embedding] = [each for each in trained.model.modules() if isinstance(each, nn.Embedding)]
    if len(found) != 1:
        name = trained.settings.model["name"]
        count = len(found) or "no"
        raise ConfigError(f"explain: model={name}: has {count} nn.Embedding; to explain tokens it needs exactly one")
    return found[0]
