"""Splits, normalisation and checks of raw data."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from trainer.config import ConfigError, RunError
from trainer.data import Data, Normalise, RaggedSource, Split, TensorSource, split_off
from trainer.data.data import check_classes, generator
from trainer.data.sources import Inputs, channel_values, keep, valid_steps
from trainer.spec import Spec


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


def sequences(width: int = 2) -> list[Tensor]:
    """Of 1 to 9 steps, far from 0 and from one another."""
    maker = generator("sequences")
    offset = torch.tensor([100.0, -3.0, 0.5])[:width]
    return [torch.randn(steps, width, generator=maker) * 7 + offset for steps in (4, 1, 9, 2, 2, 6, 3)]


def ragged(samples: list[Tensor]) -> RaggedSource:
    return RaggedSource.join(samples, torch.arange(len(samples)))


def test_normalisation_of_sequences_counts_no_padding() -> None:
    samples = sequences()
    together = torch.cat(samples).double()
    for chunk in (1, 3, 100):  # padded to other lengths
        normalise = Normalise.measure(Split.all(ragged(samples)), chunk=chunk, axis=2)
        torch.testing.assert_close(normalise.mean, together.mean(0).float())
        torch.testing.assert_close(normalise.std, together.std(0, correction=0).float())
    padded = torch.nn.utils.rnn.pad_sequence(samples, batch_first=True)
    lengths = torch.tensor([len(sample) for sample in samples])
    whole = Normalise.measure(Split.all(TensorSource((padded, lengths), torch.arange(7))), axis=2)
    torch.testing.assert_close(whole.mean, together.mean(0).float())
    outputs = whole(padded)
    for output, sample in zip(outputs, samples, strict=True):
        wanted = (sample - whole.mean) / whole.std
        torch.testing.assert_close(output[: len(sample)], wanted)


class Spectrum:
    """Two bands of every step of a wave, (batch, 1, steps, 2): the features of a test."""

    def __call__(self, inputs: Inputs) -> Inputs:
        wave, lengths = inputs
        return torch.stack([wave[:, :, 0] * 2, wave[:, :, 1] - 5], 2).unsqueeze(1), lengths

    def to(self, device: torch.device) -> Spectrum:
        return self

    def preprocessing(self) -> dict[str, Any]:
        return {}


def test_normalisation_is_measured_on_the_features() -> None:
    samples = sequences()
    normalise = Normalise.measure(Split.all(ragged(samples)), chunk=3, axis=3, features=Spectrum())
    together = torch.cat(samples).double()
    bands = torch.stack([together[:, 0] * 2, together[:, 1] - 5], 1)
    torch.testing.assert_close(normalise.mean, bands.mean(0).float())
    torch.testing.assert_close(normalise.std, bands.std(0, correction=0).float())
    assert normalise.to(torch.device("cpu")).axis == 3


@pytest.mark.parametrize(("most", "taken"), [(4, slice(None, None, 3)), (10, slice(None)), (3, slice(None, None, 4))])
def test_normalisation_of_many_samples_is_that_of_some_over_the_whole_split(most: int, taken: slice) -> None:
    values = torch.arange(10.0).square()[:, None]
    split = Split.all(TensorSource((values,), torch.zeros(10, dtype=torch.int64)))
    normalise = Normalise.measure(split, most=most)
    assert len(values[taken]) <= most
    torch.testing.assert_close(normalise.mean, values[taken].mean(0))
    torch.testing.assert_close(normalise.std, values[taken].std(0, correction=0))


@pytest.mark.parametrize("axis", [1, 2, 3])
def test_channels_may_lie_along_any_axis(axis: int) -> None:
    values = torch.randn(6, 3, 4, 5, generator=generator("axis")) * torch.arange(1, 6) + torch.arange(4)[:, None]
    normalise = Normalise.measure(Split.all(TensorSource((values,), torch.zeros(6, dtype=torch.int64))), axis=axis)
    others = [each for each in range(4) if each != axis]
    torch.testing.assert_close(normalise.mean, values.mean(others))
    outputs = normalise(values)
    torch.testing.assert_close(outputs.mean(others), torch.zeros(values.shape[axis]), rtol=0, atol=1e-6)
    torch.testing.assert_close(outputs.std(others, correction=0), torch.ones(values.shape[axis]))


# Samples of varying length


@pytest.mark.parametrize("tokens", [False, True])
def test_a_batch_of_varying_samples_is_padded_with_zeros_to_its_longest(tokens: bool) -> None:
    samples = [sample[:, 0].abs().long() + 1 for sample in sequences()] if tokens else sequences()
    source = ragged(samples)
    for positions in ([0, 1, 2, 3, 4, 5, 6], [3], [4, 4, 1], [6, 5, 4, 3, 2, 1, 0]):
        values, lengths = source.fetch(torch.tensor(positions))
        wanted = torch.nn.utils.rnn.pad_sequence([samples[each] for each in positions], batch_first=True)
        assert torch.equal(values, wanted) and values.dtype == wanted.dtype
        assert lengths.tolist() == [len(samples[each]) for each in positions]


def test_varying_samples_take_no_room_for_padding_and_may_move() -> None:
    source = ragged(sequences())
    assert source.num_bytes == 27 * 2 * 4 + 7 * 8 + 7 * 8  # steps, lengths, targets
    moved = source.to(torch.device("cpu"))
    for one, two in zip(source.fetch(torch.arange(7)), moved.fetch(torch.arange(7)), strict=True):
        assert torch.equal(one, two)
    lengths = Split(source, torch.tensor([2, 0])).lengths
    assert lengths is not None and lengths.tolist() == [9, 4]
    assert Split.all(TensorSource((torch.zeros(3, 1),), torch.zeros(3))).lengths is None


def test_valid_steps_are_those_before_the_length() -> None:
    valid = valid_steps(torch.tensor([0, 1, 3]), 3)
    assert valid.tolist() == [[False, False, False], [True, False, False], [True, True, True]]


@pytest.mark.parametrize("axis", [1, 2, 3])
def test_only_valid_steps_are_kept_along_any_axis(axis: int) -> None:
    values = torch.rand(2, 3, 3, 3, generator=generator("keep")) + 1
    values[0, 0, 0, 0] = torch.nan
    lengths = torch.tensor([1, 2])
    before = values.clone()
    kept = keep(values, valid_steps(lengths, 3), axis).movedim(axis, 1)
    for sample, length in enumerate(lengths.tolist()):
        moved = before[sample].movedim(axis - 1, 0)
        torch.testing.assert_close(kept[sample, :length], moved[:length], rtol=0, atol=0, equal_nan=True)
        assert not kept[sample, length:].any()
    torch.testing.assert_close(values, before, equal_nan=True)


def test_padding_that_is_no_number_becomes_zero() -> None:
    values = torch.full((1, 3), torch.nan)
    assert keep(values, torch.tensor([[False, False, False]])).tolist() == [[0, 0, 0]]


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


def test_the_only_sample_of_a_class_stays_in_train() -> None:
    targets = torch.tensor([0] * 10 + [1] + [2] * 10)
    for seed in range(5):
        train, val = split_off(Split.all(TensorSource((torch.zeros(21, 2),), targets)), 0.3, seed=seed)
        assert val is not None
        assert 1 in train.targets
        assert len(val) == 6


@pytest.mark.parametrize(("axis", "shape"), [(2, (2, 3, 4)), (3, (2, 1, 3, 4))])
def test_the_values_of_a_channel_are_those_of_the_steps_before_the_length(axis: int, shape: tuple[int, ...]) -> None:
    values, lengths = torch.arange(24.0).view(shape), torch.tensor([1, 3])
    found = channel_values(values, [lengths], axis)
    assert found[0].tolist() == [0, 12, 16, 20]
    assert channel_values(values, [], axis).shape == (4, 6)


@pytest.mark.parametrize("given", [(), (3, 1)])
def test_classes_are_counted_unless_the_data_set_gives_counts(given: tuple[int, ...]) -> None:
    split = Split.all(TensorSource((torch.zeros(5, 2),), torch.tensor([1, 0, 1, 1, 1])))
    data = Data(Spec("mine", "table", (2,), "classification", ("a", "b"), given), split, None, split)
    assert data.counted().spec.counts == (given or (1, 4))


def test_values_have_no_counts() -> None:
    split = Split.all(TensorSource((torch.zeros(5, 2),), torch.zeros(5, 1)))
    data = Data(Spec("mine", "table", (2,), "regression", ("a",)), split, None, split)
    assert data.counted().spec.counts == ()
