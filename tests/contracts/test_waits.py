"""No step waits for the device, and every tensor of a step is on it; shown on ``meta``, without a GPU."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from tests.without_a_card import META, WaitError, on_card
from trainer import compose
from trainer.build import assemble
from trainer.device import DEVICES
from trainer.engine import Engine
from trainer.processes.group import Group
from trainer.processes.signals import Interrupts

IMAGE = ["dataset=digits", "dataset.augment.crop=1", "dataset.augment.flip=true"]
VARYING = ["dataset=synthetic", "dataset.kind=sequence", "dataset.shape=[12,3]", "dataset.min_steps=5"]
TOKENS = ["dataset=synthetic", "dataset.kind=tokens", "dataset.shape=[12]", "dataset.min_steps=5"]
TWO_WAYS = ["model.bidirectional=true", "model.layers=2", "model.dropout=0.1"]
RUNS = {
    "cnn": [*IMAGE, "model=cnn", "accumulate=2", "clip_norm=1.0", "ema=0.9"],
    "mixing": [*IMAGE, "model=cnn", "dataset.augment.mixup=0.2", "dataset.augment.cutmix=1.0"],
    "policy": [*IMAGE, "model=cnn", "dataset.augment.policy=rand", "dataset.augment.color=0.2"],
    "changes": [*IMAGE, "model=cnn", "model.norm=batch", "dataset.augment.rotate=5", "dataset.augment.erase=0.5"],
    "weights": [*IMAGE, "model=cnn", "loss=focal", "loss.weight=balanced", "dataset.sampler=balanced"],
    "varying cnn": [*VARYING, "model=cnn", "model.norm=batch", "model.channels=[8]", "model.global_pool=mean"],
    "gru": [*VARYING, "model=gru", "model.layers=2", "model.dropout=0.1", "ema=0.9"],
    "gru of two directions": [*VARYING, "model=gru", *TWO_WAYS],
    "earlier gru": [*VARYING, "model=gru", "model.reset_after=false", *TWO_WAYS],
    "lstm": [*TOKENS, "model=lstm"],
    "lstm of two directions": [*TOKENS, "model=lstm", *TWO_WAYS],
    "torchvision": [*IMAGE, "model=torchvision", "model.arch=squeezenet1_1", "model.size=32"],
    "regression": ["dataset=synthetic", "dataset.task=regression", "model=lstm", "loss=huber"],
    "labels": ["dataset=synthetic", "dataset.task=multilabel", "model=cnn", "loss=bce_prob"],
}


@pytest.fixture
def on_meta() -> Iterator[None]:
    """Register ``meta`` as a device."""

    def meta() -> torch.device:
        return META

    DEVICES._components["meta"] = meta
    yield
    del DEVICES._components["meta"]


def engine_on_meta(*words: str) -> Engine:
    """Return an engine whose model, batches and state are on ``meta``."""
    # rmsprop, as the fused optimizers refuse a device that they do not know
    settings = compose(*words, "batch_size=16", "optimizer=rmsprop", "deterministic=false").settings
    parts = assemble(settings.replace(device={"name": "meta"}))
    return Engine(parts, settings, Group(), Interrupts())


FAST = [("mixing", False), ("policy", True), ("varying cnn", False), ("lstm of two directions", False)]
CASES = [
    pytest.param(name, streamed, marks=[] if (name, streamed) in FAST else pytest.mark.slow)
    for name in RUNS
    for streamed in (False, True)
]


@pytest.mark.parametrize(("name", "streamed"), CASES)
def test_steps_do_not_wait_for_the_device(name: str, streamed: bool, on_meta: None) -> None:
    engine = engine_on_meta(*RUNS[name], *["dataset.in_memory=false"] * streamed)
    batches = engine.loaders.train.epoch()
    engine.train_step(next(batches))  # copies to the device what later steps find there
    with on_card():
        for _ in range(2):
            engine.train_step(next(batches))


def test_a_point_of_the_curve_is_read_in_one_piece(on_meta: None) -> None:
    engine = engine_on_meta(*RUNS["weights"])
    batches = engine.loaders.train.epoch()
    for _ in range(3):
        engine.train_step(next(batches))
    with on_card():
        engine.recorder.start_epoch(1, 3, 0)
        engine.log_window()


def test_what_waits_is_found() -> None:
    card = torch.ones(3, device=META)
    for wait in (
        lambda: float(card.sum()),
        card.tolist,
        card.cpu,
        lambda: card[card > 0],
        lambda: torch.ones(3).to(META),
        lambda: card + torch.ones(3),
        lambda: card.index_select(0, torch.tensor([1])),
        lambda: card.long().bincount(minlength=3),
    ):
        with pytest.raises((WaitError, RuntimeError)), on_card():
            wait()
