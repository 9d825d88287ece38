"""Random numbers of samples: what they are, and that they look like nothing but chance."""

from __future__ import annotations

import hashlib
import math
import random
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.helpers import loaders_of
from trainer.data import Data, Inputs, Split
from trainer.data.loader import Loader, Loaders
from trainer.data.random_numbers import BITS, SampleRandom, _hashed, mix_bits
from trainer.spec import Spec

MANY = torch.arange(20_000)
LEAST, MOST = 9022861, 3144142  # positions whose first number with the key (0, "x") and the name "n" is the least, most


def correlation(left: Tensor, right: Tensor) -> float:
    return float(torch.corrcoef(torch.stack([left, right]))[0, 1])


def assert_spread(numbers: Tensor, bins: int = 64) -> None:
    """Pearson's chi-square of equal bins, six standard deviations either way: too even is no chance either."""
    counts = torch.histc(numbers, bins, 0, 1)
    expected = numbers.numel() / bins
    surprise = float((counts - expected).square().sum() / expected)
    assert abs(surprise - (bins - 1)) < 6 * math.sqrt(2 * (bins - 1))


def test_the_hash_is_that_of_split_mix_64() -> None:
    step, start = 0x9E3779B97F4A7C15 - 2**64, 1234567
    states = torch.tensor([start]) + torch.arange(1, 6) * step
    # the first five numbers of the generator with the seed 1234567, from its published test values
    published = [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
        4593380528125082431,
        16408922859458223821,
    ]
    assert [number % 2**64 for number in mix_bits(states).tolist()] == published


def test_numbers_are_the_hash_of_key_name_sample_and_place() -> None:
    def hashed(bits: int) -> int:
        bits = (bits ^ bits >> 30) * 0xBF58476D1CE4E5B9 % 2**64
        bits = (bits ^ bits >> 27) * 0x94D049BB133111EB % 2**64
        return bits ^ bits >> 31

    step = 0x9E3779B97F4A7C15
    got = SampleRandom(torch.tensor([0, 7, 2**40]), 3, 5, "augment").uniform("noise", 2, 3)
    start = int.from_bytes(hashlib.sha256(repr((3, 5, "augment", "noise")).encode()).digest()[:8], "little")
    for number, position in enumerate((0, 7, 2**40)):
        sample = hashed((position * step + start) % 2**64)
        wanted = [(hashed((sample + (place + 1) * step) % 2**64) >> 40) / 2**24 for place in range(6)]
        assert got[number].flatten().tolist() == wanted


def test_numpy_and_torch_compute_the_same_numbers() -> None:
    positions = torch.randint(-(2**62), 2**62, (500,), generator=torch.Generator().manual_seed(0))
    start = int.from_bytes(hashlib.sha256(repr((3, "x")).encode()).digest()[:8], "little", signed=True)
    bits = _hashed(positions, torch.arange(1, 7), start)  # as it is done on other devices
    for some in (slice(None), slice(0, 0), slice(None, None, 3)):
        assert torch.equal(SampleRandom(positions[some], 3).uniform("x", 6) * 2**BITS, bits[some].float())


def test_numbers_are_spread_evenly_over_samples_places_and_epochs() -> None:
    numbers = SampleRandom(MANY, 0, 1).uniform("x", 8)
    assert numbers.dtype == torch.float32
    assert float(numbers.min()) >= 0 and float(numbers.max()) < 1
    assert_spread(numbers)
    for place in range(8):
        assert_spread(numbers[:, place])
    assert_spread(SampleRandom(torch.tensor([5]), 0, 1).uniform("x", 20_000))
    assert_spread(torch.stack([SampleRandom(torch.tensor([5]), 0, epoch).uniform("x") for epoch in range(5000)]))
    # the lowest bits too
    assert_spread(numbers * 2**16 % 1)


def test_pairs_of_numbers_are_spread_evenly_over_the_square() -> None:
    numbers = SampleRandom(MANY, 0, 1).uniform("x", 2)
    cells = (numbers * 8).long() @ torch.tensor([8, 1])
    assert_spread((cells + 0.5) / 64)
    neighbours = torch.stack([numbers[:-1, 0], numbers[1:, 0]], 1)[::2]
    assert_spread(((neighbours * 8).long() @ torch.tensor([8, 1]) + 0.5) / 64)


@pytest.mark.parametrize(
    ("key", "name", "shift"),
    [
        ((0, 1), "y", 0),
        ((0, 2), "x", 0),
        ((1, 1), "x", 0),
        ((1, 0), "x", 0),
        ((0, 1, "z"), "x", 0),
        ((0, 1), "x", 1),
        ((0, 1), "x", 2**32),
    ],
    ids=str,
)
def test_another_name_epoch_seed_key_or_sample_has_other_numbers(
    key: tuple[int | str, ...], name: str, shift: int
) -> None:
    one = SampleRandom(MANY, 0, 1).uniform("x")
    other = SampleRandom(MANY + shift, *key).uniform(name)
    assert float((one == other).float().mean()) < 1e-3
    assert abs(correlation(one, other)) < 5 / math.sqrt(len(MANY))


def test_numbers_do_not_depend_on_the_batch() -> None:
    together = SampleRandom(MANY, 4).uniform("x", 3)
    order = torch.randperm(len(MANY), generator=torch.Generator().manual_seed(0))
    assert torch.equal(SampleRandom(MANY[order], 4).uniform("x", 3), together[order])
    assert torch.equal(SampleRandom(MANY[17:18], 4).uniform("x", 3)[0], together[17])
    parts = [part.uniform("x", 3) for part in SampleRandom(MANY, 4).split(7001)]
    assert torch.equal(torch.cat(parts), together)
    normal = SampleRandom(MANY, 4).normal("x", 3)
    assert torch.equal(SampleRandom(MANY[order], 4).normal("x", 3), normal[order])
    assert torch.equal(SampleRandom(MANY[17:18], 4).normal("x", 3)[0], normal[17])


def test_a_longer_sample_begins_as_a_shorter_one() -> None:
    draws = SampleRandom(MANY[:10], 4)
    assert torch.equal(draws.uniform("x", 9)[:, :4], draws.uniform("x", 4))
    assert torch.equal(draws.uniform("x", 2, 3), draws.uniform("x", 6).view(10, 2, 3))
    assert draws.uniform("x").shape == (10,)


def test_normal_numbers_have_the_moments_and_the_quantiles_of_the_normal_distribution() -> None:
    numbers = SampleRandom(MANY, 0, 1).normal("x", 10).double()
    deviation = 1 / math.sqrt(numbers.numel())
    for power, moment, variance in ((1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96)):
        assert abs(float((numbers**power).mean()) - moment) < 5 * deviation * math.sqrt(variance)
    assert_spread((0.5 * (1 + torch.erf(numbers / math.sqrt(2)))).float())


def test_the_least_and_the_most_are_finite_and_opposite() -> None:
    draws = SampleRandom(torch.tensor([LEAST, MOST]), 0, "x")
    assert draws.uniform("n", 1).flatten().tolist() == [0, 1 - 2**-24]
    low, high = draws.normal("n", 1).flatten().tolist()
    assert low == -high
    assert 5 < high < 5.5  # one of 2^25 is beyond 5.42 on its side


def test_the_others_are_drawn_evenly_from_those_there_are() -> None:
    among = torch.arange(64) * 10 + 3
    drawn = SampleRandom(MANY, 0, 1).others("partner", among)
    assert drawn.unique().tolist() == among.tolist()
    assert_spread(((drawn - 3) / 10 + 0.5) / 64)
    assert torch.equal(SampleRandom(MANY[:9], 0, 1).others("partner", torch.tensor([8])), torch.full((9,), 8))
    extremes = SampleRandom(torch.tensor([LEAST, MOST]), 0, "x").others("n", among)
    assert extremes.tolist() == [3, 633]


# ---- what a source draws from the global generators


@dataclass(frozen=True)
class Noise:
    """A source of one's own, which draws a sample from each of the three generators."""

    targets: Tensor

    def fetch(self, positions: Tensor) -> Inputs:
        rows = [(random.random(), np.random.rand(), float(torch.rand(()))) for _ in positions]
        return (torch.tensor(rows),)


def noise(workers: int = 0, seed: int = 0) -> Loaders:
    split = Split.all(Noise(torch.arange(12) % 3))
    spec = Spec("noise", "table", (3,), "classification", ("a", "b", "c"))
    return loaders_of(Data(spec, split, split, split, workers=workers), 4, seed)


def drawn(loader: Loader, epoch: int = 0, start: int = 0) -> Tensor:
    """Return the samples of an epoch, (samples, generators), and shut the data workers down."""
    try:
        return torch.cat([batch.inputs[0] for batch in loader.epoch(epoch, start)])
    finally:
        loader.close()


@pytest.mark.parametrize("workers", [0, 2])
def test_draws_differ_by_seed_epoch_split_and_batch_but_not_by_worker_or_start(workers: int) -> None:
    first = drawn(noise(workers).train)
    assert len(first) == 12 and len(first.unique()) == 36
    assert torch.equal(drawn(noise(0).train), first)
    assert torch.equal(drawn(noise(workers).train, start=1), first[4:])
    loaders = noise(workers)
    assert loaders.val is not None
    others = [drawn(noise(workers, seed=1).train), drawn(noise(workers).train, epoch=1)]
    others += [drawn(each) for each in (loaders.val, loaders.test)]
    assert len(torch.cat([first, *others]).unique()) == 5 * 36


def test_draws_of_the_main_process_go_on_as_if_no_batch_had_been_read() -> None:
    def draw() -> tuple[float, ...]:
        return random.random(), np.random.rand(), float(torch.rand(()))

    for seed in (random.seed, np.random.seed, torch.manual_seed):
        seed(5)
    wanted = [draw(), draw()]
    for seed in (random.seed, np.random.seed, torch.manual_seed):
        seed(5)
    got = [draw()]
    drawn(noise().train)
    assert [*got, draw()] == wanted


def test_fingerprint_of_random_samples_is_the_same_in_every_process() -> None:
    split = Split.all(Noise(torch.arange(12) % 3))
    data = Data(Spec("noise", "table", (3,), "classification", ("a", "b", "c")), split, None, split)
    first = data.fingerprint()
    random.random(), np.random.rand(), torch.rand(())
    assert data.fingerprint() == first
