"""A text is read as it was typed, wherever its key takes a text and Hydra's grammar does not say otherwise."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from trainer.compose.overrides import variants
from trainer.compose.read_word import chosen_by, flaw_of, in_grammar, read, text_of
from trainer.config.messages import quoted

HOME = str(Path.home())


def value_of(word: str) -> Any:
    override = read(word, None)
    assert override is not None
    assert not override.is_sweep_override()
    return override.value()


@pytest.mark.parametrize(
    "value",
    [
        *(
            "T\xe9l\xe9chargements/photos (1)",
            "photos (1)",
            "str (1)",
            "range (1)",
            "Gr\xf6\xdfe [cm]",
            "photos [1",
            "it's",
        ),
        *(
            "{label}.*",
            "{label}_{group}_*",
            "a=b",
            "100%",
            "a#b!c;d&e",
            "C:\\data",
            "C:\\d\xe2ta\\",
            'my "best" run',
            "\u96ea/\U0001f600",
        ),
        *("photos ", " photos", "2024", "1e3", "007", "true", "a b/\udce9.csv", ",", ", ", ";", " ", "e\u0301"),
    ],
)
@pytest.mark.parametrize("key", ["run_dir", "dataset.path"])
def test_a_text_is_read_as_it_was_typed(key: str, value: str) -> None:
    override = read(f"{key}={value}", None)
    assert override is not None
    assert override.value() == value
    again = read(in_grammar(override), None)
    assert again is not None
    assert again.value() == value
    assert value_of(f"{key}={quoted(value)}") == value
    assert text_of(f"{key}={value}") == value


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("dataset.path='p\xe9 (1)'", "p\xe9 (1)"),
        ('dataset.path="a, b"', "a, b"),
        (r"dataset.path=a\,b", "a,b"),
        (r"dataset.path=photos\ \(1\)", "photos (1)"),
        ("dataset.path=null", None),
        ("dataset.path=${oc.env:HOME}/\xe9 (1)", "${oc.env:HOME}/\xe9 (1)"),
        ("dataset.target=3", 3),
        ("dataset.target=1.5", "1.5"),
        ("epochs=${seed}", "${seed}"),
        ("device.timeout=30", 30),
        ("precision=fp32 ", "fp32"),
        ("optimizer.lr=\xe9", "\xe9"),
        ("unknown=\xe9 (1)", "\xe9 (1)"),
        ("unknown=[\xe9,1]", ["\xe9", 1]),
    ],
)
def test_quotes_escapes_and_what_suits_the_type_stay_as_hydra_reads_them(word: str, value: Any) -> None:
    assert value_of(word) == value


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("dataset.target=[Gr\xf6\xdfe]", ["Gr\xf6\xdfe"]),
        ("dataset.ignore=[Gr\xf6\xdfe,Poids (kg)]", ["Gr\xf6\xdfe", "Poids (kg)"]),
        ("dataset.ignore=[Poids (kg, net),3]", ["Poids (kg, net)", 3]),
        ("dataset.ignore=[Gr\xf6\xdfe [cm],it's]", ["Gr\xf6\xdfe [cm]", "it's"]),
        ('dataset.ignore=["a, b",Gr\xf6\xdfe,a (1]', ["a, b", "Gr\xf6\xdfe", "a (1"]),
        ("dataset.ignore=[1.5,true]", ["1.5", "true"]),
        ("dataset.path={train: Donn\xe9es/a.csv, test: b (1).csv}", {"train": "Donn\xe9es/a.csv", "test": "b (1).csv"}),
        (r"dataset.path={train: C:\a b, test: \xe9}", {"train": r"C:\a b", "test": r"\xe9"}),
        ("plugins=[mod\xe8les.py,b (1).py]", ["mod\xe8les.py", "b (1).py"]),
    ],
)
def test_a_list_and_a_mapping_hold_texts_as_they_were_typed(word: str, value: Any) -> None:
    override = read(word, None)
    assert override is not None
    assert override.value() == value
    again = read(in_grammar(override), None)
    assert again is not None
    assert again.value() == value


@pytest.mark.parametrize(
    ("word", "values"),
    [
        ("dataset.path=a.csv,b.csv", ["a.csv", "b.csv"]),
        ("dataset.path=\xe9.csv,b (1).csv", ["\xe9.csv", "b (1).csv"]),
        ("dataset.path=2020,2021", ["2020", "2021"]),
        ("dataset.path='\xe9',b", ["\xe9", "b"]),
        ("dataset.path=choice(a,b)", ["a", "b"]),
        ("dataset.target=Gr\xf6\xdfe,3", ["Gr\xf6\xdfe", 3]),
        ("dataset.target=[Gr\xf6\xdfe],[a,b]", [["Gr\xf6\xdfe"], ["a", "b"]]),
        ("model.channels=32,64", [32, 64]),
    ],
)
def test_a_sweep_stays_a_sweep(word: str, values: list[Any]) -> None:
    override = read(word, None)
    assert override is not None
    assert [each.value() for each in variants(override)] == values
    assert text_of(word) is None


def test_the_home_directory_is_put_in_for_its_sign() -> None:
    assert value_of("dataset.path=~/a  b.csv") == f"{HOME}/a  b.csv"
    assert value_of("plugins=[~/a.py,b.py]") == [f"{HOME}/a.py", "b.py"]
    assert value_of("dataset.path={train: ~/a, test: ~/b}") == {"train": f"{HOME}/a", "test": f"{HOME}/b"}
    assert value_of("dataset.path='~/a'") == "~/a"
    assert value_of("dataset.delimiter=~") == "~"


def test_a_value_that_is_nested_too_deeply_and_a_path_that_is_no_utf_8_have_no_traceback() -> None:
    assert flaw_of(f"run_dir={'[' * 900}\xe9{']' * 900}") == "nested too deeply"
    for word in ("metrics=\udce9", "optimizer.lr=\udce9 (1)", "plugins=\udce9 (1)"):
        assert value_of(word) == word.partition("=")[2]


def test_the_components_that_a_command_chooses_are_known_from_its_words() -> None:
    assert chosen_by(["dataset=csv", "dataset.path=x", "epochs=3"]) == {"dataset": "csv"}
