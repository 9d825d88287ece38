"""The order of the samples of an epoch: shuffled, balanced, and by similar lengths."""

from __future__ import annotations

import torch

from tests.helpers import loaders_of
from trainer.data import Data, Split, TensorSource
from trainer.data.order import Order
from trainer.spec import Spec


def test_every_epoch_has_every_sample_once_in_another_order() -> None:
    positions = torch.arange(100, 200)
    order = Order(positions, 16, 0, None)
    first, second = (torch.cat(order.batches(epoch, 0)) for epoch in (0, 1))
    assert torch.equal(first.sort().values, positions)
    assert torch.equal(second.sort().values, positions)
    assert not torch.equal(first, second)
    assert torch.equal(first, torch.cat(Order(positions, 16, 0, None).batches(0, 0)))
    assert not torch.equal(first, torch.cat(Order(positions, 16, 1, None).batches(0, 0)))


def test_balanced_draws_have_every_class_as_often() -> None:
    targets = torch.tensor([0] * 900 + [1] * 90 + [2] * 10)
    split = Split.all(TensorSource((torch.arange(1000.0)[:, None],), targets))
    spec = Spec("unbalanced", "table", (1,), "classification", ("often", "seldom", "hardly", "never"))
    loader = loaders_of(Data(spec, split, None, split, balanced=True), 100).train
    seen = torch.cat([batch.inputs[0][:, 0].long() for epoch in range(9) for batch in loader.epoch(epoch)])
    assert len(seen) == 9000
    counts = targets[seen].bincount()
    assert float((counts - 3000).abs().max()) < 5 * 45  # a standard deviation of 44.7
    hardly = seen[targets[seen] == 2].bincount(minlength=1000)[990:]
    assert float((hardly - hardly.float().mean()).abs().max()) < 5 * 18  # each of them as often
    again = torch.cat([batch.inputs[0][:, 0].long() for batch in loader.epoch(0)])
    assert torch.equal(seen[:1000], again) and not torch.equal(seen[1000:2000], again)


def test_what_has_no_weight_is_never_drawn() -> None:
    weights = torch.tensor([0.0, 2.0, 0.0, 1.0, 0.0])
    order = Order(torch.arange(10, 15), 5, 0, None, weights=weights)
    drawn = torch.cat([batch for epoch in range(600) for batch in order.batches(epoch, 0)])
    assert drawn.unique().tolist() == [11, 13]
    assert abs(int((drawn == 11).sum()) - 2000) < 5 * 26  # of 3000, a standard deviation of 25.8


def test_similar_lengths_come_together_and_batches_in_any_order() -> None:
    size, lengths = 8, torch.randint(1, 500, (8 * 70 + 3,), generator=torch.Generator().manual_seed(0))
    order = Order(torch.arange(len(lengths)), size, 0, None, lengths=lengths)
    batches = order.batches(1, 0)
    assert [len(batch) for batch in batches] == [8] * 70 + [3]
    assert torch.equal(torch.cat(batches).sort().values, torch.arange(len(lengths)))
    shuffled = torch.cat(Order(torch.arange(len(lengths)), size, 0, None).batches(1, 0))  # the same shuffle
    wanted = set()
    for some in (shuffled[: 50 * size], shuffled[50 * size : 70 * size]):
        by_length = sorted(some.tolist(), key=lambda position: int(lengths[position]))
        wanted |= {tuple(sorted(int(lengths[p]) for p in by_length[n : n + size])) for n in range(0, len(some), size)}
    assert {tuple(sorted(lengths[batch].tolist())) for batch in batches[:-1]} == wanted
    assert torch.equal(batches[-1], shuffled[-3:])
    longest = torch.stack([lengths[batch].max() for batch in batches[:-1]])
    assert not torch.equal(longest, longest.sort().values)
    padding = sum(int(lengths[b].max() * len(b) - lengths[b].sum()) for b in batches)
    unsorted = sum(int(lengths[b].max() * len(b) - lengths[b].sum()) for b in shuffled.split(size))
    assert padding < unsorted / 5


def test_similar_lengths_are_a_function_of_seed_and_epoch_and_an_evaluation_goes_by_length() -> None:
    lengths = torch.randint(1, 50, (100,), generator=torch.Generator().manual_seed(0))
    one, again, other, later = (
        torch.cat(Order(torch.arange(100), 8, seed, None, lengths=lengths).batches(epoch, 0))
        for seed, epoch in ((0, 0), (0, 0), (1, 0), (0, 1))
    )
    assert torch.equal(one, again) and not torch.equal(one, other) and not torch.equal(one, later)
    evaluated = torch.cat(Order(torch.arange(100), 8, None, None, lengths=lengths).batches(0, 0))
    assert torch.equal(evaluated, lengths.argsort(stable=True))
    assert torch.equal(torch.cat(Order(torch.arange(100), 8, None, None).batches(0, 0)), torch.arange(100))


def test_fewer_samples_than_a_batch_have_lengths_too() -> None:
    (batch,) = Order(torch.arange(3), 8, 0, None, lengths=torch.tensor([5, 1, 2])).batches(0, 0)
    assert batch.sort().values.tolist() == [0, 1, 2]
