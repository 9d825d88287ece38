from __future__ import annotations

import itertools

import pytest

from trainer.data.readers.separators import SEPARATORS, are_lists_of_numbers, may_be_labels


def separator_of(texts: list[str], column: str = "label") -> str | None:
    """Return the first separator between what may be labels."""
    for separator in SEPARATORS:
        split = [[part.strip() for part in text.split(separator)] for text in texts]
        if may_be_labels(texts, split, separator, column):
            return separator
    return None


@pytest.mark.parametrize(
    "texts",
    [
        ["haze primary", "agriculture clear primary water", "clear primary", "clear primary road"],  # planets
        ["16 0", "7 1 2 0", "5", "1"],  # proteins
        ["scab", "rust", "frog_eye_leaf_spot", "scab frog_eye_leaf_spot", "rust frog_eye_leaf_spot"],  # leaves
        ["cat", "dog", "cat dog"],
        ["cat dog", "bird dog", "dog cat"],
        [" ".join(some) for size in (1, 2, 3) for some in itertools.combinations("abcdefgh", size)],
    ],
)
def test_words_that_stand_alone_or_move_may_be_labels(texts: list[str]) -> None:
    assert separator_of(texts) == " "


@pytest.mark.parametrize(
    "texts",
    [
        ["Golden Retriever", "Labrador Retriever", "Poodle", "Toy Poodle", "German Shepherd", "Great Dane"],
        ["New York", "New Jersey", "North Dakota", "South Dakota", "Virginia", "West Virginia", "Washington"],
        [f"{make} car {number}" for make in ("ford", "audi", "bmw") for number in range(10)],
        ["Quercus alba", "Quercus rubra", "Pinus alba", "Panthera tigris", "Panthera tigris tigris"],
        [f"{size}{color} {form}" for size in ("big ", "") for color in ("red", "blue") for form in ("box", "ball")],
        ["sea lion", "sea otter", "lion", "otter"],
        ["stand to sit", "sit to stand", "sit to lie", "lie to sit", "walk"],
        ["very good", "good", "very bad", "bad", "average"],
        ["car", "race car", "race car driver", "dog", "hot dog"],
        ["1 234", "12 500", "950"],
        ["0-1,000", "1,000-5,000", "5,000-10,000"],
        ["Korea, Rep.", "Egypt, Arab Rep.", "Congo, Rep.", "Congo, Dem. Rep.", "France"],
        ["Pepper,_bell___spot", "Pepper,_bell___healthy", "Tomato___healthy"],
    ],
)
def test_names_of_several_words_are_no_labels(texts: list[str]) -> None:
    assert separator_of(texts) is None


def test_signs_that_no_name_has_stand_between_labels() -> None:
    assert separator_of(["Bark,Dog", "Rain", "Sea,Water", "Cat"]) == ","
    assert separator_of(["8|5|0", "14|0", "3"]) == "|"
    assert separator_of(["Effusion", "Emphysema|Infiltration", "Mass"]) == "|"


def test_the_column_of_tags_has_labels_where_words_are_shared() -> None:
    texts = ["haze primary", "clear primary"]
    assert separator_of(texts, "tags") == " "
    assert separator_of(texts, "stage") is None


def test_lists_among_numbers_are_found() -> None:
    assert are_lists_of_numbers([["5"], ["16", "0"], ["1"]])
    assert not are_lists_of_numbers([["5"], ["16", "unknown"], ["1"]])
    assert not are_lists_of_numbers([*([str(number)] for number in range(50)), ["1", "2"]])
