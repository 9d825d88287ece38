"""Words that would fill the memory, or take minutes to read: they are counted before they are listed."""

from __future__ import annotations

from typing import Any

import pytest
from hydra.core.override_parser.types import Override, RangeSweep

from trainer.compose.check_command import check_words
from trainer.compose.composer import Composer
from trainer.compose.overrides import MAX_LETTERS, MAX_SIGNS, RangeValues, num_values, parse, variants
from trainer.compose.safety import is_data
from trainer.config import ConfigError


def parsed(word: str) -> Override:
    problems: list[str] = []
    (found,) = parse([word], Composer().loader, problems)
    assert not problems
    return found


def problems_of(*words: str, multirun: bool = True) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as caught:
        check_words(Composer(), words, multirun=multirun)
    return caught.value.problems


@pytest.mark.parametrize(
    "word",
    [
        "range(1,10)",
        "range(10)",
        "range(10,1,-3)",
        "range(0,1,0.1)",
        "range(1.5,0,-0.25)",
        "range(0,9.5)",
        "range(5,5)",
    ],
)
def test_a_range_has_the_numbers_that_hydra_lists(word: str) -> None:
    override = parsed(f"seed={word}")
    listed = [*override.sweep_iterator()]
    value: Any = override.value()
    assert [*RangeValues(value)] == listed
    assert num_values(override) == len(listed)


@pytest.mark.parametrize("word", ["range(0,1000000000)", "range(0,1000000,1e-6)", "sort(range(0,1e12))", "range(1e15)"])
def test_a_grid_is_counted_before_its_values_are_listed(word: str) -> None:
    (line,) = (line for line in problems_of(f"optimizer.lr={word}") if "a sweep of" in line)
    assert "at most 10,000: give fewer values, split the sweep, or search the values: hydra/sweeper=optuna" in line


def test_the_runs_of_a_product_are_counted() -> None:
    (line,) = problems_of("seed=range(0,200)", "epochs=range(1,300)")
    assert line.startswith("epochs: a sweep of 59,800 runs, of which epochs=range(1,300) gives 299")


@pytest.mark.parametrize("ends", ["0,5,0", "0,inf", "nan,5", "0,5,nan"])
def test_a_range_without_an_end_is_refused(ends: str) -> None:
    (line,) = problems_of(f"seed=range({ends})")
    assert "a range needs finite numbers and a step other than 0" in line


def test_a_range_is_not_listed_without_a_sweep_either() -> None:
    (line,) = problems_of("seed=range(0,1e9)", multirun=False)
    assert "several values need --multirun" in line


def test_a_long_range_is_a_search_space() -> None:
    value = RangeValues(RangeSweep(start=0, stop=10**18))
    assert (len(value), value[0], value[-1]) == (10**18, 0, 10**18 - 1)


def test_a_mistake_in_many_values_is_told_a_few_times() -> None:
    lines = problems_of("optimizer.lr=range(-26,-1)")
    assert lines[-1] == "and 5 more mistakes"
    assert len(lines) == 21


@pytest.mark.parametrize("value", ["[" * (MAX_SIGNS + 1), "a," * (MAX_SIGNS + 1), "a" * MAX_LETTERS])
def test_a_word_that_takes_long_to_read_is_not_read(value: str) -> None:
    problems: list[str] = []
    assert not [*parse([f"dataset.path={value}"], Composer().loader, problems)]
    assert problems[0].startswith("dataset.path: the word has ")


def test_a_file_sets_only_whole_keys_of_hydra() -> None:
    assert is_data("hydra.sweeper.n_trials")
    assert is_data("hydra.sweeper.params.seed")
    assert not is_data("hydra.sweep.directory")
    assert not is_data("hydra.modes")


@pytest.mark.parametrize(
    ("typed", "values"),
    [
        ("dataset.path=p\xe9", ["p\xe9"]),
        ("dataset.path=a b/\udce9.csv", ["a b/\udce9.csv"]),
        ("dataset.path='p\xe9'", ["p\xe9"]),
        ("dataset.path=\xe9,x", ["\xe9", "x"]),
        ('dataset.path=["\xe9"]', [["\xe9"]]),
    ],
)
def test_letters_beyond_ascii_need_no_second_quotes(typed: str, values: list[Any]) -> None:
    override = parsed(typed)
    assert [each.value() for each in variants(override)] == values


@pytest.mark.parametrize("value", ["[\xe9]", "\xe9,"])
def test_letters_in_an_unclear_value_do(value: str) -> None:
    problems: list[str] = []
    assert not [*parse([f"dataset.path={value}"], Composer().loader, problems)]
    assert len(problems) == 1
