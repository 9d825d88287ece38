"""The search space: how its values are typed."""

from __future__ import annotations

from trainer.sweep.search_space import Interval


def test_a_number_is_typed_with_six_digits_and_stays_in_its_interval() -> None:
    assert Interval(1e-4, 1.0).as_word(0.00123456789) == "0.00123457"
    assert Interval(0.0, 0.99999995).as_word(0.9999999) == "0.9999999"
    assert Interval(1, 9).as_word(7) == "7"
