"""Batch normalisation in models: no bias before it, and enough samples for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from tests.conftest import Train
from tests.helpers import defaults, image_spec
from trainer.model import MODELS

SMALL = ("model=torchvision", "model.arch=resnet18", "dataset=synthetic", "dataset.shape=[1,8,8]", "dataset.samples=8")


@pytest.mark.parametrize(
    "keys",
    [
        {"name": "cnn", "norm": "batch"},
        pytest.param({"name": "torchvision", "arch": "vgg11_bn", "size": 32}, marks=pytest.mark.slow),
    ],
    ids=lambda keys: keys["name"],
)
def test_no_gradient_is_only_a_rounding_error(keys: dict[str, Any]) -> None:
    """Adam would enlarge it to whole steps, which differ with the order of summation."""
    model = MODELS.build(defaults("model", **keys), image_spec(1, 8, 8)).train()
    images, targets = torch.randn(6, 1, 8, 8, generator=torch.Generator().manual_seed(1)), torch.arange(6) % 3
    gradients = []
    for dtype in (torch.float32, torch.float64):
        model.to(dtype).zero_grad()
        torch.manual_seed(0)  # of the dropout
        F.cross_entropy(model(images.to(dtype)), targets).backward()
        gradients.append({name: weight.grad.double() for name, weight in model.named_parameters()})
    for name, exact in gradients[1].items():
        assert exact.norm() > 1e-6 and (gradients[0][name] - exact).norm() < 0.1 * exact.norm(), name


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("batch_size=1",), "batch_size: 1 sample has one value per channel in the batch normalisation network.layer"),
        (("batch_size=4", "accumulate=4"), "accumulate: each of 4 pieces of a batch of 4 is one sample"),
        (
            ("dataset.samples=1", "dataset.val_fraction=0"),
            "dataset: the only training sample has one value per channel",
        ),
    ],
)
def test_batches_without_any_variance_are_refused_before_training(
    train: Train, words: tuple[str, ...], message: str
) -> None:
    result = train(*SMALL, *words)
    assert (result.code, result.err.count("\n"), result.run_dirs) == (2, 1, [])
    assert message in result.err


def test_larger_samples_are_enough_one_by_one(train: Train) -> None:
    words = ("model.norm=batch", "model.channels=[2]", "model.hidden=4", "batch_size=1", "max_steps=2", "logger=none")
    assert train("dataset=synthetic", "dataset.samples=10", *words).code == 0


@pytest.mark.parametrize("words", [("batch_size=4",), ("batch_size=3", "accumulate=2")], ids=" ".join)
def test_a_micro_batch_of_one_sample_counts_also_if_it_has_one_step(
    train: Train, tmp_path: Path, words: tuple[str, ...]
) -> None:
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "good.txt").write_text("hi\nyes\nall\n" * 2)
    (tmp_path / "texts" / "bad.txt").write_text("no\nnone\nnever\n" * 2)
    keys = ("model.norm=batch", "model.channels=[2]", "model.hidden=4", "logger=none", "log_every=1", "epochs=1")
    data = ("dataset=text", f"dataset.path={tmp_path}/texts", "dataset.min_count=1", "dataset.val_fraction=0.1")
    results = [train(*data, *keys, *words, f"dataset.in_memory={kind}") for kind in ("true", "false")]
    assert [result.code for result in results] == [0, 0]
    assert len(results[0].points("train/loss")) == 3 or words[0] == "batch_size=3"
    assert results[0].points("train/loss") == results[1].points("train/loss")
