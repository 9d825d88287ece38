"""Batches: two paths, one order, any position."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
import torch

from tests.helpers import defaults, loaders_of
from trainer.data import Data, Split
from trainer.data.augment_images import OFF, AugmentKeys
from trainer.data.loader import Batch, Loader, Share, _fits
from trainer.data.sources import TensorSource
from trainer.dataset import DATASETS
from trainer.dataset.digits import digits

CPU = torch.device("cpu")
AUGMENT: AugmentKeys = {**OFF, "crop": 1, "flip": True, "rotate": 15.0, "scale": 0.1}
EVERYTHING: AugmentKeys = {**AUGMENT, "erase": 0.3, "color": 0.2, "policy": "rand", "mixup": 0.4, "cutmix": 1.0}


def made(kind: Any, shape: list[int], **keys: Any) -> Data:
    small = {"classes": 3, "samples": 101, "test_samples": 17, "vocabulary": 20, "val_fraction": 0.2, "val_seed": None}
    data: Data = DATASETS.build(defaults("dataset", "synthetic", kind=kind, shape=shape, **small, **keys), 0)
    return data


def mixed_images() -> Data:
    data = digits(
        0, val_fraction=0.15, val_seed=None, sampler="balanced", in_memory=True, workers=0, augment=EVERYTHING
    )
    return dataclasses.replace(data, train=data.train.take(torch.arange(210)))


DATA: dict[str, Callable[[], Data]] = {
    "augmented images": lambda: digits(
        0, val_fraction=0.15, val_seed=None, sampler="shuffle", in_memory=True, workers=0, augment=AUGMENT
    ),
    "mixed images": mixed_images,
    "images": lambda: made("image", [3, 9, 7]),
    "sequences": lambda: made("sequence", [12, 2], min_steps=3),
    "tokens": lambda: made("tokens", [12], min_steps=1),
    "tables": lambda: made("table", [5]),
    "labels": lambda: made("table", [5], task="multilabel"),
    "values": lambda: made("sequence", [5, 2], task="regression"),
}


def same(left: list[Batch], right: list[Batch]) -> bool:
    pairs = zip(left, right, strict=True)
    return all(
        torch.equal(a, b)
        for one, two in pairs
        for a, b in zip((*one.inputs, one.targets), (*two.inputs, two.targets), strict=True)
    )


@pytest.mark.parametrize("kind", DATA)
@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_both_paths_give_the_same_batches_bit_for_bit(kind: str, workers: int) -> None:
    data = DATA[kind]()
    resident, streamed = loaders_of(data), loaders_of(dataclasses.replace(data, in_memory=False, workers=workers))
    for split in ("train", "val", "test"):
        for epoch in (0, 3):
            left, right = (list(getattr(each, split).epoch(epoch)) for each in (resident, streamed))
            assert same(left, right)
            assert len(left) == len(getattr(resident, split)) == len(getattr(streamed, split))


@pytest.mark.parametrize("kind", ["augmented images", "mixed images"])
@pytest.mark.parametrize("in_memory", [True, False])
def test_an_epoch_can_start_in_the_middle(in_memory: bool, kind: str) -> None:
    data = dataclasses.replace(DATA[kind](), in_memory=in_memory)
    loader: Loader = loaders_of(data).train
    assert same(list(loader.epoch(2))[5:], list(loader.epoch(2, 5)))


def test_the_order_does_not_touch_the_global_generator() -> None:
    before = torch.get_rng_state()
    for in_memory in (True, False):
        list(loaders_of(dataclasses.replace(DATA["augmented images"](), in_memory=in_memory)).train.epoch())
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("kind", ["augmented images", "mixed images"])
def test_val_and_test_are_neither_shuffled_nor_augmented(kind: str) -> None:
    loaders = loaders_of(DATA[kind]())
    assert loaders.val is not None
    for loader in (loaders.val, loaders.test):
        assert same(list(loader.epoch(0)), list(loader.epoch(1)))
        assert all(batch.targets.dtype == torch.int64 for batch in loader.epoch())


def test_augmentation_changes_from_epoch_to_epoch() -> None:
    data = DATA["augmented images"]()
    few = dataclasses.replace(data, train=data.train.take(torch.arange(8)))
    one, two = (
        torch.cat([b.inputs[0].flatten(1).sum(1).sort().values for b in loaders_of(few).train.epoch(e)]) for e in (0, 1)
    )
    assert not torch.equal(one, two)


def test_overfitting_repeats_the_same_plain_batches() -> None:
    loaders = loaders_of(DATA["augmented images"](), overfit_batches=2)
    assert len(loaders.train) == 2
    assert loaders.val is loaders.train
    assert same(list(loaders.train.epoch(0)), list(loaders.train.epoch(7)))


def test_a_batch_splits_into_parts_with_all_its_inputs() -> None:
    batch = next(loaders_of(DATA["sequences"](), batch_size=10, share=Share(4)).train.epoch())
    parts = list(batch.split())
    assert [len(part.targets) for part in parts] == [4, 4, 2]
    assert torch.equal(torch.cat([part.inputs[1] for part in parts]), batch.inputs[1])


@pytest.mark.parametrize("processes", [1, 2, 3, 5])
@pytest.mark.parametrize("kind", ["augmented images", "mixed images"])
@pytest.mark.parametrize("in_memory", [True, False])
def test_the_shares_of_all_processes_are_the_micro_batches(processes: int, in_memory: bool, kind: str) -> None:
    data = dataclasses.replace(DATA[kind](), in_memory=in_memory)
    alone = list(loaders_of(data, 64, share=Share(25)).train.epoch(1))  # the last one has 18 samples
    shares = [list(loaders_of(data, 64, share=Share(25, rank, processes)).train.epoch(1)) for rank in range(processes)]
    for number, whole in enumerate(alone):
        parts = [list(each[number].split()) for each in shares]
        assert all(torch.equal(each[number].whole, whole.targets) for each in shares)
        for micro, pieces in zip(whole.split(), zip(*parts, strict=True), strict=True):
            counted = [piece for piece in pieces if piece.counts]
            assert torch.equal(torch.cat([piece.inputs[0] for piece in counted]), micro.inputs[0])
            assert torch.equal(torch.cat([piece.targets for piece in counted]), micro.targets)
            sizes = [piece.sizes[0] for piece in pieces]
            assert max(sizes) - min(sizes) <= 1


def test_a_process_without_a_sample_of_its_own_has_one_that_does_not_count() -> None:
    data = DATA["tables"]()
    few = dataclasses.replace(data, train=data.train.take(torch.arange(2)))
    (batch,) = loaders_of(few, share=Share(16, 2, 3)).train.epoch()
    assert (len(batch.targets), batch.sizes, batch.counts, len(batch.whole)) == (1, (0,), False, 2)
    (test,) = loaders_of(dataclasses.replace(few, test=few.train), share=Share(16, 1, 3)).test.epoch()
    assert (len(test.targets), test.sizes, test.counts) == (1, (1,), True)


def test_a_sample_that_is_drawn_again_is_augmented_anew() -> None:
    data = DATA["augmented images"]()
    few = dataclasses.replace(data, train=data.train.take(torch.arange(3)), balanced=True, workers=0)
    rare = dataclasses.replace(few, train=Split(few.train.source, few.train.positions.repeat(20)))
    resident, streamed = (loaders_of(dataclasses.replace(rare, in_memory=value), 64).train for value in (True, False))
    ((one,), (two,)) = list(resident.epoch()), list(streamed.epoch())
    assert torch.equal(one.inputs[0], two.inputs[0])
    assert len(one.inputs[0].flatten(1).unique(dim=0)) > 50


def test_limited_batches_of_an_evaluation_are_of_the_whole_split() -> None:
    data = DATA["tables"]()
    order = data.test.targets.argsort(stable=True)
    by_class = dataclasses.replace(data, test=data.test.take(order))
    limited = torch.cat([batch.targets for batch in loaders_of(by_class, batch_size=8, limit_batches=2).test.epoch()])
    assert len(limited) == 16
    assert set(limited.tolist()) == set(data.test.targets.tolist())


@pytest.mark.parametrize(
    ("in_memory", "free", "resident"),
    [("auto", 100, True), ("auto", 2, True), ("auto", 1.9, False), (True, 0, True), (False, 100, False)],
)
def test_samples_are_streamed_if_the_gpu_has_no_room_for_them(
    in_memory: Any, free: float, resident: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = made("image", [1, 8, 8], in_memory=in_memory)
    assert isinstance(data.train.source, TensorSource) and isinstance(data.test.source, TensorSource)
    needed = data.train.source.num_bytes + data.test.source.num_bytes * (data.test.source is not data.train.source)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (int(needed * free), needed * 100))
    assert _fits(data, torch.device("cuda", 0)) is resident
    assert _fits(data, torch.device("cpu")) is (in_memory is not False)
