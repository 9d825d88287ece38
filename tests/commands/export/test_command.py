"""``trainer export``: a file for other programs that answers as the model does."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open

from tests.commands.export.test_formats import answer
from tests.helpers import told
from tests.made import KINDS, MODELS, Made, pictures
from trainer import compose, run
from trainer.__main__ import main
from trainer.commands.export.formats import to_file_inputs
from trainer.commands.opened_run import OpenedRun, answers, load

pytest.importorskip("onnxscript")
pytest.importorskip("onnxruntime")

# What reads the file elsewhere: it has numpy and onnxruntime, and not this package.
ELSEWHERE = """
import json, sys
sys.path = [each for each in sys.path if "site-packages" in each or "lib/python" in each]
sys.modules["trainer"] = sys.modules["torch"] = None
import numpy, onnxruntime
session = onnxruntime.InferenceSession(sys.argv[1])
inputs = dict(numpy.load(sys.argv[2]))
(scores,) = session.run(None, inputs)
print(json.dumps({"scores": scores.tolist(), "about": session.get_modelmeta().custom_metadata_map}))
"""

MATRIX = [(model, kind) for model in MODELS for kind in KINDS]
QUICK = {("cnn", "image", "onnx"), ("gru", "sequence", "torch")}  # the others take minutes
FORMS = [
    pytest.param(model, kind, form, marks=[] if (model, kind, form) in QUICK else [pytest.mark.slow])
    for model, kind in MATRIX
    for form in ("onnx", "torch")
]


def exported(run_dir: Path, file: Path, *words: str) -> Path:
    """The file that ``trainer export`` keeps."""
    code = main(["export", str(run_dir), "-o", str(file), *words])
    if code and file.suffix == ".pt2" and torch.__version__ < "2.13":
        pytest.skip("torch before 2.13 exports no length that varies through a pooling")
    assert code == 0
    return file


def test_a_picture_that_can_no_longer_be_read_does_not_stop_an_export(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = pictures(tmp_path / "here", 20)
    run(compose(*words, "model.channels=[8]", f"run_dir={tmp_path / 'run'}", "max_steps=1", "logger=none"))
    damaged = next(path for path in sorted((tmp_path / "here").rglob("*.png")))
    damaged.write_bytes(damaged.read_bytes()[:60])
    assert main(["export", str(tmp_path / "run"), "--format", "safetensors"]) == 0
    out = capsys.readouterr().out
    assert f"warning  1 bad sample left out: {damaged}: cannot be read" in out
    assert "checked  2 samples in" in out


def samples(trained: OpenedRun) -> tuple[tuple[torch.Tensor, ...], torch.Tensor]:
    """All samples of the test split as raw inputs of one batch, and their scores."""
    data = trained.data()
    found, _ = answers(trained, data, data.test)
    return data.test.source.fetch(found.positions), trained.loss.scores(found.outputs)


def elsewhere(file: Path, folder: Path, inputs: tuple[torch.Tensor, ...]) -> dict[str, Any]:
    """What a process without this package reads of an ONNX file."""
    names = ["inputs", "lengths"][: len(inputs)]
    arrays: dict[str, Any] = {name: each.numpy() for name, each in zip(names, inputs, strict=True)}
    np.savez(folder / "inputs.npz", **arrays)
    done = subprocess.run(
        [sys.executable, "-I", "-c", ELSEWHERE, str(file), str(folder / "inputs.npz")],
        capture_output=True,
        text=True,
        check=True,
        cwd=folder,
    )
    read: dict[str, Any] = json.loads(done.stdout)
    return read


@pytest.mark.parametrize(("model", "kind", "form"), FORMS)
def test_a_file_answers_as_the_evaluation_for_batches_of_any_size(
    made: Made, tmp_path: Path, model: str, kind: str, form: str, capsys: pytest.CaptureFixture[str]
) -> None:
    file = exported(made.run(model, kind), tmp_path / f"model{'.onnx' if form == 'onnx' else '.pt2'}")
    assert "largest difference" in capsys.readouterr().out
    trained = load(str(made.run(model, kind)))
    raw, expected = samples(trained)
    inputs = to_file_inputs(trained, raw)
    if form == "onnx":
        read = elsewhere(file, tmp_path, inputs)
        scores = torch.tensor(read["scores"])
        assert json.loads(read["about"]["classes"]) == list(trained.spec.classes)
    else:
        scores = answer(file, *inputs)
    torch.testing.assert_close(scores, expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(answer(file, *(each[:1] for each in inputs)), expected[:1], atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("model", "form"),
    [
        ("cnn", "torch"),
        ("gru", "onnx"),
        *(
            pytest.param(*each, marks=pytest.mark.slow)
            for each in [("cnn", "onnx"), ("gru", "torch"), ("lstm", "onnx")]
        ),
    ],
)
def test_the_length_is_free_and_padding_does_not_count(made: Made, tmp_path: Path, model: str, form: str) -> None:
    file = exported(made.run(model, "text"), tmp_path / f"model{'.onnx' if form == 'onnx' else '.pt2'}")
    trained = load(str(made.run(model, "text")))
    tokens = torch.randint(2, 10, (4, 7), generator=torch.Generator().manual_seed(0))
    lengths = torch.tensor([7, 1, 4, 2])
    expected = torch.cat(
        [trained.scores((tokens[at : at + 1, :n], lengths[at : at + 1])) for at, n in enumerate([7, 1, 4, 2])]
    )
    tokens[torch.arange(7) >= lengths[:, None]] = 9  # what lies behind a text does not count, whatever it is
    torch.testing.assert_close(answer(file, tokens, lengths), expected, atol=1e-5, rtol=0)


@pytest.mark.slow
@pytest.mark.parametrize(
    "words",
    [
        ["model=lstm", "model.bidirectional=true", "model.layers=2"],
        ["model=gru", "model.reset_after=false", "model.bidirectional=true"],
        ["model=cnn", "model.channels=[8]", "model.norm=batch", "model.global_pool=mean"],
    ],
    ids=" ".join,
)
def test_layers_directions_and_normalisation_are_kept(tmp_path: Path, words: list[str]) -> None:
    data = ["dataset=synthetic", "dataset.kind=sequence", "dataset.shape=[11,3]", "dataset.min_steps=2"]
    small = ["dataset.samples=80", "dataset.test_samples=40", "epochs=1", "logger=none", "device=cpu"]
    run(compose(*words, *data, *small, f"run_dir={tmp_path / 'run'}"))
    for name in ("model.onnx", "model.pt2"):
        exported(tmp_path / "run", tmp_path / name)  # which compares 40 samples of 2 to 11 steps


def test_weights_alone_come_with_what_they_belong_to(made: Made, tmp_path: Path) -> None:
    file = exported(made.run("gru", "table"), tmp_path / "model.safetensors")
    about = json.loads((tmp_path / "model.json").read_text())
    assert about["classes"] == ["x", "y", "z"]
    assert about["config"]["model"]["name"] == "gru"
    assert about["preprocessing"]["columns"] == ["a", "b", "c", "d"]
    with safe_open(file, "pt") as opened:
        assert json.loads(opened.metadata()["config"]) == about["config"]
        weights = load(str(made.run("gru", "table"))).model.state_dict()
        assert {name: opened.get_tensor(name).tolist() for name in opened.keys()} == {  # noqa: SIM118
            name: tensor.tolist() for name, tensor in weights.items()
        }


def test_a_file_that_differs_too_much_is_not_kept(
    made: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = made.run("lstm", "image")
    words = ["export", str(folder), "-o", str(tmp_path / "model.onnx"), "--tolerance", "0"]
    assert main(words) == 1
    captured = capsys.readouterr()
    assert "differs from the model by" in captured.err
    assert captured.err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_its_own_file_is_replaced_and_no_other(made: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(made.run("cnn", "table"), tmp_path / "run")
    for _ in range(2):
        assert main(["export", str(tmp_path / "run")]) == 0
    assert [each.name for each in (tmp_path / "run" / "export").iterdir()] == ["model.onnx"]
    (tmp_path / "mine.onnx").write_bytes(b"precious")
    assert main(["export", str(tmp_path / "run"), "-o", str(tmp_path / "mine.onnx")]) == 2
    assert "no export of this command" in capsys.readouterr().err
    assert (tmp_path / "mine.onnx").read_bytes() == b"precious"


def test_what_cannot_be_exported_is_one_line(
    made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = made.run("cnn", "table")

    def refused(*words: object) -> str:
        code, _, err = told(capsys, "export", *map(str, words))
        assert (code, err.count("\n")) == (2, 1)
        return err

    monkeypatch.chdir(tmp_path)
    assert "nope: no such folder" in refused("nope")
    assert "did you mean onnx?" in refused(folder, "--format", "onxx")
    assert "must end in .onnx, .pt2, .safetensors" in refused(folder, "-o", "model.bin")
    assert "--tolerance" in refused(folder, "--tolerance", "much")
    assert "made on the CPU" in refused(folder, "device=cuda")
    assert "no such file or folder" in refused(folder, "dataset.path=moved.csv")
    shutil.copytree(folder, "damaged")
    Path("damaged/checkpoints/best.pt").write_bytes(b"half")
    assert "cannot be used" in refused("damaged")
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    assert "trainer-cli[export]" in refused(folder)
