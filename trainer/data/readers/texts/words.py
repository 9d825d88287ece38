"""Words of texts by Unicode's rules: normalisation, word boundaries, and joining tokens back into a text."""

from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from typing import Any

RULES = 2  # of normalisation and word boundaries; a run of rules 1 keeps the pattern of its version
FIRST_WORDS = re.compile(r"\w+(?:['’]\w+)*|[^\w\s]")  # rules 1
# The rules 2 for texts of ASCII alone, which are most lines of English: equals ``_unicode_words``, and is faster.
ASCII_WORDS = re.compile(r"\w+(?:(?:(?<=[A-Za-z])[.':](?=[A-Za-z])|(?<=[0-9])[.',;](?=[0-9]))\w+)*|[^\s\w]", re.ASCII)
# Scripts without spaces between words: the rules find single letters or syllables in them.
UNSPACED = {
    "Han": r"\p{sc=Han}",
    "Kana": r"\p{sc=Hiragana}\p{sc=Katakana}ー",
    "Thai": r"\p{sc=Thai}",
    "Lao": r"\p{sc=Lao}",
    "Khmer": r"\p{sc=Khmer}",
    "Burmese": r"\p{sc=Myanmar}",
}


def normalise(text: str, *, lowercase: bool, rules: int = RULES) -> str:
    """Return the text in the form NFC and, if ``lowercase`` is set, in lower case.

    ``str.lower`` keeps ß, and gives a final Σ the form ς. It makes İ an i with a dot above it, which is another letter
    than the i of the same Turkish word in lower case, so that İ becomes i first.
    """
    if rules == 1:
        return text.lower() if lowercase else text
    text = unicodedata.normalize("NFC", text)
    return unicodedata.normalize("NFC", text.replace("İ", "i").lower()) if lowercase else text


def split_words(text: str, rules: int = RULES) -> list[str]:
    """Return the words, numbers, emoji and punctuation marks of a text, without spaces.

    The boundaries are the default word boundaries of Unicode Standard Annex #29. A Chinese character, a Hiragana letter
    and a syllable of Thai, Lao, Khmer or Burmese is a word each, as the standard needs a dictionary for more. Marks and
    control characters that follow no character but a space are left out.
    """
    if rules == 1:
        return FIRST_WORDS.findall(text)
    return ASCII_WORDS.findall(text) if text.isascii() else _unicode_words()(text)


@functools.cache
def _unicode_words() -> Callable[[str], list[str]]:
    """Return the function that finds the words by the rules WB3 to WB16 of UAX #29.

    The pattern writes the rules out: ``\\b`` of ``regex`` follows them only since a version of 2026, so that the tokens
    of a run would depend on the installed version.
    """
    import regex

    extend = r"\p{WB=Extend}\p{WB=Format}\p{WB=ZWJ}"  # WB4: never begins a word, and belongs to what it follows
    letter, hebrew = r"a-zA-Z\p{WB=ALetter}\p{WB=Hebrew_Letter}", r"\p{WB=Hebrew_Letter}"
    digit, katakana, connector = r"0-9\p{WB=Numeric}", r"\p{WB=Katakana}", r"_\p{WB=ExtendNumLet}"
    within_words, within_numbers = r"'\p{WB=MidLetter}\p{WB=MidNumLet}", r"'\p{WB=MidNum}\p{WB=MidNumLet}"
    between = (
        rf"(?<=[{letter}][{extend}]*)[{within_words}][{extend}]*(?=[{letter}])"  # WB6, WB7
        rf"|(?<=[{digit}][{extend}]*)[{within_numbers}][{extend}]*(?=[{digit}])"  # WB11, WB12
        rf'|(?<={hebrew}[{extend}]*)"[{extend}]*(?={hebrew})'  # WB7b, WB7c
    )
    letters = rf"[{letter}{digit}][{letter}{digit}{extend}]*+(?:(?:{between})[{letter}{digit}{extend}]++)*+"  # WB5-12
    kana, connectors = rf"[{katakana}][{katakana}{extend}]*+", rf"[{connector}][{connector}{extend}]*+"  # WB13
    after_connector = rf"(?<=[{connector}][{extend}]*)(?:{letters}|{kana})"  # WB13b
    word = (
        rf"(?:{letters}|{kana}|{connectors})(?:{after_connector}|{connectors})*+"  # WB13a
        rf"(?:(?<={hebrew}[{extend}]*)'[{extend}]*+)?"  # WB7a
    )
    flag, other = rf"(?:[🇦-🇿][{extend}]*+){{1,2}}", rf"[^\s{extend}][{extend}]*+"  # WB15, WB16; WB999
    emoji = rf"(?:(?<=\u200d)\p{{Extended_Pictographic}}[{extend}]*+)*+"  # WB3c
    simple = r"[a-zA-Z0-9À-ÖØ-öø-ɏА-яЁё]++(?=[.,;:!?]?+(?:\s|\Z))"  # first, as it is frequent and needs no rules
    find: Callable[[str], list[str]] = regex.compile(rf"(?V1){simple}|(?:{word}|{flag}|{other}){emoji}").findall
    return find


def join_words(words: Iterable[str]) -> str:
    """Return the words as a text, with spaces between them except between letters of scripts without spaces."""
    joined = " ".join(words)
    return joined if joined.isascii() else str(_unspaced_gaps().sub("", joined))


@functools.cache
def _unspaced_gaps() -> Any:
    import regex

    unspaced = "".join(UNSPACED.values())
    return regex.compile(rf"(?V1)(?<=[{unspaced}]\p{{M}}*) (?=[{unspaced}])")


def count_unspaced(words: Sequence[str], counts: Sequence[int]) -> dict[str, int]:
    """Return the number of words in each script without spaces, by the name of the script, the most frequent first.

    Args:
        words: different words.
        counts: how often each of them occurs.
    """
    import regex

    pattern = regex.compile("(?V1)" + "|".join(f"(?P<{name}>[{letters}])" for name, letters in UNSPACED.items()))
    found = dict.fromkeys(UNSPACED, 0)
    for word, count in zip(words, counts, strict=True):
        if not word.isascii() and (match := pattern.match(word)):
            found[match.lastgroup] += count
    return {name: count for name, count in sorted(found.items(), key=lambda each: -each[1]) if count}
