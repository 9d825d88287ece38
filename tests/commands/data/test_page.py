"""The page about a data set with samples that cannot be read."""

from __future__ import annotations

from tests.data.test_checks import Damaged, data_of, settings
from trainer.commands.data.page import make_page
from trainer.data.checks import survey


def test_samples_that_cannot_be_read_are_left_out_of_the_page() -> None:
    data = data_of(Damaged(), train=[0, 1, 2, 3, 4, 5], val=[6, 7], test=[8, 9], in_memory=False)
    page = make_page(data, survey(data, settings()), 0)
    assert page.count("<figure") == 4
    assert "1.png: cut off" in page
