"""Whole groups for a split: of about the right size, with even classes, by the seed and not by the order."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from trainer.config import ConfigError
from trainer.data import Split, TensorSource, split_off
from trainer.data.group_split import choose_groups


def speakers(count: int, samples: int, classes: int = 3) -> tuple[list[str], np.ndarray]:
    random = np.random.default_rng(0)
    names = [f"speaker{number}" for number in random.integers(0, count, samples)]
    return names, random.integers(0, classes, samples)


@pytest.mark.parametrize(("count", "samples", "most_off"), [(6, 600, 60), (40, 2000, 30), (1000, 5000, 5)])
def test_whole_groups_of_about_the_wanted_size_and_of_even_classes_are_taken(
    count: int, samples: int, most_off: int
) -> None:
    groups, classes = speakers(count, samples)
    taken = choose_groups(groups, classes, 0.2, 0, "test")
    assert not {*np.array(groups)[taken]} & {*np.array(groups)[~taken]}
    assert abs(taken.sum() - 0.2 * samples) <= most_off
    shares = np.bincount(classes[taken]) / np.bincount(classes)
    assert np.abs(shares - taken.mean()).max() < 0.05


def test_the_choice_follows_from_the_seed_and_the_names_and_not_from_the_order_of_the_samples() -> None:
    groups, classes = speakers(20, 400)
    taken = choose_groups(groups, classes, 0.2, 0, "test")
    order = np.random.default_rng(1).permutation(400)
    again = choose_groups([groups[at] for at in order], classes[order], 0.2, 0, "test")
    assert np.array_equal(again, taken[order])
    equal = [f"speaker{number}" for number in range(6) for _ in range(50)]
    chosen = {
        str(np.array(equal)[choose_groups(equal, np.zeros(300, int), 0.1, seed, "test")][0]) for seed in range(20)
    }
    assert len(chosen) == 6


def test_a_group_of_one_class_fills_its_class_only() -> None:
    groups = [f"patient{number}" for number in range(60) for _ in range(5)]
    classes = np.repeat(np.arange(60) % 2, 5)
    taken = choose_groups(groups, classes, 0.2, 3, "val")
    assert np.bincount(classes[taken]).tolist() == [30, 30]


def test_one_group_of_several_too_large_ones_is_taken_and_as_many_as_needed_are_left() -> None:
    groups = ["a"] * 50 + ["b"] * 50 + ["c"] * 50
    for seed in range(10):
        taken = choose_groups(groups, np.zeros(150, int), 0.1, seed, "test")
        assert taken.sum() == 50
        assert choose_groups(groups, np.zeros(150, int), 0.9, seed, "test", leave=2).sum() == 50


def test_too_few_groups_are_an_error_that_names_them() -> None:
    split = Split.all(TensorSource((torch.zeros(4, 1),), torch.tensor([0, 1, 0, 1])))
    with pytest.raises(ConfigError) as caught:
        split_off(split, 0.5, 0, "test", ["a", "a", "b", "b"], leave=2)
    assert caught.value.problems == (
        "dataset.group: 2 groups (a, b) cannot be divided into train, val and test; dataset.val_fraction=0 trains "
        "without val",
    )
    with pytest.raises(ConfigError, match=r"dataset\.group: 1 group \(a\) cannot be divided into train and val; "):
        split_off(split, 0.5, 0, "val", ["a"] * 4)
    train, val = split_off(split, 0.5, 0, "val", ["a", "b", "a", "b"])
    assert val is not None
    assert sorted([train.positions.tolist(), val.positions.tolist()]) == [[0, 2], [1, 3]]
