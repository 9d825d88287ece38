"""The pinball loss against scikit-learn, its quantiles, and a run that predicts them."""

from __future__ import annotations

import csv
import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.forked import forked
from tests.helpers import table_spec
from tests.loss.cases import SPECS, build
from trainer.__main__ import main
from trainer.commands.evaluate.measure import measure
from trainer.commands.opened_run import load
from trainer.config import ConfigError
from trainer.loss._quantiles import QuantileLoss, column_names

SPREAD = dataclasses.replace(SPECS["values"], target_mean=(1.0, -2.0, 0.0), target_std=(3.0, 0.5, 1.0))


@pytest.mark.parametrize("spec", [SPECS["values"], SPREAD])
def test_the_loss_is_the_mean_pinball_loss_of_scikit_learn_in_standard_units(spec: Any) -> None:
    oracle = pytest.importorskip("sklearn.metrics").mean_pinball_loss
    levels = [0.05, 0.5, 0.8, 0.95]
    loss = build("quantile", spec, quantiles=levels)
    outputs, targets = torch.randn(40, 12, dtype=torch.float64), torch.randn(40, 3, dtype=torch.float64)
    answers, std = loss.quantiles(outputs), torch.tensor(spec.target_std or (1.0, 1.0, 1.0), dtype=torch.float64)
    each = [
        oracle(targets / std, answers[..., at] / std, alpha=level, multioutput="raw_values")
        for at, level in enumerate(levels)
    ]
    assert float(loss(outputs, targets)) == pytest.approx(np.mean(each), rel=1e-6)
    assert torch.equal(loss.scores(outputs), answers[..., 1])
    torch.testing.assert_close(loss.quantiles(loss.outputs_of(answers).double()), answers, rtol=1e-5, atol=1e-5)


def test_quantiles_do_not_cross_and_sorting_never_raises_the_loss() -> None:
    levels = torch.tensor([0.1, 0.5, 0.9])
    loss = build("quantile", SPECS["one value"])
    outputs, targets = torch.randn(200, 3, dtype=torch.float64), torch.randn(200, 1, dtype=torch.float64)
    assert (loss.quantiles(outputs).diff(dim=2) >= 0).all()
    unsorted = targets - outputs
    assert float(loss(outputs, targets)) <= float(torch.maximum(levels * unsorted, (levels - 1) * unsorted).mean())


def test_outputs_learn_the_quantiles_of_the_targets() -> None:
    loss, targets = build("quantile", SPECS["one value"]), torch.arange(101.0)[:, None].double() / 100
    outputs = torch.zeros(1, 3, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.SGD([outputs], lr=0.1)
    for _ in range(300):
        optimizer.zero_grad()
        loss(outputs.expand(101, 3), targets).backward()
        optimizer.step()
    assert outputs[0].tolist() == pytest.approx([0.1, 0.5, 0.9], abs=0.03)


@pytest.mark.parametrize(
    ("levels", "message"),
    [
        ([0.9, 0.5, 0.1], r"must ascend, .* got \[0\.9, 0\.5, 0\.1\]; did you mean \[0\.1, 0\.5, 0\.9\]\?"),
        ([0.5, 0.5], r"must ascend, .* did you mean \[0\.5\]\?"),
        ([0.1, 0.9], r"must hold 0\.5, .* did you mean \[0\.1, 0\.5, 0\.9\]\?"),
    ],
)
def test_levels_that_do_not_ascend_or_lack_the_median_are_refused(levels: list[float], message: str) -> None:
    with pytest.raises(ConfigError, match=rf"loss\.quantiles: {message}"):
        build("quantile", SPECS["values"], quantiles=levels)


def test_each_quantile_has_a_column_and_two_columns_never_share_a_name() -> None:
    spec = dataclasses.replace(table_spec("regression", 2), classes=("price", "price_q10"))
    assert column_names(spec, [0.025, 0.5, 0.999])[:3] == ["price_q2.5", "price", "price_q99.9"]
    with pytest.raises(ConfigError, match=r"loss\.quantiles: price_q10 is the name of a value of .* and of a quantile"):
        QuantileLoss(spec, [0.1, 0.5])


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on a table whose noise grows with the column a."""
    folder, draw = tmp_path_factory.mktemp("quantiles"), np.random.default_rng(0)
    columns = draw.uniform(0, 1, (1200, 4))
    rows = np.c_[columns, 1000 + 100 * columns[:, 0] * draw.normal(size=1200)]
    np.savetxt(folder / "table.csv", rows, delimiter=",", header="a,b,c,d,price", comments="")
    data = ["dataset=csv", "dataset.path=table.csv", "dataset.target=price", "dataset.task=regression"]
    words = [
        "loss=quantile",
        "dataset.test_fraction=0.3",
        "epochs=6",
        "optimizer.lr=0.01",
        "device=cpu",
        "logger=[csv]",
        "run_dir=run",
    ]
    done = forked([*data, *words], folder)
    assert done.returncode == 0, done.stderr
    return folder / "run"


def test_predict_writes_a_column_for_each_quantile(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "new.csv").write_text("a,b,c,d\n0.05,0.5,0.5,0.5\n0.95,0.5,0.5,0.5\n")
    assert main(["predict", str(trained), str(tmp_path / "new.csv")]) == 0
    head, *rows = csv.reader(capsys.readouterr().out.splitlines())
    assert head == ["input", "price_q10", "price", "price_q90", "error"]
    narrow, wide = ([float(cell) for cell in row[1:4]] for row in rows)
    assert narrow == sorted(narrow) and wide == sorted(wide)
    assert wide[2] - wide[0] > 2 * (narrow[2] - narrow[0])  # the noise is in the intervals
    assert main(["predict", str(trained), str(tmp_path / "new.csv"), "--format", "jsonl"]) == 0
    first = json.loads(capsys.readouterr().out.splitlines()[0])
    assert first["values"] == dict(zip(head[1:4], narrow, strict=True))
    opened = load(str(trained))
    assert opened.scores(
        torch.tensor([[0.05, 0.5, 0.5, 0.5], [0.95, 0.5, 0.5, 0.5]])
    ).flatten().tolist() == pytest.approx([narrow[1], wide[1]])


def test_an_evaluation_says_how_many_values_lie_in_the_interval(
    trained: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(trained.parent)
    assert main(["evaluate", str(trained)]) == 0
    text = capsys.readouterr().out
    assert "equal    to the last digit with summary.json" in text
    assert main(["evaluate", str(trained), "--json"]) == 0
    interval = json.loads(capsys.readouterr().out)["interval"]
    assert 0.6 < interval["coverage"] < 0.95 and (interval["low"], interval["high"]) == (0.1, 0.9)
    share = f"{100 * interval['coverage']:.1f}"
    assert f"interval {share} % lie between the quantiles 0.1 and 0.9 (80 % wanted)" in text
    twice = [load(str(trained)), load(str(trained))]
    one, both = measure(twice[:1], "test", None), measure(twice, "test", None)
    assert both.values["loss"] == pytest.approx(one.values["loss"], rel=1e-5) and both.interval == one.interval


@pytest.mark.slow
def test_an_exported_file_gives_the_medians(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime = pytest.importorskip("onnxruntime")
    monkeypatch.chdir(trained.parent)
    assert main(["export", str(trained), "-o", str(tmp_path / "run.onnx")]) == 0
    assert "scores float32 (batch, 1): medians of price" in capsys.readouterr().out
    raw = torch.rand(7, 4)
    (found,) = runtime.InferenceSession(str(tmp_path / "run.onnx")).run(None, {"inputs": raw.numpy()})
    torch.testing.assert_close(torch.tensor(found), load(str(trained)).scores(raw), rtol=1e-5, atol=1e-2)
