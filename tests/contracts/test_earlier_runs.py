"""Small runs that trainer-cli 0.1.0 has left (torch 2.13.0, CPU): later versions evaluate, resume and export them.

Numbers are compared with a tolerance, because another processor or version of torch rounds differently.
"""

from __future__ import annotations

import csv
import io
import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import cli
import trainer
from tests.conftest import REPOSITORY
from trainer.__main__ import main
from trainer.runs.resume import with_earlier_sweep_words

RUNS = Path(__file__).with_name("runs_of_0.1.0")


@pytest.fixture(params=sorted(path.name for path in RUNS.iterdir()))
def name(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a run, whose copy is in the working directory beside the table that ``iris`` was trained on."""
    found: str = request.param
    shutil.copytree(RUNS / found, tmp_path / found)
    shutil.copy(REPOSITORY / "examples" / "iris" / "iris.csv", tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["train"])
    return found


def final_metrics(run: str) -> dict[str, float]:
    """The test metrics in the summary of a run."""
    summary = json.loads((Path(run) / "summary.json").read_text())
    return {key: value for key, value in summary.items() if key.startswith("test/")}


def test_an_evaluation_gives_the_recorded_test_metrics(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", name, "--json"]) == 0
    measured = json.loads(capsys.readouterr().out)["metrics"]
    assert {key: measured[key] for key in final_metrics(name)} == pytest.approx(final_metrics(name), rel=1e-5)


def test_a_resumed_run_ends_as_one_that_trains_without_a_break(name: str) -> None:
    words = [line.removeprefix("- ") for line in (Path(name) / "overrides.yaml").read_text().splitlines()]
    same = [word for word in words if not word.startswith(("run_dir=", "epochs=", "max_steps="))]
    if name == "iris":  # numbers alone, with the defaults that tables had
        same += ["preset=none", "loss=cross_entropy", "dataset.missing=bad", "dataset.columns=null"]
    assert cli.main([f"resume={name}", "epochs=5", "max_steps=null"]) == 0
    assert cli.main([*same, "epochs=5", "run_dir=fresh"]) == 0
    assert final_metrics(name) == pytest.approx(final_metrics("fresh"), rel=1e-4)


@pytest.mark.parametrize("name", ["iris"], indirect=True)
def test_the_columns_of_a_table_are_explained(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", name, "--columns", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["value"] == pytest.approx(final_metrics(name)["test/accuracy"])
    assert {each["name"] for each in found["columns"]} == {
        f"{part}_{side}" for part in ("sepal", "petal") for side in ("length", "width")
    }
    assert all(each["kind"] == "number" and len(each["effect"]) > 5 for each in found["columns"])


@pytest.mark.parametrize("name", ["digits", "iris"], indirect=True)
def test_it_is_compared_reported_and_exported_with_its_weights(name: str) -> None:
    shutil.copytree(name, "copy")
    assert main(["compare", name, "copy"]) == 0
    assert main(["report", name, "--no-explanations", "-o", "report.html"]) == 0
    assert main(["export", name, "--format", "safetensors", "-o", "model.safetensors"]) == 0
    before, now = load_file(Path(name) / "checkpoints" / "best.safetensors"), load_file("model.safetensors")
    assert before.keys() == now.keys() and all(torch.equal(before[key], now[key]) for key in before)


@pytest.mark.parametrize("name", ["iris"], indirect=True)
def test_a_table_is_predicted_with_the_columns_of_its_run(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", name, "iris.csv"]) == 0
    rows = [*csv.DictReader(io.StringIO(capsys.readouterr().out))]
    with Path("iris.csv").open() as file:
        species = [row["species"] for row in csv.DictReader(file)]
    scores = trainer.load(name).scores([[5.1, 3.5, 1.4, 0.2]])
    assert [float(rows[0][f"p_{each}"]) for each in sorted({*species})] == pytest.approx(scores[0].tolist(), abs=1e-4)
    assert len(rows) == len(species)


@pytest.mark.parametrize("name", ["iris"], indirect=True)
def test_a_sweep_goes_on_with_the_defaults_of_its_runs(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    (Path("sweep") / "0").mkdir(parents=True)
    shutil.copy(Path(name) / "config.yaml", Path("sweep") / "0")
    words = ["model=lstm", "dataset=csv", "dataset.path=iris.csv", "seed=1,2"]
    (Path("sweep") / "overrides.yaml").write_text("".join(f"- {word}\n" for word in words))
    found = with_earlier_sweep_words(["sweep=sweep"], lambda word: word.partition("=")[2], lambda _: True)
    assert {"loss=cross_entropy", "preset=none", "dataset.columns=null", "dataset.missing=bad"} <= {*found}
    found = with_earlier_sweep_words(["sweep=sweep", "loss=focal"], lambda word: word.partition("=")[2], lambda _: True)
    assert "loss=cross_entropy" not in found


@pytest.mark.parametrize("name", ["norm"], indirect=True)
def test_the_biases_before_a_batch_normalisation_are_in_its_mean_now(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", name, "--format", "safetensors", "-o", "model.safetensors"]) == 0
    before, now = load_file(Path(name) / "checkpoints" / "best.safetensors"), load_file("model.safetensors")
    assert before.keys() - now.keys() == {"blocks.0.bias"} and now.keys() <= before.keys()
    assert torch.equal(now["blocks.1.running_mean"], before["blocks.1.running_mean"] - before["blocks.0.bias"])
    assert before["blocks.0.bias"].abs().max() > 0.05
    capsys.readouterr()
    assert main(["evaluate", name]) == 0
    assert "differs" not in capsys.readouterr().out
    assert cli.main([f"resume={name}", "max_steps=31", "epochs=3"]) == 0
    optimizer = torch.load(Path(name) / "checkpoints" / "last.pt", weights_only=True)["optimizer"]
    assert optimizer["param_groups"][0]["params"] == list(range(len(optimizer["state"]))) == list(range(7))
    assert "resume   the biases before batch normalisation are left out now" in capsys.readouterr().out
