"""``trainer evaluate``: the numbers of a run from its directory alone."""

from __future__ import annotations

import functools
import json
import math
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.conftest import REPOSITORY
from tests.helpers import cells, refusal
from tests.made import KINDS, MODELS, Made, pictures, table, texts
from trainer import compose, run
from trainer.__main__ import main
from trainer.commands.opened_run import answers, load
from trainer.data.table_encoding import TableEncoding
from trainer.metrics import choose_thresholds
from trainer.metrics.of_scores import average_precision_of_each

refused = functools.partial(refusal, "evaluate")


def numbers(capsys: pytest.CaptureFixture[str], *words: object) -> dict[str, Any]:
    """What ``trainer evaluate … --json`` prints."""
    capsys.readouterr()
    code = main(["evaluate", *map(str, words), "--json"])
    out = capsys.readouterr()
    assert code == 0, out.err
    found: dict[str, Any] = json.loads(out.out)
    return found


@pytest.mark.parametrize(("kind", "model"), cells(KINDS, MODELS))
def test_the_numbers_of_the_summary_come_out_to_the_last_digit(
    made: Made, model: str, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = made.run(model, kind)
    summary = json.loads((folder / "summary.json").read_text())
    found = numbers(capsys, folder)
    assert found["own_data"]
    assert {name: found["metrics"][name] for name in ("test/loss", "test/accuracy")} == {
        name: summary[name] for name in ("test/loss", "test/accuracy")
    }
    assert main(["evaluate", str(folder)]) == 0
    assert "equal    to the last digit with summary.json" in capsys.readouterr().out
    best = numbers(capsys, folder, "--split", "val")["metrics"]
    assert best["val/loss"] == pytest.approx(summary["best"]["val/loss"], rel=1e-6)


@pytest.mark.parametrize(
    "words",
    [
        ["dataset.task=regression", "loss=mse"],
        ["dataset.task=multilabel", "loss=bce"],
        ["dataset.classes=2", "loss=bce_prob", "ema=0.9"],
        ["loss.weight=balanced", "loss.label_smoothing=0.1", "metrics=[f1,recall]"],
        ["dataset.kind=tokens", "dataset.shape=[9]", "dataset.min_steps=3", "limit_batches=2"],
    ],
    ids=lambda words: words[-1],
)
def test_every_task_loss_and_average_comes_out_again(
    tmp_path: Path, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    small = [f"run_dir={tmp_path / 'run'}", "logger=none", "epochs=2", "device=cpu"]
    data = ["dataset=synthetic", "dataset.kind=table", "dataset.shape=[6]", "dataset.samples=90"]
    summary = run(compose("model=gru", *data, "dataset.test_samples=40", *words, *small)).summary
    found = numbers(capsys, tmp_path / "run")["metrics"]
    tested = {name: value for name, value in summary.items() if name.startswith("test/")}
    assert {name: found[name] for name in tested} == tested


@pytest.fixture
def labels(made: Made) -> Path:
    """A run with labels, which tests must not change."""
    return made.run("gru", "labels")


def test_the_thresholds_of_labels_have_the_highest_f1_on_val_and_count_in_every_split(
    labels: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    thresholds = torch.tensor([*json.loads((labels / "summary.json").read_text())["thresholds"].values()])
    trained = load(str(labels))
    assert trained.thresholds == tuple(thresholds.tolist())
    data = trained.data()
    for split in ("val", "test"):
        given, _ = answers(trained, data, data.splits()[split])
        scores, true = trained.loss.scores(given.outputs), given.targets > 0.5
        if split == "val":
            assert choose_thresholds(scores, given.targets) == pytest.approx(trained.thresholds)
        found = numbers(capsys, labels, "--split", split)
        predicted = scores > thresholds
        assert found["metrics"][f"{split}/accuracy"] == float((predicted == true).double().mean())
        both = (predicted & true).sum(0) * 2 / (predicted.sum(0) + true.sum(0))
        assert [each["f1"] for each in found["classes"]] == pytest.approx(both.tolist())
        assert [each["threshold"] for each in found["classes"]] == thresholds.tolist()
        precisions = average_precision_of_each(trained.loss.scores(given.outputs.double()), given.targets)
        assert [each["average_precision"] for each in found["classes"]] == precisions.tolist()
        assert found["metrics"][f"{split}/average_precision"] == pytest.approx(float(precisions.mean()))
    fixed = numbers(capsys, labels, "thresholds=0.5")
    assert fixed["metrics"]["test/accuracy"] == float(((scores > 0.5) == true).double().mean())
    assert {each["threshold"] for each in fixed["classes"]} == {0.5}


def test_an_evaluation_says_above_which_scores_labels_are_predicted(
    labels: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def said(*words: object) -> str:
        assert main(["evaluate", *map(str, words)]) == 0
        return capsys.readouterr().out

    text, first = said(labels), json.loads((labels / "summary.json").read_text())["thresholds"]
    shown = ", ".join(f"{name} {value:.4f}" for name, value in first.items())
    assert f"labels   predicted above {shown}: the highest f1 on val\n" in text
    assert "equal    to the last digit" in text
    text = said(labels, "thresholds=0.5")
    assert "labels   predicted above 0.5\n" in text
    assert "differs" not in text
    assert "the mean of the thresholds of the runs" in said(labels, shutil.copytree(labels, tmp_path / "copy"))
    summary = json.loads((labels / "summary.json").read_text())
    for number, (changes, wanted) in enumerate(
        [
            ({"tested_step": 1}, "the thresholds are for the weights of step 1; labels are predicted above 0.5"),
            ({"thresholds": None}, "predicted above 0.5: the run has chosen no thresholds on val"),
        ]
    ):
        folder = shutil.copytree(labels, tmp_path / str(number))
        (folder / "summary.json").write_text(json.dumps(summary | changes))
        assert wanted in said(folder)


@pytest.mark.slow
def test_two_processes_choose_the_thresholds_of_one(labels: Path, made: Made) -> None:
    words = [*made.words("labels"), "model=gru", "model.hidden=16", "epochs=2", "batch_size=32", "logger=none"]
    folder = made.folder / "by-two"
    assert run(compose(*words, f"run_dir={folder}", "device=ddp", "device.processes=2")).summary["state"] == "finished"
    one, two = (json.loads((each / "summary.json").read_text())["thresholds"] for each in (labels, folder))
    assert two == pytest.approx(one, rel=1e-4)


@pytest.mark.parametrize("damaged", [[0.5], {"no": 0.5}, {"y 0": "x", "y 1": 0.5, "y 2": 0.5}, 0.5])
def test_thresholds_that_do_not_fit_the_labels_are_refused(
    labels: Path, tmp_path: Path, damaged: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    summary = json.loads((labels / "summary.json").read_text())
    shutil.copytree(labels, tmp_path / "run")
    (tmp_path / "run" / "summary.json").write_text(json.dumps({**summary, "thresholds": damaged}))
    wanted = "summary.json: thresholds: must hold a number for each label of the run"
    assert wanted in refused(capsys, tmp_path / "run")


def test_a_run_of_an_earlier_version_predicts_labels_above_a_half(
    labels: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = shutil.copytree(labels, tmp_path / "run")
    config, summary = (folder / "config.yaml").read_text(), json.loads((folder / "summary.json").read_text())
    (folder / "config.yaml").write_text(re.sub("^thresholds: .*\n", "", config, flags=re.MULTILINE))
    del summary["thresholds"]
    found = numbers(capsys, labels, "thresholds=0.5")["metrics"]
    (folder / "summary.json").write_text(json.dumps({**summary, **found}))
    assert numbers(capsys, folder)["metrics"] == found
    assert main(["evaluate", str(folder)]) == 0
    assert "equal    to the last digit" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["dataset.val_fraction=0"], "labels   predicted above 0.5: there is no val to choose thresholds on\n"),
        (["thresholds=0.25"], "labels   predicted above 0.25\n"),
    ],
    ids=["no val", "fixed"],
)
def test_a_run_that_chooses_no_thresholds_says_so_and_comes_out_again(
    made: Made, words: list[str], line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = made.run("gru", "labels", *words)
    summary = json.loads((folder / "summary.json").read_text())
    assert "thresholds" not in summary
    assert line in (folder / "train.log").read_text()
    found = numbers(capsys, folder)["metrics"]
    assert found["test/f1"] == summary["test/f1"]


def test_labels_that_the_mean_leaves_out_are_named(
    labels: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.savez(tmp_path / "other.npz", x=np.eye(6, dtype="float32"), y=np.array([[0, 1, 1], [0, 1, 0]] * 3))
    assert main(["evaluate", str(labels), f"dataset.path={tmp_path / 'other.npz'}"]) == 0
    text = capsys.readouterr().out
    assert "warning  no sample has y 0: left out of the mean auroc and average_precision\n" in text
    assert "warning  every sample has y 1: left out of the mean auroc\n" in text


def test_other_data_are_read_with_the_classes_and_words_of_the_run(
    made: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = made.run("cnn", "text")
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "good.txt").write_text("a charming film\nzebra moving\n")  # one class only, and a new word
    found = numbers(capsys, folder, f"dataset.path={tmp_path / 'new'}")
    assert (found["split"], found["samples"], found["own_data"]) == ("all", 2, False)
    assert [each["samples"] for each in found["classes"]] == [0, 2]
    trained = load(str(folder), words=[f"dataset.path={tmp_path / 'new'}"])
    given, _ = answers(trained, data := trained.data(), data.test)
    vocabulary = trained.preprocessing["vocabulary"]
    numbers_ = [vocabulary.index(word) if word in vocabulary else 1 for word in ("a", "charming", "film")]
    expected = trained.scores((torch.tensor([numbers_]), torch.tensor([3])))
    torch.testing.assert_close(trained.loss.scores(given.outputs)[:1], expected)
    (tmp_path / "new" / "ugly.txt").write_text("what\n")
    assert "class ugly is here (1 sample) but not in train" in refused(
        capsys, folder, f"dataset.path={tmp_path / 'new'}"
    )


def test_columns_are_found_by_their_names_and_gaps_filled_as_in_the_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = table(tmp_path / "table.csv")
    run(compose("model=gru", *words, "dataset.missing=mean", f"run_dir={tmp_path / 'run'}", "logger=none", "epochs=1"))
    (tmp_path / "other.csv").write_text("kind,d,c,b,a\nx,100,0,0,0\nz,100,,-2,2\n")
    trained = load(str(tmp_path / "run"), words=[f"dataset.path={tmp_path / 'other.csv'}"])
    data = trained.data()
    (values,) = data.test.source.fetch(torch.arange(2))
    assert values[0].tolist() == [0, 0, 0, 100]
    assert values[1].tolist() == pytest.approx([2, -2, math.nan, 100], nan_ok=True)
    assert isinstance(trained.normalise, TableEncoding)
    filled = values[1].where(~values[1].isnan(), trained.normalise.fill)
    assert torch.equal(trained.normalise(values[1]), trained.normalise(filled))
    saved = trained.preprocessing["normalise"]["columns"][2]
    assert filled[2].item() == pytest.approx(saved["fill"]) != saved["centre"]
    assert numbers(capsys, tmp_path / "run", f"dataset.path={tmp_path / 'other.csv'}")["samples"] == 2


def test_data_that_have_moved_are_told_where_and_are_known_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(compose(*pictures(tmp_path / "here", 60), "model.channels=[8]", f"run_dir={tmp_path / 'run'}", "epochs=1"))
    (tmp_path / "here").rename(tmp_path / "there")
    line = refused(capsys, tmp_path / "run")
    assert "no such file or folder" in line
    assert "dataset.path=… says where they are" in line
    assert main(["evaluate", str(tmp_path / "run"), f"dataset.path={tmp_path / 'there'}"]) == 0
    assert "equal    to the last digit" in capsys.readouterr().out


def test_samples_in_the_own_folder_may_have_been_trained_on_although_one_is_new(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run(compose(*pictures(Path("here"), 60), "model.channels=[8]", f"run_dir={tmp_path / 'run'}", "epochs=1"))
    first = next(path for path in sorted(Path("here").rglob("*.png")))
    first.with_name("new.png").write_bytes(first.read_bytes())
    copy = shutil.copytree("here", "elsewhere")
    for path, count in ((Path("here"), 61), (tmp_path / "here", 61), (copy, 0)):
        assert main(["evaluate", "run", f"dataset.path={path}"]) == 0
        out = capsys.readouterr().out
        assert "; all 61; other data than that of the run\n" in out
        line = f"{count} of 61 samples are in the run's own data path and may have been trained on"
        assert (line in out) == (count > 0)
        assert ("may have been trained on" in out) == (count > 0)
    assert numbers(capsys, "run", "dataset.path=here")["samples_in_own_path"] == 61


def test_several_runs_answer_with_the_mean_of_their_probabilities(
    made: Made, capsys: pytest.CaptureFixture[str]
) -> None:
    folders = [made.run(model, "table") for model in MODELS]
    found = numbers(capsys, *folders)
    models = [load(str(folder)) for folder in folders]
    outputs = [answers(model, data := model.data(), data.test)[0] for model in models]
    mean = torch.stack([m.loss.scores(a.outputs) for m, a in zip(models, outputs, strict=True)]).mean(0)
    targets = outputs[0].targets
    assert found["metrics"]["test/accuracy"] == float((mean.argmax(1) == targets).double().mean())
    smoothing = float(models[0].settings.loss["label_smoothing"])
    wanted = torch.nn.functional.one_hot(targets, mean.shape[1]) * (1 - smoothing) + smoothing / mean.shape[1]
    loss = -(wanted * mean.log()).sum(1).mean()
    assert found["metrics"]["test/loss"] == pytest.approx(float(loss), rel=1e-5)
    assert "answers" in refused(capsys, folders[0], made.run("cnn", "text"))


def test_the_confusion_matrix_and_the_classes_agree_with_the_answers(
    made: Made, capsys: pytest.CaptureFixture[str]
) -> None:
    found = numbers(capsys, made.run("lstm", "image"), "--split", "all", "--metrics", "accuracy,top2,auroc,ece")
    confusion = torch.tensor(found["confusion"])
    assert confusion.sum() == found["samples"] == 150
    assert list(found["metrics"]) == ["all/loss", "all/accuracy", "all/top2", "all/auroc", "all/ece"]
    assert found["metrics"]["all/accuracy"] == float(confusion.double().trace() / 150)
    assert [each["samples"] for each in found["classes"]] == confusion.sum(1).tolist()


def test_the_last_checkpoint_and_a_file_may_be_asked_for(made: Made, capsys: pytest.CaptureFixture[str]) -> None:
    folder = made.run("gru", "table")
    last = numbers(capsys, folder, "--checkpoint", "last")
    named = numbers(capsys, folder, "--checkpoint", folder / "checkpoints" / "last.pt")
    assert last["metrics"] == named["metrics"]
    assert "no such file; best, last or a file" in refused(capsys, folder, "--checkpoint", "lats")


def test_what_cannot_be_evaluated_is_one_line(
    made: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = made.run("cnn", "image")
    monkeypatch.chdir(tmp_path)
    assert "nope: no such folder" in refused(capsys, "nope")
    assert "last: no run under outputs" in refused(capsys, "last")
    assert "would be another run" in refused(capsys, folder, "optimizer.lr=1")
    assert "did you mean dataset.path?" in refused(capsys, folder, "dataset.pth=x")
    assert "did you mean accuracy?" in refused(capsys, folder, "--metrics", "acuracy")
    assert "--split: must be one of" in refused(capsys, folder, "--split", "tset")
    damaged = tmp_path / "damaged"
    shutil.copytree(folder, damaged)
    content = bytearray((damaged / "checkpoints" / "best.pt").read_bytes())
    content[len(content) // 2] ^= 1
    (damaged / "checkpoints" / "best.pt").write_bytes(bytes(content))
    assert "its checksum does not fit" in refused(capsys, damaged)
    assert numbers(capsys, damaged, "--checkpoint", "last")["samples"] > 0
    config = (damaged / "config.yaml").read_text()
    (damaged / "config.yaml").write_text("model: [")
    assert "config.yaml" in refused(capsys, damaged, "--checkpoint", "last")
    (damaged / "config.yaml").write_text(config)
    shutil.rmtree(damaged / "checkpoints")
    assert "has no checkpoints/best.pt (finished)" in refused(capsys, damaged)


def test_a_failed_run_says_why_it_has_no_weights(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from trainer import RunError

    with pytest.raises(RunError):
        run(compose("optimizer=sgd", "optimizer.lr=1e20", f"run_dir={tmp_path / 'run'}", "logger=none"))
    line = refused(capsys, tmp_path / "run")
    assert "has no checkpoints/best.pt (failed: the loss is nan" in line


def test_a_run_of_a_plugin_needs_it_named_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, forgets: None
) -> None:
    (tmp_path / "mine_after.py").write_text((REPOSITORY / "examples" / "iris" / "flowers.py").read_text())
    monkeypatch.chdir(tmp_path)
    words = ["plugins=[mine_after.py]", "model=perceptron", "dataset=synthetic", "dataset.kind=table"]
    run(compose(*words, "dataset.shape=[4]", "epochs=1", f"run_dir={tmp_path / 'run'}", "logger=none"))
    assert "if you trust it, name it again: 'plugins=[mine_after.py]'" in refused(capsys, "run")
    assert "no_such.py" in refused(capsys, "run", "plugins=[no_such.py]")
    assert numbers(capsys, "run", "plugins=[mine_after.py]")["samples"] > 0


def test_texts_of_a_kind_of_their_own_stay_what_they_were(tmp_path: Path) -> None:
    words = texts(tmp_path / "texts", 20)
    run(compose("model=cnn", "model.channels=[8]", *words, "epochs=1", f"run_dir={tmp_path / 'run'}", "logger=none"))
    trained = load(str(tmp_path / "run"))
    assert trained.preprocessing["unit"] == "line"
    assert trained.data().fingerprint() == trained.fingerprint


def test_runs_that_were_asked_about_other_samples_are_no_ensemble(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [*pictures(tmp_path / "pictures", 80), "model.channels=[4]", "epochs=1", "logger=none"]
    for seed in (1, 2):
        run(compose(*words, f"seed={seed}", f"run_dir={tmp_path / str(seed)}"))
    names = [tmp_path / "1", tmp_path / "2"]
    assert numbers(capsys, *names)["samples"] > 0  # the test split does not depend on the seed
    assert "has other samples than that of" in refused(capsys, *names, "--split", "val")
