"""Choose whole groups of samples, such as speakers or patients, for a split."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

MAX_TRIES = 16  # orders of the groups that are tried
VISITED = 20_000  # groups that all tries together look at, if there are many
COARSE = 10  # results whose deviations differ by less than 1/10 of the wanted size are equally good


def choose_groups(
    groups: Sequence[str], classes: NDArray[np.int64], fraction: float, seed: int, key: str, leave: int = 1
) -> NDArray[np.bool_]:
    """Return which samples whole groups take out of a split: about ``fraction`` of all, and of each class.

    The groups are visited in random orders, which depend on the seed and on the names of the groups, but not on the
    order of the samples. A visited group is taken if the numbers of samples come closer to those that are wanted. The
    first order that comes about as close as any other decides. At least one group is taken.

    Args:
        groups: the name of the group of each sample.
        classes: (samples,) the class number of each sample; zeros if there are no classes.
        fraction: the share of the samples to take.
        seed: the seed of the random orders.
        key: the name of the split, which gets other random orders than a split with the same seed.
        leave: the number of groups to leave at least; there must be more groups.

    Returns:
        (samples,) bool, true for the samples to take.
    """
    names, of_sample = np.unique(np.array(groups, dtype=np.str_), return_inverse=True)
    assert len(names) > leave
    labels, of_class = np.unique(classes, return_inverse=True)
    pairs, counts = np.unique(of_sample * len(labels) + of_class, return_counts=True)
    bounds = np.searchsorted(pairs // len(labels), np.arange(len(names) + 1))
    each = (pairs % len(labels), counts, bounds)
    wanted = fraction * np.bincount(of_class, minlength=len(labels)).astype(np.float64)
    tries = max(1, min(MAX_TRIES, VISITED // len(names)))
    found = [_visit(_order(names, seed, key, number), each, wanted, leave) for number in range(tries)]
    taken, _ = min(found, key=lambda one: round(COARSE * one[1] / max(1.0, float(wanted.sum()))))
    chosen = np.zeros(len(names), dtype=bool)
    chosen[taken] = True
    return chosen[of_sample]


def _order(names: NDArray[np.str_], seed: int, key: str, number: int) -> list[int]:
    start = hashlib.sha256(repr((seed, key, number)).encode())
    drawn = list[bytes]()
    for name in names.tolist():
        digest = start.copy()
        digest.update(name.encode(errors="surrogateescape"))
        drawn.append(digest.digest())
    return sorted(range(len(names)), key=drawn.__getitem__)


def _visit(
    order: Sequence[int],
    each: tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]],
    wanted: NDArray[np.float64],
    leave: int,
) -> tuple[list[int], float]:
    """Return the groups that are taken if all are visited in an order, and how far the result is from what is wanted.

    Args:
        order: the numbers of the groups.
        each: the class numbers and the sample counts of the groups, one after another, and where each group begins.
        wanted: (classes,) the numbers of samples to take.
        leave: the number of groups to leave at least.
    """
    labels, counts, bounds = each
    missing, total = wanted.copy(), float(wanted.sum())  # of each class and of all, less than 0 if there are too many
    taken, best, closest = list[int](), order[0], np.inf
    for group in order:
        some = slice(bounds[group], bounds[group + 1])
        lack, size = missing[labels[some]], counts[some]
        change = float((np.abs(lack - size) - np.abs(lack)).sum()) + abs(total - size.sum()) - abs(total)
        if change < 0 and len(taken) < len(order) - leave:
            taken.append(group)
            missing[labels[some]] -= size
            total -= float(size.sum())
            if total <= 0:
                break
        elif not taken and change < closest:
            best, closest = group, change
    if not taken:  # every group is more than twice as large as what is wanted
        some = slice(bounds[best], bounds[best + 1])
        taken = [best]
        missing[labels[some]] -= counts[some]
        total -= float(counts[some].sum())
    return taken, float(np.abs(missing).sum()) + abs(total)
