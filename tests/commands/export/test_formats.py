"""Exported files: waves of any length, every loss, and files that are not kept."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.helpers import told
from tests.made import MODELS, Made
from trainer import RunError, compose, run
from trainer.commands.export.formats import check_batches, export
from trainer.commands.opened_run import OpenedRun, load

pytestmark = pytest.mark.slow  # test_command.py has the quick tests of exports

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
    found = export(trained, check_batches(trained.data()), form, file, tolerance)
    assert found.difference <= tolerance
    return trained, found.difference


@pytest.mark.parametrize("features", ["logmel", "raw"])
@pytest.mark.parametrize("form", ["onnx", "torch"])
@pytest.mark.parametrize("model", MODELS)
def test_silence_and_waves_shorter_or_longer_than_any_in_training(
    made: Made, tmp_path: Path, model: str, form: str, features: str
) -> None:
    if form == "onnx":
        pytest.importorskip("onnxscript")
    if (model, form) == ("cnn", "torch") and torch.__version__ < "2.13":
        pytest.skip("torch before 2.13 exports no length that varies through a pooling")
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
        ["dataset.classes=2", "loss=bce"],
        ["dataset.classes=2", "loss=bce_prob"],
        ["loss=focal", "ema=0.9"],
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


@pytest.mark.parametrize("suffix", [".onnx", ".pt2"])
def test_values_far_from_zero_are_float64(suffix: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    draw = np.random.default_rng(0).normal(size=(80, 3)).astype("float32")
    np.savez(tmp_path / "a.npz", x=draw, y=1.7e9 + draw[:, 0].astype(float) * 25)
    data = ["dataset=npz", f"dataset.path={tmp_path / 'a.npz'}", "loss=mse"]
    run(compose("model=gru", "model.hidden=8", *data, *SMALL, f"run_dir={tmp_path / 'run'}"))
    file = tmp_path / f"model{suffix}"
    code, out, err = told(capfd, "export", str(tmp_path / "run"), "-o", str(file))
    assert (code, err) == (0, "")
    assert "outputs  scores float64 (batch, 1): values of y\n" in out
    scores = answer(file, torch.from_numpy(draw))
    assert scores.dtype == torch.float64
    torch.testing.assert_close(scores, load(str(tmp_path / "run")).scores(draw), atol=1e-3, rtol=0)


def test_a_loop_over_steps_is_free_of_what_was_exported_before(made: Made, tmp_path: Path) -> None:
    checked(made.run("gru", "image"), tmp_path / "images.pt2")  # of exactly 8 steps
    trained, _ = checked(made.run("gru", "text"), tmp_path / "texts.pt2")
    tokens, lengths = torch.randint(1, 20, (3, 8)), torch.tensor([8, 3, 1])
    torch.testing.assert_close(
        answer(tmp_path / "texts.pt2", tokens, lengths), trained.scores((tokens, lengths)), atol=1e-5, rtol=0
    )


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
        export(trained, check_batches(trained.data()), "torch", file, difference / 1e6)
    assert file.read_bytes() == before
    assert [each.name for each in tmp_path.iterdir()] == ["model.pt2"]


def test_a_foreign_file_beside_the_weights_stays(made: Made, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "model.json").write_text('{"mine": true}')
    weights = tmp_path / "model.safetensors"
    code, _, err = told(capfd, "export", str(made.run("cnn", "image")), "-o", str(weights))
    assert (code, err.count("\n")) == (2, 1)
    assert f"{tmp_path / 'model.json'}: is there already, and no export of this command" in err
    assert [each.name for each in tmp_path.iterdir()] == ["model.json"]


def test_contradictions_are_one_line(made: Made, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    folder = str(made.run("cnn", "image"))
    for words, said in (
        (["-o", "model.onnx", "--format", "torch"], "ends as onnx does, but --format is torch"),
        (["-o", "model.onnx", "--format", "onnx,torch"], "one file cannot be onnx and torch"),
        (["--format", ","], "names no format"),
        (["--tolerance", "-1"], "at least 0"),
        (["precision=bf16"], "a file is made on the CPU, in fp32"),
        (["other"], "needs one RUN, got other too"),
        (["-o", str(tmp_path / "nowhere" / "model.pt2")], "there is no such folder"),
    ):
        code, _, err = told(capfd, "export", folder, *words)
        assert (code, err.count("\n")) == (2, 1), err
        assert said in err


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
