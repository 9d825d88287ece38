"""The temperature that fits probabilities to val: the lowest log loss, for classes and labels, in any order."""

from __future__ import annotations

import pytest
import torch

from trainer.metrics.of_scores import calibration_error, log_loss
from trainer.metrics.temperature import fit_temperature


def sample(task: str, count: int, sure: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Return logits that are ``sure`` times as large as those that the targets were drawn with, and the targets."""
    maker = torch.Generator().manual_seed(1)
    logits = torch.randn(count, 3, generator=maker, dtype=torch.float64)
    if task == "multilabel":
        return sure * logits, torch.bernoulli(logits.sigmoid(), generator=maker).float()
    return sure * logits, torch.multinomial(logits.softmax(1), 1, generator=maker)[:, 0]


def probabilities(task: str, logits: torch.Tensor) -> torch.Tensor:
    return logits.sigmoid() if task == "multilabel" else logits.softmax(1)


@pytest.mark.parametrize("task", ["classification", "multilabel"])
@pytest.mark.parametrize("sure", [0.3, 1.0, 4.0])
def test_no_temperature_has_a_lower_log_loss(task: str, sure: float) -> None:
    logits, targets = sample(task, 4000, sure)
    found = fit_temperature(probabilities(task, logits), targets)
    assert found.temperature == pytest.approx(sure, rel=0.1)  # the targets were drawn from these probabilities
    losses = [
        log_loss(probabilities(task, logits / (found.temperature * factor)), targets) for factor in (0.99, 1, 1.01)
    ]
    assert min(losses) == losses[1] == pytest.approx(found.log_loss[1], abs=1e-12)
    assert found.log_loss[0] == log_loss(probabilities(task, logits), targets) >= found.log_loss[1]
    after = probabilities(task, logits / found.temperature)
    assert found.error[1] == pytest.approx(calibration_error(after, targets), abs=1e-9)


def test_the_order_of_the_samples_does_not_change_the_temperature() -> None:
    logits, targets = sample("classification", 999, 3.0)
    order = torch.randperm(999, generator=torch.Generator().manual_seed(2))
    one, other = (fit_temperature(logits[at].softmax(1), targets[at]) for at in (torch.arange(999), order))
    assert one.temperature == other.temperature == float(f"{one.temperature:.6g}")


def test_without_a_mistake_on_val_no_temperature_is_the_best_and_the_probabilities_stay() -> None:
    logits, _ = sample("classification", 50, 1.0)
    for targets in (logits.argmax(1), logits.argmin(1)):  # the log loss falls as far as the temperature does, or rises
        found = fit_temperature(logits.softmax(1), targets)
        assert found.temperature == 1 and found.log_loss[0] == pytest.approx(found.log_loss[1])
        assert str(found) == "not calibrated: no temperature has the lowest log loss on val"


def test_a_line_says_what_the_temperature_does() -> None:
    logits, targets = sample("classification", 4000, 4.0)
    text = str(fit_temperature(logits.softmax(1), targets))
    assert text.startswith("calibrated on val: logits / ") and "; log_loss 1." in text and ", ece 0." in text
