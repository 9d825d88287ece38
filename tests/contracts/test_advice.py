"""The advice of messages is followed as it is typed, until a data set can be trained on."""

from __future__ import annotations

import random
import re
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

from trainer import compose
from trainer.build import assemble
from trainer.config import ConfigError

MAX_STEPS = 6
# The words that a message tells to type: between quotes, or a key with a value.
WORD = re.compile(r"'((?:dataset|loss|model)[\w.]*=[^']*)'|\b((?:dataset\.|loss=|model\.)[\w.]*=?[^\s,;()?]+)")


def followed(words: list[str]) -> list[str]:
    """Return the words with which a data set can be trained on, after the advice of each message was typed."""
    for _ in range(MAX_STEPS):
        try:
            assemble(compose(*words, "model=lstm", "model.hidden=4", "device=cpu").settings)
        except ConfigError as error:
            advice = [
                match[1] or match[2] for line in error.problems for match in WORD.finditer(line.partition(": ")[2])
            ]
            advice = [word for word in advice if "=" in word and "…" not in word and word not in words]
            assert advice, error.problems
            (typed,) = shlex.split(shlex.quote(advice[0]))
            key = typed.partition("=")[0]
            words = [*(word for word in words if word.partition("=")[0] != key), typed]
        else:
            return words
    raise AssertionError(words)


def csv(path: Path, header: str, row: Callable[[int, random.Random], str], encoding: str = "utf-8") -> list[str]:
    draw = random.Random(0)
    lines = [header, *(row(n, draw) for n in range(300))] if header else [row(n, draw) for n in range(300)]
    path.write_text("\n".join(lines) + "\n", encoding=encoding)
    return [f"dataset.path={path}"]


def titanic(path: Path) -> list[str]:
    """Names in quotes, empty cells, texts with few and with many values."""

    def row(n: int, draw: random.Random) -> str:
        age = "" if n % 5 == 0 else draw.randint(1, 80)
        about = f'"Name, Mr. {n}",{"male" if n % 3 else "female"},{age},{draw.random():.2f},{"SCQ"[n % 3]}'
        return f"{n + 1},{n % 2},{n % 3 + 1},{about}"

    return csv(path, "PassengerId,Survived,Pclass,Name,Sex,Age,Fare,Embarked", row)


def houses(path: Path) -> list[str]:
    """Many columns of texts, a value as target, and names with spaces."""

    def row(n: int, draw: random.Random) -> str:
        zone, price = ["RL", "RM", "FV"][n % 3], 1000 * n + 50_000
        return f"{n + 1},{526301100 + 7 * n},{20 + 10 * (n % 4)},{zone},{draw.randint(1000, 9000)},{price}"

    return csv(path, "Order,PID,MS SubClass,MS Zoning,Lot Area,SalePrice", row)


def sizes(path: Path) -> list[str]:
    """Names in other letters and with signs."""
    return csv(path, "Größe [cm],Straße,Art", lambda n, draw: f"{draw.random():.3f},Weg {n % 9},{'ab'[n % 2]}")


def codes(path: Path) -> list[str]:
    """Thirty classes by number."""
    return csv(path, "a,b,code", lambda n, draw: f"{draw.random():.3f},{draw.random():.3f},{n % 30}")


def truths(path: Path) -> list[str]:
    return csv(path, "a,b,is_late", lambda n, draw: f"{draw.random():.3f},{draw.random():.3f},{n % 3 == 0}")


def decimals(path: Path) -> list[str]:
    return csv(
        path, "a;b;kind", lambda n, draw: f"{draw.randint(1, 9)},{draw.randint(100, 999)};{n % 7 + 9};{'ab'[n % 2]}"
    )


def utf16(path: Path) -> list[str]:
    return csv(path, "a,kind", lambda n, draw: f"{draw.random():.3f},{'ab'[n % 2]}", encoding="utf-16")


def tags(path: Path) -> list[str]:
    """Several labels in one cell."""
    names = ["red", "big", "old", "wet", "far"]
    return csv(
        path,
        "a,b,tags",
        lambda n, draw: f"{draw.random():.3f},{draw.random():.3f},{'|'.join(sorted(draw.sample(names, 1 + n % 3)))}",
    )


def diamonds(path: Path) -> list[str]:
    return csv(
        path,
        "carat,cut,x,y,z,depth",
        lambda n, draw: (
            f"{draw.random():.2f},{['good', 'fair', 'ideal'][n % 3]},"
            + ",".join(f"{draw.random():.2f}" for _ in range(4))
        ),
    )


@pytest.mark.parametrize("make", [titanic, houses, sizes, codes, truths, decimals, utf16, tags, diamonds])
def test_the_advice_about_a_table_leads_to_a_training(make: Callable[[Path], list[str]], tmp_path: Path) -> None:
    followed(["dataset=csv", *make(tmp_path / "d.csv")])


def news(path: Path) -> list[str]:
    return csv(
        path, "", lambda n, draw: f'"{n % 4 + 1}","Title of {n}, short","A longer text, number {n}, about things"'
    )


def spam(path: Path) -> list[str]:
    return csv(
        path, "v1,v2,,,", lambda n, draw: f'{"ham" if n % 4 else "spam"},"café, number {n}",,,', encoding="latin-1"
    )


def scores(path: Path) -> list[str]:
    return csv(path, "review,score", lambda n, draw: f'"a film, {n}",{draw.random():.3f}')


def authors(path: Path) -> list[str]:
    return csv(
        path, "who,said,about", lambda n, draw: f'author {n % 9},"words of {n} and more, to be long",topic {n % 5}'
    )


@pytest.mark.parametrize("make", [news, spam, scores, authors])
def test_the_advice_about_texts_leads_to_a_training(make: Callable[[Path], list[str]], tmp_path: Path) -> None:
    followed(["dataset=text", *make(tmp_path / "d.csv")])
