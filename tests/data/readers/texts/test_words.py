"""Words by the rules of Unicode, in every script, and texts that are joined from them."""

from __future__ import annotations

import random
import unicodedata

import pytest

from trainer.data.readers.texts.words import _unicode_words, count_unspaced, join_words, normalise, split_words

FAMILY, FLAG, HEART, KEY = "👨\u200d👩\u200d👧", "🇩🇪", "❤\ufe0f", "1\ufe0f\u20e3"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Don't stop, l’eau o'clock 'quoted'", ["Don't", "stop", ",", "l’eau", "o'clock", "'", "quoted", "'"]),
        ("1,234.5 a_b U.S. 3:30 50%", ["1,234.5", "a_b", "U.S", ".", "3", ":", "30", "50", "%"]),
        (
            "मैं कल दिल्ली जा रहा हूँ और वहाँ दो दिन रहूँगा",
            ["मैं", "कल", "दिल्ली", "जा", "रहा", "हूँ", "और", "वहाँ", "दो", "दिन", "रहूँगा"],
        ),
        ("தமிழ் மொழி", ["தமிழ்", "மொழி"]),
        ("السَّلَامُ عَلَيْكُمْ", ["السَّلَامُ", "عَلَيْكُمْ"]),
        (unicodedata.normalize("NFD", "café Größe"), ["cafe\u0301", "Gro\u0308ße"]),
        ("i\u0307stanbul", ["i\u0307stanbul"]),
        ("한국어 문장", ["한국어", "문장"]),
        ("我爱北京", ["我", "爱", "北", "京"]),
        ("カタカナとひ", ["カタカナ", "と", "ひ"]),
        ("วันนี้", ["วั", "น", "นี้"]),
        (f"{FAMILY}👍🏽{FLAG}🇫🇷🇦 {HEART}{KEY}!", [FAMILY, "👍🏽", FLAG, "🇫🇷", "🇦", HEART, KEY, "!"]),
        ("צה\"ל ג' ג'x", ['צה"ל', "ג'", "ג'x"]),
        ("a\u0308.\u0308b 1\u0308,2 \u0308 \u200d", ["a\u0308.\u0308b", "1\u0308,2"]),
        ("", []),
    ],
)
def test_words_are_those_of_the_unicode_standard(text: str, words: list[str]) -> None:
    assert split_words(text) == words


# From WordBreakTest.txt of the Unicode Character Database 15.0, those without spaces; "÷" is a boundary.
OFFICIAL = """
0031 ÷ 003A 0308 ÷ 05D0
0031 ÷ 0027 0308 ÷ 05D0
0031 ÷ 003A 0308 ÷ 3031
3031 0308 ÷ 0061 ÷ 0027 2060
1F1E6 0308 200D
0061 ÷ 1F1E6 1F1E7 ÷ 1F1E8 ÷ 0062
0061 ÷ 1F1E6 1F1E7 200D ÷ 1F1E8 ÷ 0062
231A 0308 200D
0030 0308 0030
0031 ÷ 003A 0308 ÷ 0030
0061 ÷ 0027 ÷ 0027
0022 ÷ 0061 ÷ 0027 2060
0022 0308 ÷ 3031
002E 0308 ÷ 0022
0031 005F 0061 ÷ 002C ÷ 002C ÷ 0061
0061 005F 0061 ÷ 002E ÷ 003A ÷ 0031
0061 ÷ 0027 2060 0308 00AD
0031 ÷ 003A 00AD
0031 ÷ 002E ÷ 003A ÷ 0031
0031 ÷ 002E ÷ 002E ÷ 0061
1F6D1 200D 1F6D1
0061 200D 1F6D1
1F476 1F3FF ÷ 1F476
1F476 1F3FF 0308 200D 1F476 1F3FF
0041 0308 05D0
05D0 0308 ÷ 003A
0031 ÷ 002C 0308 0300
005F 0308 0300
"""


@pytest.mark.parametrize("line", OFFICIAL.split("\n")[1:-1])
def test_the_cases_of_the_standard_hold(line: str) -> None:
    words = ["".join(chr(int(number, 16)) for number in word.split()) for word in line.split("÷")]
    assert _unicode_words()("".join(words)) == words


def test_the_pattern_for_ascii_finds_the_same_words() -> None:
    draw = random.Random(0)
    for _ in range(5000):
        text = "".join(draw.choices("aZ09_'.:,;\"-! \t\x01", k=12))
        assert split_words(text) == _unicode_words()(text)


def test_the_frequent_case_of_the_pattern_holds_only_letters_that_join() -> None:
    for number in (*range(0xC0, 0x250), *range(0x410, 0x450), 0x401, 0x451):
        letter = chr(number)
        joined = [f"{letter}.{letter}"] if number not in (0xD7, 0xF7) else [letter, ".", letter]
        assert split_words(f"{letter}.{letter} {letter}{letter}! {letter}") == [
            *joined, *([letter * 2] if len(joined) == 1 else [letter] * 2), "!", letter
        ]  # fmt: skip


def test_a_text_of_flags_or_marks_may_be_long() -> None:
    """Minutes would be the time of a search that looks back to the beginning of the flags at each of them."""
    assert len(split_words("é" + "🇩" * 50_000)) == 1 + 25_000
    assert len(split_words("é" + "\u0301" * 50_000)) == 1
    assert len(split_words("é" + "a." * 50_000)) == 2


def test_letters_that_look_the_same_become_the_same() -> None:
    assert normalise(unicodedata.normalize("NFD", "Ärger É"), lowercase=True) == "ärger é"
    assert normalise("İSTANBUL İ", lowercase=True) == "istanbul i"
    assert normalise(unicodedata.normalize("NFD", "İSTANBUL"), lowercase=True) == "istanbul"
    assert normalise("Straße ΟΔΟΣ J\u030c", lowercase=True) == "straße οδος \u01f0"
    assert normalise("e\u0301İ", lowercase=False) == "éİ"


def test_the_rules_of_earlier_versions_stay() -> None:
    assert normalise("I\u0307s Ä", lowercase=True, rules=1) == "i\u0307s ä"
    assert split_words("don't 1,5 1990's दिन", 1) == ["don't", "1", ",", "5", "1990's", "द", "\u093f", "न"]


def test_words_are_joined_without_spaces_between_letters_of_scripts_without_them() -> None:
    for text in ("a good film", "我爱北京 abc 东京", "สวัสดี ok", "दो दिन", "カタカナと漢字"):
        assert join_words(split_words(text)) == text
    assert join_words(["<unknown>", "我", "<padding>"]) == "<unknown> 我 <padding>"


def test_words_of_scripts_without_spaces_are_counted() -> None:
    assert count_unspaced(["ส", "film", "我", "あ", "カナ"], [1, 9, 3, 4, 1]) == {"Kana": 5, "Han": 3, "Thai": 1}
    assert count_unspaced(["दिन", "дом"], [1, 1]) == {}
