"""The tokens of a text are found in it as it is written."""

from __future__ import annotations

import unicodedata
from typing import Any

import pytest

from trainer.commands.explain.heatmaps import _locate
from trainer.data.readers.texts.subwords import SPACE
from trainer.data.readers.texts.tokens import Tokenizer

NAMES = ["<padding>", "<unknown>", *"ดีมกวน", SPACE, "f", "u", "n", "y", "ดี", f"{SPACE}f"]


def learned(tokens: str, rules: int = 2, **keys: Any) -> dict[str, Any]:
    about = {"tokens": tokens, "lowercase": True, "max_length": 99, "token_rules": rules, "vocabulary": NAMES}
    return {**about, "shape": [99], "merges": [[2, 3], [8, 9]]} | keys


@pytest.mark.parametrize("kind", ["words", "characters", "subwords"])
@pytest.mark.parametrize(
    "text", ["  Fun,  FUNNY\n\tdays", "ดีมาก วันนี้", unicodedata.normalize("NFD", "CAFÉ İs Größe"), "我爱 ☃ 北京"]
)
def test_every_letter_of_the_text_is_shown_once(kind: str, text: str) -> None:
    pytest.importorskip("tokenizers")
    found = Tokenizer.from_preprocessing(learned(kind))(text)
    pieces, rest = _locate(text, found, learned(kind))
    shown = "".join(before + word for before, word in pieces) + rest
    assert len(pieces) == len(found)
    assert shown == unicodedata.normalize("NFC", text)
    assert all(not before.strip() for before, _ in pieces)


def test_a_text_that_is_shorter_in_lower_case_is_shown_in_lower_case() -> None:
    assert _locate("J\u030c A", ["\u01f0", "a"], learned("words")) == ([("", "\u01f0"), (" ", "a")], "")


def test_without_the_text_the_tokens_are_joined_as_texts_are_written() -> None:
    assert _locate(None, ["f", "我", "爱", "!"], learned("words")) == (
        [("", "f"), (" ", "我"), ("", "爱"), (" ", "!")],
        "",
    )
    assert _locate(None, [f"{SPACE}f", "un", f"{SPACE}ny"], learned("subwords")) == (
        [("", "f"), ("", "un"), (" ", "ny")],
        "",
    )
    assert _locate("another text", ["f", "x"], learned("characters"))[0] == [("", "f"), ("", "x")]


def test_a_run_of_an_earlier_version_shows_the_text_as_it_reads_it() -> None:
    pieces, rest = _locate("दिन OK", ["द", "\u093f", "न", "ok"], learned("words", 1))
    assert pieces == [("", "द"), ("", "\u093f"), ("", "न"), (" ", "OK")]
    assert rest == ""
