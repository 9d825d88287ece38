"""Numbers as tables hold them: with decimal commas, thousands, percents, currencies, as true and false, as dates."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from trainer.data.readers.tables.date_cells import DateOrder, as_floats, parse_dates, pattern_of

Decimal = Literal[".", ","]

# Cells that mean a missing number, in lower case. In a column of texts, those of ``LEVELS`` are texts like others.
LEVELS = frozenset(("none", "nil", "-", "--", ".", "\u2212", "\u2013", "\u2014"))
MISSING = frozenset(
    ("", "na", "n/a", "nan", "null", "none", "?", "#n/a", "#na", "<na>", "-", "--", ".", "\\n", "#null!", "-nan", "nil")
) | frozenset("\u2212\u2013\u2014")  # a minus sign or dash alone
YES, NO = ("true", "yes"), ("false", "no")
# The sign or code of a currency; one that contains another comes before it.
CURRENCIES = (
    *("US$", "R$", "A$", "C$", "HK$", "Rs.", "Rs", "kr", "zł", "Kč", *"$€£¥₹₽₩"),
    *("USD", "EUR", "GBP", "JPY", "CNY", "INR", "CHF", "CAD", "AUD", "NZD", "SEK", "NOK", "DKK", "PLN", "CZK", "HUF"),
    *("RUB", "BRL", "MXN", "KRW", "TRY", "ZAR", "SGD", "HKD", "ILS", "THB", "IDR", "MYR", "PHP", "VND", "AED", "SAR"),
)
# Minus signs, digits and decimal points of Unicode, which are read as those of ASCII.
ZEROS = "\uff10\u0660\u06f0"  # of full-width, Arabic-Indic and Persian digits
FOLD = {ord(sign): "-" for sign in "\u2212\ufe63\uff0d"} | {ord("\uff0e"): ".", ord("\u066b"): ".", ord("\u066c"): ","}
FOLD |= {ord(zero) + digit: str(digit) for zero in ZEROS for digit in range(10)}
BLANKS = " \u00a0\u202f"
BLANK = "[ \u00a0\u202f]?"  # between a number and its sign
GROUPS = " \u00a0\u202f'’"  # what may stand between groups of three digits, besides a comma or a point
PLAIN = r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?|[+-]?(?i:inf|infinity)"


@dataclass(frozen=True)
class NumberForm:
    """How the numbers of a column are written.

    Args:
        kind: numbers, ``true`` and ``false`` (or ``yes`` and ``no``), which are 1 and 0, or dates, which are days.
        decimal: the sign before the fraction.
        grouped: whether three digits may be a group; the sign between groups is a comma, a point, a space or ``'``.
        sign: a percent sign or a currency beside each number, which the number loses; empty without one.
        brackets: whether negative numbers are in brackets, as accountants write them; all but plain forms accept it.
        unicode: whether minus signs or digits are not those of ASCII.
        order: of dates: what comes first; ``time`` for times without a date, which are parts of a day.
        origin: of dates: the day that is 0, in days since 1970-01-01, so that float32 can hold the time of the day.
    """

    kind: Literal["number", "bool", "date"] = "number"
    decimal: Decimal = "."
    grouped: bool = False
    sign: str = ""
    brackets: bool = False
    unicode: bool = False
    order: DateOrder = "year"
    origin: float = 0.0

    @property
    def is_plain(self) -> bool:
        """Whether numbers are written as Python writes them."""
        return self == PLAIN_FORM

    @property
    def pattern(self) -> str:
        """A regular expression, for Python and RE2, that matches a cell with a number of this form."""
        if self.kind == "date":
            return pattern_of(self.order)
        if self.kind == "bool":
            return f"^(?i:{'|'.join((*YES, *NO))})$"
        if self.is_plain:
            return f"^(?:{PLAIN})$"
        between, point = re.escape(self._between), re.escape(self.decimal)
        indian = "|[0-9]{1,3}(?:,[0-9]{2})+,[0-9]{3}" if self.decimal == "." else ""  # such as 12,34,567
        whole = rf"(?:[1-9][0-9]{{0,2}}(?:[{between}][0-9]{{3}})+{indian}|[0-9]+)" if self.grouped else "[0-9]+"
        number = rf"(?:{whole}(?:{point}[0-9]*)?|{point}[0-9]+)(?:[eE][+-]?[0-9]+)?"
        if self.sign == "%":
            return f"^[+-]?{number}{BLANK}%$"  # a number without its percent sign may be another share
        sign = f"(?:{re.escape(self.sign)})" if self.sign else ""
        before = f"{sign}?{BLANK}" if sign else ""
        behind = f"|[+-]?{number}{BLANK}{sign}" if sign else ""
        # accountants write negative numbers in brackets
        return rf"^(?:[+-]?{before}[+-]?{number}{behind}|\({before}{number}\))$"

    @property
    def _between(self) -> str:
        return (",." if self.decimal == "." else ".,")[0] + GROUPS

    def parse(self, cells: Any) -> NDArray[np.float64]:
        """Return the numbers of an array of arrow texts, (cells,); NaN for a text that is no number of this form."""
        import pyarrow as pa
        import pyarrow.compute as pc

        texts = pc.utf8_trim_whitespace(cells)
        if self.is_plain:
            try:
                return as_floats(pc.cast(texts, pa.float64()))
            except pa.ArrowInvalid:
                pass
        texts = _folded(texts) if self.unicode else texts
        texts = pc.if_else(pc.match_substring_regex(texts, pattern=self.pattern), texts, None)
        if self.kind == "bool":
            lower = pc.utf8_lower(texts)
            return as_floats(pc.cast(pc.if_else(pc.is_null(texts), None, pc.is_in(lower, pa.array(YES))), pa.float64()))
        if self.kind == "date":
            return parse_dates(texts, self.order) - self.origin
        if not self.is_plain:
            texts = pc.replace_substring_regex(texts, pattern=r"^\((.*)\)$", replacement=r"-\1")
            texts = pc.replace_substring(texts, pattern=self.sign, replacement="") if self.sign else texts
            strip = f"[{re.escape(BLANKS + (self._between if self.grouped else ''))}]"
            texts = pc.replace_substring_regex(texts, pattern=strip, replacement="")
            texts = pc.replace_substring(texts, pattern=self.decimal, replacement=".")
        return as_floats(pc.cast(texts, pa.float64()))

    def numbers(self, cells: Sequence[str]) -> list[float]:
        """Return the numbers in some cells; NaN for a cell that holds no number of this form."""
        if self.is_plain:
            return [to_float(cell) for cell in cells]
        import pyarrow as pa

        return [*self.parse(pa.array(cells, pa.string())).tolist()]

    def __str__(self) -> str:
        """Return how the form differs from that of Python, for messages; empty for a plain number."""
        if self.kind != "number":
            return self._shown_date if self.kind == "date" else "true or false as 1 or 0"
        groups = "thousands in groups" if self.grouped and not self.brackets else ""
        parts = ["decimal commas" if self.decimal == "," else groups, f"a sign {self.sign}" if self.sign else ""]
        parts.append("negative numbers in brackets" if self.brackets else "")
        parts.append("minus signs or digits of Unicode" if self.unicode else "")
        return " and ".join(filter(None, parts))

    @property
    def _shown_date(self) -> str:
        first = {"day": ", the day first", "month": ", the month first"}.get(self.order, "")
        return "times as parts of a day" if self.order == "time" else f"dates as days{first}"


PLAIN_FORM = NumberForm()
_PLAIN = re.compile(PLAIN_FORM.pattern)


def to_float(cell: str) -> float:
    """Return the number in a cell, or NaN. Digits with _ between them, which Python accepts, are no number here."""
    text = cell.strip()
    return float(text) if _PLAIN.match(text) else np.nan


def _folded(texts: Any) -> Any:
    """Return arrow texts with minus signs, digits and decimal points of ASCII."""
    import pyarrow.compute as pc

    for code, sign in FOLD.items() if not pc.all(pc.string_is_ascii(texts)).as_py() else ():
        texts = pc.replace_substring(texts, pattern=chr(code), replacement=sign)
    return texts


# ---- detection


class FoundForm(NamedTuple):
    """The form of a column; None for a column of texts. ``open`` is a cell that can be read in two ways, or empty."""

    form: NumberForm | None
    open: str = ""


MOSTLY = 0.8  # share of numbers from which a column with MIN_CELLS cells holds numbers
MIN_CELLS = 20
MAX_LENGTH = 100  # characters of the longest number
ORDERS: tuple[DateOrder, ...] = ("year", "day", "month", "time")
MAX_DATES = 100  # cells that tell whether a column holds dates


def find_form(cells: Sequence[str], missing: Collection[str], decimal: Decimal | None) -> FoundForm:
    """Find how most cells of a column write numbers.

    Args:
        cells: some cells of the column.
        missing: the cells that mean a missing number, in lower case.
        decimal: the sign before fractions, or None if the cells decide it.
    """
    there = [text for cell in cells if (text := cell.strip()).lower() not in missing]
    if not there:
        return FoundForm(PLAIN_FORM)
    least = MOSTLY if len(there) >= MIN_CELLS else 0.5
    plain = 0.0 if decimal == "," else _share(PLAIN_FORM, there)
    if plain == 1:
        return FoundForm(PLAIN_FORM)
    if sum(len(cell) > MAX_LENGTH for cell in there) * 2 > len(there):
        return FoundForm(None)
    if not all(map(str.isascii, there)) and (folded := [cell.translate(FOLD) for cell in there]) != there:
        found_in = find_form(folded, missing, decimal)
        is_other = found_in.form is None or found_in.form.kind == "bool"
        return found_in if is_other else FoundForm(replace(found_in.form or PLAIN_FORM, unicode=True), found_in.open)
    if _share(NumberForm("bool"), there) > least:
        return FoundForm(NumberForm("bool"))
    if (order := _find_order(there, least)) is not None:
        return FoundForm(NumberForm("date", order=order))
    sign = next((sign for sign in ("%", *CURRENCIES) if sum(sign in cell for cell in there) * 2 > len(there)), "")
    found, unclear = decimal, ""
    if found is None:
        found, unclear = _find_decimal([cell.replace(sign, "").strip("()").strip() for cell in there])
    brackets = any(cell[0] == "(" for cell in there)
    simple, form = (NumberForm("number", found, grouped, sign, brackets) for grouped in (False, True))
    share = _share(form, there)
    if share > max(least, plain):
        # further cells may have groups where the fraction is clear, or a currency stands beside the numbers
        is_simple = found == "." and not sign and not brackets and _share(simple, there) == share
        return FoundForm(simple if is_simple else form, unclear)
    return FoundForm(PLAIN_FORM if plain > least else None)


def _find_order(cells: Sequence[str], least: float) -> DateOrder | None:
    """Return what comes first in the dates of some cells; None if they hold neither dates nor times."""
    some = cells[:: max(1, len(cells) // MAX_DATES)]
    if not any("0" <= cell[0] <= "9" or cell[0].isalpha() for cell in some):
        return None
    shares: dict[DateOrder, float] = {order: _share(NumberForm("date", order=order), some) for order in ORDERS}
    best, share = max(shares.items(), key=lambda pair: pair[1])
    if share <= least:
        return None
    if best == "day" and any("/" in cell or "-" in cell for cell in cells) and not any(map(str.isalpha, cells[0])):
        shares = {order: _share(NumberForm("date", order=order), cells) for order in ORDERS}
        return "unclear" if shares["day"] == shares["month"] else max(shares.items(), key=lambda pair: pair[1])[0]
    return best


def _share(form: NumberForm, cells: Sequence[str]) -> float:
    """Return the share of cells that are numbers of a form."""
    if form.is_plain and _are_floats(cells):
        return 1.0
    pattern = re.compile(form.pattern)
    return sum(pattern.match(cell) is not None for cell in cells) / len(cells)


def _are_floats(cells: Sequence[str]) -> bool:
    try:
        found = np.fromiter(map(float, cells), np.float64, len(cells))
    except ValueError:
        return False
    return not np.isnan(found).any() and not any("_" in cell for cell in cells) and all(map(str.isascii, cells))


def _find_decimal(cells: Sequence[str]) -> tuple[Decimal, str]:
    """Return the sign before fractions, and a cell such as 1,234 that could have either; empty if it is clear."""
    comma = re.compile(
        r"[+-]?(?:[0-9]*|[0-9]{1,3}(?:[. \u00a0\u202f'’][0-9]{3})+),(?:[0-9]{0,2}|[0-9]{4,})|[+-]?0[0-9]*,[0-9]+"
    )
    both = re.compile(r"[+-]?[0-9]{1,3}(?:\.[0-9]{3})+,[0-9]+")
    point = re.compile(
        r"[+-]?(?:[0-9]*|[0-9]{1,3}(?:[, \u00a0\u202f'’][0-9]{3})+)\.[0-9]*|[+-]?[0-9]{1,3}(?:,[0-9]{3}){2,}"
    )
    several = re.compile(r"[+-]?[0-9]{1,3}(?:\.[0-9]{3}){2,}")
    commas = sum(bool(comma.fullmatch(cell) or both.fullmatch(cell) or several.fullmatch(cell)) for cell in cells)
    points = sum(bool(point.fullmatch(cell)) for cell in cells)
    unclear = next((cell for cell in cells if re.fullmatch(r"[+-]?[1-9][0-9]{0,2},[0-9]{3}", cell)), "")
    if commas > points:
        return ",", ""
    return ".", "" if points else unclear
