"""Hashes of samples, by which duplicates are found; test_checks.py has the findings about them."""

from __future__ import annotations

from collections import Counter

import pytest
import torch

from trainer.data.duplicates import Duplicates, hash_samples


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int32, torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(3,), (2, 5), (1, 3, 3), (17,)])
def test_samples_are_alike_exactly_where_their_bytes_are(dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    samples = torch.randint(0, 3, (300, *shape), generator=torch.Generator().manual_seed(0)).to(dtype)
    wanted = Counter(sample.numpy().tobytes() for sample in samples)
    hashes = Counter(hash_samples((samples,)).tolist())
    assert sorted(hashes.values()) == sorted(wanted.values())


def test_a_hash_does_not_depend_on_the_batch_and_its_padding_but_on_the_length_and_the_order() -> None:
    short = torch.tensor([[5, 6, 7]], dtype=torch.int32)
    long = torch.nn.functional.pad(short, [0, 6])
    three, four = torch.tensor([3]), torch.tensor([4])
    assert hash_samples((short, three)) == hash_samples((long, three))
    assert hash_samples((long, three)) != hash_samples((long, four))
    assert hash_samples((short,)) != hash_samples((short.flip(1),))


def test_pairs_are_those_of_the_first_sample_with_the_same_content() -> None:
    train, test = torch.tensor([5, 7, 5, 9, 7, 5]), torch.tensor([7, 1, 5])
    found = Duplicates.find({"train": (torch.arange(6), train), "test": (torch.arange(3), test)})
    assert found.pairs("train", "train") == [(0, 2), (0, 5), (1, 4)]
    assert sorted(found.pairs("train", "test")) == [(0, 2), (1, 0)]
    assert found.pairs("test", "test") == []
    nothing = Duplicates.find({"train": (torch.arange(0), torch.arange(0))})
    assert nothing.pairs("train", "train") == []
