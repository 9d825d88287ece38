"""Splits, normalisation and checks of raw data."""

from __future__ import annotations

import pytest
import torch

from trainer.config import ConfigError, RunError
from trainer.data import Normalise, Split, TensorSource, check_classes, generator, split_off


def imbalanced(count: int = 1000) -> Split:
    targets = torch.tensor([0] * (count * 8 // 10) + [1] * (count * 2 // 10))
    return Split.all(TensorSource((torch.randn(count, 3, 2, 2, generator=generator("x")),), targets))


def test_a_split_is_stratified_disjoint_complete_and_follows_the_seed() -> None:
    whole = imbalanced()
    train, val = split_off(whole, 0.15, seed=0)
    assert val is not None
    assert val.targets.bincount().tolist() == [120, 30]
    assert len(split_off(whole, 0.333, seed=0)[0]) == 667
    assert torch.equal(torch.cat([train.positions, val.positions]).sort().values, whole.positions)
    again = split_off(whole, 0.15, seed=0)[1]
    other = split_off(whole, 0.15, seed=1)[1]
    assert again is not None
    assert other is not None
    assert torch.equal(val.positions, again.positions)
    assert not torch.equal(val.positions, other.positions)


def test_no_fraction_means_no_split() -> None:
    whole = imbalanced()
    assert split_off(whole, 0.0, seed=0) == (whole, None)


@pytest.mark.parametrize("fraction", [1e-6, 0.9999])
def test_a_fraction_that_empties_a_side_is_refused(fraction: float) -> None:
    with pytest.raises(ConfigError, match=r"dataset\.val_fraction: .* leaves (val|train) without a sample"):
        split_off(imbalanced(), fraction, seed=0)


def test_labels_and_values_are_split_too() -> None:
    source = TensorSource((torch.zeros(50, 2),), torch.randn(50, 4))
    train, val = split_off(Split.all(source), 0.2, seed=0)
    assert val is not None
    assert (len(train), len(val)) == (40, 10)


def test_normalisation_is_measured_on_the_split_alone_and_gives_zero_mean_unit_variance() -> None:
    whole = imbalanced()
    train, _ = split_off(whole, 0.5, seed=0)
    normalise = Normalise.measure(train, chunk=37)
    inputs = train.source.fetch(train.positions)[0]
    torch.testing.assert_close(normalise.mean, inputs.mean((0, 2, 3)), atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(normalise.std, inputs.std((0, 2, 3), correction=0), atol=1e-6, rtol=1e-5)
    outputs = normalise(inputs)
    torch.testing.assert_close(outputs.mean((0, 2, 3)), torch.zeros(3), atol=1e-6, rtol=0)
    assert not torch.equal(normalise.mean, Normalise.measure(whole).mean)


def test_a_constant_channel_is_left_at_zero() -> None:
    split = Split.all(
        TensorSource((torch.full((4, 1, 2, 2), 7, dtype=torch.uint8),), torch.zeros(4, dtype=torch.int64))
    )
    assert torch.equal(Normalise.measure(split)(split.head(4)), torch.zeros(4, 1, 2, 2))


@pytest.mark.parametrize("wrong", [-1, 3])
def test_a_label_outside_the_classes_is_named(wrong: int) -> None:
    targets = torch.tensor([0, 1, wrong, 2])
    with pytest.raises(RunError, match=rf"dataset=mine: train sample 2 has label {wrong}, outside 0 to 2"):
        check_classes("mine", "train", targets, 3)


def test_a_generator_is_a_function_of_its_whole_key() -> None:
    draws = [torch.rand(4, generator=generator(*key)) for key in ((0, 1, "a"), (0, 1, "a"), (1, 0, "a"), (0, 1, "b"))]
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])
    assert not torch.equal(draws[0], draws[3])
