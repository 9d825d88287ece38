"""Names of files that suggest groups in several splits, and names that do not."""

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


def with_group(group: str | None) -> Settings:
    """Settings of a data set with the key ``group``."""
    plain = settings()
    return dataclasses.replace(plain, dataset={**plain.dataset, "group": group})


def found_in(places: Sequence[str], targets: Sequence[int], *, group: str | None = None) -> list[Finding]:
    """The findings about groups of samples at these places, of which every fourth is of test."""
    count = len(places)
    values = torch.rand(count, 3, generator=torch.Generator().manual_seed(0))
    source = TensorSource((values,), torch.tensor(targets))
    train, test = ([at for at in range(count) if (at % 4 == 3) == is_test] for is_test in (False, True))
    data = data_of(source, train=train, test=test, classes=max(targets) + 1, places=places)
    return [each for each in survey(data, with_group(group)).findings if each.check == "group"]


def test_names_that_begin_alike_in_several_splits_are_a_note() -> None:
    places = [
        f"scans/{'ab'[patient % 2]}/patient{patient}_slice{slice_}.png" for patient in range(20) for slice_ in range(4)
    ]
    (finding,) = found_in(places, [patient % 2 for patient in range(20) for _ in range(4)])
    assert (finding.level, finding.check) == ("note", "group")
    assert finding.text == (
        "the names of files in different splits begin alike (patient0, patient1, patient10 and 17 more); if these are "
        "of one patient, speaker or scene, dataset.group keeps them together when splits are cut"
    )
    spoken = [f"{digit}_{speaker}_{take}.wav" for digit in range(3) for speaker in "abcdef" for take in range(5)]
    digits = [int(name[0]) for name in spoken]
    assert found_in(spoken, digits, group="*_{group}_*") == []
    (finding,) = found_in(spoken, digits)
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
