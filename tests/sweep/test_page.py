"""The page and the table of a sweep, of runs as they may stand in its folder."""

from __future__ import annotations

import csv
import os
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes

import pytest

from tests.html_page import Page
from tests.runs_on_disk import write_run
from trainer.commands.text_table import figure
from trainer.runs.read import varied_keys
from trainer.sweep.drive import conclude, sweep_table
from trainer.sweep.page import make_page
from trainer.sweep.table import SweepRow, SweepTable, as_text, train_command, write_csv


def summary(value: float, metric: str = "accuracy", **more: Any) -> dict[str, Any]:
    best = {"step": 20, "epoch": 2, "val/loss": 1 - value, f"val/{metric}": value}
    direction = "minimize" if metric == "loss" else "maximize"
    numbers = {"steps": 20, "seconds": 1.5, "test/accuracy": value}
    return {"state": "finished", "monitor": f"val/{metric}", "direction": direction, "best": best, **numbers, **more}


def sweep_of(folder: Path, values: dict[tuple[str, ...], Any]) -> SweepTable:
    """A sweep with these runs: their words, and the value of each, or its whole summary."""
    for number, (words, value) in enumerate(values.items()):
        found = summary(value) if isinstance(value, float) else value
        points = [{"step": 10 * at, "epoch": at, "val/accuracy": 0.1 * at, "val/loss": 1 / at} for at in (1, 2)]
        write_run(folder / f"{number}-x", words, {}, found, points)
    return sweep_table(folder, [], {})


def test_seeds_are_folded_and_the_best_mean_wins_not_the_best_run(tmp_path: Path) -> None:
    found = sweep_of(tmp_path, {
        ("lr=1", "seed=0"): 0.99, ("lr=1", "seed=1"): 0.5, ("lr=2", "seed=0"): 0.9, ("lr=2", "seed=1"): 0.8,
    })  # fmt: skip
    assert [dict(group.values) for group in found.groups] == [{"lr": "2"}, {"lr": "1"}]
    assert [group.mean for group in found.groups] == pytest.approx([0.85, 0.745])
    assert [group.deviation for group in found.groups] == pytest.approx([0.0707106781, 0.3464823228])
    assert found.best is not None and found.best.words == ("lr=2", "seed=0")
    text = "\n".join(as_text(found))
    said = "best     lr=2: val/accuracy 0.8500 ± 0.0707 over 2 seeds, test/accuracy 0.8500"
    assert f"{said}\nagain    train lr=2 seed=0" in text


def test_less_is_better_where_the_monitor_is_a_loss(tmp_path: Path) -> None:
    found = sweep_of(tmp_path, {("lr=1",): summary(0.3, "loss"), ("lr=2",): summary(0.1, "loss")})
    assert found.best is not None and found.best.words == ("lr=2",)
    assert as_text(found)[1].startswith("*   2")


def test_the_file_has_every_digit_and_every_run(tmp_path: Path) -> None:
    found = sweep_of(tmp_path, {("lr=1", "a=x,y"): 1 / 3, ("lr=2",): {"state": "failed", "reason": 'the "loss", nan'}})
    with write_csv(found).open(newline="", encoding="utf-8") as file:
        one, two = csv.DictReader(file)
    assert (float(one["val/accuracy"]), one["a"], one["state"]) == (1 / 3, "x,y", "finished")
    assert (two["val/accuracy"], two["reason"], two["state"], two["lr"]) == ("", 'the "loss", nan', "failed", "2")


def test_a_page_is_whole_and_leads_nowhere_else(tmp_path: Path) -> None:
    found = sweep_of(tmp_path, {
        ("lr=1e-3", "seed=0", "name=<b>&"): 0.5, ("lr=1e-2", "seed=1"): 0.75,
        ("lr=1", "seed=0"): {"state": "failed", "reason": "<script>alert(1)</script>"},
    })  # fmt: skip
    content = make_page(found)
    parsed = Page(content)
    assert not [link for link in parsed.loaded if "//" in link]
    assert "<script" not in content and "alert(1)" in parsed.text
    assert content.count("<svg") >= 3
    assert "train lr=1e-2 seed=1" in parsed.text
    assert "val/accuracy against lr" in content and "against seed" not in content


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({}, "No run has finished."),
        ({("lr=1",): None}, "No run has finished."),
        ({(): 0.5}, "val/accuracy 0.5000"),
        ({("a=1",): 0.5, ("a=2",): summary(0.1, "loss")}, "The runs are compared by different metrics"),
        ({(f"lr={number}",): number / 200 for number in range(101)}, "lr=100: val/accuracy 0.5000"),
    ],
)  # fmt: skip
def test_a_page_of_any_sweep(tmp_path: Path, values: dict[tuple[str, ...], Any], said: str) -> None:
    found = sweep_of(tmp_path, values)
    assert said in Page(make_page(found)).text
    assert len(as_text(found)) <= 50


def test_commands_and_figures_are_as_they_are_typed() -> None:
    row = SweepRow(0, ("model.channels=[8,16]", "a=b c"), "finished", Path("0"))
    shown = "train --config-dir 'my configs' 'model.channels=[8,16]' 'a=b c'"
    assert train_command(SweepTable(Path(), (row,), options=("--config-dir", "my configs")), row) == shown
    assert [figure(each) for each in (None, 0.0, 0.98765, 1e-5, 123456.0)] == [
        "",
        "0.0000",
        "0.9877",
        "1.000e-05",
        "1.235e+05",
    ]
    assert varied_keys([["a=1", "b=2"], ["a=1", "b=3", "c=1"]]) == ["b", "c"]


def test_a_folder_is_led_to_where_it_stands_whatever_its_name(tmp_path: Path) -> None:
    for name in ("below/a b", "c:d", "#%?", "e\udcff"):
        try:
            write_run(tmp_path / name, ["lr=1"], {}, summary(0.5))
        except OSError:  # of a file system that takes letters alone
            assert name == "e\udcff"
    content = make_page(sweep_table(tmp_path, [], {}))
    content.encode()
    links = Page(content).loaded
    assert sorted(links)[:3] == ["%23%25%3F/", "below/a%20b/", "c%3Ad/"]
    assert all((tmp_path / os.fsdecode(unquote_to_bytes(link))).is_dir() for link in links)


@pytest.mark.parametrize(
    ("state", "total", "goes_on"),
    [("finished", 1, False), ("finished", 2, True), ("waiting", 1, True), ("failed", 1, False)],
)
def test_a_sweep_that_was_stopped_ends_with_the_command_that_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], state: str, total: int, goes_on: bool
) -> None:
    folder = tmp_path / "my sweep"
    folder.mkdir()
    conclude(SweepTable(folder, (SweepRow(0, ("seed=1",), state, folder / "0"),)), total=total)
    last = capsys.readouterr().out.splitlines()[-1]
    assert (last == f"""next     train 'sweep="{folder}"'""") == goes_on
