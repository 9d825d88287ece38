"""The templates of the pages: escaped, complete, and of one style sheet."""

from __future__ import annotations

import re
from pathlib import Path

import jinja2
import pytest
from markupsafe import Markup

from tests.html_page import Page
from tests.runs_on_disk import write_run
from trainer import compose, run
from trainer.__main__ import main
from trainer.commands.explain.heatmaps import AGAINST, FOR
from trainer.commands.pages.render import _environment, draw, mark, render
from trainer.sweep.drive import sweep_table
from trainer.sweep.page import make_page

SCRIPT = "<script>alert(1)</script>"
FILE = """a "quoted" & 'odd' <i>.csv"""


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a table whose class and file name are markup, and a run on it, which has wrong answers."""
    folder = tmp_path_factory.mktemp("hostile")
    rows = [f"{number % 7},{number % 5},{(SCRIPT, 'b')[number % 2]}" for number in range(80)]
    (folder / FILE).write_text("\n".join(["x<b>,y,kind", *rows]) + "\n")
    path = str(folder / FILE).replace('"', '\\"')
    words = ["dataset=csv", f'dataset.path="{path}"', "dataset.target=kind", "logger=none", "device=cpu"]
    run(compose("model=gru", *words, "epochs=1", "optimizer.lr=1e-6", f"run_dir={folder / 'run'}"))
    return folder


def test_a_value_cannot_move_the_cursor_of_a_terminal_that_shows_the_page() -> None:
    shown = str(
        _environment().from_string("{{ a }}|{{ b }}|{{ c }}").render(a="\x1b[2J\n", b=Markup("<i>\x07</i>"), c=3)
    )
    assert shown == "\\x1b[2J\n|<i>\\x07</i>|3"


def check(content: str) -> Page:
    """A page that shows the hostile names as text."""
    page = Page(content)
    assert SCRIPT in page.text
    assert not {"script", "iframe", "link"} & {tag for tag, _ in page.tags}
    assert not [name for _, attributes in page.tags for name in attributes if name.startswith("on")]
    return page


def test_the_report_escapes_classes_and_file_names(hostile: Path, tmp_path: Path) -> None:
    assert main(["report", str(hostile / "run"), "-o", str(tmp_path / "page.html")]) == 0
    assert FILE in check((tmp_path / "page.html").read_text(encoding="utf-8")).text


def test_the_explanation_escapes_classes_and_file_names(hostile: Path, tmp_path: Path) -> None:
    pytest.importorskip("captum")
    words = [str(hostile / "run"), str(hostile / FILE), "-o", str(tmp_path / "page.html"), "--steps", "2"]
    assert main(["explain", *words, "--target", SCRIPT]) == 0
    page = check((tmp_path / "page.html").read_text(encoding="utf-8"))
    assert FILE in page.text
    assert "x<b>" in page.text


def test_the_page_of_a_data_set_escapes_classes_and_file_names(hostile: Path, tmp_path: Path) -> None:
    path = str(hostile / FILE).replace('"', '\\"')
    words = ["dataset=csv", f'dataset.path="{path}"', "dataset.target=kind", "--page", str(tmp_path / "page.html")]
    assert main(["data", *words]) in (0, 1)
    page = check((tmp_path / "page.html").read_text(encoding="utf-8"))
    assert FILE in page.text
    assert "x<b>" in page.text


def test_the_page_of_a_sweep_escapes_words_and_folders(tmp_path: Path) -> None:
    summary = {"state": "failed", "reason": SCRIPT}
    write_run(tmp_path / FILE, [f"dataset.path={FILE}", f"model={SCRIPT}"], {}, summary)
    write_run(tmp_path / "b", ["dataset.path=b", "model=b"], {}, summary)
    page = check(make_page(sweep_table(tmp_path, [], {})))
    assert page.text.count(FILE) == 2


def test_what_a_template_is_not_given_is_an_error() -> None:
    with pytest.raises(jinja2.UndefinedError, match="survey"):
        render("data.html", command="data", title="x")


def test_values_of_a_drawing_are_escaped() -> None:
    assert draw("text", pieces=["<b>", "&"]) == '<div class="text">&lt;b&gt;<mark>unknown</mark>&amp;</div>'
    assert '" onload="' not in draw("picture", source="x", style='" onload="')


def test_a_page_is_marked_with_its_command_and_holds_the_style_sheet() -> None:
    page = render("base.html", command="report", title="a & b\udcff")
    assert mark("report") in page[:500]
    assert r"<title>a &amp; b\udcff</title>" in page
    assert "prefers-color-scheme: dark" in page
    assert "url(" not in page and "@import" not in page and "//" not in page


def test_colors_of_the_style_sheet_are_those_of_the_heat_maps() -> None:
    style = (Path(__file__).parents[3] / "trainer/commands/pages/style.css").read_text()
    assert f"--for: rgb{FOR}; --against: rgb{AGAINST};" in style
    used = {*re.findall(r"var\((--[\w-]+)\)", style)}
    light, dark = ({*re.findall(r"(--[\w-]+):", block)} for block in re.findall(r":root \{(.*?)\}", style, re.DOTALL))
    assert used <= light == dark
