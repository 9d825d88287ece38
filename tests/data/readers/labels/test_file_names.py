"""Labels and groups in the names of files."""

from __future__ import annotations

import pytest

from trainer.config import ConfigError
from trainer.data.readers.labels.file_names import NamePattern, pattern_across, proposed_patterns

CATS = [f"{name}.{number}.jpg" for name in ("cat", "dog") for number in range(12)]
DIGITS = [f"{digit}_{name}_{number}.wav" for digit in range(10) for name in ("theo", "lucas") for number in range(15)]
PETS = [
    f"{name}_{number}.jpg" for name in ("american_bulldog", "american_pit_bull", "Abyssinian") for number in range(9)
]


def labels(text: str, names: list[str]) -> set[str]:
    return {"" if field is None else field.label for field in NamePattern("pattern", text).read(names)}


@pytest.mark.parametrize(
    ("text", "names", "wanted"),
    [
        ("{label}.*", CATS, {"cat", "dog"}),
        ("{label}.#.jpg", CATS, {"cat", "dog"}),
        ("{label}_{group}_*", DIGITS, {*"0123456789"}),
        ("*_{label}_#.wav", DIGITS, {"theo", "lucas"}),
        ("{label}_#.*", PETS, {"american_bulldog", "american_pit_bull", "Abyssinian"}),
        ("*_{label}.png", [f"img_{at}_{name}.png" for at in range(9) for name in ("cat", "dog")], {"cat", "dog"}),
        ("{label}#.*", [f"{name}{at:03}.png" for at in range(200) for name in ("cat", "dog")], {"cat", "dog"}),
        ("{label}.*", ["cat.jpg", "Makefile"], {"cat", ""}),
    ],
)
def test_a_pattern_reads_the_labels(text: str, names: list[str], wanted: set[str]) -> None:
    assert labels(text, names) == wanted


def test_a_group_is_read_beside_the_label() -> None:
    found = NamePattern("pattern", "{label}_{group}_*").read(DIGITS)
    assert [found[0], found[-1]] == [("0", "theo"), ("9", "lucas")]
    assert {field.group for field in NamePattern("group", "*_{group}_*").read(DIGITS) if field} == {"theo", "lucas"}


def test_names_that_fit_in_two_ways_are_a_question_whose_advice_works() -> None:
    with pytest.raises(ConfigError) as caught:
        labels("{label}_*", PETS)
    assert caught.value.problems == (
        "dataset.pattern: {label}_*: american_bulldog_0.jpg fits in two ways, with label american or label "
        "american_bulldog; say which: 'dataset.pattern=\"{label}_#.*\"' (Abyssinian, american_bulldog, "
        "american_pit_bull)",
    )
    few = NamePattern("pattern", "{label}_*").read(PETS[:2], classes=("american_bulldog", "Abyssinian"))
    assert [field.label for field in few if field] == ["american_bulldog"] * 2


@pytest.mark.parametrize(
    ("key", "text", "reason"),
    [
        ("pattern", "*.jpg", "must have {label}, and each field once"),
        ("pattern", "{label}_{label}", "must have {label}, and each field once"),
        ("group", "{label}_*", "must have {group}, and each field once"),
        ("pattern", "{lable}_{label}", "{lable} means nothing in the name of a file"),
        ("pattern", "{label}/{other}", "{other} means nothing in the name of a file"),
    ],
)
def test_a_pattern_that_cannot_be_read_is_refused(key: str, text: str, reason: str) -> None:
    with pytest.raises(ConfigError) as caught:
        NamePattern(key, text)
    assert caught.value.problems[0].startswith(f"dataset.{key}: {text}: {reason}; a pattern has {{label}}")


def test_patterns_are_proposed_with_words_before_numbers_and_only_where_labels_repeat() -> None:
    assert next(iter(proposed_patterns(CATS).items())) == ("{label}.#.*", ["cat", "dog"])
    assert {*proposed_patterns(DIGITS)} >= {"*_{label}_*.*", "{label}_*_*.*"}
    assert proposed_patterns([f"{at:04}.png" for at in range(50)]) == {}


@pytest.mark.parametrize(
    "names", [["photo (1).jpg", "photo (2).jpg"], ["0_100.jpg", "1_100.jpg"], ["00000_00001.png", "00001_00001.png"]]
)
def test_numbers_that_all_folders_share_are_no_labels(names: list[str]) -> None:
    assert pattern_across([(folder, name) for folder in ("a", "b", "c") for name in names]) == ""
