"""The metadata of exported files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from tests.conftest import REPOSITORY
from tests.made import Made
from trainer.commands.export.formats import check_batches, export
from trainer.commands.export.metadata import MARK, as_strings, metadata
from trainer.commands.opened_run import OpenedRun, load

pytestmark = pytest.mark.slow


def exported(folder: Path, file: Path, form: str) -> OpenedRun:
    trained = load(str(folder))
    export(trained, check_batches(trained.data()), form, file, 1e-5)
    return trained


def test_a_text_file_knows_its_vocabulary_and_nothing_of_this_machine(made: Made, tmp_path: Path) -> None:
    folder = made.run("cnn", "text")
    trained = exported(folder, tmp_path / "model.pt2", "torch")
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
    assert about["outside"] == [
        "normalise the text to NFC",
        "convert it to lower case, İ to i, and normalise it again",
        "cut the text at the word boundaries of Unicode Standard Annex #29, without spaces",
        "take the number of each token in the vocabulary, 1 if a token is not there",
    ]
    assert (about["run"], about["step"], about["dataset"]) == (folder.name, trained.step, "text")
    content = (tmp_path / "model.pt2").read_bytes()
    assert str(REPOSITORY).encode() not in content
    assert str(made.folder).encode() not in content


def test_an_onnx_file_is_one_file_of_ours_that_names_no_file_of_this_machine(made: Made, tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxscript")
    exported(made.run("lstm", "table"), tmp_path / "model.onnx", "onnx")
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


@pytest.mark.parametrize("form", ["onnx", "torch", "safetensors"])
def test_a_file_of_labels_knows_their_thresholds(made: Made, tmp_path: Path, form: str) -> None:
    trained = exported(made.run("gru", "labels"), tmp_path / "model", form)
    about = as_strings(metadata(trained, form))
    assert json.loads(about["thresholds"]) == list(trained.thresholds)
    assert any(threshold != 0.5 for threshold in trained.thresholds)
    if form == "safetensors":
        with safe_open(tmp_path / "model", "pt") as file:
            assert file.metadata()["thresholds"] == about["thresholds"]
    assert "thresholds" not in metadata(load(str(made.run("gru", "table"))), form)
