"""The command ``trainer compare``: what it prints, draws and refuses."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from matplotlib.figure import Figure
from PIL import Image

from tests.helpers import told
from tests.runs_on_disk import write_run
from tests.sweep.test_page import summary
from trainer.commands.pages import plots
from trainer.commands.pages.plots import Curve, plot_curves

Compare = Callable[..., tuple[int, str, str]]


@pytest.fixture
def compare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Compare:
    """``compare("a", "b", …)`` of two runs, a and b, and one more that was killed, c."""
    monkeypatch.chdir(tmp_path)
    for name, rate, value in (("a", 0.1, 0.5), ("b", 0.01, 0.75)):
        points = [{"step": at, "epoch": at, "val/accuracy": value * at, "train/loss": 1 / at} for at in (1, 2)]
        config = {"seed": 0, "optimizer": {"name": "adam", "lr": rate}, "run_dir": name, "model": {"name": "cnn"}}
        write_run(tmp_path / name, [f"optimizer.lr={rate}"], config, summary(value), points)
    write_run(tmp_path / "c", ["seed=1"], {"seed": 1})
    return functools.partial(told, capfd, "compare")


def test_what_differs_stands_side_by_side_and_the_better_is_marked(compare: Compare) -> None:
    code, out, errors = compare("a", "b")
    assert (code, errors) == (0, "")
    rows = {line.split()[0]: line.split()[1:] for line in out.splitlines() if len(line.split()) > 1}
    assert rows["optimizer.lr"] == ["0.1", "0.01"]
    assert rows["val/accuracy"] == ["0.5000", "0.7500", "*"]
    assert rows["test/accuracy"] == ["0.5000", "0.7500"]
    assert (rows["1"], rows["2"]) == (["a"], ["b"]) or rows["1"] == ["2"]
    assert not {"run_dir", "seed", "model", "optimizer"} & set(rows)
    assert out.endswith("picture  compare.png\n")
    with Image.open("compare.png") as picture:
        assert picture.size > (600, 300)
    assert compare("a", "b")[0] == 0  # its own picture may be drawn anew


def test_the_same_config_and_a_run_that_was_killed_are_said(compare: Compare) -> None:
    write_run(Path("again"), ["seed=1"], {"seed": 1})
    code, out, _ = compare("c", "again", "--no-picture")
    assert code == 0
    assert "config   the same" in out and "killed" in out
    assert not Path("compare.png").exists()


def test_many_runs_have_a_row_each_and_a_folder_stands_for_its_runs(compare: Compare) -> None:
    for number in range(7):
        write_run(Path("many") / str(number), [f"seed={number}"], {"seed": number}, summary(number / 10))
    code, out, _ = compare("many", "--no-picture")
    assert code == 0
    assert len([line for line in out.splitlines() if "many/" in line]) == 7
    assert "0.6000 *" in out


def test_everything_for_a_program(compare: Compare) -> None:
    code, out, _ = compare("a", "b", "--json")
    found = json.loads(out)
    assert code == 0
    assert found["config"] == {"optimizer.lr": [0.1, 0.01]}
    assert [each["path"] for each in found["runs"]] == ["a", "b"]
    assert found["runs"][1]["curve"] == [[1, 0.75], [2, 1.5]]
    assert found["runs"][1]["metrics"]["test/accuracy"] == 0.75


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ([], "compare: needs two runs or more, or a folder with as many, got 0"),
        (["a"], "compare: needs two runs or more"),
        (["a", "a"], "compare: needs two runs or more"),
        (["a", "nowhere"], "nowhere: no such folder"),
        (["a", "last"], "last: no run under outputs"),
        (
            ["a", "b", "--metric", "train/los"],
            "--metric: train/los: no run has this metric; did you mean train/loss? metrics: ",
        ),
        (
            ["a", "b", "--picture", "taken.png"],
            "--picture: taken.png: is there already, and no picture of this command",
        ),
        (["a", "b", "--picture", "no/x.png"], "--picture: no/x.png: there is no such folder"),
        (["a", "b", "--picture", "x.pdf"], "--picture: x.pdf: must end in .png or .svg"),
    ],
)
def test_a_mistake_is_a_line(compare: Compare, words: list[str], line: str) -> None:
    Path("taken.png").write_bytes(b"mine")
    code, out, errors = compare(*words)
    assert (code, out) == (2, "")
    assert errors.startswith(f"trainer: error: {line}") and errors.count("\n") == 1
    assert Path("taken.png").read_bytes() == b"mine"


def test_runs_of_different_monitors_have_no_best_one(compare: Compare, monkeypatch: pytest.MonkeyPatch) -> None:
    write_run(Path("d"), ["seed=2"], {"seed": 2}, summary(0.9, "loss"), [{"step": 1, "epoch": 1, "val/accuracy": 0.5}])
    drawn: list[Curve] = []

    def spied(lines: Sequence[Curve], metric: str, size: tuple[float, float]) -> Figure:
        drawn.extend(lines)
        return plot_curves(lines, metric, size)

    monkeypatch.setattr(plots, "plot_curves", spied)
    code, out, _ = compare("a", "d")
    assert code == 0
    assert "*" not in out and not any(line.stands_out for line in drawn) and len(drawn) == 2
    drawn.clear()
    compare("a", "b")
    assert [line.stands_out for line in drawn] == [False, True]


def test_what_they_ran_on_is_told_and_files_of_others_are_no_error(compare: Compare) -> None:
    told = {"python": "3.12", "versions": {"torch": "2.9"}, "git": {"commit": "0123456789abcdef"}}
    Path("a/environment.json").write_text(json.dumps(told), encoding="utf-8")
    odd = {"python": "3.13", "versions": ["torch"], "git": {"commit": None}, "device": "cpu"}
    Path("b/environment.json").write_text(json.dumps(odd), encoding="utf-8")
    code, out, _ = compare("a", "b", "--no-picture")
    assert code == 0
    assert "version of torch" in out and "3.13" in out and "0123456789 " in out
    Path("b/metrics.jsonl").write_text('{"step": 1, "epoch": 1, "val/accuracy": NaN}\n', encoding="utf-8")
    code, out, _ = compare("a", "b", "--json")
    assert code == 0
    assert json.loads(out, parse_constant=lambda _: pytest.fail("no JSON"))["runs"][1]["curve"] == [[1, None]]


def test_a_curve_that_is_too_large_is_left_out(compare: Compare) -> None:
    with Path("b/metrics.jsonl").open("r+b") as file:
        file.truncate(2 << 40)
    code, out, err = compare("a", "b", "--json")
    assert (code, err.count("\n")) == (0, 1)
    assert "b/metrics.jsonl: needs about" in err and err.endswith("; the comparison lacks this curve\n")
    assert [bool(each["curve"]) for each in json.loads(out)["runs"]] == [True, False]


def test_a_picture_is_the_same_for_the_same_runs(compare: Compare) -> None:
    found = []
    for _ in range(2):
        assert compare("a", "b", "--picture", "curves.svg")[0] == 0
        found.append(Path("curves.svg").read_bytes())
    assert found[0] == found[1]
