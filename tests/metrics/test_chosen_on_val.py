"""Whole runs with metrics of scores and calibrated probabilities, and what the commands after training make of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.forked import forked
from tests.shell import DDP
from trainer.__main__ import main
from trainer.commands.evaluate.measure import measure
from trainer.commands.explain.attribution import _has_log_odds
from trainer.commands.export.layers import ExportedModel
from trainer.commands.opened_run import OpenedRun, answers, load
from trainer.config import ConfigError
from trainer.loss._probabilities import Calibrated
from trainer.metrics.of_scores import log_loss

NAMES = {"accuracy", "auroc", "average_precision", "log_loss", "brier", "ece"}
SMALL = ["dataset=synthetic", "dataset.samples=300", "dataset.noise=2", "epochs=2", "device=cpu", "logger=[csv]"]
LABELS = ["dataset.task=multilabel", "dataset.classes=4", "dataset.kind=table", "dataset.shape=[6]"]
TASKS = {
    "classes": ["loss=cross_entropy", "dataset.classes=5"],
    "two classes": ["loss=bce_prob", "dataset.classes=2"],
    "labels": ["loss=bce", *LABELS],
}
Runs = dict[str, Path]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """A calibrated run of each task."""
    folder = tmp_path_factory.mktemp("runs")
    words = [f"metrics=[{','.join(sorted(NAMES))}]", "monitor=val/auroc", "calibrate=temperature"]
    for name, own in TASKS.items():
        done = forked([*SMALL, *own, *words, f"run_dir={name.replace(' ', '_')}"], folder)
        assert done.returncode == 0, done.stderr
        assert "calibrated on val: logits / " in done.stdout
    return {name: folder / name.replace(" ", "_") for name in TASKS}


def summary_of(run: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run / "summary.json").read_text())
    return found


every_task = pytest.mark.parametrize("task", TASKS)


@every_task
def test_metrics_of_scores_are_those_of_val_and_test_and_choose_the_best(runs: Runs, task: str) -> None:
    points = [json.loads(line) for line in (runs[task] / "metrics.jsonl").read_text().splitlines()]
    for split in ("val", "test"):
        assert {f"{split}/{name}" for name in NAMES} <= {name for point in points for name in point}
    assert not [name for point in points for name in point if name.startswith("train/") and "auroc" in name]
    summary = summary_of(runs[task])
    assert summary["best"]["val/auroc"] == max(point["val/auroc"] for point in points if "val/auroc" in point)
    plain = [point for point in points if "val/loss" in point]
    for point in plain:  # neither smoothing nor weights: the log loss is the loss
        assert point["val/log_loss"] == pytest.approx(point["val/loss"], rel=1e-5)


@every_task
def test_an_evaluation_has_the_same_metrics_to_the_last_bit(
    runs: Runs, task: str, capsys: pytest.CaptureFixture[str]
) -> None:
    summary = summary_of(runs[task])
    assert main(["evaluate", str(runs[task]), "--json", "--metrics", ",".join(NAMES)]) == 0
    found = json.loads(capsys.readouterr().out)["metrics"]
    assert found.pop("test/loss") == summary["test/loss"]
    assert found == {f"test/{name}": summary[f"test/{name}"] for name in NAMES}
    assert main(["evaluate", str(runs[task])]) == 0
    text = capsys.readouterr().out
    assert "equal    to the last digit with summary.json" in text
    assert f"scores   calibrated on val: logits / {summary['temperature']:.4g}" in text


@every_task
def test_the_temperature_scales_probabilities_and_changes_no_answer(runs: Runs, task: str) -> None:
    calibrated, plain = load(str(runs[task])), load(str(runs[task]), words=["calibrate=none"])
    assert isinstance(calibrated.loss, Calibrated) and plain.temperature is None
    assert calibrated.temperature == summary_of(runs[task])["temperature"] != 1
    data = calibrated.data()
    assert data.val is not None
    losses = []
    for trained in (calibrated, plain):
        given, _ = answers(trained, data, data.val)
        losses.append(log_loss(trained.loss.scores(given.outputs.double()), given.targets))
    assert losses[0] < losses[1]
    (raw,) = data.test.source.fetch(data.test.positions[:50])
    scores, before = calibrated.scores(raw), plain.scores(raw)
    assert torch.equal(scores.argsort(1), before.argsort(1)) and not torch.allclose(scores, before)
    assert torch.equal(scores, _exported(calibrated)(raw.float()))
    assert _has_log_odds(calibrated)  # so that the explanation is that of the calibrated logits


def _exported(trained: OpenedRun) -> ExportedModel:
    return ExportedModel(trained.spec, trained.model, trained.loss, trained.features, trained.normalise)


def test_a_run_without_a_temperature_and_other_weights_say_that_they_are_not_calibrated(
    runs: Runs, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    summary = {name: value for name, value in summary_of(runs["classes"]).items() if name != "temperature"}
    earlier = tmp_path / "earlier"
    earlier.mkdir()
    for file in runs["classes"].iterdir():
        if file.name != "summary.json":
            (earlier / file.name).symlink_to(file)
    (earlier / "summary.json").write_text(json.dumps(summary))
    assert main(["evaluate", str(earlier)]) == 0
    assert "the run has chosen no temperature; the probabilities are not calibrated" in capsys.readouterr().out
    (earlier / "summary.json").write_text(json.dumps({**summary, "temperature": -2}))
    with pytest.raises(ConfigError, match="temperature: must be a positive number"):
        load(str(earlier))


def test_several_runs_are_as_one_by_their_calibrated_probabilities(runs: Runs) -> None:
    both = [load(str(runs["classes"])), load(str(runs["classes"]), words=["calibrate=none"])]
    one, other, mean = (measure(models, "test", ["log_loss"]).fine for models in (both[:1], both[1:], both))
    torch.testing.assert_close(mean, (one + other) / 2)


def test_a_loss_without_probabilities_has_no_log_loss_and_no_temperature(tmp_path: Path) -> None:
    done = forked(["loss=mse", "calibrate=temperature", "metrics=[ece,auroc]"], tmp_path)
    assert done.returncode == 2 and "use loss=cross_entropy" in done.stderr
    assert "metrics: ece: needs probabilities, and loss=mse gives values" in done.stderr
    assert "calibrate: needs probabilities, and loss=mse gives values" in done.stderr
    assert not [*tmp_path.iterdir()]


@pytest.mark.slow
def test_one_two_and_three_processes_have_the_same_metrics_of_scores(tmp_path: Path) -> None:
    found = []
    for number in (1, 2, 3):
        place = [] if number == 1 else [DDP[0], f"device.processes={number}"]
        words = [*SMALL, "optimizer.lr=1e-12", f"metrics=[{','.join(sorted(NAMES))}]", *place]
        done = forked([*words, "calibrate=temperature", "run_dir=run" + str(number)], tmp_path)
        assert done.returncode == 0, done.stderr
        summary = summary_of(tmp_path / f"run{number}")
        found.append({name: summary[f"test/{name}"] for name in NAMES} | {"temperature": summary["temperature"]})
    assert found[0] == found[1] == found[2]
