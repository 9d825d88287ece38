"""What an exported file holds: waves of any length, every loss, its metadata; and what is not kept."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.conftest import REPOSITORY
from tests.helpers import assert_close, told
from tests.made import Made, made
from trainer import RunError, compose, run
from trainer.commands.export.formats import MARK, check_batches, export
from trainer.commands.export.layers import ExportedLogMel, ExportedRawSteps
from trainer.commands.opened_run import OpenedRun, load
from trainer.data import audio

pytestmark = pytest.mark.slow  # test_export_command.py has a quick choice of what an export must do

__all__ = ["made"]

SMALL = ["epochs=1", "batch_size=32", "logger=none", "device=cpu"]
SUFFIX = {"onnx": ".onnx", "torch": ".pt2"}
PLUGIN = """
from torch import nn
from trainer.model import MODELS

class Branching(nn.Module):
    def __init__(self, outputs):
        super().__init__()
        self.last = nn.Linear(6, outputs)
    def forward(self, table):
        return self.last(table if table.sum() > 0 else -table)

@MODELS.register
def branching(spec):
    '''Does something else for some batches.'''
    return Branching(spec.num_outputs)
"""


def answer(file: Path, *inputs: torch.Tensor) -> torch.Tensor:
    """The scores of a file in its own runtime."""
    if file.suffix == ".onnx":
        session = pytest.importorskip("onnxruntime").InferenceSession(file)
        names = [each.name for each in session.get_inputs()]
        return torch.from_numpy(session.run(None, dict(zip(names, [each.numpy() for each in inputs], strict=True)))[0])
    with torch.no_grad():
        scores: torch.Tensor = torch.export.load(file).module()(*inputs)
    return scores


def checked(folder: Path, file: Path, tolerance: float = 1e-5) -> tuple[OpenedRun, float]:
    """Export by the suffix of a file; the run, and the largest difference."""
    trained = load(str(folder))
    form = {suffix: form for form, suffix in SUFFIX.items()}[file.suffix]
    found = export(trained, check_batches(trained, trained.data()), form, file, tolerance)
    assert found.difference <= tolerance
    assert found.size == file.stat().st_size
    return trained, found.difference


@pytest.mark.parametrize("samples", [1, 199, 200, 201, 280, 281, 999])
def test_spectrograms_of_any_length_are_those_of_training(samples: int) -> None:
    waves = torch.randn(2, samples, generator=torch.Generator().manual_seed(0)) / 10
    lengths = torch.tensor([samples, (samples + 1) // 2])
    for features, exported in (
        (made_logmel := audio.LogMel.make(8000, 200, 80, 40), ExportedLogMel(made_logmel)),
        (raw := audio.RawSteps(8000, 80), ExportedRawSteps(raw)),
    ):
        axis = 1 if features is raw else 2
        wanted, steps = features((waves, lengths))
        found, found_steps = exported(waves, lengths)
        assert found_steps.tolist() == steps.tolist()
        assert_close(found.narrow(axis, 0, wanted.shape[axis]), wanted, 1e-6)


@pytest.mark.parametrize(
    ("model", "form", "features"),
    [
        ("cnn", "onnx", "logmel"),
        ("cnn", "torch", "raw"),
        *(
            pytest.param(model, form, features, marks=pytest.mark.slow)
            for model in ("cnn", "gru", "lstm")
            for form in ("onnx", "torch")
            for features in ("logmel", "raw")
            if (model, form, features) not in (("cnn", "onnx", "logmel"), ("cnn", "torch", "raw"))
        ),
    ],
)
def test_silence_and_waves_shorter_or_longer_than_any_in_training(
    made: Made, tmp_path: Path, model: str, form: str, features: str
) -> None:
    if form == "onnx":
        pytest.importorskip("onnxscript")
    folder = made.run(model, "audio", f"dataset.features={features}")
    file = tmp_path / f"model{SUFFIX[form]}"
    trained, _ = checked(folder, file)
    generator = torch.Generator().manual_seed(0)
    for samples in (1, 80, 150, 201, 5000):
        waves = torch.randn(3, samples, generator=generator) / 10
        waves[0] = 0
        lengths = torch.tensor([samples, samples, (samples + 1) // 2])
        found = answer(file, waves, lengths)
        waves[2, int(lengths[2]) :] = 0  # what stood there did not count
        torch.testing.assert_close(found, trained.scores((waves, lengths)), atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    "words",
    [
        ["dataset.task=regression", "loss=mse"],
        ["dataset.task=multilabel", "loss=bce"],
        pytest.param(["dataset.classes=2", "loss=bce"], marks=pytest.mark.slow),
        ["dataset.classes=2", "loss=bce_prob"],
        pytest.param(["loss=focal", "ema=0.9"], marks=pytest.mark.slow),
        ["precision=bf16"],
    ],
    ids=" ".join,
)
def test_the_scores_are_those_of_every_loss(
    tmp_path: Path, words: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    data = ["dataset=synthetic", "dataset.kind=table", "dataset.shape=[6]", "dataset.samples=90"]
    run(compose("model=cnn", *data, "dataset.test_samples=40", *words, *SMALL, f"run_dir={tmp_path / 'run'}"))
    file = tmp_path / "model.pt2"
    code, out, err = told(capfd, "export", str(tmp_path / "run"), "-o", str(file))
    assert (code, err) == (0, "")
    assert ("the run computed in bf16" in out) == (words == ["precision=bf16"])
    trained = load(str(tmp_path / "run"), words=["precision=fp32"])
    (inputs,) = trained.data().test.source.fetch(torch.arange(5))
    torch.testing.assert_close(answer(file, inputs), trained.scores((inputs,)), atol=1e-5, rtol=0)


def test_values_are_compared_in_their_standard_deviations(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    draw = np.random.default_rng(0).normal(size=(80, 3))
    rows = [f"{a:.3f},{b:.3f},{1e6 * (a + b) + c:.1f}" for a, b, c in draw]
    (tmp_path / "table.csv").write_text("\n".join(["a,b,price", *rows]) + "\n")
    data = ["dataset=csv", f"dataset.path={tmp_path / 'table.csv'}", "dataset.target=price", "loss=mse"]
    run(compose("model=gru", "model.hidden=8", *data, *SMALL, f"run_dir={tmp_path / 'run'}"))
    code, out, err = told(capfd, "export", str(tmp_path / "run"), "--format", "torch")
    assert (code, err) == (0, "")
    assert "outputs  scores float32 (batch, 1): values of price\n" in out
    assert out.endswith(" standard deviations\n")


def test_a_loop_over_steps_is_free_of_what_was_exported_before(made: Made, tmp_path: Path) -> None:
    checked(made.run("gru", "image"), tmp_path / "images.pt2")  # of exactly 8 steps
    trained, _ = checked(made.run("gru", "text"), tmp_path / "texts.pt2")
    tokens, lengths = torch.randint(1, 20, (3, 8)), torch.tensor([8, 3, 1])
    torch.testing.assert_close(
        answer(tmp_path / "texts.pt2", tokens, lengths), trained.scores((tokens, lengths)), atol=1e-5, rtol=0
    )


def test_a_text_file_knows_its_vocabulary_and_nothing_of_this_machine(made: Made, tmp_path: Path) -> None:
    folder = made.run("cnn", "text")
    trained, _ = checked(folder, tmp_path / "model.pt2")
    extra = {"metadata.json": ""}
    torch.export.load(tmp_path / "model.pt2", extra_files=extra)
    about = json.loads(extra["metadata.json"])
    assert about["format"] == MARK
    assert about["classes"] == ["bad", "good"]
    assert about["inputs"][0] | {"meaning": ""} == {
        "name": "inputs",
        "dtype": "int64",
        "shape": ["batch", "steps"],
        "meaning": "",
        "longest": trained.spec.shape[0],
    }
    assert about["inputs"][1]["name"] == "lengths"
    assert about["outputs"][0]["meaning"] == "probabilities"
    assert about["preprocessing"]["vocabulary"][:2] == ["<padding>", "<unknown>"]
    assert (about["preprocessing"]["tokens"], about["preprocessing"]["lowercase"]) == ("words", True)
    assert (about["run"], about["step"], about["dataset"]) == (folder.name, trained.step, "text")
    content = (tmp_path / "model.pt2").read_bytes()
    assert str(REPOSITORY).encode() not in content
    assert str(made.folder).encode() not in content


def test_an_onnx_file_is_one_file_of_ours_that_names_no_file_of_this_machine(made: Made, tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxscript")
    checked(made.run("lstm", "table"), tmp_path / "model.onnx")
    assert [each.name for each in tmp_path.iterdir()] == ["model.onnx"]
    model = onnx.load(tmp_path / "model.onnx")
    onnx.checker.check_model(model)
    about = {each.key: each.value for each in model.metadata_props}
    assert (model.producer_name, about["format"]) == ("trainer-cli", MARK)
    assert json.loads(about["inputs"])[0]["columns"] == ["a", "b", "c", "d"]
    assert "LSTM" in {node.op_type for node in model.graph.node}
    assert {node.domain for node in model.graph.node} == {""}
    content = (tmp_path / "model.onnx").read_bytes()
    assert str(REPOSITORY).encode() not in content
    assert str(made.folder).encode() not in content


def test_several_formats_at_once_go_to_the_folder_of_the_run(
    made: Made, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(made.run("cnn", "image"), tmp_path / "run")
    code, out, err = told(capfd, "export", str(tmp_path / "run"), "--format", "torch,safetensors")
    assert (code, err) == (0, "")
    kept = tmp_path / "run" / "export"
    assert sorted(each.name for each in kept.iterdir()) == ["model.json", "model.pt2", "model.safetensors"]
    assert "inputs   float32 (batch, 1, 8, 8), pixels, 0 to 255\n" in out
    assert out.count("checked  15 samples in ") == 2


def test_a_model_that_branches_on_a_value_is_one_line_and_leaves_nothing(
    tmp_path: Path, forgets: None, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "branching.py").write_text(PLUGIN)
    plugins = f"plugins=[{tmp_path / 'branching.py'}]"
    data = ["dataset=synthetic", "dataset.kind=table", "dataset.shape=[6]", "dataset.samples=90"]
    run(compose("model=branching", plugins, *data, *SMALL, f"run_dir={tmp_path / 'run'}"))
    code, _, err = told(capfd, "export", str(tmp_path / "run"), "--format", "torch", plugins)
    assert (code, err.count("\n")) == (1, 1)
    assert "model=branching: cannot be exported to torch.export: " in err
    assert not (tmp_path / "run" / "export").exists()
    code, _, err = told(capfd, "export", str(tmp_path / "run"), "--format", "torch")
    assert (code, err.count("\n")) == (2, 1)
    assert "if you trust it, name it again" in err


def test_a_refused_file_leaves_the_one_that_was_there(made: Made, tmp_path: Path) -> None:
    file = tmp_path / "model.pt2"
    trained, difference = checked(made.run("gru", "table"), file)
    before = file.read_bytes()
    assert difference > 0
    with pytest.raises(RunError, match=r"differs from the model by .*; not kept"):
        export(trained, check_batches(trained, trained.data()), "torch", file, difference / 1e6)
    assert file.read_bytes() == before
    assert [each.name for each in tmp_path.iterdir()] == ["model.pt2"]


def test_a_foreign_file_beside_the_weights_stays(made: Made, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "model.json").write_text('{"mine": true}')
    weights = tmp_path / "model.safetensors"
    code, _, err = told(capfd, "export", str(made.run("cnn", "image")), "-o", str(weights))
    assert (code, err.count("\n")) == (2, 1)
    assert f"{tmp_path / 'model.json'}: is there already, and no export of this command" in err
    assert [each.name for each in tmp_path.iterdir()] == ["model.json"]


def test_a_run_that_failed_before_its_first_checkpoint_is_one_line(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(RunError):
        run(compose("optimizer=sgd", "optimizer.lr=1e30", *SMALL, f"run_dir={tmp_path / 'run'}"))
    shutil.rmtree(tmp_path / "run" / "checkpoints", ignore_errors=True)
    code, out, err = told(capfd, "export", str(tmp_path / "run"), "--format", "torch")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "has no checkpoints/best.pt (failed" in err


def test_contradictions_are_one_line(made: Made, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    folder = str(made.run("cnn", "image"))
    for words, said in (
        (["-o", "model.onnx", "--format", "torch"], "ends as onnx does, but --format is torch"),
        (["-o", "model.onnx", "--format", "onnx,torch"], "one file cannot be onnx and torch"),
        (["--format", ","], "names none"),
        (["--tolerance", "-1"], "at least 0"),
        (["precision=bf16"], "a file is made on the CPU, in fp32"),
        (["other"], "one RUN at a time"),
        (["-o", str(tmp_path / "nowhere" / "model.pt2")], "there is no such folder"),
    ):
        code, _, err = told(capfd, "export", folder, *words)
        assert (code, err.count("\n")) == (2, 1), err
        assert said in err


@pytest.mark.slow
@pytest.mark.parametrize("form", ["onnx", "torch"])
@pytest.mark.parametrize(
    "words",
    [
        ["model.arch=resnet18", "dataset=synthetic", "dataset.kind=image", "dataset.shape=[3,32,32]", "model.size=48"],
        ["model.arch=mobilenet_v3_small", "dataset=synthetic", "dataset.kind=image", "dataset.shape=[1,32,32]"],
        ["model.arch=resnet18", "sounds"],
    ],
    ids=" ".join,
)
def test_classifiers_of_torchvision(made: Made, tmp_path: Path, words: list[str], form: str) -> None:
    if form == "onnx":
        pytest.importorskip("onnxscript")
    more = made.words("audio") if words[-1] == "sounds" else ("dataset.samples=64", "dataset.test_samples=64")
    words = [each for each in words if each != "sounds"]
    run(compose("model=torchvision", *words, *more, *SMALL, f"run_dir={tmp_path / 'run'}"))
    checked(tmp_path / "run", tmp_path / f"model{SUFFIX[form]}")
