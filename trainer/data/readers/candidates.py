"""The samples that a data set may have: which of them can be used, and where each comes from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainer.data.readers.files import Problems, need_samples


class Places(Sequence[str]):
    """The place of each sample, such as ``file:line``, computed only when a message needs it.

    Args:
        place_of: returns the place of a row.
        rows: (samples,) int64, the row of each sample.
    """

    def __init__(self, place_of: Callable[[int], str], rows: NDArray[np.int64]) -> None:
        self._place_of, self._rows = place_of, rows

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, sample: Any) -> Any:
        return self._place_of(int(self._rows[sample]))


class Candidates:
    """The samples of all splits, concatenated, with a mask of those that can be used.

    Args:
        splits: (samples,) the split of each sample, as in ``Item.split``.
        place_of: returns the place of a sample, for messages.
        problems: collects the bad samples.

    Attributes:
        good: (samples,) bool, true for samples that can be used.
        groups: the group of each sample, of which all samples get into one split; None without groups.
    """

    def __init__(self, splits: NDArray[np.str_], place_of: Callable[[int], str], problems: Problems) -> None:
        self.splits, self.place_of, self.problems = splits, place_of, problems
        self.good = np.ones(len(splits), dtype=bool)
        self.groups: Sequence[str] | None = None

    @property
    def in_train(self) -> NDArray[np.bool_]:
        """(samples,) bool, true for the good samples of train, or of data without splits."""
        return self.good & np.isin(self.splits, ("", "train"))

    def drop(
        self,
        bad: NDArray[np.bool_],
        reason: str | Callable[[int], str],
        place_of: Callable[[int], str] | None = None,
    ) -> None:
        """Exclude samples, and report each one that was good until now as a problem.

        Args:
            bad: (samples,) bool, true for the samples to exclude.
            reason: why the samples are bad, or a function that returns the reason for a sample.
            place_of: returns the place of what is bad, if this is not the usual place of a sample.
        """
        for sample in np.flatnonzero(bad & self.good).tolist():
            place = (place_of or self.place_of)(sample)
            self.problems.add(place, reason if isinstance(reason, str) else reason(sample))
        self.good &= ~bad

    def settle(self) -> None:
        """Turn the problems found so far into warnings or an error, and check that there are good samples.

        Raises:
            ConfigError: as ``Problems.settle``, or no sample is left.
        """
        self.problems.settle()
        need_samples(self.problems.dataset, np.flatnonzero(self.good))
