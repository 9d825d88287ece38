"""The wording of messages."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import pytest
from msgspec import Meta

from trainer.config import Betas, PositiveFloat, PositiveInt
from trainer.config.messages import choices, describe, shown_value, unknown_option
from trainer.config.unknown_keys import unknown_key


@pytest.mark.parametrize(
    ("annotation", "words"),
    [
        (PositiveInt, "a whole number, at least 1"),
        (PositiveFloat | None, "a number, greater than 0 and finite, or null"),
        (Annotated[float, Meta(ge=0, lt=1)], "a number, at least 0 and less than 1"),
        (Literal["none", "batch"], "one of none, batch"),
        (list[str], "a list, each item a string"),
        (Betas, "a list, each item a number, at least 0 and less than 1, 2 of them"),
        (bool, "true or false"),
    ],
)
def test_types_are_described_in_words(annotation: Any, words: str) -> None:
    assert describe(annotation) == words


def test_only_types_with_few_values_have_choices() -> None:
    assert choices(Literal["none", "batch"] | None) == ["none", "batch", "null"]
    assert choices(bool) == ["true", "false"]
    assert choices(PositiveInt) == choices(list[str]) == []


def test_values_are_shown_as_in_yaml_and_cut() -> None:
    assert [shown_value(value) for value in (None, True, False, "a", 1.5)] == ["null", "true", "false", "'a'", "1.5"]
    assert shown_value("a" * 200) == f"'{'a' * 99}…"


def test_an_unknown_name_comes_with_its_origin_the_nearest_name_and_all_names() -> None:
    assert unknown_key("optimizer.lrr", ["name", "lr", "eps"], "from the command line") == (
        "optimizer.lrr: no such key (from the command line); did you mean optimizer.lr? keys: lr, eps"
    )
    assert unknown_key("model.what", []) == "model.what: no such key; keys: none"
    assert unknown_option("model", "rnn", ["cnn", "gru"]) == (
        "model=rnn: no such option; did you mean gru? options: cnn, gru"
    )
    assert "did you mean model=torchvision model.arch=resnet18?" in unknown_option("model", "resnet18", ["cnn"])
    assert "(50 in all)" in unknown_option("model.arch", "zzz", [f"net{number}" for number in range(50)])
