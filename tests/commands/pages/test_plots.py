"""Pictures of runs: what is drawn, and that it can stand in a page beside others."""

from __future__ import annotations

import math
import re
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from trainer.commands.pages.plots import Curve, plot_against, plot_curves, save, to_svg


def texts(svg: str) -> list[str]:
    return [element.text or "" for element in ElementTree.fromstring(svg).iter() if element.tag.endswith("text")]


def test_curves_name_their_runs_and_leave_out_what_is_no_number() -> None:
    lines = [Curve("lr=$1$ & <2>", [(1, 0.5), (2, math.nan), (3, 0.7)]), Curve("other", [(1, 0.2)]), Curve("none", [])]
    picture = plot_curves(lines, "val/accuracy")
    (axes,) = picture.axes
    assert [np.asarray(line.get_xdata()).tolist() for line in axes.get_lines()] == [[1, 3], [1]]
    svg = to_svg(picture, "a title & more")
    assert {"step", "val/accuracy", "lr=$1$ & <2>", "other"} <= set(texts(svg))
    assert "none" not in texts(svg)
    assert 'aria-label="a title &amp; more"' in svg


def test_losses_over_decades_are_logarithmic_and_accuracies_are_not() -> None:
    wide = [(1, 10.0), (2, 0.01)]
    assert plot_curves([Curve("a", wide)], "val/loss").axes[0].get_yscale() == "log"
    assert plot_curves([Curve("a", wide)], "val/accuracy").axes[0].get_yscale() == "linear"
    assert plot_curves([Curve("a", [(1, 1.0), (2, 0.0)])], "val/loss").axes[0].get_yscale() == "linear"


def test_a_metric_stands_against_numbers_or_words() -> None:
    numbers = plot_against(
        [("1e-4", 0.5), ("1e-2", 0.7), ("1e-2", 0.9), ("0.1", math.inf)], "optimizer.lr", "val/accuracy", 2
    )
    (axes,) = numbers.axes
    assert axes.get_xscale() == "log"
    assert np.asarray(axes.collections[0].get_offsets()).tolist() == [[1e-4, 0.5], [1e-2, 0.7], [1e-2, 0.9]]
    assert np.asarray(axes.get_lines()[0].get_ydata()).tolist() == [0.5, pytest.approx(0.8)]
    words = plot_against([("cnn", 0.5), ("gru", 0.7)], "model", "val/accuracy")
    assert [label.get_text() for label in words.axes[0].get_xticklabels()] == ["cnn", "gru"]


def test_the_same_numbers_make_the_same_picture_and_two_share_no_names() -> None:
    one, again, other = (
        to_svg(plot_curves([Curve("a", [(1, 0.5), (2, 0.25)])], "val/loss"), title) for title in ("one", "one", "other")
    )
    assert one == again
    names = [set(re.findall(r'\bid="([^"]+)"', svg)) for svg in (one, other)]
    assert names[0] and not names[0] & names[1]
    used = set(re.findall(r'(?:url\(#|href="#)([^")]+)', one))
    assert used <= names[0]


@pytest.mark.parametrize("ending", [".png", ".svg"])
def test_a_saved_picture_names_its_program(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"picture{ending}"
    save(plot_curves([Curve("a", [(1, 0.5)])], "val/loss"), path, "trainer compare")
    assert b"trainer compare" in path.read_bytes()[:4000]
    if ending == ".png":
        with Image.open(path) as image:
            assert image.width > 400


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("text", [r"$\foo$", "$", "日本", "a\udcffb", "a\x00\x1b[2J\nb", "_hidden", 'id="figure_1"'])
def test_any_text_is_drawn_as_it_stands(tmp_path: Path, text: str) -> None:
    lines = [Curve(text, [(1, 0.5)]), Curve("other", [(1, 0.5)])]
    for picture in (plot_curves(lines, text), plot_against([(text, 0.5), ("other", 0.6)], text, text)):
        ElementTree.fromstring(to_svg(picture, text))
        save(picture, tmp_path / "picture.png", "trainer compare")
    legend = plot_curves(lines, "val/loss").axes[0].get_legend()
    assert legend is not None and len(legend.get_texts()) == 2


@pytest.mark.filterwarnings("error")
def test_numbers_that_no_axis_can_hold_are_left_out() -> None:
    points: list[tuple[float, float]] = [(1, 1e308), (2, -1e308), (10**400, 0.5), (3, 0.5), (4, 5e-324)]
    for metric in ("val/loss", "val/accuracy"):
        picture = plot_curves([Curve("a", points)], metric)
        to_svg(picture, "huge")
        assert np.asarray(picture.axes[0].get_lines()[0].get_xdata()).tolist() == [3, 4]
    to_svg(plot_against([("1e308", 0.5), ("-1e308", 0.6), ("1", 1e308)], "key", "val/loss"), "huge")
    to_svg(plot_against([], "key", "val/loss"), "nothing")


def test_many_lines_name_the_best_alone_and_long_ones_keep_their_end() -> None:
    lines = [Curve(f"_{number}", [(1, 0.5), (2, 0.6)], number == 12) for number in range(13)]
    legend = plot_curves(lines, "val/accuracy").axes[0].get_legend()
    assert legend is not None and [text.get_text() for text in legend.get_texts()] == ["_12"]
    picture = plot_curves([Curve("a", [(step, 0.5) for step in range(1, 1302)])], "val/accuracy")
    steps = np.asarray(picture.axes[0].get_lines()[0].get_xdata())
    assert len(steps) <= 500 and steps[-1] == 1301


def test_dots_of_one_word_stand_side_by_side_and_always_the_same() -> None:
    points = [("cnn", 0.5), ("cnn", 0.5), ("gru", 0.7), ("cnn", 0.5)]
    one, again = (
        np.asarray(plot_against(points, "model", "val/accuracy").axes[0].collections[0].get_offsets()) for _ in range(2)
    )
    assert (one == again).all() and len({*map(float, one[:, 0])}) == 4
    assert np.abs(one[:, 0] - [0, 0, 1, 0]).max() <= 0.12
    assert one[0, 0] == 0 and one[2, 0] == 1


def test_titles_that_differ_in_a_sign_share_no_names() -> None:
    one, other = (to_svg(plot_curves([], "val/loss"), title) for title in ("against a.b", "against a-b"))
    names = [set(re.findall(r'\bid="([^"]+)"', svg)) for svg in (one, other)]
    assert names[0] and not names[0] & names[1]


def test_a_plot_in_a_page_is_transparent_and_takes_its_quiet_colors_from_the_style_sheet() -> None:
    svg = to_svg(plot_curves([Curve("a", [(1, 0.5), (2, 0.25)])], "val/loss"), "one")
    assert not re.search(r"fill: (#ffffff|white)", svg)
    for variable, color in (("blue", "#0072b2"), ("quiet", "#5b6570"), ("axis", "#b8c0c8"), ("grid", "#e8ecf0")):
        assert f"var(--plot-{variable}, {color})" in svg
        assert svg.count(color) == svg.count(f"var(--plot-{variable}, {color})")
