"""Groups that stand in several splits, whether they are declared or only suggested by the names of the files."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import pytest
import torch

from tests.data.test_checks import data_of, settings
from trainer.config import Settings
from trainer.data import TensorSource
from trainer.data.checks import survey
from trainer.data.findings import Finding


def with_group() -> Settings:
    """Settings of a data set with the key ``group``, which is not set."""
    plain = settings()
    return dataclasses.replace(plain, dataset={**plain.dataset, "group": None})


def found_in(places: Sequence[str], targets: Sequence[int], *, groups: Any = None) -> list[Finding]:
    """The findings about groups of samples at these places, of which every fourth is of test."""
    count = len(places)
    values = torch.rand(count, 3, generator=torch.Generator().manual_seed(0))
    source = TensorSource((values,), torch.tensor(targets))
    train, test = ([at for at in range(count) if (at % 4 == 3) == is_test] for is_test in (False, True))
    data = data_of(source, train=train, test=test, classes=max(targets) + 1, places=places)
    if groups is not None:
        object.__setattr__(data, "groups", groups)
    return [each for each in survey(data, with_group()).findings if each.check in ("group", "group_leak")]


def test_groups_in_several_splits_are_a_warning_with_their_names() -> None:
    names = ["ann"] * 4 + ["bob"] * 3 + ["cy"] + ["dee"] * 4  # bob is of train and cy of test alone
    (finding,) = found_in([f"{at}.wav" for at in range(12)], [0, 1] * 6, groups=names)
    assert (finding.level, finding.check, finding.text) == (
        "warning",
        "group_leak",
        "2 groups of 4 have samples in several splits, so the metrics are too good for new groups; put each into one "
        "split: ann (train 3, test 1), dee (train 3, test 1)",
    )
    numbers = torch.tensor([0] * 4 + [1] * 3 + [2] + [3] * 3 + [4])
    (finding,) = found_in([f"{at}.wav" for at in range(12)], [0, 1] * 6, groups=numbers)
    assert finding.text.endswith("1 group of 5 has samples in several splits, so the metrics are too good for new "
                                 "groups; put each into one split: 0 (train 3, test 1)")  # fmt: skip
    assert found_in([f"{at}.wav" for at in range(12)], [0, 1] * 6, groups=[*range(12)]) == []


def test_names_that_begin_alike_in_several_splits_are_a_note() -> None:
    places = [
        f"scans/{'ab'[patient % 2]}/patient{patient}_slice{slice_}.png" for patient in range(20) for slice_ in range(4)
    ]
    (finding,) = found_in(places, [patient % 2 for patient in range(20) for _ in range(4)])
    assert (finding.level, finding.check) == ("note", "group")
    assert finding.text == (
        "the names of files in different splits begin alike (patient0, patient1, patient10 and 17 more); if these are "
        "of one patient, speaker or scene, dataset.group keeps them in one split"
    )
    spoken = [f"{digit}_{speaker}_{take}.wav" for digit in range(3) for speaker in "abcdef" for take in range(5)]
    (finding,) = found_in(spoken, [int(name[0]) for name in spoken])
    assert finding.text.startswith("the names of files in different splits begin alike (0_a, 0_b, 0_c and 15 more)")


@pytest.mark.parametrize(
    "name",
    [
        lambda at: f"{at:05}.png",
        lambda at: f"IMG_{at:04}.jpg",
        lambda at: f"{['cat', 'dog'][at % 2]}_{at}.jpg",  # the class and a number
        lambda at: f"n0{at % 2}_{at}.JPEG",
        lambda at: f"1-{1000 + at}-A-{at % 2}.wav",  # every file has a beginning of its own
        lambda at: f"table.csv:{at}",
    ],
)
def test_names_that_say_nothing_of_groups_are_not_spoken_of(name: Any) -> None:
    assert found_in([name(at) for at in range(80)], [at % 2 for at in range(80)]) == []
