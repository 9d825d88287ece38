"""Rows of a table in text: a quote that is not closed costs its own line alone."""

from __future__ import annotations

from trainer.data.readers.tables.rows import UNCLOSED, split_rows


def rows(text: str) -> list[tuple[int, list[str], str]]:
    return [(row.first_line, row.cells, row.fault) for row in split_rows(text.splitlines(keepends=True), ",", '"')]


def test_cells_in_quotes_hold_delimiters_and_line_breaks() -> None:
    assert rows('1,"a,b"\n\n2,"c\nd"\n3,e\n') == [(1, ["1", "a,b"], ""), (3, ["2", "c\nd"], ""), (5, ["3", "e"], "")]


def test_an_open_quote_loses_one_line_wherever_the_next_quote_is() -> None:
    assert rows('1,"open\n2,b\n3,"c"\n4,d\n') == [
        (1, [], UNCLOSED),
        *[(n, [str(n), "abcd"[n - 1]], "") for n in (2, 3, 4)],
    ]
    assert rows('1,a\n2,"open\n') == [(1, ["1", "a"], ""), (2, [], UNCLOSED)]
    assert rows('1,5" pipe\n2,b\n') == [(1, ["1", '5" pipe'], ""), (2, ["2", "b"], "")]
    assert rows('1,a\n2,"open\n3,c\n') == [(1, ["1", "a"], ""), (2, [], UNCLOSED), (3, ["3", "c"], "")]


def test_many_open_quotes_take_no_quadratic_time() -> None:
    found = rows("".join(f'{n},"open\n{n},b\n' for n in range(20_000)))
    assert sum(fault == UNCLOSED for *_, fault in found) == 20_000
