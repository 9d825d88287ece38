"""From raw samples to model inputs, and mixing."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch

from tests.helpers import loaders_of
from trainer.data import Data, Normalise, Split, TensorSource
from trainer.data.augment_images import OFF, Augment, AugmentKeys
from trainer.data.mixup import MixImages
from trainer.data.preprocess import to_model_inputs
from trainer.spec import Spec


@pytest.mark.parametrize("axis", [1, 2])
def test_padding_is_zero_after_normalisation_and_the_raw_samples_stay(axis: int) -> None:
    raw, lengths = torch.full((2, 3, 3), 7.0), torch.tensor([1, 3])
    normalise = Normalise(torch.tensor([5.0]), torch.tensor([4.0]))
    values, kept = to_model_inputs((raw, lengths), None, normalise, axis)
    valid = values.movedim(axis, 1)
    assert valid[0, :1].eq(0.5).all() and not valid[0, 1:].any() and valid[1].eq(0.5).all()
    assert kept is lengths
    assert raw.eq(7).all()


def test_features_come_before_normalisation_and_nothing_is_done_without_either() -> None:
    raw = (torch.tensor([[1.0], [3.0]]),)
    normalise = Normalise(torch.tensor([2.0]), torch.tensor([1.0]))
    (values,) = to_model_inputs(raw, lambda inputs: (inputs[0] * 10,), normalise, 1)
    assert values.tolist() == [[8], [28]]
    assert to_model_inputs(raw, None, None, 1) is raw


# Mixing: every sample is a class of its own, and an image of its number, so that an image says what is in it


def numbered(samples: int = 60, *, mixup: float = 1.0, cutmix: float = 0.0, **keys: Any) -> Data:
    images = torch.arange(samples).float().view(-1, 1, 1, 1).expand(-1, 1, 16, 16)
    whole = Split.all(TensorSource((images,), torch.arange(samples)))
    spec = Spec("numbered", "image", (1, 16, 16), "classification", tuple(map(str, range(samples))))
    mix = MixImages(mixup=mixup, cutmix=cutmix, height=16, width=16)
    train, held = whole.take(torch.arange(0, samples, 2)), whole.take(torch.arange(1, samples, 2))
    return Data(spec, train, None, held, mix=mix, **keys)


@pytest.mark.parametrize(("mixup", "cutmix"), [(1.0, 0.0), (0.0, 1.0), (1.0, 1.0)])
@pytest.mark.parametrize("in_memory", [True, False])
def test_targets_are_the_shares_of_what_is_in_the_image(in_memory: bool, mixup: float, cutmix: float) -> None:
    data = numbered(mixup=mixup, cutmix=cutmix, in_memory=in_memory)
    loader = loaders_of(data, 7).train
    for number, batch in enumerate(loader.epoch(2)):
        (images,), targets = batch.inputs, batch.targets
        assert targets.dtype == torch.float32 and targets.shape == (len(images), 60)
        assert torch.equal(targets, batch.whole)
        torch.testing.assert_close(targets.sum(1), torch.ones(len(images)))
        torch.testing.assert_close(images.mean((1, 2, 3)), targets @ torch.arange(60.0), rtol=0, atol=1e-4)
        own = loader.positions(2, number)
        for target, position in zip(targets, own.tolist(), strict=True):
            (others,) = [[each for each in target.nonzero().flatten().tolist() if each != position]]
            assert len(others) <= 1
            assert all(other % 2 == 0 for other in others)  # of the training samples alone


def test_partners_change_from_epoch_to_epoch_and_are_any_sample() -> None:
    loader = loaders_of(numbered(), 60).train
    partners: dict[int, set[int]] = {}
    for epoch in range(40):
        (batch,) = loader.epoch(epoch)
        for target, position in zip(batch.targets, loader.positions(epoch, 0).tolist(), strict=True):
            partners.setdefault(position, set()).update(target.nonzero().flatten().tolist())
    assert set(partners) == set(range(0, 60, 2))
    assert all(len(found) > 12 for found in partners.values())  # 40 draws of 30 give 22 different ones
    assert set.union(*partners.values()) == set(range(0, 60, 2))


def test_labels_are_mixed_as_they_are() -> None:
    labels = (torch.rand(40, 3, generator=torch.Generator().manual_seed(0)) < 0.5).float()
    images = labels.mean(1).view(-1, 1, 1, 1).expand(-1, 1, 4, 4)
    split = Split.all(TensorSource((images,), labels))
    mix = MixImages(mixup=1.0, cutmix=0.0, height=4, width=4)
    data = Data(Spec("labels", "image", (1, 4, 4), "multilabel", ("a", "b", "c")), split, None, split, mix=mix)
    for batch in loaders_of(data, 16).train.epoch():
        assert batch.targets.shape[1] == 3
        torch.testing.assert_close(batch.inputs[0].mean((1, 2, 3)), batch.targets.mean(1))
    assert bool(((batch.targets > 0) & (batch.targets < 1)).any())


def test_partners_are_augmented_as_they_are_themselves() -> None:
    keys: AugmentKeys = {**OFF, "crop": 3}
    plain = dataclasses.replace(numbered(), augment=Augment(keys), mix=None)
    alone = {}
    loader = loaders_of(plain, 60).train
    for batch in loader.epoch(4):
        alone = dict(zip(loader.positions(4, 0).tolist(), batch.inputs[0], strict=True))
    loader = loaders_of(dataclasses.replace(plain, mix=numbered().mix), 60).train
    (batch,) = loader.epoch(4)
    for image, target in zip(batch.inputs[0], batch.targets, strict=True):
        wanted = sum(float(target[each]) * alone[each] for each in target.nonzero().flatten().tolist())
        torch.testing.assert_close(image, wanted, rtol=0, atol=1e-4)
