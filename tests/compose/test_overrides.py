"""Words that would fill the memory, or take minutes to read: they are counted before they are listed."""

from __future__ import annotations

import shlex
from typing import Any

import pytest
from hydra.core.override_parser.types import Override, RangeSweep

from trainer.compose.check_command import check_words
from trainer.compose.composer import Composer
from trainer.compose.overrides import MAX_LETTERS, MAX_SIGNS, RangeValues, num_values, parse
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


def unreadable(*words: str) -> str:
    problems: list[str] = []
    assert not [*parse(words, Composer().loader, problems)]
    (line,) = problems
    return line


def test_a_text_that_the_shell_has_split_is_put_together() -> None:
    assert unreadable("dataset.path=Mes", "donn\xe9es") == (
        "dataset.path=Mes donn\xe9es: cannot be read; write 'dataset.path=Mes donn\xe9es'"
    )
    assert unreadable("dataset.ignore=[Gr\xf6\xdfe,", "Poids]").endswith("write 'dataset.ignore=[Gr\xf6\xdfe, Poids]'")


@pytest.mark.parametrize(
    ("word", "flaw"),
    [
        ("dataset.path={train: Donn\xe9es", "a bracket is not closed"),
        ("dataset.path=\xe9,", "a comma is left over at its end"),
        ("dataset.path=a,,\xe9", "a value between two commas is missing"),
        ("dataset.path='tis", "a quote is not closed"),
    ],
)
def test_a_value_that_can_be_read_in_two_ways_is_asked_about_and_the_advice_works(word: str, flaw: str) -> None:
    line = unreadable(word)
    assert line.startswith(f"{word}: cannot be read; {flaw}; for one text write ")
    (advised,) = shlex.split(line.partition("for one text write ")[2])
    assert parsed(advised).value() == word.partition("=")[2]


def test_several_values_without_a_sweep_may_be_one_text_and_the_advice_works() -> None:
    for value in ("a,b.csv", "\xe9 (1), b.csv"):
        (line,) = problems_of("dataset=csv", f"dataset.path={value}", multirun=False)
        (advised,) = shlex.split(line.partition("for one text write ")[2])
        assert parsed(advised).value() == value
    (line,) = problems_of("optimizer.lr=1,2", multirun=False)
    assert line == "optimizer.lr=1,2: several values need --multirun"


@pytest.mark.parametrize("word", ["gr\xf6\xdfe=3", "dataset.gr\xf6\xdfe=3"])
def test_a_key_has_ascii_letters(word: str) -> None:
    assert unreadable(word).endswith("a key has letters from a to z, digits, _ and dots")


def test_an_interpolation_without_an_end_is_refused() -> None:
    assert unreadable("run_dir=${") == "run_dir: an interpolation is written ${key} (from the command line)"
