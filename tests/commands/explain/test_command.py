"""``trainer explain``: what counted in files, in lines, as JSON and as a page."""

from __future__ import annotations

import functools
import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.helpers import refusal
from tests.html_page import Page
from tests.made import KINDS, Made
from trainer import compose, run
from trainer.__main__ import main
from trainer.commands.explain.heatmaps import AGAINST, FOR
from trainer.commands.opened_run import load

pytest.importorskip("captum")

FILES = {"image": "pictures/3", "text": "texts", "audio": "sounds/low", "table": "table.csv", "sequence": "walks.csv"}
HOSTILE = "<script>alert(1)</script>"

refused = functools.partial(refusal, "explain")


def marked(page: Path) -> dict[str, tuple[str, float]]:
    """The words that a page marks, each with its color and strength."""
    pattern = r'<span[^>]* style="background: rgba\((.*?), ([0-9.]+)\)"[^>]*>([^<]*)</span>'
    found = re.findall(pattern, page.read_text(encoding="utf-8"))
    return {word: (color, float(strength)) for color, strength, word in found}


def explained(capsys: pytest.CaptureFixture[str], *words: object, code: int = 0) -> list[str]:
    """The lines that ``trainer explain …`` prints."""
    capsys.readouterr()
    assert main(["explain", *map(str, words)]) == code, capsys.readouterr().err
    return capsys.readouterr().out.splitlines()


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_has_a_line_and_a_figure_for_every_sample(
    made: Made, tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "page.html"
    lines = explained(capsys, made.run("cnn", kind), made.folder / FILES[kind], "-o", page, "--steps", 8)
    found = Page(page.read_text(encoding="utf-8"))
    assert all(re.match(r".*: [\w]+ [01]\.\d\d", line) for line in lines)
    assert all(("  +" in line or "  -" in line) == (kind in ("text", "table", "sequence")) for line in lines)
    count = len(lines)
    assert len(found.named("figure")) == count
    assert len(found.named("img")) == (2 * count if kind in ("image", "audio") else 0)
    assert len(found.named("svg")) == (2 * count if kind == "sequence" else 0)
    assert len(found.named("table")) == (count if kind in ("table", "sequence") else 0)
    assert bool(marked(page)) == (kind == "text")
    assert all(each["src"].startswith("data:image/png;base64,") for each in found.named("img"))
    assert not {"script", "link", "iframe"} & {tag for tag, _ in found.tags}
    assert "log odds of the class" in found.text


def test_the_page_marks_the_words_of_the_text_itself(
    made: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = made.run("cnn", "text", "epochs=30", "optimizer.lr=0.01")
    text = f"The film, DULL & zzyzx: {HOSTILE}"
    (tmp_path / "text.txt").write_text(f"{text}{HOSTILE}\n")
    page = tmp_path / "page.html"
    (line,) = explained(capsys, folder, tmp_path / "text.txt", "-o", page)
    assert re.search(r"text.txt:1: bad [01]\.\d\d  .*\+dull \d", line)
    found = Page(page.read_text(encoding="utf-8"))
    assert text in found.text
    words = marked(page)
    assert words["DULL"][0] == ", ".join(map(str, FOR))
    assert words["DULL"][1] > 3 * words["The"][1]
    unknown = [attrs for attrs in found.named("span") if attrs.get("class") == "unknown"]
    assert "not in the vocabulary" in unknown[0]["title"]
    (cut,) = [attrs for attrs in found.named("span") if attrs.get("class") == "cut"]
    assert cut["title"] == "the model does not read this"
    assert not found.named("script")


def test_labels_are_named_above_their_thresholds(
    made: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = made.run("gru", "labels")
    np.savez(tmp_path / "two.npz", x=np.eye(6, dtype="float32")[:2] * 3)
    trained = load(str(folder))
    scores = trained.scores(np.eye(6, dtype="float32")[:2] * 3).tolist()
    for words in ((), ("thresholds=0.5",)):
        lines = explained(capsys, folder, tmp_path / "two.npz", *words, "-o", tmp_path / "page.html", "--steps", 8)
        for line, row in zip(lines, scores, strict=True):
            thresholds = (0.5,) * 3 if words else trained.thresholds
            named = [f"y {at} {row[at]:.2f}" for at in range(3) if row[at] > thresholds[at]]
            assert f": {', '.join(named) or 'no label'}; explained: " in line


def test_another_class_turns_the_colors(made: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = made.run("cnn", "text", "epochs=30", "optimizer.lr=0.01")
    (tmp_path / "text.txt").write_text("dull\n")
    words = (folder, tmp_path / "text.txt", "--json")
    (bad,) = map(json.loads, explained(capsys, *words))
    (good,) = map(json.loads, explained(capsys, *words, "--target", "good"))
    assert (bad["target"], good["target"]) == ("bad", "good")
    assert bad["prediction"] == good["prediction"] == "bad"
    assert bad["names"] == ["dull"]
    assert good["attributions"] == pytest.approx([-value for value in bad["attributions"]], rel=1e-4)
    assert sum(bad["attributions"]) == pytest.approx(bad["output"] - bad["baseline"] + bad["delta"], rel=1e-6)
    assert not (tmp_path / "explain.html").exists()
    (line,) = explained(capsys, *words[:2], "--target", "good", "-o", tmp_path / "page.html")
    assert marked(tmp_path / "page.html")["dull"][0] == ", ".join(map(str, AGAINST))
    assert re.search(r": bad [01]\.\d\d; explained: good 0\.\d\d  -dull", line)


def test_the_heat_map_is_strong_where_the_picture_decides(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    draw = np.random.default_rng(0)
    for number in range(200):
        pixels = draw.integers(60, 120, (12, 12)).astype(np.uint8)
        pixels[8:11, 1:4] += 100 * (number % 2)
        file = tmp_path / "data" / ("dark", HOSTILE.replace("/", ""))[number % 2] / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(file)
    data = ["dataset=image_folder", f"dataset.path={tmp_path / 'data'}", "model=cnn", "model.channels=[8]"]
    run(compose(*data, "epochs=5", "batch_size=16", f"run_dir={tmp_path / 'run'}", "logger=none", "device=cpu"))
    page = tmp_path / "page.html"
    explained(capsys, tmp_path / "run", tmp_path / "data" / HOSTILE.replace("/", "") / "1.png", "-o", page)
    found = Page(page.read_text(encoding="utf-8"))
    assert not found.named("script")
    red, _, blue = np.moveaxis(np.asarray(found.pictures[1]).astype(int), 2, 0)
    assert (red - blue)[8:11, 1:4].mean() > 100
    assert abs((red - blue)[:6].mean()) < 30


def test_a_bad_file_is_a_line_and_exit_code_1(made: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name = "<b>bad & more.png"
    (tmp_path / name).write_text("no picture")
    folder = made.run("cnn", "image")
    good = next((made.folder / "pictures" / "3").iterdir())
    words = (folder, tmp_path / name, good, tmp_path / "not_there.png", "-o", tmp_path / "page.html")
    lines = explained(capsys, *words, code=1)
    assert [": error: " in line for line in lines] == [True, False, True]
    found = Page((tmp_path / "page.html").read_text(encoding="utf-8"))
    assert name in found.text
    assert found.text.count("cannot be read") == 2
    rows = [json.loads(line) for line in explained(capsys, *words[:-2], "--json", code=1)]
    assert [list(row) == ["input", "error"] for row in rows] == [True, False, True]
    assert np.array(rows[1]["attributions"]).shape == (8, 8)


def test_the_page_holds_so_many_samples_and_says_so(
    made: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trainer.commands.explain.command.MAX_SAMPLES", 5)
    page = tmp_path / "page.html"
    words = (made.run("cnn", "table"), made.folder / "table.csv", "-o", page, "--steps", 2)
    assert len(explained(capsys, *words)) == 120
    found = Page(page.read_text(encoding="utf-8"))
    assert len(found.named("section")) == len(found.named("figure")) == 5
    assert "The first 5 of 120 samples." in found.text
    explained(capsys, *words)  # its own page is replaced


def test_mistakes_are_one_line(
    made: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder, file = made.run("cnn", "table"), made.folder / "table.csv"
    assert "no such folder" in refused(capsys, tmp_path / "nowhere", file)
    assert "needs a FILE" in refused(capsys, folder, "device=cpu")
    assert "did you mean x?" in refused(capsys, folder, file, "--target", "X")
    assert "no such class; the run has x, y, z" in refused(capsys, folder, file, "--target", "what")
    assert "--steps: must be a whole number from 1" in refused(capsys, folder, file, "--steps", "0")
    (tmp_path / "mine.html").write_text("<p>mine")
    assert "no page of this command" in refused(capsys, folder, file, "-o", "mine.html")
    (tmp_path / "damaged.pt").write_bytes(b"nothing")
    assert "damaged.pt: cannot be used" in refused(capsys, folder, file, "--checkpoint", tmp_path / "damaged.pt")
    monkeypatch.setitem(sys.modules, "captum.attr", None)
    assert "pip install 'trainer-cli[explain]'" in refused(capsys, folder, file)
    assert not (tmp_path / "explain.html").exists()


def test_subwords_are_named_on_the_line_and_stand_in_the_text_on_the_page(
    made: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("tokenizers")
    folder = made.run("cnn", "text", "dataset.tokens=subwords", "dataset.vocabulary=40")
    (tmp_path / "text.txt").write_text("A  charming film, ☃\n", encoding="utf-8")
    page = tmp_path / "page.html"
    (line,) = explained(capsys, folder, tmp_path / "text.txt", "-o", page)
    assert "▁" in line
    assert "A  charming film, ☃" in Page(page.read_text(encoding="utf-8")).text
