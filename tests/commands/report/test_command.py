"""``trainer report``: one page about a run, which needs nothing else."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
import torch

from tests.html_page import Page
from tests.made import KINDS, Made
from trainer import compose, run
from trainer.__main__ import main
from trainer.commands.opened_run import answers, load


def report(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[str, str]:
    """The page of ``trainer report RUN …``, written to its usual place, and what stderr said."""
    capsys.readouterr()
    assert main(["report", *map(str, words)]) == 0
    captured = capsys.readouterr()
    file = re.match(r"page     (.*)  \(", captured.out)
    assert file is not None
    return Path(file[1]).read_text(encoding="utf-8"), captured.err


@pytest.mark.parametrize("kind", KINDS)
def test_a_page_has_every_part_and_loads_nothing(
    made: Made, tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run_dir = made.run("cnn", kind, "optimizer.lr=1e-6")  # so that there are mistakes
    page, err = report(capsys, run_dir, "-o", tmp_path / "page.html", "--mistakes", 2)
    assert err == ""
    for title in ("Curves", "Each class of test", "Confusion", "Worst mistakes", "Again", "Config", "Environment"):
        assert f"<h2>{title}" in page
    found = Page(page)
    assert found.loaded == []
    assert not {"script", "link", "iframe"} & {tag for tag, _ in found.tags}
    style = re.sub(r"<pre>.*?</pre>", "", page, flags=re.DOTALL)  # where a diff may say anything
    assert not re.search(r"url\((?!#)|@import", style)
    assert len(found.named("audio")) == (2 if kind == "audio" else 0)
    assert "trainer reproduce" in page
    assert ("<h2>Columns</h2>" in page) == (kind in ("table", "sequence"))


def test_the_columns_of_a_table_are_left_out_without_explanations_and_few_have_an_effect(
    made: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = made.run("mlp", "labels")
    page, _ = report(capsys, folder, "-o", tmp_path / "page.html", "--mistakes", 0)
    columns = Page(page.partition("<h2>Columns</h2>")[2].partition("<h2>")[0])
    assert all(f"column {at}" in columns.text for at in range(1, 7))
    assert len(columns.named("svg")) == 6
    assert "on 30 samples of test" in columns.text
    limited, _ = report(
        capsys, folder, "-o", tmp_path / "page.html", "--mistakes", 0, "limit_batches=1", "batch_size=8"
    )
    assert "on 8 samples of test" in limited  # the same that the rest of the page measures
    page, _ = report(capsys, folder, "-o", tmp_path / "page.html", "--mistakes", 0, "--no-explanations")
    assert "<h2>Columns</h2>" not in page


def test_the_numbers_are_those_of_the_run_and_the_worst_mistake_is_first(
    made: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = made.run("gru", "image")
    summary = json.loads((folder / "summary.json").read_text())
    page, _ = report(capsys, folder, "-o", tmp_path / "page.html", "--no-explanations")
    assert f"<b>{summary['test/accuracy']:.4f}</b><span>test/accuracy</span>" in page
    sure = [float(each) for each in re.findall(r"is <b>\S+ \(([\d.]+)\)</b>, said", page)]
    assert sure == sorted(sure)
    assert len(sure) == min(12, round((1 - summary["test/accuracy"]) * 15))
    assert re.search(r"pictures/\d/\d+\.png", page)


def test_a_page_without_the_data_or_the_weights_says_so_and_has_the_rest(
    made: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(made.run("cnn", "table"), tmp_path / "run")
    config = tmp_path / "run" / "config.yaml"
    config.write_text(config.read_text().replace("table.csv", "moved.csv"))
    page, err = report(capsys, tmp_path / "run")
    assert err.count("\n") == 1
    assert "no such file or folder" in err
    assert "<h2>Curves" in page
    assert "<h2>Confusion" not in page
    (tmp_path / "run" / "checkpoints" / "best.pt").write_bytes(b"half")
    page, err = report(capsys, tmp_path / "run")
    assert "cannot be used" in err
    assert "<h2>Environment" in page


def test_a_failed_run_has_a_page_with_its_reason(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from trainer import RunError

    with pytest.raises(RunError):
        run(compose("optimizer=sgd", "optimizer.lr=1e20", f"run_dir={tmp_path / 'run'}", "logger=none"))
    page, err = report(capsys, tmp_path / "run")
    assert '<p class="note">the loss is nan at step 2' in page
    assert 'class="state failed"' in page
    assert err.count("\n") == 1


def test_values_have_their_largest_errors(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["dataset=synthetic", "dataset.kind=sequence", "dataset.shape=[8,2]", "dataset.task=regression", "loss=mse"]
    run(compose("model=lstm", *words, "dataset.samples=80", "epochs=1", f"run_dir={tmp_path / 'run'}", "logger=none"))
    page, _ = report(capsys, tmp_path / "run", "--mistakes", 4)
    assert page.count('<div class="card">') == 4
    assert "<h2>Confusion" not in page


def test_labels_are_mistaken_where_they_are_on_the_wrong_side_of_their_thresholds(
    made: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trained = load(str(made.run("gru", "labels")))
    given, _ = answers(trained, data := trained.data(), data.test)
    scores = trained.loss.scores(given.outputs)
    above, above_half = (
        int(((scores > threshold) != (given.targets > 0.5)).any(1).sum())
        for threshold in (torch.tensor(trained.thresholds), 0.5)
    )
    page, _ = report(capsys, trained.run.path, "-o", tmp_path / "page.html", "--no-explanations", "--mistakes", 1)
    assert above != above_half
    assert f"Worst mistakes, 1 of {above}<" in page
    assert "<th>average precision</th>" in page
    assert "<th>threshold</th>" in page


def test_another_file_is_not_replaced(made: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine.html").write_text("precious")
    assert main(["report", str(made.run("cnn", "table")), "-o", str(tmp_path / "mine.html")]) == 2
    assert "no page of this command" in capsys.readouterr().err
    assert (tmp_path / "mine.html").read_text() == "precious"


def test_the_samples_of_a_run_with_a_limit_are_those_that_were_asked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["limit_batches=1", "batch_size=32", "epochs=1", "optimizer.lr=1e-6", "logger=none"]
    run(compose(*words, f"run_dir={tmp_path / 'run'}", "device=cpu"))
    page, _ = report(capsys, tmp_path / "run", "--mistakes", 40)
    said = re.findall(r"said <b>(\d) \([\d.]+\)</b>", page)
    explained = re.findall(r"against</span> <b>(\d)</b>|against <b>(\d)</b>", page)
    trained = load(str(tmp_path / "run"))
    source = trained.data().test.source
    places = [int(each) for each in re.findall(r'<p class="place">sample (\d+)</p>', page)]
    answers = trained.scores(source.fetch(torch.tensor(places))).argmax(1).tolist()
    assert [int(each) for each in said] == answers
    assert not explained or len(explained) == len(said)
